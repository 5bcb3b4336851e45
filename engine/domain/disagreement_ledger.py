"""The disagreements of one account while they matter; each change is told once."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace as changed

from engine.domain.disagreements import Disagreement, DisagreementState
from engine.domain.ids import Millis, SessionId, Symbol

KEEP_SETTLED = 200


class DisagreementLedger:
    """Open disagreements and the recent settled ones, by natural key; `on_change` records and shows them."""

    def __init__(self, on_change: Callable[[Disagreement], None]) -> None:
        self._on_change = on_change
        self._kept: dict[str, Disagreement] = {}
        self._blocking: dict[str, Disagreement] = {}
        self._oldest: dict[SessionId | None, Disagreement] | None = {}

    def load(self, disagreement: Disagreement) -> None:
        """Take one from the audit trail without telling anybody."""
        self._keep(disagreement)

    def _keep(self, disagreement: Disagreement) -> None:
        self._kept[disagreement.id] = disagreement
        self._oldest = None
        if disagreement.blocks_entries and disagreement.acknowledged_by is None:
            self._blocking[disagreement.id] = disagreement
        else:
            self._blocking.pop(disagreement.id, None)

    def get(self, id: str) -> Disagreement | None:
        """The disagreement with this id."""
        return self._kept.get(id)

    def put(self, disagreement: Disagreement) -> Disagreement:
        """Keep it as it now stands; saying the same again says nothing."""
        if self._kept.get(disagreement.id) == disagreement:
            return disagreement
        self._keep(disagreement)
        self._on_change(disagreement)
        settled = [d for d in self._kept.values() if not d.is_open and d.id not in self._blocking]
        for old in settled[:-KEEP_SETTLED]:
            del self._kept[old.id]
        return disagreement

    def settle(self, id: str, state: DisagreementState, done: str, now: Millis) -> None:
        """Move one on; harmless when it is unknown or stands there already."""
        known = self._kept.get(id)
        if known is not None and known.state is not state:
            blocks = known.blocks_entries and state in (DisagreementState.ADOPTED, DisagreementState.NEEDS_YOU)
            self.put(changed(known, state=state, done=done, updated=now, blocks_entries=blocks))

    def acknowledge(self, id: str, by: str, note: str, now: Millis) -> Disagreement | None:
        """An operator has seen it; where it blocked entries it no longer does."""
        known = self._kept.get(id)
        if known is None:
            return None
        return self.put(changed(known, acknowledged_by=by, acknowledged_at=now, note=note, updated=now))

    def all(self) -> tuple[Disagreement, ...]:
        """Everything kept, newest first."""
        return tuple(sorted(self._kept.values(), key=lambda d: d.updated, reverse=True))

    def blocking(self, session: SessionId) -> Disagreement | None:
        """The oldest disagreement that keeps this session from entering."""
        if self._oldest is None:
            self._oldest = {}
            for waiting in sorted(self._blocking.values(), key=lambda d: d.first_seen):
                self._oldest.setdefault(waiting.session, waiting)
        return self._oldest.get(session)

    def open_of(self, symbol: Symbol, kind: str) -> tuple[Disagreement, ...]:
        """Open ones of a kind on a contract."""
        return tuple(d for d in self._kept.values() if d.symbol == symbol and d.kind == kind and d.is_open)

"""What the screens read: the newest snapshot, the events since, and how old both are; a pure fold, no Textual."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from msgspec import Struct

from engine.domain.disagreements import Disagreement
from engine.domain.fills import Fill
from engine.domain.ids import ClientOrderId, CommandId, Millis, SessionId
from engine.domain.instruments import Instrument
from engine.domain.orders import Order
from engine.domain.risk import Stance
from engine.events import Event, Filled, Happened, OrderMoved
from engine.snapshot import (
    Alert,
    Block,
    DeskSnapshot,
    ForeignOrder,
    Procedure,
    SessionView,
    Severity,
    StoppedEntry,
)

SILENT_AFTER_S = 2.0
KEPT_EVENTS = 400
KEPT_FILLS = 200

_LOUDNESS = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.NOTE: 2}


class EntryBlock(Struct, frozen=True, kw_only=True):
    """Why entries are held back, and by whom; `everywhere` when no session may enter."""

    why: str
    since: Millis | None
    stopped: int
    resting: int
    everywhere: bool
    sessions: tuple[SessionId, ...]


class Focus(Struct, frozen=True, kw_only=True):
    """What the operator points at: the screen, and the selected session, order, disagreement, foreign order.

    `about` is the order that a line of the journal is about; it may be long gone from memory.
    """

    screen: str
    session: SessionId | None = None
    order: Order | None = None
    disagreement: Disagreement | None = None
    foreign: ForeignOrder | None = None
    about: ClientOrderId | None = None


LogLine: TypeAlias = tuple[Millis, str, SessionId | None]


class Replica:
    """The console's copy of the desk. Times are the engine's; `elapsed` is ours, since its last word."""

    def __init__(self) -> None:
        self.snapshot: DeskSnapshot | None = None
        self.fills: deque[Fill] = deque(maxlen=KEPT_FILLS)
        self.log: deque[LogLine] = deque(maxlen=KEPT_EVENTS)
        self.events_seen = 0
        self.events_missed = 0
        self._filled: dict[str, int] = {}
        self._heard_at: float | None = None
        self._elapsed = 0.0

    # ------------------------------------------------------------------------------------------- folding

    def fold(self, snapshot: DeskSnapshot | None, events: Iterable[Event], monotonic: float) -> None:
        """Take the engine's newest word; `monotonic` is our own clock in seconds."""
        if snapshot is not None and snapshot is not self.snapshot:
            self.snapshot = snapshot
            self._heard_at = monotonic
        self._elapsed = 0.0 if self._heard_at is None else max(0.0, monotonic - self._heard_at)
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        if event.number <= self.events_seen:
            return
        if self.events_seen and event.number > self.events_seen + 1:
            self.events_missed += event.number - self.events_seen - 1
        self.events_seen = event.number
        match event.what:
            case Filled(fill=fill):
                self.book(fill)
                self.log.append((event.at, f"filled {fill.symbol}", fill.session))
            case OrderMoved(order=order, event=what):
                self.log.append((event.at, f"order {order.client_id} {what}: {order.state}", order.session))
            case Happened(text=text, session=session):
                self.log.append((event.at, text, session))
            case _:
                pass

    def book(self, fill: Fill) -> None:
        """Keep an execution once; a later revision of it takes its place."""
        known = self._filled.get(fill.key)
        if known is not None and known >= fill.revision:
            return
        if known is not None:
            kept = [other for other in self.fills if other.key != fill.key]
            self.fills.clear()
            self.fills.extend(kept)
        self._filled[fill.key] = fill.revision
        self.fills.append(fill)

    # ------------------------------------------------------------------------------------------- reading

    @property
    def now(self) -> Millis:
        """The engine's time, moved on by what has passed here since it last spoke."""
        return 0 if self.snapshot is None else self.snapshot.at + round(self._elapsed * 1000)

    @property
    def silent_for(self) -> float | None:
        """Seconds since the engine's last word when that is too long ago, else None."""
        if self.snapshot is None or self._elapsed < SILENT_AFTER_S:
            return None
        return self._elapsed

    @property
    def silent(self) -> bool:
        """Whether what we show may no longer be true."""
        return self.silent_for is not None

    @property
    def sessions(self) -> tuple[SessionView, ...]:
        """Every session; none before the first snapshot."""
        return () if self.snapshot is None else self.snapshot.sessions

    def session(self, id: SessionId | None) -> SessionView | None:
        """The session with this id."""
        return None if self.snapshot is None or id is None else self.snapshot.session(id)

    def instrument_of(self, order: Order) -> Instrument | None:
        """The instrument an order is for, for its decimals."""
        view = self.session(order.session)
        if view is not None and view.instrument.symbol == order.terms.symbol:
            return view.instrument
        return self.instrument(order.terms.symbol)

    def instrument(self, symbol: str) -> Instrument | None:
        """An instrument by its symbol, when a session trades it."""
        return next((s.instrument for s in self.sessions if s.instrument.symbol == symbol), None)

    def procedure(self, id: CommandId) -> Procedure | None:
        """A running or finished command."""
        if self.snapshot is None:
            return None
        return next((p for p in self.snapshot.procedures if p.id == id), None)

    @property
    def alerts(self) -> list[Alert]:
        """Alerts nobody has taken up, worst first, then oldest; after them lasting ones that somebody has seen."""
        if self.snapshot is None:
            return []
        shown = [a for a in self.snapshot.alerts if not a.acknowledged or a.lasting]
        return sorted(shown, key=lambda a: (a.acknowledged, _LOUDNESS[a.severity], a.since, a.id))

    @property
    def open_orders(self) -> list[Order]:
        """Open orders, those in doubt first, then those that are lost, then the newest."""
        if self.snapshot is None:
            return []
        return sorted(
            (o for o in self.snapshot.orders if o.is_open),
            key=lambda o: (not o.is_in_doubt, o.state.value != "lost", -o.created, o.client_id),
        )

    def orders_of(self, session: SessionId | None) -> list[Order]:
        """Open orders of one session, or of all."""
        return [o for o in self.open_orders if session is None or o.session == session]

    @property
    def disagreements(self) -> list[Disagreement]:
        """Disagreements, open ones first, then the newest."""
        if self.snapshot is None:
            return []
        return sorted(self.snapshot.disagreements, key=lambda d: (not d.is_open, -d.first_seen, d.id))

    @property
    def foreign(self) -> list[ForeignOrder]:
        """Live orders that are not ours, of every account."""
        return [] if self.snapshot is None else [o for a in self.snapshot.accounts for o in a.foreign]

    @property
    def live(self) -> bool:
        """Whether real money is at stake; nothing is claimed before the engine has spoken."""
        return self.snapshot is not None and self.snapshot.live

    @property
    def entry_block(self) -> EntryBlock | None:
        """Whether entries are held back anywhere, in the words of whoever holds them."""
        snapshot = self.snapshot
        if snapshot is None:
            return None
        heat = snapshot.heat
        blocked = tuple(s.id for s in snapshot.sessions if s.blocks)
        everywhere = snapshot.killed or snapshot.stopping or heat.stance is Stance.BLOCK
        if not everywhere and not blocked:
            return None
        stopped: int | None = None
        if snapshot.killed:
            why = f"KILL is set: {snapshot.kill_reason}" if snapshot.kill_reason else "KILL is set"
            since = self._since(lambda block: block.reason.startswith("KILL"))
        elif snapshot.stopping:
            why = "the desk is stopping"
            since = self._since(lambda block: block.reason == why)
        elif heat.stance is Stance.BLOCK:
            why, since, stopped = heat.reason or "portfolio heat", heat.since, heat.stopped_entries
        else:
            first = next(s for s in snapshot.sessions if s.blocked)
            why, since = f"{first.id}: {first.blocked[0].reason}", first.blocked[0].since
        if stopped is None:
            began = since or 0
            stopped = sum(entry.at >= began for entry in self.stopped_entries if everywhere or entry.session in blocked)
        return EntryBlock(
            why=why,
            since=since,
            stopped=stopped,
            resting=heat.resting_entries,
            everywhere=everywhere or len(blocked) == len(snapshot.sessions),
            sessions=blocked,
        )

    def _since(self, is_it: Callable[[Block], bool]) -> Millis | None:
        """When the first such block of any session began."""
        moments = [b.since for view in self.sessions for b in view.blocked if b.since is not None and is_it(b)]
        return min(moments, default=None)

    @property
    def stopped_entries(self) -> list[StoppedEntry]:
        """Entries of all sessions that did not leave, the newest first; each session keeps so many of its own."""
        return sorted((e for view in self.sessions for e in view.stopped), key=lambda e: (-e.at, e.order))

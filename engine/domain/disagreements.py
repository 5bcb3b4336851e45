"""Where memory, database and broker tell different stories, and what became of it."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from engine.domain.ids import AccountId, BrokerOrderId, Millis, SessionId, Symbol

PERHAPS = "perhaps "
"""What memory says of an unknown order that may be one of ours in doubt, before that one's name."""


class DisagreementKind(StrEnum):
    """What differs."""

    POSITION = "position"
    MISSING_FILL = "missing fill"
    UNKNOWN_ORDER = "unknown order"
    UNKNOWN_POSITION = "unknown position"
    ORDER_GONE = "order gone"
    ORDER_DIFFERS = "order differs"
    DUPLICATE = "duplicate"
    EXCESS_EXIT = "excess exit"
    BALANCE = "balance"
    STOP_NOT_PROTECTING = "stop not protecting"
    REVERSAL = "reversal"
    IN_DOUBT = "in doubt"


class DisagreementState(StrEnum):
    """Where a disagreement stands. NEEDS_YOU: could not be settled after the allowed tries."""

    SEEN = "seen"
    CONFIRMED = "confirmed"
    ADOPTED = "adopted"
    EXPLAINED = "explained"
    PASSED = "passed"
    IGNORED = "ignored"
    NEEDS_YOU = "needs you"


class Disagreement(Struct, frozen=True, kw_only=True):
    """One difference, kept for good. `id` is a natural key, so that seeing it twice changes nothing.

    `memory`, `database`, `broker` are the three values as text with their `read` moments in the same order.
    While `blocks_entries` holds and nobody has acknowledged it, its session makes no entry.
    """

    id: str
    account: AccountId
    session: SessionId | None
    symbol: Symbol
    kind: DisagreementKind
    state: DisagreementState
    memory: str
    database: str
    broker: str
    read: tuple[Millis, Millis, Millis]
    first_seen: Millis
    updated: Millis
    query: str = ""
    done: str = ""
    position_effect: Decimal | None = None
    pnl_effect: Decimal | None = None
    heat_effect: Decimal | None = None
    order: BrokerOrderId | None = None
    blocks_entries: bool = False
    acknowledged_by: str | None = None
    acknowledged_at: Millis | None = None
    note: str = ""

    @property
    def is_open(self) -> bool:
        """Whether somebody still has to look, or the desk still works on it."""
        if self.state in (DisagreementState.SEEN, DisagreementState.CONFIRMED, DisagreementState.NEEDS_YOU):
            return self.acknowledged_by is None or self.state is not DisagreementState.NEEDS_YOU
        return self.blocks_entries and self.acknowledged_by is None

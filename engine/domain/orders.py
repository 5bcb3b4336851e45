"""An order of ours: what it asks for, where it stands, and what we know about it."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, DecisionKey, Millis, SessionId, Symbol

ZERO = Decimal(0)


class Side(StrEnum):
    """Direction of an order."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The side that undoes this one."""
        return Side.SELL if self is Side.BUY else Side.BUY


def side_of(quantity: Decimal) -> Side:
    """The side that builds a signed quantity; raises ValueError for zero."""
    if not quantity:
        raise ValueError("zero has no side")
    return Side.BUY if quantity > 0 else Side.SELL


class OrderType(StrEnum):
    """How the exchange is to treat the price."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop-limit"


class TimeInForce(StrEnum):
    """How long the order lives at the exchange."""

    DAY = "DAY"
    GTC = "GTC"
    IOC = "IOC"


class Role(StrEnum):
    """What the order is for; only ENTRY adds risk on purpose."""

    ENTRY = "entry"
    EXIT = "exit"
    STOP = "stop"
    TARGET = "target"

    @property
    def is_protective(self) -> bool:
        """Whether the order rests to guard or take profit on a position."""
        return self in (Role.STOP, Role.TARGET)


class Terms(Struct, frozen=True, kw_only=True):
    """What is asked of the exchange; quantity is the total, always positive."""

    symbol: Symbol
    side: Side
    quantity: Decimal
    type: OrderType
    limit: Decimal | None = None
    stop: Decimal | None = None
    tif: TimeInForce = TimeInForce.DAY


class OrderState(StrEnum):
    """States of the order protocol (ARCHITECTURE.md has the table of transitions)."""

    SUBMITTING = "submitting"
    IN_DOUBT_SUBMIT = "in doubt: submit"
    IN_DOUBT_CANCEL = "in doubt: cancel"
    IN_DOUBT_REPLACE = "in doubt: replace"
    WORKING = "working"
    PARTIALLY_FILLED = "partially filled"
    PENDING_CANCEL = "pending cancel"
    PENDING_REPLACE = "pending replace"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    DENIED = "denied"
    ABANDONED = "abandoned"
    LOST = "lost"


IN_DOUBT = frozenset({OrderState.IN_DOUBT_SUBMIT, OrderState.IN_DOUBT_CANCEL, OrderState.IN_DOUBT_REPLACE})
TERMINAL = frozenset(
    {
        OrderState.FILLED,
        OrderState.CANCELLED,
        OrderState.REJECTED,
        OrderState.EXPIRED,
        OrderState.DENIED,
        OrderState.ABANDONED,
    }
)
"""Proven ends. LOST is not among them: it is a presumption that later evidence may revoke."""
LIVE_AT_BROKER = frozenset(
    {
        OrderState.WORKING,
        OrderState.PARTIALLY_FILLED,
        OrderState.PENDING_CANCEL,
        OrderState.PENDING_REPLACE,
        OrderState.IN_DOUBT_CANCEL,
        OrderState.IN_DOUBT_REPLACE,
    }
)


class Flag(StrEnum):
    """What is unusual about an order, beside its state."""

    EXTERNAL = "external"
    MATCHED_BY_SHAPE = "matched by shape"
    OVERFILLED = "overfilled"
    LATE_FILL = "late fill"
    BUSTED = "busted"
    SIZED_FROM_MEMORY = "sized from memory"
    MISSED = "missed"
    JOURNALLED = "journalled"
    FORCED = "forced"
    REVIVED = "revived"


class Doubt(Struct, frozen=True, kw_only=True):
    """What has been asked about an order whose fate is unknown.

    `negatives` counts consecutive complete answers without the order; `next_query` is when we ask again.
    `candidates` are live orders at a broker that echoes no ids of ours, of which at most one is this order.
    """

    since: Millis
    sent: Millis
    tries: int = 0
    negatives: int = 0
    next_query: Millis = 0
    last_evidence: str = ""
    candidates: tuple[BrokerOrderId, ...] = ()


class Order(Struct, frozen=True, kw_only=True):
    """One order of ours, as memory believes it and as the audit trail keeps it.

    `filled` is the cumulative quantity of known fills; `reported` the largest cumulative quantity that the broker
    ever named. `revision` grows by one with every change and is the natural key of its events.
    `wanted` holds the terms of a replace that is under way. `linked` says that the broker itself cancels the
    other leg of the pair (one-cancels-other).
    """

    client_id: ClientOrderId
    key: DecisionKey
    session: SessionId
    account: AccountId
    role: Role
    terms: Terms
    state: OrderState
    created: Millis
    updated: Millis
    deadline: Millis | None = None
    epoch: int = 0
    sent: Millis | None = None
    broker_id: BrokerOrderId | None = None
    filled: Decimal = ZERO
    average_price: Decimal | None = None
    reported: Decimal = ZERO
    fees: Decimal = ZERO
    parent: ClientOrderId | None = None
    linked: bool = False
    wanted: Terms | None = None
    replaces: ClientOrderId | None = None
    replaced_by: ClientOrderId | None = None
    cancel_wanted: bool = False
    protect_stop: Decimal | None = None
    target: Decimal | None = None
    doubt: Doubt | None = None
    flags: frozenset[Flag] = frozenset()
    reason: str = ""
    revision: int = 0

    @property
    def remaining(self) -> Decimal:
        """Quantity that may still fill by what we know; never negative."""
        return max(ZERO, self.terms.quantity - max(self.filled, self.reported))

    @property
    def largest(self) -> Decimal:
        """The total asked for; while a replace is under way the larger of old and new."""
        return self.terms.quantity if self.wanted is None else max(self.terms.quantity, self.wanted.quantity)

    @property
    def at_most(self) -> Decimal:
        """Quantity that may still fill whichever way a replace under way ends; never negative."""
        return max(ZERO, self.largest - max(self.filled, self.reported))

    @property
    def at_least(self) -> Decimal:
        """Quantity that is left to fill whichever way a replace under way ends; never negative."""
        smallest = self.terms.quantity if self.wanted is None else min(self.terms.quantity, self.wanted.quantity)
        return max(ZERO, smallest - max(self.filled, self.reported))

    @property
    def is_open(self) -> bool:
        """Whether the order may still fill, as far as anybody has proven."""
        return self.state not in TERMINAL

    @property
    def is_in_doubt(self) -> bool:
        """Whether the fate of our last command is unknown."""
        return self.state in IN_DOUBT

    @property
    def is_entry(self) -> bool:
        """Whether the order adds risk on purpose."""
        return self.role is Role.ENTRY

    @property
    def open_for_fills(self) -> bool:
        """Whether the broker reported more filled quantity than the fills we hold."""
        return self.reported > self.filled

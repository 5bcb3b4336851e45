"""What a broker tells us, in our words: capabilities, answers, reports and stream events."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from msgspec import Struct

from engine.domain.ids import BrokerOrderId, ClientOrderId, Millis, Symbol
from engine.domain.orders import ZERO, Side, Terms

Row = TypeVar("Row")


class IdMode(StrEnum):
    """What the broker does with our client order id."""

    ENFORCED = "enforced"
    TAG = "tag"
    NONE = "none"


class FillsKind(StrEnum):
    """Whether fills come as executions with ids, or as cumulative quantities."""

    EXECUTIONS = "executions"
    CUMULATIVE = "cumulative"


class ReplaceId(StrEnum):
    """Whether a replaced order keeps its broker id."""

    KEEPS = "keeps"
    CHANGES = "changes"


class ReplaceQuantity(StrEnum):
    """Whether the quantity in a replace is the order's total or what remains of it."""

    TOTAL = "total"
    REMAINING = "remaining"


class Enforcer(StrEnum):
    """Who cancels the other leg when one fills."""

    BROKER = "broker"
    OURS = "ours"


class Capabilities(Struct, frozen=True, kw_only=True):
    """What an adapter declares about its broker; the engine reads these, never names.

    `settle_ms`: how long after an event of ours the broker's lists may still show the state before it.
    `brackets`: an entry and its legs go in one call, and the broker sizes the legs to the fills.
    """

    id_mode: IdMode = IdMode.ENFORCED
    find_by_client_id: bool = True
    fills: FillsKind = FillsKind.EXECUTIONS
    replace_id: ReplaceId = ReplaceId.KEEPS
    replace_quantity: ReplaceQuantity = ReplaceQuantity.TOTAL
    replace_may_change_type: bool = True
    one_cancels_other: Enforcer = Enforcer.BROKER
    brackets: bool = True
    settle_ms: int = 200

    @property
    def leaves_ids(self) -> bool:
        """Whether only the record of an id that a replace left behind tells what filled under it."""
        return self.replace_id is ReplaceId.CHANGES and self.fills is FillsKind.CUMULATIVE

    @property
    def counts_anew(self) -> bool:
        """Whether a replaced order is exactly as large as what was asked for and all that filled under earlier ids."""
        return self.replace_id is ReplaceId.CHANGES and self.replace_quantity is ReplaceQuantity.REMAINING

    @property
    def finds_whole(self) -> bool:
        """Whether an answer by client id tells all of an order; it may leave out the ids of before a replace."""
        return self.find_by_client_id and self.id_mode is not IdMode.NONE and not self.leaves_ids


class BrokerStatus(StrEnum):
    """Where the broker says an order stands. HELD: a leg that waits for its parent. UNKNOWN: a word we do not know."""

    HELD = "held"
    WORKING = "working"
    PARTIALLY_FILLED = "partially filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the broker says that nothing more will fill."""
        return self in (BrokerStatus.FILLED, BrokerStatus.CANCELLED, BrokerStatus.REJECTED, BrokerStatus.EXPIRED)


class BrokerOrder(Struct, frozen=True, kw_only=True):
    """The broker's own record of an order; `filled` is cumulative, `client_id` None where it is not echoed."""

    broker_id: BrokerOrderId
    client_id: ClientOrderId | None
    terms: Terms
    status: BrokerStatus
    filled: Decimal = ZERO
    average_price: Decimal | None = None
    submitted: Millis = 0
    updated: Millis = 0
    parent: BrokerOrderId | None = None
    replaces: BrokerOrderId | None = None
    reason: str = ""


class BrokerFill(Struct, frozen=True, kw_only=True):
    """One execution as reported; `cumulative` is the order's filled quantity after it, None where not told.

    `revision` above zero corrects an earlier report of the same execution; quantity zero busts it.
    """

    execution_id: str
    broker_id: BrokerOrderId
    client_id: ClientOrderId | None
    symbol: Symbol
    side: Side
    quantity: Decimal
    price: Decimal
    at: Millis
    fee: Decimal = ZERO
    cumulative: Decimal | None = None
    revision: int = 0


class BrokerPosition(Struct, frozen=True):
    """The broker's signed quantity and average price in one contract."""

    symbol: Symbol
    quantity: Decimal
    average_price: Decimal | None


class Balance(Struct, frozen=True, kw_only=True):
    """Money in an account, in `currency`; `equity` includes open profit and loss."""

    equity: Decimal
    cash: Decimal
    margin_used: Decimal = ZERO
    currency: str = "USD"


class Report(Struct, Generic[Row], frozen=True):
    """A complete, successful answer to a query, and when the broker's books were read.

    A failed, truncated or partial answer is never a Report; it raises QueryFailed.
    `as_of` is the broker's own clock where it states one, else the moment the answer arrived.
    """

    rows: tuple[Row, ...]
    as_of: Millis


class AttachedLeg(Struct, frozen=True):
    """A protective leg that goes with its entry in one call; its quantity is sized by the broker to the fills."""

    client_id: ClientOrderId
    terms: Terms


class SubmitRequest(Struct, frozen=True):
    """What leaves for the broker: one order, or an entry with legs that cancel one another."""

    client_id: ClientOrderId
    terms: Terms
    legs: tuple[AttachedLeg, ...] = ()


class AcceptedOrder(Struct, frozen=True):
    """The broker took the order; `legs` gives each attached leg's broker id."""

    broker_id: BrokerOrderId
    legs: tuple[tuple[ClientOrderId, BrokerOrderId], ...] = ()


class RefusedOrder(Struct, frozen=True):
    """The broker proved that it did not execute the request, and said why (cleaned text).

    `not_open`: the refusal says that the order is gone or unknown, which asks for a query, not for a retry.
    """

    reason: str
    not_open: bool = False


SubmitAnswer: TypeAlias = AcceptedOrder | RefusedOrder
"""Anything else is an exception: LinkDown (not sent), AnswerLost (in doubt), LockedOut (not executed, come back)."""


class OrderReported(Struct, frozen=True, tag=True):
    """The account stream reports an order's present record."""

    order: BrokerOrder


class FillReported(Struct, frozen=True, tag=True):
    """The account stream reports an execution."""

    fill: BrokerFill


class BalanceReported(Struct, frozen=True, tag=True):
    """The account stream reports money."""

    balance: Balance


class LinkState(StrEnum):
    """State of a link to an account or a feed."""

    UP = "up"
    RECONNECTING = "reconnecting"
    DOWN = "down"


class LinkChanged(Struct, frozen=True, tag=True):
    """The link itself went up or down; every event missed in between must be asked for."""

    state: LinkState
    reason: str = ""


AccountEvent: TypeAlias = OrderReported | FillReported | BalanceReported | LinkChanged

"""Everything the audit trail keeps, one value per kind of row; each carries its natural key.

Ticks, candles, strategy state and heat have no record here on purpose: they can be recomputed.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from engine.domain.broker import Balance
from engine.domain.disagreements import Disagreement
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, ClientOrderId, CommandId, DecisionKey, Millis, SessionId, Symbol
from engine.domain.orders import Order
from engine.domain.positions import Position


class OrderChanged(Struct, frozen=True, kw_only=True, tag=True):
    """The order after a change; key (client id, revision). The row keeps the highest revision, events keep all."""

    order: Order
    event: str
    at: Millis
    detail: str = ""


class FillBooked(Struct, frozen=True, kw_only=True, tag=True):
    """An execution, and the order and position after it; key (account, fill key, revision).

    The writer queues the job that recomputes trades of (account, symbol) in the same transaction.
    """

    fill: Fill
    order: Order | None
    position: Position
    at: Millis


class DecisionMade(Struct, frozen=True, kw_only=True, tag=True):
    """A decision that made or was denied an order; key (session, candle start)."""

    session: SessionId
    candle: Millis
    key: DecisionKey
    kind: str
    order: ClientOrderId | None
    reason: str
    at: Millis


class CandleEvaluated(Struct, frozen=True, kw_only=True, tag=True):
    """The newest candle a session's strategy has decided on; key session, only ever moves forward."""

    session: SessionId
    candle: Millis
    at: Millis


class ReplacedAfterDecision(Struct, frozen=True, kw_only=True, tag=True):
    """A candle changed after the strategy had decided on its old version; key (session, candle, revision)."""

    session: SessionId
    candle: Millis
    revision: int
    was: str
    now: str
    at: Millis


class PositionRecorded(Struct, frozen=True, kw_only=True, tag=True):
    """The position a session believes in, after a fill or an adoption; key (account, symbol), history kept."""

    account: AccountId
    symbol: Symbol
    session: SessionId | None
    position: Position
    cause: str
    at: Millis


class BalanceChanged(Struct, frozen=True, kw_only=True, tag=True):
    """Money in an account, written only when a field differs from the last row; key (account, at)."""

    account: AccountId
    balance: Balance
    at: Millis


class DisagreementRecorded(Struct, frozen=True, kw_only=True, tag=True):
    """A disagreement as it now stands; key its id, newest `updated` wins."""

    disagreement: Disagreement


class OverrideRecorded(Struct, frozen=True, kw_only=True, tag=True):
    """What an operator did by hand; key (id, step)."""

    id: CommandId
    step: int
    what: str
    operator: str
    origin: str
    at: Millis
    session: SessionId | None = None
    reason: str = ""
    detail: str = ""
    outcome: str = "received"


class LatchKind(StrEnum):
    """Things that stay shut until somebody opens them."""

    KILL = "kill"
    PAUSE = "pause"
    DAILY_LOSS = "daily loss"
    SIZE = "size"
    STRATEGY = "strategy"
    EXTERNAL_CLOSE = "external close"


class LatchSet(Struct, frozen=True, kw_only=True, tag=True):
    """A latch that holds entries back, or its release; key (session or desk, kind).

    `until` is the last trade date on which a daily latch holds.
    """

    session: SessionId | None
    kind: LatchKind
    held: bool
    reason: str
    at: Millis
    by: str = ""
    until: date | None = None


class LimitsChanged(Struct, frozen=True, kw_only=True, tag=True):
    """Portfolio limits set live, in percent of equity; key the name (`warn`, `block`, `release`, `group:NAME`)."""

    name: str
    percent: Decimal
    at: Millis
    by: str
    reason: str


class SessionRegistered(Struct, frozen=True, kw_only=True, tag=True):
    """A session as configured when the desk started; key its id."""

    session: SessionId
    account: AccountId
    symbol: Symbol
    strategy: str
    timeframe: str
    settings: str
    at: Millis


Record: TypeAlias = (
    OrderChanged
    | FillBooked
    | DecisionMade
    | CandleEvaluated
    | ReplacedAfterDecision
    | PositionRecorded
    | BalanceChanged
    | DisagreementRecorded
    | OverrideRecorded
    | LatchSet
    | LimitsChanged
    | SessionRegistered
)


class Trade(Struct, frozen=True, kw_only=True, gc=False):
    """An accounting round trip (FIFO): `quantity` signed by the entry's side, money in the account's currency."""

    account: AccountId
    symbol: Symbol
    number: int
    quantity: Decimal
    opened: Millis
    closed: Millis
    entry_price: Decimal
    exit_price: Decimal
    fees: Decimal
    profit: Decimal
    sessions: tuple[SessionId, ...]


class DailyPnl(Struct, frozen=True, kw_only=True):
    """One contract's profit on one trade date of its exchange, first in, first out; money in `currency`.

    `realised` by the closings of that day, before fees; `fees` of that day's fills; `quantity` filled, both sides;
    `round_trips` that ended on it.
    """

    account: AccountId
    symbol: Symbol
    day: date
    currency: str
    realised: Decimal
    fees: Decimal
    round_trips: int
    quantity: Decimal

    @property
    def net(self) -> Decimal:
        """Realised less fees."""
        return self.realised - self.fees

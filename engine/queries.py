"""Questions: about the audit trail, answered page by page on a read-only connection; and what an order would meet."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

from msgspec import Struct

from engine.domain.disagreements import Disagreement
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, ClientOrderId, Millis, SessionId, Symbol
from engine.domain.orders import Order, Terms
from engine.domain.records import DailyPnl, Trade
from engine.domain.risk import Heat

PAGE = 100


class OrdersPage(Struct, frozen=True, kw_only=True, tag=True):
    """Orders, newest first; `text` filters on any shown word.

    `before` continues after a page: what the answer before `reached` (created, client id). With `scan`, text is
    looked for in at most so many rows, and the answer may be short while `more` follow.
    """

    session: SessionId | None = None
    open_only: bool = False
    text: str = ""
    before: tuple[Millis, str] | None = None
    limit: int = PAGE
    scan: int | None = None


class OrderLife(Struct, frozen=True, tag=True):
    """Everything kept about one order."""

    client_id: ClientOrderId


class JournalPage(Struct, frozen=True, kw_only=True, tag=True):
    """Lines of all kinds, newest first; `kinds` empty means every kind.

    `before` is a line's number; `scan` as above.
    """

    kinds: tuple[str, ...] = ()
    session: SessionId | None = None
    text: str = ""
    before: int | None = None
    limit: int = PAGE
    scan: int | None = None


class FillsPage(Struct, frozen=True, kw_only=True, tag=True):
    """Executions, newest first; `before` is what the answer before `reached`, `scan` as above."""

    session: SessionId | None = None
    text: str = ""
    before: tuple[Millis, int] | None = None
    limit: int = PAGE
    scan: int | None = None


class TradesPage(Struct, frozen=True, kw_only=True, tag=True):
    """Round trips, newest first; `before` is what the answer before `reached`, `scan` as above."""

    account: AccountId | None = None
    symbol: Symbol | None = None
    text: str = ""
    before: tuple[Millis, str, str, int] | None = None
    limit: int = PAGE
    scan: int | None = None


class DailyPnlPage(Struct, frozen=True, kw_only=True, tag=True):
    """Profit by trade date and contract, newest day first; `offset` leaves out so many of them."""

    account: AccountId | None = None
    symbol: Symbol | None = None
    offset: int = 0
    limit: int = PAGE


class JobsPage(Struct, frozen=True, kw_only=True, tag=True):
    """Background jobs not done: the dead first, then the running, then by when they are due; `offset` as above."""

    text: str = ""
    offset: int = 0
    limit: int = PAGE


class SessionsList(Struct, frozen=True, tag=True):
    """Sessions that this desk has known, with their latches and last evaluated candle."""


class TicketCheck(Struct, frozen=True, kw_only=True, tag=True):
    """What an order by hand would meet in this moment; fields as in SubmitByHand. Nothing is sent, reserved or kept."""

    session: SessionId
    terms: Terms
    is_exit: bool
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None


class ModifyCheck(Struct, frozen=True, kw_only=True, tag=True):
    """The same for other terms of a working order; fields as in ModifyOrder."""

    order: ClientOrderId
    quantity: Decimal | None = None
    limit: Decimal | None = None
    stop: Decimal | None = None


TrailQuery: TypeAlias = (
    OrdersPage | OrderLife | JournalPage | FillsPage | TradesPage | DailyPnlPage | JobsPage | SessionsList
)
Check: TypeAlias = TicketCheck | ModifyCheck
Query: TypeAlias = TrailQuery | TicketCheck | ModifyCheck


class OrdersAnswer(Struct, frozen=True, tag=True):
    """A page of orders; `more` when older rows exist, which `before` = `reached` asks for."""

    orders: tuple[Order, ...]
    more: bool
    reached: tuple[Millis, str] | None = None


class JournalLine(Struct, frozen=True, kw_only=True):
    """One line of the audit trail; `number` orders all kinds, `subject` is the id the line is about."""

    number: int
    at: Millis
    kind: str
    session: SessionId | None
    subject: str
    text: str


class JournalAnswer(Struct, frozen=True, tag=True):
    """A page of journal lines."""

    lines: tuple[JournalLine, ...]
    more: bool
    reached: int | None = None


class OrderLifeAnswer(Struct, frozen=True, tag=True):
    """One order with its events, fills and disagreements; None when unknown.

    `overrides` name it, or were done to its session or the desk while it was open.
    """

    order: Order | None
    lines: tuple[JournalLine, ...]
    fills: tuple[Fill, ...]
    disagreements: tuple[Disagreement, ...]
    overrides: tuple[JournalLine, ...] = ()


class FillsAnswer(Struct, frozen=True, tag=True):
    """A page of executions."""

    fills: tuple[Fill, ...]
    more: bool
    reached: tuple[Millis, int] | None = None


class TradesAnswer(Struct, frozen=True, tag=True):
    """A page of trades."""

    trades: tuple[Trade, ...]
    more: bool = False
    reached: tuple[Millis, str, str, int] | None = None


class DailyPnlAnswer(Struct, frozen=True, tag=True):
    """A page of days."""

    days: tuple[DailyPnl, ...]


class JobLine(Struct, frozen=True, kw_only=True):
    """A background job not done; `state` is pending, running or dead, `error` what its last attempt said.

    `age_ms` is since it was queued.
    """

    id: int
    kind: str
    subject: str
    state: str
    attempts: int
    queued: Millis
    age_ms: Millis
    due: Millis
    error: str


class JobsAnswer(Struct, frozen=True, tag=True):
    """A page of jobs."""

    jobs: tuple[JobLine, ...]


class SessionLine(Struct, frozen=True, kw_only=True):
    """One session as the audit trail knows it."""

    session: SessionId
    account: AccountId
    symbol: str
    strategy: str
    timeframe: str
    started: Millis
    evaluated: Millis | None
    latches: tuple[str, ...]
    orders: int
    fills: int


class SessionsAnswer(Struct, frozen=True, tag=True):
    """Every session."""

    sessions: tuple[SessionLine, ...]


class CheckAnswer(Struct, frozen=True, kw_only=True, tag=True):
    """What an order by hand would meet at `at`: by memory's position; the broker's is read when it is sent.

    `refusals` is every reason why it would not leave, empty when it would; `warnings` what else it would bring about.
    `quantity` is what would be sent: an exit is capped at `closable`, and `plan` says how it would be carried out.
    `notional` and `risk` are money: the contracts' value at `price`, and what this changes in what can be lost.
    `before` is heat now; `after`, in percent, with this order; None while nobody can say.
    """

    at: Millis
    refusals: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    plan: str = ""
    quantity: Decimal | None = None
    closable: Decimal | None = None
    price: Decimal | None = None
    notional: Decimal | None = None
    risk: Decimal | None = None
    before: Heat | None = None
    after: Decimal | None = None


Answer: TypeAlias = (
    OrdersAnswer
    | JournalAnswer
    | OrderLifeAnswer
    | FillsAnswer
    | TradesAnswer
    | DailyPnlAnswer
    | JobsAnswer
    | SessionsAnswer
    | CheckAnswer
)

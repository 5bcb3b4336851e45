"""Questions about the audit trail, answered page by page on a read-only connection."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from engine.domain.disagreements import Disagreement
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, ClientOrderId, Millis, SessionId, Symbol
from engine.domain.orders import Order
from engine.domain.records import DailyPnl, Trade

PAGE = 100


class OrdersPage(Struct, frozen=True, kw_only=True, tag=True):
    """Orders, newest first; `before` continues a page (created, client id), `text` filters on any shown word."""

    session: SessionId | None = None
    open_only: bool = False
    text: str = ""
    before: tuple[Millis, str] | None = None
    limit: int = PAGE


class OrderLife(Struct, frozen=True, tag=True):
    """Everything kept about one order."""

    client_id: ClientOrderId


class JournalPage(Struct, frozen=True, kw_only=True, tag=True):
    """Lines of all kinds, newest first; `kinds` empty means every kind, `before` is the last line's number."""

    kinds: tuple[str, ...] = ()
    session: SessionId | None = None
    text: str = ""
    before: int | None = None
    limit: int = PAGE


class FillsPage(Struct, frozen=True, kw_only=True, tag=True):
    """Executions, newest first."""

    session: SessionId | None = None
    before: Millis | None = None
    limit: int = PAGE


class TradesPage(Struct, frozen=True, kw_only=True, tag=True):
    """Round trips, newest first; `offset` leaves out so many of them."""

    account: AccountId | None = None
    symbol: Symbol | None = None
    offset: int = 0
    limit: int = PAGE


class DailyPnlPage(Struct, frozen=True, kw_only=True, tag=True):
    """Profit by trade date and contract, newest day first; `offset` leaves out so many of them."""

    account: AccountId | None = None
    symbol: Symbol | None = None
    offset: int = 0
    limit: int = PAGE


class JobsPage(Struct, frozen=True, kw_only=True, tag=True):
    """Background jobs not done: the dead first, then the running, then by when they are due; `offset` as above."""

    offset: int = 0
    limit: int = PAGE


class SessionsList(Struct, frozen=True, tag=True):
    """Sessions that this desk has known, with their latches and last evaluated candle."""


Query: TypeAlias = (
    OrdersPage | OrderLife | JournalPage | FillsPage | TradesPage | DailyPnlPage | JobsPage | SessionsList
)


class OrdersAnswer(Struct, frozen=True, tag=True):
    """A page of orders; `more` when older ones exist."""

    orders: tuple[Order, ...]
    more: bool


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


class OrderLifeAnswer(Struct, frozen=True, tag=True):
    """One order with its events, fills and disagreements; None when unknown."""

    order: Order | None
    lines: tuple[JournalLine, ...]
    fills: tuple[Fill, ...]
    disagreements: tuple[Disagreement, ...]


class FillsAnswer(Struct, frozen=True, tag=True):
    """A page of executions."""

    fills: tuple[Fill, ...]
    more: bool


class TradesAnswer(Struct, frozen=True, tag=True):
    """A page of trades."""

    trades: tuple[Trade, ...]


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


Answer: TypeAlias = (
    OrdersAnswer
    | JournalAnswer
    | OrderLifeAnswer
    | FillsAnswer
    | TradesAnswer
    | DailyPnlAnswer
    | JobsAnswer
    | SessionsAnswer
)

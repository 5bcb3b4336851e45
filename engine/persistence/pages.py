"""Answers to a console's questions, page by page; every value is bound, filter text is taken literally."""
# ruff: noqa: S608 (statements are put together from this package's own constants; values are bound)

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any, assert_never

from engine.domain.ids import AccountId, Millis, SessionId, Symbol
from engine.domain.records import DailyPnl, Trade
from engine.persistence import reads
from engine.persistence.order_rows import (
    DISAGREEMENT_COLUMNS,
    FILL_COLUMNS,
    ORDER_COLUMNS,
    Row,
    disagreement_from,
    fill_from,
    order_from,
)
from engine.ports import StoreConnection
from engine.queries import (
    Answer,
    DailyPnlAnswer,
    DailyPnlPage,
    FillsAnswer,
    FillsPage,
    JobLine,
    JobsAnswer,
    JobsPage,
    JournalAnswer,
    JournalLine,
    JournalPage,
    OrderLife,
    OrderLifeAnswer,
    OrdersAnswer,
    OrdersPage,
    SessionLine,
    SessionsAnswer,
    SessionsList,
    TradesAnswer,
    TradesPage,
    TrailQuery,
)

LONGEST_PAGE = 1000
ORDER_WORDS = (
    "lower(client_id || ' ' || coalesce(broker_id, '') || ' ' || session || ' ' || account || ' ' || symbol || ' ' "
    "|| role || ' ' || side || ' ' || type || ' ' || state || ' ' || tif || ' ' || quantity || ' ' || reason)"
)
LOG_WORDS = "lower(kind || ' ' || coalesce(session, '') || ' ' || subject || ' ' || text)"
LOG_COLUMNS = "number, at, kind, session, subject, text"
TRADE_COLUMNS = "account, symbol, number, quantity, opened, closed, entry_price, exit_price, fees, profit, sessions"
DAILY_COLUMNS = "account, symbol, day, currency, realised, fees, round_trips, quantity"
JOBS = """
SELECT id, kind, subject, state, attempts, queued, due, error FROM jobs
ORDER BY CASE state WHEN 'dead' THEN 0 WHEN 'running' THEN 1 ELSE 2 END, due, id LIMIT ? OFFSET ?
"""
NEWEST_TRADES = "ORDER BY closed DESC, account, symbol, number DESC"
SESSIONS = """
SELECT s.session, s.account, s.symbol, s.strategy, s.timeframe, s.started, e.candle,
    (SELECT count(*) FROM orders AS o WHERE o.session = s.session),
    (SELECT count(*) FROM fills AS f WHERE f.session = s.session AND f.revision = 0)
FROM sessions AS s LEFT JOIN evaluated_candles AS e ON e.session = s.session
ORDER BY s.session
"""


class Where:
    """A condition grown from constant clauses, with the values they bind."""

    def __init__(self) -> None:
        self._clauses: list[str] = []
        self.values: list[Any] = []

    def also(self, clause: str, *values: Any) -> None:
        """One more condition, with a value for each of its marks."""
        self._clauses.append(clause)
        self.values += values

    def contains(self, words: str, text: str) -> None:
        """Each word of `text` occurs in `words`, whatever the case; `%` and `_` mean themselves."""
        for word in text.lower().split():
            literal = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            self.also(f"{words} LIKE ? ESCAPE '\\'", f"%{literal}%")

    @property
    def sql(self) -> str:
        """The clause, empty when there is no condition."""
        return f"WHERE {' AND '.join(self._clauses)}" if self._clauses else ""


def _bounded(limit: int) -> int:
    return max(1, min(limit, LONGEST_PAGE))


def _line(row: Row) -> JournalLine:
    number, at, kind, session, subject, text = row
    return JournalLine(number=number, at=at, kind=kind, session=session, subject=subject, text=text)


async def answer(reader: StoreConnection, query: TrailQuery, now: Millis) -> Answer:
    """A page of the audit trail as of `now`. Raises StoreUnavailable."""
    match query:
        case OrdersPage():
            return await _orders(reader, query)
        case OrderLife():
            return await _order_life(reader, query)
        case JournalPage():
            return await _journal(reader, query)
        case FillsPage():
            return await _fills(reader, query)
        case TradesPage():
            return await _trades(reader, query)
        case DailyPnlPage():
            return await _days(reader, query)
        case JobsPage():
            rows = await reader.query(JOBS, (_bounded(query.limit), query.offset))
            return JobsAnswer(tuple(_job(row, now) for row in rows))
        case SessionsList():
            return await _sessions(reader)
        case _:
            assert_never(query)


async def _orders(reader: StoreConnection, page: OrdersPage) -> OrdersAnswer:
    where, limit = Where(), _bounded(page.limit)
    if page.session is not None:
        where.also("session = ?", page.session)
    if page.open_only:
        where.also("is_live = 1")
    if page.before is not None:
        where.also("(created, client_id) < (?, ?)", *page.before)
    where.contains(ORDER_WORDS, page.text)
    sql = f"SELECT {ORDER_COLUMNS} FROM orders {where.sql} ORDER BY created DESC, client_id DESC LIMIT ?"
    rows = await reader.query(sql, (*where.values, limit + 1))
    return OrdersAnswer(tuple(order_from(row) for row in rows[:limit]), len(rows) > limit)


async def _journal(reader: StoreConnection, page: JournalPage) -> JournalAnswer:
    where, limit = Where(), _bounded(page.limit)
    if page.kinds:
        where.also(f"kind IN ({', '.join('?' for _ in page.kinds)})", *page.kinds)
    if page.session is not None:
        where.also("session = ?", page.session)
    if page.before is not None:
        where.also("number < ?", page.before)
    where.contains(LOG_WORDS, page.text)
    sql = f"SELECT {LOG_COLUMNS} FROM log {where.sql} ORDER BY number DESC LIMIT ?"
    rows = await reader.query(sql, (*where.values, limit + 1))
    return JournalAnswer(tuple(_line(row) for row in rows[:limit]), len(rows) > limit)


async def _order_life(reader: StoreConnection, life: OrderLife) -> OrderLifeAnswer:
    order = await reads.order(reader, life.client_id)
    lines = await reader.query(f"SELECT {LOG_COLUMNS} FROM log WHERE subject = ? ORDER BY number", (life.client_id,))
    fills = await reader.query(
        f"SELECT {FILL_COLUMNS} FROM fills WHERE client_id = ? AND {reads.NEWEST_REVISION} ORDER BY at, number",
        (life.client_id,),
    )
    broker_id = order.broker_id if order is not None else None
    disagreements = await reader.query(
        f"SELECT {DISAGREEMENT_COLUMNS} FROM disagreements WHERE broker_id = ? OR broker_id = ? ORDER BY first_seen",
        (broker_id, life.client_id),
    )
    return OrderLifeAnswer(
        order,
        tuple(_line(row) for row in lines),
        tuple(fill_from(row) for row in fills),
        tuple(disagreement_from(row) for row in disagreements),
    )


async def _fills(reader: StoreConnection, page: FillsPage) -> FillsAnswer:
    where, limit = Where(), _bounded(page.limit)
    where.also(reads.NEWEST_REVISION)
    if page.session is not None:
        where.also("session = ?", page.session)
    if page.before is not None:
        where.also("at < ?", page.before)
    sql = f"SELECT {FILL_COLUMNS} FROM fills {where.sql} ORDER BY at DESC, number DESC LIMIT ?"
    rows = await reader.query(sql, (*where.values, limit + 1))
    found = [fill_from(row) for row in rows]
    if len(found) <= limit:
        return FillsAnswer(tuple(found), False)
    # the next page begins before a moment: fills of the page's last moment go whole, or some were never shown
    last = found[limit - 1].at
    if found[limit].at != last:
        return FillsAnswer(tuple(found[:limit]), True)
    same = Where()
    same.also(reads.NEWEST_REVISION)
    if page.session is not None:
        same.also("session = ?", page.session)
    same.also("at = ?", last)
    rows = await reader.query(
        f"SELECT {FILL_COLUMNS} FROM fills {same.sql} ORDER BY at DESC, number DESC", tuple(same.values)
    )
    whole = [fill for fill in found if fill.at > last] + [fill_from(row) for row in rows]
    return FillsAnswer(tuple(whole), True)


async def _trades(reader: StoreConnection, page: TradesPage) -> TradesAnswer:
    where = Where()
    if page.account is not None:
        where.also("account = ?", page.account)
    if page.symbol is not None:
        where.also("symbol = ?", page.symbol)
    sql = f"SELECT {TRADE_COLUMNS} FROM trades {where.sql} {NEWEST_TRADES} LIMIT ? OFFSET ?"
    rows = await reader.query(sql, (*where.values, _bounded(page.limit), page.offset))
    return TradesAnswer(tuple(trade_from(row) for row in rows))


def trade_from(row: Row) -> Trade:
    """The trade in a row of TRADE_COLUMNS."""
    account, symbol, number, quantity, opened, closed, entry, out, fees, profit, sessions = row
    return Trade(
        account=AccountId(account),
        symbol=Symbol(symbol),
        number=number,
        quantity=Decimal(quantity),
        opened=opened,
        closed=closed,
        entry_price=Decimal(entry),
        exit_price=Decimal(out),
        fees=Decimal(fees),
        profit=Decimal(profit),
        sessions=tuple(SessionId(session) for session in json.loads(sessions)),
    )


async def _days(reader: StoreConnection, page: DailyPnlPage) -> DailyPnlAnswer:
    where = Where()
    if page.account is not None:
        where.also("account = ?", page.account)
    if page.symbol is not None:
        where.also("symbol = ?", page.symbol)
    sql = f"SELECT {DAILY_COLUMNS} FROM daily_pnl {where.sql} ORDER BY day DESC, account, symbol LIMIT ? OFFSET ?"
    rows = await reader.query(sql, (*where.values, _bounded(page.limit), page.offset))
    return DailyPnlAnswer(tuple(daily_from(row) for row in rows))


def daily_from(row: Row) -> DailyPnl:
    """The day in a row of DAILY_COLUMNS."""
    account, symbol, day, currency, realised, fees, round_trips, quantity = row
    return DailyPnl(
        account=AccountId(account),
        symbol=Symbol(symbol),
        day=date.fromisoformat(day),
        currency=currency,
        realised=Decimal(realised),
        fees=Decimal(fees),
        round_trips=round_trips,
        quantity=Decimal(quantity),
    )


def _job(row: Row, now: Millis) -> JobLine:
    identity, kind, subject, state, attempts, queued, due, error = row
    return JobLine(
        id=identity,
        kind=kind,
        subject=subject,
        state=state,
        attempts=attempts,
        queued=queued,
        age_ms=max(0, now - queued),
        due=due,
        error=error,
    )


async def _sessions(reader: StoreConnection) -> SessionsAnswer:
    held: dict[str, list[str]] = {}
    for latch in await reads.latches(reader):
        held.setdefault(latch.session or "", []).append(latch.kind.value)
    lines = []
    for session, account, symbol, strategy, timeframe, started, candle, orders, fills in await reader.query(SESSIONS):
        line = SessionLine(
            session=session,
            account=account,
            symbol=symbol,
            strategy=strategy,
            timeframe=timeframe,
            started=started,
            evaluated=candle,
            latches=tuple(held.get("", [])) + tuple(held.get(session, [])),
            orders=orders,
            fills=fills,
        )
        lines.append(line)
    return SessionsAnswer(tuple(lines))

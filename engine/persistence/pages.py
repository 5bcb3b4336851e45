"""Answers to a console's questions, page by page; every value is bound, filter text is taken literally."""
# ruff: noqa: S608 (statements are put together from this package's own constants; values are bound)

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import assert_never

from engine.domain.ids import AccountId, Millis, SessionId, Symbol
from engine.domain.orders import Order
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
from engine.persistence.paging import Listing, Where, bounded, literal, page
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

ORDER_WORDS = (
    "lower(client_id || ' ' || coalesce(broker_id, '') || ' ' || session || ' ' || account || ' ' || symbol || ' ' "
    "|| role || ' ' || side || ' ' || type || ' ' || state || ' ' || tif || ' ' || quantity || ' ' || reason)"
)
LOG_WORDS = "lower(kind || ' ' || coalesce(session, '') || ' ' || subject || ' ' || text)"
FILL_WORDS = (
    "lower(fill_key || ' ' || account || ' ' || coalesce(session, '') || ' ' || symbol || ' ' "
    "|| coalesce(client_id, '') || ' ' || broker_id || ' ' || side || ' ' || quantity || ' ' || price)"
)
TRADE_WORDS = (
    "lower(account || ' ' || symbol || ' ' || CASE WHEN quantity LIKE '-%' THEN 'short' ELSE 'long' END || ' ' "
    "|| quantity || ' ' || entry_price || ' ' || exit_price || ' ' || profit || ' ' || sessions)"
)
JOB_WORDS = "lower(kind || ' ' || subject || ' ' || state || ' ' || error)"
LOG_COLUMNS = "number, at, kind, session, subject, text"
MOST_OVERRIDES = 500
AROUND = "(at BETWEEN ? AND ? AND (session = ? OR session IS NULL))"
TRADE_COLUMNS = "account, symbol, number, quantity, opened, closed, entry_price, exit_price, fees, profit, sessions"
DAILY_COLUMNS = "account, symbol, day, currency, realised, fees, round_trips, quantity"
JOB_COLUMNS = "id, kind, subject, state, attempts, queued, due, error"
DEAD_FIRST = "ORDER BY CASE state WHEN 'dead' THEN 0 WHEN 'running' THEN 1 ELSE 2 END, due, id"
NEWEST_ORDERS = Listing("orders", ORDER_COLUMNS, ("created", "client_id"), ORDER_WORDS)
NEWEST_LINES = Listing("log", LOG_COLUMNS, ("number",), LOG_WORDS)
NEWEST_FILLS = Listing("fills", f"{FILL_COLUMNS}, number", ("at", "number"), FILL_WORDS)
NEWEST_TRADES = Listing("trades", TRADE_COLUMNS, ("closed", "account", "symbol", "number"), TRADE_WORDS)
# Steps of an order whose journal lines were pruned.
UNTOLD_EVENTS = """
SELECT o.session, e.client_id, e.at, e.event, e.state, e.filled, e.detail FROM order_events AS e
JOIN orders AS o ON o.client_id = e.client_id
WHERE e.client_id = ? AND NOT EXISTS (
    SELECT 1 FROM log WHERE subject = ? AND kind = 'order' AND version = CAST(e.revision AS TEXT)
)
ORDER BY e.revision
"""
SESSIONS = """
SELECT s.session, s.account, s.symbol, s.strategy, s.timeframe, s.started, e.candle,
    (SELECT count(*) FROM orders AS o WHERE o.session = s.session),
    (SELECT count(*) FROM fills AS f WHERE f.session = s.session AND f.revision = 0)
FROM sessions AS s LEFT JOIN evaluated_candles AS e ON e.session = s.session
ORDER BY s.session
"""


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
            return await _jobs(reader, query, now)
        case SessionsList():
            return await _sessions(reader)
        case _:
            assert_never(query)


async def _orders(reader: StoreConnection, query: OrdersPage) -> OrdersAnswer:
    where = Where()
    if query.session is not None:
        where.also("session = ?", query.session)
    if query.open_only:
        where.also("is_live = 1")
    found = await page(
        reader,
        NEWEST_ORDERS,
        [where],
        text=query.text,
        before=query.before,
        limit=query.limit,
        scan=query.scan,
    )
    reached = None if found.reached is None else (int(found.reached[0]), str(found.reached[1]))
    return OrdersAnswer(tuple(order_from(row) for row in found.rows), found.reached is not None, reached)


async def _journal(reader: StoreConnection, query: JournalPage) -> JournalAnswer:
    arms = []
    for kind in dict.fromkeys(query.kinds) or (None,):
        where = Where()
        if kind is not None:
            where.also("kind = ?", kind)
        if query.session is not None:
            where.also("session = ?", query.session)
        arms.append(where)
    found = await page(
        reader,
        NEWEST_LINES,
        arms,
        text=query.text,
        before=None if query.before is None else (query.before,),
        limit=query.limit,
        scan=query.scan,
    )
    reached = None if found.reached is None else int(found.reached[0])
    return JournalAnswer(tuple(_line(row) for row in found.rows), found.reached is not None, reached)


async def _order_life(reader: StoreConnection, life: OrderLife) -> OrderLifeAnswer:
    order = await reads.order(reader, life.client_id)
    lines = await reader.query(f"SELECT {LOG_COLUMNS} FROM log WHERE subject = ? ORDER BY number", (life.client_id,))
    events = await reader.query(UNTOLD_EVENTS, (life.client_id, life.client_id))
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
        (*(_event(row) for row in events), *(_line(row) for row in lines)),
        tuple(fill_from(row) for row in fills),
        tuple(disagreement_from(row) for row in disagreements),
        await _overrides_about(reader, life, order),
    )


def _event(row: Row) -> JournalLine:
    session, client_id, at, event, state, filled, detail = row
    text = f"{event}: {state}, filled {filled}" + (f" ({detail})" if detail else "")
    return JournalLine(number=0, at=at, kind="order", session=SessionId(session), subject=client_id, text=text)


async def _overrides_about(reader: StoreConnection, life: OrderLife, order: Order | None) -> tuple[JournalLine, ...]:
    """What operators did that names the order, or to its whole session or desk while it was open."""
    where = Where()
    where.also("kind = ?", "override")
    span = (order.created, order.updated, order.session) if order is not None else (1, 0, "")
    where.also(f"({LOG_WORDS} LIKE ? ESCAPE '\\' OR {AROUND})", literal(life.client_id), *span)
    sql = f"SELECT {LOG_COLUMNS} FROM log {where.sql} ORDER BY number DESC LIMIT ?"
    rows = await reader.query(sql, (*where.values, MOST_OVERRIDES))
    return tuple(_line(row) for row in reversed(rows))


async def _fills(reader: StoreConnection, query: FillsPage) -> FillsAnswer:
    where = Where()
    where.also(reads.NEWEST_REVISION)
    if query.session is not None:
        where.also("session = ?", query.session)
    found = await page(
        reader, NEWEST_FILLS, [where], text=query.text, before=query.before, limit=query.limit, scan=query.scan
    )
    reached = None if found.reached is None else (int(found.reached[0]), int(found.reached[1]))
    return FillsAnswer(tuple(fill_from(row[:-1]) for row in found.rows), found.reached is not None, reached)


async def _trades(reader: StoreConnection, query: TradesPage) -> TradesAnswer:
    where = Where()
    if query.account is not None:
        where.also("account = ?", query.account)
    if query.symbol is not None:
        where.also("symbol = ?", query.symbol)
    found = await page(
        reader, NEWEST_TRADES, [where], text=query.text, before=query.before, limit=query.limit, scan=query.scan
    )
    reached = None
    if found.reached is not None:
        closed, account, symbol, number = found.reached
        reached = (int(closed), str(account), str(symbol), int(number))
    return TradesAnswer(tuple(trade_from(row) for row in found.rows), found.reached is not None, reached)


async def _jobs(reader: StoreConnection, query: JobsPage, now: Millis) -> JobsAnswer:
    where = Where()
    where.contains(JOB_WORDS, query.text)
    sql = f"SELECT {JOB_COLUMNS} FROM jobs {where.sql} {DEAD_FIRST} LIMIT ? OFFSET ?"
    rows = await reader.query(sql, (*where.values, bounded(query.limit), query.offset))
    return JobsAnswer(tuple(_job(row, now) for row in rows))


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
    rows = await reader.query(sql, (*where.values, bounded(page.limit), page.offset))
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

"""What the engine asks of the audit trail when it starts, recovers and counts; on the read-only connection."""
# ruff: noqa: S608 (statements are put together from this package's own constants, once, when it is imported)

from __future__ import annotations

from datetime import date
from decimal import Decimal

import msgspec

from engine.domain import order_lifecycle as lifecycle
from engine.domain.disagreements import Disagreement
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, ClientOrderId, DecisionKey, Millis, SessionId, Symbol
from engine.domain.lease import Holder, Lease
from engine.domain.orders import Order, Terms
from engine.domain.positions import FLAT, Position
from engine.domain.records import LatchKind, LatchSet, LimitsChanged
from engine.persistence.order_rows import (
    DISAGREEMENT_COLUMNS,
    FILL_COLUMNS,
    ORDER_COLUMNS,
    decimal_or_none,
    disagreement_from,
    fill_from,
    order_from,
)
from engine.ports import DayFigures, StoreConnection

BESIDE_MS = 600_000
NEWEST_REVISION = """NOT EXISTS (
    SELECT 1 FROM fills AS newer
    WHERE newer.account = fills.account AND newer.fill_key = fills.fill_key AND newer.revision > fills.revision
)"""
LIVE_ORDERS = f"SELECT {ORDER_COLUMNS} FROM orders WHERE account = ? AND is_live = 1 ORDER BY created, client_id"
ENDED_BESIDE_UNKNOWN = f"""
SELECT {ORDER_COLUMNS} FROM orders WHERE session = ? AND is_live = 0 AND created >= (
    SELECT min(created) FROM orders WHERE account = ? AND session = ? AND is_live = 1 AND broker_id IS NULL
) - {BESIDE_MS} ORDER BY created, client_id
"""
# A command is durable before it leaves, the order's row only after: whoever dies between left this trace alone.
COMMANDED = """
SELECT i.client_id, i.kind, i.terms, i.at FROM orders AS o
JOIN intents AS i ON i.session = o.session AND i.at >= o.updated AND i.client_id = o.client_id
WHERE o.account = ? AND o.is_live = 1 AND i.kind IN ('cancel', 'replace') ORDER BY i.at
"""
ONE_ORDER = f"SELECT {ORDER_COLUMNS} FROM orders WHERE client_id = ?"
FILLS = f"""
SELECT {FILL_COLUMNS} FROM fills WHERE account = ? AND symbol = ? AND at >= ? AND {NEWEST_REVISION}
ORDER BY at, number
"""
# However long the history: what the day's figures need, and what the broker may still tell again.
START_FILLS = f"""
WITH newest AS (
    SELECT number, client_id FROM fills WHERE account = ? AND symbol = ? ORDER BY at DESC, number DESC LIMIT 20
), mine AS (
    SELECT client_id FROM newest WHERE client_id IS NOT NULL
    UNION SELECT client_id FROM orders WHERE account = ? AND is_live = 1
    UNION SELECT parent FROM orders WHERE account = ? AND is_live = 1 AND parent IS NOT NULL
), wanted AS (
    SELECT number FROM newest
    UNION SELECT number FROM fills WHERE account = ? AND symbol = ? AND at >= ?
    UNION SELECT f.number FROM mine JOIN fills AS f ON f.client_id = mine.client_id WHERE f.account = ? AND f.symbol = ?
)
SELECT {FILL_COLUMNS} FROM fills WHERE number IN (SELECT number FROM wanted) AND {NEWEST_REVISION} ORDER BY at, number
"""
POSITION_BEFORE = """
SELECT b.quantity, b.average_price FROM fills AS f
JOIN positions AS p ON p.account = f.account AND p.symbol = f.symbol
    AND p.version = 'fill ' || f.fill_key || ' ' || f.revision
JOIN positions AS b ON b.number = (
    SELECT max(e.number) FROM positions AS e WHERE e.account = p.account AND e.symbol = p.symbol AND e.number < p.number
)
WHERE f.number = (SELECT min(number) FROM fills WHERE account = ? AND symbol = ? AND at >= ?)
"""
# From symbol to symbol along the index: a long history costs no more than a short one.
POSITIONS = """
WITH RECURSIVE contracts (symbol) AS (
    SELECT min(symbol) FROM positions WHERE account = ?
    UNION ALL
    SELECT (SELECT min(p.symbol) FROM positions AS p WHERE p.account = ? AND p.symbol > contracts.symbol)
    FROM contracts WHERE contracts.symbol IS NOT NULL
)
SELECT newest.symbol, newest.quantity, newest.average_price FROM contracts
JOIN positions AS newest ON newest.number = (
    SELECT max(p.number) FROM positions AS p WHERE p.account = ? AND p.symbol = contracts.symbol
)
ORDER BY newest.symbol
"""
LATCHES = """
SELECT scope, kind, held, reason, at, set_by, until FROM latches WHERE held = 1 ORDER BY at, scope, kind
"""
OPEN_DISAGREEMENTS = f"""
SELECT {DISAGREEMENT_COLUMNS} FROM disagreements WHERE account = ? AND is_open = 1 ORDER BY first_seen, id
"""
ENTRIES_COMMITTED = """
SELECT count(*) FROM intents WHERE session = ? AND at >= ? AND kind = 'submit' AND role = 'entry'
"""
LEASE = "SELECT epoch, holder, host, proof, at, renewed, released FROM leases WHERE account = ?"


async def open_orders(reader: StoreConnection, account: AccountId) -> tuple[Order, ...]:
    """Orders not proven terminal, and terminal ones still open for fills; oldest first.

    A resting order with a younger cancel or replace of ours is pending, for it may have left.
    """
    orders = {order.client_id: order for order in map(order_from, await reader.query(LIVE_ORDERS, (account,)))}
    for client_id, kind, terms, at in await reader.query(COMMANDED, (account,)):
        if client_id in orders:
            wanted = None if terms is None else msgspec.json.decode(terms, type=Terms)
            orders[client_id] = lifecycle.commanded(orders[client_id], at, wanted, is_cancel=kind == "cancel")
    return tuple(orders.values())


async def ended_beside_unknown(reader: StoreConnection, account: AccountId, session: SessionId) -> tuple[Order, ...]:
    """The session's ended orders from 10 minutes before its oldest live one without a broker's id; oldest first."""
    rows = await reader.query(ENDED_BESIDE_UNKNOWN, (session, account, session))
    return tuple(map(order_from, rows))


async def order(reader: StoreConnection, client_id: ClientOrderId) -> Order | None:
    """One order's newest row."""
    rows = await reader.query(ONE_ORDER, (client_id,))
    return order_from(rows[0]) if rows else None


async def fills(reader: StoreConnection, account: AccountId, symbol: Symbol, since: Millis) -> tuple[Fill, ...]:
    """Executions of a contract in their newest revisions, oldest first; a bust has quantity zero."""
    return tuple(fill_from(row) for row in await reader.query(FILLS, (account, symbol, since)))


async def start_fills(
    reader: StoreConnection, account: AccountId, symbol: Symbol, since: Millis
) -> tuple[Position, tuple[Fill, ...]]:
    """Fills since then, of live orders, and the newest; and the position before the first since then."""
    contract = (account, symbol)
    rows = await reader.query(START_FILLS, (*contract, account, account, *contract, since, *contract))
    before = await reader.query(POSITION_BEFORE, (*contract, since))
    position = Position(Decimal(before[0][0]), decimal_or_none(before[0][1])) if before else FLAT
    return position, tuple(fill_from(row) for row in rows)


async def positions(reader: StoreConnection, account: AccountId) -> dict[Symbol, Position]:
    """Newest position record per symbol, flat ones left out."""
    rows = await reader.query(POSITIONS, (account, account, account))
    held = {Symbol(symbol): Position(Decimal(size), decimal_or_none(price)) for symbol, size, price in rows}
    return {symbol: position for symbol, position in held.items() if not position.is_flat}


async def evaluated(reader: StoreConnection, session: SessionId) -> Millis | None:
    """Start of the newest candle the session ever decided on."""
    rows = await reader.query("SELECT candle FROM evaluated_candles WHERE session = ?", (session,))
    return int(rows[0][0]) if rows else None


async def latches(reader: StoreConnection) -> tuple[LatchSet, ...]:
    """Latches that hold."""
    return tuple(
        LatchSet(
            session=SessionId(scope) if scope else None,
            kind=LatchKind(kind),
            held=bool(held),
            reason=reason,
            at=at,
            by=by,
            until=date.fromisoformat(until) if until else None,
        )
        for scope, kind, held, reason, at, by, until in await reader.query(LATCHES)
    )


async def limits(reader: StoreConnection) -> tuple[LimitsChanged, ...]:
    """Newest live setting per limit name."""
    rows = await reader.query("SELECT name, percent, at, set_by, reason FROM limits ORDER BY name")
    return tuple(
        LimitsChanged(name=name, percent=Decimal(percent), at=at, by=by, reason=reason)
        for name, percent, at, by, reason in rows
    )


async def disagreements(reader: StoreConnection, account: AccountId) -> tuple[Disagreement, ...]:
    """Those that somebody still has to look at, or the desk still works on."""
    return tuple(disagreement_from(row) for row in await reader.query(OPEN_DISAGREEMENTS, (account,)))


async def day(
    reader: StoreConnection, session: SessionId, account: AccountId, symbol: Symbol, since: Millis
) -> DayFigures:
    """Fills of the session's contract since then, and how many entries the session committed."""
    rows = await reader.query(ENTRIES_COMMITTED, (session, since))
    return DayFigures(fills=await fills(reader, account, symbol, since), entries=int(rows[0][0]))


async def holder_of(reader: StoreConnection, key: DecisionKey) -> tuple[str, str] | None:
    """Kind and origin of what holds a natural key."""
    rows = await reader.query("SELECT kind, origin FROM intents WHERE key = ?", (key,))
    return (rows[0][0], rows[0][1]) if rows else None


async def order_of(reader: StoreConnection, key: DecisionKey) -> Order | None:
    """The order that a submit's natural key stands for."""
    rows = await reader.query("SELECT client_id FROM intents WHERE key = ? AND kind = 'submit'", (key,))
    return await order(reader, ClientOrderId(rows[0][0])) if rows else None


async def lease(reader: StoreConnection, account: AccountId) -> Lease | None:
    """Who commands an account, and since when."""
    rows = await reader.query(LEASE, (account,))
    if not rows:
        return None
    ((epoch, name, host, proof, at, renewed, released),) = rows
    return Lease(
        account=account,
        epoch=int(epoch),
        holder=Holder(name, host, proof),
        taken=int(at),
        renewed=int(renewed),
        released=bool(released),
    )

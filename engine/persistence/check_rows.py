"""Do the rows of the audit trail agree with one another? Questions whose every answer is a row that does not.

Each is one statement, so beside a running desk it sees one moment. What spans two transactions of the desk may
disagree for that moment, so whatever was found is looked at again before it is told.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from decimal import Decimal

from msgspec import Struct

from engine.domain.findings import Finding
from engine.errors import StoreError
from engine.ports import Clock, StoreConnection

NAMED = 3
LOOKED_AT = 200
SECOND_LOOK_SECONDS = 1.0
ASK_THE_BROKER = (
    "the broker has the truth: start the desk, which reconciles before it trades; keep a copy of the database first"
)

ORDERS_AND_EVENTS = """
SELECT o.client_id FROM orders AS o
LEFT JOIN order_events AS e ON e.client_id = o.client_id AND e.revision = o.revision
WHERE e.client_id IS NULL OR e.state <> o.state OR e.filled <> o.filled
UNION
SELECT o.client_id FROM order_events AS e JOIN orders AS o ON o.client_id = e.client_id
WHERE e.revision > o.revision
LIMIT ?
"""
# An adopted order was partly filled before it was ours. In SQLite NUMERIC means floating point: what it finds is
# added up again, exactly.
FILLED_AND_FILLS = """
WITH newest AS (
    SELECT client_id, CAST(quantity AS NUMERIC) AS quantity,
        row_number() OVER (PARTITION BY account, fill_key ORDER BY revision DESC) AS place
    FROM fills WHERE client_id IS NOT NULL
), booked AS (
    SELECT client_id, sum(quantity) AS quantity FROM newest WHERE place = 1 GROUP BY client_id
)
SELECT o.client_id FROM orders AS o LEFT JOIN booked AS b ON b.client_id = o.client_id
WHERE abs(CAST(o.filled AS NUMERIC) - coalesce(b.quantity, 0)) > 0.000000001 AND o.flags NOT LIKE '%"external"%'
LIMIT ?
"""
FILLS_OF_ORDER = """
SELECT o.filled, f.fill_key, f.revision, f.quantity FROM orders AS o
LEFT JOIN fills AS f ON f.client_id = o.client_id WHERE o.client_id = ? ORDER BY f.revision
"""
INTENTS_WITHOUT_ORDER = """
SELECT i.key FROM intents AS i LEFT JOIN orders AS o ON o.client_id = i.client_id
WHERE i.kind <> 'tombstone' AND o.client_id IS NULL
LIMIT ?
"""
LIVE_WITHOUT_INTENT = """
SELECT o.client_id FROM orders AS o LEFT JOIN orders AS p ON p.client_id = o.parent
WHERE o.is_live = 1 AND o.flags NOT LIKE '%"external"%'
    AND NOT EXISTS (SELECT 1 FROM intents AS i WHERE i.key = o.decision_key AND i.kind = 'submit')
    AND NOT EXISTS (SELECT 1 FROM intents AS i WHERE i.key = p.decision_key AND i.kind = 'submit')
LIMIT ?
"""
FILLS_WITHOUT_ORDER = """
SELECT f.account || '/' || f.fill_key FROM fills AS f LEFT JOIN orders AS o ON o.client_id = f.client_id
WHERE f.client_id IS NOT NULL AND o.client_id IS NULL
LIMIT ?
"""
# A fill's position record is the one before plus what the fill moved; the executions of an adopted order were in
# the position already.
POSITIONS_AND_FILLS = """
WITH signed AS (
    SELECT account, symbol, fill_key, revision, client_id,
        CASE side WHEN 'buy' THEN 1 ELSE -1 END * CAST(quantity AS NUMERIC) AS quantity
    FROM fills
), moved AS (
    SELECT account, symbol, client_id, 'fill ' || fill_key || ' ' || revision AS version,
        quantity - coalesce(lag(quantity) OVER (PARTITION BY account, fill_key ORDER BY revision), 0) AS quantity
    FROM signed
), walked AS (
    SELECT account, symbol, version, CAST(quantity AS NUMERIC) AS quantity,
        coalesce(lag(CAST(quantity AS NUMERIC)) OVER (PARTITION BY account, symbol ORDER BY number), 0) AS before
    FROM positions
)
SELECT m.account || '/' || m.symbol || ' at ' || m.version FROM moved AS m
LEFT JOIN walked AS w ON w.account = m.account AND w.symbol = m.symbol AND w.version = m.version
LEFT JOIN orders AS o ON o.client_id = m.client_id
WHERE w.version IS NULL OR (
    abs(w.quantity - w.before - m.quantity) > 0.000000001
    AND NOT (abs(w.quantity - w.before) <= 0.000000001 AND coalesce(o.flags, '') LIKE '%"external"%')
)
LIMIT ?
"""
TRADES_BEHIND = """
SELECT f.account, f.symbol FROM fills AS f
LEFT JOIN trade_versions AS v ON v.account = f.account AND v.symbol = f.symbol
GROUP BY f.account, f.symbol, v.version HAVING max(f.number) > coalesce(v.version, 0)
LIMIT ?
"""
TRADES_QUEUED = "SELECT subject FROM jobs WHERE kind = 'trades' AND state <> 'dead'"
DEAD_JOBS = "SELECT kind || ' ' || subject || ': ' || error FROM jobs WHERE state = 'dead' LIMIT ?"


class Question(Struct, frozen=True):
    """A statement that names what is wrong, and the words for both answers."""

    check: str
    sql: str
    fine: str
    wrong: str
    way_out: str


QUESTIONS = (
    Question(
        "orders and their events",
        ORDERS_AND_EVENTS,
        "each order's row is its last event",
        "orders whose row is not their last event",
        ASK_THE_BROKER,
    ),
    Question(
        "intents and their orders",
        INTENTS_WITHOUT_ORDER,
        "each intent has its order",
        "intents without an order",
        ASK_THE_BROKER,
    ),
    Question(
        "live orders and their intents",
        LIVE_WITHOUT_INTENT,
        "each live order was committed before it left",
        "live orders that left without an intent on record (an exit may, when database and journal both fail)",
        "look at each in the console; its journal lines say how it left",
    ),
    Question(
        "fills and their orders", FILLS_WITHOUT_ORDER, "each fill has its order", "fills without an order",
        ASK_THE_BROKER,
    ),
    Question(
        "positions and fills",
        POSITIONS_AND_FILLS,
        "each position record follows from the one before and its fill",
        "position records that do not follow from their fills",
        ASK_THE_BROKER,
    ),
    Question(
        "background jobs",
        DEAD_JOBS,
        "none has failed for good",
        "jobs failed for good",
        "mend what the job names (often an unknown instrument), then J in the console, or sextant jobs --retry",
    ),
)  # fmt: skip


async def rows_agree(reader: StoreConnection, clock: Clock) -> list[Finding]:
    """Every question's answer, in a fixed order; one that cannot be asked is a finding too."""
    found = [await _asked(question, reader, clock) for question in QUESTIONS]
    found.insert(1, await _guarded("orders and their fills", _filled_by_fills(reader, clock)))
    found.insert(-1, await _guarded("trades", _trades(reader, clock)))
    return found


async def _guarded(check: str, looking: Awaitable[Finding]) -> Finding:
    try:
        return await looking
    except StoreError as error:
        return unreadable(check, error)


def unreadable(check: str, error: StoreError) -> Finding:
    """A question that the database could not answer."""
    return Finding(
        check=check, ok=False, detail=f"cannot be read: {error}", way_out="see `integrity` above; nothing was changed"
    )


def told(check: str, wrong: Sequence[str], fine: str, words: str, way_out: str) -> Finding:
    """The finding about a list of things that are wrong."""
    if not wrong:
        return Finding(check=check, ok=True, detail=fine)
    count = f"{len(wrong)}" if len(wrong) < LOOKED_AT else f"at least {LOOKED_AT}"
    named = "; ".join(wrong[:NAMED]) + ("; …" if len(wrong) > NAMED else "")
    return Finding(check=check, ok=False, detail=f"{count} {words}: {named}", way_out=way_out)


async def _asked(question: Question, reader: StoreConnection, clock: Clock) -> Finding:
    try:
        wrong = await _names(question.sql, reader)
        if wrong:
            await clock.sleep(SECOND_LOOK_SECONDS)
            still = set(await _names(question.sql, reader))
            wrong = [name for name in wrong if name in still]
    except StoreError as error:
        return unreadable(question.check, error)
    return told(question.check, wrong, question.fine, question.wrong, question.way_out)


async def _names(sql: str, reader: StoreConnection) -> list[str]:
    return [str(row[0]) for row in await reader.query(sql, (LOOKED_AT,))]


async def _filled_by_fills(reader: StoreConnection, clock: Clock) -> Finding:
    wrong = await _names(FILLED_AND_FILLS, reader)
    if wrong:
        await clock.sleep(SECOND_LOOK_SECONDS)
        wrong = [name for name in wrong if not await _adds_up(name, reader)]
    return told(
        "orders and their fills",
        wrong,
        "each order's filled quantity is the sum of its fills",
        "orders filled otherwise than their fills say",
        ASK_THE_BROKER,
    )


async def _adds_up(client_id: str, reader: StoreConnection) -> bool:
    filled, newest = Decimal(0), {}
    for of_order, key, _, quantity in await reader.query(FILLS_OF_ORDER, (client_id,)):
        filled = Decimal(of_order)
        if key is not None:
            newest[key] = Decimal(quantity)  # a later revision replaces the one before
    return filled == sum(newest.values(), Decimal(0))


async def _trades(reader: StoreConnection, clock: Clock) -> Finding:
    behind = await _behind(reader)
    if behind:
        await clock.sleep(SECOND_LOOK_SECONDS)
        behind &= await _behind(reader)
    queued = {tuple(json.loads(row[0])) for row in await reader.query(TRADES_QUEUED)}
    fine = "recomputed up to the newest fill"
    if waiting := sorted(behind & queued):
        names = ", ".join("/".join(contract) for contract in waiting)
        fine = f"a job waits that brings them up to the newest fill ({names}); a running desk does it"
    return told(
        "trades",
        sorted("/".join(contract) for contract in behind - queued),
        fine,
        "contracts whose trades are behind their fills, with no job to bring them up",
        "the next fill of the contract recomputes them; profit shown until then is old",
    )


async def _behind(reader: StoreConnection) -> set[tuple[str, str]]:
    return {(account, symbol) for account, symbol in await reader.query(TRADES_BEHIND, (LOOKED_AT,))}

"""A start reads what may still be told of or count today, and the position before it; never the whole history."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from engine.domain.fills import Fill
from engine.domain.orders import OrderState, Side
from engine.domain.positions import FLAT, Position, after_fill
from engine.domain.records import OrderChanged
from engine.persistence import reads
from engine.persistence.store import SqlStore
from tests.unit.persistence.samples import ACCOUNT, AT, SYMBOL, booked, fill, order, postgres_store, sqlite_store

HOUR = 3_600_000


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlStore]:
    if request.param == "sqlite":
        made = sqlite_store(tmp_path / "desk.db")
    else:
        made = postgres_store(request.getfixturevalue("postgres").emptied())
    await made.open()
    yield made
    await made.close()


async def traded(store: SqlStore, count: int) -> tuple[list[Fill], list[Position]]:
    """So many fills, an hour apart, buying two and selling one in turns; the fifth is of an order that still works."""
    working = order("works", state=OrderState.WORKING)
    await store.write(OrderChanged(order=working, event="accepted", at=AT))
    made, positions = [], [FLAT]
    for number in range(count):
        side, quantity = (Side.BUY, Decimal(2)) if number % 2 == 0 else (Side.SELL, Decimal(1))
        each = fill(f"x{number:03d}", side=side, quantity=quantity, at=AT + number * HOUR, price=Decimal(5000 + number))
        if number == 5:
            each = fill(each.key, of=working, side=side, at=each.at, price=each.price)
        positions.append(after_fill(positions[-1], each.signed, each.price).position)
        record = booked(each)
        store.record(record.__class__(fill=each, order=None, position=positions[-1], at=each.at))
        made.append(each)
    await store.settled()
    return made, positions


async def test_only_what_a_start_needs_is_read(store: SqlStore) -> None:
    made, positions = await traded(store, 60)
    before, fills = await store.start_fills(ACCOUNT, SYMBOL, made[50].at)
    assert fills == (made[5], *made[40:]), "the newest 20, and those of an order that still works"
    assert before == positions[50]
    before, fills = await store.start_fills(ACCOUNT, SYMBOL, made[10].at)
    assert fills == (made[5], *made[10:])
    assert before == positions[10]
    before, fills = await store.start_fills(ACCOUNT, SYMBOL, made[-1].at + 1)
    assert (before, fills) == (FLAT, (made[5], *made[40:]))
    assert await store.start_fills(ACCOUNT, SYMBOL, 0) == (FLAT, tuple(made))


async def test_the_fills_of_a_recent_order_come_whole(store: SqlStore) -> None:
    entry = order("parts", state=OrderState.FILLED, filled=Decimal(30), reported=Decimal(30))
    await store.write(OrderChanged(order=entry, event="filled", at=AT))
    parts = [fill(f"p{number:02d}", of=entry, at=AT + number) for number in range(30)]
    for number, part in enumerate(parts):
        store.record(booked(part, str(number + 1)))
    await store.settled()
    _, fills = await store.start_fills(ACCOUNT, SYMBOL, AT + HOUR)
    assert fills == tuple(parts)


async def test_a_corrected_fill_comes_in_its_newest_revision_only(store: SqlStore) -> None:
    made, _ = await traded(store, 3)
    corrected = fill("x002", side=Side.BUY, quantity=Decimal(3), at=made[2].at, revision=1)
    await store.write(booked(corrected))
    _, fills = await store.start_fills(ACCOUNT, SYMBOL, 0)
    assert fills == (*made[:2], corrected)


async def test_no_read_of_a_start_walks_a_table(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "desk.db")
    await store.open()
    await store.close()
    connection = sqlite3.connect(tmp_path / "desk.db")
    statements = (reads.START_FILLS, reads.POSITION_BEFORE, reads.POSITIONS, reads.LIVE_ORDERS, reads.ENTRIES_COMMITTED)
    for statement in statements:
        marks = statement.count("?")
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", (1,) * marks)]
        tables = ("fills", "orders", "positions", "intents", "f", "p", "b", "newest")
        walked = [step for step in plan if step.startswith("SCAN") and step.split()[1] in tables]
        allowed = {"SCAN newest"} if statement is reads.START_FILLS else set()  # twenty rows of its own
        assert set(walked) <= allowed, (statement, plan)
    connection.close()

"""How fast is the journal at a million rows? Each question of its screen, timed on the read-only connection.

    python -m tests.bench.journal [--rows N] [--postgres]

A million log lines (of them two in ten thousand overrides), 200,000 orders, 300,000 fills and 50,000 trades; the first
page, a page half way and one at the far end, the same with filter text that is common, rare or absent, and how long an
engine's own question on that connection waits beside a filter. Prints a table; tests/unit/persistence/test_million.py
holds the bounds.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from console.journal import SCAN
from engine.domain.ids import ClientOrderId
from engine.persistence.store import SqlStore
from engine.queries import (
    FillsPage,
    JournalAnswer,
    JournalPage,
    OrderLife,
    OrdersPage,
    TradesPage,
    TrailQuery,
)
from tests.postgres import Cluster, binaries, running_cluster
from tests.unit.persistence.samples import ACCOUNT, postgres_store, sqlite_store

MILLION = 1_000_000
BEGIN = 1_700_000_000_000
STEP_MS = 30_000
NEEDLE = "needle-in-the-hay"

NUMBERS = "WITH RECURSIVE n (i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
KIND = """CASE WHEN i % 5000 = 0 THEN 'override' WHEN i % 7000 = 1 THEN 'disagreement' WHEN i % 20 < 9 THEN 'order'
WHEN i % 20 < 13 THEN 'fill' WHEN i % 20 = 13 THEN 'decision' WHEN i % 20 = 14 THEN 'intent' WHEN i % 20 < 18
THEN 'position' ELSE 'balance' END"""


def statements(rows: int) -> tuple[str, ...]:
    """Rows of every listing, made by the database itself; the same words for both."""
    text = (
        "'accepted: entry BUY 2 ESZ6 limit 5000.25, working, filled 0 of 2 (signal ' || CAST(i AS TEXT) || ')' || "
        f"CASE WHEN i = 1000 THEN ' {NEEDLE}' ELSE '' END"
    )
    numbers = {count: NUMBERS.format(count=count) for count in (rows, rows // 5, rows * 3 // 10, rows // 20)}
    of_log, of_orders, of_fills, of_trades = numbers.values()
    return (
        f"INSERT INTO log (at, kind, session, subject, version, text) {of_log} SELECT {BEGIN} + i * {STEP_MS}, {KIND},"
        f" 'session-' || CAST(i % 20 AS TEXT), 'o-' || CAST(i / 5 AS TEXT), CAST(i AS TEXT), {text} FROM n",
        "INSERT INTO orders (client_id, decision_key, session, account, role, symbol, side, quantity, type, tif, state,"
        " created, updated, epoch, filled, reported, fees, linked, cancel_wanted, flags, reason, revision, is_live)"
        f" {of_orders} SELECT 'o-' || CAST(i AS TEXT), 'k', 'session-' || CAST(i % 20 AS TEXT), '{ACCOUNT}', 'entry',"
        f" 'ESZ6', 'buy', '2', 'market', 'DAY', 'filled', {BEGIN} + i * {STEP_MS}, {BEGIN} + i * {STEP_MS}, 1, '2',"
        f" '2', '0', 0, 0, '[]', CASE WHEN i = 1000 THEN '{NEEDLE}' ELSE '' END, 1, 0 FROM n",
        "INSERT INTO fills (account, fill_key, revision, session, symbol, client_id, broker_id, side, quantity, price,"
        f" at, fee, since_quantity, upto_quantity, booked) {of_fills} SELECT '{ACCOUNT}', 'x' || CAST(i AS TEXT), 0,"
        " 'session-' || CAST(i % 20 AS TEXT), 'ESZ6', 'o-' || CAST(i AS TEXT), 'b' || CAST(i AS TEXT), 'buy', '2',"
        f" CASE WHEN i = 1000 THEN '77777' ELSE '5000.25' END, {BEGIN} + i * {STEP_MS}, '1', '0', '2', 1 FROM n",
        "INSERT INTO trades (account, symbol, number, quantity, opened, closed, entry_price, exit_price, fees, profit,"
        f" sessions) {of_trades} SELECT '{ACCOUNT}', 'ESZ6', i, '2', {BEGIN}, {BEGIN} + i * {STEP_MS}, '5000', '5001',"
        " '1', CASE WHEN i = 1000 THEN '77777' ELSE '99' END, '[]' FROM n",
    )


@dataclass(frozen=True)
class Question:
    """One thing that the screen asks."""

    name: str
    query: TrailQuery


def questions(rows: int) -> tuple[Question, ...]:
    """First pages, deep ones, and filters; what is bounded by `scan` is one window of it."""
    deep, far = rows // 2, 500
    at = BEGIN + rows // 10 * STEP_MS
    return (
        Question("journal: first page", JournalPage()),
        Question("journal: half way down", JournalPage(before=deep)),
        Question("journal: the far end", JournalPage(before=far)),
        Question("overrides: first page", JournalPage(kinds=("override", "latch", "limit"))),
        Question("overrides: half way down", JournalPage(kinds=("override", "latch", "limit"), before=deep)),
        Question("filter, common word", JournalPage(text="accepted", scan=SCAN)),
        Question("filter, two words", JournalPage(text="esz6 session-7", scan=SCAN)),
        Question("filter, absent word: one window", JournalPage(text="absent", scan=SCAN)),
        Question("filter, overrides", JournalPage(kinds=("override",), text="absent", scan=SCAN)),
        Question("orders: first page", OrdersPage()),
        Question("orders: half way down", OrdersPage(before=(at, "o-0"))),
        Question("orders: filter, one window", OrdersPage(text="absent", scan=SCAN)),
        Question("fills: first page", FillsPage()),
        Question("fills: half way down", FillsPage(before=(at, 0))),
        Question("fills: filter, one window", FillsPage(text="absent", scan=SCAN)),
        Question("trades: first page", TradesPage()),
        Question("trades: filter, one window", TradesPage(text="absent", scan=SCAN)),
        Question("life of one order", OrderLife(ClientOrderId("o-5000"))),
        Question("export: a page of 1000", JournalPage(before=deep, limit=1000)),
    )


async def timed(
    store: SqlStore, query: TrailQuery, times: int = 5, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The median of a few answers, in milliseconds of that clock."""
    took = []
    for _ in range(times):
        began = clock()
        await store.answer(query)
        took.append((clock() - began) * 1e3)
    return sorted(took)[times // 2]


async def searched(store: SqlStore, text: str) -> tuple[float, int, int]:
    """A filter over everything, window by window: milliseconds, windows, lines found."""
    began, windows, found = time.perf_counter(), 0, 0
    before: int | None = None
    while True:
        answer = await store.answer(JournalPage(text=text, before=before, scan=SCAN))
        assert isinstance(answer, JournalAnswer)
        windows, found = windows + 1, found + len(answer.lines)
        if answer.reached is None:
            return (time.perf_counter() - began) * 1e3, windows, found
        before = answer.reached


async def beside_a_filter(store: SqlStore) -> float:
    """The worst wait of the engine's own small question while a filter runs, in milliseconds."""
    worst = 0.0
    search = asyncio.create_task(searched(store, "absent"))
    while not search.done():
        began = time.perf_counter()
        await store.open_orders(ACCOUNT)
        worst = max(worst, (time.perf_counter() - began) * 1e3)
    await search
    return worst


async def made_sqlite(path: Path, rows: int) -> SqlStore:
    """A SQLite desk with so many lines, opened."""
    store = sqlite_store(path)
    await store.open()
    await store.close()
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA synchronous = OFF")
    with raw:
        for statement in statements(rows):
            raw.execute(statement)
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    await store.open()
    return store


async def made_postgres(cluster: Cluster, folder: Path, rows: int) -> SqlStore:
    """The same on a server."""
    url = cluster.emptied()
    store = postgres_store(url, directory=folder)
    await store.open()
    raw = await asyncpg.connect(
        host=url.host, port=url.port, user=url.user, password=url.password, database=url.database
    )
    await raw.execute("SET search_path TO sextant")
    for statement in statements(rows):
        await raw.execute(statement)
    await raw.execute("ANALYZE")
    await raw.close()
    return store


async def measure(store: SqlStore, rows: int, say: str) -> None:
    """Print one line for each question."""
    for question in questions(rows):
        print(f"{say}  {question.name:<34} {await timed(store, question.query):>8.1f} ms")
    took, windows, found = await searched(store, NEEDLE)
    print(f"{say}  {'one line in all of it':<34} {took:>8.0f} ms, {windows} windows of {SCAN}, {found} found")
    print(f"{say}  {'engine question beside a filter':<34} {await beside_a_filter(store):>8.1f} ms at worst")


async def main(arguments: Sequence[str]) -> None:
    """Make the rows and ask."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.journal")
    parser.add_argument("--rows", type=int, default=MILLION)
    parser.add_argument("--postgres", action="store_true")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        store = await made_sqlite(Path(folder) / "desk.sqlite3", asked.rows)
        size = (Path(folder) / "desk.sqlite3").stat().st_size / 1e6
        print(f"SQLite: {asked.rows} lines made in {time.perf_counter() - began:.0f} s, {size:.0f} MB")
        await measure(store, asked.rows, "SQLite    ")
        await store.close()
        if asked.postgres and binaries() is not None:
            with contextmanager(running_cluster)() as cluster:
                store = await made_postgres(cluster, Path(folder) / "pg", asked.rows)
                await measure(store, asked.rows, "PostgreSQL")
                await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

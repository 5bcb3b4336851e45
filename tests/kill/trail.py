"""What the audit trail knows, read with plain SQL from either database, and whether its files are whole."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, TypeVar

import asyncpg

T = TypeVar("T")
Row = tuple[Any, ...]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class OrderRow:
    """One row of `orders`."""

    client_id: str
    key: str
    account: str
    session: str
    role: str
    symbol: str
    side: str
    quantity: Decimal
    type: str
    limit: Decimal | None
    stop: Decimal | None
    state: str
    broker_id: str | None
    filled: Decimal
    average_price: Decimal | None


@dataclass(frozen=True)
class FillRow:
    """One execution in its newest revision."""

    account: str
    key: str
    symbol: str
    client_id: str | None
    broker_id: str
    side: str
    quantity: Decimal
    price: Decimal
    at: int
    since: Decimal


@dataclass
class Trail:
    """The whole trail at one moment."""

    intents: list[tuple[str, str | None]] = field(default_factory=list)
    """(kind, client id)"""
    orders: dict[str, OrderRow] = field(default_factory=dict)
    fills: list[FillRow] = field(default_factory=list)
    positions: dict[tuple[str, str], tuple[Decimal, Decimal | None]] = field(default_factory=dict)
    disagreements: list[tuple[str, str, str, str, str, int]] = field(default_factory=list)
    """(kind, state, account, symbol, three values, is_open)"""
    trades: dict[tuple[str, str], tuple[Decimal, Decimal]] = field(default_factory=dict)
    """account and symbol: quantity of all round trips, and their profit before fees"""
    jobs: int = 0
    keys: frozenset[Key] = frozenset()
    """The natural keys of every committed intent, order event and fill."""


class Database(Protocol):
    """A database that can be read beside the desk, and looked through when nobody writes."""

    def query(self, *statements: str) -> list[list[Row]]:
        """Rows of each statement; table names are written `{}orders`."""

    def integrity(self) -> str:
        """`ok` and how that was found, or what is wrong."""


KEYS = (
    "SELECT key FROM {}intents",
    "SELECT client_id, revision FROM {}order_events",
    "SELECT account, fill_key, revision FROM {}fills",
)


def keys_in(database: Database) -> frozenset[Key]:
    """The natural keys that a reader sees committed now."""
    return _keys(database.query(*KEYS))


def _keys(found: list[list[Row]]) -> frozenset[Key]:
    return frozenset((table, *row) for table, rows in enumerate(found) for row in rows)


def read_trail(database: Database) -> Trail:
    """All of it, in one look."""
    *found, intents, orders, fills, positions, disagreements, trades, jobs = database.query(
        *KEYS,
        "SELECT kind, client_id FROM {}intents",
        "SELECT client_id, decision_key, account, session, role, symbol, side, quantity, type, limit_price, "
        "stop_price, state, broker_id, filled, average_price FROM {}orders",
        "SELECT account, fill_key, symbol, client_id, broker_id, side, quantity, price, at, since_quantity "
        "FROM {}fills ORDER BY revision",
        "SELECT account, symbol, quantity, average_price FROM {}positions ORDER BY number",
        "SELECT kind, state, account, symbol, memory || ' | ' || in_database || ' | ' || broker, is_open "
        "FROM {}disagreements",
        "SELECT account, symbol, quantity, profit, fees FROM {}trades",
        "SELECT count(*) FROM {}jobs",
    )
    trail = Trail(keys=_keys(found), jobs=int(jobs[0][0]), intents=[(row[0], row[1]) for row in intents])
    for client_id, key, account, session, role, symbol, side, size, kind, limit, stop, state, *rest in orders:
        broker_id, filled, average = rest
        trail.orders[client_id] = OrderRow(
            client_id, key, account, session, role, symbol, side, Decimal(size), kind, _number(limit), _number(stop),
            state, broker_id, Decimal(filled), _number(average),
        )  # fmt: skip
    newest: dict[tuple[str, str], FillRow] = {}
    for account, key, symbol, client_id, broker_id, side, quantity, price, at, since in fills:
        newest[account, key] = FillRow(
            account, key, symbol, client_id, broker_id, side, Decimal(quantity), Decimal(price), at, Decimal(since)
        )
    trail.fills = list(newest.values())
    for account, symbol, quantity, average in positions:
        trail.positions[account, symbol] = (Decimal(quantity), _number(average))
    trail.disagreements = [(row[0], row[1], row[2], row[3], row[4], int(row[5])) for row in disagreements]
    for account, symbol, quantity, profit, fees in trades:
        so_far, money = trail.trades.get((account, symbol), (Decimal(0), Decimal(0)))
        trail.trades[account, symbol] = (so_far + abs(Decimal(quantity)), money + Decimal(profit) + Decimal(fees))
    return trail


def _number(raw: str | None) -> Decimal | None:
    return None if raw is None else Decimal(raw)


class SqliteTrail:
    """A SQLite file, opened afresh for each look."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def query(self, *statements: str) -> list[list[Row]]:
        with sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=10) as database:
            database.execute("BEGIN")
            return [database.execute(statement.format("")).fetchall() for statement in statements]

    def integrity(self) -> str:
        with sqlite3.connect(self._path) as database:
            told = [row[0] for row in database.execute("PRAGMA integrity_check")]
            strays = database.execute("PRAGMA foreign_key_check").fetchall()
        if told == ["ok"] and not strays:
            return "ok: integrity_check, foreign_key_check"
        return f"{told[:5]} {strays[:5]}"


class PostgresTrail:
    """The desk's database on a server, over a connection of its own for each look."""

    def __init__(self, host: Path, port: int, user: str, name: str) -> None:
        self._where = {"host": str(host), "port": port, "user": user, "database": name, "timeout": 10}

    def _with(self, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        async def connected() -> T:
            raw = await asyncpg.connect(**self._where, command_timeout=60)
            try:
                return await work(raw)
            finally:
                await raw.close()

        return asyncio.run(connected())

    def query(self, *statements: str) -> list[list[Row]]:
        async def ask(raw: Any) -> list[list[Row]]:
            async with raw.transaction(isolation="repeatable_read", readonly=True):
                return [[tuple(row) for row in await raw.fetch(each.format("sextant."))] for each in statements]

        return self._with(ask)

    def integrity(self) -> str:
        """Ends with the extension in the database: for when no desk comes after."""

        async def look(raw: Any) -> str:
            tables = [row[0] for row in await raw.fetch(TABLES)]
            strays = await raw.fetchval(STRAYS)
            if strays:
                return f"{strays} order events without their order"
            try:
                await raw.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
            except asyncpg.PostgresError:
                await raw.execute(
                    "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off"
                )
                counted = [await raw.fetch(f"SELECT * FROM {table}") for table in tables]
                return f"ok: {len(counted)} tables read whole (no amcheck here)"
            damage = [str(row) for table in tables for row in await raw.fetch(HEAP, table)]
            if damage:
                return f"verify_heapam: {damage[:5]}"
            indexes = [row[0] for row in await raw.fetch(INDEXES)]
            try:
                for index in indexes:
                    await raw.execute(f"SELECT bt_index_check('{index}'::regclass, true)")
            except asyncpg.PostgresError as error:
                return f"bt_index_check: {error}"
            return f"ok: amcheck of {len(tables)} tables, {len(indexes)} indexes"

        return self._with(look)


TABLES = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'sextant'"
STRAYS = (
    "SELECT count(*) FROM sextant.order_events e LEFT JOIN sextant.orders o USING (client_id) WHERE o.client_id IS NULL"
)
HEAP = "SELECT * FROM verify_heapam($1::text::regclass)"
INDEXES = (
    "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_am a ON a.oid = c.relam WHERE n.nspname = 'sextant' AND c.relkind = 'i' AND a.amname = 'btree'"
)

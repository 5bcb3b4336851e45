"""Databases as older programs left them: every step up to a version, and two rows in each table of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import asyncpg

from engine.domain.postgres_url import PostgresUrl
from engine.persistence import migrate, postgres_guard, sqlite_file
from engine.persistence.postgres_session import numbered

# What a column takes besides "1" and "2" (valid text, number and JSON alike): a constraint's words, a reference.
WORDS = {
    ("intents", "kind"): ("submit", "cancel"),
    ("intents", "origin"): ("desk", "journal"),
    ("jobs", "state"): ("pending", "running"),
}
OURS = ("sextant", "migrations")
Row = dict[str, Any]
Rows = dict[str, list[Row]]


def two_rows(table: str, columns: Iterable[tuple[str, bool, bool]]) -> list[Row]:
    """One row with every column set, one with NULL wherever it may be; columns are (name, is text, may be NULL)."""
    full, sparse = {}, {}
    for name, is_text, may_be_null in columns:
        first, second = WORDS.get((table, name), ("1", "2") if is_text else (1, 2))
        full[name] = first
        sparse[name] = None if may_be_null else second
    return [full, sparse]


def _insert(table: str, row: Row) -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' for _ in row)})"


# ------------------------------------------------------------------------------------------------ SQLite


def sqlite_tables(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rootpage"
    )
    return [name for (name,) in found if name not in OURS]


def sqlite_at(path: Path, version: int) -> None:
    """A database of that schema with rows in every table, closed."""
    sqlite_file.create(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    for step in migrate.migrations()[:version]:
        for statement, values in migrate.transaction_of(step, 0):
            connection.execute(statement, values)
    connection.execute(f"PRAGMA user_version = {version}")
    for table in sqlite_tables(connection):
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        # a whole-number primary key may be NULL by its declaration and never is
        kinds = [(name, kind == "TEXT", not (required or key)) for _, name, kind, required, _, key in columns]
        for row in two_rows(table, kinds):
            connection.execute(_insert(table, row), tuple(row.values()))
    connection.close()


def sqlite_rows(path: Path) -> Rows:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    plain = sqlite3.connect(path)
    rows = {
        table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
        for table in sqlite_tables(plain)
    }
    connection.close()
    plain.close()
    return rows


def sqlite_schema(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()
    schema += connection.execute("PRAGMA user_version").fetchall()
    schema += connection.execute("SELECT version, name FROM migrations ORDER BY 1").fetchall()
    connection.close()
    return schema


# -------------------------------------------------------------------------------------------- PostgreSQL


async def connected(url: PostgresUrl) -> Any:
    return await asyncpg.connect(
        host=url.host, port=url.port, user=url.user, password=url.password, database=url.database,
        server_settings={"search_path": "sextant"}, timeout=10, command_timeout=20,
    )  # fmt: skip


COLUMNS = """
SELECT table_name, column_name, data_type = 'text', is_nullable = 'YES' FROM information_schema.columns
WHERE table_schema = 'sextant' AND is_identity = 'NO' ORDER BY table_name, ordinal_position
"""
SCHEMA = """
SELECT 'column', table_name || '.' || column_name, data_type || ' ' || is_nullable || ' ' || is_identity || ' '
    || coalesce(column_default, '') || ' ' || coalesce(collation_name, '')
FROM information_schema.columns WHERE table_schema = 'sextant'
UNION ALL SELECT 'index', indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'sextant'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'sextant'::regnamespace
ORDER BY 1, 2
"""


async def postgres_at(url: PostgresUrl, version: int) -> None:
    """A database of that schema with rows in every table."""
    raw = await connected(url)
    for statement in (postgres_guard.MAKE_SCHEMA, *postgres_guard.FOUNDATION):
        await raw.execute(statement)
    for step in migrate.migrations(migrate.POSTGRES)[:version]:
        for sql, values in migrate.transaction_of(step, 0):
            await raw.execute(numbered(sql), *values)
    columns: dict[str, list[tuple[str, bool, bool]]] = {}
    for table, name, is_text, may_be_null in await raw.fetch(COLUMNS):
        if table not in OURS:
            columns.setdefault(table, []).append((name, is_text, may_be_null))
    for table in sorted(columns, key=lambda name: (name != "orders", name)):  # what is referred to comes first
        for row in two_rows(table, columns[table]):
            await raw.execute(numbered(_insert(table, row)), *row.values())
    await raw.close()


async def postgres_rows(url: PostgresUrl) -> Rows:
    raw = await connected(url)
    names = [row[0] for row in await raw.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'sextant'")]
    rows = {
        table: [dict(row) for row in await raw.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")]
        for table in names
        if table not in OURS
    }
    await raw.close()
    return rows


async def postgres_schema(url: PostgresUrl) -> list[Any]:
    raw = await connected(url)
    found = [tuple(row) for row in await raw.fetch(SCHEMA)]
    found += [tuple(row) for row in await raw.fetch("SELECT version, name FROM migrations ORDER BY 1")]
    await raw.close()
    return found


def survived(before: Rows, after: Rows) -> None:
    """Every row is still there, with every column that it still has."""
    assert before.keys() <= after.keys()
    for table, rows in before.items():
        kept = [{name: row[name] for name in rows[0] if name in row} for row in after[table]] if rows else []
        wanted = [{name: row[name] for name in rows[0] if name in after[table][0]} for row in rows] if rows else []
        assert kept == wanted, table


def with_a_step(folder: Path, of: Path, script: str) -> Path:
    """A folder of steps with one more, as a later program would have it."""
    folder.mkdir(parents=True)
    for path in of.glob("*.sql"):
        (folder / path.name).write_text(path.read_text("utf-8"), "utf-8")
    (folder / f"{len(list(of.glob('*.sql'))) + 1:04d}_tomorrow.sql").write_text(script, "utf-8")
    return folder

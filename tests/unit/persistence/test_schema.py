"""what_we_keep.md and the schema say the same; paging is an index's work."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from engine.persistence import migrate, sqlite_file

PAGE = migrate.FOLDER.parent / "what_we_keep.md"


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    sqlite_file.create(tmp_path / "desk.db")
    connection = sqlite3.connect(tmp_path / "desk.db", isolation_level=None)
    for step in migrate.migrations():
        for statement, values in migrate.transaction_of(step, 0):
            connection.execute(statement, values)
    return connection


def test_what_we_keep_lists_every_table_and_no_other(database: sqlite3.Connection) -> None:
    described = re.findall(r"^\| `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    assert sorted(described) == sorted(name for (name,) in rows)


def test_nothing_that_can_be_recomputed_has_a_table(database: sqlite3.Connection) -> None:
    columns = {
        column[1]
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for column in database.execute(f"PRAGMA table_info({table})")
    }
    assert columns.isdisjoint({"heat", "open", "high", "low", "close", "volume", "bid", "ask", "password", "token"})


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM log WHERE number < 9 ORDER BY number DESC LIMIT 5",
        "SELECT * FROM log WHERE session = 's' AND number < 9 ORDER BY number DESC LIMIT 5",
        "SELECT * FROM orders WHERE (created, client_id) < (1, 'a') ORDER BY created DESC, client_id DESC LIMIT 5",
        "SELECT * FROM orders WHERE account = 'a' AND is_live = 1 ORDER BY created, client_id",
        "SELECT * FROM fills WHERE at < 9 ORDER BY at DESC, number DESC LIMIT 5",
        "SELECT * FROM log WHERE subject = 's' ORDER BY number",
        "SELECT * FROM daily_pnl ORDER BY day DESC, account, symbol LIMIT 5",
    ],
)
def test_pages_walk_an_index(database: sqlite3.Connection, statement: str) -> None:
    plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert any("USING" in step for step in plan), plan
    assert not any(step.startswith("SCAN") and "USING" not in step for step in plan), plan
    if "subject" not in statement:
        assert not any("TEMP B-TREE" in step for step in plan), plan

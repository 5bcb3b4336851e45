"""The contract of the seam beneath the store, run over every database the product supports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.errors import DuplicateKey, StoreUnavailable
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.connection import Connections, Database, RowRefused
from engine.persistence.postgres_database import PostgresDatabase
from engine.persistence.sqlite_database import SqliteDatabase
from engine.ports import StoreConnection

PUT = "INSERT INTO limits (name, percent, at, set_by, reason) VALUES (?, ?, ?, ?, ?)"


def row(name: str) -> tuple[object, ...]:
    return (name, "1", 1, "ann", "")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    clock = SystemClock()
    blocking = ThreadBlocking(clock)
    if request.param == "sqlite":
        return SqliteDatabase(tmp_path / "desk" / "sextant.db", clock, blocking)
    url = request.getfixturevalue("postgres").emptied()
    return PostgresDatabase(url, clock, blocking, directory=tmp_path / "desk")


@pytest.fixture
async def opened(database: Database) -> AsyncIterator[Connections]:
    yield await database.open()
    await database.close()


@pytest.fixture
def writer(opened: Connections) -> StoreConnection:
    assert opened.writer is not None
    return opened.writer


async def names(opened: Connections) -> list[str]:
    return [name for (name,) in await opened.reader.query("SELECT name FROM limits ORDER BY name")]


async def test_a_transaction_is_whole_and_counts_rows(opened: Connections, writer: StoreConnection) -> None:
    counts = await writer.transact(
        [(PUT, row("a")), (PUT, row("b")), ("UPDATE limits SET at = ? WHERE at = ?", (2, 1)), ("DELETE FROM log", ())]
    )
    assert counts == [1, 1, 2, 0]
    assert await names(opened) == ["a", "b"]


async def test_a_taken_key_rolls_everything_back(opened: Connections, writer: StoreConnection) -> None:
    await writer.transact([(PUT, row("a"))])
    with pytest.raises(DuplicateKey):
        await writer.transact([(PUT, row("b")), (PUT, row("a"))])
    assert await names(opened) == ["a"]


BAD = [("b", "1", None, "ann", ""), ("b", "1", 2**70, "ann", ""), row("\ud800")]


@pytest.mark.parametrize("bad", BAD, ids=["null", "too large", "no text"])
async def test_a_row_that_cannot_be_is_refused_and_rolled_back(
    opened: Connections, writer: StoreConnection, bad: tuple[object, ...]
) -> None:
    with pytest.raises(RowRefused):
        await writer.transact([(PUT, row("a")), (PUT, bad)])
    assert await names(opened) == []
    await writer.transact([(PUT, row("c"))])
    assert await names(opened) == ["c"]


async def test_a_value_of_the_wrong_kind_is_refused(opened: Connections, writer: StoreConnection) -> None:
    with pytest.raises(RowRefused):
        await writer.transact([(PUT, ("a", "1", object(), "ann", ""))])
    assert await names(opened) == []


async def test_marks_in_values_and_literals_are_only_text(opened: Connections, writer: StoreConnection) -> None:
    await writer.transact([("UPDATE limits SET reason = '?' WHERE name = ? AND reason <> '$1'", ("a",))])
    await writer.transact([(PUT, row("what? $1 '?'"))])
    assert await names(opened) == ["what? $1 '?'"]


async def test_foreign_keys_are_enforced(writer: StoreConnection) -> None:
    columns = "(client_id, revision, at, event, state, filled, detail)"
    event = f"INSERT INTO order_events {columns} VALUES (?, 0, 0, '', '', '', '')"
    with pytest.raises(RowRefused):
        await writer.transact([(event, ("nobody",))])


async def test_the_reader_cannot_write(opened: Connections) -> None:
    with pytest.raises(StoreUnavailable):
        await opened.reader.query(PUT, row("a"))
    with pytest.raises(StoreUnavailable):
        await opened.reader.transact([(PUT, row("a"))])
    assert await names(opened) == []


async def test_a_wrong_question_is_unavailable_not_a_crash(opened: Connections) -> None:
    with pytest.raises(StoreUnavailable):
        await opened.reader.query("SELECT nothing FROM nowhere")


async def test_a_closed_connection_says_so(opened: Connections, writer: StoreConnection) -> None:
    await writer.close()
    await writer.close()
    with pytest.raises(StoreUnavailable):
        await writer.transact([(PUT, row("a"))])
    with pytest.raises(StoreUnavailable):
        await writer.query("SELECT 1")

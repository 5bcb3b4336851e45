"""A SQLite connection that cannot be trusted any more is opened anew; a broken file costs no row and is told."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine.clock import SystemClock
from engine.errors import CommitUnknown, StoreError, StoreUnavailable
from engine.persistence import sqlite, writer
from engine.persistence.connection import RowRefused
from engine.persistence.sqlite import SqliteConnection
from engine.ports import Committed
from tests.unit.persistence.samples import override, sqlite_store, submit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "desk.db"
    with sqlite3.connect(made) as database:
        database.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (a INTEGER NOT NULL)")
    return made


async def opened(path: Path) -> SqliteConnection:
    connection = SqliteConnection(path, SystemClock())
    await connection.open()
    return connection


async def count(connection: SqliteConnection) -> int:
    return int((await connection.query("SELECT count(*) FROM t"))[0][0])


class Failing:
    """Makes statements fail as SQLite would, so many times each."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fail: dict[str, list[int]] = {}
        real = sqlite3.Connection.execute

        def execute(connection: Any, sql: str, parameters: Any = ()) -> Any:
            codes = self.fail.get(sql.split(" ")[0])
            if codes:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = codes.pop()
                raise error
            return real(connection, sql, parameters)

        # what _OneHop calls as super().execute
        base = type("Connection", (sqlite3.Connection,), {"execute": execute})
        made = type("_OneHop", (sqlite._OneHop, base), {})
        patch.setattr(sqlite, "_OneHop", made)


PUT = ("INSERT INTO t VALUES (?)", (1,))
BAD = ("INSERT INTO t VALUES (?)", (None,))


async def test_p4_a_rollback_that_fails_spoils_only_its_own_transaction(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(monkeypatch)
    connection = await opened(path)
    failing.fail["ROLLBACK"] = [sqlite3.SQLITE_IOERR]
    with pytest.raises(RowRefused):
        await connection.transact([PUT, BAD])
    assert await connection.transact([PUT]) == [1]
    assert await count(connection) == 1
    await connection.close()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (sqlite3.SQLITE_IOERR, CommitUnknown),
        (sqlite3.SQLITE_CORRUPT, CommitUnknown),
        (sqlite3.SQLITE_FULL, StoreUnavailable),
        (sqlite3.SQLITE_BUSY, StoreUnavailable),
    ],
)
async def test_a_commit_that_fails_says_what_is_known_and_blames_no_row(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[StoreError]
) -> None:
    failing = Failing(monkeypatch)
    connection = await opened(path)
    failing.fail["COMMIT"] = [code]
    with pytest.raises(error) as raised:
        await connection.transact([PUT])
    assert raised.value.machine
    assert await connection.transact([PUT]) == [1]
    assert await count(connection) == 1
    await connection.close()


def _move_away(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def _put_a_copy(path: Path) -> None:
    path.write_bytes(path.with_name("moved.db").read_bytes())


async def test_a_connection_made_anew_still_refuses_another_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Failing(monkeypatch)
    connection = await opened(path)
    await connection.transact([PUT])
    failing.fail["INSERT"] = [sqlite3.SQLITE_IOERR]
    with pytest.raises(StoreUnavailable):
        await connection.transact([PUT])
    _move_away(path)
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        await connection.transact([PUT])
    _put_a_copy(path)
    with pytest.raises(StoreUnavailable, match="replaced by another file"):
        await connection.transact([PUT])
    await connection.close()


async def test_a_malformed_file_is_told_keeps_every_row_waiting_and_is_used_again_once_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LONGEST_REST_SECONDS", 0.02)
    file = tmp_path / "desk.db"
    store = sqlite_store(file)
    await store.open()
    assert await store.commit(submit()) == Committed()
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    whole = file.read_bytes()
    with file.open("r+b") as broken:
        broken.seek(4096)
        broken.write(os.urandom(len(whole) - 4096))
    with pytest.raises(StoreError, match="malformed"):
        await store.commit(submit("b"))
    store.record(override("kept"))

    async def waits_again() -> None:
        """The row stands in the queue between two tries; in the middle of one it is in the writer's hand."""
        for _ in range(10_000):
            if store.health().waiting and not store.health().ok:
                return
            await asyncio.sleep(0.001)
        raise AssertionError("the row does not wait any more")

    await waits_again()
    await asyncio.sleep(0.3)  # many tries: none of them holds it against the row
    await waits_again()
    health = store.health()
    assert (health.ok, health.waiting, health.failed) == (False, 1, 0)
    assert "malformed" in health.detail
    with file.open("r+b") as mended:
        mended.write(whole)
    await asyncio.wait_for(store.settled(), 60)
    assert store.health().ok
    assert await store.commit(submit("b")) == Committed()
    await store.close()

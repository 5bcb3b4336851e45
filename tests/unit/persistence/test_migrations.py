"""From every older schema to the newest, with rows in every table: nothing is lost, nothing is half done."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.domain.postgres_url import PostgresUrl
from engine.errors import DeskUnusable, StoreError
from engine.persistence import migrate, sqlite_copy
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.migrate import newest_version
from engine.persistence.upkeep import Kept, Upgraded, upgrade
from tests.postgres import Cluster
from tests.unit.persistence.older import (
    postgres_at,
    postgres_rows,
    postgres_schema,
    sqlite_at,
    sqlite_rows,
    sqlite_schema,
    survived,
    with_a_step,
)
from tests.unit.persistence.samples import one_of_each, postgres_store, sqlite_store

VERSIONS = range(newest_version() + 1)
TOMORROW = "ALTER TABLE log ADD COLUMN mood TEXT;\nCREATE INDEX log_by_mood ON log (mood);\n"
WRONG = "ALTER TABLE log ADD COLUMN mood TEXT;\nDELETE FROM fills;\nINSERT INTO nowhere VALUES (1);\n"


def files_in(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def desk(database: Path | PostgresUrl, state: Path) -> Kept:
    return Kept(database, state, state / "journal", state / "KILL")


async def upgraded(of: Kept) -> Upgraded:
    clock = SystemClock()
    return await upgrade(of, clock, ThreadBlocking(clock))


def a_later_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    monkeypatch.setattr(migrate, "SQLITE", with_a_step(tmp_path / "steps" / "lite", migrate.SQLITE, script))
    server = with_a_step(tmp_path / "steps" / "pg", migrate.POSTGRES, script)
    monkeypatch.setattr("engine.persistence.postgres_guard.POSTGRES", server)


# ------------------------------------------------------------------------------------------------ SQLite


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_older_file_is_upgraded_with_its_rows(tmp_path: Path, version: int) -> None:
    path = tmp_path / "desk.db"
    sqlite_at(path, version)
    before, schema_before = sqlite_rows(path), sqlite_schema(path)
    did = await upgraded(desk(path, tmp_path))
    assert (did.before, did.after) == (version, newest_version())
    survived(before, sqlite_rows(path))
    fresh = sqlite_store(tmp_path / "fresh" / "desk.db")
    await fresh.open()
    await fresh.close()
    assert sqlite_schema(path) == sqlite_schema(tmp_path / "fresh" / "desk.db")
    copies = files_in(tmp_path, "*.backup")
    assert copies == ([did.copy] if 0 < version < newest_version() else [])
    for copy in copies:
        assert (sqlite_rows(copy), sqlite_schema(copy)) == (before, schema_before)
    store = sqlite_store(path)
    await store.open()
    for record in one_of_each():
        await store.write(record)
    await store.close()


async def test_a_step_of_tomorrow_sets_a_copy_aside_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "desk.db"
    sqlite_at(path, newest_version())
    before, schema_before = sqlite_rows(path), sqlite_schema(path)
    a_later_program(monkeypatch, tmp_path, TOMORROW)
    old = os.umask(0)
    try:
        did = await upgraded(desk(path, tmp_path))
    finally:
        os.umask(old)
    assert (did.before, did.after) == (newest_version() - 1, newest_version())
    survived(before, sqlite_rows(path))
    assert sqlite_rows(path)["log"][0]["mood"] is None
    assert did.copy is not None
    assert did.copy.name.startswith(f"desk.db.schema-{did.before}.20")
    assert stat.S_IMODE(did.copy.stat().st_mode) == 0o600
    assert (sqlite_rows(did.copy), sqlite_schema(did.copy)) == (before, schema_before)
    assert files_in(tmp_path, ".desk*") == []
    assert await upgraded(desk(path, tmp_path)) == Upgraded(newest_version(), newest_version(), None)
    assert files_in(tmp_path, "*.backup") == [did.copy]


async def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "desk.db"
    sqlite_at(path, 0)  # so that steps that work stand before the one that does not
    before, schema_before = sqlite_rows(path), sqlite_schema(path)
    a_later_program(monkeypatch, tmp_path, WRONG)
    with pytest.raises(DeskUnusable, match="no such table: nowhere"):
        await upgraded(desk(path, tmp_path))
    assert (sqlite_rows(path), sqlite_schema(path)) == (before, schema_before)


async def test_a_reader_of_an_older_file_is_sent_to_the_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_at(tmp_path / "desk.db", newest_version())
    a_later_program(monkeypatch, tmp_path, TOMORROW)
    with pytest.raises(DeskUnusable, match="upgrade it with `sextant db upgrade`"):
        await sqlite_store(tmp_path / "desk.db", read_only=True).open()


async def test_an_upgrade_beside_a_running_desk_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = sqlite_store(tmp_path / "desk.db")
    await running.open()
    a_later_program(monkeypatch, tmp_path, TOMORROW)
    with pytest.raises(DeskUnusable, match=rf"Another desk \(process {os.getpid()}\) uses"):
        await upgraded(desk(tmp_path / "desk.db", tmp_path))
    await running.close()
    assert files_in(tmp_path, "*.backup") == []


async def test_without_room_for_a_copy_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "desk.db"
    sqlite_at(path, newest_version())
    before = path.read_bytes()
    a_later_program(monkeypatch, tmp_path, TOMORROW)
    monkeypatch.setattr(sqlite_copy, "ROOM", 1e12)
    with pytest.raises(DeskUnusable, match="has no room for one"):
        await upgraded(desk(path, tmp_path))
    assert path.read_bytes() == before


async def test_a_damaged_file_is_not_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "desk.db"
    sqlite_at(path, newest_version())
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = DELETE")
    ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'fills'").fetchall()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096 + 8)
        file.write(b"\xff" * 64)
    before = path.read_bytes()
    a_later_program(monkeypatch, tmp_path, TOMORROW)
    with pytest.raises(DeskUnusable, match=r"the copy is damaged|malformed"):
        await upgraded(desk(path, tmp_path))
    assert files_in(tmp_path, "*.backup") == []
    assert path.read_bytes()[100:] == before[100:], "no row was touched"


async def test_there_is_nothing_to_upgrade_where_no_desk_is(tmp_path: Path) -> None:
    with pytest.raises(DeskUnusable, match="There is no database"):
        await upgraded(desk(tmp_path / "desk.db", tmp_path))
    assert files_in(tmp_path, "*") == []


# -------------------------------------------------------------------------------------------- PostgreSQL


@pytest.mark.postgres
@pytest.mark.parametrize("version", VERSIONS)
async def test_every_older_database_is_upgraded_with_its_rows(postgres: Cluster, tmp_path: Path, version: int) -> None:
    url = postgres.database()
    await postgres_at(url, version)
    before = await postgres_rows(url)
    did = await upgraded(desk(url, tmp_path))
    assert did == Upgraded(version, newest_version(), None)
    survived(before, await postgres_rows(url))
    other = postgres.database()
    fresh = postgres_store(other)
    await fresh.open()
    await fresh.close()
    assert await postgres_schema(url) == await postgres_schema(other)
    store = postgres_store(url)
    await store.open()
    for record in one_of_each():
        await store.write(record)
    await store.close()


@pytest.mark.postgres
async def test_a_step_of_tomorrow_on_a_server(
    postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.database()
    await postgres_at(url, newest_version())
    before, schema_before = await postgres_rows(url), await postgres_schema(url)
    with monkeypatch.context() as wrong:
        a_later_program(wrong, tmp_path / "wrong", WRONG)
        with pytest.raises((DeskUnusable, StoreError)):
            await upgraded(desk(url, tmp_path))
    assert (await postgres_rows(url), await postgres_schema(url)) == (before, schema_before)
    running = postgres_store(url)
    await running.open()
    a_later_program(monkeypatch, tmp_path, TOMORROW)
    with pytest.raises(DeskUnusable, match=rf"Another desk \(sextant process {os.getpid()} on "):
        await upgraded(desk(url, tmp_path))
    await running.close()
    with pytest.raises(DeskUnusable, match="upgrade it with `sextant db upgrade`"):
        await postgres_store(url, read_only=True).open()
    did = await upgraded(desk(url, tmp_path))
    assert did.after == did.before + 1 == newest_version()
    survived(before, await postgres_rows(url))
    assert (await upgraded(desk(url, tmp_path))).before == newest_version()

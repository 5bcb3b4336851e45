"""`db check`: a sound desk is well, and each kind of harm is found, named, and comes with a way out."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.clock import SystemClock
from engine.domain.findings import Finding
from engine.domain.ids import DecisionKey
from engine.domain.intents import Prepared
from engine.domain.orders import Flag, Order, OrderState
from engine.domain.positions import Position
from engine.domain.postgres_url import PostgresUrl
from engine.domain.records import LatchKind, LatchSet, OrderChanged, PositionRecorded
from engine.persistence import check_postgres, check_rows
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.check import examine
from engine.persistence.intent_journal import NEXT, frame
from engine.persistence.kept import Kept
from engine.persistence.migrate import newest_version
from engine.persistence.store import SqlStore
from tests.postgres import Cluster
from tests.unit.persistence.older import sqlite_at
from tests.unit.persistence.samples import (
    ACCOUNT,
    AT,
    SESSION,
    SYMBOL,
    booked,
    cancel,
    fill,
    order,
    postgres_store,
    sqlite_store,
    submit,
)

ROWS = ("orders and their events", "orders and their fills", "intents and their orders",
        "live orders and their intents", "fills and their orders", "positions and fills", "trades",
        "background jobs")  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_rows, "SECOND_LOOK_SECONDS", 0.0)


def desk_at(database: Path | PostgresUrl, state: Path) -> Kept:
    return Kept(database, state, state / "journal", state / "KILL")


async def looked_at(desk: Kept) -> dict[str, Finding]:
    clock = SystemClock()
    found = await examine(desk, clock, ThreadBlocking(clock))
    for each in found:
        assert each.ok or each.way_out, each
        assert "\n" not in each.detail
    assert len({each.check for each in found}) == len(found)
    return {each.check: each for each in found}


def files_in(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def wrong(found: dict[str, Finding]) -> list[str]:
    return [name for name, each in found.items() if not each.ok]


async def a_life(store: SqlStore) -> None:
    """An entry with a leg, filled in two parts, corrected and partly busted; an adopted order; a cancel; a job."""
    await store.open()
    intent = submit("a")
    leg = order("a-leg", parent=intent.order.client_id, key=DecisionKey(f"{SESSION}/a/entry/0/stop"))
    await store.commit(msgspec.structs.replace(intent, legs=(leg,)))
    working = moved(intent.order, state=OrderState.WORKING)
    await store.write(OrderChanged(order=working, event="accepted", at=AT))
    part = moved(working, filled=Decimal("0.1"), state=OrderState.PARTIALLY_FILLED)
    first = fill("x1", of=part, quantity=Decimal("0.1"), upto=Decimal("0.1"))
    await store.write(booked(first, "0.1", part))
    more = moved(part, filled=Decimal("0.3"))
    second = fill("x2", of=more, quantity=Decimal("0.2"), since=Decimal("0.1"), upto=Decimal("0.3"))
    await store.write(booked(second, "0.3", more))
    busted = moved(more, filled=Decimal("0.2"))
    await store.write(booked(msgspec.structs.replace(first, revision=1, quantity=Decimal(0)), "0.2", busted))
    await store.write(adopted(Decimal(5)))
    foreign = order("f", flags=frozenset({Flag.EXTERNAL}), state=OrderState.PARTIALLY_FILLED, filled=Decimal(5))
    await store.write(OrderChanged(order=foreign, event="adopted", at=AT))
    await store.write(booked(fill("x3", of=foreign, quantity=Decimal(5)), "5", foreign))
    await store.commit(cancel(busted))
    await store.close()


def moved(before: Order, **changes: Any) -> Order:
    return msgspec.structs.replace(before, revision=before.revision + 1, **changes)


def adopted(quantity: Decimal) -> PositionRecorded:
    position = Position(quantity, Decimal(5000))
    return PositionRecorded(account=ACCOUNT, symbol=SYMBOL, session=SESSION, position=position, cause="adopted", at=AT)


# ----------------------------------------------------------------------------------- rows, both databases

Change = Callable[[str], None]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Kept, Change]:
    """A desk with a life behind it, and a way to do harm to its rows."""
    if request.param == "sqlite":
        path = tmp_path / "state" / "desk.db"
        asyncio.run(a_life(sqlite_store(path)))

        def change(sql: str) -> None:
            connection = sqlite3.connect(path)
            connection.executescript(sql)
            connection.close()

        return desk_at(path, tmp_path / "state"), change
    cluster: Cluster = request.getfixturevalue("postgres")
    url = cluster.emptied()
    asyncio.run(a_life(postgres_store(url, directory=tmp_path / "state")))

    def change_there(sql: str) -> None:
        for statement in sql.split(";"):
            quiet = f"SET LOCAL session_replication_role = replica; SET LOCAL search_path = sextant; {statement}"
            cluster.sql(f"DO $do$ BEGIN {quiet}; END $do$", url.database)

    return desk_at(url, tmp_path / "state"), change_there


async def test_a_sound_desk_is_well(either: tuple[Kept, Change]) -> None:
    found = await looked_at(either[0])
    assert wrong(found) == []
    assert set(ROWS) < set(found)
    assert "a job waits" in found["trades"].detail


A, LEG = order("a").client_id, order("a-leg").client_id
HARM = [
    ("orders and their events", f"UPDATE orders SET revision = 9 WHERE client_id = '{A}'"),
    ("orders and their events", f"UPDATE orders SET state = 'filled' WHERE client_id = '{A}'"),
    ("orders and their events", f"DELETE FROM order_events WHERE client_id = '{LEG}'"),
    ("orders and their events", "INSERT INTO order_events SELECT client_id, 99, at, event, state, filled, detail "
        f"FROM order_events WHERE client_id = '{LEG}'"),
    ("orders and their fills", f"UPDATE orders SET filled = '0.20000000001' WHERE client_id = '{A}'; "
        f"UPDATE orders SET filled = '0.21' WHERE client_id = '{A}'; "
        f"UPDATE order_events SET filled = '0.21' WHERE client_id = '{A}'"),
    ("intents and their orders", "UPDATE intents SET client_id = 'nobody' WHERE kind = 'cancel'"),
    ("live orders and their intents", "DELETE FROM intents WHERE kind = 'submit'"),
    ("live orders and their intents", "UPDATE intents SET kind = 'tombstone' WHERE kind = 'submit'"),
    ("fills and their orders", "UPDATE fills SET client_id = 'nobody' WHERE fill_key = 'x3'"),
    ("positions and fills", "UPDATE positions SET quantity = '7' WHERE version = 'fill x2 0'"),
    ("positions and fills", "DELETE FROM positions WHERE version = 'fill x2 0'"),
    ("trades", "DELETE FROM jobs"),
    ("background jobs", "UPDATE jobs SET state = 'dead', error = 'KeyError: ESZ5'"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "harm"), HARM)
async def test_harm_is_found(either: tuple[Kept, Change], check: str, harm: str) -> None:
    desk, change = either
    change(harm)
    found = await looked_at(desk)
    assert check in wrong(found), found


async def test_the_latch_has_two_halves(either: tuple[Kept, Change]) -> None:
    desk, change = either
    desk.latch.write_text("enough\n")
    desk.latch.chmod(0o600)
    assert "the row is not" in (await looked_at(desk))["kill latch"].detail
    held = LatchSet(session=None, kind=LatchKind.KILL, held=True, reason="r", at=AT, by="ann")
    change(f"INSERT INTO latches VALUES ('', '{held.kind.value}', 1, 'r', 1, 'ann', NULL)")
    assert (await looked_at(desk))["kill latch"].detail.startswith("set, by file and row")
    desk.latch.unlink()
    assert "the file is not there" in (await looked_at(desk))["kill latch"].detail


async def test_beside_a_running_desk(tmp_path: Path) -> None:
    running = sqlite_store(tmp_path / "state" / "desk.db")
    await running.open()
    await running.commit(submit("b"))
    assert wrong(await looked_at(desk_at(tmp_path / "state" / "desk.db", tmp_path / "state"))) == []
    await running.commit(submit("c"))
    await running.close()


# ------------------------------------------------------------------------------------------- the SQLite file


@pytest.fixture
def desk(tmp_path: Path) -> Kept:
    path = tmp_path / "state" / "desk.db"
    asyncio.run(a_life(sqlite_store(path)))
    return desk_at(path, tmp_path / "state")


@pytest.mark.parametrize("table", ["fills", "orders", "log", "sextant", "migrations"])
async def test_a_damaged_page_is_a_sentence(desk: Kept, table: str) -> None:
    assert desk.file is not None
    connection = sqlite3.connect(desk.file)
    ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    connection.close()
    with desk.file.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 512)
    found = await looked_at(desk)
    broken = [found[name] for name in wrong(found)]
    assert any("damaged" in each.detail for each in broken), broken
    assert "kill latch" in found


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 and then nonsense" * 20, b"hello"])
async def test_what_is_no_database_of_ours_is_a_sentence(desk: Kept, content: bytes) -> None:
    assert desk.file is not None
    desk.file.write_bytes(content)
    assert wrong(await looked_at(desk)) == ["database"]


async def test_an_older_schema_is_sent_to_the_upgrade(tmp_path: Path) -> None:
    sqlite_at(tmp_path / "desk.db", newest_version() - 1)
    found = await looked_at(desk_at(tmp_path / "desk.db", tmp_path))
    assert "schema" in wrong(found)
    assert "sextant db upgrade" in found["schema"].way_out
    assert found["integrity"].ok
    assert not set(ROWS) & set(found)


async def test_a_mode_or_header_that_is_off_is_found(desk: Kept) -> None:
    assert desk.file is not None
    connection = sqlite3.connect(desk.file)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA user_version = 0")
    connection.close()
    found = await looked_at(desk)
    assert re.search("journal_mode is delete.*schema 0", found["settings"].detail)


async def test_files_that_others_may_read_are_found(desk: Kept) -> None:
    assert desk.file is not None
    desk.file.chmod(0o640)
    assert "640" in (await looked_at(desk))["file modes"].detail
    for place in (desk.file, *files_in(desk.state, "*-shm"), *files_in(desk.state, "*-wal")):
        place.chmod(0o600)  # looking left its companions behind, in the file's mode
    desk.state.chmod(0o755)
    assert str(desk.state) in (await looked_at(desk))["file modes"].detail
    desk.state.chmod(0o700)
    (desk.state / "link").symlink_to("/etc/hosts")
    assert "is a link" in (await looked_at(desk))["file modes"].detail


async def test_the_journal_is_counted_and_its_damage_told_apart(desk: Kept) -> None:
    lines = [frame(Prepared(submit(name))) for name in ("a", "b", "c")]
    desk.journal.mkdir(0o700)

    def write(name: str, data: bytes) -> None:
        (desk.journal / name).write_bytes(data)
        (desk.journal / name).chmod(0o600)

    write("intents-000001.journal.imported", lines[0])
    write("intents-000002.journal", lines[0] + lines[1][:-9])
    found = (await looked_at(desk))["intent journal"]
    assert found.ok
    assert found.detail.startswith("1 records wait in 1 files, 1 files were imported")
    assert "1 torn at the end" in found.detail
    write("intents-000003.journal", lines[0][:-9] + b"\n" + lines[1])
    found = (await looked_at(desk))["intent journal"]
    assert not found.ok
    assert "not only at the end, in intents-000003.journal" in found.detail
    (desk.journal / "intents-000003.journal").unlink()
    write(NEXT, b"3")
    found = (await looked_at(desk))["intent journal"]
    assert not found.ok
    assert "intents-000002.journal lies before the first file that a start looks at" in found.detail


# -------------------------------------------------------------------------------------------- PostgreSQL


@pytest.mark.postgres
async def test_a_server_is_asked_with_amcheck_and_without(postgres: Cluster, tmp_path: Path) -> None:
    url = postgres.database()
    await a_life(postgres_store(url))
    found = await looked_at(desk_at(url, tmp_path))
    assert "rows was read; for indexes too: CREATE EXTENSION amcheck" in found["integrity"].detail
    names = [
        row[0] for row in postgres.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'sextant'", url.database)
    ]
    missing = [name for name in names if f"FROM {name} AS t" not in check_postgres.READ_ALL]
    assert set(missing) == {"sextant", "migrations"}, "READ_ALL reads every table with rows of a desk"
    postgres.sql("CREATE SCHEMA tools", url.database)
    postgres.sql("CREATE EXTENSION amcheck SCHEMA tools", url.database)
    found = await looked_at(desk_at(url, tmp_path))
    assert re.search(r"^\d\d+ indexes against their rows \(amcheck\)$", found["integrity"].detail), found
    assert "fsync on" in found["settings"].detail


@pytest.mark.postgres
async def test_a_server_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    url = PostgresUrl(database="desk", host="127.0.0.1", port=1, user="me", password="canary-pw-4711")
    found = await looked_at(desk_at(url, tmp_path))
    assert wrong(found) == ["database"]
    assert "canary" not in str(found)

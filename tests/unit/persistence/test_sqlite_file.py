"""A desk's database file: whose it is, who may use it, and that what is not ours stays as it is."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.errors import CommitUnknown, DeskUnusable, StoreUnavailable
from engine.persistence import sqlite_file
from engine.persistence.migrate import newest_version, split
from engine.persistence.sqlite import SqliteConnection
from engine.ports import Committed
from engine.queries import OrdersAnswer, OrdersPage
from tests.unit.persistence.samples import ACCOUNT, sqlite_store, submit


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


async def refusal(path: Path, *, read_only: bool = False) -> str:
    with pytest.raises(DeskUnusable) as caught:
        await sqlite_store(path, read_only=read_only).open()
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith((".", "database."))
    return said


async def a_desk(path: Path) -> None:
    store = sqlite_store(path)
    await store.open()
    await store.commit(submit())
    await store.close()


def a_foreign_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.execute("INSERT INTO theirs VALUES (1)")
    connection.commit()
    connection.close()


def a_foreign_wal_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    a_foreign_database(path)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"hello, world\n" * 50), "not an SQLite file"),
        (lambda path: path.write_bytes(b"SQLite format 3\0short"), "not an SQLite file"),
        (a_foreign_database, "another program"),
        (a_foreign_wal_database, "another program"),
    ],
    ids=["empty", "garbage", "short", "foreign", "foreign in WAL mode"],
)
async def test_a_file_that_is_not_ours_is_refused_untouched(
    tmp_path: Path, make: object, words: str, read_only: bool
) -> None:
    path = tmp_path / "desk.db"
    assert callable(make)
    make(path)
    before = contents(tmp_path)
    assert words in await refusal(path, read_only=read_only)
    assert contents(tmp_path) == before


async def test_a_directory_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "desk.db").mkdir()
    assert "cannot be read" in await refusal(tmp_path / "desk.db")


@pytest.mark.parametrize("read_only", [False, True])
async def test_p9_a_newer_schema_is_refused_untouched(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "desk.db"
    await a_desk(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {newest_version() + 1}")
    connection.execute("INSERT INTO migrations VALUES (?, 'later', 0)", (newest_version() + 1,))
    connection.commit()
    connection.close()
    before = contents(tmp_path)
    assert "newer Sextant" in await refusal(path, read_only=read_only)
    assert contents(tmp_path) == before


async def test_a_newer_schema_still_in_the_write_ahead_log_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "desk.db"
    await a_desk(path)
    connection = sqlite3.connect(path)  # stays open: nothing is checkpointed into the file
    connection.execute("INSERT INTO migrations VALUES (?, 'later', 0)", (newest_version() + 1,))
    connection.commit()
    before = path.read_bytes()
    assert "newer Sextant" in await refusal(path)
    assert path.read_bytes() == before
    connection.close()


@pytest.mark.parametrize("word", ["file", "directory"])
async def test_what_is_read_only_is_refused_untouched(tmp_path: Path, word: str) -> None:
    folder = tmp_path / "state"
    path = folder / "desk.db"
    await a_desk(path)
    place, mode = (path, 0o400) if word == "file" else (folder, 0o500)
    place.chmod(mode)
    before = contents(folder)
    said = await refusal(path)
    place.chmod(0o700)
    assert word in said
    assert "read-only" in said
    assert contents(folder) == before


async def test_a_new_database_in_a_read_only_directory_is_refused(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o500)
    said = await refusal(tmp_path / "desk.db")
    os.chmod(tmp_path, 0o700)
    assert "read-only" in said
    assert contents(tmp_path) == {}


async def test_a_second_desk_on_one_directory_is_refused_and_told_who(tmp_path: Path) -> None:
    first = sqlite_store(tmp_path / "desk.db")
    await first.open()
    before = (tmp_path / "desk.db").read_bytes()
    assert f"process {os.getpid()}" in await refusal(tmp_path / "desk.db")
    assert (tmp_path / "desk.db").read_bytes() == before
    assert "Another desk" in await refusal(tmp_path / "another.db")
    assert await first.commit(submit()) == Committed()
    await first.close()
    await a_desk(tmp_path / "desk.db")


async def test_a_database_locked_by_another_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "desk.db"
    await a_desk(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    timeout = ("busy_timeout", "PRAGMA busy_timeout = 50", "PRAGMA busy_timeout", 50)
    from engine.persistence import sqlite

    monkeypatch.setattr(sqlite, "PRAGMAS", tuple(timeout if p[0] == "busy_timeout" else p for p in sqlite.PRAGMAS))
    assert "locked" in await refusal(path)
    other.close()
    await a_desk(path)


async def test_files_are_private_and_a_wide_one_is_tightened(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = tmp_path / "state" / "desk.db"
        store = sqlite_store(path)
        await store.open()
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        assert modes == dict.fromkeys(("desk.db", "desk.db-wal", "desk.db-shm", "desk.lock"), 0o600)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        await store.close()
        path.chmod(0o644)
        await a_desk(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


async def test_p11_pragmas_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.persistence import sqlite

    path = tmp_path / "desk.db"
    await a_desk(path)
    lying = ("synchronous", "PRAGMA synchronous = NORMAL", "PRAGMA synchronous", 2)
    monkeypatch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, lying))
    assert "synchronous = 1" in await refusal(path)


async def test_a_half_made_database_of_a_crash_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".desk.db.new").write_bytes(b"half")
    await a_desk(tmp_path / "desk.db")
    assert not (tmp_path / ".desk.db.new").exists()


def test_scripts_are_split_at_statement_ends() -> None:
    script = "-- a; b\nCREATE TABLE x (\n  a TEXT -- why;\n);\nINSERT INTO x VALUES ('a;b');\n"
    assert len(list(split(script))) == 2


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/a/x", "ext4"), ("/mnt/far/x", "nfs4"), ("/mnt/farther/x", "ext4"), ("/mnt/a b/x", "fuse.sshfs")],
)
def test_the_filesystem_is_the_nearest_mount(path: str, kind: str) -> None:
    mounts = "/dev/sda / ext4 rw 0 0\nhost:/x /mnt/far nfs4 rw 0 0\nme@host: /mnt/a\\040b fuse.sshfs rw 0 0\n"
    assert sqlite_file.filesystem_of(Path(path), mounts) == kind


async def test_a_network_filesystem_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "filesystem_of", lambda path, mounts: "nfs4")
    assert "network filesystem (nfs4)" in await refusal(tmp_path / "desk.db")
    assert contents(tmp_path) == {}


# -------------------------------------------------------------------------------------------- read-only


async def test_looking_needs_a_database(tmp_path: Path) -> None:
    assert "no database" in await refusal(tmp_path / "none" / "desk.db", read_only=True)
    assert not (tmp_path / "none").exists()


async def test_looking_beside_a_running_desk_sees_what_is_durable(tmp_path: Path) -> None:
    desk = sqlite_store(tmp_path / "desk.db")
    await desk.open()
    looking = sqlite_store(tmp_path / "desk.db", read_only=True)
    await looking.open()
    assert looking.salt == desk.salt
    await desk.commit(submit())
    answer = await looking.answer(OrdersPage())
    assert isinstance(answer, OrdersAnswer)
    assert answer.orders == (submit().order,)
    with pytest.raises(StoreUnavailable):
        await looking.commit(submit("b"))
    await looking.close()
    await desk.close()


async def test_looking_at_a_backup_in_a_read_only_directory(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    await a_desk(folder / "desk.db")
    folder.chmod(0o500)
    before = contents(folder)
    looking = sqlite_store(folder / "desk.db", read_only=True)
    await looking.open()
    assert len(await looking.open_orders(ACCOUNT)) == 1
    await looking.close()
    folder.chmod(0o700)
    assert contents(folder) == before


# ------------------------------------------------------------------------------------------- broken disks


@pytest.fixture
def file_limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("file_limit")
async def test_a_disk_that_takes_no_more_refuses_and_recovers(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "desk.db")
    await store.open()
    assert await store.commit(submit("before")) == Committed()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    size = (tmp_path / "desk.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    with pytest.raises(CommitUnknown):  # the write failed in the middle of a commit
        await store.commit(submit("during"))
    assert not store.health().ok
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert await store.commit(submit("after")) == Committed()
    assert store.health().ok
    assert await store.bury(submit("during").key) == Committed()
    kept = {order.key for order in await store.open_orders(ACCOUNT)}
    assert kept == {submit("before").key, submit("after").key}
    await store.close()


async def test_a_full_database_is_unavailable_not_unknown(tmp_path: Path) -> None:
    path = tmp_path / "desk.db"
    await a_desk(path)
    connection = SqliteConnection(path, SystemClock())
    await connection.open()
    ((pages,),) = await connection.query("PRAGMA page_count")
    await connection.query(f"PRAGMA max_page_count = {pages}")
    row = ("INSERT INTO sextant (name, value) VALUES (?, ?)", ("big", "x" * 100_000))
    with pytest.raises(StoreUnavailable, match="full"):
        await connection.transact([row])
    await connection.query("PRAGMA max_page_count = 1000000")
    assert await connection.transact([row]) == [1]
    await connection.close()


async def test_a_file_replaced_under_a_running_desk_takes_no_commit(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "desk.db")
    await store.open()
    (tmp_path / "desk.db").rename(tmp_path / "moved.db")
    with pytest.raises(StoreUnavailable, match="gone"):
        await store.commit(submit("a"))
    (tmp_path / "desk.db").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="replaced"):
        await store.commit(submit("a"))
    await store.close()

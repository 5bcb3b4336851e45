"""Who may read what is kept, what a hostile file may run, and what leaves this machine unencrypted."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from datetime import time
from decimal import Decimal
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.domain.ids import AccountId, DecisionKey
from engine.domain.intents import Noted
from engine.domain.market import Timeframe
from engine.domain.postgres_url import PostgresUrl, postgres_url
from engine.domain.settings import EntryWindow, FixedSize, SessionLimits, SessionSettings
from engine.errors import DeskUnusable
from engine.persistence import postgres_session, sqlite_copy, sqlite_file
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.files import RealFiles
from engine.persistence.intent_journal import FileIntentJournal
from engine.persistence.kill_latch import FileKillLatch
from engine.persistence.lease import FileAccountLock
from engine.persistence.postgres_session import encryption, is_this_machine
from engine.persistence.sqlite_database import SqliteDatabase
from tests.postgres import Cluster
from tests.unit.persistence.samples import ACCOUNT, AT, SESSION, SYMBOL, postgres_store, sqlite_store, submit

# ----------------------------------------------------------------------------------------------- file modes


@pytest.fixture
def hostile_umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in sorted(folder.rglob("*"))}


@pytest.mark.usefixtures("hostile_umask")
async def test_every_file_is_for_its_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    state = tmp_path / "home" / "state"
    store = sqlite_store(state / "desk.db")
    await store.open()
    await store.commit(submit())
    looking = sqlite_store(state / "desk.db", read_only=True)
    await looking.open()
    journal = FileIntentJournal(state / "journal", RealFiles(), ThreadBlocking(SystemClock()))
    note = Noted(key=DecisionKey("n"), at=AT, what="flatten", operator="ann", origin="console")
    await journal.append(note)
    await journal.pending()
    await journal.archive()
    await journal.keep_room()
    await journal.append(note)
    FileKillLatch(state / "KILL", RealFiles()).set("enough")
    assert FileAccountLock(tmp_path / "home" / "locks", "desk").acquire(AccountId("SIM-1")) is None
    sqlite_copy.set_aside(state / "desk.db", 1, AT)
    found = modes(tmp_path)
    for name in ("desk.db", "desk.db-wal", "desk.db-shm", "desk.lock", "KILL", "journal/intents.next"):
        assert f"home/state/{name}" in found
    assert sum(name.endswith((".backup", ".journal", ".imported", ".reserve")) for name in found) == 4
    for name, mode in found.items():
        is_directory = (tmp_path / name).is_dir()
        assert mode == (0o700 if is_directory else 0o600), (name, oct(mode))
    await looking.close()
    await store.close()


# ------------------------------------------------------------------------------------------ hostile content


async def test_trusted_schema_is_off_on_every_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        sqlite_copy, "_counts", lambda connection: asked.append(connection.execute("PRAGMA trusted_schema").fetchone())
    )
    database = SqliteDatabase(tmp_path / "desk.db", SystemClock(), ThreadBlocking(SystemClock()))
    opened = await database.open()
    assert opened.writer is not None
    for connection in (opened.writer, opened.reader):
        assert await connection.query("PRAGMA trusted_schema") == [(0,)]
        assert await connection.query("PRAGMA foreign_keys") == [(1,)]
    assert await opened.writer.query("PRAGMA synchronous") == [(2,)]
    await database.close()
    sqlite_copy.set_aside(tmp_path / "desk.db", 1, AT)
    assert asked == [(0,), (0,)]
    places = sorted(
        (path.name, line.split("sqlite3.connect")[0].strip())
        for path in Path(sqlite_file.__file__).parent.glob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"\bsqlite3\.connect\(", line)
    )
    assert [name for name, _ in places] == ["sqlite_copy.py", "sqlite_copy.py", "sqlite_file.py"], "look at it here too"


async def test_a_function_in_a_foreign_view_is_not_run(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "desk.db")
    await store.open()
    await store.close()
    raw = sqlite3.connect(tmp_path / "desk.db")
    raw.execute("CREATE VIEW spy AS SELECT load_extension('evil')")
    raw.commit()
    raw.close()
    database = SqliteDatabase(tmp_path / "desk.db", SystemClock(), ThreadBlocking(SystemClock()), read_only=True)
    opened = await database.open()
    with pytest.raises(Exception, match=r"unsafe use of load_extension|not authorized|no such function"):
        await opened.reader.query("SELECT * FROM spy")
    await database.close()


# --------------------------------------------------------------------------------------- network and server


async def test_a_state_directory_on_a_network_filesystem_is_refused_for_a_server_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "filesystem_of", lambda path, mounts: "nfs4")
    url = PostgresUrl(database="desk", host="127.0.0.1", port=1)
    with pytest.raises(DeskUnusable, match=r"network filesystem \(nfs4\)"):
        await postgres_store(url, directory=tmp_path / "state").open()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "127.9.9.9", "::1", "/run/postgresql", "@abstract"])
def test_what_can_only_be_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize("host", ["db", "10.0.0.1", "0.0.0.0", "localhost.evil.example", "127.0.0.1.nip.io", "fe80::1"])
def test_what_may_be_another_machine(host: str) -> None:
    assert not is_this_machine(host)


@pytest.mark.parametrize(
    ("url", "environment", "words"),
    [
        ("postgresql://u@db/d", {}, (("sslmode", "require"),)),
        ("postgresql://u@db/d?sslmode=disable", {}, (("sslmode", "disable"),)),
        ("postgresql://u@db/d?sslmode=require", {}, (("sslmode", "require"),)),
        ("postgresql://u@db/d?sslmode=verify-ca", {}, (("sslmode", "verify-ca"),)),
        ("postgresql://u@db/d", {"PGSSLMODE": "verify-full"}, ()),
        ("postgresql:///d", {"PGHOST": "db"}, (("sslmode", "require"),)),
        ("postgresql:///d", {"PGHOST": "/run/postgresql"}, ()),
        ("postgresql://u@localhost/d", {"PGHOST": "db"}, ()),
        ("postgresql://u@127.0.0.1/d?sslmode=prefer", {}, (("sslmode", "prefer"),)),
    ],
)
def test_over_a_network_tls_is_required_unless_it_is_refused_in_words(
    url: str, environment: dict[str, str], words: tuple[tuple[str, str], ...]
) -> None:
    assert encryption(postgres_url(url), environment) == words


@pytest.mark.parametrize(
    ("url", "environment"),
    [
        ("postgresql://u:hush@db/d?sslmode=prefer", {}),
        ("postgresql://u:hush@db/d?sslmode=allow", {}),
        ("postgresql://u:hush@db/d", {"PGSSLMODE": "prefer"}),
        ("postgresql:///d?sslmode=allow", {"PGHOST": "db"}),
    ],
)
def test_what_may_end_up_unencrypted_over_a_network_is_refused(url: str, environment: dict[str, str]) -> None:
    with pytest.raises(DeskUnusable, match="may end up unencrypted; use verify-full") as refused:
        encryption(postgres_url(url), environment)
    assert "hush" not in str(refused.value)


@pytest.mark.postgres
async def test_a_network_server_without_tls_never_hears_the_password(
    postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.emptied()
    monkeypatch.setattr(postgres_session, "is_this_machine", lambda host: False)
    with pytest.raises(DeskUnusable, match="does not offer TLS, which sslmode asks for"):
        await postgres_store(url).open()


# -------------------------------------------------------------------------------------------------- secrets


def test_an_argument_named_like_a_secret_is_not_kept() -> None:
    d = Decimal
    limits = SessionLimits(
        max_order_size=d(1), max_position_size=d(1), entries_per_minute=1, entries_per_day=1, price_collar=d("0.1"),
        max_daily_loss=d(1), worst_case_per_contract=d(1), entry_window=EntryWindow(time(9), time(15)),
    )  # fmt: skip
    arguments = {
        "fast": 5, "api_key": "canary-1", "TOKEN": "canary-2", "feed": {"password": "canary-3", "url": "x"},
        "more": [{"client-secret": "canary-4"}], "keyboard": "qwerty",
    }  # fmt: skip
    settings = SessionSettings(
        id=SESSION, account=ACCOUNT, symbol=SYMBOL, strategy="ema_cross", timeframe=Timeframe(60_000), limits=limits,
        sizing=FixedSize(d(1)), arguments=arguments,
    )  # fmt: skip
    assert "canary" not in settings.kept
    for word in ("'fast': 5", "'url': 'x'", "'keyboard': 'qwerty'", "max_daily_loss"):
        assert word in settings.kept
    assert settings.arguments["api_key"] == "canary-1", "the strategy itself gets it"

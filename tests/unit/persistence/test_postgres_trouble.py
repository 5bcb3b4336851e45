"""A server that says no for reasons of its own: nothing is believed, no row is blamed, and it is used again after."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import msgspec
import pytest

from engine.clock import SystemClock
from engine.domain.postgres_url import PostgresUrl
from engine.errors import CommitUnknown, StoreError, StoreUnavailable
from engine.persistence import postgres_session, writer
from engine.persistence.connection import Statement
from engine.persistence.postgres import PostgresConnection
from engine.persistence.store import SqlStore
from engine.ports import Committed
from tests.postgres import Cluster
from tests.unit.persistence.samples import override, postgres_store, submit
from tests.unit.persistence.test_postgres_outage import eventually

pytestmark = pytest.mark.postgres


def refusing(code: str) -> Statement:
    """A statement that the server answers with that SQLSTATE."""
    return f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = 'no {code}'; END $$", ()


async def session(url: PostgresUrl) -> PostgresConnection:
    connection = PostgresConnection(url.place, lambda: postgres_session.connect(url, read_only=False), SystemClock())
    await connection.open()
    return connection


@pytest.mark.parametrize(
    ("code", "machine"),
    [
        ("40001", True),  # serialization
        ("40P01", True),  # deadlock
        ("53100", True),  # disk full
        ("53200", True),  # out of memory
        ("53300", True),  # too many connections
        ("55P03", True),  # a lock not available in time
        ("57P01", True),  # an admin ended the session
        ("58030", True),  # the server's disk
        ("25006", True),  # read-only: another server took over
        ("XX001", True),  # a broken page
        ("57014", False),  # a statement that takes too long may be this row's doing
        ("42703", False),
    ],
)
async def test_what_the_server_cannot_is_not_held_against_the_row(postgres: Cluster, code: str, machine: bool) -> None:
    url = postgres.database()
    connection = await session(url)
    await connection.transact([("CREATE TABLE public.t (a int)", ())])
    put: Statement = ("INSERT INTO public.t VALUES (?)", (1,))
    with pytest.raises(StoreUnavailable, match=f"no {code}") as raised:
        await connection.transact([put, refusing(code)])
    assert raised.value.machine is machine
    assert await connection.transact([put]) == [1]
    assert await connection.query("SELECT count(*) FROM public.t") == [(1,)]
    await connection.close()


@pytest.mark.parametrize(("code", "error"), [("40001", StoreUnavailable), ("53100", CommitUnknown)])
async def test_what_comes_at_the_commit_is_rolled_back_for_certain_or_unknown(
    postgres: Cluster, code: str, error: type[StoreError]
) -> None:
    connection = await session(postgres.database())
    raising = f"RAISE EXCEPTION USING ERRCODE = '{code}'"
    function = f"CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {raising}; END $f$"
    trigger = "CREATE CONSTRAINT TRIGGER no AFTER INSERT ON public.t DEFERRABLE INITIALLY DEFERRED"
    setup = ("CREATE TABLE public.t (a int)", function, f"{trigger} FOR EACH ROW EXECUTE FUNCTION public.no()")
    await connection.transact([(sql, ()) for sql in setup])
    with pytest.raises(error) as raised:
        await connection.transact([("INSERT INTO public.t VALUES (?)", (1,))])
    assert raised.value.machine
    assert await connection.query("SELECT count(*) FROM public.t") == [(0,)]
    await connection.close()


async def a_desk(url: PostgresUrl) -> SqlStore:
    store = postgres_store(url)
    await store.open()
    return store


async def is_back(store: SqlStore, name: str) -> None:
    """Intents commit again, and what waited is there."""
    assert await eventually(partial(store.commit, submit(name))) == Committed()
    await store.settled()
    assert store.health().ok
    assert store.health().failed == 0
    assert await store._read().query("SELECT count(*) FROM overrides") == [(1,)]


async def test_a_server_that_became_read_only_is_looked_for_anew(postgres: Cluster) -> None:
    store = await a_desk(postgres.emptied())
    connection = store._written()._connection
    assert isinstance(connection, PostgresConnection)
    assert connection._session is not None
    await connection._session.raw.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.commit(submit())
    store.record(override("waited"))
    await is_back(store, "b")
    await store.close()


@pytest.fixture
def clerk(postgres: Cluster) -> PostgresUrl:
    """A database whose owner is no superuser, so that limits hold for it."""
    made = postgres.database()
    url = msgspec.structs.replace(made, user=f"clerk_{made.database}", password="hush-1")
    postgres.sql(f"CREATE ROLE {url.user} LOGIN PASSWORD 'hush-1'")
    postgres.sql(f'ALTER DATABASE "{url.database}" OWNER TO {url.user}')
    return url


@pytest.mark.parametrize(
    ("no", "yes", "said"),
    [
        ("CONNECTION LIMIT 0", "CONNECTION LIMIT 9", "has no connection to spare"),
        ("PASSWORD 'hush-2'", "PASSWORD 'hush-1'", "refuses this user, password or connection"),
        ("NOLOGIN", "LOGIN", "refuses this user, password or connection"),
    ],
    ids=["too many connections", "password changed", "login taken away"],
)
async def test_both_sessions_ended_and_no_new_one_given(
    postgres: Cluster, clerk: PostgresUrl, monkeypatch: pytest.MonkeyPatch, no: str, yes: str, said: str
) -> None:
    monkeypatch.setattr(writer, "LONGEST_REST_SECONDS", 0.1)
    store = await a_desk(clerk)
    postgres.sql(f"ALTER ROLE {clerk.user} {no}")
    assert postgres.end_sessions(clerk) == 2
    store.record(override("waited"))
    with pytest.raises(StoreUnavailable, match=said) as raised:
        await store.commit(submit())
    assert "hush" not in str(raised.value)
    assert said in store.health().detail
    with pytest.raises(StoreUnavailable, match=said):
        await store.latches()
    postgres.sql(f"ALTER ROLE {clerk.user} {yes}")
    await is_back(store, "b")
    await store.close()


@contextmanager
def small_tablespace(postgres: Cluster) -> Iterator[str]:
    """A tablespace of 16 MB; skips with the reason where none can be made."""
    place = postgres.folder / "small"
    place.mkdir()
    owner = pwd.getpwnam("nobody")
    options = f"size=16m,uid={owner.pw_uid},gid={owner.pw_gid},mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no small filesystem can be made here: {made.stderr.strip()}")
    try:
        postgres.sql(f"CREATE TABLESPACE small LOCATION '{place}'")
        yield str(place)
        postgres.sql("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(ballast: str) -> None:
    with suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


async def test_a_full_disk_under_the_server(postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LONGEST_REST_SECONDS", 0.1)
    with small_tablespace(postgres) as place:
        url = postgres.database()
        store = await a_desk(url)
        await store.close()
        postgres.sql(f'ALTER DATABASE "{url.database}" SET TABLESPACE small')
        store = await a_desk(url)
        ballast = os.path.join(place, "ballast")
        _fill(ballast)
        said: list[str] = []
        for number in range(200):  # until the pages at hand are used up
            try:
                await store.commit(submit(f"full{number}"))
            except StoreUnavailable as error:
                said.append(str(error))
                break
        assert said, "it was never full"
        assert "No space left on device" in said[0] or "could not extend" in said[0]
        store.record(override("waited"))
        assert not store.health().ok
        os.unlink(ballast)
        await is_back(store, "b")
        await store.close()
        postgres.sql(f'DROP DATABASE "{url.database}"')

"""The writer while sessions are killed, the server restarts, freezes, or loses an answer: nothing lost or twice."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import msgspec
import pytest

from engine.clock import SystemClock
from engine.domain.postgres_url import PostgresUrl
from engine.errors import CommitUnknown, StoreError, StoreUnavailable
from engine.persistence import postgres_session
from engine.persistence.postgres import PostgresConnection
from engine.persistence.store import SqlStore
from engine.ports import Committed, Taken
from tests.postgres import Cluster
from tests.unit.persistence.samples import ACCOUNT, override, postgres_store, submit

pytestmark = pytest.mark.postgres
PATIENCE_S = 60.0
TOGETHER = 5  # intents under way at a time


class Load:
    """A desk that commits intents and records without pause, and remembers what it was told about each."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.committed: set[str] = set()
        self.refused: set[str] = set()
        self.unknown: list[str] = []
        self.recorded: set[str] = set()
        self.stopping = False

    @property
    def answers(self) -> int:
        """How many commits were answered, in one way or another."""
        return len(self.committed) + len(self.refused) + len(self.unknown)

    async def run(self) -> None:
        number = 0
        while not self.stopping:
            number += 1
            await asyncio.gather(*(self._one(f"{number}x{each}") for each in range(TOGETHER)))
            await asyncio.sleep(0.002)

    async def _one(self, name: str) -> None:
        try:
            assert await self.store.commit(submit(name)) == Committed()
            self.committed.add(name)
        except CommitUnknown:
            self.unknown.append(name)
        except StoreUnavailable:
            self.refused.add(name)
            await asyncio.sleep(0.02)
        if len(self.recorded) < 400:
            self.store.record(override(name))
            self.recorded.add(name)

    async def during(self, trouble: Callable[[], Awaitable[None]]) -> None:
        """Commit before, while and after the trouble."""
        running = asyncio.ensure_future(self.run())
        await until(lambda: len(self.committed) >= 20)
        await trouble()
        before = len(self.committed)
        await until(lambda: len(self.committed) >= before + 20)
        self.stopping = True
        await running

    async def audit(self) -> None:
        """Settle what is unknown, then hold the database against what was said."""
        for name in self.unknown:
            answer = await eventually(partial(self.store.bury, submit(name).key))
            (self.committed if isinstance(answer, Taken) else self.refused).add(name)
        await asyncio.wait_for(self.store.settled(), PATIENCE_S)
        assert self.store.health().ok, self.store.health()
        orders = [each.client_id for each in await self.store.open_orders(ACCOUNT)]
        assert len(orders) == len(set(orders))
        assert set(orders) == {submit(name).order.client_id for name in self.committed}
        lines = await self.store._read().query("SELECT subject FROM log WHERE kind = 'override'")
        assert sorted(line for (line,) in lines) == sorted(self.recorded)


async def eventually(call: Callable[[], Awaitable[object]]) -> object:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            return await call()
        except StoreError:
            await asyncio.sleep(0.1)
    pytest.fail("it never came back")


async def until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s"
        await asyncio.sleep(0.005)


@pytest.fixture
async def store(postgres: Cluster) -> AsyncIterator[SqlStore]:
    made = postgres_store(postgres.emptied())
    await made.open()
    yield made
    await made.close()


def url_of(postgres: Cluster) -> PostgresUrl:
    assert postgres._scratch is not None
    return postgres._scratch


async def test_sessions_that_died_unnoticed_are_replaced_before_anybody_sees(
    postgres: Cluster, store: SqlStore
) -> None:
    for turn in range(3):
        assert postgres.end_sessions(url_of(postgres)) == 2
        assert await store.commit(submit(f"t{turn}")) == Committed()
        assert len(await store.open_orders(ACCOUNT)) == turn + 1
    assert store.health().ok


async def test_p6_killed_sessions_under_load(postgres: Cluster, store: SqlStore) -> None:
    load = Load(store)

    async def kill() -> None:
        for _ in range(6):
            postgres.end_sessions(url_of(postgres))
            seen = load.answers
            await until(lambda seen=seen: load.answers > seen + TOGETHER)  # type: ignore[misc]

    await load.during(kill)
    await load.audit()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "at once"])
async def test_a_server_that_restarts_under_load(postgres: Cluster, store: SqlStore, how: signal.Signals) -> None:
    load = Load(store)

    async def restart() -> None:
        postgres.stop(how)
        await until(lambda: len(load.refused) > TOGETHER)
        postgres.start()

    await load.during(restart)
    await load.audit()


@pytest.mark.slow
async def test_a_server_that_freezes_under_load(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_session, "CONNECT_SECONDS", 0.5)
    store = postgres_store(cluster.emptied())
    await store.open()
    load = Load(store)

    async def freeze() -> None:
        with cluster.frozen():
            seen = load.answers
            # those under way as it froze and those after them: nobody waits for as long as the server is frozen
            await until(lambda: load.answers > seen + 2 * TOGETHER)

    await load.during(freeze)
    assert load.unknown or load.refused, "the outage was never seen"
    await load.audit()
    await store.close()


class Proxy:
    """A wire to the server that loses the answer to the next COMMIT, before or after the server hears of it."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.lose: str = ""
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0.05)  # its connections see the end

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)

        async def back() -> None:
            while data := await far_reader.read(65536):
                writer.write(data)
            writer.close()

        answers = asyncio.ensure_future(back())
        try:
            while data := await reader.read(65536):
                if self.lose and b"COMMIT\0" in data:
                    answers.cancel()
                    await asyncio.wait({answers})
                    if self.lose == "answer":
                        far_writer.write(data)
                        await far_reader.read(1)
                    self.lose = ""
                    break
                far_writer.write(data)
        finally:
            answers.cancel()
            far_writer.close()
            writer.close()


@pytest.mark.parametrize("lose", ["request", "answer"])
async def test_a_commit_whose_answer_is_lost_is_settled_by_a_tombstone(postgres: Cluster, lose: str) -> None:
    async with Proxy(postgres.port) as proxy:
        store = postgres_store(msgspec.structs.replace(postgres.emptied(), port=proxy.port))
        await store.open()
        proxy.lose = lose
        with pytest.raises(CommitUnknown):
            await store.commit(submit())
        settled = await eventually(partial(store.bury, submit().key))
        if lose == "answer":
            assert isinstance(settled, Taken)
            assert await store.open_orders(ACCOUNT) == (submit().order,)
        else:
            assert settled == Committed()
            assert isinstance(await store.commit(submit()), Taken)
            assert await store.open_orders(ACCOUNT) == ()
        proxy.lose = lose
        await store.write(override())
        journal = await store._read().query("SELECT count(*) FROM overrides")
        assert journal == [(1,)]
        await store.close()


async def test_a_statement_that_takes_too_long_is_rolled_back_and_the_session_stays(
    postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_session, "SERVER_SECONDS", 1.0)
    url = postgres.emptied()
    connection = PostgresConnection(url.place, lambda: postgres_session.connect(url, read_only=False), SystemClock())
    await connection.open()
    before = await connection.query("SELECT pg_backend_pid()")
    with pytest.raises(StoreUnavailable, match="statement timeout"):
        await connection.transact([("SELECT pg_sleep(?)", (60,))])
    assert await connection.query("SELECT pg_backend_pid()") == before
    await connection.close()


async def test_a_transaction_that_idled_for_too_long_is_not_believed_committed(postgres: Cluster) -> None:
    url = postgres.emptied()
    connection = PostgresConnection(url.place, lambda: postgres_session.connect(url, read_only=False), SystemClock())
    await connection.open()
    session = await connection._begun()
    await session.raw.execute("SET LOCAL idle_in_transaction_session_timeout = 20")
    postgres.await_end(session.raw.get_server_pid())
    with pytest.raises(StoreError):
        await connection._commit(session)
    assert await connection.transact([("SELECT ?::int", (1,))]) == [0]
    await connection.close()


class ByHand(SystemClock):
    """Stands still until it is moved."""

    moment = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.moment


async def test_a_server_that_stays_away_is_asked_at_a_pace(postgres: Cluster) -> None:
    url, clock = postgres.emptied(), ByHand()
    asked: list[float] = []

    async def connect() -> object:
        asked.append(clock.moment)
        if len(asked) > 1:
            raise ConnectionRefusedError(111, "Connection refused")
        return await postgres_session.connect(url, read_only=False)

    connection = PostgresConnection(url.place, connect, clock)
    await connection.open()
    postgres.end_sessions(url)
    for turn in range(500):
        clock.moment = turn / 100
        with pytest.raises(StoreUnavailable, match=f"the database {url.place}: connection refused"):
            await connection.transact([])
    assert asked == pytest.approx([0, 0, 0.1, 0.3, 0.7, 1.5, 2.5, 3.5, 4.5], abs=0.05), "soon at first, then at a pace"
    await connection.close()

"""Jobs whose desk dies, whose database is silent at the worst moment, or that can never be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest

from engine.clock import TapeClock
from engine.domain.ids import Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import Side
from engine.errors import CommitUnknown, StoreError
from engine.periodic import cancel_and_wait
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.connection import Database, Statement
from engine.persistence.jobs import ATTEMPTS, QUEUE, Body, Jobs
from engine.persistence.postgres_database import PostgresDatabase
from engine.persistence.sqlite_database import SqliteDatabase
from engine.persistence.statements import trades_subject
from engine.persistence.store import SqlStore
from engine.persistence.trades_job import TradesBody
from engine.queries import JobsAnswer, JobsPage, TradesAnswer, TradesPage
from tests.unit.persistence.samples import (
    ACCOUNT,
    AT,
    SYMBOL,
    CountedIds,
    Moody,
    MoodyDatabase,
    booked,
    contract,
    fill,
)

SUBJECT = trades_subject(ACCOUNT, SYMBOL)


def known(symbol: Symbol) -> Instrument:
    return contract(symbol=symbol)


class Life:
    """One life of a desk on a database that outlives it."""

    def __init__(self, database: Callable[[TapeClock, ThreadBlocking], Database], at: int = AT) -> None:
        self.clock = TapeClock(at)
        self.blocking = ThreadBlocking(self.clock)
        self.database = MoodyDatabase(database(self.clock, self.blocking))
        self.ids = CountedIds()
        self.store = SqlStore(self.database, self.clock, self.blocking, self.ids)
        self.running: list[asyncio.Task[int]] = []

    def jobs(self, **more: Body) -> Jobs:
        return self.store.jobs(known, more=more)

    @property
    def trades_body(self) -> TradesBody:
        return TradesBody(self.store._read(), self.blocking, known, lambda: self.ids.fresh("count-"))

    async def until_killed(self, jobs: Jobs, stuck: asyncio.Event) -> None:
        """Run jobs until one is stuck, then die there: nothing that follows is ever written."""
        task = asyncio.ensure_future(jobs.drain())
        await stuck.wait()
        assert self.store._writer is not None
        await self.store._writer.abandon()
        await cancel_and_wait(task)
        await self.store.close()

    async def listed(self) -> list[tuple[str, str, int]]:
        answer = await self.store.answer(JobsPage())
        assert isinstance(answer, JobsAnswer)
        return [(job.kind, job.state, job.attempts) for job in answer.jobs]

    async def trades(self, symbol: Symbol = SYMBOL) -> int:
        answer = await self.store.answer(TradesPage(symbol=symbol))
        assert isinstance(answer, TradesAnswer)
        return len(answer.trades)

    async def round_trip(self, name: str, symbol: Symbol = SYMBOL) -> None:
        await self.store.write(booked(fill(f"{name}-in", symbol=symbol)))
        out = fill(f"{name}-out", symbol=symbol, side=Side.SELL, price=Decimal(5001), at=AT + 1)
        await self.store.write(booked(out, "0"))


Another = Callable[[], Awaitable[Life]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def another(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Another]:
    """Begins one life after the other on one and the same database."""
    if request.param == "sqlite":

        def database(clock: TapeClock, blocking: ThreadBlocking) -> Database:
            return SqliteDatabase(tmp_path / "desk.db", clock, blocking)
    else:
        url = request.getfixturevalue("postgres").emptied()

        def database(clock: TapeClock, blocking: ThreadBlocking) -> Database:
            return PostgresDatabase(url, clock, blocking, directory=tmp_path)

    lives: list[Life] = []

    async def begin() -> Life:
        lives.append(Life(database))
        await lives[-1].store.open()
        return lives[-1]

    yield begin
    for life in lives:
        await life.store.close()


async def test_p12_killed_between_claim_and_effect_twice_the_third_life_does_it_once(another: Another) -> None:
    life = await another()
    await life.round_trip("a")
    for attempt in (1, 2):
        stuck = asyncio.Event()

        async def never(subject: str, stuck: asyncio.Event = stuck) -> list[list[Statement]]:
            stuck.set()
            await asyncio.Event().wait()
            return []

        await life.until_killed(life.jobs(trades=never), stuck)
        life = await another()
        assert await life.listed() == [("trades", "running", attempt)]
        assert await life.trades() == 0
    assert await life.jobs().drain() == 1
    assert (await life.trades(), await life.listed()) == (1, [])


async def test_killed_between_effect_and_commit_twice_nothing_is_half_written(another: Another) -> None:
    life = await another()
    await life.round_trip("a")
    for attempt in (1, 2):
        body, writer, armed = life.trades_body, life.database.writer, asyncio.Event()

        async def ready(
            subject: str, body: TradesBody = body, writer: Moody = writer, armed: asyncio.Event = armed
        ) -> list[list[Statement]]:
            effect = await body(subject)
            assert len(effect[0]) > 1
            writer.entered.clear()
            writer.gate = asyncio.Event()  # the transaction is begun and never comes through
            armed.set()
            return effect

        jobs = life.jobs(trades=ready)
        task = asyncio.ensure_future(jobs.drain())
        await armed.wait()
        await writer.entered.wait()
        assert life.store._writer is not None
        await life.store._writer.abandon()
        await cancel_and_wait(task)
        await life.store.close()
        life = await another()
        assert await life.listed() == [("trades", "running", attempt)]
        assert await life.trades() == 0
    await life.round_trip("b")  # queued while the other is still held to be running
    assert await life.jobs().drain() == 1
    assert (await life.trades(), await life.listed()) == (2, [])


async def test_a_commit_whose_answer_is_lost_is_not_done_twice(another: Another) -> None:
    life = await another()
    await life.round_trip("a")
    body, runs = life.trades_body, 0

    async def counted(subject: str) -> list[list[Statement]]:
        nonlocal runs
        runs += 1
        life.database.writer.lose_answers = True
        return await body(subject)

    jobs = life.jobs(trades=counted)
    with pytest.raises(CommitUnknown):
        await jobs.drain()
    life.database.writer.lose_answers = False
    await life.clock.advance(AT + 60_000)
    assert await jobs.drain() == 0
    assert (await life.trades(), runs, await life.listed()) == (1, 1, [])


async def test_a_poison_job_dies_after_its_attempts_while_others_go_on(another: Another) -> None:
    life = await another()
    queue: list[Statement] = [(QUEUE, ("poison", "p", 0)), (QUEUE, ("bad row", "r", 0)), (QUEUE, ("nobody's", "n", 0))]
    await life.store.apply("queue", queue)
    for number in range(12):
        await life.round_trip(f"c{number}", Symbol(f"C{number}"))

    async def poison(subject: str) -> list[list[Statement]]:
        raise ValueError("bad from the start")

    async def bad_row(subject: str) -> list[list[Statement]]:
        return [[("INSERT INTO trade_versions (account, symbol, version) VALUES (?, ?, ?)", ("a", subject, None))]]

    jobs = life.jobs(**{"poison": poison, "bad row": bad_row})
    assert await jobs.drain() == 15
    for number in range(12):
        assert await life.trades(Symbol(f"C{number}")) == 1
    for attempt in range(2, ATTEMPTS + 1):
        assert life.store.health().dead_jobs == 0
        await life.clock.advance(life.clock.now() + 300_000)
        await life.round_trip(f"d{attempt}")
        assert await jobs.drain() == 4
        assert await life.trades() == attempt - 1
    assert await life.listed() == [(kind, "dead", ATTEMPTS) for kind in ("poison", "bad row", "nobody's")]
    assert (life.store.health().dead_jobs, life.store.health().died_of) == (
        3,
        "poison p: ValueError: bad from the start",
    )
    assert life.store.health().ok


async def test_fills_that_come_while_their_contract_s_job_runs_are_counted_by_the_next(another: Another) -> None:
    life = await another()
    await life.round_trip("a")
    body, late = life.trades_body, ["b", "c"]

    async def interrupted(subject: str) -> list[list[Statement]]:
        effect = await body(subject)
        if late:
            await life.round_trip(late.pop())
            assert [state for _, state, _ in await life.listed()] == ["running", "pending"]
        return effect

    assert await life.jobs(trades=interrupted).drain() == 3
    assert (await life.trades(), await life.listed()) == (3, [])


async def test_an_outage_between_effect_and_commit_leaves_the_job_to_the_next_drain(another: Another) -> None:
    life = await another()
    await life.round_trip("a")
    body = life.trades_body

    async def cut(subject: str) -> list[list[Statement]]:
        effect = await body(subject)
        life.database.writer.lose_requests = True
        return effect

    jobs = life.jobs(trades=cut)
    with pytest.raises(StoreError):
        await jobs.drain()
    life.database.writer.lose_requests = False
    assert await life.listed() == [("trades", "running", 1)]
    jobs = life.jobs()
    await life.clock.advance(AT + 60_000)
    assert await jobs.drain() == 1
    assert (await life.trades(), await life.listed()) == (1, [])

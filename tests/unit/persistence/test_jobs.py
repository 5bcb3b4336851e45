"""Background jobs: retried, rescued, visible when dead, and never lost between a claim and a wake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from engine.clock import TapeClock
from engine.domain.ids import Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import Side
from engine.errors import StoreUnavailable
from engine.periodic import cancel_and_wait
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.jobs import ATTEMPTS
from engine.persistence.sqlite_database import SqliteDatabase
from engine.persistence.store import SqlStore
from engine.ports import StoreConnection
from engine.queries import TradesAnswer, TradesPage
from tests.unit.persistence.samples import AT, CountedIds, MoodyDatabase, booked, contract, fill


class Desk:
    """A store on a tape, so that backoffs pass when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.clock = TapeClock(AT)
        blocking = ThreadBlocking(self.clock)
        self.database = MoodyDatabase(SqliteDatabase(folder / "desk.db", self.clock, blocking))
        self.store = SqlStore(self.database, self.clock, blocking, CountedIds())
        self.known = True
        self.runs = 0

    def instrument(self, symbol: Symbol) -> Instrument:
        self.runs += 1
        if not self.known:
            raise KeyError(symbol)
        return contract()

    async def round_trip(self, name: str = "x") -> None:
        await self.store.write(booked(fill(f"{name}-in")))
        out = fill(f"{name}-out", side=Side.SELL, price=Decimal(5001), at=AT + 1)
        await self.store.write(booked(out, "0"))

    async def trades(self) -> int:
        page = await self.store.answer(TradesPage())
        assert isinstance(page, TradesAnswer)
        return len(page.trades)

    async def jobs_in(self, state: str) -> int:
        rows = await self.reader.query("SELECT count(*) FROM jobs WHERE state = ?", (state,))
        return int(rows[0][0])

    @property
    def reader(self) -> StoreConnection:
        return self.store._read()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    await made.store.open()
    yield made
    await made.store.close()


async def test_a_failing_job_backs_off_dies_visibly_and_can_be_retried(desk: Desk) -> None:
    desk.known = False
    await desk.round_trip()
    jobs = desk.store.jobs(desk.instrument)
    waited = 0
    for attempt in range(1, ATTEMPTS):
        assert await jobs.drain() == 1
        assert await jobs.drain() == 0, "not before its backoff has passed"
        backoff = 1000 * 2 ** (attempt - 1)
        waited += backoff
        await desk.clock.advance(AT + waited - 1)
        assert await jobs.drain() == 0
        await desk.clock.advance(AT + waited)
    assert await jobs.drain() == 1
    assert desk.runs == ATTEMPTS
    assert await desk.jobs_in("dead") == 1
    assert desk.store.health().dead_jobs == 1
    assert desk.store.health().ok
    desk.known = True
    await jobs.retry_dead()
    assert await jobs.drain() == 1
    assert desk.store.health().dead_jobs == 0
    assert await desk.trades() == 1


async def test_a_dead_job_does_not_stop_the_next_fill_from_being_counted(desk: Desk) -> None:
    await desk.round_trip()
    await desk.store.apply("die", [("UPDATE jobs SET state = 'dead'", ())])
    await desk.store.write(booked(fill("later")))
    jobs = desk.store.jobs(desk.instrument)
    assert await jobs.drain() == 1
    assert await desk.trades() == 1


async def test_a_job_left_running_by_a_crash_is_run_again(tmp_path: Path) -> None:
    first = Desk(tmp_path)
    await first.store.open()
    await first.round_trip()
    await first.store.apply("claim", [("UPDATE jobs SET state = 'running', attempts = 1", ())])
    await first.store.write(booked(fill("later")))  # a younger one waits beside it: one of the two is enough
    assert (await first.jobs_in("running"), await first.jobs_in("pending")) == (1, 1)
    await first.store.close()
    second = Desk(tmp_path)
    await second.store.open()
    assert await second.store.jobs(second.instrument).drain() == 1
    assert (await second.trades(), await second.jobs_in("running"), await second.jobs_in("pending")) == (1, 0, 0)
    await second.store.close()


async def test_a_database_outage_costs_a_job_no_attempt(desk: Desk) -> None:
    await desk.round_trip()
    jobs = desk.store.jobs(desk.instrument)
    desk.database.writer.poison, desk.database.writer.poison_error = 3, StoreUnavailable("gone")  # type: ignore[assignment]
    desk.database.writer.fault = StoreUnavailable("gone")
    drain = asyncio.ensure_future(jobs.drain())
    with pytest.raises(StoreUnavailable):
        await drain
    desk.database.writer.fault, desk.database.writer.poison = None, None
    await desk.clock.advance(AT + 10_000)
    await jobs.drain()
    assert await desk.trades() == 1


async def test_the_runner_wakes_for_each_fill_and_polls_behind_it(desk: Desk) -> None:
    jobs = desk.store.jobs(desk.instrument, poll_seconds=5, rest_seconds=0)
    task = asyncio.ensure_future(jobs.run())
    await desk.clock.settle()
    await desk.round_trip("a")
    await desk.clock.settle()
    assert await desk.trades() == 1
    await desk.round_trip("b")
    await desk.clock.settle()
    assert await desk.trades() >= 1
    # a job that nobody rang for is found by the poll
    await desk.store.apply("forget", [("DELETE FROM trades", ()), ("DELETE FROM trade_versions", ())])
    columns = "(kind, subject, state, attempts, due, queued, error)"
    rang = f"INSERT INTO jobs {columns} VALUES ('trades', ?, 'pending', 0, 0, 0, '')"
    await desk.store.apply("quietly", [(rang, ('["SIM-1","ESZ5"]',))])
    await desk.clock.settle()
    assert await desk.trades() == 0
    await desk.clock.advance(AT + 6_000)
    assert await desk.trades() == 2
    await cancel_and_wait(task)


async def test_a_job_queued_after_the_last_claim_is_not_forgotten(desk: Desk) -> None:
    jobs = desk.store.jobs(desk.instrument, poll_seconds=3600, rest_seconds=0)
    counted = jobs._count_dead
    late = ["late"]

    async def count_while_a_fill_comes_in() -> None:
        while late:
            await desk.round_trip(late.pop())
        await counted()

    jobs._count_dead = count_while_a_fill_comes_in  # type: ignore[method-assign]
    task = asyncio.ensure_future(jobs.run())
    await desk.clock.settle()
    assert late == []
    assert await desk.trades() == 1, "found by the wake, an hour before the poll"
    await cancel_and_wait(task)

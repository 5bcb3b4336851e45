"""The one writer under a database that is slow, poisoned, gone, or silent about its commits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.clock import SystemClock, TapeClock
from engine.domain.ids import CommandId
from engine.domain.records import OverrideRecorded
from engine.errors import CommitUnknown, StoreUnavailable
from engine.persistence import writer
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.connection import RowRefused
from engine.persistence.sqlite_database import SqliteDatabase
from engine.persistence.store import SqlStore
from engine.persistence.writer import RECORDS_AT_ONCE, Writer
from engine.ports import Committed, Taken
from engine.queries import JournalAnswer, JournalPage
from tests.unit.persistence.samples import (
    ACCOUNT,
    AT,
    CountedIds,
    Moody,
    MoodyDatabase,
    booked,
    fill,
    latch,
    override,
    submit,
)


class Bench:
    """A store over a moody database."""

    def __init__(self, folder: Path) -> None:
        clock = SystemClock()
        blocking = ThreadBlocking(clock)
        self.database = MoodyDatabase(SqliteDatabase(folder / "desk.db", clock, blocking))
        self.store = SqlStore(self.database, clock, blocking, CountedIds())

    @property
    def moody(self) -> Moody:
        return self.database.writer

    async def overrides(self) -> set[str]:
        page = await self.store.answer(JournalPage(kinds=("override",), limit=1000))
        assert isinstance(page, JournalAnswer)
        return {line.subject for line in page.lines}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.store.open()
    yield made
    made.moody.fault = None
    made.moody.lose_answers = made.moody.lose_requests = False
    if made.moody.gate is not None:
        made.moody.gate.set()
    await made.store.close()


async def test_a_burst_is_one_transaction(bench: Bench) -> None:
    bench.moody.sizes.clear()
    answers = await asyncio.gather(*(bench.store.commit(submit(str(number))) for number in range(50)))
    assert answers == [Committed()] * 50
    assert len(bench.moody.sizes) == 1


async def test_an_intent_passes_every_waiting_record(bench: Bench) -> None:
    bench.moody.gate = asyncio.Event()
    for number in range(5 * RECORDS_AT_ONCE):
        bench.store.record(override(f"c{number}"))
    bench.moody.entered.clear()
    await bench.moody.entered.wait()  # the first batch of records is under way
    commit = asyncio.ensure_future(bench.store.commit(submit()))
    await asyncio.sleep(0)
    bench.moody.gate.set()
    assert await commit == Committed()
    assert bench.store.health().waiting >= 3 * RECORDS_AT_ONCE
    await bench.store.settled()
    assert len(await bench.overrides()) == 5 * RECORDS_AT_ONCE


@pytest.mark.parametrize("error", [RowRefused("no"), RuntimeError("a driver's fault"), StoreUnavailable("odd")])
async def test_a_poisoned_row_harms_only_itself(bench: Bench, error: Exception) -> None:
    bench.moody.poison, bench.moody.poison_error = "c3", error
    for number in range(6):
        bench.store.record(override(f"c{number}"))
    await bench.store.settled()
    assert await bench.overrides() == {"c0", "c1", "c2", "c4", "c5"}
    assert bench.store.health().failed == 1
    assert await bench.store.commit(submit()) == Committed()


async def test_a_poisoned_intent_is_refused_and_its_neighbours_hold(bench: Bench) -> None:
    bench.moody.poison, bench.moody.poison_error = submit("1").key, RowRefused("no")
    answers = await asyncio.gather(
        *(bench.store.commit(submit(str(number))) for number in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [Committed, StoreUnavailable, Committed]


async def test_without_a_database_entries_are_refused_at_once_and_records_wait(bench: Bench) -> None:
    bench.moody.fault = StoreUnavailable("disk gone")
    bench.store.record(override("c1"))
    with pytest.raises(StoreUnavailable, match="disk gone"):
        await bench.store.commit(submit())
    with pytest.raises(StoreUnavailable, match="disk gone"):
        await bench.store.write(latch())
    health = bench.store.health()
    assert (health.ok, health.detail, health.waiting) == (False, "disk gone", 1)
    assert health.since is not None
    bench.moody.fault = None
    assert await bench.store.commit(submit()) == Committed()
    await bench.store.settled()
    assert bench.store.health().ok
    assert await bench.overrides() == {"c1"}
    assert await bench.store.latches() == ()


async def test_records_are_retried_until_the_database_is_back_and_keep_their_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LONGEST_REST_SECONDS", 0.05)
    bench.moody.fault = StoreUnavailable("disk gone")
    for number in range(3 * RECORDS_AT_ONCE):
        bench.store.record(override(f"c{number:03}"))
    settled = asyncio.ensure_future(bench.store.settled())
    for _ in range(5):  # long enough for the writer to suspect rows, and to find that it is the database
        bench.moody.entered.clear()
        await bench.moody.entered.wait()
    assert not settled.done()
    bench.moody.fault = None
    await settled
    assert len(await bench.overrides()) == 3 * RECORDS_AT_ONCE
    page = await bench.store.answer(JournalPage(limit=1000))
    assert isinstance(page, JournalAnswer)
    subjects = [line.subject for line in reversed(page.lines)]
    assert subjects == sorted(subjects)
    assert bench.store.health().failed == 0


async def test_an_unknown_commit_that_did_not_hold_is_buried(bench: Bench) -> None:
    bench.moody.lose_requests = True
    with pytest.raises(CommitUnknown):
        await bench.store.commit(submit())
    bench.moody.lose_requests = False
    assert await bench.store.bury(submit().key) == Committed()
    assert isinstance(await bench.store.commit(submit()), Taken), "the void intent must never be sent"
    assert await bench.store.open_orders(ACCOUNT) == ()


async def test_an_unknown_commit_that_held_is_found_by_its_tombstone(bench: Bench) -> None:
    bench.moody.lose_answers = True
    with pytest.raises(CommitUnknown):
        await bench.store.commit(submit())
    with pytest.raises(CommitUnknown):
        await bench.store.bury(submit().key)
    bench.moody.lose_answers = False
    assert isinstance(await bench.store.bury(submit().key), Taken)
    assert await bench.store.open_orders(ACCOUNT) == (submit().order,)


async def test_an_unknown_commit_in_a_burst_is_told_to_each(bench: Bench) -> None:
    bench.moody.lose_answers = True
    answers = await asyncio.gather(
        *(bench.store.commit(submit(str(number))) for number in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [CommitUnknown] * 3


async def test_records_of_an_unknown_commit_are_written_once(bench: Bench) -> None:
    bench.moody.lose_answers = True
    bench.store.record(booked(fill()))
    bench.store.record(override())
    bench.moody.entered.clear()
    await bench.moody.entered.wait()
    bench.moody.lose_answers = False
    await bench.store.settled()
    assert len(await bench.store.fills(ACCOUNT, fill().symbol, 0)) == 1
    assert await bench.overrides() == {"c1"}


async def test_a_row_that_is_tried_again_is_not_overtaken_by_a_newer_one(bench: Bench) -> None:
    """Two fills in one burst: the position after the first, written last, was where the next life believed to stand."""
    transact, lost = bench.moody.transact, 2  # the burst, then its first row alone

    async def losing(statements: Sequence[tuple[str, Sequence[Any]]]) -> list[int]:
        nonlocal lost
        if lost:
            lost -= 1
            raise CommitUnknown("the request was lost")
        return await transact(statements)

    bench.moody.transact = losing  # type: ignore[method-assign]
    bench.store.record(booked(fill("x1"), "1"))
    bench.store.record(booked(fill("x2"), "2"))
    await bench.store.settled()
    assert not lost
    assert (await bench.store.positions(ACCOUNT))[fill().symbol].quantity == 2


async def test_a_written_row_of_unknown_fate_is_written_again(bench: Bench) -> None:
    bench.moody.lose_answers = True
    with pytest.raises(StoreUnavailable):
        await bench.store.write(override("c1"))
    bench.moody.lose_answers = False
    await bench.store.write(override("c1"))
    assert await bench.overrides() == {"c1"}


async def test_a_silent_database_is_not_waited_for_without_end(bench: Bench) -> None:
    clock = TapeClock(AT)  # its time is ours to move, so the wait is exact
    made = Writer(bench.moody, clock, lambda name, error: None, patience=6)
    bench.moody.gate = asyncio.Event()
    made.start()
    bench.moody.entered.clear()
    under_way = asyncio.ensure_future(made.intent("first", [("DELETE FROM log", ())]))
    await bench.moody.entered.wait()
    queued = asyncio.ensure_future(made.intent("second", [("DELETE FROM log", ())]))
    await clock.advance(AT + 5_999)
    assert not under_way.done()
    assert not queued.done()
    assert made.health().detail == "no answer for 6 s"
    await clock.advance(AT + 6_000)
    with pytest.raises(CommitUnknown):
        await under_way
    with pytest.raises(StoreUnavailable):  # it never began, so nothing was written
        await queued
    bench.moody.gate.set()
    await made.settled()
    assert made.health().ok
    await made.close()


async def test_a_caller_who_gave_up_before_its_turn_writes_nothing(bench: Bench) -> None:
    bench.moody.gate = asyncio.Event()
    bench.store.record(override())
    bench.moody.entered.clear()
    await bench.moody.entered.wait()
    commit = asyncio.ensure_future(bench.store.commit(submit()))
    await asyncio.sleep(0)
    commit.cancel()
    await asyncio.wait({commit})
    bench.moody.gate.set()
    await bench.store.settled()
    assert await bench.store.open_orders(ACCOUNT) == ()


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    await first.store.open()
    for number in range(200):
        first.store.record(override(f"c{number}"))
    await first.store.close()
    with pytest.raises(StoreUnavailable):
        await first.store.commit(submit())
    first.store.record(override())  # never raises
    second = Bench(tmp_path)
    await second.store.open()
    assert len(await second.overrides()) == 200
    await second.store.close()


async def test_a_record_that_cannot_be_a_row_never_raises(bench: Bench) -> None:
    bench.store.record(
        OverrideRecorded(
            id=CommandId("\ud800"), step=0, what="x", operator="x", origin="x", at=AT, detail=str(Decimal(1))
        )
    )
    await bench.store.settled()
    assert bench.store.health().failed == 1


async def test_an_idle_desk_learns_of_an_outage_and_of_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LONGEST_REST_SECONDS", 0.02)
    bench.moody.fault = StoreUnavailable("disk gone")
    assert bench.store.health().ok
    bench.store.probe()
    await told(bench, lambda: not bench.store.health().ok)
    assert bench.store.health().detail == "disk gone"
    bench.moody.fault = None
    await told(bench, lambda: bench.store.health().ok)


async def told(bench: Bench, is_so: Callable[[], bool]) -> None:
    """Until the writer, which asks by itself, knows."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "it never knew"
        await asyncio.sleep(0.01)


async def test_a_full_disk_that_takes_harmless_rows_costs_no_row(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LONGEST_REST_SECONDS", 0.01)
    bench.moody.poison, bench.moody.poison_error = "c3", StoreUnavailable("disk is full", machine=True)
    for number in range(6):
        bench.store.record(override(f"c{number}"))
    for _ in range(12):  # well beyond the strikes that make a row suspect
        bench.moody.entered.clear()
        await bench.moody.entered.wait()
    assert bench.store.health().failed == 0
    bench.moody.poison = None
    await bench.store.settled()
    assert await bench.overrides() == {f"c{number}" for number in range(6)}
    assert bench.store.health().ok

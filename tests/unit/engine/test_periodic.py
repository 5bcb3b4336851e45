"""Loops, deadlines, bells and the tasks of one owner."""

from __future__ import annotations

import asyncio
import logging

import pytest

from engine.clock import TapeClock
from engine.periodic import Bell, Tasks, cancel_and_wait, done_within, every, within

START = 1_000_000


@pytest.fixture
def clock() -> TapeClock:
    return TapeClock(START)


async def test_the_first_step_of_the_work_is_taken_in_the_callers_step(clock: TapeClock) -> None:
    """What was checked just before still holds when the request starts to leave: nobody can come in between."""
    order: list[str] = []

    async def request() -> str:
        order.append("left")
        await clock.sleep(1)
        return "answer"

    async def caller() -> str:
        asyncio.get_running_loop().call_soon(order.append, "somebody else")
        order.append("checked")
        return await within(clock, 5, request())

    task = asyncio.ensure_future(caller())
    await clock.advance(START + 1_000)
    assert order == ["checked", "left", "somebody else"]
    assert task.result() == "answer"


async def test_a_deadline_that_passes_cancels_the_work_and_raises(clock: TapeClock) -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await clock.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    task = asyncio.ensure_future(within(clock, 2, slow()))
    await clock.advance(START + 1_999)
    assert not task.done()
    await clock.advance(START + 2_000)
    with pytest.raises(TimeoutError):
        task.result()
    assert ended == ["cancelled"]
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_stays_one(clock: TapeClock) -> None:
    task = asyncio.ensure_future(within(clock, 2, clock.sleep(60)))
    await clock.settle()
    await cancel_and_wait(task)
    assert task.cancelled()


async def test_a_cancellation_in_the_step_of_the_deadline_wins(clock: TapeClock) -> None:
    task = asyncio.ensure_future(within(clock, 2, clock.sleep(60)))

    def by_hand() -> None:
        task.cancel()

    clock.call_at(START + 2_000, by_hand)
    await clock.advance(START + 2_000)
    assert task.cancelled()


async def test_work_that_answers_its_own_cancellation_leaves_none_behind(clock: TapeClock) -> None:
    """A request cut by its deadline may still return or raise something else; its caller is not being cancelled."""

    async def shrugs() -> str:
        try:
            await clock.sleep(60)
        except asyncio.CancelledError:
            return "half an answer"
        return "never"

    async def translates() -> str:
        try:
            await clock.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("cut") from None
        return "never"

    async def both() -> int:
        assert await within(clock, 1, shrugs()) == "half an answer"
        with pytest.raises(ValueError, match="cut"):
            await within(clock, 1, translates())
        me = asyncio.current_task()
        assert me is not None
        return me.cancelling()

    task = asyncio.ensure_future(both())
    await clock.advance(START + 2_000)
    assert task.result() == 0


async def test_work_that_fails_or_ends_in_time_takes_its_timer_with_it(clock: TapeClock) -> None:
    async def broken() -> None:
        raise ValueError("no")

    async def both() -> str:
        with pytest.raises(ValueError, match="no"):
            await within(clock, 1, broken())
        assert await within(clock, 1, asyncio.sleep(0, "yes")) == "yes"
        await clock.sleep(5)
        return "lived on"

    task = asyncio.ensure_future(both())
    await clock.advance(START + 10_000)
    assert task.result() == "lived on"


async def test_deadlines_nest(clock: TapeClock) -> None:
    async def inner() -> str:
        try:
            await within(clock, 1, clock.sleep(60))
        except TimeoutError:
            await clock.sleep(60)
        return "never"

    task = asyncio.ensure_future(within(clock, 3, inner()))
    await clock.advance(START + 3_000)
    with pytest.raises(TimeoutError):
        task.result()


async def test_waiting_for_a_task_leaves_it_running(clock: TapeClock) -> None:
    work = asyncio.ensure_future(clock.sleep(10))
    waiting = asyncio.ensure_future(done_within(clock, 1, work))
    await clock.advance(START + 1_000)
    assert waiting.result() is False
    assert not work.done()
    again = asyncio.ensure_future(done_within(clock, 60, work))
    await clock.advance(START + 10_000)
    assert again.result() is True
    assert await done_within(clock, 0, work) is True


async def test_periodic_work_runs_again_after_it_failed_and_arms_in_finally(
    clock: TapeClock, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[int] = []
    armed: list[float] = []

    async def work() -> None:
        runs.append(clock.now() - START)
        await clock.sleep(1)
        if len(runs) == 2:
            raise RuntimeError("once")

    with caplog.at_level(logging.CRITICAL, "engine.periodic"):
        loop = asyncio.ensure_future(every(clock, 30, work, armed=armed.append))
        await clock.advance(START + 70_000)
        await cancel_and_wait(loop)
    assert runs == [0, 31_000, 62_000], "the pause begins when the run ended"
    assert armed == [30, 30, 30]
    assert loop.cancelled()


async def test_a_bell_wakes_before_time_and_keeps_one_ring(clock: TapeClock) -> None:
    bell, woken = Bell(), list[int]()

    async def loop() -> None:
        while True:
            await bell.wait(clock, 30)
            woken.append(clock.now() - START)

    task = asyncio.ensure_future(loop())
    await clock.advance(START + 10_000)
    assert woken == []
    bell.ring()
    bell.ring()
    await clock.settle()
    assert woken == [10_000]
    await clock.advance(START + 40_000)
    assert woken == [10_000, 40_000]
    await cancel_and_wait(task)
    early = Bell()
    early.ring()
    await asyncio.wait_for(early.wait(clock, 30), 20)


async def test_a_failure_is_told_and_spreads_no_further(clock: TapeClock, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, str]] = []
    tasks = Tasks("s", lambda name, error: told.append((name, str(error))))

    async def broken() -> None:
        raise ValueError("bad")

    with caplog.at_level(logging.CRITICAL, "engine.periodic"):
        sibling = tasks.spawn(clock.sleep(1), "sibling")
        tasks.launch(broken(), "broken")
        tasks.spawn(clock.sleep(1), "cancelled").cancel()
        assert tasks.names == ("s:broken", "s:cancelled", "s:sibling")
        await clock.settle()
    assert told == [("s:broken", "bad")]
    assert list(tasks.names) == ["s:sibling"]
    draining = asyncio.ensure_future(tasks.drained())
    await clock.advance(START + 1_000)
    await draining
    assert sibling.done()


async def test_closing_ends_everything_but_who_closes_and_whatever_comes_later(clock: TapeClock) -> None:
    tasks = Tasks("s", lambda name, error: None)
    closed: list[str] = []

    async def stubborn() -> None:
        try:
            await clock.sleep(60)
        finally:
            tasks.launch(clock.sleep(60), "last word")

    async def closer() -> None:
        await tasks.close()
        closed.append("closed")

    tasks.launch(stubborn(), "stubborn")
    await clock.settle()
    await tasks.spawn(closer(), "closer")
    assert closed == ["closed"]
    late = tasks.spawn(clock.sleep(60), "too late")
    await clock.settle()
    assert late.cancelled()
    assert tasks.names == ()

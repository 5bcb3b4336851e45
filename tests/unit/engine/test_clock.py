"""A tape's time: timers in order, quiet before each step, nothing real left outstanding."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.clock import SystemClock, TapeClock, has_ready_callbacks
from engine.periodic import cancel_and_wait

START = 1_000_000


async def test_ready_callbacks_are_seen_and_only_they() -> None:
    """Pinned to the interpreter's loop: were its queue to be kept elsewhere, a tape would run ahead of its desk."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    assert not has_ready_callbacks(loop)
    ran: list[int] = []
    loop.call_soon(ran.append, 1)
    assert has_ready_callbacks(loop)
    await asyncio.sleep(0)
    assert ran == [1]
    assert not has_ready_callbacks(loop)
    waiting = loop.create_task(asyncio.Event().wait())
    assert has_ready_callbacks(loop), "a task that has yet to begin may run"
    await asyncio.sleep(0)
    assert not has_ready_callbacks(loop), "a task that waits may not"
    timer = loop.call_later(3_600, ran.append, 2)
    assert not has_ready_callbacks(loop)
    timer.cancel()
    await cancel_and_wait(waiting)


async def test_timers_fire_in_order_each_at_its_own_time() -> None:
    clock, fired = TapeClock(START), list[tuple[str, int]]()

    def note(name: str) -> Callable[[], None]:
        return lambda: fired.append((name, clock.now()))

    clock.call_at(START + 300, note("late"))
    clock.call_at(START + 100, note("first"))
    clock.call_at(START + 100, note("second"))
    clock.call_at(START - 50, note("past"))
    clock.call_at(START + 200, note("cancelled")).cancel()
    clock.call_at(START + 301, note("not yet"))
    await clock.advance(START + 300)
    assert fired == [("past", START), ("first", START + 100), ("second", START + 100), ("late", START + 300)]
    assert clock.now() == START + 300
    assert clock.monotonic() == pytest.approx(0.3)


async def test_time_never_goes_back() -> None:
    clock = TapeClock(START)
    await clock.advance(START + 500)
    await clock.advance(START + 100)
    assert clock.now() == START + 500


async def test_what_a_timer_wakes_runs_before_the_next_timer() -> None:
    """A chain of five awaits after a timer ends before time moves on."""
    clock, seen = TapeClock(START), list[tuple[str, int]]()

    async def chain(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        for _ in range(5):
            await asyncio.sleep(0)
        seen.append((name, clock.now()))

    tasks = [asyncio.ensure_future(chain("b", 0.2)), asyncio.ensure_future(chain("a", 0.1))]
    await clock.advance(START + 1_000)
    assert seen == [("a", START + 100), ("b", START + 200)]
    await asyncio.gather(*tasks)


async def test_timers_set_by_timers_fire_on_the_way() -> None:
    clock, moments = TapeClock(START), list[int]()

    def again() -> None:
        moments.append(clock.now() - START)
        clock.call_at(clock.now() + 100, again)

    clock.call_at(START + 100, again)
    await clock.advance(START + 350)
    assert moments == [100, 200, 300]


async def test_the_tape_waits_for_work_outside() -> None:
    """A thread answers when the test lets it; until then no timer fires, and its continuation runs first."""
    clock, order = TapeClock(START), list[str]()
    release, loop = threading.Event(), asyncio.get_running_loop()

    async def disk() -> None:
        with clock.outside():
            await loop.run_in_executor(None, release.wait)
        order.append("disk")

    clock.call_at(START + 10, lambda: order.append("timer"))
    task = asyncio.ensure_future(disk())
    advancing = asyncio.ensure_future(clock.advance(START + 10))
    for _ in range(20):
        await asyncio.sleep(0)
    assert order == []
    assert not advancing.done()
    release.set()
    await advancing
    assert order == ["disk", "timer"]
    await task


async def test_a_sleep_of_nothing_lets_others_run_and_takes_no_time() -> None:
    clock = TapeClock(START)
    other = asyncio.ensure_future(asyncio.sleep(0, "ran"))
    await clock.sleep(0)
    await clock.sleep(-1)
    assert other.done()
    assert clock.now() == START


async def test_a_cancelled_sleep_leaves_no_timer() -> None:
    clock = TapeClock(START)
    sleeper = asyncio.ensure_future(clock.sleep(5))
    await clock.settle()
    await cancel_and_wait(sleeper)
    await clock.advance(START + 10_000)
    assert sleeper.cancelled()


async def test_at_a_speed_the_tape_takes_real_time_and_no_timer_is_early() -> None:
    clock, fired = TapeClock(START, speed=20.0), list[float]()
    begun = time.monotonic()
    clock.call_at(START + 400, lambda: fired.append(time.monotonic() - begun))
    await clock.advance(START + 600)
    assert clock.now() == START + 600
    assert time.monotonic() - begun >= 0.029
    assert fired[0] >= 0.019


async def test_idle_fires_timers_at_once_until_the_event() -> None:
    clock, stop, fired = TapeClock(START), asyncio.Event(), list[int]()

    def tick() -> None:
        fired.append(clock.now() - START)
        if len(fired) == 3:
            stop.set()
        clock.call_at(clock.now() + 60_000, tick)

    clock.call_at(START + 60_000, tick)
    await clock.idle(stop, paced=False)
    assert fired == [60_000, 120_000, 180_000]


async def test_idle_without_timers_waits_for_one_or_for_the_event() -> None:
    clock, stop = TapeClock(START), asyncio.Event()
    idling = asyncio.ensure_future(clock.idle(stop, paced=False))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.call_at(START + 5_000, stop.set)
    await idling
    assert clock.now() == START + 5_000
    again = asyncio.Event()
    idling = asyncio.ensure_future(clock.idle(again, paced=False))
    await asyncio.sleep(0)
    again.set()
    await idling


async def test_paced_idle_lets_time_pass_as_it_does() -> None:
    clock, stop = TapeClock(START), asyncio.Event()
    clock.call_at(START + 30, stop.set)
    begun = time.monotonic()
    await clock.idle(stop, paced=True)
    assert clock.now() == START + 30
    assert time.monotonic() - begun >= 0.029


@settings(max_examples=60)
@given(
    sleeps=st.lists(st.lists(st.integers(1, 500), max_size=5), max_size=5),
    steps=st.lists(st.integers(0, 400), max_size=8),
)
def test_a_tape_moved_in_steps_wakes_everyone_at_the_same_time_as_in_one(
    sleeps: list[list[int]], steps: list[int]
) -> None:
    async def run(stops: list[int]) -> list[tuple[int, int]]:
        clock, woken = TapeClock(START), list[tuple[int, int]]()

        async def sleeper(number: int, pauses: list[int]) -> None:
            for pause in pauses:
                await clock.sleep(pause / 1000)
                woken.append((number, clock.now() - START))

        tasks = [asyncio.ensure_future(sleeper(n, pauses)) for n, pauses in enumerate(sleeps)]
        await clock.settle()
        now = START
        for stop in stops:
            now += stop
            await clock.advance(now)
        await cancel_and_wait(*tasks)
        return woken

    whole = asyncio.run(run([sum(steps)]))
    assert asyncio.run(run(steps)) == whole
    expected = [
        (n, sum(p[: i + 1])) for n, p in enumerate(sleeps) for i in range(len(p)) if sum(p[: i + 1]) <= sum(steps)
    ]
    assert sorted(whole) == sorted(expected)
    assert [at for _, at in whole] == sorted(at for _, at in whole)


async def test_c5_the_systems_clock_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([5_000, 3_000, 4_000, 6_000])
    monkeypatch.setattr("engine.clock.time.time_ns", lambda: next(readings) * 1_000_000)
    clock = SystemClock()
    assert [clock.now() for _ in range(4)] == [5_000, 5_000, 5_000, 6_000]


async def test_c5_a_clock_that_is_set_back_goes_on_at_half_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standing still for as long as it was set back, it let no patience end: a stop too large was left alone."""
    wall, real = 100_000, 50.0
    monkeypatch.setattr("engine.clock.time.time_ns", lambda: wall * 1_000_000)
    monkeypatch.setattr("engine.clock.real_seconds", lambda: real)
    clock, told = SystemClock(), list[int]()
    for passed, step in ((0, 0), (10, -60), (10, 0), (60, 0), (60, 0), (10, 0)):
        wall, real = wall + (passed + step) * 1_000, real + passed
        told.append(clock.now())
    assert told == [100_000, 105_000, 110_000, 140_000, 180_000, 190_000]


async def test_the_systems_clock_calls_when_it_is_due_and_holds_nobody() -> None:
    clock = SystemClock()
    fired = asyncio.Event()
    with clock.outside():
        clock.call_at(clock.now() + 5, fired.set)
        await asyncio.wait_for(fired.wait(), 60)
    begun = clock.monotonic()
    await clock.sleep(0.005)
    assert clock.monotonic() - begun >= 0.004

"""The virtual-time loop: time jumps, lives end without a farewell, threads and sockets are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation.loop import Forbidden, Life, SimClock, SimLoop, Stuck, within_life
from tests.simulation.streams import Stream


def new_loop(seed: int = 1, shuffle: float = 0.0) -> SimLoop:
    return SimLoop(1_000, Stream(seed), shuffle)


def test_time_jumps_to_the_next_timer() -> None:
    loop = new_loop()
    clock = SimClock(loop, None)
    told: list[int] = []

    async def sleeper() -> None:
        await clock.sleep(3600)
        told.append(clock.now())

    loop.spawn(sleeper(), "sleeper")
    loop.run_until(10_000_000)
    assert told == [1_000 + 3_600_000]
    assert clock.now() == 10_000_000


def test_a_dead_life_runs_nothing_not_even_its_finally() -> None:
    loop = new_loop()
    life = Life("one")
    clock = SimClock(loop, life)
    world: list[str] = []

    async def work() -> None:
        try:
            await clock.sleep(5)
            world.append("went on")
        finally:
            world.append("said farewell")

    with within_life(life):
        task = loop.create_task(work())
    clock.call_at(4_000, lambda: world.append("timer"))
    loop.run_until(3_000)
    life.dead = True
    task.cancel()
    loop.run_until(60_000)
    assert world == []
    with pytest.raises(RuntimeError, match="GeneratorExit"):  # let it go here, not at a moment of the collector's own
        task.get_coro().throw(RuntimeError("GeneratorExit"))


def test_a_paused_life_does_what_fell_due_when_it_goes_on() -> None:
    loop = new_loop()
    life = Life("one")
    clock = SimClock(loop, life)
    told: list[float] = []
    clock.call_at(4_000, lambda: told.append(clock.monotonic()))
    life.paused = True
    loop.run_until(60_000)
    assert told == []
    loop.resume(life)
    loop.run_until(60_001)
    assert told == [60.0]


@pytest.mark.parametrize(
    "reach",
    [
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_soon_threadsafe(print),
    ],
)
def test_threads_and_other_clocks_are_refused(reach: Callable[[SimLoop], Any]) -> None:
    with pytest.raises(Forbidden):
        reach(new_loop())


def test_sockets_are_refused() -> None:
    loop = new_loop()
    task = loop.create_task(asyncio.open_connection("localhost", 1))
    loop.run_until(2_000)
    assert isinstance(task.exception(), Forbidden)


def test_a_loop_without_time_is_called_stuck() -> None:
    loop = new_loop()

    async def spins() -> None:
        for _ in range(1_000_000):
            await asyncio.sleep(0)

    loop.spawn(spins(), "spins")
    with pytest.raises(Stuck):
        loop.run_until(2_000)


def test_the_order_of_task_steps_is_the_seeds_and_nothing_elses() -> None:
    def order(seed: int) -> list[int]:
        loop = new_loop(seed, 0.9)
        told: list[int] = []

        async def say(number: int) -> None:
            told.append(number)

        for number in range(20):
            loop.spawn(say(number), str(number))
        loop.run_until(2_000)
        return told

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(2)) == list(range(20))

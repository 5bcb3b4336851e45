"""A strategy that runs away is interrupted; nothing else ever is. Real threads, real time, many repetitions."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from engine.errors import StrategyFailed
from engine.watchdog import ThreadWatchdog

ENDLESS_S = 60.0


@pytest.fixture
def watchdog() -> Iterator[ThreadWatchdog]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    made = ThreadWatchdog()
    yield made
    made.close()
    sys.setswitchinterval(interval)


def busy(seconds: float) -> int:
    """Work in Python for about that long."""
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        count += 1
    return count


def interrupted_after(watchdog: ThreadWatchdog, budget: float) -> float:
    """How long a strategy lived that would have ended by itself, and unharmed, after `ENDLESS_S`."""
    begun = time.monotonic()
    with pytest.raises(StrategyFailed, match="ran longer than"):
        watchdog.run(budget, lambda: busy(ENDLESS_S))
    return time.monotonic() - begun


def test_a_busy_loop_is_interrupted_and_not_before_its_budget(watchdog: ThreadWatchdog) -> None:
    assert interrupted_after(watchdog, 0.25) >= 0.249


def test_a_strategy_that_catches_every_exception_is_interrupted_all_the_same(watchdog: ThreadWatchdog) -> None:
    def stubborn() -> None:
        end = time.monotonic() + ENDLESS_S
        while time.monotonic() < end:
            try:
                busy(ENDLESS_S)
            except Exception:
                continue

    with pytest.raises(StrategyFailed):
        watchdog.run(0.02, stubborn)


def test_a_fast_strategy_never_is(watchdog: ThreadWatchdog) -> None:
    for number in range(3_000):
        assert watchdog.run(ENDLESS_S, lambda seen=number: seen * 2) == number + number  # type: ignore[misc]


def test_a_strategys_own_exception_is_its_own(watchdog: ThreadWatchdog) -> None:
    with pytest.raises(ZeroDivisionError):
        watchdog.run(ENDLESS_S, lambda: 1 // 0)
    assert watchdog.run(ENDLESS_S, lambda: "next") == "next"


def test_the_interruption_never_hits_what_runs_next_and_the_watch_goes_on(watchdog: ThreadWatchdog) -> None:
    """Strategies that end in the very moment of their deadline, again and again: the races are here.

    How late the watch wakes up is the machine's affair, so each is made a little longer than the one before when that
    one got away, and a little shorter when it was caught.
    """
    budget, over, failed, passed = 0.002, 0.0, 0, 0
    for number in range(600):
        try:
            watchdog.run(budget, lambda seen=over: busy(budget + seen))  # type: ignore[misc]
            passed, over = passed + 1, over + 0.00005 * (1 + number % 3)
        except StrategyFailed:
            failed, over = failed + 1, over - 0.00005 * (1 + number % 3)
        busy(0.0003)
        if number % 40 == 39:
            assert interrupted_after(watchdog, budget) >= budget / 2, "the watch is still awake"
    assert failed > 60
    assert passed > 60
    busy(0.01)


def test_it_guards_one_strategy_after_another(watchdog: ThreadWatchdog) -> None:
    for _ in range(20):
        watchdog.run(ENDLESS_S, lambda: busy(0.001))
        interrupted_after(watchdog, 0.003)

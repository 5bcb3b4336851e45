"""Tasks, loops and deadlines; the only place that starts, repeats and cancels them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from engine.ports import Clock

T = TypeVar("T")
log = logging.getLogger(__name__)


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and return when all have ended; what they raise is theirs."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Tasks:
    """The running procedures of one owner; a failure is told to `on_failure` and spreads no further."""

    def __init__(self, owner: str, on_failure: Callable[[str, BaseException], None]) -> None:
        self._owner = owner
        self._on_failure = on_failure
        self._running: dict[asyncio.Task[Any], None] = {}  # in order, so that they also end in order
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start `work` under a name that logs and failures carry."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}:{name}")
        self._running[task] = None
        task.add_done_callback(self._ended)
        if self._closed:
            task.cancel()
        return task

    def launch(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Start `work` for its effects alone."""
        self.spawn(work, name)  # type: ignore[unused-awaitable]

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
            self._on_failure(task.get_name(), error)

    @property
    def names(self) -> tuple[str, ...]:
        """What runs now."""
        return tuple(sorted(task.get_name() for task in self._running))

    async def close(self) -> None:
        """Cancel all and wait; later spawns are cancelled at once."""
        self._closed = True
        me = asyncio.current_task()
        while others := [task for task in self._running if task is not me]:
            await cancel_and_wait(*others)

    async def drained(self) -> None:
        """Return when nothing runs."""
        while self._running:
            await asyncio.wait(tuple(self._running))


async def every(
    clock: Clock,
    seconds: float,
    work: Callable[[], Awaitable[None]],
    *,
    armed: Callable[[float], None] | None = None,
) -> None:
    """Run `work` now and for ever, `seconds` after each run ended, however it ended.

    A failing run is logged and does not end the loop; `armed` is told each pause.
    """
    while True:
        try:
            await work()
        except Exception:
            log.exception("periodic work failed; it runs again in %s s", seconds)
        finally:
            if armed is not None:
                armed(seconds)
        await clock.sleep(seconds)


async def within(clock: Clock, seconds: float, work: Awaitable[T]) -> T:
    """The result of `work`, or TimeoutError once `seconds` passed on `clock` (then `work` is cancelled).

    Runs in the caller's own task, so that the first step of `work` is taken at once: whatever the caller checked
    just before still holds when a request starts to leave.
    """
    me = asyncio.current_task()
    if me is None:
        raise RuntimeError("within() needs a running task")
    cancelled_before = me.cancelling()
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        me.cancel()

    timer = clock.call_at(clock.now() + round(seconds * 1000), expire)
    try:
        return await work
    except asyncio.CancelledError:
        if expired and me.cancelling() - 1 <= cancelled_before:
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
        if expired:
            me.uncancel()


async def done_within(clock: Clock, seconds: float, task: asyncio.Future[Any]) -> bool:
    """Whether `task` ended before `seconds` passed on `clock`; it goes on either way."""
    if task.done():
        return True
    woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    timer = clock.call_at(clock.now() + round(seconds * 1000), wake)
    task.add_done_callback(wake)
    try:
        await woken
        return task.done()
    finally:
        timer.cancel()
        task.remove_done_callback(wake)


class Bell:
    """Wakes one loop before its time; a ring while nobody waits is kept for the next wait."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the loop now."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, clock: Clock, seconds: float) -> None:
        """Return when rung, or after `seconds` on `clock`."""
        if not self._rung:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await done_within(clock, seconds, self._waiter)
            finally:
                self._waiter.cancel()
        self._rung = False


class Burst:
    """Rounds of a loop that follow one another at once: so many, so close together, and then others have to run."""

    MOST, WITHIN_MS = 20, 100

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rounds = 0
        self._since = clock.now()

    def goes_on(self) -> bool:
        """Whether one more round may follow at once."""
        now = self._clock.now()
        if now - self._since > self.WITHIN_MS:
            self._rounds, self._since = 0, now
        self._rounds += 1
        return self._rounds <= self.MOST

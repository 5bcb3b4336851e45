"""The clocks; nothing else in engine or brokers reads the time or sleeps."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.domain.ids import Millis
from engine.ports import Timer

PACE_STEP_SECONDS = 0.1
# A machine that slept must not take what it knew before for fresh: where there is a clock that ran on, it is ours.
_RUNS_ON = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def real_seconds() -> float:
    """Seconds of real time for measuring durations, a suspended machine's sleep included."""
    return time.clock_gettime(_RUNS_ON)


class SystemClock:
    """The machine's clock; `now()` never goes back even when the machine's time is set back.

    Nor does it stand still then: patience, ages and deadlines are measured by it. It goes on at half its pace until
    the machine's time has caught up.
    """

    def __init__(self) -> None:
        self._agreed: tuple[Millis, float] = (0, 0.0)  # when it last told the machine's time, and that by real_seconds

    def now(self) -> Millis:
        """UTC milliseconds."""
        wall, real = time.time_ns() // 1_000_000, real_seconds()
        agreed, since = self._agreed
        slow = agreed + int((real - since) * 500) if agreed else 0
        if wall < slow:
            return slow
        self._agreed = wall, real
        return wall

    def monotonic(self) -> float:
        """Seconds for durations, a suspended machine's sleep included."""
        return real_seconds()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def call_at(self, at: Millis, call: Callable[[], None]) -> Timer:
        """Run `call` once `now() >= at`; the delay is measured on the monotonic clock."""
        return asyncio.get_running_loop().call_later(max(0.0, (at - self.now()) / 1000), call)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Nothing to hold: this clock waits for nobody."""
        yield


class _TapeTimer:
    """One pending call on a tape."""

    __slots__ = ("at", "call", "cancelled", "order")

    def __init__(self, at: Millis, order: int, call: Callable[[], None]) -> None:
        self.at = at
        self.order = order
        self.call = call
        self.cancelled = False

    def __lt__(self, other: _TapeTimer) -> bool:
        return (self.at, self.order) < (other.at, other.order)

    def cancel(self) -> None:
        self.cancelled = True


class TapeClock:
    """Time as a recording tells it: `speed` times real time, or None for as fast as the desk can follow."""

    def __init__(self, start: Millis, speed: float | None = None) -> None:
        self._start = start
        self._now = start
        self._speed = speed
        self._timers: list[_TapeTimer] = []
        self._count = 0
        self._outside = 0
        self._stirred = asyncio.Event()

    def now(self) -> Millis:
        """The tape's time in UTC milliseconds."""
        return self._now

    def monotonic(self) -> float:
        """Seconds of tape since its start."""
        return (self._now - self._start) / 1000

    async def sleep(self, seconds: float) -> None:
        """Wait for the tape to move that far; 0 lets others run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_at(
            self._now + max(1, round(seconds * 1000)), lambda: None if woken.done() else woken.set_result(None)
        )
        try:
            await woken
        finally:
            timer.cancel()

    def call_at(self, at: Millis, call: Callable[[], None]) -> Timer:
        """Run `call` when the tape reaches `at`."""
        self._count += 1
        timer = _TapeTimer(max(at, self._now), self._count, call)
        heapq.heappush(self._timers, timer)
        self._stirred.set()
        return timer

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Hold the tape while something real is awaited."""
        self._outside += 1
        try:
            yield
        finally:
            self._outside -= 1
            self._stirred.set()

    def _next_timer(self) -> _TapeTimer | None:
        while self._timers and self._timers[0].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0] if self._timers else None

    def _fire_due(self) -> None:
        timer = heapq.heappop(self._timers)
        self._now = max(self._now, timer.at)
        timer.call()

    async def settle(self) -> None:
        """Return when nothing on the loop can run except by a later timer, and nothing outside is awaited."""
        while True:
            await asyncio.sleep(0)
            if self._outside:
                self._stirred.clear()
                if self._outside:
                    await self._stirred.wait()
            elif not has_ready_callbacks(asyncio.get_running_loop()):
                return

    async def _pace(self, to: Millis) -> None:
        if self._speed is None:
            return
        while (ahead := to - self._now) > 0:
            step = min(ahead, max(1, round(PACE_STEP_SECONDS * 1000 * self._speed)))
            await asyncio.sleep(step / 1000 / self._speed)
            due = self._next_timer()
            if due is not None and due.at <= self._now + step:
                return
            self._now += step

    async def advance(self, to: Millis) -> None:
        """Move to `to`, timers first, each followed by quiet; see TapeDrive."""
        await self.settle()
        while (timer := self._next_timer()) is not None and timer.at <= to:
            await self._pace(timer.at)
            self._fire_due()
            await self.settle()
        await self._pace(to)
        while (timer := self._next_timer()) is not None and timer.at <= to:
            self._fire_due()
            await self.settle()
        self._now = max(self._now, to)

    async def idle(self, until: asyncio.Event, *, paced: bool) -> None:
        """Let timers fire, in real time when `paced`, else at once, until the event."""
        stop = asyncio.ensure_future(until.wait())
        try:
            while not until.is_set():
                await self.settle()
                if until.is_set():
                    return
                timer = self._next_timer()
                if timer is None:
                    self._stirred.clear()
                    stirred = asyncio.ensure_future(self._stirred.wait())
                    await asyncio.wait({stop, stirred}, return_when=asyncio.FIRST_COMPLETED)
                    stirred.cancel()
                    continue
                if paced and timer.at > self._now:
                    step = min(timer.at - self._now, round(PACE_STEP_SECONDS * 1000))
                    await asyncio.wait({stop}, timeout=step / 1000)
                    self._now += step
                if timer.at <= self._now or not paced:
                    self._fire_due()
        finally:
            stop.cancel()


def has_ready_callbacks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether anything but the caller waits to run in this turn of the loop.

    Reads the standard loop's private ready queue: there is no public way to ask, and counting tasks
    cannot tell one that waits from one that may run. A test pins it to the interpreter's loop.
    """
    return bool(loop._ready)  # type: ignore[attr-defined]

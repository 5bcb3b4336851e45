"""A virtual-time event loop: seeded order of task steps, time that jumps, no threads, no sockets, lives that end.

Every callback belongs to the life (one run of the desk's process) in whose context it was scheduled, or to the world.
A life that died is never run again: not its timers, not its tasks, not their `finally`. Nothing of it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

from engine.domain.ids import Millis
from engine.ports import Rng

if TYPE_CHECKING:  # what is not offered here raises NotImplementedError, which is what a socket should meet
    from asyncio import SelectorEventLoop as _Loop
else:
    _Loop = asyncio.AbstractEventLoop

T = TypeVar("T")
STEP_LIMIT = 100_000
"""Callbacks run without time passing before the run is called stuck."""
SWAPS = 4


class Life:
    """One run of a process. `dead` ends it at once; `paused` holds its callbacks as SIGSTOP would."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._dead = self._paused = False
        self.runs = True
        self.context = contextvars.copy_context()
        self.context.run(LIFE.set, self)

    @property
    def dead(self) -> bool:
        """Whether it has ended."""
        return self._dead

    @dead.setter
    def dead(self, dead: bool) -> None:
        self._dead = dead
        self.runs = not (dead or self._paused)

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._paused = paused
        self.runs = not (paused or self._dead)


LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("life", default=None)


class Stuck(AssertionError):
    """Callbacks go on without time passing, or nothing will ever happen again."""


class Forbidden(AssertionError):
    """Code under simulation reached for a thread, a socket or the machine's clock."""


class SimTimer:
    """One pending call."""

    __slots__ = ("call", "cancelled")

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """Take the call back."""
        self.cancelled = True


_Step: TypeAlias = "tuple[Callable[..., Any], tuple[Any, ...], contextvars.Context]"
"""A callback that is ready to run, its arguments and its context, which names its life."""


class _NoHandle(asyncio.Handle):
    """What `call_soon` gives: asyncio itself drops it, and a step cannot be taken back here."""

    def __init__(self) -> None:
        """Nothing is held."""

    def cancel(self) -> NoReturn:
        raise Forbidden("a step that is ready cannot be taken back")


_NO_HANDLE = _NoHandle()
_TASK_CALLS = ("TaskStepMethWrapper", "TaskWakeupMethWrapper")
"""How the C implementation names the calls that step and wake a task."""


def _is_of_task(step: _Step) -> bool:
    """Whether it steps or wakes a task."""
    callback = step[0]
    return type(callback).__name__ in _TASK_CALLS or isinstance(getattr(callback, "__self__", None), asyncio.Task)


class SimLoop(_Loop):
    """Runs everything of one simulation. Times are integer milliseconds of virtual UTC."""

    def __init__(self, start: Millis, rng: Rng, shuffle: float = 0.3) -> None:
        self.at: Millis = start
        self.steps = 0
        self.failures: list[str] = []
        self.halted = False
        self._rng = rng
        self._shuffle = shuffle
        self._ready: deque[_Step] = deque()
        self._timers: list[tuple[Millis, int, Life | None, SimTimer | asyncio.Future[None]]] = []
        self._count = 0
        self._held: list[tuple[Life, _Step | SimTimer | asyncio.Future[None]]] = []
        self._spawned: list[asyncio.Task[Any]] = []  # nobody else holds them, and what is collected is reported
        # Every future asks for the first and every wait for the second: neither costs a frame of Python here.
        self.get_debug = bool  # type: ignore[method-assign]
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign]
        self._closed = False

    # -- time ---------------------------------------------------------------------------------------------

    def add_timer(self, at: Millis, call: Callable[[], None], life: Life | None) -> SimTimer:
        """Call at a moment of virtual time, for a life or for the world."""
        self._count = count = self._count + 1
        timer = SimTimer(call)
        heapq.heappush(self._timers, (at if at > self.at else self.at, count, life, timer))
        return timer

    def wait(self, milliseconds: int, life: Life | None) -> asyncio.Future[None]:
        """Done after so much virtual time; whoever does not want it any more cancels it."""
        self._count = count = self._count + 1
        woken: asyncio.Future[None] = asyncio.Future(loop=self)
        heapq.heappush(self._timers, (self.at + milliseconds, count, life, woken))
        return woken

    def run_until(self, at: Millis) -> bool:
        """Run to a moment, or until `halted` was set in a step; whether it was."""
        ready, timers, pop, hold = self._ready, self._timers, heapq.heappop, self._held.append
        shuffle, draw, take = self._shuffle, self._rng.random, self._ready.popleft
        steps = self.steps
        asyncio._set_running_loop(self)
        try:
            while True:
                most = steps + STEP_LIMIT
                while ready:
                    callback, args, context = (
                        take() if not shuffle or len(ready) == 1 or draw() >= shuffle else self._take_another()
                    )
                    life = context.get(LIFE)
                    if life is None or life.runs:
                        steps += 1
                        context.run(callback, *args)
                    elif not life.dead:
                        hold((life, (callback, args, context)))
                    if steps == most:
                        raise Stuck(f"no time passes at {self.at}: {callback!r}")
                    if self.halted:
                        return True
                if not timers or timers[0][0] > at:
                    self.at = at
                    return False
                self.at, _, life, due = pop(timers)
                if not isinstance(due, SimTimer):
                    if due.done():
                        continue
                    if life is None or life.runs:
                        due.set_result(None)
                    elif not life.dead:
                        hold((life, due))
                    continue
                if due.cancelled:
                    continue
                if life is None:
                    due.call()
                elif life.runs:
                    life.context.run(due.call)
                elif not life.dead:
                    hold((life, due))
                if self.halted and not ready:
                    return True
        finally:
            self.steps = steps
            asyncio._set_running_loop(None)

    def _take_another(self) -> _Step:
        """One of the next few steps, if they are all of tasks: nobody may count on their order."""
        ready = self._ready
        other = self._rng.randint(1, min(len(ready), SWAPS) - 1)
        if not all(_is_of_task(ready[i]) for i in range(other + 1)):
            return ready.popleft()
        ready.rotate(-other)
        step = ready.popleft()
        ready.rotate(other)
        return step

    def resume(self, life: Life) -> None:
        """Let a paused life go on: what fell due meanwhile happens now, in its order."""
        life.paused = False
        held = [item for item in self._held if item[0] is life]
        self._held[:] = [item for item in self._held if item[0] is not life]
        for _, item in held:
            if isinstance(item, tuple):
                self._ready.append(item)
            else:  # the same timer: whoever holds it may still take it back
                self._count += 1
                heapq.heappush(self._timers, (self.at, self._count, life, item))

    # -- what asyncio asks of a loop ------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        self._ready.append((callback, args, context or contextvars.copy_context()))
        return _NO_HANDLE

    def time(self) -> float:
        return self.at / 1000

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        if self._closed:
            coro.close()
            raise Forbidden("the simulation is over")
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str) -> None:
        """Run it for its effects alone."""
        self._spawned.append(self.create_task(coro, name=name))

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def close(self) -> None:
        """Nothing runs any more."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()
        self._held.clear()

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> NoReturn:  # type: ignore[override]
        raise Forbidden("time comes from the Clock, not from loop.call_later")

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> NoReturn:  # type: ignore[override]
        raise Forbidden("time comes from the Clock, not from loop.call_at")

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:  # type: ignore[override]
        raise Forbidden("no threads: blocking calls go through the Blocking port")

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> NoReturn:  # type: ignore[override]
        raise Forbidden("no other thread exists here")

    async def create_connection(self, *args: Any, **options: Any) -> NoReturn:
        raise Forbidden("no sockets: the exchange is the world")

    async def create_server(self, *args: Any, **options: Any) -> NoReturn:
        raise Forbidden("no sockets: the exchange is the world")


@contextmanager
def within_life(life: Life | None) -> Iterator[None]:
    """What is scheduled inside belongs to that life."""
    token = LIFE.set(life)
    try:
        yield
    finally:
        LIFE.reset(token)


class SimClock:
    """The clock of one life, or of the world. `step` moves its wall time; its monotonic time never moves with it."""

    def __init__(self, loop: SimLoop, life: Life | None) -> None:
        self._loop = loop
        self._life = life
        self._agreed: Millis = 0
        self._since: Millis = 0
        self.offset_ms = 0
        self.right_since: Millis = 0

    def now(self) -> Millis:
        """UTC milliseconds; like the machine's clock of the product it never goes back: set back, it goes on slowly."""
        true = at = self._loop.at
        if not self.offset_ms and self._since == true == self._agreed:
            return true
        at += self.offset_ms
        slow = self._agreed + (true - self._since) // 2
        if at < slow:
            at = slow
        else:
            self._agreed, self._since = at, true
        if at != true:
            self.right_since = true
        return at

    def monotonic(self) -> float:
        """Virtual seconds, untouched by steps of the wall clock."""
        return self._loop.at / 1000

    async def sleep(self, seconds: float) -> None:
        """Wait on virtual time."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wait = round(seconds * 1000)
        await self._loop.wait(wait if wait > 1 else 1, self._life)

    def call_at(self, at: Millis, call: Callable[[], None]) -> SimTimer:
        """Run `call` once that much virtual time has passed as lies between now and `at`."""
        now = self.now()
        return self._loop.add_timer(self._loop.at + (at - now if at > now else 0), call, self._life)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Nothing to hold: nothing is outside."""
        yield


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Finalisers of dead lives must not run at a moment that no seed chooses."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()

"""EngineHost: the engine's own thread and loop, and the only way in from another thread.

In go commands and queries, each answered by a future; out come one reference to an immutable snapshot and numbered
events. Snapshots are taken only while somebody asks, at most ten times a second.

While another engine commands the desk (at the start, or because it took over), the host looks on instead: the same
messages, from the audit trail, and every command refused with the holder's name.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from engine import views
from engine.clock import real_seconds
from engine.commands import Command, Origin, Receipt, Shutdown
from engine.domain.ids import CommandId
from engine.domain.settings import ShutdownPolicy
from engine.engine import Engine
from engine.errors import DeskHeld, SextantError
from engine.events import Event
from engine.overrides.dispatch import Overrides
from engine.periodic import Tasks
from engine.plan import EnginePlan
from engine.queries import Answer, CheckAnswer, ModifyCheck, Query, TicketCheck
from engine.snapshot import DeskSnapshot, LoopLag, RunFigures, Severity
from engine.viewer import Viewer

log = logging.getLogger(__name__)
SNAPSHOT_SECONDS = 0.1
LOOK_SECONDS = 1.0
PROBE_SECONDS = 0.05
STORE_PROBE_SECONDS = 2.0
LAG_SAMPLES = 12_000
LAG_ALARM_SECONDS = 2.0
SUSPEND_SECONDS = 5.0
YOUNG_GENERATION = 20_000


class LagProbe:
    """How late the loop wakes up; measured on the loop's own clock, in milliseconds."""

    def __init__(self) -> None:
        self._late: deque[float] = deque(maxlen=LAG_SAMPLES)
        self._worst = 0.0

    def add(self, late: float) -> None:
        """Take one sample."""
        self._late.append(late)
        self._worst = max(self._worst, late)

    def figures(self) -> LoopLag:
        """Median, 99th percentile and maximum since the start (the maximum of all, the others of the last 10 min)."""
        if not self._late:
            return LoopLag(0.0, 0.0, 0.0)
        ordered = sorted(self._late)
        return LoopLag(
            round(ordered[len(ordered) // 2], 3),
            round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 3),
            round(self._worst, 3),
        )


class EngineHost:
    """Runs one engine. `make_plan` is called on the engine's loop, so that everything async is born there."""

    def __init__(self, make_plan: Callable[[], EnginePlan], *, manage_gc: bool = True) -> None:
        self._make_plan = make_plan
        self._manage_gc = manage_gc
        self._thread = threading.Thread(target=self._body, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self._overrides: Overrides | None = None
        self._viewer: Viewer | None = None
        self._held: DeskHeld | None = None
        self._snapshot: DeskSnapshot | None = None
        self._wanted = True
        self._probe = LagProbe()
        self._stop_asked: asyncio.Event | None = None
        self._policy: ShutdownPolicy | None = None
        self._shutdown_id: CommandId | None = None
        self._tape_over = threading.Event()
        self._figures: RunFigures | None = None
        self._started: Future[None] = Future()
        self._ended: Future[None] = Future()

    # -- from any thread ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; `started` tells how it went."""
        self._thread.start()

    @property
    def started(self) -> Future[None]:
        """Done when the engine has begun; carries DeskUnusable or ConfigurationError when it could not."""
        return self._started

    @property
    def ended(self) -> Future[None]:
        """Done when the engine has stopped and written everything."""
        return self._ended

    def snapshot(self) -> DeskSnapshot | None:
        """The newest picture of the desk; asking keeps new ones coming."""
        self._wanted = True
        return self._snapshot

    def events(self, since: int) -> tuple[Event, ...]:
        """Events after a number, as many as are kept; a copy made on the engine's loop is not needed for reading."""
        engine = self._engine
        return () if engine is None else engine.board.since(since)

    def dispatch(self, command: Command) -> Future[Receipt]:
        """Hand a command to the engine."""
        overrides, loop, viewer = self._overrides, self._loop, self._viewer
        if viewer is not None or overrides is None or loop is None or loop.is_closed():
            why = "the engine is not running" if viewer is None else viewer.refusal()
            if viewer is not None and isinstance(command, Shutdown):
                self.shut_down()
                why = "closing"
            answered: Future[Receipt] = Future()
            taken = why == "closing"
            answered.set_result(Receipt(id=command.origin.id, taken=taken, message=why, at=command.origin.at))
            return answered
        return asyncio.run_coroutine_threadsafe(overrides.dispatch(command), loop)

    def ask(self, query: Query) -> Future[Answer]:
        """Ask the audit trail, or what an order by hand would meet."""
        engine, loop, viewer, overrides = self._engine, self._loop, self._viewer, self._overrides
        ended: Future[Answer] = Future()
        ended.set_exception(RuntimeError("the engine is not running"))
        if loop is None or loop.is_closed():
            return ended
        if isinstance(query, TicketCheck | ModifyCheck):
            if viewer is None:
                return ended if overrides is None else asyncio.run_coroutine_threadsafe(overrides.check(query), loop)
            refused: Future[Answer] = Future()
            refused.set_result(CheckAnswer(at=viewer.now, refusals=(viewer.refusal(),)))
            return refused
        store = viewer.store if viewer is not None else engine.store if engine is not None else None
        return ended if store is None else asyncio.run_coroutine_threadsafe(store.answer(query), loop)

    def shut_down(self, policy: ShutdownPolicy | None = None) -> None:
        """Ask the engine to stop; None means the configured policy. Harmless when it already stops."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._ask_stop, policy, None)

    def lag(self) -> LoopLag:
        """The loop's lateness so far."""
        return self._probe.figures()

    def wait_for_tape(self) -> None:
        """Return when a recording was played to its end, or the engine ended."""
        self._tape_over.wait()

    def figures(self) -> RunFigures | None:
        """What the run did; None until the engine has stopped."""
        return self._figures

    def trouble(self, key: str, text: str | None) -> None:
        """From any thread: a warning about what the process does around the engine; None: it is over."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell_trouble, key, text)

    def _tell_trouble(self, key: str, text: str | None) -> None:
        if self._engine is None:
            return
        if text is None:
            self._engine.board.clear(key)
        else:
            self._engine.board.alert(key, Severity.WARNING, text, lasting=True)

    def held(self) -> DeskHeld | None:
        """Who took the desk over while this engine ran, or held it when it started; None: nobody else."""
        return self._held

    # -- on the engine's thread -----------------------------------------------------------------------------

    def _body(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            elif not isinstance(error, Exception):
                raise
            else:
                log.exception("the engine ended by an error")
        finally:
            if not self._started.done():
                self._started.set_result(None)
            self._tape_over.set()
            self._ended.set_result(None)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop_asked = asyncio.Event()
        plan = self._make_plan()
        engine = Engine(plan)
        try:
            await engine.start()
        except BaseException as error:
            await engine.stop(ShutdownPolicy.LEAVE, log.info)
            if not isinstance(error, DeskHeld) or not await self._look_on(plan, error):
                raise
            return
        self._overrides = Overrides(engine, self._on_shutdown)
        self._engine = engine
        tasks = Tasks("host", lambda name, error: log.error("%s ended: %s", name, error))
        tasks.launch(self._publish(engine), "snapshots")
        tasks.launch(self._tell_tape_end(engine), "tape end")
        tasks.launch(self._measure(engine), "loop lag")
        tasks.launch(self._probe_store(engine), "audit trail")
        self._tune_gc()
        self._started.set_result(None)
        ends: set[asyncio.Future[Any]] = {tasks.spawn(_waited(self._stop_asked), "stop"), engine.lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await self._stop(engine)
        await tasks.close()
        self._snapshot = views.take(engine, self._probe.figures())
        if engine.lost.done() and not self._stop_asked.is_set():
            await self._look_on(plan, engine.lost.result())

    async def _look_on(self, plan: EnginePlan, held: DeskHeld) -> bool:
        """Show what another engine does until asked to stop; False when this run has no use for that, or no rows."""
        self._held = held
        if plan.viewing is None or self._stop_asked is None:
            return False
        store = plan.viewing()
        try:
            await store.open()
        except SextantError as error:
            log.warning("nothing can be shown: %s", error)
            return False
        log.warning("view only: %s", held)
        self._viewer = viewer = Viewer(plan, store, held)
        tasks = Tasks("viewer", lambda name, error: log.error("%s ended: %s", name, error))
        number = self._snapshot.number if self._snapshot is not None else 0

        async def show() -> None:
            while True:
                self._snapshot = await viewer.take(number, self._probe.figures())
                await real_sleep(LOOK_SECONDS)

        tasks.launch(show(), "look")
        if not self._started.done():
            self._started.set_result(None)
        await self._stop_asked.wait()
        await tasks.close()
        await store.close()
        return True

    async def _stop(self, engine: Engine) -> None:
        heat = engine.portfolio.heat()
        id = self._shutdown_id or CommandId("shutdown")
        say = engine.board.begin(id, "Shutdown", None)
        policy = self._policy or engine.plan.shutdown
        await engine.stop(ShutdownPolicy.LEAVE if engine.lost.done() else policy, say)
        if self._overrides is not None:
            await self._overrides.close()
        engine.board.end(id, True, "stopped")
        self._figures = views.figures(engine, heat, self._probe.figures())

    async def _tell_tape_end(self, engine: Engine) -> None:
        await engine.tape_ended.wait()
        self._tape_over.set()

    def _on_shutdown(self, command: Shutdown) -> None:
        self._ask_stop(command.policy, command.origin)

    def _ask_stop(self, policy: ShutdownPolicy | None, origin: Origin | None) -> None:
        if self._stop_asked is not None and not self._stop_asked.is_set():
            self._policy = policy
            self._shutdown_id = origin.id if origin is not None else None
            self._stop_asked.set()

    async def _publish(self, engine: Engine) -> None:
        """In real time, whatever clock the desk runs on: eyes do not follow a tape."""
        while True:
            if self._wanted or self._snapshot is None:
                self._wanted = False
                self._snapshot = views.take(engine, self._probe.figures())
            await real_sleep(SNAPSHOT_SECONDS)

    async def _probe_store(self, engine: Engine) -> None:
        """In real time too: an outage does not follow a tape."""
        while True:
            engine.store.probe()
            await real_sleep(STORE_PROBE_SECONDS)

    async def _measure(self, engine: Engine) -> None:
        while True:
            before = real_seconds()
            await real_sleep(PROBE_SECONDS)
            late = real_seconds() - before - PROBE_SECONDS
            self._probe.add(max(0.0, late * 1000))
            if late > SUSPEND_SECONDS:
                engine.resumed(late)
            elif late > LAG_ALARM_SECONDS:
                engine.board.alert(
                    "lag", Severity.CRITICAL, f"the engine's loop stood still for {late:.1f} s: data may be stale"
                )
            if self._manage_gc:
                gc.collect(0)

    def _tune_gc(self) -> None:
        """Full collections hold the GIL for tens of milliseconds: what exists now is frozen, young ones are ours."""
        if self._manage_gc:
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_GENERATION, 50, 1_000)


async def _waited(event: asyncio.Event) -> None:
    await event.wait()


async def real_sleep(seconds: float) -> None:
    """Wait in real time; for the probe and the eyes only."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()
    handle = loop.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
    try:
        await woken
    finally:
        handle.cancel()

"""What an operator does by hand: each command gets a receipt, its progress follows as lines and events.

What adds risk is committed before it takes effect and needs a reason. What lowers risk takes effect even if nothing
can record it; its row follows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import assert_never

from msgspec.structs import replace as changed

from engine import commands as c
from engine.board import tell_dead_jobs
from engine.domain.ids import CommandId
from engine.domain.intents import FLATTENED, LIMIT_NOTE
from engine.domain.records import LatchKind, LimitsChanged
from engine.domain.risk import GROUP, looser, problem_of, with_limits
from engine.engine import Engine
from engine.errors import SextantError, StoreError
from engine.overrides.base import Refusal
from engine.overrides.disagreements import DisagreementOverrides
from engine.overrides.orders import OrderOverrides
from engine.snapshot import Phase, Severity

log = logging.getLogger(__name__)
KEEP_RECEIPTS = 500
LATCH_EVERY = 1.0
KILLED_AGAIN = "somebody killed again meanwhile; release that one if it is meant"


class Overrides(OrderOverrides, DisagreementOverrides):
    """Turns commands into deeds of the engine; the same id twice gets the same receipt and acts once."""

    def __init__(self, engine: Engine, on_shutdown: Callable[[c.Shutdown], None]) -> None:
        super().__init__(engine)
        self._on_shutdown = on_shutdown
        self._receipts: dict[CommandId, c.Receipt] = {}

    async def dispatch(self, command: c.Command) -> c.Receipt:
        """Take a command or say why not; never raises."""
        origin = command.origin
        known = self._receipts.get(origin.id)
        if known is not None:
            return known
        self._receipts[origin.id] = c.Receipt(
            id=origin.id, taken=True, message="already under way", at=self._engine.clock.now()
        )
        try:
            message = await self._take(command)
            taken = True
        except (Refusal, SextantError) as refusal:
            message, taken = str(refusal), False
        except Exception as error:
            log.exception("command %s failed", type(command).__name__)
            message, taken = f"{type(error).__name__}: {error}", False
        receipt = c.Receipt(id=origin.id, taken=taken, message=message, at=self._engine.clock.now())
        self._receipts[origin.id] = receipt
        while len(self._receipts) > KEEP_RECEIPTS:
            del self._receipts[next(iter(self._receipts))]
        return receipt

    async def _take(self, command: c.Command) -> str:
        if self._engine.lost.done() and not isinstance(command, c.Shutdown):
            raise Refusal(f"view only: {self._engine.lost.result()}")
        match command:
            case c.Pause():
                return self._pause(command)
            case c.Resume():
                return await self._resume(command)
            case c.SubmitByHand():
                return await self._submit(command)
            case c.ModifyOrder():
                return await self._modify(command)
            case c.CancelOrder():
                return self._cancel(command)
            case c.CancelEntries():
                return self._cancel_entries(command)
            case c.Flatten():
                return self._flatten(command)
            case c.ForceExit():
                return self._force(command)
            case c.Kill():
                return await self._kill(command)
            case c.ReleaseKill():
                return await self._release_kill(command)
            case c.ReleaseLatch():
                return await self._release_latch(command)
            case c.Acknowledge():
                return self._acknowledge(command)
            case c.AcknowledgeAlert():
                return "acknowledged" if self._engine.board.acknowledge(command.alert) else "it is gone"
            case c.AdoptOrder():
                return await self._adopt(command)
            case c.IgnoreForeign():
                return await self._ignore(command)
            case c.CancelForeign():
                return self._cancel_foreign(command)
            case c.DeclareDead():
                return await self._declare_dead(command)
            case c.AskNow():
                return self._ask_now(command)
            case c.ReconcileNow():
                return self._reconcile(command)
            case c.RetryJobs():
                return await self._retry_jobs(command)
            case c.StandDown():
                return await self._stand_down(command)
            case c.ChangeHeatLimits():
                return await self._limits(command)
            case c.InjectFault():
                return self._inject(command)
            case c.Shutdown():
                self._note(command.origin, f"shutdown: {command.policy}")
                self._on_shutdown(command)
                return f"stopping: {command.policy}"
            case _:
                assert_never(command)

    # -- entries on and off -------------------------------------------------------------------------------

    def _pause(self, command: c.Pause) -> str:
        cancelled = 0
        for run in self._runs(command.session):
            self._hold(run, command.origin, f"paused by {command.origin.operator}")
            if not command.keep_resting:
                cancelled += run.trader.cancel_entries("pause")
        self._note(command.origin, "pause", command.session)
        return f"paused; {cancelled} resting entries are being cancelled" if not command.keep_resting else "paused"

    async def _resume(self, command: c.Resume) -> str:
        holds = {run.id: run.holds for run in self._runs(command.session)}
        await self._committed(command.origin, "resume", command.session, command.reason)
        asked = [run for run in self._runs(command.session) if run.holds == holds.get(run.id)]
        if not asked:
            raise Refusal("somebody paused or flattened meanwhile; resume again if that is meant")
        for run in asked:
            run.desk.blocks.clear("pause")
            run.desk.blocks.clear_all("task:")
            run.trader.flattener.lift()
            self._engine.store.record(
                self._latch(run.id, LatchKind.PAUSE, False, command.reason, command.origin.operator)
            )
        return "resumed"

    async def _release_latch(self, command: c.ReleaseLatch) -> str:
        run = self._run(command.session)
        try:
            kind = LatchKind(command.latch)
        except ValueError:
            raise Refusal(f"there is no latch {command.latch!r}") from None
        if kind in (LatchKind.DAILY_LOSS, LatchKind.KILL):
            raise Refusal(f"{kind} is not opened by hand here")
        await self._committed(command.origin, f"release {kind}", command.session, command.reason)
        run.desk.blocks.clear(f"latch:{kind}")
        run.desk.blocks.clear("pause") if kind is LatchKind.PAUSE else None
        self._engine.store.record(self._latch(run.id, kind, False, command.reason, command.origin.operator))
        return f"{kind} released"

    async def _kill(self, command: c.Kill) -> str:
        """Entries off at once; the file and the row follow, and failing to write them is said out loud."""
        engine = self._engine
        by = command.origin.operator
        engine.kill_reason = f"by {by}"
        engine.kill_since = engine.kill_since or engine.clock.now()
        engine.kills += 1
        cancelled = sum(run.trader.cancel_entries("kill") for run in engine.sessions.values())
        if command.flatten:
            for run in engine.sessions.values():
                self._hold(run, command.origin, f"{FLATTENED} by {by}")
        engine.store.record(self._latch(None, LatchKind.KILL, True, f"by {by}", by))
        self._note(command.origin, "kill and flatten" if command.flatten else "kill")
        say = engine.board.begin(command.origin.id, "Kill", None)
        say(f"entries are latched off everywhere; {cancelled} resting entries are being cancelled")
        try:
            engine.plan.kill_latch.set(f"by {by}")
            say("the latch file is written")
        except OSError as error:
            say(f"the latch FILE COULD NOT BE WRITTEN: {error}; the row and this process hold it")
            self._tasks.launch(self._write_latch(by, engine.kills, error), "kill latch file")
        engine.board.alert("kill", Severity.CRITICAL, f"KILL is set by {by}: no entry leaves anywhere", lasting=True)
        if command.flatten:
            self._start(self._flatten_all(command.origin.id, say), "kill and flatten", command.origin.id)
        else:
            engine.board.end(command.origin.id, True, "killed; protective exits stay, nothing is closed")
        return "entries are latched off"

    async def _write_latch(self, by: str, killed: int, error: OSError) -> None:
        """Again once a second until it stands, or the kill is released: without row and file it dies with us."""
        engine = self._engine
        text = f"the kill by {by} has no latch file ({error}); if this process ends now, only its row holds"
        engine.board.alert("kill-file", Severity.CRITICAL, text, lasting=True)
        while engine.kill_reason is not None and engine.kills == killed:
            try:
                engine.plan.kill_latch.set(f"by {by}")
            except OSError:
                await engine.clock.sleep(LATCH_EVERY)
            else:
                break
        engine.board.clear("kill-file")

    async def _release_kill(self, command: c.ReleaseKill) -> str:
        if command.word != "RELEASE":
            raise Refusal("type RELEASE to release the kill latch")
        engine = self._engine
        killed = engine.kills
        await self._committed(command.origin, "release kill", None, command.reason)
        if engine.kills != killed:
            raise Refusal(KILLED_AGAIN)
        try:
            with engine.clock.outside():
                await engine.store.write(
                    self._latch(None, LatchKind.KILL, False, command.reason, command.origin.operator)
                )
            if engine.kills != killed:
                raise Refusal(KILLED_AGAIN)
            engine.plan.kill_latch.release()
        except (StoreError, OSError) as error:
            raise Refusal(f"the latch stays set: {error}") from error
        engine.kill_reason = engine.kill_since = None
        engine.board.clear("kill")
        engine.board.acknowledge("kill")
        return "the kill latch is released"

    async def _retry_jobs(self, command: c.RetryJobs) -> str:
        engine = self._engine
        if engine.jobs is None:
            raise Refusal("the desk has not started its background jobs yet")
        if not engine.store.health().dead_jobs:
            raise Refusal("no background job is dead")
        with engine.clock.outside():
            count = await engine.jobs.retry_dead()
        self._note(command.origin, f"retry {count} dead jobs")
        tell_dead_jobs(engine.board, engine.store.health())
        return f"{count} dead jobs run again"

    # -- the portfolio ------------------------------------------------------------------------------------

    async def _stand_down(self, command: c.StandDown) -> str:
        run = self._run(command.session)
        if run.dead is None:
            raise Refusal(f"{command.session} lives; only a dead session is stood down")
        position = await run.desk.road.fresh_position(run.desk.book.symbol, run.desk.numbers.query_timeout)
        open_orders = [o for o in run.desk.book.open() if o.is_open]
        if position is None or position.quantity or open_orders:
            what = "the broker does not answer" if position is None else f"position {position.quantity}"
            raise Refusal(f"not stood down: {what}, {len(open_orders)} own orders open")
        await self._committed(command.origin, "stand down", command.session, command.reason)
        run.supervisor.give_up()
        self._account_of(run).disown(run.desk)
        run.stood_down = True
        run.desk.phase = Phase.STOOD_DOWN
        self._engine.portfolio.stood_down(run.id)
        self._engine.board.clear(f"dead:{run.id}")
        return f"{run.id} is out of the portfolio"

    async def _limits(self, command: c.ChangeHeatLimits) -> str:
        portfolio, origin, reason = self._engine.portfolio, command.origin, command.reason
        before = portfolio.settings
        own = (("warn", command.warn), ("block", command.block), ("release", command.release))
        wanted = {name: value for name, value in own if value is not None}
        wanted |= {GROUP + name: value for name, value in command.groups.items()}
        if strange := sorted(command.groups.keys() - {group.name for group in before.groups}):
            raise Refusal(f"there is no group {strange[0]} in the configuration")
        after = with_limits(before, wanted)
        if (problem := problem_of(after)) is not None:
            raise Refusal(problem)
        what = "heat limits " + ", ".join(f"{name} {value} %" for name, value in wanted.items())
        loosens = looser(before, after)
        if loosens:
            await self._committed(origin, what, None, reason)
            if portfolio.settings is not before:  # somebody may have tightened them while this was being written
                raise Refusal("the limits were changed meanwhile: look at them and ask again")
        else:
            self._note(origin, what, None, reason)
        for name, value in wanted.items():
            noted = self._noted(origin, f"override/{origin.id}/{name}", LIMIT_NOTE + name, None, reason)
            self._engine.store.record(
                LimitsChanged(name=name, percent=value, at=noted.at, by=origin.operator, reason=reason)
            )
            if not loosens:  # a looser one that is lost leaves the tighter one in force
                self._secure(changed(noted, amount=value))
        portfolio.set_limits(wanted)
        self._engine.board.clear("limits")
        now = after.limits
        groups = "".join(f", {group.name} {group.block} %" for group in after.groups)
        return f"warn {now.warn} %, block {now.block} %, release {now.release} points under it{groups}"

    def _inject(self, command: c.InjectFault) -> str:
        account = self._engine.accounts.get(command.account)
        if account is None or account.faults is None or account.live:
            raise Refusal("faults exist only for paper accounts")
        try:
            done = account.faults.inject(command.fault, command.symbol, command.argument)
        except ValueError as error:
            raise Refusal(str(error)) from error
        self._note(command.origin, f"fault {command.fault}", None, done)
        return done

"""What an operator does by hand: each command gets a receipt, its progress follows as lines and events.

What adds risk is committed before it takes effect and needs a reason. What lowers risk takes effect even if nothing
can record it; its row follows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, assert_never

from msgspec.structs import replace as changed

from engine import commands as c
from engine.desk_account import DeskAccount
from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import AcceptedOrder, RefusedOrder
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.ids import ClientOrderId, CommandId, DecisionKey, SessionId
from engine.domain.intents import Noted
from engine.domain.orders import Flag, Order, OrderState, OrderType, Role
from engine.domain.records import LatchKind, LatchSet, LimitsChanged, OverrideRecorded
from engine.engine import Engine, SessionRun
from engine.errors import SextantError, StoreError
from engine.outbound.entries import EntryWish
from engine.outbound.exit_road import Failed, Held, Left
from engine.periodic import Tasks
from engine.session import LockOut, NoAnswer, NotSent
from engine.snapshot import Phase, Severity

log = logging.getLogger(__name__)
KEEP_RECEIPTS = 500


class Refusal(SextantError):
    """A command cannot be taken; the message says why in one sentence."""


class Overrides:
    """Turns commands into deeds of the engine; the same id twice gets the same receipt and acts once."""

    def __init__(self, engine: Engine, on_shutdown: Callable[[c.Shutdown], None]) -> None:
        self._engine = engine
        self._on_shutdown = on_shutdown
        self._receipts: dict[CommandId, c.Receipt] = {}
        self._tasks = Tasks("overrides", self._failed)

    def _failed(self, name: str, error: BaseException) -> None:
        self._engine.board.alert(
            f"task:{name}", Severity.CRITICAL, f"{name} failed: {type(error).__name__}: {error}", lasting=True
        )

    async def close(self) -> None:
        """Stop procedures that still run."""
        await self._tasks.close()

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

    # -- shared -------------------------------------------------------------------------------------------

    def _run(self, session: SessionId) -> SessionRun:
        try:
            return self._engine.sessions[session]
        except KeyError:
            raise Refusal(f"there is no session {session}") from None

    def _runs(self, session: SessionId | None) -> tuple[SessionRun, ...]:
        return tuple(self._engine.sessions.values()) if session is None else (self._run(session),)

    def _owner(self, order: ClientOrderId) -> tuple[SessionRun, Order]:
        for run in self._engine.sessions.values():
            found = run.desk.book.get(order)
            if found is not None:
                return run, found
        raise Refusal(f"there is no order {order} in memory")

    def _account_of(self, run: SessionRun) -> DeskAccount:
        return self._engine.accounts[run.desk.settings.account]

    def _record(
        self, origin: c.Origin, what: str, session: SessionId | None, reason: str, step: int = 0
    ) -> OverrideRecorded:
        return OverrideRecorded(
            id=origin.id,
            step=step,
            what=what,
            operator=origin.operator,
            origin=origin.place,
            at=origin.at,
            session=session,
            reason=reason,
        )

    async def _committed(self, origin: c.Origin, what: str, session: SessionId | None, reason: str) -> None:
        """What adds risk: durable first, with a reason, or it does not happen."""
        if not reason.strip():
            raise Refusal("this adds risk: it needs a reason")
        try:
            with self._engine.clock.outside():
                await self._engine.store.write(self._record(origin, what, session, reason))
        except StoreError as error:
            raise Refusal(f"not done: it could not be recorded first ({error})") from error

    def _note(self, origin: c.Origin, what: str, session: SessionId | None = None, reason: str = "") -> None:
        """What lowers risk: it happens; the row is queued, and journalled where the database is in trouble."""
        self._engine.store.record(self._record(origin, what, session, reason))
        if not self._engine.store.health().ok:
            noted = Noted(
                key=DecisionKey(f"override/{origin.id}"),
                at=origin.at,
                what=what,
                operator=origin.operator,
                origin=origin.place,
                session=session,
                detail=reason,
            )
            self._tasks.launch(self._journal(noted), "journal override")

    async def _journal(self, noted: Noted) -> None:
        try:
            with self._engine.clock.outside():
                await self._engine.plan.journal.append(noted)
        except OSError as error:
            log.critical("override %s is recorded nowhere yet: %s", noted.what, error)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.launch(work, name)

    # -- entries on and off -------------------------------------------------------------------------------

    def _latch(self, session: SessionId | None, kind: LatchKind, held: bool, reason: str, by: str) -> LatchSet:
        return LatchSet(session=session, kind=kind, held=held, reason=reason, at=self._engine.clock.now(), by=by)

    def _pause(self, command: c.Pause) -> str:
        cancelled = 0
        for run in self._runs(command.session):
            run.desk.blocks.set("pause", f"paused by {command.origin.operator}")
            self._engine.store.record(
                self._latch(run.id, LatchKind.PAUSE, True, f"by {command.origin.operator}", command.origin.operator)
            )
            if not command.keep_resting:
                cancelled += run.trader.cancel_entries("pause")
        self._note(command.origin, "pause", command.session)
        return f"paused; {cancelled} resting entries are being cancelled" if not command.keep_resting else "paused"

    async def _resume(self, command: c.Resume) -> str:
        await self._committed(command.origin, "resume", command.session, command.reason)
        for run in self._runs(command.session):
            run.desk.blocks.clear("pause")
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
        cancelled = sum(run.trader.cancel_entries("kill") for run in engine.sessions.values())
        engine.store.record(self._latch(None, LatchKind.KILL, True, f"by {by}", by))
        self._note(command.origin, "kill and flatten" if command.flatten else "kill")
        say = engine.board.begin(command.origin.id, "Kill", None)
        say(f"entries are latched off everywhere; {cancelled} resting entries are being cancelled")
        try:
            engine.plan.kill_latch.set(f"by {by}")
            say("the latch file is written")
        except OSError as error:
            say(f"the latch FILE COULD NOT BE WRITTEN: {error}; the row and this process hold it")
        engine.board.alert("kill", Severity.CRITICAL, f"KILL is set by {by}: no entry leaves anywhere", lasting=True)
        if command.flatten:
            self._start(self._flatten_all(command.origin.id, say), "kill and flatten")
        else:
            engine.board.end(command.origin.id, True, "killed; protective exits stay, nothing is closed")
        return "entries are latched off"

    async def _flatten_all(self, id: CommandId, say: Callable[[str], None]) -> None:
        flat = await self._engine.flatten_all(str(id), say)
        self._engine.board.end(id, flat, "flat confirmed everywhere" if flat else "NOT flat")

    async def _release_kill(self, command: c.ReleaseKill) -> str:
        if command.word != "RELEASE":
            raise Refusal("type RELEASE to release the kill latch")
        engine = self._engine
        await self._committed(command.origin, "release kill", None, command.reason)
        try:
            with engine.clock.outside():
                await engine.store.write(
                    self._latch(None, LatchKind.KILL, False, command.reason, command.origin.operator)
                )
            engine.plan.kill_latch.release()
        except (StoreError, OSError) as error:
            raise Refusal(f"the latch stays set: {error}") from error
        engine.kill_reason = None
        engine.board.clear("kill")
        engine.board.acknowledge("kill")
        return "the kill latch is released"

    # -- orders -------------------------------------------------------------------------------------------

    async def _submit(self, command: c.SubmitByHand) -> str:
        run = self._run(command.session)
        terms = command.terms
        if terms.symbol != run.desk.book.symbol:
            raise Refusal(f"{command.session} trades {run.desk.book.symbol}, not {terms.symbol}")
        if command.is_exit:
            if terms.type is not OrderType.MARKET:
                raise Refusal("an exit by hand is a market order; move the stop or the target to exit at a price")
            self._note(command.origin, "exit by hand", command.session, command.reason)
            self._start(self._exit(run, command.origin.id, terms.quantity), "exit by hand")
            return "exit is on its way"
        await self._committed(command.origin, "entry by hand", command.session, command.reason)
        wish = EntryWish(
            origin=str(command.origin.id),
            side=terms.side,
            quantity=terms.quantity,
            type=terms.type,
            limit=terms.limit,
            stop=terms.stop,
            tif=terms.tif,
            stop_loss=command.stop_loss,
            take_profit=command.take_profit,
            reason=command.reason,
            by_hand=True,
        )
        order = await run.trader.entries.enter(wish)
        if order.state in (OrderState.DENIED, OrderState.ABANDONED, OrderState.REJECTED):
            raise Refusal(f"{order.state}: {order.reason}")
        return f"{order.client_id} is {order.state}"

    async def _exit(self, run: SessionRun, id: CommandId, quantity: Decimal | None, *, force: bool = False) -> None:
        say = self._engine.board.begin(id, f"Exit {run.id}", run.id)
        result = await run.trader.exits.leave(str(id), quantity, "by hand", force=force, say=say)
        match result:
            case Left(text=text):
                self._engine.board.end(id, True, text)
            case Held(text=text):
                self._engine.board.end(id, False, f"{text}; force exit needs the word REVERSE")
            case Failed(text=text):
                self._engine.board.end(id, False, text)

    async def _modify(self, command: c.ModifyOrder) -> str:
        run, order = self._owner(command.order)
        terms = order.terms
        wanted = changed(
            terms,
            quantity=command.quantity if command.quantity is not None else terms.quantity,
            limit=command.limit if command.limit is not None else terms.limit,
            stop=command.stop if command.stop is not None else terms.stop,
        )
        if not lifecycle.may_replace(order):
            raise Refusal(f"{order.client_id} is {order.state}; it cannot be changed now")
        for price in (wanted.limit, wanted.stop):
            if price is not None and not run.desk.instrument.on_grid(price):
                raise Refusal(f"price {price} is not a multiple of the tick size {run.desk.instrument.tick_size}")
        if order.is_entry:
            refusal = run.trader.decisions.modify_problem(order, wanted)
            if refusal is not None:
                raise Refusal(refusal)
            await self._committed(command.origin, "modify entry", run.id, command.reason or "modify")
        else:
            self._note(command.origin, "modify exit", run.id, command.reason)
            if order.role is Role.STOP and wanted.stop is not None:
                run.trader.guard.stop_price = wanted.stop
        after = await run.trader.submission.replace(order, wanted, f"by {command.origin.operator}")
        return f"{after.client_id} is {after.state}"

    def _cancel(self, command: c.CancelOrder) -> str:
        run, order = self._owner(command.order)
        if not order.is_open:
            raise Refusal(f"{order.client_id} is {order.state} already")
        self._note(command.origin, f"cancel {order.client_id}", run.id)
        self._start(self._cancel_one(run, order, f"by {command.origin.operator}"), "cancel")
        return "cancel is on its way"

    async def _cancel_one(self, run: SessionRun, order: Order, reason: str) -> None:
        await run.trader.submission.cancel(order, reason)

    def _cancel_entries(self, command: c.CancelEntries) -> str:
        asked = sum(r.trader.cancel_entries(f"by {command.origin.operator}") for r in self._runs(command.session))
        self._note(command.origin, "cancel entries", command.session)
        return f"{asked} resting entries are being cancelled"

    def _flatten(self, command: c.Flatten) -> str:
        title = "Flatten everything" if command.session is None else f"Flatten {command.session}"
        runs = self._runs(command.session)
        for run in runs:
            run.desk.blocks.set("pause", f"paused: flatten by {command.origin.operator}")
            self._engine.store.record(self._latch(run.id, LatchKind.PAUSE, True, "flatten", command.origin.operator))
        self._note(command.origin, title.lower(), command.session)
        say = self._engine.board.begin(command.origin.id, title, command.session)
        self._start(self._flatten_runs(command, runs, say), title.lower())
        return "entries are paused; closing"

    async def _flatten_runs(self, command: c.Flatten, runs: tuple[SessionRun, ...], say: Callable[[str], None]) -> None:
        for account in self._engine.accounts.values():
            for foreign in account.reconciler.foreign:
                if foreign.broker_id in command.foreign:
                    say(f"cancelling foreign order {foreign.broker_id}")
                    say(_answer(await account.link.cancel(foreign.broker_id)))
                elif any(run.desk.book.symbol == foreign.terms.symbol for run in runs):
                    say(f"foreign order {foreign.broker_id} is left alone")
        if command.session is None:
            await self._flatten_all(command.origin.id, say)
            return
        result = await runs[0].trader.flattener.run(str(command.origin.id), say)
        self._engine.board.end(command.origin.id, result.flat, result.text)

    def _force(self, command: c.ForceExit) -> str:
        if command.word != "REVERSE":
            raise Refusal("type REVERSE: a second exit beside one in doubt may reverse the position")
        run = self._run(command.session)
        self._note(command.origin, "force exit", command.session, "typed REVERSE")
        self._start(self._exit(run, command.origin.id, None, force=True), "force exit")
        return "a second exit is on its way"

    async def _declare_dead(self, command: c.DeclareDead) -> str:
        if command.word != "DEAD":
            raise Refusal("type DEAD: you say that this order never existed at the broker")
        run, order = self._owner(command.order)
        if order.state is not OrderState.LOST:
            raise Refusal(f"{order.client_id} is {order.state}, not lost")
        await self._committed(command.origin, f"declare dead {order.client_id}", run.id, command.reason)
        run.desk.put(lifecycle.declared_dead(run.desk.current(order), run.desk.now(), command.reason), "declared dead")
        run.trader.recovery.mark_doubt()
        return f"{order.client_id} is closed"

    def _ask_now(self, command: c.AskNow) -> str:
        run, order = self._owner(command.order)
        self._start(run.trader.recovery.ask(order), "ask now")
        return "asked"

    # -- disagreements ------------------------------------------------------------------------------------

    def _disagreement(self, id: str) -> tuple[DeskAccount, Disagreement]:
        for account in self._engine.accounts.values():
            found = account.ledger.get(id)
            if found is not None:
                return account, found
        raise Refusal(f"there is no disagreement {id}")

    def _acknowledge(self, command: c.Acknowledge) -> str:
        account, found = self._disagreement(command.disagreement)
        if found.kind is DisagreementKind.UNKNOWN_ORDER and found.is_open:
            raise Refusal("an order that is not ours is adopted, ignored or cancelled, not acknowledged")
        account.ledger.acknowledge(found.id, command.origin.operator, command.note, self._engine.clock.now())
        self._note(command.origin, f"acknowledge {found.kind}", found.session, command.note)
        self._engine.board.acknowledge(f"adopted:{found.id}")
        self._engine.board.clear(f"adopted:{found.id}")
        for run in self._engine.sessions.values():
            run.trader.read_disagreements()
        return "acknowledged"

    async def _ignore(self, command: c.IgnoreForeign) -> str:
        account, found = self._disagreement(command.disagreement)
        if found.kind not in (DisagreementKind.UNKNOWN_ORDER, DisagreementKind.UNKNOWN_POSITION):
            raise Refusal("only what is not ours can be ignored")
        await self._committed(command.origin, f"ignore {found.kind}", found.session, command.reason)
        now = self._engine.clock.now()
        account.ledger.put(
            changed(
                found,
                state=DisagreementState.IGNORED,
                acknowledged_by=command.origin.operator,
                acknowledged_at=now,
                note=command.reason,
                blocks_entries=False,
                updated=now,
            )
        )
        return "left alone; it still counts in heat"

    async def _adopt(self, command: c.AdoptOrder) -> str:
        run = self._run(command.session)
        account = self._account_of(run)
        report = await account.link.open_orders()
        record = next((r for r in report.rows if r.broker_id == command.order), None) if report is not None else None
        if record is None:
            raise Refusal(f"the broker does not show an open order {command.order} now")
        if record.terms.symbol != run.desk.book.symbol:
            raise Refusal(f"{command.session} trades {run.desk.book.symbol}, not {record.terms.symbol}")
        await self._committed(command.origin, f"adopt {command.order}", command.session, command.reason)
        now = self._engine.clock.now()
        closes = run.desk.book.position.quantity * record.terms.side.sign < 0
        stop_like = record.terms.type in (OrderType.STOP, OrderType.STOP_LIMIT)
        role = (Role.STOP if stop_like else Role.TARGET) if closes else Role.ENTRY
        key = DecisionKey(f"{run.id}/adopted:{record.broker_id}/{role}/1")
        run.desk.put(
            Order(
                client_id=run.desk.client_id(key),
                key=key,
                session=run.id,
                account=account.id,
                role=role,
                terms=record.terms,
                state=OrderState.WORKING,
                created=record.submitted or now,
                updated=now,
                broker_id=record.broker_id,
                filled=record.filled,
                average_price=record.average_price,
                reported=record.filled,
                epoch=account.epoch,
                flags=frozenset({Flag.EXTERNAL}),
                reason=command.reason,
            ),
            "adopted",
        )
        account.reconciler.forget_foreign(record.broker_id)
        account.ledger.settle(f"foreign:{record.broker_id}", DisagreementState.EXPLAINED, f"adopted by {run.id}", now)
        self._reconcile_all()
        return f"{command.order} is now an order of {run.id}"

    def _cancel_foreign(self, command: c.CancelForeign) -> str:
        account = self._engine.accounts.get(command.account)
        if account is None:
            raise Refusal(f"there is no account {command.account}")
        self._note(command.origin, f"cancel foreign {command.order}")
        self._start(self._cancel_foreign_order(account, command), "cancel foreign order")
        return "cancel is on its way"

    async def _cancel_foreign_order(self, account: DeskAccount, command: c.CancelForeign) -> None:
        self._engine.board.begin(command.origin.id, f"Cancel foreign order {command.order}", None)
        answer = await account.link.cancel(command.order)
        self._engine.board.end(command.origin.id, isinstance(answer, AcceptedOrder), _answer(answer))
        account.reconciler.suspect("a foreign order was cancelled by hand", orders=True)

    def _reconcile(self, command: c.ReconcileNow) -> str:
        self._reconcile_all()
        return "asking for positions and orders now"

    def _reconcile_all(self) -> None:
        for account in self._engine.accounts.values():
            account.reconciler.suspect("by hand", orders=True)

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
        run.stood_down = True
        run.desk.phase = Phase.STOOD_DOWN
        self._engine.portfolio.stood_down(run.id)
        self._engine.board.clear(f"dead:{run.id}")
        return f"{run.id} is out of the portfolio"

    async def _limits(self, command: c.ChangeHeatLimits) -> str:
        limits = self._engine.portfolio.settings.limits
        wanted = {
            name: value
            for name, value in (("warn", command.warn), ("block", command.block), ("release", command.release))
            if value is not None
        }
        after = changed(limits, **wanted)
        if not 0 < after.warn < after.block or not 0 <= after.release < after.block:
            raise Refusal(f"warn {after.warn} must be above 0 and below block {after.block}, release below block")
        await self._committed(command.origin, f"heat limits {wanted}", None, command.reason)
        for name, value in wanted.items():
            self._engine.store.record(
                LimitsChanged(
                    name=name,
                    percent=value,
                    at=self._engine.clock.now(),
                    by=command.origin.operator,
                    reason=command.reason,
                )
            )
        self._engine.portfolio.set_limits(after)
        return f"warn {after.warn} %, block {after.block} %, release {after.release} points under it"

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


def _answer(answer: AcceptedOrder | RefusedOrder | NotSent | NoAnswer | LockOut) -> str:
    match answer:
        case AcceptedOrder():
            return "the broker took the cancel"
        case RefusedOrder(reason=reason):
            return f"the broker refused: {reason}"
        case NotSent(reason=reason) | NoAnswer(reason=reason) | LockOut(reason=reason):
            return f"not done: {reason}"
        case _:
            assert_never(answer)

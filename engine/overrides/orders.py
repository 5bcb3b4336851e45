"""Overrides of orders: submit, modify, cancel, flatten, force, declare dead."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from engine import commands as c
from engine.domain import order_lifecycle as lifecycle
from engine.domain.ids import decision_key
from engine.domain.intents import FLATTENED
from engine.domain.orders import Order, OrderState, Role
from engine.errors import StoreError
from engine.outbound.exit_road import Failed, Held, Left
from engine.overrides.base import Refusal, told
from engine.overrides.checks import OrderChecks, added_risk, entry_wish, exit_problems, modify_problems, wanted_terms
from engine.periodic import done_within
from engine.session_run import SessionRun


class OrderOverrides(OrderChecks):
    """What an operator does to orders; exits are never refused here."""

    async def _submit(self, command: c.SubmitByHand) -> str:
        run = self._run(command.session)
        terms = command.terms
        if terms.symbol != run.desk.book.symbol:
            raise Refusal(f"{command.session} trades {run.desk.book.symbol}, not {terms.symbol}")
        if command.is_exit:
            if (problem := next(exit_problems(run, terms), None)) is not None:
                raise Refusal(problem)
            self._note(command.origin, "exit by hand", command.session, command.reason)
            self._start(self._exit(run, command.origin, terms.quantity), "exit by hand", command.origin.id)
            return "exit is on its way"
        order = await self._made_before(run, command.origin, "entry")
        order = order or await self._enter(run, command)
        if order.state in (OrderState.DENIED, OrderState.ABANDONED, OrderState.REJECTED):
            raise Refusal(f"{order.state}: {order.reason}")
        return f"{order.client_id} is {order.state}"

    async def _enter(self, run: SessionRun, command: c.SubmitByHand) -> Order:
        await self._committed(command.origin, "entry by hand", command.session, command.reason)
        if run.trader.flattener.binds:  # a position wanted by hand is not closed again by an earlier flatten
            run.trader.flattener.lift()
            self._hold(run, command.origin, f"paused: entry by {command.origin.operator} after a flatten")
        return await run.trader.entries.enter(entry_wish(command, str(command.origin.id), command.reason))

    async def _made_before(self, run: SessionRun, origin: c.Origin, leg: str) -> Order | None:
        """What an earlier life made of the same command, sent again: it acts once. Raises StoreError."""
        engine, client_id = self._engine, run.desk.client_id(decision_key(run.id, str(origin.id), leg, 1))
        if (known := run.desk.book.get(client_id)) is not None or self._is_new(origin):
            return known
        with engine.clock.outside():
            return await engine.store.order(client_id)

    def _is_new(self, origin: c.Origin) -> bool:
        """Whether it was asked of this life: a moment that is yet to come is one of a clock that was set back since."""
        return self._engine.started <= origin.at <= self._engine.clock.now()

    async def _left_before(self, run: SessionRun, origin: c.Origin) -> Order | None:
        """The same of an exit, which does not wait for the database; one that never left is none."""

        async def asked() -> Order | None:
            try:
                return await self._made_before(run, origin, "exit")
            except StoreError:
                return None

        asking = self._tasks.spawn(asked(), "was it asked before")
        in_time = await done_within(self._engine.clock, self._engine.plan.numbers.exit_commit, asking)
        known = asking.result() if in_time else None
        return None if known is None or known.state in (OrderState.ABANDONED, OrderState.REJECTED) else known

    async def _exit(self, run: SessionRun, origin: c.Origin, quantity: Decimal | None, *, force: bool = False) -> None:
        id, name = origin.id, str(origin.id)
        say = self._engine.board.begin(id, f"Exit {run.id}", run.id)
        if not self._is_new(origin):
            if (known := await self._left_before(run, origin)) is not None:
                self._engine.board.end(id, True, f"{known.client_id} is {known.state}: it was asked for before")
                return
            if origin.at < self._engine.started:
                name = f"{id}:{run.desk.lease.epoch}"  # nobody knows whether the first name was used
        result = await run.trader.exits.leave(name, quantity, "by hand", force=force, say=say)
        match result:
            case Left(text=text):
                self._engine.board.end(id, True, text)
            case Held(text=text):
                self._engine.board.end(id, False, f"{text}; force exit needs the word REVERSE")
            case Failed(text=text):
                self._engine.board.end(id, False, text)

    async def _modify(self, command: c.ModifyOrder) -> str:
        run, order = self._owner(command.order)
        wanted = wanted_terms(order, command)
        if (problem := next(modify_problems(run, order, wanted), None)) is not None:
            raise Refusal(problem)
        refusal = run.trader.decisions.modify_problem(order, wanted)
        if refusal is not None:
            raise Refusal(refusal)
        adds = added_risk(run, order, wanted) > 0
        if adds and not command.reason.strip():
            raise Refusal("this adds risk: it needs a reason")
        if adds or order.is_entry:
            await self._committed(command.origin, f"modify {order.role}", run.id, command.reason or "modify")
            if not lifecycle.may_replace(order := run.desk.current(order)):
                raise Refusal(f"{order.client_id} is {order.state} meanwhile; it cannot be changed now")
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
            self._hold(run, command.origin, f"{FLATTENED} by {command.origin.operator}")
        self._note(command.origin, title.lower(), command.session)
        say = self._engine.board.begin(command.origin.id, title, command.session)
        self._start(self._flatten_runs(command, runs, say), title.lower(), command.origin.id)
        return "entries are paused; closing"

    async def _flatten_runs(self, command: c.Flatten, runs: tuple[SessionRun, ...], say: Callable[[str], None]) -> None:
        for account in self._engine.accounts.values():
            for foreign in account.reconciler.foreign:
                if foreign.broker_id in command.foreign:
                    say(f"cancelling foreign order {foreign.broker_id}")
                    say(told(await account.cancel_foreign(foreign.broker_id)))
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
        self._start(self._exit(run, command.origin, None, force=True), "force exit", command.origin.id)
        return "a second exit is on its way"

    async def _declare_dead(self, command: c.DeclareDead) -> str:
        if command.word != "DEAD":
            raise Refusal("type DEAD: you say that this order never existed at the broker")
        run, order = self._owner(command.order)
        if order.state is not OrderState.LOST:
            raise Refusal(f"{order.client_id} is {order.state}, not lost")
        await self._committed(command.origin, f"declare dead {order.client_id}", run.id, command.reason)
        unseen = (OrderState.LOST, OrderState.IN_DOUBT_SUBMIT)
        legs = [o for o in run.desk.book.open() if o.parent == order.client_id and o.state in unseen]
        for dead in (order, *legs):  # they left in one request: what is true of the entry is true of its legs
            dead = run.desk.current(dead)
            if dead.state is OrderState.IN_DOUBT_SUBMIT:
                lost = lifecycle.presumed_lost(dead, run.desk.now(), "its entry never existed")
                dead = run.desk.put(lost, "lost with its entry")
            dead = lifecycle.declared_dead(run.desk.current(dead), run.desk.now(), command.reason)
            run.desk.put(dead, "declared dead")
        run.trader.recovery.mark_doubt()
        return f"{order.client_id} is closed"

    def _ask_now(self, command: c.AskNow) -> str:
        run, order = self._owner(command.order)
        self._start(run.trader.recovery.ask(order), "ask now")
        return "asked"

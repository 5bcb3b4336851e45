"""From a strategy's decision to the road that it takes; why nothing came of it stands in the decision log."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, assert_never

from msgspec.structs import replace as changed

from engine.domain.decisions import Cancel, Decision, Intent, Modify, Nothing, Submit
from engine.domain.ids import Millis, decision_key
from engine.domain.market import Candle
from engine.domain.orders import ZERO, Order, OrderType, Role, Side, Terms, side_of
from engine.domain.records import DecisionMade
from engine.domain.risk import Denied
from engine.domain.settings import Protection
from engine.outbound.entries import EntryRoad, EntryWish
from engine.outbound.entry_gate import EntryGate
from engine.outbound.exit_road import ExitResult, ExitRoad, Failed, Held, Left, unproven
from engine.outbound.limits import collar_breach
from engine.outbound.protection import Guard
from engine.outbound.submission import Submission
from engine.session import SessionDesk
from engine.snapshot import DecisionLine, Severity

DECISION_LOG = 200
LONGEST_PAUSE = 60.0


class DecisionHandler:
    """Carries out decisions of one session in tasks of their own; the tick path never waits for them."""

    def __init__(
        self,
        desk: SessionDesk,
        gate: EntryGate,
        submission: Submission,
        entries: EntryRoad,
        exits: ExitRoad,
        guard: Guard,
    ) -> None:
        self._desk = desk
        self._gate = gate
        self._submission = submission
        self._entries = entries
        self._exits = exits
        self._guard = guard
        self._deferred = False
        self._obsolete = False

    def log(self, candle: Candle, ran: bool, decision: str, reason: str) -> None:
        """Leave the candle's line in the decision log."""
        lines = self._desk.decisions
        lines.append(DecisionLine(candle=candle.start, at=self._desk.now(), ran=ran, decision=decision, reason=reason))
        del lines[:-DECISION_LOG]

    def handle(self, decision: Decision, candle: Candle, *, entries_allowed: str | None) -> None:
        """Start what the decision asks for. `entries_allowed` names why this candle may not enter, None if it may."""
        match decision:
            case Nothing(reason=reason):
                self.log(candle, True, "nothing", reason)
            case Submit():
                self._submit(decision, candle, entries_allowed)
            case Modify():
                self._start(self._modify(decision, candle), candle, "modify", decision.reason)
            case Cancel():
                self._start(self._cancel(decision), candle, "cancel", decision.reason)
            case _:
                assert_never(decision)

    def leave(self, origin: str, reason: str, since: Millis, *, missed: bool = False) -> None:
        """Start an exit of everything that can be closed; an earlier life may have done so `since`."""
        self._desk.tasks.launch(self._exit(origin, None, reason, since=since, missed=missed), f"exit {origin}")

    def superseded(self, decision: Submit) -> None:
        """Decided on a candle of the past, an entry is not sent; an exit that still waits for evidence is obsolete.

        Against the position it would be an exit, and what waits goes on.
        """
        held = self._desk.book.position.quantity
        if decision.intent is Intent.ENTER and decision.side is not None and held * decision.side.sign >= 0:
            self._obsolete = True

    # -- submits ------------------------------------------------------------------------------------------

    def _submit(self, decision: Submit, candle: Candle, barred: str | None) -> None:
        desk = self._desk
        held = desk.book.position.quantity
        intent = decision.intent
        side = decision.side
        if intent is Intent.ENTER and side is not None and held * side.sign < 0:
            intent = Intent.EXIT
        if intent is Intent.EXIT:
            self.log(candle, True, "exit", decision.reason)
            self._start(self._exit_as_decided(decision, candle), candle, "", "")
            return
        if side is None:
            self.log(candle, True, f"{intent}: refused", "an entry needs a side")
            return
        self._obsolete = True  # an exit that still waits for evidence: the newest decision counts
        if barred is not None and intent is Intent.ENTER:
            self.log(candle, True, f"{intent} {side}: not sent", barred)
            return
        self.log(candle, True, f"{intent} {side}", decision.reason)
        name = f"{intent} {candle.start}"
        if intent is Intent.REVERSE and held:
            desk.tasks.launch(self._reverse(decision, side, candle, barred), name)
        elif barred is None:
            desk.tasks.launch(self._enter(decision, side, candle), name)

    def _start(self, work: Coroutine[Any, Any, None], candle: Candle, word: str, reason: str) -> None:
        if word:
            self.log(candle, True, word, reason)
        self._desk.tasks.launch(work, f"{word or 'exit'} {candle.start}")

    async def _enter(self, decision: Submit, side: Side, candle: Candle, deadline: Millis | None = None) -> None:
        wish = EntryWish(
            origin=str(candle.start),
            side=side,
            quantity=decision.quantity,
            type=decision.type,
            limit=decision.limit,
            stop=decision.stop,
            tif=decision.tif,
            stop_loss=decision.stop_loss,
            take_profit=decision.take_profit,
            reason=decision.reason,
            deadline=deadline,
        )
        self.made(candle.start, "entry", await self._entries.enter(wish))

    async def _reverse(self, decision: Submit, side: Side, candle: Candle, barred: str | None) -> None:
        desk = self._desk
        ends = desk.clock.monotonic() + min(desk.settings.timeframe.ms / 1000, desk.numbers.intent_deadline)
        await self._exit(str(candle.start), None, f"reverse: {decision.reason}")
        left = max(0.0, ends - desk.clock.monotonic())
        if barred is not None:
            return
        if not await desk.until(lambda: desk.book.position.is_flat, left):
            self.log(candle, True, f"reverse {side}: not sent", "the exit was not confirmed in time")
            return
        await self._enter(decision, side, candle, desk.now() + round(1000 * (ends - desk.clock.monotonic())))

    async def _exit_as_decided(self, decision: Submit, candle: Candle) -> None:
        match decision.type:
            case OrderType.MARKET:
                await self._exit(str(candle.start), decision.quantity, decision.reason)
            case OrderType.LIMIT:
                await self._move_protective(Role.TARGET, decision.limit, decision.reason)
            case OrderType.STOP | OrderType.STOP_LIMIT:
                await self._move_protective(Role.STOP, decision.stop, decision.reason)
            case _:
                assert_never(decision.type)

    def _call_off_entries(self, reason: str) -> None:
        """Leaving everything means not entering further: what an entry has not filled yet is cancelled."""
        for order in self._desk.book.open():
            if order.is_entry and order.is_open and not order.cancel_wanted:
                self._desk.tasks.launch(self._call_off(order, reason), f"call off {order.client_id}")

    async def _call_off(self, order: Order, reason: str) -> None:
        await self._submission.cancel(order, reason)

    async def _exit(
        self,
        origin: str,
        quantity: Decimal | None,
        reason: str,
        *,
        since: Millis | None = None,
        missed: bool = False,
    ) -> None:
        desk = self._desk
        if quantity is None:
            self._call_off_entries(reason)
        result = await self._exits.leave(origin, quantity, reason, missed=missed, since=since)
        self._tell(result, origin)
        if not isinstance(result, Held):
            return
        if desk.settings.force_exit_after_s is not None:
            desk.tasks.launch(self._force_later(origin, reason, desk.settings.force_exit_after_s), "force exit")
        if quantity is None and self._deferred:
            self._obsolete = False
        elif quantity is None:
            desk.tasks.launch(self._go_on_later(result.order, origin, reason, missed=missed), "deferred exit")

    def _tell(self, result: ExitResult, origin: str) -> None:
        desk = self._desk
        match result:
            case Left(order=order):
                if order is not None and origin.isdigit():
                    self.made(int(origin), "exit", order)
                desk.reporter.clear(f"exit:{desk.id}")
            case Held(text=text) | Failed(text=text):
                desk.reporter.alert(
                    f"exit:{desk.id}", Severity.CRITICAL, f"{desk.id}: exit not done: {text}", lasting=True
                )

    async def _go_on_later(self, doubtful: Order, origin: str, reason: str, *, missed: bool) -> None:
        """Deferred until evidence, while there is what it wanted to leave: what is opened anew is another's.

        An entry that the strategy wants since makes it obsolete, like an exit that was missed. A broker that leaves
        every request without an answer is asked ever more slowly.
        """
        desk, pause = self._desk, 0.0
        held = desk.book.position.quantity

        def is_gone() -> bool:
            return self._obsolete or desk.book.position.quantity * held <= 0

        self._deferred, self._obsolete = True, False
        try:
            while True:
                await self._settled(doubtful, is_gone)
                if is_gone() or await desk.until(is_gone, pause):
                    return
                pause = min(LONGEST_PAUSE, max(1.0, 2 * pause))
                result = await self._exits.leave(origin, None, reason, missed=missed)
                self._tell(result, origin)
                if not isinstance(result, Held):
                    return
                doubtful = result.order
        finally:
            self._deferred = False

    async def _settled(self, doubtful: Order, is_gone: Callable[[], bool]) -> None:
        """Return once the order's fate is known, or there is nothing left to leave."""
        desk = self._desk
        while not await desk.until(lambda: is_gone() or not unproven(desk.current(doubtful)), LONGEST_PAUSE):
            pass

    async def _force_later(self, origin: str, reason: str, seconds: float) -> None:
        """The settings accepted the risk of a reversal in so many words."""
        desk = self._desk
        if not await desk.until(lambda: desk.book.position.is_flat, seconds):
            await self._exits.leave(f"{origin}:forced", None, reason, force=True)

    async def _move_protective(self, role: Role, price: Decimal | None, reason: str) -> None:
        """A limit exit is the target's new price, a stop exit the stop's; never a second order beside them."""
        desk = self._desk
        if price is None or desk.book.position.is_flat:
            return
        near = self._towards_market(side_of(desk.book.position.quantity).opposite, price, is_stop=role is Role.STOP)
        resting = [o for o in desk.book.open() if o.role is role and o.is_open]
        if role is Role.STOP:
            self._guard.ask_for_stop(near)
        elif not resting:
            self._guard.target_price = near
            return
        for order in resting:
            await self._submission.replace(order, _priced(order.terms, role, near), reason)

    def _on_grid(self, order: Order, price: Decimal, *, is_stop: bool) -> Decimal:
        if order.is_entry:
            return self._desk.instrument.nearest(price)
        return self._towards_market(order.terms.side, price, is_stop=is_stop)

    def _towards_market(self, side: Side, price: Decimal, *, is_stop: bool) -> Decimal:
        """An exit's price on the tick grid: a limit fills, and a stop acts, rather sooner than asked."""
        instrument = self._desk.instrument
        return instrument.up(price) if is_stop == (side is Side.SELL) else instrument.down(price)

    # -- modify and cancel --------------------------------------------------------------------------------

    async def _modify(self, decision: Modify, candle: Candle) -> None:
        desk = self._desk
        order = desk.book.get(decision.order)
        if order is None or not order.is_open:
            self.log(candle, True, "modify: not sent", f"{decision.order} is not open")
            return
        limit, stop = decision.limit, decision.stop
        wanted = changed(
            order.terms,
            limit=order.terms.limit if limit is None else self._on_grid(order, limit, is_stop=False),
            stop=order.terms.stop if stop is None else self._on_grid(order, stop, is_stop=True),
        )
        refusal = self.modify_problem(order, wanted)
        if refusal is not None:
            self.log(candle, True, "modify: not sent", refusal)
            return
        await self._submission.replace(order, wanted, decision.reason)

    def modify_problem(self, order: Order, wanted: Terms) -> str | None:
        """Why these terms may not be asked for: entries pass the gate and the collar, protective orders do not."""
        if not order.is_entry:
            return None
        return self.modify_barred(order, wanted) or self._added_heat(order, wanted)

    def modify_barred(self, order: Order, wanted: Terms) -> str | None:
        """The same without heat: nothing is reserved."""
        if not order.is_entry:
            return None
        broken = collar_breach(self._desk.settings.limits, wanted, self._desk.mark)
        if broken is not None:
            return broken.reason
        if wanted.quantity > order.terms.quantity:
            return "an entry is never made larger; submit another"
        return self._gate.standing()

    def added_risk(self, order: Order, wanted: Terms) -> Decimal:
        """Money that these terms put at risk beyond the present ones; negative when they are safer."""
        desk = self._desk
        now = desk.risk_of(order.terms, order.protect_stop, order.remaining)
        return desk.risk_of(wanted, order.protect_stop, max(wanted.quantity - order.filled, ZERO)) - now

    def _added_heat(self, order: Order, wanted: Terms) -> str | None:
        """A price farther from its stop is more risk: it is reviewed, and reserved, like an entry of that size."""
        added = self.added_risk(order, wanted)
        if added <= 0:
            return None
        review = self._desk.heat.review(self._desk.settings.id, order.client_id, added)
        return review.reason if isinstance(review, Denied) else None

    async def _cancel(self, decision: Cancel) -> None:
        desk = self._desk
        for client_id in decision.orders:
            order = desk.book.get(client_id)
            if order is None or not order.is_open:
                continue
            if order.role is Role.STOP and desk.settings.protection is Protection.STOP:
                desk.reporter.alert(
                    f"keep-stop:{order.client_id}",
                    Severity.WARNING,
                    f"{desk.id}: the strategy wanted its stop cancelled; protection = stop keeps it",
                )
                continue
            await self._submission.cancel(order, decision.reason or "strategy")

    def made(self, candle: Millis, kind: str, order: Order) -> None:
        """Keep for good that this candle's decision made, or was denied, an order."""
        desk = self._desk
        self._desk.record(
            DecisionMade(
                session=desk.settings.id,
                candle=candle,
                key=decision_key(desk.settings.id, str(candle), kind, 1),
                kind=kind,
                order=order.client_id,
                reason=f"{order.state}: {order.reason}",
                at=desk.now(),
            )
        )
        if kind == "entry" and order.state in ("denied", "abandoned", "rejected"):
            desk.decisions.append(
                DecisionLine(
                    candle=candle, at=desk.now(), ran=True, decision=f"entry {order.state}", reason=order.reason
                )
            )


def _priced(terms: Terms, role: Role, price: Decimal) -> Terms:
    return changed(terms, stop=price) if role is Role.STOP else changed(terms, limit=price)

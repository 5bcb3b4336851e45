"""One order on its way out: durable first, then sent once, then accepted, refused, or in doubt.

Entries and exits have different methods on purpose: an entry has to bring its approval and passes the gate again in
the step that starts the send; an exit waits at most 250 ms for its commit, then goes to the journal, and leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, assert_never
from weakref import WeakValueDictionary

from msgspec import Struct
from msgspec.structs import replace as changed

from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import AcceptedOrder, AttachedLeg, RefusedOrder, ReplaceQuantity, SubmitRequest
from engine.domain.ids import ClientOrderId, DecisionKey, decision_key
from engine.domain.intents import CancelIntent, ReplaceIntent, SubmitIntent
from engine.domain.order_book import live_exits
from engine.domain.orders import TERMINAL, ZERO, Order, OrderState, Role, Terms
from engine.domain.positions import closed_since
from engine.domain.risk import Approved
from engine.outbound.crossed import look_for_crossed
from engine.outbound.entry_gate import EntryGate
from engine.outbound.fitting import still_fits
from engine.outbound.intent_recorder import IntentRecorder
from engine.session import LockOut, NoAnswer, NotSent, Sent, SessionDesk

SLOWEST_MS = 120_000
"""An acceptance that took longer is no measure of the broker: our own process stood still over it."""


class ApprovedEntry(Struct, frozen=True, kw_only=True):
    """An entry with its heat reserved; nothing else can be submitted as an entry."""

    order: Order
    legs: tuple[Order, ...]
    approved: Approved
    by_hand: bool = False


class ExitOrder(Struct, frozen=True):
    """An order that can only close; no gate applies to it. `begun` is when the work that it is part of began."""

    order: Order
    begun: float | None = None


class Submission:
    """Sends for one session. Every method ends with the order in a state that says what is known."""

    def __init__(self, desk: SessionDesk, gate: EntryGate) -> None:
        self._desk = desk
        self._gate = gate
        self._record = IntentRecorder(desk)
        self._cancelling: set[ClientOrderId] = set()
        self._replacing: WeakValueDictionary[ClientOrderId, asyncio.Lock] = WeakValueDictionary()

    # -- entries ------------------------------------------------------------------------------------------

    async def entry(self, entry: ApprovedEntry) -> Order:
        """Commit, read the gate again, send once."""
        desk = self._desk
        order, legs = entry.order, entry.legs
        for item in (order, *legs):
            desk.put(item, "intent")
        try:
            refusal = await self._record.entry(
                SubmitIntent(key=order.key, order=order, legs=legs, at=desk.now(), epoch=order.epoch)
            )
            order = desk.current(order)
            if refusal is None:
                refusal = self._gate.at_send(order, by_hand=entry.by_hand)
            if refusal is not None:
                desk.entry_stopped(order, refusal, by_hand=entry.by_hand)
                return self._abandon((order, *legs), refusal)
            for item in (order, *legs):
                desk.put(lifecycle.sent(desk.current(item), desk.now()), "sent")
            desk.entry_times.append(desk.now())
            desk.ledger.entered(desk.now())
            request = SubmitRequest(
                order.client_id, order.terms, tuple(AttachedLeg(leg.client_id, leg.terms) for leg in legs)
            )
            answer = await self._asked((order, *legs), desk.road.submit(request))
            return self._submitted(order, legs, answer)
        except BaseException:
            self._cut_off((order, *legs))
            raise
        finally:
            if desk.current(order).state in (OrderState.ABANDONED, OrderState.REJECTED, OrderState.DENIED):
                desk.heat.cancel(order.client_id)

    def _abandon(self, orders: tuple[Order, ...], reason: str) -> Order:
        desk = self._desk
        for order in orders:
            desk.put(lifecycle.abandoned(desk.current(order), desk.now(), reason), "abandoned", reason)
        return desk.current(orders[0])

    def _cut_off(self, orders: tuple[Order, ...]) -> Order:
        """Whoever waited for the commit was stopped: what has not left never will, and holds nothing back."""
        current = self._desk.current(orders[0])
        if current.state is OrderState.SUBMITTING and current.sent is None:
            return self._abandon(orders, "it was cut off before it left")
        return current

    # -- exits --------------------------------------------------------------------------------------------

    async def exit(self, exit: ExitOrder) -> Order:
        """Make durable within 250 ms or journal, then send once; only the broker refuses it, or nothing to close."""
        desk, held, guarded = self._desk, self._desk.book.position, self._is_guarded()
        order = desk.put(exit.order, "intent")
        intent = SubmitIntent(key=order.key, order=order, at=desk.now(), epoch=order.epoch)
        try:
            refusal = await self._record.durable(intent, order, exit.begun)
            size = order.terms.quantity if order.role is Role.EXIT else ZERO
            refusal = refusal or closed_since(held, desk.book.position, size)
        except BaseException:
            order = self._cut_off((order,))
            desk.tasks.launch(self._record.bury(intent), f"bury {intent.key}")
            desk.tasks.launch(self._record.conclude(order.key, order, NotSent(order.reason)), f"conclude {intent.key}")
            raise
        order = desk.current(order)
        if order.role is Role.STOP and not guarded and self._is_guarded():
            refusal = refusal or "a stop that was given up works after all"
        if refusal is not None or order.cancel_wanted:
            order = self._abandon((order,), refusal or "cancelled before it was sent")
            await self._record.conclude(order.key, order, NotSent(order.reason))
            return order
        order = desk.put(lifecycle.sent(order, desk.now()), "sent")
        answer = await self._asked((order,), desk.road.submit(SubmitRequest(order.client_id, order.terms)))
        order = self._submitted(order, (), answer)
        await self._record.conclude(order.key, order, answer)
        return desk.current(order)

    async def cancel(self, order: Order, reason: str, begun: float | None = None) -> Order:
        """Want a cancel, durably, and ask for it as soon as the broker's id is known; `begun` as with an exit."""
        desk = self._desk
        order = desk.current(order)
        if order.state in TERMINAL:
            return order
        order = desk.put(lifecycle.cancel_wanted(order, desk.now(), reason), "cancel wanted", reason)
        # one request at a time: the one under way may still wait to be durable
        if not lifecycle.may_cancel(order) or order.client_id in self._cancelling:
            return order
        self._cancelling.add(order.client_id)
        try:
            return await self._cancel(order, reason, begun)
        finally:
            self._cancelling.discard(order.client_id)

    async def _cancel(self, order: Order, reason: str, begun: float | None) -> Order:
        desk = self._desk
        key = self._command_key("cancel", order)
        intent = CancelIntent(
            key=key,
            account=order.account,
            session=desk.settings.id,
            client_id=order.client_id,
            at=desk.now(),
            epoch=desk.lease.epoch,
            reason=reason,
        )
        refusal = await self._record.durable(intent, order, begun)
        order = desk.current(order)
        if refusal is not None or not lifecycle.may_cancel(order):
            await self._record.conclude(key, order, NotSent("it was settled before"))
            return self._held_back(order, "cancel", refusal)
        order = desk.put(lifecycle.cancel_asked(order, desk.now()), "cancel sent")
        assert order.broker_id is not None
        answer = await self._asked((order,), desk.road.cancel(order.broker_id))
        order = desk.current(order)
        match answer:
            case AcceptedOrder():
                pass
            case RefusedOrder(reason=why, not_open=True):
                order = desk.put(lifecycle.doubted(order, desk.now(), why), "cancel refused: not open", why)
                desk.road.suspect(f"cancel of {order.client_id} refused: {why}", orders=True)
            case RefusedOrder(reason=why):
                order = desk.put(lifecycle.cancel_refused(order, desk.now(), why), "cancel refused", why)
                desk.road.suspect(f"cancel of {order.client_id} refused: {why}", orders=True)
            case NotSent(reason=why) | LockOut(reason=why):
                order = desk.put(lifecycle.not_sent(order, desk.now(), why), "cancel not sent", why)
            case NoAnswer(reason=why):
                order = desk.put(lifecycle.doubted(order, desk.now(), why), "cancel in doubt", why)
            case _:
                assert_never(answer)
        await self._record.conclude(key, order, answer)
        return desk.current(order)

    async def replace(self, order: Order, wanted: Terms, reason: str, begun: float | None = None) -> Order:
        """Ask for other terms of a working order; the old ones stand until the broker says otherwise.

        `wanted` carries the order's total; where a broker reads what remains, that is what is sent. One request at a
        time: whoever comes meanwhile waits, and asks for nothing where the order has become another.
        """
        turn = self._replacing.setdefault(order.client_id, asyncio.Lock())
        seen = self._desk.current(order).terms
        async with turn:
            current = self._desk.current(order)
            return current if current.terms != seen else await self._replace(current, wanted, reason, begun)

    async def _replace(self, order: Order, wanted: Terms, reason: str, begun: float | None) -> Order:
        desk = self._desk
        if not lifecycle.may_replace(order) or lifecycle.same_terms(order.terms, wanted):
            return order
        remaining = desk.road.capabilities.replace_quantity is ReplaceQuantity.REMAINING
        room = await self._room(order) if remaining and not order.is_entry else None
        if room is not None and not room:
            return self._held_back(order, "replace", "by the broker's word there is nothing left that it could close")
        key = self._command_key("replace", order)
        intent = ReplaceIntent(
            key=key,
            account=order.account,
            session=desk.settings.id,
            client_id=order.client_id,
            terms=wanted,
            at=desk.now(),
            epoch=desk.lease.epoch,
            reason=reason,
        )
        seen, held = order.terms, desk.book.position
        refusal = await self._record.durable(intent, order, begun)
        order = desk.current(order)
        if refusal is None and not order.is_entry:
            wanted = still_fits(order, wanted, seen, held, desk.book.position)
            if wanted.quantity <= order.filled or lifecycle.same_terms(order.terms, wanted):
                refusal = "what it was to close was closed meanwhile"
        if refusal is not None or not lifecycle.may_replace(order):
            await self._record.conclude(key, order, NotSent("it was settled before"))
            return self._held_back(order, "replace", refusal)
        asked = changed(wanted, quantity=wanted.quantity - desk.book.carried(order))
        if remaining:
            left = max(wanted.quantity - order.filled, ZERO)
            asked = changed(wanted, quantity=left if room is None else min(left, room))
        filled, unheard = order.filled, ZERO if room is None else max(abs(desk.book.position.quantity) - room, ZERO)
        order = desk.put(lifecycle.replace_asked(order, desk.now(), wanted), "replace sent", reason)
        assert order.broker_id is not None
        answer = await self._asked((order,), desk.road.replace(order.broker_id, order.client_id, asked))
        order = desk.current(order)
        match answer:
            case AcceptedOrder(broker_id=broker_id):
                crossed, was = order.filled - filled + unheard, order.state
                order = lifecycle.replaced(desk.book.sized(order, broker_id, asked.quantity), desk.now(), broker_id)
                unsure = remaining and crossed > 0 and not desk.road.capabilities.counts_anew
                ended = unsure and order.state is OrderState.FILLED and was not in TERMINAL
                if not ended:
                    order = desk.put(order, "replaced", reason)
                if unsure and (order.is_open or ended):
                    # what filled before the broker read "so much remains" is not part of the total it made of it
                    larger = changed(wanted, quantity=wanted.quantity + crossed)
                    order = lifecycle.may_be_other(order, desk.now(), larger)
                    desk.put(order, "replaced while it filled", f"{crossed} crossed the request")
                    desk.road.suspect(f"{order.client_id} filled while it was replaced", orders=True)
                if remaining and not order.is_entry and order.is_open:
                    desk.tasks.launch(look_for_crossed(desk, order, filled), f"did {order.client_id} fill unheard")
            case RefusedOrder(reason=why, not_open=True):
                order = desk.put(lifecycle.doubted(order, desk.now(), why), "replace refused: not open", why)
                desk.road.suspect(f"replace of {order.client_id} refused: {why}", orders=True)
            case RefusedOrder(reason=why):
                order = desk.put(lifecycle.replace_refused(order, desk.now(), why), "replace refused", why)
            case NotSent(reason=why) | LockOut(reason=why):
                order = desk.put(lifecycle.not_sent(order, desk.now(), why), "replace not sent", why)
            case NoAnswer(reason=why):
                order = desk.put(lifecycle.doubted(order, desk.now(), why), "replace in doubt", why)
            case _:
                assert_never(answer)
        await self._record.conclude(key, order, answer)
        return desk.current(order)

    async def _room(self, order: Order) -> Decimal | None:
        """What the broker says we hold: where it reads what remains, a fill unheard would make an exit too large."""
        desk = self._desk
        fresh = await desk.road.fresh_position(order.terms.symbol, desk.numbers.exit_sizing_read)
        if fresh is not None and fresh.quantity != desk.book.position.quantity:
            desk.road.suspect(f"{order.terms.symbol}: broker {fresh.quantity} before a replace", orders=True)
        return None if fresh is None else max(-fresh.quantity * order.terms.side.sign, ZERO)

    # -- shared -------------------------------------------------------------------------------------------

    def _is_guarded(self) -> bool:
        """Whether stops that work at the broker cover the position."""
        book = self._desk.book
        stops = live_exits(book.open(), book.position, Role.STOP)
        return bool(stops) and sum((stop.remaining for stop in stops), ZERO) >= abs(book.position.quantity)

    def _command_key(self, kind: str, order: Order) -> DecisionKey:
        """A name that no earlier life gave: it may have asked at a revision that the order's row never reached."""
        desk = self._desk
        return decision_key(desk.settings.id, f"{kind}:{order.client_id}:{desk.lease.epoch}", kind[0], order.revision)

    def _held_back(self, order: Order, kind: str, refusal: str | None) -> Order:
        """A command that was not sent has used its key up: the order moves on, so that the next one has another."""
        desk, order = self._desk, self._desk.current(order)  # it may have filled while the journal was written
        if refusal is None or order.state in TERMINAL:
            return order
        return desk.put(lifecycle.held_back(order, desk.now(), refusal), f"{kind} held back", refusal)

    async def _asked(self, orders: tuple[Order, ...], request: Coroutine[Any, Any, Sent]) -> Sent:
        """Await the answer; whoever stops us here leaves the orders in doubt, never forgotten."""
        desk = self._desk
        try:
            return await request
        except BaseException:
            for order in orders:
                desk.put(
                    lifecycle.doubted(desk.current(order), desk.now(), "the wait for the answer was cut"), "in doubt"
                )
            raise

    def _submitted(self, order: Order, legs: tuple[Order, ...], answer: Sent) -> Order:
        desk = self._desk

        def each(event: str, change: Callable[[Order], Order], detail: str = "") -> None:
            for item in (order, *legs):
                desk.put(change(desk.current(item)), event, detail)

        match answer:
            case AcceptedOrder(broker_id=broker_id, legs=leg_ids):
                took = min(desk.now() - (desk.current(order).sent or desk.now()), SLOWEST_MS)
                desk.slowest_acceptance_ms = max(desk.slowest_acceptance_ms, took)
                desk.put(lifecycle.accepted(desk.current(order), desk.now(), broker_id), "accepted")
                ids = dict(leg_ids)
                for leg in legs:
                    if leg.client_id in ids:
                        desk.put(lifecycle.accepted(desk.current(leg), desk.now(), ids[leg.client_id]), "accepted")
            case RefusedOrder(reason=why):
                each("rejected", lambda o: lifecycle.refused(o, desk.now(), why), why)
            case NotSent(reason=why) | LockOut(reason=why):
                each("not sent", lambda o: lifecycle.not_sent(o, desk.now(), why), why)
            case NoAnswer(reason=why):
                each("in doubt", lambda o: lifecycle.doubted(o, desk.now(), why), why)
                desk.road.suspect(f"{order.client_id} is in doubt: {why}")
            case _:
                assert_never(answer)
        return desk.current(order)

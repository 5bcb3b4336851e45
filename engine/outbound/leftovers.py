"""Orders with nothing left to do: exits of a position that is flat, and orders of the position's wrong side."""

from __future__ import annotations

from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import BrokerStatus
from engine.domain.ids import ClientOrderId, Millis
from engine.domain.incarnations import record_of
from engine.domain.order_book import parent_unfilled, reduces
from engine.domain.orders import ZERO, Flag, Order, OrderState
from engine.outbound.sleepers import CLOCKS_APART_MS
from engine.outbound.submission import Submission
from engine.session import SessionDesk

LOOK_SECONDS = 1.0
ASK_AGAIN_MS = 10_000
"""How often a leg whose entry is in doubt is looked up at the broker."""


class Leftovers:
    """Asks the broker to take them back."""

    def __init__(self, desk: SessionDesk, submission: Submission) -> None:
        self._desk = desk
        self._submission = submission
        self._swept: dict[ClientOrderId, Millis] = {}
        self._asked: dict[ClientOrderId, Millis] = {}

    async def sweep(self) -> None:
        """The position is flat: ask each exit to go, once a look.

        An answer that changes nothing must not bring the next question at once.
        """
        desk = self._desk
        orders = desk.book.open()
        if not orders:
            self._swept, self._asked = {}, {}
            return
        leftovers = [o for o in orders if not o.is_entry and o.is_open and not self._waits(o)]
        self._swept = {o.client_id: self._swept[o.client_id] for o in leftovers if o.client_id in self._swept}
        for order in leftovers:
            asked, shut = self._swept.get(order.client_id), not desk.road.is_up or desk.road.locked_until is not None
            early = asked is not None and desk.now() - asked < LOOK_SECONDS * 1000
            if early or (shut and order.cancel_wanted) or not lifecycle.may_cancel(order) or order.is_in_doubt:
                continue
            self._swept[order.client_id] = desk.now()
            await self._submission.cancel(order, "the position is flat")
        for leg in await self._awake_for_nothing(orders):
            await self._submission.cancel(leg, "the position is flat, and nothing that may be its entry works")

    async def _awake_for_nothing(self, orders: tuple[Order, ...]) -> list[Order]:
        """Legs that act at the broker though their entry is in doubt or lost, where the broker holds nothing.

        An entry without a fill keeps its legs asleep: one that is awake had fills, and they are closed. No live
        candidate may be left, or a later fill of it would stand without its leg.
        """
        desk, now = self._desk, self._desk.now()
        index = {o.client_id: o for o in orders}
        self._asked = {name: at for name, at in self._asked.items() if name in index}
        found = []
        for leg in orders:
            entry = index.get(leg.parent) if leg.parent is not None else None
            if entry is None or entry.state not in (OrderState.IN_DOUBT_SUBMIT, OrderState.LOST) or entry.doubt is None:
                continue
            nowhere = bool(entry.doubt.negatives) and not entry.doubt.candidates
            early = now - self._asked.get(leg.client_id, -ASK_AGAIN_MS) < ASK_AGAIN_MS
            if not nowhere or early or leg.is_in_doubt or not lifecycle.may_cancel(leg):
                continue
            self._asked[leg.client_id] = now
            rows = await desk.road.find(leg.client_id, leg.created - CLOCKS_APART_MS, leg.broker_id)
            record = None if rows is None else record_of(leg, rows)
            if record is None or record.status not in (BrokerStatus.WORKING, BrokerStatus.PARTIALLY_FILLED):
                continue
            held = await desk.road.fresh_position(desk.book.symbol, desk.numbers.query_timeout)
            if held is not None and not held.quantity and desk.book.position.is_flat:
                found.append(leg)
        return found

    async def cancel_wrong_side(self) -> None:
        """Exits of an earlier, opposite position would open or add if they filled: they go at once.

        So do entries on the other side: they would reduce, and their legs then stand against the position.
        """
        desk, orders = self._desk, self._desk.book.open()
        for order in orders:
            if order.cancel_wanted or order.is_entry != reduces(order, desk.book.position):
                continue
            asleep = parent_unfilled(order, {each.client_id: each for each in orders})
            if not asleep and lifecycle.may_cancel(order) and not order.is_in_doubt:
                await self._submission.cancel(order, f"position is {desk.book.position.quantity}")

    def _waits(self, order: Order) -> bool:
        """Whether this is a leg that acts only once its entry, which works, fills more.

        One that a fill has woken acts now, though others' hands or a bust took away what that fill had brought.
        """
        book = self._desk.book
        entry = book.get(order.parent) if order.parent is not None else None
        if entry is None or not entry.is_open:
            return False
        if Flag.BUSTED in entry.flags:
            return False
        if not entry.filled:
            return True
        legs = (o for o in (*book.open(), *book.recent()) if o.parent == entry.client_id)
        return entry.filled <= sum((o.filled for o in legs), ZERO)

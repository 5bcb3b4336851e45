"""Orders with nothing left to do: exits of a position that is flat, and orders of the position's wrong side."""

from __future__ import annotations

from engine.domain import order_lifecycle as lifecycle
from engine.domain.ids import ClientOrderId, Millis
from engine.domain.order_book import parent_unfilled, reduces
from engine.domain.orders import Order
from engine.outbound.submission import Submission
from engine.session import SessionDesk

LOOK_SECONDS = 1.0


class Leftovers:
    """Asks the broker to take them back."""

    def __init__(self, desk: SessionDesk, submission: Submission) -> None:
        self._desk = desk
        self._submission = submission
        self._swept: dict[ClientOrderId, Millis] = {}

    async def sweep(self) -> None:
        """The position is flat: ask each exit to go, once a look.

        An answer that changes nothing must not bring the next question at once.
        """
        desk = self._desk
        orders = desk.book.open()
        index = {o.client_id: o for o in orders}
        leftovers = [
            o
            for o in orders
            if not o.is_entry and o.is_open and not parent_unfilled(o, index) and not self._parent_open(o)
        ]
        self._swept = {o.client_id: self._swept[o.client_id] for o in leftovers if o.client_id in self._swept}
        for order in leftovers:
            asked, shut = self._swept.get(order.client_id), not desk.road.is_up or desk.road.locked_until is not None
            early = asked is not None and desk.now() - asked < LOOK_SECONDS * 1000
            if early or (shut and order.cancel_wanted) or not lifecycle.may_cancel(order) or order.is_in_doubt:
                continue
            self._swept[order.client_id] = desk.now()
            await self._submission.cancel(order, "the position is flat")

    async def cancel_wrong_side(self) -> None:
        """Exits of an earlier, opposite position would open or add if they filled: they go at once.

        So do entries on the other side: they would reduce, and their legs then stand against the position.
        """
        desk, orders = self._desk, self._desk.book.open()
        index = {o.client_id: o for o in orders}
        for order in orders:
            wrong = not order.cancel_wanted and order.is_entry == reduces(order, desk.book.position)
            if wrong and not parent_unfilled(order, index) and lifecycle.may_cancel(order) and not order.is_in_doubt:
                await self._submission.cancel(order, f"position is {desk.book.position.quantity}")

    def _parent_open(self, order: Order) -> bool:
        parent = self._desk.book.get(order.parent) if order.parent is not None else None
        return parent is not None and parent.is_open

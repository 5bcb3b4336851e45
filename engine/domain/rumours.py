"""What an order may have become at the broker beyond what we know of it."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace as changed

from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import BrokerOrder, Capabilities, ReplaceId, ReplaceQuantity
from engine.domain.ids import BrokerOrderId, ClientOrderId
from engine.domain.orders import TERMINAL, ZERO, Order, OrderState, Terms


class Rumours:
    """Replaces that a query did not find, and sizes that a report named: neither fills nor a word end the order then.

    The request may still be on its way, and makes the order another when it arrives.
    """

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._larger: dict[ClientOrderId, Decimal] = {}
        self._unfound: dict[ClientOrderId, Terms] = {}
        self._inherited: dict[ClientOrderId, BrokerOrderId | None] = {}

    def inherited(self, order: Order) -> Order:
        """It comes from the audit trail: another life may have asked, or may ask still, for what no row tells."""
        self._inherited[order.client_id] = order.broker_id
        return order

    def note(self, order: Order, after: Order, report: BrokerOrder) -> None:
        """Take in what a report made of an order."""
        if after.state in TERMINAL:
            self.forget(order.client_id)
            return
        size = ZERO
        if order.state is OrderState.IN_DOUBT_REPLACE and not after.is_in_doubt and order.wanted is not None:
            # a leg may have grown by itself to what was asked for: the old id says that no replace has been there yet
            same_id = self._capabilities.replace_id is ReplaceId.CHANGES and after.broker_id == order.broker_id
            if same_id or not lifecycle.same_terms(after.terms, order.wanted):
                self._unfound[order.client_id], size = order.wanted, order.wanted.quantity
        elif order.state in (OrderState.WORKING, OrderState.PARTIALLY_FILLED) and report.filled >= order.filled:
            size = report.terms.quantity
        if size > after.terms.quantity:
            self._larger[order.client_id] = max(size, self._larger.get(order.client_id, ZERO))

    def crossed(self, client_id: ClientOrderId, wanted: Terms) -> None:
        """Something filled while a replace of what remains was under way: that may be no part of what comes of it."""
        self._larger[client_id] = max(wanted.quantity, self._larger.get(client_id, ZERO))

    def forget(self, client_id: ClientOrderId) -> None:
        """The order has ended by the broker's word."""
        self._larger.pop(client_id, None)
        self._unfound.pop(client_id, None)

    def unfound(self, order: Order) -> Terms | None:
        """What an open order may be replaced by though no answer is awaited."""
        return self._unfound.get(order.client_id) if order.is_open else None

    def replaced(self, order: Order) -> Terms | None:
        """What an order may have been replaced by when the stream calls it cancelled; None where it has ended.

        Its own terms where nobody knows what was asked for.
        """
        if order.cancel_wanted or order.client_id not in self._inherited:
            return self.unfound(order)
        known = self._inherited[order.client_id] == order.broker_id and order.is_open
        return self.unfound(order) or (order.terms if known else None)

    def possible(self, order: Order) -> Order:
        """The order with such terms as `wanted`; as it is where none are known, or others are under way."""
        wanted = self.unfound(order) if order.wanted is None else None
        return order if wanted is None else changed(order, wanted=wanted)

    def size(self, order: Order) -> Decimal:
        """How large an order that filled whole as we know it may be; zero where nothing says so."""
        size = self._larger.get(order.client_id, ZERO)
        if size and self._capabilities.replace_quantity is ReplaceQuantity.REMAINING:
            size += order.filled  # it was asked for when nothing, or less, had filled
        return size

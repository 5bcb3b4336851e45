"""What acts of ours against a position, and what of it should be another size: read out of one state of the book."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct

from engine.domain.ids import ClientOrderId
from engine.domain.order_book import OrderBook, live_exits, reduces
from engine.domain.orders import ZERO, Order, OrderState, OrderType, Role
from engine.outbound.fitting import Fit, fit_protection


class Resting(Struct, frozen=True):
    """Protective orders that can act on the position, exits that may act any moment, and the sizes that would fit.

    `covered` is what the stops have left to fill; `entered`, only where that is too little, what each entry has filled.
    """

    stops: tuple[Order, ...]
    targets: tuple[Order, ...]
    leaving: tuple[Order, ...]
    covered: Decimal
    entered: Mapping[ClientOrderId, Decimal]
    changes: tuple[Fit, ...]


def resting(book: OrderBook) -> Resting:
    """As the book has it now. A lost exit is presumed dead, so that the position does not stand bare."""
    opened, position, size = book.open(), book.position, abs(book.position.quantity)
    exits = (o for o in opened if o.role is Role.EXIT and o.is_open and o.state is not OrderState.LOST)
    converted = (o for o in opened if o.role is Role.STOP and o.is_open and o.terms.type is OrderType.MARKET)
    stops = [o for o in live_exits(opened, position, Role.STOP) if o.terms.type is not OrderType.MARKET]
    targets = live_exits(opened, position, Role.TARGET)
    covered = sum((o.remaining for o in stops), ZERO)
    entered = {o.client_id: o.filled for o in book if o.is_entry and o.filled} if covered < size else {}
    return Resting(
        stops=tuple(stops),
        targets=tuple(targets),
        leaving=(*(o for o in exits if reduces(o, position)), *converted),
        covered=covered,
        entered=entered,
        changes=fit_protection(stops, targets, size, entered),
    )

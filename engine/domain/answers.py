"""An answer to a question about one order: the record that says where it stands, and those of its earlier ids."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec.structs import replace as changed

from engine.domain.broker import BrokerOrder, FillsKind, ReplaceId, ReplaceQuantity
from engine.domain.ids import Millis
from engine.domain.incarnations import earlier_records
from engine.domain.order_book import OrderBook
from engine.domain.order_lifecycle import Evidence, moved
from engine.domain.orders import ZERO, Order


def book_answer(book: OrderBook, order: Order, record: BrokerOrder, rows: Iterable[BrokerOrder], now: Millis) -> Order:
    """Book a record of the broker, and before it what the same answer says of fills under earlier ids.

    Where fills come as cumulative quantities nothing else tells of a fill that crossed a replace unheard.
    """
    manners = book.capabilities
    if manners.replace_id is ReplaceId.CHANGES and manners.fills is FillsKind.CUMULATIVE:
        earlier = earlier_records(order, record, rows)
        if earlier and manners.replace_quantity is ReplaceQuantity.REMAINING:
            total = record.terms.quantity + sum((row.filled for row in earlier), ZERO)
            order = book.put(_sized(order, record, total, now), "size known", now, f"{total} under all its ids")
        for row in earlier:
            order = book.of_the_past(order, row, now)
    return book.report(order, record, Evidence.QUERY, now)


def _sized(order: Order, record: BrokerOrder, total: Decimal, now: Millis) -> Order:
    """What filled before the broker read "so much remains" is no part of what it made of it: the order is larger."""
    if not order.is_open:
        return order
    if order.wanted is None or record.broker_id == order.broker_id:
        grows = total > order.terms.quantity
        return moved(order, now, terms=changed(order.terms, quantity=total)) if grows else order
    same = order.wanted.quantity == total
    return order if same else moved(order, now, wanted=changed(order.wanted, quantity=total))

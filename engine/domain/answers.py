"""What answers say of an order that changed its id: the record that says where it stands, and those of before."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec.structs import replace as changed

from engine.domain.broker import BrokerOrder
from engine.domain.ids import ClientOrderId, Millis
from engine.domain.incarnations import earlier_records, ids_between, record_of
from engine.domain.order_book import OrderBook
from engine.domain.order_lifecycle import Evidence, moved
from engine.domain.orders import ZERO, Order


def book_answer(book: OrderBook, order: Order, record: BrokerOrder, rows: Iterable[BrokerOrder], now: Millis) -> Order:
    """Book a record of the broker, and before it what the same answer says of fills under earlier ids.

    Where fills come as cumulative quantities nothing else tells of a fill that crossed a replace unheard.
    """
    rows = tuple(rows)
    book.also_had(order, ids_between(order, record, rows))
    if book.capabilities.leaves_ids:
        earlier = earlier_records(order, record, rows)
        awaited = order.wanted is not None
        if awaited:
            order = _size_known(book, order, record, earlier, now)
        for row in earlier:
            order = book.of_the_past(order, row, now)
        if not awaited:  # each fill of an id that it has left made it larger just now
            order = _size_known(book, order, record, earlier, now)
    return book.report(order, record, Evidence.QUERY, now)


def book_ids_left(book: OrderBook, rows: Iterable[BrokerOrder], begun: Millis, now: Millis) -> int:
    """Book what a list of open and closed orders says of ids that settled orders of ours had; how many changes.

    `begun` is when the list was asked for: it tells nothing of an order that moved since.
    """
    before, rows = book.version, tuple(rows)
    left: dict[ClientOrderId, Order] = {}
    for row in rows:
        order = book.owner_of(row) if row.terms.symbol == book.symbol else None
        if order is not None and order.broker_id not in (None, row.broker_id, row.replaces):
            left[order.client_id] = order
    for order in left.values():
        record = record_of(order, rows)
        if record is None or record.broker_id != order.broker_id or order.is_in_doubt or order.updated > begun:
            continue
        if order.is_open or record.status.is_final:
            book_answer(book, order, record, rows, now)
    return book.version - before


def _size_known(
    book: OrderBook, order: Order, record: BrokerOrder, earlier: tuple[BrokerOrder, ...], now: Millis
) -> Order:
    if not earlier or not book.capabilities.counts_anew:
        return order
    total = record.terms.quantity + sum((row.filled for row in earlier), ZERO)
    return book.put(_sized(order, record, total, now), "size known", now, f"{total} under all its ids")


def _sized(order: Order, record: BrokerOrder, total: Decimal, now: Millis) -> Order:
    """What filled before the broker read "so much remains" is no part of what it made of it: the order is larger."""
    if not order.is_open:
        return order
    if order.wanted is None or record.broker_id == order.broker_id:
        grows = total > order.terms.quantity
        return moved(order, now, terms=changed(order.terms, quantity=total)) if grows else order
    same = order.wanted.quantity == total
    return order if same else moved(order, now, wanted=changed(order.wanted, quantity=total))

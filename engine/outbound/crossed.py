"""After a replace of what remains: a fill that crossed it unheard has left an exit larger than the position."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace as changed

from engine.domain import order_lifecycle as lifecycle
from engine.domain.answers import book_answer
from engine.domain.broker import FillsKind, ReplaceId
from engine.domain.incarnations import record_of
from engine.domain.order_book import book_executions
from engine.domain.orders import Order
from engine.outbound.sleepers import CLOCKS_APART_MS
from engine.session import SessionDesk


async def look_for_crossed(desk: SessionDesk, order: Order, filled: Decimal) -> None:
    """Learn what filled unheard, and what the broker made of the order, if it holds something else than memory now.

    `filled` is what was known when the request left. The next tick may fill the rest of an order that is too large:
    this does not wait for the second look of a reconciliation.
    """
    fresh = await desk.road.fresh_position(order.terms.symbol, desk.numbers.query_timeout)
    agrees = fresh is not None and fresh.quantity == desk.book.position.quantity
    if agrees and desk.current(order).reported == filled:
        return
    manners = desk.road.capabilities
    if manners.fills is FillsKind.CUMULATIVE or manners.replace_id is ReplaceId.KEEPS:
        await _look_at(desk, order)
    report = await desk.road.fills_since(order.created - CLOCKS_APART_MS)
    if report is not None:
        book_executions(desk.book, report.rows, desk.now())


async def _look_at(desk: SessionDesk, order: Order) -> None:
    """The broker's own record of the order: an id that stays carries the total that the broker made of it."""
    rows = await desk.road.find(order.client_id, order.created - CLOCKS_APART_MS, order.broker_id)
    current = desk.current(order)
    record = record_of(current, rows or ())
    if record is None or current.sent != order.sent or current.is_in_doubt:
        return  # another request has left since, or the doubt loop asks
    total, keeps = record.terms.quantity, desk.road.capabilities.replace_id is ReplaceId.KEEPS
    if keeps and current.is_open and total != current.terms.quantity:
        sized = lifecycle.adjusted(current, desk.now(), changed(current.terms, quantity=total))
        current = desk.put(sized, "size known", f"{total} since it was replaced")
    book_answer(desk.book, current, record, rows or (), desk.now())

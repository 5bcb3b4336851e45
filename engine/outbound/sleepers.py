"""Entries that memory takes for unfilled while legs of theirs may already act on the position: asked before we act."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec.structs import replace as changed

from engine.domain.answers import book_answer
from engine.domain.broker import BrokerOrder
from engine.domain.ids import ClientOrderId
from engine.domain.incarnations import record_of
from engine.domain.order_book import book_executions
from engine.domain.orders import Order, OrderState
from engine.periodic import done_within
from engine.session import SessionDesk

CLOCKS_APART_MS = 600_000
"""Our clock may have been ahead of the broker's when the order was made: older rows in the answer cost nothing."""


def sleepers(orders: Iterable[Order], held: Decimal) -> tuple[Order, ...]:
    """Live entries without a known fill, on the side of a position of `held`, that carry legs.

    If one of them has filled unheard, its legs are awake at the broker and close this very position.
    """
    orders = tuple(orders)
    parents = {order.parent for order in orders if not order.is_entry and order.is_open}
    return tuple(
        order
        for order in orders
        if order.is_entry
        and order.is_open
        and not order.filled
        and not order.reported
        and order.client_id in parents
        and order.terms.side.sign * held > 0
    )


def awake(orders: tuple[Order, ...], unproven: Iterable[ClientOrderId]) -> tuple[Order, ...]:
    """The orders as if each unproven entry had filled: its legs then count as exits that hold the position."""
    names = frozenset(unproven)
    return tuple(changed(o, reported=o.terms.quantity) if o.client_id in names else o for o in orders)


async def ask(desk: SessionDesk, order: Order, seconds: float) -> bool:
    """Ask the broker for one entry; whether its record came in time and told how much of it has filled."""
    since = order.created - CLOCKS_APART_MS
    asking = desk.tasks.spawn(desk.road.find(order.client_id, since, order.broker_id), "is it filled")
    if not await done_within(desk.clock, seconds, asking):
        return False
    rows = asking.result()
    record = None if rows is None else record_of(desk.current(order), rows)
    if not isinstance(record, BrokerOrder):
        return False
    after = book_answer(desk.book, desk.current(order), record, rows or (), desk.now())
    if after.state is OrderState.LOST:
        return False
    if after.reported > after.filled:
        report = await desk.road.fills_since(order.created - CLOCKS_APART_MS)
        if report is not None:
            book_executions(desk.book, report.rows, desk.now())
    return True


async def unproven_sleepers(desk: SessionDesk, held: Decimal, seconds: float) -> tuple[ClientOrderId, ...]:
    """Ask for every sleeper; those whose fate the broker did not tell in `seconds` each."""
    return tuple([o.client_id for o in sleepers(desk.book.open(), held) if not await ask(desk, o, seconds)])

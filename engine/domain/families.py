"""An entry and the legs that left with it in one request: what the broker's record of one says of the other. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from engine.domain.broker import BrokerOrder, BrokerStatus
from engine.domain.ids import BrokerOrderId
from engine.domain.incarnations import record_of
from engine.domain.order_lifecycle import looks_like
from engine.domain.orders import Order


def named_by_leg(entry: Order, orders: Iterable[Order], rows: Iterable[BrokerOrder]) -> BrokerOrder | None:
    """The record that the broker names as parent of a leg of ours, if its terms are the entry's; None without one.

    `orders` are ours, the legs among them known at the broker or not; `rows` one complete answer. That is no likeness:
    whoever else sends the same order has no leg of ours.
    """
    rows = tuple(rows)
    parents = _parents((order for order in orders if order.parent == entry.client_id), rows)
    named = [row for row in rows if row.broker_id in parents and looks_like(entry, row.terms)]
    return named[0] if len(named) == 1 else None


def named_by_others(order: Order, orders: Iterable[Order], rows: Iterable[BrokerOrder]) -> frozenset[BrokerOrderId]:
    """The ids that the broker names as parent of legs of ours of other entries: none of them is this order's."""
    return _parents((o for o in orders if o.parent not in (None, order.client_id)), tuple(rows))


def _parents(legs: Iterable[Order], rows: tuple[BrokerOrder, ...]) -> frozenset[BrokerOrderId]:
    """What the broker's records name as parents of these legs, as far as it knows them."""
    records = (record_of(leg, rows) for leg in legs if leg.broker_id is not None)
    return frozenset(record.parent for record in records if record is not None and record.parent is not None)


def stands_without_legs(entry: Order, orders: Iterable[Order], row: BrokerOrder, rows: Iterable[BrokerOrder]) -> bool:
    """Whether the entry left with legs of which none is beside this row: then it is hardly the entry's.

    An entry that was refused never had legs at the broker.
    """
    legs = [order for order in orders if order.parent == entry.client_id]
    if not legs or row.status is BrokerStatus.REJECTED:
        return False
    parents = (None, row.broker_id, row.replaces)
    return not any(looks_like(leg, each.terms) and each.parent in parents for leg in legs for each in rows)

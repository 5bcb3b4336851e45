"""Orders that change their broker id with every replace: several records, one order of ours. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec.structs import replace as changed

from engine.domain.broker import BrokerOrder
from engine.domain.fills import Fill
from engine.domain.ids import BrokerOrderId
from engine.domain.order_lifecycle import same_terms
from engine.domain.orders import ZERO, Order, OrderState

CLOCKS_MS = 5_000
"""How far the broker's clock may be behind ours."""


def record_of(order: Order, rows: Iterable[BrokerOrder]) -> BrokerOrder | None:
    """The record that says where the order stands now: what replaced it, else its own, else one with our id.

    Of several replaces that nobody heard of the last one counts; it is told as if it had replaced ours directly.
    """
    rows = tuple(rows)
    if order.broker_id is not None:
        successors = {row.replaces: row for row in rows if row.replaces is not None}
        last = successor = successors.pop(order.broker_id, None)
        while successor is not None:
            last, successor = successor, successors.pop(successor.broker_id, None)
        if last is not None:
            return changed(last, replaces=order.broker_id)
        for row in rows:
            if row.broker_id == order.broker_id:
                return row
    mine = [row for row in rows if row.client_id is not None and row.client_id == order.client_id]
    replaced = {row.replaces for row in mine}
    found = next((row for row in mine if row.broker_id not in replaced), None)
    return changed(found, replaces=order.broker_id) if found is not None and _follows(order, found) else found


def earlier_records(order: Order, record: BrokerOrder, rows: Iterable[BrokerOrder]) -> tuple[BrokerOrder, ...]:
    """The other records of an answer that are of ids which the order carried before `record`, oldest first."""
    rows = tuple(rows)
    by_id = {row.broker_id: row for row in rows}
    step = by_id.get(record.broker_id, record).replaces
    seen: set[BrokerOrderId] = set()
    while step is not None and step not in seen:
        seen.add(step)
        step = by_id[step].replaces if step in by_id else None
    mine = (row for row in rows if row.broker_id in (*seen, order.broker_id) or row.client_id == order.client_id)
    return tuple(sorted((row for row in mine if row.broker_id != record.broker_id), key=lambda row: row.submitted))


def ids_between(order: Order, record: BrokerOrder, rows: Iterable[BrokerOrder]) -> tuple[BrokerOrderId, ...]:
    """Ids that the order has had since the one that we know and before `record`, newest first: nobody told of them."""
    before = {row.broker_id: row.replaces for row in rows} if record.broker_id != order.broker_id else {}
    passed: list[BrokerOrderId] = []
    step = before.get(record.broker_id)
    while step is not None and step != order.broker_id and step not in passed:
        passed.append(step)
        step = before.get(step)
    return tuple(passed) if step is not None and step == order.broker_id else ()


def is_cut_off(known: BrokerOrderId | None, rows: Iterable[BrokerOrder]) -> bool:
    """Whether records by our id leave open how they follow the id that we know: there was another between them."""
    rows = tuple(rows)
    ids = {known, *(row.broker_id for row in rows)}
    told = any(row.broker_id == known for row in rows)
    return known is not None and not told and any(r.replaces is not None and r.replaces not in ids for r in rows)


def _follows(order: Order, row: BrokerOrder) -> bool:
    """Whether a record with our id came after the one we know, though the broker has forgotten those between them.

    Only a replace whose answer is awaited can have made it, and not before that was sent.
    """
    doubt = order.doubt if order.state is OrderState.IN_DOUBT_REPLACE else None
    if doubt is None or order.broker_id in (None, row.broker_id) or row.replaces is None:
        return False
    return row.submitted >= doubt.sent - CLOCKS_MS


def whole(record: BrokerOrder, earlier: Iterable[Fill]) -> BrokerOrder:
    """The record as if the order had kept its id: with what filled under its earlier ids."""
    earlier = tuple(earlier)
    carried = sum((fill.quantity for fill in earlier), ZERO)
    if not carried:
        return record
    cost = sum((fill.quantity * fill.price for fill in earlier), ZERO) + (record.average_price or ZERO) * record.filled
    filled = record.filled + carried
    return changed(
        record,
        terms=changed(record.terms, quantity=record.terms.quantity + carried),
        filled=filled,
        average_price=cost / filled,
    )


def as_asked(order: Order, successor: BrokerOrder) -> Order:
    """The order with what its replace asked for: where we only know that somebody did, the new record says for what.

    A record that has ended says it, too: whether it filled whole is a matter of the terms that it had, and a later
    replace, of which an earlier life left no trace, may have made it.
    """
    unknown = order.wanted is not None and (same_terms(order.wanted, order.terms) or successor.status.is_final)
    return changed(order, wanted=successor.terms) if unknown else order


def sized_anew(order: Order, broker_id: BrokerOrderId, rest: Decimal, known: Iterable[Fill]) -> Order:
    """The order with the total that its replace makes of it, where the new id begins with `rest` still to fill."""
    if order.wanted is None:
        return order
    total = rest + sum((fill.quantity for fill in known if fill.broker_id != broker_id), ZERO)
    return changed(order, wanted=changed(order.wanted, quantity=total))


def grown_by(order: Order, fill: Fill) -> Order:
    """The order before a fill is booked: one of an id that it has left is no part of what it was made since."""
    if not order.is_open or order.wanted is not None or order.broker_id in (None, fill.broker_id):
        return order
    return changed(order, terms=changed(order.terms, quantity=order.terms.quantity + fill.quantity))


def unbooked(record: BrokerOrder, known: Iterable[Fill]) -> tuple[Decimal, Decimal]:
    """Quantity and price of what the record of an earlier id reports beyond the fills known of that id."""
    known = tuple(known)
    quantity = record.filled - sum((fill.quantity for fill in known), ZERO)
    if quantity <= 0:
        return ZERO, ZERO
    cost = (record.average_price or ZERO) * record.filled - sum((f.quantity * f.price for f in known), ZERO)
    return quantity, cost / quantity


def fill_price(order: Order, report: BrokerOrder) -> Decimal:
    """Price of the interval between the fills we know and the report's cumulative quantity.

    From (average x cumulative - known average x known) / difference; for brokers that report no executions.
    A report that names no average leaves the order's own price as the nearest guess.
    """
    delta = report.filled - order.filled
    guess = order.average_price or order.terms.limit or order.terms.stop or ZERO
    total = (report.average_price or guess) * report.filled
    return (total - (order.average_price or ZERO) * order.filled) / delta

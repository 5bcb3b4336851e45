"""Questions about orders whose fate nobody knows: what an answer proves, and what an operator says. Pure."""

from __future__ import annotations

from msgspec.structs import replace as changed

from engine.domain.broker import BrokerOrder
from engine.domain.ids import BrokerOrderId, Millis
from engine.domain.order_lifecycle import moved, resting_state
from engine.domain.orders import Flag, Order, OrderState
from engine.errors import IllegalCommand


def asked_again(
    order: Order,
    now: Millis,
    *,
    complete_negative: bool,
    evidence: str,
    next_query: Millis,
    candidates: tuple[BrokerOrderId, ...] | None = None,
) -> Order:
    """A query about an order in doubt came back without it (`complete_negative`), or proved nothing.

    Only consecutive complete negatives count: anything else begins the count anew. `candidates` are the live orders
    that look like it; None is "no complete answer", and leaves those that an earlier one showed.
    """
    if order.doubt is None:
        return order
    doubt = changed(
        order.doubt,
        tries=order.doubt.tries + 1,
        negatives=order.doubt.negatives + 1 if complete_negative else 0,
        next_query=next_query,
        last_evidence=evidence,
        candidates=order.doubt.candidates if candidates is None else candidates,
    )
    return moved(order, now, doubt=doubt)


def ask_soon(order: Order, now: Millis) -> Order:
    """Somebody saw something that may be this order: the next question is due now."""
    if order.doubt is None or order.doubt.next_query <= now:
        return order
    return moved(order, now, doubt=changed(order.doubt, next_query=now))


def told_apart(order: Order, now: Millis, record: BrokerOrder, *, counted: bool) -> Order:
    """An operator says which of several candidates is this order.

    `counted`: what it filled came into the position with a difference that was adopted, as if it were a stranger's.
    """
    if order.state not in (OrderState.IN_DOUBT_SUBMIT, OrderState.LOST) or order.broker_id is not None:
        raise IllegalCommand(f"order {order.client_id} is {order.state}; it cannot be told apart now")
    known = changed(
        order,
        broker_id=record.broker_id,
        filled=record.filled if counted else order.filled,
        average_price=record.average_price if counted else order.average_price,
        reported=max(order.reported, record.filled),
        flags=order.flags | ({Flag.MATCHED_BY_SHAPE, Flag.EXTERNAL} if counted else {Flag.MATCHED_BY_SHAPE}),
    )
    return moved(known, now, state=resting_state(known), doubt=None)

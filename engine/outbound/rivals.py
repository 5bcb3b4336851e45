"""While nobody confirms who commands, another engine may guard the same position: it goes first, and is looked for."""

from __future__ import annotations

from engine.domain.broker import BrokerOrder
from engine.domain.orders import ZERO, OrderType
from engine.session import SessionDesk

YIELD_SECONDS = 1.5


async def guarded_by_another(desk: SessionDesk) -> str | None:
    """What another engine seems to have done for a bare position, if the lease is not confirmed; None: it is ours.

    The broker is the one thing that both can read. Whoever took over after us holds the next epoch, and of two engines
    that are both unsure the older one waits longer or shorter than the newer by a second.
    """
    if desk.lease.unsure_since() is None:
        return None
    held = desk.book.position.quantity
    await desk.clock.sleep(YIELD_SECONDS + desk.lease.epoch % 2)
    if desk.book.position.quantity != held:
        return "the position has moved meanwhile"
    listed = await desk.road.open_orders()
    if listed is None:
        return None  # naked is worse than doubtful
    stops = [row for row in listed.rows if desk.book.owner_of(row) is None and _guards(row, desk)]
    if sum((row.terms.quantity - row.filled for row in stops), ZERO) < abs(held):
        return None
    return f"stop {stops[0].broker_id} of another rests, and nobody says who commands the account"


def _guards(row: BrokerOrder, desk: SessionDesk) -> bool:
    """Whether an order rests at the broker that would close the position when the market runs against it."""
    stop = row.terms.type in (OrderType.STOP, OrderType.STOP_LIMIT) and not row.status.is_final
    return stop and row.terms.symbol == desk.book.symbol and row.terms.side.sign * desk.book.position.quantity < 0

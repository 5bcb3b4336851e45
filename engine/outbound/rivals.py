"""While nobody proves that we command alone, another engine may guard the same position: its stops are looked for."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from engine.domain.broker import BrokerOrder
from engine.domain.orders import ZERO, OrderType
from engine.session import SessionDesk

YIELD_SECONDS = 1.5


class Beside(Struct, frozen=True):
    """How much of the position stops guard that are not ours, and what to say of them."""

    quantity: Decimal = ZERO
    text: str = ""


async def stops_of_others(desk: SessionDesk) -> Beside | None:
    """What another engine seems to have done for the position; None: the position moved while we asked.

    The broker is the one thing that both can read. While our lease is not confirmed, whoever took over after us goes
    first: it holds the next epoch, and of two engines that are both unsure the older one waits longer or shorter than
    the newer by a second. Whoever took over on a typed word goes ahead, and looks: the one before may not have ended.
    """
    unsure, held = desk.lease.unsure_since() is not None, desk.book.position.quantity
    if not unsure and not desk.lease.is_by_word:
        return Beside()
    if unsure:
        await desk.clock.sleep(YIELD_SECONDS + desk.lease.epoch % 2)
    listed = await desk.road.open_orders() if desk.book.position.quantity == held else None
    if desk.book.position.quantity != held:
        return None
    rows = () if listed is None else listed.rows  # naked is worse than doubtful
    stops = [row for row in rows if desk.book.owner_of(row) is None and _guards(row, desk)]
    if not stops:
        return Beside()
    why = "nobody says who commands the account" if unsure else "that the engine before us has ended is a word only"
    found = sum((row.terms.quantity - row.filled for row in stops), ZERO)
    return Beside(found, f"stop {stops[0].broker_id} of another rests, and {why}")


def _guards(row: BrokerOrder, desk: SessionDesk) -> bool:
    """Whether an order rests at the broker that would close the position when the market runs against it."""
    stop = row.terms.type in (OrderType.STOP, OrderType.STOP_LIMIT) and not row.status.is_final
    return stop and row.terms.symbol == desk.book.symbol and row.terms.side.sign * desk.book.position.quantity < 0

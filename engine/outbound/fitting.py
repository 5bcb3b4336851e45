"""Which resting stop or target has to become how large, so that together they close the position exactly: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace as changed

from engine.domain.ids import ClientOrderId
from engine.domain.orders import ZERO, Order, Terms
from engine.domain.positions import Position


class Fit(Struct, frozen=True):
    """What should be left to fill of one protective order; zero means that it has to go."""

    order: Order
    remaining: Decimal


def fit_protection(
    stops: Sequence[Order], targets: Sequence[Order], size: Decimal, entered: Mapping[ClientOrderId, Decimal]
) -> tuple[Fit, ...]:
    """The changes that make the stops cover `size` together, each linked target as large as its stop.

    `entered` is what entries have filled. Too much: the newest pairs give way first. Too little: a leg smaller than
    its entry's fills grows up to them, because the broker may have let it grow already and asking again adds
    nothing; what is still bare goes to the oldest stop. A target without a live stop to
    link it would close beside the stops, so it goes while there are stops; alone it is cut to the position.
    """
    wanted: dict[str, Decimal] = {}
    room = size
    ordered = sorted(stops, key=lambda o: (o.created, o.client_id))
    for stop in ordered:
        wanted[stop.client_id] = min(stop.remaining, room)
        room -= wanted[stop.client_id]
    for stop in ordered:
        owed = ZERO if stop.parent is None else entered.get(stop.parent, ZERO) - stop.largest
        if owed > 0:
            wanted[stop.client_id] += min(owed, room)
            room -= min(owed, room)
    if ordered and room:
        wanted[ordered[0].client_id] += room
    pairs = {stop.parent: wanted[stop.client_id] for stop in ordered if stop.linked and stop.parent is not None}
    free = ZERO if ordered else size
    for target in sorted(targets, key=lambda o: (o.created, o.client_id)):
        if target.linked and target.parent in pairs:
            wanted[target.client_id] = pairs[target.parent]
        else:
            wanted[target.client_id] = min(target.remaining, free)
            free -= wanted[target.client_id]
    return tuple(
        Fit(order, wanted[order.client_id])
        for order in (*ordered, *targets)
        if wanted[order.client_id] != order.remaining
    )


def still_fits(order: Order, wanted: Terms, seen: Terms, held: Position, now: Position) -> Terms:
    """The total asked of an exit, less what was closed since it was decided on `seen` terms and a position `held`.

    The broker makes a leg smaller when the one linked to it fills; asking for the old size would undo that. And
    nothing is asked for beyond a position that others have made smaller.
    """
    total = wanted.quantity
    if order.terms.quantity < seen.quantity:
        total = max(min(total, order.terms.quantity), total - (seen.quantity - order.terms.quantity))
    left = max(ZERO, now.quantity if held.quantity > 0 else -now.quantity)
    if left < abs(held.quantity):
        total = min(total, order.filled + left)
    return changed(wanted, quantity=total)

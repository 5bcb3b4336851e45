"""One session's contribution to the portfolio's risk, in money; the formula is shown on the heat screen.

position   |quantity| x (signed distance from mark to the confirmed stop) x point value, never under the gap floor;
           a crossed stop counts as none
entries    full size x distance from their own price (market: the mark) to their stop, the larger of old and new
           terms during a replace; in doubt or lost: worst case per contract; ended: what the broker reported as
           filled and nobody has booked yet, which no position counts, at worst case per contract
the rest   worst case per contract
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from engine.domain.ids import Millis, SessionId
from engine.domain.instruments import Instrument
from engine.domain.order_book import live_exits
from engine.domain.orders import (
    ZERO,
    Order,
    OrderState,
    OrderType,
    Role,
    Terms,
)
from engine.domain.positions import Position
from engine.domain.risk import Contribution

GAP_FLOOR_TICKS = 4
GAP_FLOOR_FRACTION = Decimal("0.0025")


class RiskScale(Struct, frozen=True, kw_only=True):
    """What turns a distance into money for one session. `worst_case` is money per contract without protection."""

    instrument: Instrument
    worst_case: Decimal
    floor_ticks: int = GAP_FLOOR_TICKS
    floor_fraction: Decimal = GAP_FLOOR_FRACTION

    def floor(self, mark: Decimal) -> Decimal:
        """Smallest distance a price may be assumed to jump, in points: max(ticks, fraction of the mark)."""
        return max(self.instrument.tick_size * self.floor_ticks, abs(mark) * self.floor_fraction)

    def money(self, size: Decimal, distance: Decimal, mark: Decimal) -> Decimal:
        """Money that `size` loses over `distance` points, never under the gap floor."""
        return size * max(distance, self.floor(mark)) * self.instrument.point_value


def confirmed_stops(orders: Iterable[Order], position: Position) -> list[Order]:
    """Own stops that the broker confirmed and that close this position; one that we asked to go is no cover."""
    stops = live_exits(tuple(orders), position, Role.STOP)
    return [
        order
        for order in stops
        if order.terms.type in (OrderType.STOP, OrderType.STOP_LIMIT)
        and order.state not in (OrderState.PENDING_CANCEL, OrderState.IN_DOUBT_CANCEL)
    ]


def position_risk(
    scale: RiskScale, position: Position, mark: Decimal | None, stops: list[Order]
) -> tuple[Decimal, Decimal]:
    """Risk of the open position as (covered by stops, not covered), in money."""
    size = abs(position.quantity)
    if not size:
        return ZERO, ZERO
    if mark is None:
        return ZERO, size * scale.worst_case
    sign = 1 if position.quantity > 0 else -1
    covered = ZERO
    left = size
    for stop in sorted(stops, key=lambda o: (o.terms.stop or ZERO) * sign):
        assert stop.terms.stop is not None
        distance = (mark - stop.terms.stop) * sign
        part = min(left, stop.at_least)
        if distance <= 0 or not part:
            continue
        covered += scale.money(part, distance, mark)
        left -= part
    return covered, left * scale.worst_case


def entry_risk(scale: RiskScale, order: Order, mark: Decimal | None) -> Decimal:
    """Risk of an entry that may still fill, or that has filled more than is booked, in money."""
    if not order.is_open:
        return (order.reported - order.filled) * scale.worst_case
    if order.state in (OrderState.IN_DOUBT_SUBMIT, OrderState.LOST):
        return (order.terms.quantity - order.filled) * scale.worst_case
    risks = [_terms_risk(scale, terms, order, mark) for terms in (order.terms, order.wanted) if terms is not None]
    return max(risks)


def _terms_risk(scale: RiskScale, terms: Terms, order: Order, mark: Decimal | None) -> Decimal:
    return planned_risk(scale, terms, order.protect_stop, mark, max(ZERO, terms.quantity - order.filled))


def planned_risk(
    scale: RiskScale, terms: Terms, protect_stop: Decimal | None, mark: Decimal | None, size: Decimal
) -> Decimal:
    """Risk of `size` at these terms with this protective stop, in money."""
    price = terms.limit if terms.limit is not None else terms.stop if terms.stop is not None else mark
    if protect_stop is None or price is None:
        return size * scale.worst_case
    distance = (price - protect_stop) * terms.side.sign
    if distance <= 0:
        return size * scale.worst_case
    return scale.money(size, distance, price)


def contribution(
    session: SessionId,
    scale: RiskScale,
    position: Position,
    mark: Decimal | None,
    orders: Iterable[Order],
    excess: Decimal,
    at: Millis,
) -> Contribution:
    """What this session declares; `excess` is the size of own unlinked exits beyond the position."""
    orders = tuple(orders)
    covered, naked = position_risk(scale, position, mark, confirmed_stops(orders, position))
    entries = [o for o in orders if o.role is Role.ENTRY and (o.is_open or o.open_for_fills)]
    return Contribution(
        session=session,
        symbol=scale.instrument.symbol,
        group=scale.instrument.group,
        at=at,
        position_risk=covered,
        unprotected=naked,
        pending=sum((entry_risk(scale, o, mark) for o in entries), ZERO),
        excess=excess * scale.worst_case,
        entries=frozenset(o.client_id for o in entries),
        worst_case=mark is None,
    )

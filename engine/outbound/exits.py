"""How to close without ever closing more than there is: a pure plan from position, orders and capabilities."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

from msgspec import Struct

from engine.domain.broker import Capabilities, Enforcer
from engine.domain.order_book import closable, parent_unfilled, reduces
from engine.domain.order_lifecycle import may_replace
from engine.domain.orders import IN_DOUBT, ZERO, Order, OrderState, OrderType, Role
from engine.domain.positions import Position

_UNKNOWN = (OrderState.SUBMITTING, *IN_DOUBT, OrderState.LOST)


class NothingToClose(Struct, frozen=True):
    """The position is flat."""


class Send(Struct, frozen=True):
    """That much is free of other exits: send a new order."""

    quantity: Decimal


class Convert(Struct, frozen=True):
    """A resting stop holds it: ask the broker to make that order a market order.

    `first_cancel` are unlinked targets that have to be gone before, with proof.
    """

    order: Order
    quantity: Decimal
    first_cancel: tuple[Order, ...]


class Shrink(Struct, frozen=True):
    """Resting exits hold too much for a partial close: make them smaller with proof, then send."""

    orders: tuple[Order, ...]
    keep: Decimal
    quantity: Decimal


class CancelFirst(Struct, frozen=True):
    """Resting exits hold it and cannot be converted: cancel them with proof, then close."""

    orders: tuple[Order, ...]
    quantity: Decimal


class Wait(Struct, frozen=True):
    """An own exit is under way or in doubt and holds it; a second one beside it could reverse the position."""

    order: Order
    in_doubt: bool


Step: TypeAlias = Send | Convert | Shrink | CancelFirst | Wait
Plan: TypeAlias = NothingToClose | Step


def leaves_at_once(order: Order) -> bool:
    """An exit on its way: an order of the exit road, or a stop that became a market order."""
    return order.role is Role.EXIT or order.terms.type is OrderType.MARKET


def resting_exits(orders: tuple[Order, ...], position: Position) -> tuple[Order, ...]:
    """Own protective orders that rest at the broker against this position."""
    index = {order.client_id: order for order in orders}
    return tuple(
        order
        for order in orders
        if order.role.is_protective
        and not leaves_at_once(order)
        and order.is_open
        and reduces(order, position)
        and not parent_unfilled(order, index)
    )


def moving_exits(orders: tuple[Order, ...], position: Position) -> tuple[Order, ...]:
    """Own exits on their way against this position, those in doubt too."""
    return tuple(o for o in orders if not o.is_entry and leaves_at_once(o) and o.is_open and reduces(o, position))


def less_what_may_be_void(position: Position, orders: tuple[Order, ...]) -> Position:
    """A position larger than memory explains, less what exits on their way have filled.

    A fill that was voided gives the position back and the order its quantity, which then fills again: until the order
    has ended nobody can tell that from other hands, and an exit beside it would turn the position round.
    """
    moving = moving_exits(orders, position)
    filled, at_most = sum((o.filled for o in moving), ZERO), sum((o.at_most for o in moving), ZERO)
    held = abs(position.quantity)
    if not filled or not held:
        return position
    left = min(held, max(held - filled, at_most))
    return Position(left if position.quantity > 0 else -left, position.average_price if left else None)


def not_leaving(orders: tuple[Order, ...], position: Position) -> Decimal:
    """How much an exit may still close: the position less what exits on their way may take of it."""
    return max(ZERO, abs(position.quantity) - sum((o.at_most for o in moving_exits(orders, position)), ZERO))


def plan_market_exit(
    position: Position, orders: tuple[Order, ...], wanted: Decimal | None, capabilities: Capabilities
) -> Plan:
    """Plan closing `wanted` (None: all) at market; never more than |position| in all exits together.

    What other exits already close is not closed again. Order of preference: what is free, else the conversion of a
    working stop, else shrinking or cancelling with proof. An exit in doubt defers everything but the conversion of
    a known working protective order (protocol, rule 9).
    """
    held = abs(position.quantity)
    if not held:
        return NothingToClose()
    resting = resting_exits(orders, position)
    moving = moving_exits(orders, position)
    doubtful = next((o for o in moving if o.state in _UNKNOWN), None)
    leaving = sum((o.at_most for o in moving), ZERO)
    known = sum((o.at_most for o in moving if o.state not in _UNKNOWN), ZERO)
    quantity = min(held if wanted is None else wanted, max(ZERO, held - leaving))
    stops = [o for o in resting if o.role is Role.STOP and may_replace(o)]
    if known >= held or (moving and doubtful is None and not quantity):
        return Wait(moving[0], in_doubt=False)
    convertible = bool(stops) and capabilities.replace_may_change_type
    if doubtful is not None and not (convertible and (wanted is None or wanted >= held)):
        return Wait(doubtful, in_doubt=True)
    if doubtful is None and closable(orders, position) >= quantity:
        return Send(quantity)
    if convertible and leaving + quantity >= held:
        stop = stops[0]
        others = tuple(o for o in resting if o is not stop and not _linked(o, stop, capabilities))
        return Convert(stop, quantity or min(stop.remaining, held - known), others)
    unsettled = next((o for o in resting if not may_replace(o)), None)
    if unsettled is not None:
        return Wait(unsettled, in_doubt=unsettled.is_in_doubt or unsettled.state is OrderState.LOST)
    if leaving + quantity < held:
        return _make_room(resting, quantity, quantity - closable(orders, position))
    return CancelFirst(resting, quantity)


def _make_room(resting: tuple[Order, ...], quantity: Decimal, needed: Decimal) -> Plan:
    """Free `needed` of what resting exits hold: shrink the newest one that is large enough, else cancel the newest.

    Stops come last, the position needs them most. One that a replace on its way may still make another is not shrunk:
    what arrives late would undo that.
    """
    guards = {_group(order) for order in resting if order.role is Role.STOP}
    groups: dict[str, list[Order]] = {}
    for order in sorted(resting, key=lambda o: (_group(o) not in guards, o.created), reverse=True):
        groups.setdefault(_group(order), []).append(order)
    sizes = {name: max(o.at_most for o in members) for name, members in groups.items()}
    for name, members in groups.items():
        if sizes[name] > needed and not any(o.wanted for o in members):
            return Shrink(tuple(members), sizes[name] - needed, quantity)
    gone: list[Order] = []
    for name, members in groups.items():
        if needed > 0:
            gone.extend(members)
            needed -= sizes[name]
    return CancelFirst(tuple(gone), quantity)


def _group(order: Order) -> str:
    """Legs that the broker links hold their larger size once; every other order stands alone."""
    return f"pair:{order.parent}" if order.linked and order.parent is not None else order.client_id


def _linked(one: Order, other: Order, capabilities: Capabilities) -> bool:
    return (
        capabilities.one_cancels_other is Enforcer.BROKER
        and one.linked
        and other.linked
        and one.parent is not None
        and one.parent == other.parent
    )


def excess_exits(orders: tuple[Order, ...], position: Position) -> tuple[Decimal, tuple[Order, ...]]:
    """Size of own exits beyond |position|, and the orders to cancel for it, newest first.

    Legs of an unfilled entry are no excess; a pair that the broker links counts its larger leg once.
    """
    index = {order.client_id: order for order in orders}
    groups: dict[str, list[Order]] = {}
    for order in orders:
        if order.is_entry or not order.is_open or parent_unfilled(order, index):
            continue
        groups.setdefault(_group(order), []).append(order)
    room = abs(position.quantity)
    excess, extra = ZERO, []
    for members in sorted(groups.values(), key=lambda group: min(o.created for o in group)):
        wrong_side = not reduces(members[0], position)
        size = max(o.at_most for o in members)
        if not wrong_side and size <= room:
            room -= size
            continue
        excess += size if wrong_side else size - room
        room = room if wrong_side else ZERO
        extra.extend(members)
    return excess, tuple(reversed(extra))

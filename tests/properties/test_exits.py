"""Exits do not add up: whatever rests, moves or is in doubt, all exits together never exceed the position."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, assert_never

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from engine.domain.broker import Capabilities, Enforcer
from engine.domain.ids import ClientOrderId
from engine.domain.order_book import closable, held_quantity, reduces
from engine.domain.order_lifecycle import may_replace
from engine.domain.orders import IN_DOUBT, ZERO, Order, OrderState, OrderType, Role, Side
from engine.domain.positions import Position
from engine.outbound.exits import (
    CancelFirst,
    Convert,
    NothingToClose,
    Plan,
    Send,
    Shrink,
    Wait,
    excess_exits,
    plan_market_exit,
)
from engine.outbound.fitting import fit_protection
from tests.unit.engine.samples import order, terms

S = OrderState
LIVE = [S.WORKING, S.PARTIALLY_FILLED, S.PENDING_CANCEL, S.PENDING_REPLACE, S.IN_DOUBT_CANCEL, S.IN_DOUBT_REPLACE]
UNSENT = [S.SUBMITTING, S.IN_DOUBT_SUBMIT, S.LOST]
UNKNOWN = (*UNSENT, *IN_DOUBT)


@st.composite
def books(draw: st.DrawFn) -> tuple[Position, tuple[Order, ...], Capabilities]:
    """A position and own exits in any state, linked or not, right side or wrong.

    One that works with other terms wanted may still be made another by a replace that nobody found.
    """
    held = draw(st.integers(-5, 5))
    position = Position(Decimal(held), Decimal(100) if held else None)
    closing = Side.SELL if held > 0 else Side.BUY
    made: list[Order] = []
    for number in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["stop", "stop", "pair", "exit", "target", "stale"]))
        quantity = draw(st.integers(1, 4))
        state = draw(st.sampled_from([S.WORKING, S.WORKING, S.PARTIALLY_FILLED, *LIVE, *UNSENT]))
        side = closing.opposite if kind == "stale" else closing
        filled = draw(st.integers(0, quantity - 1)) if state in LIVE else 0
        more: dict[str, Any] = {"filled": filled, "created": number}

        def put(
            name: str, role: Role, type: OrderType, quantity: int, side: Side, state: OrderState, more: dict[str, Any]
        ) -> None:
            of = terms(quantity, side, type)
            late = role is not Role.EXIT and state in (S.WORKING, S.PARTIALLY_FILLED) and draw(st.booleans())
            if state in (S.PENDING_REPLACE, S.IN_DOUBT_REPLACE) or late:
                wanted = changed(of, quantity=Decimal(draw(st.integers(1, 4)) + more["filled"]))
                more = {**more, "wanted": wanted}
            made.append(order(name, state, role=role, of=of, **more))

        if kind == "pair":
            more |= {"linked": True, "parent": ClientOrderId(f"e{number}")}
            put(f"s{number}", Role.STOP, OrderType.STOP, quantity, side, state, more)
            put(f"t{number}", Role.TARGET, OrderType.LIMIT, quantity, side, state, more)
        elif kind == "exit":
            put(f"x{number}", Role.EXIT, OrderType.MARKET, quantity, side, state, more)
        elif kind == "target":
            put(f"t{number}", Role.TARGET, OrderType.LIMIT, quantity, side, state, more)
        else:
            put(f"s{number}", Role.STOP, OrderType.STOP, quantity, side, state, more)
    capabilities = Capabilities(
        one_cancels_other=draw(st.sampled_from(Enforcer)), replace_may_change_type=draw(st.booleans())
    )
    return position, tuple(made), capabilities


def carried_out(plan: Plan, orders: tuple[Order, ...], side: Side) -> tuple[Order, ...]:
    """The book after the broker did all that the plan asks for."""
    match plan:
        case NothingToClose() | Wait():
            return orders
        case Send(quantity=quantity):
            return (*orders, order("new", S.WORKING, role=Role.EXIT, of=terms(int(quantity), side, OrderType.MARKET)))
        case CancelFirst(orders=gone, quantity=quantity):
            kept = tuple(o for o in orders if o not in gone)
            return (*kept, order("new", S.WORKING, role=Role.EXIT, of=terms(int(quantity), side, OrderType.MARKET)))
        case Shrink(orders=smaller, keep=keep, quantity=quantity):
            sized = tuple(_sized(o, keep) if o in smaller else o for o in orders)
            return (*sized, order("new", S.WORKING, role=Role.EXIT, of=terms(int(quantity), side, OrderType.MARKET)))
        case Convert(order=stop, quantity=quantity, first_cancel=gone):
            return tuple(_sized(o, quantity, market=True) if o is stop else o for o in orders if o not in gone)
        case _:
            assert_never(plan)


def _sized(item: Order, left: Decimal, *, market: bool = False) -> Order:
    of = changed(item.terms, quantity=item.filled + left)
    return changed(item, terms=changed(of, type=OrderType.MARKET, stop=None) if market else of)


def leaving_now(orders: tuple[Order, ...], position: Position) -> Decimal:
    """What closes without waiting for a price."""
    at_once = [o for o in orders if o.role is Role.EXIT or o.terms.type is OrderType.MARKET]
    return sum((o.at_most for o in at_once if o.is_open and reduces(o, position)), ZERO)


@settings(max_examples=400)
@given(book=books(), wanted=st.one_of(st.none(), st.integers(1, 6).map(Decimal)))
def test_all_exits_together_never_exceed_the_position(
    book: tuple[Position, tuple[Order, ...], Capabilities], wanted: Decimal | None
) -> None:
    position, orders, capabilities = book
    held = abs(position.quantity)
    assume(held_quantity(orders, position) <= held)
    plan = plan_market_exit(position, orders, wanted, capabilities)
    if position.is_flat:
        assert plan == NothingToClose()
        return
    side = Side.SELL if position.quantity > 0 else Side.BUY
    after = carried_out(plan, orders, side)
    assert held_quantity(after, position) <= held
    assert excess_exits(tuple(o for o in after if reduces(o, position)), position) == (ZERO, ())
    if isinstance(plan, Wait):
        return
    before = leaving_now(orders, position)
    goal = held if wanted is None else min(held, before + wanted)
    assert leaving_now(after, position) == goal, "the plan closes what was asked for, no more and no less"


@settings(max_examples=600)
@given(book=books(), wanted=st.one_of(st.none(), st.integers(1, 6).map(Decimal)))
def test_an_exit_waits_only_for_what_holds_it(
    book: tuple[Position, tuple[Order, ...], Capabilities], wanted: Decimal | None
) -> None:
    """Even where exits already exceed the position nothing is refused, and nothing is sent beside a doubt."""
    position, orders, capabilities = book
    plan = plan_market_exit(position, orders, wanted, capabilities)
    assume(not position.is_flat)
    exits = [o for o in orders if o.role is Role.EXIT and reduces(o, position)]
    doubt = [o for o in exits if o.state in UNKNOWN]
    everything = wanted is None or wanted >= abs(position.quantity)
    match plan:
        case NothingToClose():
            raise AssertionError("there is a position")
        case Send() | Shrink() | CancelFirst():
            assert not doubt, "an exit in doubt defers every other one"
        case Convert(order=stop, quantity=quantity, first_cancel=gone):
            assert stop.role is Role.STOP
            assert may_replace(stop)
            assert capabilities.replace_may_change_type
            known = sum((o.at_most for o in exits if o not in doubt), ZERO)
            assert 0 < quantity <= abs(position.quantity) - known
            assert stop not in gone
            if doubt:
                assert everything
        case Wait(order=first, in_doubt=in_doubt):
            assert first in orders
            assert reduces(first, position)
            if first not in exits:
                assert in_doubt is (first.state in (*IN_DOUBT, S.LOST))
            elif in_doubt:
                assert first in doubt
            if everything and not exits:
                assert not may_replace(first), "nothing that can be moved is waited for"
        case _:
            assert_never(plan)


@given(book=books())
def test_cancelling_the_excess_leaves_no_excess(book: tuple[Position, tuple[Order, ...], Capabilities]) -> None:
    position, orders, _ = book
    excess, extra = excess_exits(orders, position)
    assert (excess > 0) is bool(extra)
    kept = tuple(o for o in orders if o not in extra)
    assert excess_exits(kept, position) == (ZERO, ())
    assert held_quantity(kept, position) <= abs(position.quantity)
    if not extra:
        assert closable(orders, position) == abs(position.quantity) - held_quantity(orders, position)


def test_room_for_a_part_is_made_to_the_last_unit() -> None:
    """Three of four leave at market: two limits of two hold them all, and neither is large enough to shrink."""
    position = Position(Decimal(4), Decimal(100))
    targets = tuple(
        order(name, S.WORKING, role=Role.TARGET, of=terms(2, Side.SELL, OrderType.LIMIT), created=number)
        for number, name in enumerate(("older", "newer"))
    )
    plan = plan_market_exit(position, targets, Decimal(3), Capabilities())
    assert isinstance(plan, CancelFirst)
    assert ([o.client_id for o in plan.orders], plan.quantity) == (["newer", "older"], Decimal(3))


def test_of_two_exits_too_many_the_older_one_stays() -> None:
    """Whatever their order in the book: the one that guarded first has proven that the broker holds it."""
    position = Position(Decimal(2), Decimal(100))
    older, newer = (
        order(name, S.WORKING, role=Role.STOP, of=terms(2, Side.SELL, OrderType.STOP), created=number)
        for number, name in enumerate(("older", "newer"))
    )
    for book in ((older, newer), (newer, older)):
        assert excess_exits(book, position) == (Decimal(2), (newer,))
    newest = order("newest", S.WORKING, role=Role.STOP, of=terms(3, Side.SELL, OrderType.STOP), created=2)
    assert excess_exits((older, newer, newest), position) == (Decimal(5), (newest, newer))


def test_what_is_being_changed_is_waited_for_and_neither_cancelled_nor_made_smaller() -> None:
    """Its size is not known: room that is made beside it may be room for too much."""
    position = Position(Decimal(4), Decimal(100))
    for state, in_doubt in ((S.PENDING_REPLACE, False), (S.PENDING_CANCEL, False), (S.IN_DOUBT_REPLACE, True)):
        moving = order("moving", state, role=Role.TARGET, of=terms(4, Side.SELL, OrderType.LIMIT), wanted=terms(3))
        for wanted in (None, Decimal(1)):
            assert plan_market_exit(position, (moving,), wanted, Capabilities()) == Wait(moving, in_doubt=in_doubt)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["stop", "pair", "target"])), max_size=4),
    size=st.integers(1, 6).map(Decimal),
)
def test_fitted_protection_closes_the_position_exactly(sizes: list[tuple[int, str]], size: Decimal) -> None:
    """Stops cover it to the last unit, a linked target is as large as its stop, and nothing stands beside them."""
    stops: list[Order] = []
    targets: list[Order] = []
    for number, (quantity, kind) in enumerate(sizes):
        more: dict[str, Any] = {"created": number}
        if kind == "pair":
            more |= {"linked": True, "parent": ClientOrderId(f"e{number}")}
        if kind in ("stop", "pair"):
            of = terms(quantity, Side.SELL, OrderType.STOP)
            stops.append(order(f"s{number}", S.WORKING, role=Role.STOP, of=of, **more))
        if kind in ("target", "pair"):
            of = terms(quantity, Side.SELL, OrderType.LIMIT)
            targets.append(order(f"t{number}", S.WORKING, role=Role.TARGET, of=of, **more))
    fits = {fit.order.client_id: fit.remaining for fit in fit_protection(stops, targets, size, {})}
    left = {o.client_id: fits.get(o.client_id, o.remaining) for o in (*stops, *targets)}
    if stops:
        assert sum((left[o.client_id] for o in stops), ZERO) == size
    for target in targets:
        linked = [o for o in stops if target.linked and o.parent == target.parent]
        if linked:
            assert left[target.client_id] == left[linked[0].client_id]
        elif stops:
            assert left[target.client_id] == 0
    if not stops:
        assert sum(left.values(), ZERO) <= size

"""Which stop grows and which gives way when together they do not close the position."""

from __future__ import annotations

from decimal import Decimal

from engine.domain.ids import ClientOrderId
from engine.domain.orders import Order, OrderState, OrderType, Role, Side
from engine.outbound.fitting import fit_protection
from tests.unit.engine.samples import d, order, terms

OLD, LEG, ENTRY = ClientOrderId("old"), ClientOrderId("leg"), ClientOrderId("entry")


def stop(name: str, quantity: int, *, created: int, parent: ClientOrderId | None = None, filled: int = 0) -> Order:
    of = terms(quantity, Side.SELL, OrderType.STOP, stop=d(4_900))
    return order(name, OrderState.WORKING, role=Role.STOP, of=of, created=created, parent=parent, filled=filled)


def fits(stops: list[Order], size: int, entered: dict[ClientOrderId, Decimal]) -> dict[str, Decimal]:
    return {fit.order.client_id: fit.remaining for fit in fit_protection(stops, [], d(size), entered)}


def test_what_an_entry_filled_is_given_to_its_own_leg_first() -> None:
    """The broker sizes it to the fills and may have done so unheard: asked again, it adds nothing."""
    stops = [stop(OLD, 1, created=1), stop(LEG, 2, created=2, parent=ENTRY)]
    assert fits(stops, 4, {ENTRY: d(3)}) == {LEG: d(3)}
    assert fits(stops, 6, {ENTRY: d(3)}) == {LEG: d(3), OLD: d(3)}


def test_a_leg_as_large_as_its_entry_leaves_the_rest_to_the_oldest() -> None:
    stops = [stop(OLD, 1, created=1), stop(LEG, 3, created=2, parent=ENTRY)]
    assert fits(stops, 6, {ENTRY: d(3)}) == {OLD: d(3)}
    assert fits(stops, 6, {}) == {OLD: d(3)}


def test_too_much_takes_the_newest_away_first_whatever_its_entry_filled() -> None:
    stops = [stop(OLD, 2, created=1), stop(LEG, 2, created=2, parent=ENTRY, filled=0)]
    assert fits(stops, 3, {ENTRY: d(3)}) == {LEG: d(1)}
    assert fits(stops, 2, {ENTRY: d(3)}) == {LEG: d(0)}
    assert fits(stops, 4, {ENTRY: d(3)}) == {}

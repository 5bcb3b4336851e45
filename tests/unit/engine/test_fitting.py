"""Which stop grows and which gives way when together they do not close the position."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from engine.domain.ids import ClientOrderId
from engine.domain.orders import Order, OrderState, OrderType, Role, Side
from engine.domain.positions import Position
from engine.outbound.fitting import fit_protection, still_fits
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


@pytest.mark.parametrize(
    ("asked", "seen", "now", "held", "left", "filled", "total"),
    [
        (3, 3, 3, 3, 3, 0, 3),  # nothing happened
        (3, 3, 2, 3, 2, 0, 2),  # the leg beside it closed one, and the broker told it of both
        (3, 3, 2, 3, 3, 0, 2),  # so far only of the leg
        (3, 3, 3, 3, 2, 0, 2),  # so far only of the position
        (3, 3, 3, 3, 2, 1, 3),  # the order closed that one itself
        (4, 2, 1, 4, 3, 0, 3),  # one stop for all: what another of the position holds is its, too
        (2, 2, 1, 4, 3, 0, 1),  # it alone was made smaller, beside others
        (1, 2, 1, 2, 1, 0, 1),  # it was asked to be that small anyway
        (2, 2, 2, 4, 2, 0, 2),  # another's leg closed two: this one stays
        (3, 3, 3, 3, 0, 0, 0),  # all is closed
        (3, 3, 3, 3, -1, 0, 0),  # and turned round
        (3, 3, 3, -3, -2, 0, 2),  # short
        (3, 3, 3, 0, 0, 0, 3),  # the broker holds what memory does not
        (5, 3, 3, 3, 5, 0, 5),  # it grew
    ],
)
def test_what_is_asked_of_an_exit_is_what_is_left_of_it_when_it_leaves(
    asked: int, seen: int, now: int, held: int, left: int, filled: int, total: int
) -> None:
    leg = stop(LEG, now, created=1, filled=filled)
    wanted = replace(leg.terms, quantity=d(asked))
    was = replace(leg.terms, quantity=d(seen))
    assert still_fits(leg, wanted, was, Position(d(held)), Position(d(left))).quantity == total

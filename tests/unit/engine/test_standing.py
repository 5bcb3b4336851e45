"""When a new stop is looked for at the broker, and from when on it counts as proven."""

from __future__ import annotations

from engine.domain.orders import Order, OrderState, OrderType, Role, Side
from engine.outbound.standing import ASK_AFTER_MS, PROVEN_AFTER_MS, Standing
from tests.unit.engine.samples import order, terms

START = 1_000_000


def stop(name: str) -> Order:
    return order(name, OrderState.WORKING, role=Role.STOP, of=terms(2, Side.SELL, OrderType.STOP))


def test_each_new_stop_is_asked_for_once_when_it_has_stood_for_a_moment() -> None:
    standing, first, second = Standing(), stop("first"), stop("second")
    assert standing.look((first,), START) is None
    assert standing.look((first,), START + ASK_AFTER_MS - 1) is None
    assert standing.look((first,), START + ASK_AFTER_MS) == "first"
    assert standing.look((first,), START + ASK_AFTER_MS + 1) is None
    later = START + 2 * ASK_AFTER_MS
    assert standing.look((first, second), later) is None
    assert standing.look((first, second), later + ASK_AFTER_MS) == "second"
    assert standing.look((first, second), later + 2 * ASK_AFTER_MS) is None


def test_a_stop_that_went_and_came_again_is_new() -> None:
    standing, only = Standing(), stop("only")
    standing.look((only,), START)
    assert standing.look((only,), START + ASK_AFTER_MS) == "only"
    standing.look((), START + ASK_AFTER_MS)
    assert standing.look((only,), START + ASK_AFTER_MS) is None
    assert standing.look((only,), START + 2 * ASK_AFTER_MS) == "only"


def test_all_stops_have_to_stand_long_enough_to_be_proven() -> None:
    standing, first, second = Standing(), stop("first"), stop("second")
    assert not standing.is_proven
    proven = []
    for stops, at in (
        ((first,), START),
        ((first,), START + PROVEN_AFTER_MS - 1),
        ((first,), START + PROVEN_AFTER_MS),
        ((first, second), START + PROVEN_AFTER_MS),
        ((first, second), START + 2 * PROVEN_AFTER_MS),
    ):
        standing.look(stops, at)
        proven.append(standing.is_proven)
    assert proven == [False, False, True, False, True]

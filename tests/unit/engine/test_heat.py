"""One session's contribution: each line of the formula, and what counts as no protection."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.aggregation.heat import RiskScale, confirmed_stops, contribution, entry_risk, planned_risk, position_risk
from engine.domain.orders import LIVE_AT_BROKER, Order, OrderState, OrderType, Role, Side
from engine.domain.positions import FLAT, Position
from engine.domain.risk import GroupLimits, PortfolioSettings, looser, problem_of, with_limits
from tests.unit.engine.samples import ES, SESSION, d, order, terms

S = OrderState
SCALE = RiskScale(instrument=ES, worst_case=Decimal(2_500))
MARK = d(5_000)
LONG, SHORT = Position(d(2), d(4_900)), Position(d(-2), d(5_100))


def stop(price: int, quantity: int = 2, side: Side = Side.SELL, state: OrderState = S.WORKING) -> Order:
    of = terms(quantity, side, OrderType.STOP, stop=d(price))
    return order(f"s{price}", state, role=Role.STOP, of=of)


def test_a_position_risks_the_distance_from_mark_to_stop() -> None:
    assert position_risk(SCALE, LONG, MARK, [stop(4_900)]) == (d(2 * 100 * 50), d(0))
    assert position_risk(SCALE, SHORT, MARK, [stop(5_100, side=Side.BUY)]) == (d(2 * 100 * 50), d(0))


def test_a_crossed_stop_counts_as_none() -> None:
    assert position_risk(SCALE, LONG, MARK, [stop(5_000)]) == (d(0), d(5_000))
    assert position_risk(SCALE, SHORT, MARK, [stop(4_999, side=Side.BUY)]) == (d(0), d(5_000))


def test_no_distance_is_below_the_gap_floor() -> None:
    """max(4 ticks, a quarter percent of the mark): 12.5 points at 5,000, one point at 100."""
    assert position_risk(SCALE, LONG, MARK, [stop(4_999)]) == (Decimal("2") * Decimal("12.5") * 50, d(0))
    assert position_risk(SCALE, LONG, d(100), [stop(99)]) == (d(2 * 50), d(0))


def test_what_no_stop_covers_counts_at_worst_case_and_the_farthest_stop_counts_first() -> None:
    assert position_risk(SCALE, LONG, MARK, [stop(4_900, 1)]) == (d(5_000), d(2_500))
    assert position_risk(SCALE, LONG, MARK, [stop(4_950), stop(4_900, 1)]) == (d(5_000 + 2_500), d(0))
    assert position_risk(SCALE, LONG, None, [stop(4_900)]) == (d(0), d(5_000))
    assert position_risk(SCALE, FLAT, MARK, []) == (d(0), d(0))


@pytest.mark.parametrize("state", S)
def test_only_a_stop_that_the_broker_confirmed_protects(state: OrderState) -> None:
    leaving = state in (S.PENDING_CANCEL, S.IN_DOUBT_CANCEL)
    assert bool(confirmed_stops([stop(4_900, state=state)], LONG)) is (state in LIVE_AT_BROKER and not leaving)


def test_a_stop_on_the_wrong_side_and_a_stop_entry_protect_nothing() -> None:
    entry = order("e", S.WORKING, of=terms(2, Side.SELL, OrderType.STOP))
    target = order("t", S.WORKING, role=Role.TARGET, of=terms(2, Side.SELL))
    assert confirmed_stops([stop(4_900, side=Side.BUY), entry, target], LONG) == []


def test_an_entry_risks_its_own_price_to_its_stop() -> None:
    limit = terms(3, Side.BUY, limit=d(4_950))
    assert planned_risk(SCALE, limit, d(4_900), MARK, d(3)) == 3 * 50 * 50
    market = terms(3, Side.BUY, OrderType.MARKET)
    assert planned_risk(SCALE, market, d(4_900), MARK, d(3)) == 3 * 100 * 50
    assert planned_risk(SCALE, terms(3, Side.SELL, limit=d(5_000)), d(5_100), MARK, d(3)) == 3 * 100 * 50


def test_an_entry_without_price_or_stop_or_with_a_stop_on_the_wrong_side_is_worst_case() -> None:
    market = terms(3, Side.BUY, OrderType.MARKET)
    assert planned_risk(SCALE, market, None, MARK, d(3)) == 7_500
    assert planned_risk(SCALE, market, d(4_900), None, d(3)) == 7_500
    assert planned_risk(SCALE, market, d(5_000), MARK, d(3)) == 7_500


def test_what_may_still_fill_is_charged_and_doubt_at_worst_case() -> None:
    working = order(state=S.PARTIALLY_FILLED, filled=1, of=terms(3, limit=d(5_000)), protect_stop=d(4_900))
    assert entry_risk(SCALE, working, MARK) == 2 * 100 * 50
    for state in (S.IN_DOUBT_SUBMIT, S.LOST):
        assert entry_risk(SCALE, order(state=state, of=terms(3), protect_stop=d(4_900)), MARK) == 7_500


def test_a_replace_under_way_is_charged_at_the_larger() -> None:
    base = terms(2, limit=d(5_000))
    larger = order(state=S.PENDING_REPLACE, of=base, wanted=terms(3, limit=d(5_000)), protect_stop=d(4_900))
    smaller = order(state=S.PENDING_REPLACE, of=base, wanted=terms(1, limit=d(5_000)), protect_stop=d(4_900))
    assert entry_risk(SCALE, larger, MARK) == 3 * 100 * 50
    assert entry_risk(SCALE, smaller, MARK) == 2 * 100 * 50


def test_a_contribution_names_its_entries_and_adds_up() -> None:
    entry = order("e", S.WORKING, of=terms(1, limit=d(5_000)), protect_stop=d(4_900))
    ended = order("f", S.CANCELLED, of=terms(9))
    made = contribution(SESSION, SCALE, LONG, MARK, [stop(4_900), entry, ended], d(1), 7)
    assert (made.position_risk, made.unprotected, made.pending, made.excess) == (d(10_000), d(0), d(5_000), d(2_500))
    assert made.total == 17_500
    assert made.entries == {"e"}
    assert not made.worst_case


def test_what_an_ended_entry_filled_unheard_is_charged_at_worst_case() -> None:
    told = order("e", S.CANCELLED, filled=1, reported=d(3), of=terms(4, limit=d(5_000)), protect_stop=d(4_900))
    made = contribution(SESSION, SCALE, LONG, MARK, [stop(4_900), told], d(0), 7)
    assert made.pending == 2 * 2_500
    assert made.entries == {"e"}


@given(
    held=st.integers(-6, 6).filter(bool),
    mark=st.integers(1, 10_000).map(Decimal),
    stops=st.lists(st.tuples(st.integers(1, 10_000), st.integers(1, 4)), max_size=5),
)
def test_every_contract_counts_once_and_never_under_the_floor(
    held: int, mark: Decimal, stops: list[tuple[int, int]]
) -> None:
    position = Position(Decimal(held), mark)
    closing = Side.SELL if held > 0 else Side.BUY
    resting = [stop(price, quantity, closing) for price, quantity in stops]
    covered, naked = position_risk(SCALE, position, mark, resting)
    good = sum(q for price, q in stops if (mark - price) * held > 0)
    uncovered = max(0, abs(held) - good)
    assert naked == uncovered * SCALE.worst_case
    assert covered >= (abs(held) - uncovered) * SCALE.floor(mark) * ES.point_value
    farthest = max([abs(mark - price) for price, _ in stops if (mark - price) * held > 0], default=Decimal(0))
    assert covered <= (abs(held) - uncovered) * max(farthest, SCALE.floor(mark)) * ES.point_value


# -- limits -----------------------------------------------------------------------------------------------

LIMITS = PortfolioSettings(groups=(GroupLimits(name="us-index", block=d(4)),))


@pytest.mark.parametrize(
    ("new", "loosens"),
    [
        ({"warn": d(7)}, True),
        ({"warn": d(5)}, False),
        ({"block": d(9)}, True),
        ({"block": d(7)}, False),
        ({"release": d("0.2")}, True),
        ({"release": d(1)}, False),
        ({"block": d(7), "release": d("0.1"), "group:us-index": d(3)}, False),
        ({"warn": d(5), "block": d("8.1")}, True),
        ({"group:us-index": d(3)}, False),
        ({"group:us-index": d(5)}, True),
        ({"block": d(7), "group:us-index": d("4.1")}, True),
        ({"block": d(7), "release": d("0.1")}, True),  # the group would be released at 3.9 instead of 3.5
    ],
)
def test_what_lets_more_risk_in(new: dict[str, Decimal], loosens: bool) -> None:
    assert looser(LIMITS, with_limits(LIMITS, new)) is loosens


def test_limits_that_cannot_be_are_told_and_groups_that_are_gone_passed_over() -> None:
    assert problem_of(LIMITS) is None
    assert with_limits(LIMITS, {"group:metals": d(1), "nothing": d(1)}) == LIMITS
    for new, words in (
        ({"block": d(6)}, "below block 6"),
        ({"warn": d(0)}, "above 0"),
        ({"release": d(8)}, "release below block"),
        ({"group:us-index": d("0.5")}, "group us-index must be above release 0.5"),
    ):
        assert words in (problem_of(with_limits(LIMITS, new)) or "")

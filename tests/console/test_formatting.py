"""Numbers, ages and sides as text."""

from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import formatting as f
from engine.domain.orders import OrderType, Side, Terms
from engine.domain.positions import FLAT, Position


@pytest.mark.parametrize(
    ("value", "tick", "text"),
    [
        ("1.1", "0.00001", "1.10000"),
        ("3238.5", "0.25", "3238.50"),
        ("7180", "5", "7180"),
        ("-0.000001", "0.01", "0.00"),
        ("1E+3", "1", "1000"),
    ],
)
def test_a_price_has_its_ticks_decimals(value: str, tick: str, text: str) -> None:
    assert f.price(D(value), D(tick)) == text


def test_nothing_known_is_a_dash() -> None:
    assert f.price(None, D(1)) == f.money(None) == f.percent(None) == f.age(None) == f.size(None) == "–"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0.0s"), (449, "0.4s"), (9_999, "9.9s"), (12_000, "12s"), (119_000, "119s"),
        (180_000, "3m"), (7_300_000, "2h"), (400_000_000, "4d"), (-5, "0.0s"),
    ],
)  # fmt: skip
def test_an_age_is_one_figure_and_one_unit(ms: int, text: str) -> None:
    assert f.age(ms) == text


def test_a_countdown_never_says_zero() -> None:
    assert f.countdown(1000, 1001) == "in 1s"
    assert f.countdown(1000, 1000) == "due"


def test_profit_carries_its_sign_and_zero_has_none() -> None:
    assert [f.profit(D(x)) for x in ("120.5", "-3", "0", "-0.001")] == ["+120.50", "-3.00", "0.00", "0.00"]


def test_positions_and_sides_are_words_with_shapes() -> None:
    assert f.position(FLAT) == "flat"
    assert f.position(Position(D("-0.50"), D(1))) == "SHORT 0.5"
    assert (f.side(Side.BUY), f.side(Side.SELL)) == ("▲ BUY", "▼ SELL")


def test_terms_name_every_price() -> None:
    terms = Terms(symbol="X", side=Side.BUY, quantity=D(2), type=OrderType.STOP_LIMIT, limit=D("1.5"), stop=D(1))  # type: ignore[arg-type]
    assert f.terms(terms, D("0.25")) == "BUY 2 stop-limit 1.00 1.50"


def test_points_stand_under_one_another() -> None:
    padded = f.on_the_point(["1.09210", "7180.00", "5", "–"])
    points = {len(text) - text.index(".") for text in padded if "." in text}
    assert len(points) == 1
    assert padded[3] == "–"


@given(st.text(max_size=80))
def test_u4_text_from_outside_cannot_steer_the_terminal(text: str) -> None:
    assert all(c.isprintable() for c in f.plain(text))
    assert len(f.plain(text, 10)) <= 10

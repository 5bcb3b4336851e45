"""Where a price is drawn: candles to an eighth of a cell, an axis that does not jump."""

from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.widgets.candles import closed_cells, forming_cells, lying
from console.widgets.chart import Look, candle_mark, draw_chart
from console.widgets.scale import Scale
from console.widgets.spans import text_of, width_of
from engine.domain.ids import SessionId
from engine.domain.market import Candle
from engine.snapshot import Gap
from tests.console.factory import busy_desk, eurusd


def scale(low: str, high: str) -> Scale:
    made = Scale()
    made.low, made.high = D(low), D(high)
    return made


def candle(open: str, high: str, low: str, close: str) -> Candle:
    return Candle(0, D(open), D(high), D(low), D(close), D(1))


def glyphs(one: Candle, rows: int = 4) -> str:
    cells = closed_cells(one, scale("0", str(rows)), rows)
    return "".join(cells.get(row, (" ", ""))[0] for row in range(rows))


def test_a_body_ends_at_its_eighth() -> None:
    assert glyphs(candle("0", "1.5", "0", "1.5")) == "  ▄█"
    assert glyphs(candle("0", "3.125", "0", "3.125")) == "▁███"


def test_a_bodys_lower_end_is_drawn_in_reversed_colours() -> None:
    cells = closed_cells(candle("1.5", "4", "1.5", "4"), scale("0", "4"), 4)
    assert cells[2] == ("▄", "long~")


def test_a_wick_reaches_to_half_a_cell() -> None:
    assert glyphs(candle("0", "3.5", "0", "1")) == "╷││█"
    assert glyphs(candle("4", "4", "0.5", "3")) == "█││╵"


def test_a_small_body_keeps_its_wicks() -> None:
    assert glyphs(candle("1.4", "3", "0", "1.6")) == " │┿│"


def test_falling_candles_have_the_other_ink() -> None:
    cells = closed_cells(candle("3", "3", "1", "1"), scale("0", "4"), 4)
    assert {ink for _, ink in cells.values()} == {"short"}


def test_the_forming_candle_is_hollow() -> None:
    cells = forming_cells(candle("1", "4", "0", "3"), scale("0", "5"), 5)
    assert [cells[row] for row in sorted(cells)] == [" │ ", "┌┴┐", "│ │", "└┬┘", " │ "]


def test_a_lying_candle_shows_body_and_range() -> None:
    assert lying(candle("2", "8", "0", "6"), 9) == "──━━━━━──"


def test_the_axis_stays_while_prices_stay_and_moves_with_head_room() -> None:
    axis = Scale()
    assert axis.cover(D(100), D(110), D("0.25"))
    low, high = axis.low, axis.high
    assert low < 100
    assert high > 110
    assert not axis.cover(D(101), D("110.5"), D("0.25"))
    assert axis.cover(D(100), D(112), D("0.25"))
    assert axis.high > 112


@given(st.decimals(1, 10_000, places=2), st.decimals("0.25", 500, places=2), st.integers(4, 60))
def test_axis_prices_are_on_the_grid_and_inside(low: D, span: D, rows: int) -> None:
    axis = Scale()
    axis.cover(low, low + span, D("0.25"))
    for level in axis.steps(rows, 4, D("0.25")):
        assert level % D("0.25") == 0
        assert axis.low <= level <= axis.high


@pytest.mark.parametrize(("width", "height"), [(30, 8), (60, 12), (100, 24), (160, 40)])
@pytest.mark.parametrize("pitch", [1, 2, 4])
@pytest.mark.parametrize("back", [0, 20])
def test_a_chart_fills_its_area_exactly(width: int, height: int, pitch: int, back: int) -> None:
    for view in busy_desk().sessions:
        lines = draw_chart(view, Scale(), width, height, Look(pitch, back))
        assert len(lines) == height
        assert {width_of(line) for line in lines} == {width}


def test_levels_are_named_on_the_axis() -> None:
    text = "\n".join(text_of(line) for line in draw_chart(eurusd(), Scale(), 100, 24))
    for name in ("stop", "target", "entry", "last"):
        assert name in text


def test_unusual_candles_are_marked() -> None:
    view = eurusd()
    marks = {candle_mark(view, candle)[0] for candle in view.candles}
    assert marks == {" ", "·", "○", "≈"}
    gap = Gap(start=view.candles[-5].start, end=view.candles[-4].start, cause="link")
    holed = msgspec.structs.replace(view, gaps=(gap,))
    assert candle_mark(holed, view.candles[-4]) == ("╳", "block")


def test_a_session_without_candles_says_so() -> None:
    desk = busy_desk()
    view = desk.session(SessionId("nq-ema"))
    assert view is not None
    empty = msgspec.structs.replace(view, candles=(), forming=None)
    text = "".join(text_of(line) for line in draw_chart(empty, Scale(), 60, 10))
    assert "no candle yet" in text

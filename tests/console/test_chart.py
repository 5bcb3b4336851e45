"""Where a price is drawn: candles to an eighth of a cell, an axis that does not jump."""

from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.widgets.bars import Bar, gather
from console.widgets.candles import Shape, body_cells, closed_cells, forming_cells, lying, shaded, thin_cells
from console.widgets.chart import draw_chart
from console.widgets.marks import gaps_by_bar, mark_of
from console.widgets.scale import Scale, Tag, place_tags
from console.widgets.sheet import FOLLOWING, PITCHES, Look
from console.widgets.spans import text_of, width_of
from engine.domain.market import Candle, CandleOrigin, Timeframe
from engine.domain.orders import Side
from engine.snapshot import ChartMark, Gap, MarkKind, SessionView
from tests.console.factory import busy_desk, eurusd


def scale(low: str, high: str) -> Scale:
    made = Scale()
    made.low, made.high = D(low), D(high)
    return made


def candle(open: str, high: str, low: str, close: str) -> Candle:
    return Candle(0, D(open), D(high), D(low), D(close), D(1))


def shape(open: str, high: str, low: str, close: str, rows: int = 4) -> Shape:
    return Shape.of(candle(open, high, low, close), scale("0", str(rows)).heights(rows))


def glyphs(one: Shape, rows: int = 4) -> str:
    cells = closed_cells(one, rows)
    return "".join(cells.get(row, (" ", False))[0] for row in range(rows))


def test_a_body_ends_at_its_eighth() -> None:
    assert glyphs(shape("0", "1.5", "0", "1.5")) == "  ▄█"
    assert glyphs(shape("0", "3.125", "0", "3.125")) == "▁███"


def test_a_bodys_lower_end_is_drawn_in_reversed_colours() -> None:
    cells = closed_cells(shape("1.75", "4", "1.75", "4"), 4)
    assert cells[2] == ("▆", True)
    assert closed_cells(shape("1.5", "4", "1.5", "4"), 4)[2] == ("▀", False)


def test_a_wick_reaches_to_half_a_cell() -> None:
    assert glyphs(shape("0", "3.5", "0", "1")) == "╷││█"
    assert glyphs(shape("4", "4", "0.5", "3")) == "█││╵"


def test_a_small_body_keeps_its_wicks() -> None:
    assert glyphs(shape("1.4", "3", "0", "1.6")) == " │┿│"


def test_a_thin_candle_has_a_heavy_body_and_a_light_wick() -> None:
    cells = thin_cells(shape("0.5", "3.5", "0", "2"), 4)
    assert [cells[row][0] for row in sorted(cells)] == ["╷", "│", "┃", "╿"]


DRAWN = {
    "█": (0, 8), "│": (0, 8), "┃": (0, 8), "╽": (0, 8), "╿": (0, 8), "┿": (0, 8), "▒": (0, 8), "▀": (4, 8),
    "▔": (7, 8), "━": (4, 4), "─": (4, 4), "╷": (0, 4), "╻": (0, 4), "╵": (4, 8), "╹": (4, 8), "┷": (4, 8),
    "┯": (0, 4), **{glyph: (0, eighths) for eighths, glyph in enumerate("▁▂▃▄▅▆▇", start=1)},
}  # fmt: skip
"""Where a glyph's ink lies in its cell, in eighths from the floor."""
PRICES = st.lists(st.integers(0, 80), min_size=4, max_size=4).map(sorted)


@given(PRICES, st.booleans())
def test_a_high_and_a_low_are_drawn_within_half_a_cell(prices: list[int], thin: bool) -> None:
    low, bottom, top, high = prices
    one = Shape(high, top, bottom, low)
    cells = thin_cells(one, 11) if thin else closed_cells(one, 11)
    ink = []
    for row, (glyph, reverse) in cells.items():
        floor, (lower, upper) = (10 - row) * 8, DRAWN[glyph]
        ink.append((floor + upper, floor + 8) if reverse else (floor + lower, floor + upper))
    assert abs(max(upper for _, upper in ink) - high) <= 4
    assert abs(min(lower for lower, _ in ink) - low) <= 4


@given(PRICES, st.booleans())
def test_every_closed_candle_shows_a_body(prices: list[int], thin: bool) -> None:
    low, bottom, top, high = prices
    one = Shape(high, top, bottom, low)
    cells = thin_cells(one, 11) if thin else closed_cells(one, 11)
    assert any(glyph not in "│╷╵" for glyph, _ in cells.values())
    assert thin or set(body_cells(one, 11)) <= set(closed_cells(one, 11))


@given(PRICES)
def test_the_hollow_candles_wicks_are_drawn_within_half_a_cell(prices: list[int]) -> None:
    low, bottom, top, high = prices
    cells = forming_cells(Shape(high, top, bottom, low), 11)
    upper, lower = min(cells), max(cells)
    tops = {"╷": 4, "│": 8, "╵": 8, "┴": 8, "┼": 8}
    bottoms = {"╷": 0, "│": 0, "╵": 4, "┬": 0, "┼": 0}
    assert abs((10 - upper) * 8 + tops.get(cells[upper][1], 4) - high) <= 4
    assert abs((10 - lower) * 8 + bottoms.get(cells[lower][1], 4) - low) <= 4


def test_without_colour_a_falling_body_is_shaded() -> None:
    assert shaded(closed_cells(shape("2", "2", "0", "0"), 4)) == {2: ("▒", False), 3: ("▒", False)}
    assert shaded(thin_cells(shape("2", "2", "0", "0"), 4)) == {2: ("╏", False), 3: ("╏", False)}


def test_the_forming_candle_is_hollow() -> None:
    cells = forming_cells(shape("1.5", "4.5", "0.5", "3.5", 5), 5)
    assert [cells[row] for row in sorted(cells)] == [" ╷ ", "┌┴┐", "│ │", "└┬┘", " ╵ "]
    assert forming_cells(shape("1.5", "4.5", "0.5", "3.5", 5), 5, 5)[1] == "┌─┴─┐"


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


@given(st.lists(st.tuples(st.integers(-3, 14), st.sampled_from(["", "stop", "last", "entry"])), max_size=9))
def test_no_named_label_is_lost_while_there_is_room(wanted: list[tuple[int, str]]) -> None:
    tags = [Tag(row, f"{index}", "dim", name, index if name else 9) for index, (row, name) in enumerate(wanted)]
    placed = place_tags(tags, 12)
    assert {tag.text for tag in tags if tag.name} <= {tag.text for tag in placed.values()}
    assert set(placed) <= set(range(12))
    first = next((tag for tag in tags if tag.name and 0 <= tag.row < 12), None)
    assert first is None or any(tag.name and tag.rank < first.rank for tag in tags) or placed[first.row] is first


@pytest.mark.parametrize(("width", "height"), [(30, 8), (60, 12), (100, 24), (160, 40)])
@pytest.mark.parametrize("pitch", PITCHES)
@pytest.mark.parametrize("back", [0, 20])
@pytest.mark.parametrize("wide", ["1m", "15m"])
def test_a_chart_fills_its_area_exactly(width: int, height: int, pitch: int, back: int, wide: str) -> None:
    for view in busy_desk().sessions:
        until = view.candles[-1 - back].start if back else None
        look = Look(pitch, Timeframe.parse(wide), until, view.candles[-30].start)
        lines = draw_chart(view, Scale(), width, height, look)
        assert len(lines) == height
        assert {width_of(line) for line in lines} == {width}


def drawn(view: SessionView, width: int = 100, height: int = 24, look: Look = FOLLOWING) -> str:
    return "\n".join(text_of(line) for line in draw_chart(view, Scale(), width, height, look))


def test_of_two_labels_for_one_row_the_higher_price_stands_above() -> None:
    for price, row in ((D(2), 4), (D(0), 6)):
        tags = [Tag(5, "last", "dim", "last", 1, D(1)), Tag(5, "entry", "dim", "entry", 2, price)]
        assert place_tags(tags, 12)[row].name == "entry"


def test_levels_are_named_on_the_axis() -> None:
    for name in ("stop", "target", "entry", "last"):
        assert name in drawn(eurusd())


def test_levels_at_one_price_keep_their_names() -> None:
    view = eurusd()
    together = msgspec.structs.replace(view, stop_price=view.last_price, target_price=view.last_price)
    for name in ("stop", "target", "entry", "last"):
        assert name in drawn(together, height=12)


def test_unusual_candles_are_marked() -> None:
    view = eurusd()
    marks = {mark_of(Bar(candle, (candle,), 1), view.replaced, gap=False)[0] for candle in view.candles}
    assert marks == {" ", "·", "○", "≈"}
    inserted = msgspec.structs.replace(view.candles[-1], origin=CandleOrigin.INSERTED)
    assert mark_of(Bar(inserted, (inserted,), 1), frozenset(), gap=False)[0] == "◌"
    assert mark_of(Bar(inserted, (inserted,), 5), frozenset(), gap=False)[0] == "◑"


def test_an_open_gap_is_marked_on_the_first_candle_it_touches_and_a_filled_one_is_not() -> None:
    view = eurusd()
    bars = gather(view.candles, view.forming, view.timeframe, view.timeframe)
    opened = Gap(start=view.candles[-5].start, end=view.candles[-5].start, cause="link")
    assert gaps_by_bar(bars, (*view.gaps, opened), view.timeframe) == {view.candles[-5].start: opened}
    assert "╳" in drawn(msgspec.structs.replace(view, gaps=(opened,)))
    assert "╳" not in drawn(view)


def test_a_gap_that_nothing_has_followed_is_marked_at_the_edge() -> None:
    view = eurusd()
    assert view.forming is not None
    after = view.forming.start + view.timeframe.ms
    gone = msgspec.structs.replace(view, gaps=(Gap(start=after, end=after, cause="link"),))
    assert "╳ marks" in drawn(gone)


def test_every_fill_in_sight_is_drawn_also_on_a_candle_at_the_edge() -> None:
    view = eurusd()
    spike = msgspec.structs.replace(view.candles[-3], high=view.candles[-3].high + D("0.05"))
    fills = tuple(
        ChartMark(spike.start, kind, side, spike.close, D(1)) for kind in MarkKind for side in (Side.BUY, Side.SELL)
    )
    shown = drawn(msgspec.structs.replace(view, candles=(*view.candles[:-3], spike), forming=None, marks=fills))
    assert [shown.count(glyph) for glyph in "△▽"] == [1, 1]
    assert shown.count("▲") >= 1
    assert shown.count("▼") >= 1


def test_what_may_be_old_is_drawn_as_old() -> None:
    view = eurusd()
    fresh = {span.ink for line in draw_chart(view, Scale(), 100, 24, Look()) for span in line}
    stale = {span.ink for line in draw_chart(view, Scale(), 100, 24, Look(stale=True)) for span in line}
    assert "stale" in stale - fresh
    assert "accent" in fresh - stale


def test_without_candles_there_is_no_chart() -> None:
    assert draw_chart(msgspec.structs.replace(eurusd(), candles=(), forming=None), Scale(), 60, 10) == []

"""How a chart is looked at: the crosshair, the window, the timeframe. Without Textual."""

from decimal import Decimal as D

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from console.widgets.spans import text_of, width_of
from console.widgets.viewpoint import Viewpoint
from engine.domain.freshness import Freshness
from engine.snapshot import ChartMark, Gap, MarkKind, Phase, SessionView
from tests.console.factory import NOW, btcusd, busy_desk, eurusd

MINUTE = 60_000


def look(view: SessionView, *steps: tuple[str, int], width: int = 100, height: int = 24) -> tuple[Viewpoint, list[str]]:
    """A fresh viewpoint after some actions, and what it draws."""
    point = Viewpoint()
    point.show(view, NOW, stale=False)
    lines = point.draw(width, height, ("nothing",))
    for what, by in steps:
        point.own(what, by)
        lines = point.draw(width, height, ("nothing",))
    return point, [text_of(line) for line in lines]


def seen(point: Viewpoint) -> list[int]:
    assert point.sheet is not None
    return [bar.start for bar in point.sheet.bars]


def test_without_a_crosshair_the_forming_candle_is_told_with_its_age_and_end() -> None:
    _, lines = look(eurusd())
    for words in ("1.11963", "0.4s", "O 1.11954", "H 1.11972", "L 1.11950", "V 23", "closes in 53s"):
        assert words in lines[0]


def test_the_crosshair_begins_on_the_newest_and_walks() -> None:
    view = eurusd()
    assert view.forming is not None
    point, lines = look(view, ("cross", -1))
    assert point.cross == view.forming.start
    assert "forming" in lines[0]
    point, lines = look(view, *[("cross", -1)] * 3)
    assert point.cross == view.candles[-2].start
    for value in (view.candles[-2].open, view.candles[-2].high, view.candles[-2].low, view.candles[-2].close):
        assert f"{value}" in lines[0]
    assert lines[-1].count("13:50") == 1
    point, _ = look(view, *[("cross", -1)] * 3, ("cross", 1), ("cross", 1), ("cross", 1))
    assert point.cross == view.forming.start


def test_the_crosshair_says_what_happened_on_its_candle() -> None:
    view = eurusd()
    steps = {22: "○ backfilled", 9: "≈ replaced", 16: "▲ entry 0.6", 60: "▼ entry 0.5", 46: "△ exit 0.5"}
    for back, words in steps.items():
        _, lines = look(view, *[("cross", -1)] * (back + 1))
        assert words in lines[0]
    _, lines = look(view, *[("cross", -1)] * 17, width=130)
    assert "▲ entry BUY 0.6 @ 1.12038" in lines[0]
    opened = Gap(start=view.candles[-2].start, end=view.candles[-2].start, cause="feed link was down")
    _, lines = look(msgspec.structs.replace(view, gaps=(opened,)), *[("cross", -1)] * 3, width=130)
    assert "╳ open gap: feed link was down" in lines[0]


def test_the_window_follows_the_crosshair_and_no_further() -> None:
    point, _ = look(eurusd(), ("cross", -1))
    before = seen(point)
    steps = len(before) + 3
    point, _ = look(eurusd(), *[("cross", -1)] * steps)
    assert point.cross == seen(point)[0]
    assert point.until is not None
    point, _ = look(eurusd(), *[("cross", -1)] * steps, *[("cross", 1)] * (steps - 1))
    assert point.until is None
    assert seen(point) == before


def test_panning_stops_at_both_ends() -> None:
    view = eurusd()
    point, lines = look(view, *[("pan", 1)] * 50)
    assert seen(point)[0] == view.candles[0].start
    assert "End shows the newest" in lines[0]
    point, _ = look(view, ("edge", -1))
    assert seen(point)[0] == view.candles[0].start
    point, _ = look(view, ("edge", -1), *[("pan", -1)] * 50)
    assert point.until is None
    assert seen(point) == seen(look(view)[0])
    point, _ = look(view, ("edge", -1), ("edge", 1))
    assert point.until is None


def test_a_candle_that_closes_moves_nothing_that_somebody_looks_at() -> None:
    view = eurusd()
    assert view.forming is not None
    later = msgspec.structs.replace(view, candles=(*view.candles, view.forming), forming=None)
    point, before = look(view, *[("pan", 1)] * 2, ("cross", -1))
    point.show(later, NOW + MINUTE, stale=False)
    assert [text_of(line) for line in point.draw(100, 24, ())][1:] == before[1:]


def test_timeframes_go_round_and_say_so() -> None:
    view = eurusd()
    titles = [look(view, *[("timeframe", 1)] * count)[0].title().split(" · ")[0] for count in range(6)]
    assert titles == ["EURUSD 1m", "EURUSD 5m (5 × 1m)", "EURUSD 15m (15 × 1m)", "EURUSD 1h (60 × 1m)",
                      "EURUSD 4h (240 × 1m)", "EURUSD 1m"]  # fmt: skip
    assert look(view, ("timeframe", -1))[0].title().startswith("EURUSD 4h")


def test_an_incomplete_bar_is_drawn_and_said_as_one() -> None:
    view = eurusd()
    holed = msgspec.structs.replace(view, candles=(*view.candles[:-20], *view.candles[-18:]))
    point, lines = look(holed, ("timeframe", 1), *[("cross", -1)] * 5)
    assert point.sheet is not None
    bar = point.sheet.crossed
    assert bar is not None
    assert not bar.complete
    assert "◑ 3 of 5 candles" in lines[0]
    assert "◑" in lines[-2]


def test_the_crosshairs_price_goes_row_by_row_on_the_tick_grid() -> None:
    view = btcusd()
    point, _ = look(view, ("level", 1))
    assert point.sheet is not None
    first = point.sheet.level
    point, _ = look(view, *[("level", 1)] * 3)
    assert point.sheet is not None
    third = point.sheet.level
    assert first is not None
    assert third is not None
    assert third > first
    assert third % view.instrument.tick_size == D(0)
    point, _ = look(view, *[("level", 1)] * 3, ("uncross", 0))
    assert point.sheet is not None
    assert point.sheet.level is None


def test_the_mouse_points_at_the_nearest_candle_and_at_a_price() -> None:
    point, _ = look(eurusd())
    sheet = point.sheet
    assert sheet is not None
    bar = sheet.closed[4]
    assert point.point(sheet.place[bar.start], 6)
    assert point.cross == bar.start
    point.draw(100, 24, ())
    assert point.sheet is not None
    assert point.sheet.level == point.sheet.look.level != bar.candle.close
    assert not point.point(sheet.plot + 1, 6)
    assert not point.point(3, 0)


def test_another_session_is_shown_from_its_newest_candle_and_keeps_its_own_axis() -> None:
    point, _ = look(eurusd(), ("edge", -1), ("cross", -1))
    point.show(btcusd(), NOW, stale=False)
    point.draw(100, 24, ())
    assert (point.until, point.cross) == (None, None)
    assert point.title().startswith("BTCUSD 1m")


def test_zooming_keeps_the_crosshair_in_sight() -> None:
    point, _ = look(eurusd(), *[("cross", -1)] * 30, *[("zoom", 1)] * 9)
    assert point.pitch == 8
    assert point.cross in seen(point)
    assert look(eurusd(), *[("zoom", -1)] * 9)[0].pitch == 1


def test_old_data_is_said_to_be_old() -> None:
    old = msgspec.structs.replace(eurusd(), freshness=Freshness.STALE, last_tick=NOW - 47_000)
    point = Viewpoint()
    point.show(old, NOW, stale=True)
    first = point.draw(100, 24, ())[0]
    assert "47s stale" in text_of(first)
    assert first[0].ink == "stale"


def test_a_chart_without_candles_says_what_is_going_on() -> None:
    empty = msgspec.structs.replace(eurusd(), candles=(), forming=None)
    told = {
        Phase.LOADING_HISTORY: ("▸ loading history", "from the feed"),
        Phase.WARMING: ("▸ warming", "12 of 50 candles"),
        Phase.DEAD: ("dead", "Stand down"),
        Phase.VIEW_ONLY: ("another engine trades it",),
        Phase.TRADING: ("no candle yet", "ends in 53s"),
    }
    for phase, words in told.items():
        view = msgspec.structs.replace(empty, phase=phase, phase_detail="from the feed", warmed=12)
        shown = "\n".join(look(view, width=130)[1])
        for word in words:
            assert word in shown, phase
    narrow = look(msgspec.structs.replace(empty, phase=Phase.RECONCILING), width=60)[1]
    assert any("step 3 of 7: reconciling" in row for row in narrow)


def test_warm_up_stands_in_the_title() -> None:
    view = msgspec.structs.replace(eurusd(), phase=Phase.WARMING, warmed=31)
    assert look(view)[0].title().endswith("warming 31/50")


def test_nothing_moved_draws_nothing_anew() -> None:
    view = eurusd()
    point, _ = look(view)
    before = point.draw(100, 24, ())[1]
    point.show(msgspec.structs.replace(view, last_tick=NOW), NOW + 900, stale=False)
    assert point.draw(100, 24, ())[1] is before
    fill = ChartMark(view.candles[-2].start, MarkKind.ENTRY, view.marks[0].side, D("1.119"), D(1))
    point.show(msgspec.structs.replace(view, marks=(fill,)), NOW + 900, stale=False)
    assert point.draw(100, 24, ())[1] is not before


STEPS = st.tuples(
    st.sampled_from(["zoom", "timeframe", "pan", "edge", "cross", "level", "uncross"]), st.sampled_from([-1, 1])
)


@given(st.lists(STEPS, max_size=40), st.integers(1, 170), st.integers(2, 50), st.integers(0, 3), st.integers(0, 130))
def test_whatever_is_pressed_the_chart_fills_its_area(
    steps: list[tuple[str, int]], width: int, height: int, number: int, kept: int
) -> None:
    view = busy_desk().sessions[number]
    view = msgspec.structs.replace(view, candles=view.candles[len(view.candles) - min(kept, len(view.candles)) :])
    point = Viewpoint()
    for what, by in (("show", 0), *steps):
        point.show(view, NOW, stale=False)
        point.own(what, by)
        lines = point.draw(width, height, ("nothing",))
        assert len(lines) >= min(height, 2)
        assert all(width_of(line) == width for line in lines[1:] if width >= 24)
        assert point.sheet is None or point.cross is None or point.sheet.crossed is not None

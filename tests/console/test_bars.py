"""Larger timeframes: what the bars are made of is what they show, aligned as the engine aligns its windows."""

from decimal import Decimal as D

from hypothesis import given
from hypothesis import strategies as st

from console.widgets.bars import Gathered, gather, timeframes
from engine.domain.market import Candle, Timeframe

MINUTE = Timeframe.parse("1m")
FIVE = Timeframe.parse("5m")
START = 1_577_972_700_000


def candle(minute: int, *, volume: int = 1, low: int = 90, high: int = 110) -> Candle:
    return Candle(START + minute * 60_000, D(100), D(high), D(low), D(101), D(volume))


@st.composite
def series(draw: st.DrawFn) -> list[Candle]:
    minutes = sorted(draw(st.sets(st.integers(0, 90), max_size=60)))
    made = []
    for minute in minutes:
        low, first, last, high = sorted(draw(st.lists(st.integers(1, 500), min_size=4, max_size=4)))
        open, close = draw(st.sampled_from([(first, last), (last, first)]))
        volume = draw(st.integers(0, 99))
        made.append(Candle(START + minute * 60_000, D(open), D(high), D(low), D(close), D(volume)))
    return made


@given(series(), st.booleans(), st.sampled_from(["1m", "5m", "15m", "1h", "4h"]))
def test_bars_hold_every_candle_once_and_agree_with_them(candles: list[Candle], is_open: bool, name: str) -> None:
    wide = Timeframe.parse(name)
    closed, forming = (candles[:-1], candles[-1]) if candles and is_open else (candles, None)
    bars = gather(closed, forming, MINUTE, wide)
    assert [part for bar in bars for part in bar.parts] == closed
    assert [bar.start for bar in bars] == sorted({wide.start_of(one.start) for one in candles})
    for bar in bars:
        inside = [one for one in candles if wide.start_of(one.start) == bar.start]
        shown = bar.candle
        assert (shown.open, shown.close) == (inside[0].open, inside[-1].close)
        assert (shown.high, shown.low) == (max(one.high for one in inside), min(one.low for one in inside))
        assert shown.volume == sum(one.volume for one in inside)
        assert len(bar.parts) <= bar.wanted or bar.forming
    assert not any(bar.forming for bar in bars[:-1])
    assert forming is None or bars[-1].forming


@given(series(), st.integers(0, 60), st.sampled_from(["1m", "5m", "15m"]))
def test_bars_kept_between_two_closes_are_those_gathered_anew(candles: list[Candle], cut: int, name: str) -> None:
    wide, kept = Timeframe.parse(name), Gathered()
    for end in (cut, cut, cut + 1, len(candles)):
        closed = tuple(candles[:end])
        forming = candles[end] if end < len(candles) else None
        for now in (None, forming):
            every = gather(closed, now, MINUTE, wide)
            newest = every.pop() if every and every[-1].forming else None
            assert kept.bars(closed, now, MINUTE, wide) == (every, newest)


def test_a_bar_is_complete_when_each_of_its_windows_has_a_candle() -> None:
    whole, holed = gather([candle(m) for m in (0, 1, 2, 3, 4, 5, 7, 8, 9, 10)], candle(11), MINUTE, FIVE)[:2]
    assert whole.complete
    assert (holed.complete, len(holed.parts), holed.wanted) == (False, 4, 5)


def test_a_bar_whose_beginning_is_not_kept_is_incomplete() -> None:
    cut, whole = gather([candle(m) for m in range(3, 10)], None, MINUTE, FIVE)
    assert (cut.complete, len(cut.parts), cut.forming) == (False, 2, False)
    assert whole.complete


def test_the_newest_bar_is_forming_until_its_last_window_has_closed() -> None:
    assert [bar.forming for bar in gather([candle(m) for m in range(7)], None, MINUTE, FIVE)] == [False, True]
    assert [bar.forming for bar in gather([candle(m) for m in range(10)], None, MINUTE, FIVE)] == [False, False]
    late = gather([candle(m) for m in range(7)], candle(12), MINUTE, FIVE)
    assert [(bar.forming, bar.complete) for bar in late] == [(False, True), (False, False), (True, False)]


def test_a_forming_bar_says_when_a_candle_is_missing_in_it() -> None:
    bars = gather([candle(5), candle(7)], candle(8), MINUTE, FIVE)
    assert (bars[-1].forming, len(bars[-1].parts), bars[-1].wanted) == (True, 2, 3)


def test_longer_timeframes_divide_a_day_and_hold_the_sessions_own() -> None:
    names = {base: [str(one) for one in timeframes(Timeframe.parse(base))] for base in ("1s", "1m", "5m", "1d")}
    assert names == {
        "1s": ["1s", "5s", "15s", "1m"],
        "1m": ["1m", "5m", "15m", "1h", "4h"],
        "5m": ["5m", "15m", "1h", "4h"],
        "1d": ["1d"],
    }

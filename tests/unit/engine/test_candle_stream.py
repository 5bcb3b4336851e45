"""Closing by tick and by clock, buffering, the proof of overlap, and gaps."""

from __future__ import annotations

import pytest

from engine.domain.market import CandleOrigin, History, Timeframe
from engine.inbound import candle_stream
from engine.inbound.candle_assembler import CandleAssembler
from engine.inbound.candle_series import Added, CandleSeries, Ignored, Inserted, Replaced
from engine.inbound.candle_stream import CandleStream, Joined, NoOverlap
from engine.inbound.gaps import KEEP, Gaps
from tests.unit.engine.samples import candle, d, tick

MINUTE = Timeframe(60_000)


def a_stream() -> CandleStream:
    return CandleStream(MINUTE, keep=100, replace_window=5, close_grace_ms=1_000)


def test_a_window_closes_at_the_first_later_tick() -> None:
    stream = a_stream()
    assert stream.on_tick(tick(10_000, 100)) is None
    assert stream.on_tick(tick(59_999, 103)) is None
    placed = stream.on_tick(tick(60_000, 101))
    assert isinstance(placed, Added)
    assert (placed.candle.start, placed.candle.close, placed.candle.volume) == (0, d(103), d(2))
    forming = stream.forming()
    assert forming is not None
    assert (forming.start, forming.open) == (60_000, d(101))


def test_the_clock_closes_a_window_one_second_after_its_end() -> None:
    stream = a_stream()
    stream.on_tick(tick(10_000))
    assert (stream.close_due or 0) == 61_000
    assert stream.on_clock(60_999) is None
    assert isinstance(stream.on_clock(61_000), Added)
    assert stream.close_due is None
    assert stream.forming() is None
    assert stream.on_clock(999_000) is None, "an empty window makes no candle"


def test_a_late_tick_after_the_clock_amends_and_the_strategy_does_not_run_again() -> None:
    stream = a_stream()
    stream.on_tick(tick(10_000, 100))
    stream.on_clock(61_000)
    placed = stream.on_tick(tick(59_000, 99))
    assert isinstance(placed, Replaced)
    assert (placed.now.low, placed.now.close, placed.now.open, placed.now.revision) == (d(99), d(99), d(100), 1)
    earlier = stream.on_tick(tick(5_000, 98))
    assert isinstance(earlier, Replaced)
    assert (earlier.now.open, earlier.now.close) == (d(98), d(99))
    middle = stream.on_tick(tick(20_000, 105))
    assert isinstance(middle, Replaced)
    assert (middle.now.open, middle.now.close, middle.now.high) == (d(98), d(99), d(105))


def test_a_late_tick_of_an_empty_window_is_inserted_and_of_an_old_one_counted() -> None:
    stream = a_stream()
    for minute in (0, 2, 3, 4, 5, 6):
        stream.on_tick(tick(minute * 60_000))
    assert isinstance(stream.on_tick(tick(61_000)), Inserted)
    for minute in (7, 8, 9):
        stream.on_tick(tick(minute * 60_000))
    too_late = stream.on_tick(tick(1_000))
    assert too_late == Ignored(candle(0, origin=CandleOrigin.INSERTED), repeated=False)
    assert stream.late_ignored == 1


def test_equal_timestamps_stay_in_order() -> None:
    stream = a_stream()
    for price in (100, 101, 102):
        stream.on_tick(tick(5_000, price))
    forming = stream.forming()
    assert forming is not None
    assert (forming.open, forming.close) == (d(100), d(102))


def test_recorded_candles_are_placed_and_a_repeated_time_replaces() -> None:
    stream = a_stream()
    assert isinstance(stream.on_candle(candle(0, 100)), Added)
    assert isinstance(stream.on_candle(candle(60_000, 101)), Added)
    assert isinstance(stream.on_candle(candle(0, 102)), Replaced)
    assert stream.on_candle(candle(0, 102)) == Ignored(candle(0, 102), repeated=True)
    assert stream.replaced_count == 1


def test_the_seam_counts_the_windows_that_both_have_seen() -> None:
    stream = a_stream()
    stream.begin_buffering(60_000, "start")
    assert stream.is_buffering
    assert stream.close_due is None
    refused = stream.join(History((), None, 59_999), warmup=True)
    assert refused == NoOverlap(59_999, 60_000)
    joined = stream.join(History((candle(0), candle(60_000), candle(120_000)), None, 185_000), warmup=True)
    assert isinstance(joined, Joined)
    assert (joined.seam.overlap, joined.seam.history_candles) == (3, 3)
    assert not stream.is_buffering


def test_d4_a_buffer_that_overflowed_joins_only_when_history_covers_what_fell_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(candle_stream, "BUFFER", 3)
    stream = a_stream()
    stream.begin_buffering(0, "start")
    for at in (1_000, 2_000, 3_000, 4_000, 5_000):
        stream.on_tick(tick(at))
    stream.begin_buffering(5_000, "again")
    assert isinstance(stream.join(History((), candle(0, volume=1), 2_000), warmup=True), NoOverlap)
    assert isinstance(stream.join(History((), candle(0, volume=3), 3_000), warmup=True), Joined)
    forming = stream.forming()
    assert forming is not None
    assert forming.volume == 5
    stream.begin_buffering(60_000, "cut")
    stream.link_restored(61_000)
    stream.on_tick(tick(62_000))
    assert isinstance(stream.join(History((candle(0, volume=5),), None, 61_500), warmup=False), Joined)


def test_a_slow_clock_takes_no_old_history_for_a_new_one() -> None:
    """By the feed we subscribed later than we noted; what traded between an old history and that would be lost."""
    stream = a_stream()
    stream.begin_buffering(1_000, "start")
    old = History((candle(0),), None, 60_000)
    assert stream.join(old, warmup=True, behind=120_000) == NoOverlap(60_000, 121_000)
    stream.link_restored(1_000, named=115_000)
    assert stream.join(old, warmup=True) == NoOverlap(60_000, 115_000)
    assert stream.is_buffering
    new = History((candle(0), candle(60_000)), candle(120_000), 121_000)
    assert isinstance(stream.join(new, warmup=True, behind=120_000), Joined)


def test_a_tape_needs_no_history() -> None:
    stream = a_stream()
    stream.begin_buffering(0, "start")
    stream.go_live_without_history()
    stream.on_tick(tick(1_000))
    assert isinstance(stream.on_tick(tick(60_000)), Added)


def test_how_much_history_is_wanted() -> None:
    stream = a_stream()
    assert stream.wanted_since(50, 10**9) == 50
    stream.on_candle(candle(0))
    assert stream.wanted_since(50, 59_999) == 2
    assert stream.wanted_since(50, 600_000) == 12


def test_d3_a_cut_inside_a_window_is_a_gap_from_its_start_until_history_fills_it() -> None:
    stream = a_stream()
    stream.on_candle(candle(0))
    stream.on_tick(tick(70_000, 101))
    stream.begin_buffering(75_000, "cut")
    gap = stream.gaps.open
    assert gap is not None
    assert (gap.start, gap.cause) == (60_000, "cut")
    stream.link_restored(250_000)
    history = History((candle(0), candle(60_000, 102), candle(180_000, 103)), None, 250_000)
    joined = stream.join(history, warmup=False)
    assert isinstance(joined, Joined)
    assert [p.candle.origin for p in joined.placements if isinstance(p, Added)] == [CandleOrigin.BACKFILLED] * 2
    assert stream.gaps.open is None
    assert [(g.start, g.end, g.filled) for g in stream.gaps.all()] == [(60_000, 240_000, 2)]


# -- parts ------------------------------------------------------------------------------------------------


def test_the_assembler_holds_nothing_after_it_closed() -> None:
    assembler = CandleAssembler(MINUTE)
    assert assembler.forming() is None
    assert assembler.closed() is None
    assert assembler.close_if_due(10**9, 0) is None
    assembler.add(tick(61_000, 100))
    assert assembler.is_forming
    assert assembler.closed() == candle(60_000, 100)
    assert not assembler.is_forming


def test_d5_the_assembler_goes_on_from_what_history_saw() -> None:
    assembler = CandleAssembler(MINUTE)
    assembler.resume(candle(0, 100, high=110, low=90), as_of=30_000)
    assembler.add(tick(30_001, 105))
    assert assembler.add(tick(60_000, 1)) == candle(0, 105, open=100, high=110, low=90, volume=2)


def test_a_series_shows_a_strategy_only_what_lies_before_its_candle() -> None:
    series = CandleSeries(10)
    assert series.until(5) == ()
    for start in range(4):
        series.add_or_replace(candle(start * 60_000))
    assert [c.start for c in series.until(60_000)] == [0, 60_000]
    assert series.until(10**9) is series.as_tuple()


def test_gaps_grow_close_and_are_bounded() -> None:
    gaps = Gaps()
    gaps.begin(100, "first")
    gaps.begin(50, "second")
    assert gaps.open is not None
    assert (gaps.open.start, gaps.open.cause) == (100, "first")
    assert gaps.fill(100, 0) is None, "nothing was missing: there was no gap"
    assert gaps.all() == ()
    assert gaps.fill(500, 3) is None
    for number in range(KEEP + 5):
        gaps.begin(number * 100, "cut")
        filled = gaps.fill(number * 100 + 50, 1)
        assert filled is not None
        assert filled.closed
    assert len(gaps.all()) == KEEP
    assert gaps.all()[-1].start == (KEEP + 4) * 100

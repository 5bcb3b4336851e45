"""Ticks in any order become the candles of an independent group-by; history and feed join without loss."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.market import Candle, CandleOrigin, History, Tick, Timeframe
from engine.inbound.candle_series import Added, CandleSeries, Ignored, Inserted, Placement, Replaced
from engine.inbound.candle_stream import CandleStream, Joined, NoOverlap
from tests.unit.engine.samples import SYMBOL, candle

SECOND = Timeframe(1_000)
GRACE = 1_000
Values = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal]


def a_stream(window: int = 5) -> CandleStream:
    return CandleStream(SECOND, keep=1_000, replace_window=window, close_grace_ms=GRACE)


def values(candles: Sequence[Candle]) -> list[Values]:
    return [(c.start, c.open, c.high, c.low, c.close, c.volume) for c in candles]


def grouped(ticks: Sequence[Tick]) -> list[Candle]:
    """Candles by their definition: per window first, highest, lowest, last price, in the order of time."""
    windows: dict[int, list[Tick]] = {}
    for tick in sorted(ticks, key=lambda t: t.at):
        windows.setdefault(tick.at // 1_000 * 1_000, []).append(tick)
    return [
        Candle(
            start,
            inside[0].price,
            max(t.price for t in inside),
            min(t.price for t in inside),
            inside[-1].price,
            sum((t.size for t in inside), Decimal(0)),
        )
        for start, inside in sorted(windows.items())
    ]


prices = st.integers(1, 60).map(Decimal)
sizes = st.integers(0, 5).map(Decimal)
moments = st.integers(0, 6_999)
market = st.lists(st.builds(Tick, st.just(SYMBOL), moments, prices, sizes), max_size=40)


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Tick], list[int]]:
    """Ticks in the order in which they arrive, each at most three windows late, and clock readings between."""
    rows = st.builds(Tick, st.just(SYMBOL), st.integers(0, 34).map(lambda n: n * 200), prices, sizes)
    ticks = sorted(draw(st.lists(rows, max_size=12)), key=lambda t: t.at)
    late = draw(st.lists(st.sampled_from([0, 0, 700, 2_500, 3_000]), min_size=len(ticks), max_size=len(ticks)))
    order = sorted(range(len(ticks)), key=lambda i: (ticks[i].at + late[i], i))
    clock = draw(st.lists(st.integers(0, len(ticks)), max_size=4))
    return [ticks[i] for i in order], clock


@settings(max_examples=300)
@given(arrived=arrivals())
def test_any_arrival_order_inside_the_window_gives_the_candles_of_a_group_by(
    arrived: tuple[list[Tick], list[int]],
) -> None:
    ticks, clock = arrived
    # The first tick of all comes first: what is older than the first candle of a life is nobody's candle.
    ticks = sorted(ticks, key=lambda t: t.at)[:1] + [t for t in ticks if t is not min(ticks, key=lambda t: t.at)]
    stream, added, newest = a_stream(), [], 0
    for number, tick in enumerate(ticks):
        newest = max(newest, tick.at)
        outcome = [stream.on_tick(tick)]
        if number in clock:
            outcome.append(stream.on_clock(newest))
        added += [p.candle.start for p in outcome if isinstance(p, Added)]
        assert not any(isinstance(p, Ignored) and not p.repeated for p in outcome)
    end = stream.on_clock(10**9)
    added += [end.candle.start] if isinstance(end, Added) else []
    assert values(stream.series.as_tuple()) == values(grouped(ticks))
    assert len(added) == len(set(added)), "a strategy runs at most once for each window"
    assert added == sorted(added), "and in the order of time"
    assert stream.late_ignored == 0


@given(ticks=market)
def test_no_tick_is_lost_without_being_counted(ticks: list[Tick]) -> None:
    """However late: a tick is in a candle, or it is counted as too late."""
    stream = a_stream(window=2)
    for tick in ticks:
        stream.on_tick(tick)
    stream.on_clock(10**9)
    kept = sum((c.volume for c in stream.series.as_tuple()), Decimal(0))
    lost = sum((t.size for t in ticks), Decimal(0)) - kept
    assert lost >= 0
    assert stream.late_ignored or not lost


@st.composite
def seams(draw: st.DrawFn) -> tuple[list[Tick], int, int, int]:
    """Ticks in time, when the feed was subscribed, what history covered, and when it came."""
    ticks = sorted(draw(market), key=lambda t: t.at)
    subscribed, as_of, came = sorted(draw(st.lists(moments, min_size=3, max_size=3)))
    return ticks, subscribed, as_of, came


def history_of(ticks: Sequence[Tick], as_of: int) -> History:
    made = grouped([t for t in ticks if t.at <= as_of])
    current = SECOND.start_of(as_of)
    forming = next((c for c in made if c.start == current), None)
    return History(tuple(c for c in made if c.start < current), forming, as_of)


@settings(max_examples=300)
@given(seam=seams())
def test_history_and_feed_join_without_losing_or_doubling_a_tick(seam: tuple[list[Tick], int, int, int]) -> None:
    ticks, subscribed, as_of, came = seam
    stream = a_stream()
    stream.begin_buffering(subscribed, "start")
    for tick in ticks:
        if subscribed <= tick.at <= came:
            assert stream.on_tick(tick) is None, "nothing closes while the past is unknown"
    joined = stream.join(history_of(ticks, as_of), warmup=True)
    assert isinstance(joined, Joined)
    assert joined.seam.overlap >= 1
    placed: list[Placement] = [*joined.placements]
    for tick in ticks:
        if tick.at > came and (placement := stream.on_tick(tick)) is not None:
            placed.append(placement)
    forming = stream.forming()
    seen = [*stream.series.as_tuple(), *([forming] if forming is not None else [])]
    assert values(seen) == values(grouped(ticks))
    assert [p.candle.start for p in placed if isinstance(p, Added)] == [c.start for c in stream.series.as_tuple()]
    warm = [c.start for c in stream.series.as_tuple() if c.origin is CandleOrigin.WARMUP]
    assert warm == [c.start for c in history_of(ticks, as_of).candles]


@settings(max_examples=300)
@given(ticks=market, cuts=st.lists(moments, min_size=4, max_size=4))
def test_a_gap_is_filled_without_losing_or_doubling_a_tick(ticks: list[Tick], cuts: list[int]) -> None:
    """The link goes down, comes back, and history covers what nobody heard; each window is added once."""
    ticks = sorted(ticks, key=lambda t: t.at)
    down, up, as_of, came = sorted(cuts)
    stream, placed = a_stream(), []
    for tick in ticks:
        if tick.at < down:
            placed.append(stream.on_tick(tick))
    stream.begin_buffering(down, "cut")
    stream.link_restored(up)
    for tick in ticks:
        if up <= tick.at <= came:
            placed.append(stream.on_tick(tick))
    joined = stream.join(history_of(ticks, as_of), warmup=False)
    assert isinstance(joined, Joined)
    placed += joined.placements
    for tick in ticks:
        if tick.at > came:
            placed.append(stream.on_tick(tick))
    forming = stream.forming()
    seen = [*stream.series.as_tuple(), *([forming] if forming is not None else [])]
    assert values(seen) == values(grouped(ticks))
    added = [p.candle.start for p in placed if isinstance(p, Added)]
    assert added == [c.start for c in stream.series.as_tuple()]
    assert stream.gaps.open is None


@given(ticks=market, subscribed=moments, as_of=moments)
def test_history_that_ends_before_the_feed_begins_proves_nothing(
    ticks: list[Tick], subscribed: int, as_of: int
) -> None:
    stream = a_stream()
    stream.begin_buffering(subscribed, "start")
    outcome = stream.join(history_of(sorted(ticks, key=lambda t: t.at), as_of), warmup=True)
    assert isinstance(outcome, NoOverlap) is (as_of < subscribed)
    assert stream.is_buffering is isinstance(outcome, NoOverlap)
    if isinstance(outcome, NoOverlap):
        assert len(stream.series) == 0


@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4)), max_size=40),
    window=st.integers(1, 5),
    keep=st.integers(6, 40),
)
def test_a_series_agrees_with_a_dictionary(rows: list[tuple[int, int]], window: int, keep: int) -> None:
    """The rule of the window, told by a model that sorts all it ever accepted."""
    series, model, added = CandleSeries(keep), dict[int, Decimal](), set[int]()
    for start, price in rows:
        given_candle = candle(start * 1_000, price)
        open_ = sorted(model)[-window:]
        newest = max(model, default=-1)
        version, before = series.version, series.as_tuple()
        match series.add_or_replace(given_candle, window):
            case Added(candle=placed):
                assert start > newest
                assert start not in added
                added.add(start)
                assert placed == given_candle
                model[start] = given_candle.close
            case Replaced(was=was, now=now):
                assert start in open_
                assert (was.close, now.close) == (model[start], given_candle.close)
                assert now.revision == was.revision + 1
                model[start] = given_candle.close
            case Inserted(candle=placed):
                assert start not in model
                assert min(open_) < start < newest
                assert placed.origin is CandleOrigin.INSERTED
                model[start] = given_candle.close
            case Ignored(repeated=True):
                assert model[start] == given_candle.close
            case Ignored(repeated=False):
                assert start < min(open_)
        assert (series.version == version) is (series.as_tuple() is before)
        expected = [(s * 1_000, model[s]) for s in sorted(model)][-len(series) :]
        assert [(c.start, c.close) for c in series.as_tuple()] == expected
        assert len(series) <= keep + len(model) - len(added)

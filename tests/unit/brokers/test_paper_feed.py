"""The synthetic market and its feed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise

import pytest

from brokers.paper.market_data import SyntheticSource
from brokers.paper.options import demo_instruments
from brokers.paper.synthetic import Mood, SyntheticMarket
from engine.clock import TapeClock
from engine.domain.broker import LinkState
from engine.domain.ids import Symbol
from engine.domain.market import Candle, Tick, Timeframe
from engine.errors import QueryFailed
from engine.periodic import Tasks

START = 1_790_000_012_345
ES = Symbol("ESZ6")
MINUTE, SECOND = Timeframe(60_000), Timeframe(1_000)
INSTRUMENTS = {each.symbol: each for each in demo_instruments()}


def ticks(seed: int, count: int) -> list[Tick]:
    market = SyntheticMarket(demo_instruments(), seed, START)
    return [market.next() for _ in range(count)]


def test_the_same_seed_gives_the_same_market_and_another_seed_another() -> None:
    assert ticks(5, 500) == ticks(5, 500)
    assert [tick.price for tick in ticks(5, 500)] != [tick.price for tick in ticks(6, 500)]


def test_ticks_are_on_the_grid_in_order_and_strictly_later_for_each_symbol() -> None:
    last: dict[Symbol, int] = {}
    newest = START
    for tick in ticks(1, 20_000):
        assert INSTRUMENTS[tick.symbol].on_grid(tick.price)
        assert tick.price > 0
        assert tick.size > 0
        assert not tick.size % INSTRUMENTS[tick.symbol].size_step
        assert tick.at >= newest
        assert tick.at > last.get(tick.symbol, START)
        newest = last[tick.symbol] = tick.at


def test_the_market_is_alive_and_passes_through_all_moods() -> None:
    market = SyntheticMarket(demo_instruments(), 1, START)
    moods, rates = set(), defaultdict(list)
    while market.next_at < START + 4 * 3_600_000:
        tick = market.next()
        moods.add(market.mood)
        if tick.symbol == ES:
            rates[market.mood].append(tick.at)
    assert moods == set(Mood)
    calm = [later - earlier for earlier, later in pairwise(rates[Mood.CALM]) if later - earlier < 10_000]
    assert 150 < sum(calm) / len(calm) < 500


def test_the_indices_move_together_and_not_with_the_euro() -> None:
    closes: dict[Symbol, dict[int, float]] = {symbol: {} for symbol in INSTRUMENTS}
    for tick in ticks(3, 60_000):
        closes[tick.symbol][tick.at // 10_000] = float(tick.price)

    def moves(symbol: str) -> list[float]:
        prices = closes[Symbol(symbol)]
        both = [moment for moment in sorted(prices) if all(moment in each for each in closes.values())]
        return [prices[later] / prices[earlier] - 1 for earlier, later in pairwise(both)]

    def correlation(left: list[float], right: list[float]) -> float:
        mean_l, mean_r = sum(left) / len(left), sum(right) / len(right)
        cov = sum((a - mean_l) * (b - mean_r) for a, b in zip(left, right, strict=True))
        var = sum((a - mean_l) ** 2 for a in left) * sum((b - mean_r) ** 2 for b in right)
        return float(cov / var**0.5)

    assert correlation(moves("ESZ6"), moves("NQZ6")) > 0.5
    assert correlation(moves("ESZ6"), moves("6EZ6")) < 0.3


def test_it_goes_on_from_a_given_price() -> None:
    market = SyntheticMarket(demo_instruments(), 1, START, {ES: Decimal("5000.25")})
    first = next(tick for tick in iter(market.next, None) if tick.symbol == ES)
    assert abs(first.price - Decimal("5000.25")) < 5


class Feed:
    """A source running on a tape; what the exchange and the sinks saw, in one list."""

    def __init__(self, past_minutes: int = 240) -> None:
        self.clock = TapeClock(START)
        self.seen: list[tuple[str, Tick]] = []
        self.links: list[LinkState] = []
        market = SyntheticMarket(demo_instruments(), 9, START)
        self.source = SyntheticSource(
            market,
            demo_instruments(),
            self.clock,
            lambda tick: self.seen.append(("exchange", tick)),
            past_minutes=past_minutes,
        )
        self.source.subscribe(ES, lambda tick: self.seen.append(("sink", tick)))
        self.tasks = Tasks("test", lambda name, error: None)

    async def start(self) -> None:
        starting = self.tasks.spawn(self.source.start(lambda state, reason: self.links.append(state)), "start")
        await starting
        self.running = self.tasks.spawn(self.source.run(), "run")

    async def wait(self, seconds: float) -> None:
        await self.clock.advance(self.clock.now() + round(seconds * 1000))
        await self.clock.settle()

    def of(self, who: str) -> list[Tick]:
        return [tick for name, tick in self.seen if name == who and tick.symbol == ES]


def candles(ticks: list[Tick], timeframe: Timeframe) -> dict[int, Candle]:
    """An independent computation."""
    found: dict[int, list[Tick]] = defaultdict(list)
    for tick in ticks:
        found[tick.at - tick.at % timeframe.ms].append(tick)
    return {
        start: Candle(
            start,
            inside[0].price,
            max(tick.price for tick in inside),
            min(tick.price for tick in inside),
            inside[-1].price,
            sum((tick.size for tick in inside), Decimal(0)),
        )
        for start, inside in found.items()
    }


async def test_the_exchange_sees_each_tick_before_the_sinks_and_in_time() -> None:
    feed = Feed()
    await feed.start()
    await feed.wait(30)
    mine = [(who, tick) for who, tick in feed.seen if tick.symbol == ES]
    assert len(mine) > 60
    for (first, one), (second, two) in zip(mine[::2], mine[1::2], strict=True):
        assert (first, second) == ("exchange", "sink")
        assert one is two
    assert feed.of("sink")[-1].at <= feed.clock.now()


@pytest.mark.parametrize("timeframe", [SECOND, MINUTE, Timeframe(300_000)])
async def test_history_is_exactly_what_ticked_up_to_its_as_of(timeframe: Timeframe) -> None:
    feed = Feed()
    await feed.start()
    await feed.wait(700)
    history = await feed.source.history(ES, timeframe, 1000, feed.clock.now())
    assert history.as_of == feed.clock.now()
    expected = candles([tick for tick in feed.of("sink") if tick.at <= history.as_of], timeframe)
    whole = {start: candle for start, candle in expected.items() if start > START}
    got = {candle.start: candle for candle in (*history.candles, history.forming) if candle}
    assert {start: got.get(start) for start in whole} == whole
    assert len(whole) >= 2
    assert all(candle.start + timeframe.ms <= history.as_of + 1 for candle in history.candles)
    starts = [candle.start for candle in history.candles]
    assert starts == sorted(set(starts))


async def test_the_past_is_there_at_once_and_joins_the_present() -> None:
    feed = Feed(past_minutes=600)
    await feed.start()
    history = await feed.source.history(ES, MINUTE, 500, feed.clock.now())
    assert len(history.candles) == 500
    assert all(later.start - earlier.start == 60_000 for earlier, later in pairwise(history.candles))
    last = history.forming.close if history.forming else history.candles[-1].close
    assert last == Decimal("6850.00")
    assert all(INSTRUMENTS[ES].on_grid(candle.high) for candle in history.candles)
    assert all(
        candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high
        for candle in history.candles
    )
    hours = await feed.source.history(ES, Timeframe(3_600_000), 100, feed.clock.now())
    minutes = await feed.source.history(ES, MINUTE, 10_000, feed.clock.now())
    assert 8 <= len(hours.candles) <= 10
    assert hours.candles[0].start >= minutes.candles[0].start, "a part of a window is not shown as a whole"
    first = [each for each in minutes.candles if 0 <= each.start - hours.candles[0].start < 3_600_000]
    assert hours.candles[0].volume == sum(each.volume for each in first)


async def test_history_does_not_claim_ticks_that_were_not_delivered_yet() -> None:
    feed = Feed()
    await feed.source.start(lambda state, reason: None)
    await feed.wait(30)  # nobody runs the source: its ticks are due, and late
    history = await feed.source.history(ES, MINUTE, 5, feed.clock.now())
    assert START <= history.as_of < START + 5_000


async def test_a_window_is_closed_with_its_last_millisecond() -> None:
    feed = Feed()
    await feed.start()
    end = (START // 60_000 + 3) * 60_000
    await feed.wait((end - 1 - START) / 1000)
    history = await feed.source.history(ES, MINUTE, 1, feed.clock.now())
    assert history.as_of == end - 1
    assert [candle.start for candle in history.candles] == [end - 60_000]
    assert history.forming is None


async def test_a_cut_hides_ticks_from_sinks_only_and_history_has_what_was_missed() -> None:
    feed = Feed()
    await feed.start()
    await feed.wait(60)
    feed.source.disconnect(180)
    with pytest.raises(QueryFailed):
        await feed.source.history(ES, MINUTE, 5, feed.clock.now())
    cut_at = feed.clock.now()
    await feed.wait(179)
    assert feed.of("sink")[-1].at <= cut_at
    assert feed.of("exchange")[-1].at > cut_at + 170_000
    await feed.wait(120)
    assert feed.links == [LinkState.UP, LinkState.RECONNECTING, LinkState.UP]
    assert feed.of("sink")[-1].at > cut_at + 280_000
    history = await feed.source.history(ES, MINUTE, 4, feed.clock.now())
    expected = candles(feed.of("exchange"), MINUTE)
    assert [expected[candle.start] for candle in history.candles] == list(history.candles)


async def test_delayed_history_says_how_old_it_is() -> None:
    feed = Feed()
    await feed.start()
    await feed.wait(10)
    asked = feed.clock.now()
    feed.source.delay_history(90)
    call = feed.tasks.spawn(feed.source.history(ES, MINUTE, 5, asked), "history")
    await feed.wait(89)
    assert not call.done()
    await feed.wait(2)
    assert (await call).as_of == asked


async def test_a_late_tick_changes_the_last_closed_candle_and_the_exchange_does_not_see_it() -> None:
    feed = Feed()
    await feed.start()
    await feed.wait(150)
    before = (await feed.source.history(ES, MINUTE, 1, feed.clock.now())).candles[0]
    feed.seen.clear()
    assert "changed" in feed.source.replace_candle(ES, MINUTE)
    ((who, late),) = feed.seen
    after = (await feed.source.history(ES, MINUTE, 1, feed.clock.now())).candles[0]
    assert who == "sink"
    assert before.start <= late.at < before.start + 60_000
    assert after.high == before.high + Decimal("0.50") == late.price
    assert (after.open, after.low, after.close) == (before.open, before.low, before.close)
    assert after.volume == before.volume + late.size


async def test_after_stop_no_sink_is_called_and_run_ends() -> None:
    feed = Feed()
    await feed.start()
    await feed.wait(5)
    await feed.source.stop()
    await asyncio.wait_for(feed.running, 60)
    count = len(feed.seen)
    await feed.wait(5)
    assert len(feed.seen) == count


async def test_an_unknown_symbol_is_refused() -> None:
    feed = Feed()
    with pytest.raises(KeyError):
        feed.source.subscribe(Symbol("NOPE"), lambda tick: None)

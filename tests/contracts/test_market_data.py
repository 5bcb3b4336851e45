"""What every MarketDataSource owes the engine."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from brokers.paper.exchange import PaperExchange
from brokers.paper.listing import demo_listing
from brokers.paper.market_data import SyntheticSource
from brokers.paper.options import demo_instruments
from brokers.paper.remote import RemoteSource
from brokers.paper.synthetic import SyntheticMarket
from brokers.replay.source import ReplaySource
from brokers.replay.tape import open_tape
from engine.clock import TapeClock
from engine.domain.broker import LinkState
from engine.domain.ids import Symbol
from engine.domain.market import Candle, Tick, Timeframe
from engine.errors import QueryFailed
from engine.periodic import Tasks
from engine.ports import MarketDataSource
from tests.unit.brokers.remote_desk import Place, barrier

START = 1_790_000_040_000
SYMBOL = Symbol("ESZ6")
MINUTE = Timeframe(60_000)


class Feed(ABC):
    """A feed on a tape, with an exchange beside it."""

    source: MarketDataSource

    def __init__(self) -> None:
        self.clock = TapeClock(START)
        self.seen: list[tuple[str, Tick]] = []
        self.links: list[LinkState] = []
        self.tasks = Tasks("test", lambda name, error: None)
        self.running: asyncio.Task[None] | None = None

    def exchange(self, tick: Tick) -> None:
        self.seen.append(("exchange", tick))

    def sink(self, tick: Tick) -> None:
        self.seen.append(("sink", tick))

    async def start(self) -> None:
        self.source.subscribe(SYMBOL, self.sink)
        await self.source.start(lambda state, reason: self.links.append(state))

    @abstractmethod
    async def play(self, seconds: float) -> None:
        """Let the market trade for that long."""

    def cut(self, seconds: float) -> None:
        """Cut the feed."""
        source = self.source
        if isinstance(source, RemoteSource):
            source.line.disconnect(seconds)
        else:
            assert isinstance(source, SyntheticSource | ReplaySource)
            source.disconnect(seconds)

    async def close(self) -> None:
        """Leave nothing behind."""
        await self.tasks.close()

    def ticks(self, who: str = "sink") -> list[Tick]:
        return [tick for name, tick in self.seen if name == who and tick.symbol == SYMBOL]


class Synthetic(Feed):
    def __init__(self, _: Path) -> None:
        super().__init__()
        market = SyntheticMarket(demo_instruments(), 4, START)
        self.source = SyntheticSource(market, demo_instruments(), self.clock, self.exchange, past_minutes=60)

    async def play(self, seconds: float) -> None:
        if self.running is None:
            self.running = self.tasks.spawn(self.source.run(), "run")
        await self.clock.advance(self.clock.now() + round(seconds * 1000))
        await self.clock.settle()


class Replay(Feed):
    """The tape moves the clock by itself, so playing waits for the clock to get there."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        path = folder / "tape.csv"
        prices = [100 + (index * 7) % 13 for index in range(4_000)]
        rows = [f"{START + index * 333},{price}" for index, price in enumerate(prices)]
        path.write_text("\n".join(["timestamp,price", *rows]))
        self.source = ReplaySource(open_tape(path, SYMBOL), self.clock, self.exchange)

    async def play(self, seconds: float) -> None:
        if self.running is None:
            self.running = self.tasks.spawn(self.source.run(), "run")
        await self.clock.sleep(seconds)


class Remote(Feed):
    """The synthetic feed behind the socket of an exchange process's server."""

    def __init__(self, _: Path) -> None:
        super().__init__()
        listed = demo_instruments()
        self.market = SyntheticMarket(listed, 4, START)
        synthetic = SyntheticSource(self.market, listed, self.clock, self.exchange, past_minutes=60)
        listing = demo_listing()
        self.place = Place(listing, self.clock, synthetic, PaperExchange(listed, listing.accounts))
        self.source = self.there = RemoteSource(listed, self.place.path, self.clock, Random(5))

    async def start(self) -> None:
        await self.place.open(market=True)
        await super().start()

    async def play(self, seconds: float) -> None:
        if self.running is None:
            self.running = self.tasks.spawn(self.source.run(), "run")
        end = self.clock.now() + round(seconds * 1000)
        while self.clock.now() < end:
            # To the very moment of the next tick, so that it is read in that moment.
            await self.clock.advance(min(end, max(self.market.next_at, self.clock.now() + 1)))
            await barrier(self.clock, self.there.line)

    async def close(self) -> None:
        await super().close()
        await self.place.close()


@pytest.fixture(params=[Synthetic, Replay, Remote])
async def feed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Feed]:
    made: Feed = request.param(tmp_path)
    yield made
    await made.close()


def computed(ticks: list[Tick]) -> dict[int, Candle]:
    """Minute candles by another road: one list of prices per window."""
    windows: dict[int, list[Tick]] = {}
    for tick in ticks:
        windows.setdefault(tick.at // 60_000 * 60_000, []).append(tick)
    found = {}
    for start, inside in windows.items():
        prices = [tick.price for tick in inside]
        volume = sum((tick.size for tick in inside), Decimal(0))
        found[start] = Candle(start, prices[0], max(prices), min(prices), prices[-1], volume)
    return found


async def test_start_says_that_the_link_is_up_and_delivers_nothing_by_itself(feed: Feed) -> None:
    await feed.start()
    assert feed.links == [LinkState.UP]
    assert not feed.seen
    await feed.source.stop()


async def test_an_unknown_symbol_cannot_be_subscribed(feed: Feed) -> None:
    with pytest.raises(KeyError):
        feed.source.subscribe(Symbol("NOPE"), feed.sink)
    await feed.start()
    with pytest.raises(QueryFailed):
        await feed.source.history(Symbol("NOPE"), MINUTE, 1, START)
    await feed.source.stop()


async def test_ticks_come_in_order_not_before_their_time_and_after_the_exchange(feed: Feed) -> None:
    late: list[int] = []
    feed.source.subscribe(SYMBOL, lambda tick: late.append(feed.clock.now() - tick.at))
    await feed.start()
    await feed.play(60)
    ticks = feed.ticks()
    assert len(ticks) > 100
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)
    assert set(late) == {0}
    own = [(who, tick) for who, tick in feed.seen if tick.symbol == SYMBOL]
    assert [who for who, _ in own] == ["exchange", "sink"] * len(ticks)
    await feed.source.stop()


async def test_history_accounts_for_every_tick_up_to_its_as_of(feed: Feed) -> None:
    await feed.start()
    await feed.play(200)
    history = await feed.source.history(SYMBOL, MINUTE, 3, feed.clock.now())
    expected = computed([tick for tick in feed.ticks("exchange") if tick.at <= history.as_of])
    assert feed.ticks()[-1].at <= history.as_of <= feed.clock.now()
    assert [expected[candle.start] for candle in history.candles] == list(history.candles)
    assert len(history.candles) == 3
    assert history.forming is not None
    assert history.forming == expected[history.forming.start]
    assert history.forming.start == history.candles[-1].start + 60_000
    await feed.source.stop()


async def test_history_ends_before_until(feed: Feed) -> None:
    await feed.start()
    await feed.play(250)
    until = START // 60_000 * 60_000 + 120_000
    history = await feed.source.history(SYMBOL, MINUTE, 1, until)
    assert [candle.start for candle in history.candles] == [until - 60_000]
    await feed.source.stop()


async def test_after_a_cut_history_holds_what_the_sinks_missed(feed: Feed) -> None:
    await feed.start()
    await feed.play(30)
    feed.cut(130)
    with pytest.raises(QueryFailed):
        await feed.source.history(SYMBOL, MINUTE, 1, feed.clock.now())
    before = len(feed.ticks())
    await feed.play(120)
    assert len(feed.ticks()) == before
    await feed.play(60)
    assert len(feed.ticks()) > before
    assert feed.links == [LinkState.UP, LinkState.RECONNECTING, LinkState.UP]
    history = await feed.source.history(SYMBOL, MINUTE, 2, feed.clock.now())
    expected = computed(feed.ticks("exchange"))
    assert [expected[candle.start] for candle in history.candles] == list(history.candles)
    await feed.source.stop()


async def test_stop_ends_the_run_and_silences_the_sinks(feed: Feed) -> None:
    await feed.start()
    await feed.play(10)
    await feed.source.stop()
    assert feed.running is not None
    await asyncio.wait_for(feed.running, 60)
    count = len(feed.ticks())
    await feed.clock.advance(feed.clock.now() + 10_000)
    assert len(feed.ticks()) == count

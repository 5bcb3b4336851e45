"""The synthetic market as the engine's MarketDataSource.

SyntheticSource(market, instruments, clock, before, past_minutes=4320). `before` is called with each tick before any
sink (the exchange), also while the feed is cut: the market goes on whether or not somebody listens.

History is read from the record of what has traded, so that after a cut it holds what the feed missed. `as_of` is the
last millisecond before the next tick, at most now: every tick up to it is in the answer and none after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from brokers.common.feed_line import FeedLine
from brokers.paper.record import MarketRecord
from brokers.paper.synthetic import SyntheticMarket
from engine.domain.broker import LinkState
from engine.domain.ids import Millis, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import History, Tick, Timeframe
from engine.errors import QueryFailed
from engine.ports import Clock

BATCH = 200
TickSink = Callable[[Tick], None]


class SyntheticSource(FeedLine):
    """A feed made up on the spot; its faults are those of brokers.paper.faults.FeedFaults."""

    name = "synthetic"

    def __init__(
        self,
        market: SyntheticMarket,
        instruments: Iterable[Instrument],
        clock: Clock,
        before: TickSink,
        *,
        past_minutes: int = 4_320,
    ) -> None:
        self._market = market
        super().__init__(clock)
        self._clock = clock
        self._before = before
        self._past_minutes = past_minutes
        self._instruments = {instrument.symbol: instrument for instrument in instruments}
        self._records = {symbol: MarketRecord(each) for symbol, each in self._instruments.items()}
        self._sinks: dict[Symbol, list[TickSink]] = {symbol: [] for symbol in self._instruments}
        self._last: dict[Symbol, Tick] = {}
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._has_past = False

    # ------------------------------------------------------------------------------------------ the port

    async def start(self, on_link: Callable[[LinkState, str], None]) -> None:
        """Make up the past (once) and say that the link is up."""
        self._on_link = on_link
        self._stopping.clear()
        if not self._has_past:
            self._has_past = True
            for symbol, record in self._records.items():
                record.load(*self._market.past(symbol, self._past_minutes))
                await self._clock.sleep(0)
        self._change(LinkState.UP, "the synthetic market is open")

    async def stop(self) -> None:
        """End `run`; no sink is called afterwards."""
        self._stopping.set()
        self._wake.set()
        self._hang_up()

    def subscribe(self, symbol: Symbol, sink: TickSink) -> None:
        """Call `sink` for each tick of `symbol`. Raises KeyError if unknown."""
        self._sinks[symbol].append(sink)

    async def history(self, symbol: Symbol, timeframe: Timeframe, count: int, until: Millis) -> History:
        """The last closed candles and the forming one, as the record stands when asked. Raises QueryFailed."""
        if symbol not in self._records:
            raise QueryFailed(f"the synthetic market has no {symbol}")
        self._check_link()
        now = self._clock.now()
        as_of = min(now, self._market.next_at - 1)
        # The first window of which more may come; the one before it is complete even if the clock stands in it.
        current = timeframe.start_of(as_of + 1)
        newest = self._records[symbol].candles(timeframe, 1, as_of + 1)
        forming = newest[0] if newest and newest[0].start == current else None
        candles = self._records[symbol].candles(timeframe, count, min(until, current))
        answer = History(tuple(candles), forming, as_of)
        await self._wait_out_delay(now)
        return answer

    async def run(self) -> None:
        """Deliver ticks as their time comes until stopped."""
        while not self._stopping.is_set():
            behind = 0
            while self._market.next_at <= self._clock.now() and behind < BATCH:
                self._deliver(self._market.next())
                behind += 1
                if self._stopping.is_set():
                    return
            if behind == BATCH:
                await self._clock.sleep(0)
            else:
                await self._until(self._market.next_at)

    async def _until(self, at: Millis) -> None:
        """Wait for that moment or for the stop."""
        self._wake.clear()
        timer = self._clock.call_at(at, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _deliver(self, tick: Tick) -> None:
        instrument = self._instruments[tick.symbol]
        self._records[tick.symbol].add(
            tick.at, int(tick.price / instrument.tick_size), int(tick.size / instrument.size_step)
        )
        self._last[tick.symbol] = tick
        self._before(tick)
        if self._state is LinkState.UP:
            for sink in self._sinks[tick.symbol]:
                sink(tick)

    # ------------------------------------------------------------------------------------------ its faults

    def replace_candle(self, symbol: Symbol | None, timeframe: Timeframe) -> str:
        """Deliver a late trade from the middle of the last closed window, two ticks above its high.

        Ticks cannot replace a candle; a late one changes it, which is what a correction looks like on a tick feed. The
        exchange does not see it. Raises ValueError when there is no closed candle with trades, or the feed is down.
        """
        chosen = symbol or next((each for each, sinks in self._sinks.items() if sinks), None)
        if chosen is None or chosen not in self._records:
            raise ValueError("nobody listens to a symbol whose candle could change")
        if self._state is not LinkState.UP:
            raise ValueError("the feed is not connected")
        instrument, record = self._instruments[chosen], self._records[chosen]
        current = timeframe.start_of(self._clock.now())
        closed = record.candles(timeframe, 1, current)
        if not closed or closed[0].start != current - timeframe.ms:
            raise ValueError(f"the last {timeframe} window of {chosen} has no trades")
        price = closed[0].high + 2 * instrument.tick_size
        late = Tick(chosen, record.middle(closed[0].start, current), price, instrument.size_step)
        record.amend(late.at, late.price, late.size)
        for sink in self._sinks[chosen]:
            sink(late)
        return f"a late trade at {price} changed the {timeframe} candle of {chosen} that had closed"

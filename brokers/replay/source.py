"""A recording as the engine's MarketDataSource; it drives the desk's clock.

ReplaySource(tape, clock, before, on_end). `before` is called with each tick before any sink (the exchange); `on_end`
once, when the last row has been played. From `start` to `run` the clock's timers fire at once; from the end to `stop`
in real time.

Ticks are played one by one, each after `clock.advance`, in the file's order. A recorded candle of window T with step S
is played as four ticks (open, then low and high, then close; a falling candle has its high first) spread over the
window, and is itself delivered to candle sinks once the tape reaches T + S. A candle recorded again is delivered again
and moves nothing at the exchange. The last recorded candle counts as closed.

History is what has been played: empty before the first row. `as_of` is the last millisecond before the next row, at
most now; rows of the same millisecond are left out of it until the last of them is played. A recording of a single
candle does not say how long it is; a minute is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from brokers.common.feed_line import FeedLine
from brokers.replay.columns import TapeKind
from brokers.replay.played import SECOND_MS, Played
from brokers.replay.tape import Tape
from engine.domain.broker import LinkState
from engine.domain.ids import Millis, Symbol
from engine.domain.market import Candle, History, Tick, Timeframe
from engine.errors import ConfigurationError, QueryFailed
from engine.periodic import Tasks
from engine.ports import TapeDrive

FALLBACK_STEP_MS = 60_000
TickSink = Callable[[Tick], None]
CandleSink = Callable[[Candle], None]


class _Subscription:
    """A candle sink, its timeframe, and the newest window it was given."""

    def __init__(self, timeframe: Timeframe, sink: CandleSink) -> None:
        self.timeframe = timeframe
        self.sink = sink
        self.newest: Millis = -1


class ReplaySource(FeedLine):
    """A feed of recorded ticks or candles of one symbol; its faults are those of a paper feed."""

    name = "replay"

    def __init__(
        self,
        tape: Tape,
        clock: TapeDrive,
        before: TickSink,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.tape = tape
        self.ended = asyncio.Event()
        self.played_rows = 0
        super().__init__(clock)
        self._clock = clock
        self._before = before
        self._on_end = on_end
        self._step_ms = FALLBACK_STEP_MS if tape.step is None else tape.step.ms
        self.step = Timeframe(self._step_ms) if tape.kind is TapeKind.CANDLES else None
        self._played = Played(SECOND_MS if tape.kind is TapeKind.TICKS else self._step_ms)
        # Ticks of the newest millisecond: in history only once the next row is known to be later.
        self._fresh: list[Tick] = []
        self._next_at: Millis = tape.first
        self._sinks: list[TickSink] = []
        self._candle_sinks: list[_Subscription] = []
        self._running = asyncio.Event()
        self._stopped = asyncio.Event()
        self._tasks = Tasks("replay", lambda name, error: None)
        self._idle: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------ the port

    async def start(self, on_link: Callable[[LinkState, str], None]) -> None:
        """Let the clock's timers fire and say that the link is up; a second start only says so."""
        self._on_link = on_link
        if self._idle is None:
            self._idle = self._tasks.spawn(self._clock.idle(self._running, paced=False), "before the tape")
        self._change(LinkState.UP, f"the tape {self.tape.path.name} is in")

    async def stop(self) -> None:
        """End `run`; no sink is called afterwards."""
        self._hang_up()
        self._stopped.set()
        self._running.set()
        await self._tasks.close()

    def subscribe(self, symbol: Symbol, sink: TickSink) -> None:
        """Call `sink` for each tick. Raises KeyError if the tape is of another symbol."""
        self._check_symbol(symbol)
        self._sinks.append(sink)

    def subscribe_candles(self, symbol: Symbol, timeframe: Timeframe, sink: CandleSink) -> None:
        """Call `sink` for each recorded candle as it closes, and again when it was recorded again.

        Longer windows are put together from recorded ones. Raises KeyError if the tape is of another symbol,
        ConfigurationError when it holds no candles from which this timeframe could be made.
        """
        self._check_symbol(symbol)
        if self.tape.kind is not TapeKind.CANDLES:
            raise ConfigurationError(f"{self.tape.path} holds ticks, not candles")
        if timeframe.ms % self._step_ms:
            raise ConfigurationError(
                f"{self.tape.path} holds candles of {Timeframe(self._step_ms)}, which cannot make candles of "
                f"{timeframe}; choose a multiple"
            )
        self._candle_sinks.append(_Subscription(timeframe, sink))

    def _check_symbol(self, symbol: Symbol) -> None:
        if symbol != self.tape.symbol:
            raise KeyError(symbol)

    async def history(self, symbol: Symbol, timeframe: Timeframe, count: int, until: Millis) -> History:
        """What has been played: the last closed candles and the forming one. Raises QueryFailed."""
        if symbol != self.tape.symbol:
            raise QueryFailed(f"the tape is of {self.tape.symbol}, not of {symbol}")
        self._check_link()
        if self.tape.kind is TapeKind.CANDLES and timeframe.ms % self._step_ms:
            raise QueryFailed(f"candles of {Timeframe(self._step_ms)} cannot make candles of {timeframe}")
        now = self._clock.now()
        self._settle_complete()
        as_of = now if self.ended.is_set() else min(now, self._next_at - 1)
        # The first window of which more may come; the one before it is complete even if the clock stands in it.
        current = timeframe.start_of(as_of + 1)
        newest = self._played.candles(timeframe, 1, as_of + 1)
        forming = newest[0] if newest and newest[0].start == current else None
        answer = History(tuple(self._played.candles(timeframe, count, min(until, current))), forming, as_of)
        await self._wait_out_delay(now)
        return answer

    async def run(self) -> None:
        """Play the tape to its end, then let time pass until stopped. Raises ConfigurationError if the file changed."""
        self._running.set()
        if self._idle is not None:
            await asyncio.wait({self._idle})
        if self.tape.kind is TapeKind.TICKS:
            await self._play_ticks(self.tape.ticks())
        else:
            await self._play_candles(self.tape.candles())
        if self._stopped.is_set():
            return
        self.ended.set()
        self._on_end()
        await self._clock.idle(self._stopped, paced=True)

    # --------------------------------------------------------------------------------------------- ticks

    async def _play_ticks(self, ticks: Iterator[Tick]) -> None:
        tick = next(ticks, None)
        while tick is not None and not self._stopped.is_set():
            await self._clock.advance(tick.at)
            if self._stopped.is_set():
                return
            following = next(ticks, None)
            self._next_at = tick.at + 1 if following is None else following.at
            self._keep(tick)
            self._deliver(tick)
            self.played_rows += 1
            tick = following

    def _keep(self, tick: Tick) -> None:
        if self._fresh and self._fresh[-1].at < tick.at:
            self._settle_fresh()
        self._fresh.append(tick)

    def _settle_complete(self) -> None:
        """Take the newest ticks into history unless more of the same millisecond follow."""
        if self._fresh and self._next_at > self._fresh[-1].at:
            self._settle_fresh()

    def _settle_fresh(self) -> None:
        for tick in self._fresh:
            self._played.add_tick(tick)
        self._fresh.clear()

    def _deliver(self, tick: Tick) -> None:
        self._before(tick)
        if self._state is LinkState.UP:
            for sink in self._sinks:
                sink(tick)

    # ------------------------------------------------------------------------------------------- candles

    async def _play_candles(self, candles: Iterator[Candle]) -> None:
        newest: Millis = -1
        for candle in candles:
            if candle.start > newest:
                newest = candle.start
                self._next_at = newest
                self._close_older(newest)
                for tick in self._as_ticks(candle):
                    await self._clock.advance(tick.at)
                    if self._stopped.is_set():
                        return
                    self._deliver(tick)
                await self._clock.advance(newest + self._step_ms)
            else:
                # Recorded again: what a feed would send now, after the newest candle closed.
                await self._clock.advance(newest + self._step_ms)
            if self._stopped.is_set():
                return
            self._next_at = newest + self._step_ms
            self._played.put(candle)
            self.played_rows += 1
            self._deliver_candle(candle.start)

    def _as_ticks(self, candle: Candle) -> Iterator[Tick]:
        """Four ticks that draw the candle, a quarter of its volume each."""
        falling = candle.close < candle.open
        extremes = (candle.high, candle.low) if falling else (candle.low, candle.high)
        quarter = candle.volume / 4
        last = self._step_ms - 1
        for part, price in enumerate((candle.open, *extremes, candle.close)):
            yield Tick(self.tape.symbol, candle.start + last * part // 3, price, quarter)

    def _deliver_candle(self, start: Millis) -> None:
        """Tell each sink whose window is complete, or had been told already."""
        if self._state is not LinkState.UP:
            return
        for to in self._candle_sinks:
            window = to.timeframe.start_of(start)
            is_last_part = start + self._step_ms == window + to.timeframe.ms
            if is_last_part or window <= to.newest:
                self._tell(to, window)

    def _close_older(self, start: Millis) -> None:
        """A later window opens: give out a window whose last part was never recorded."""
        if self._state is not LinkState.UP:
            return
        for to in self._candle_sinks:
            previous = self._played.candles(to.timeframe, 1, to.timeframe.start_of(start))
            if previous and previous[0].start > to.newest:
                self._tell(to, previous[0].start)

    def _tell(self, to: _Subscription, window: Millis) -> None:
        candle = self._played.window(to.timeframe, window)
        if candle is not None:
            to.newest = max(to.newest, window)
            to.sink(candle)

    # ------------------------------------------------------------------------------------------ its faults

    def replace_candle(self, symbol: Symbol | None, timeframe: Timeframe) -> str:
        """Change the last closed candle's high by one price step: candles are sent again, ticks get a late one.

        Raises ValueError when there is no closed candle yet or the feed is down.
        """
        if symbol not in (None, self.tape.symbol):
            raise ValueError(f"the tape is of {self.tape.symbol}")
        if self._state is not LinkState.UP:
            raise ValueError("the feed is not connected")
        candles = self.tape.kind is TapeKind.CANDLES
        length = Timeframe(self._step_ms) if candles else timeframe
        self._settle_complete()
        closed = self._played.candles(length, 1, length.start_of(self._clock.now()))
        if not closed:
            raise ValueError("no candle has closed yet")
        old = closed[0]
        high = old.high + self.tape.smallest_price_step
        if candles:
            self._played.put(Candle(old.start, old.open, high, old.low, old.close, old.volume))
            self._deliver_candle(old.start)
        else:
            late = Tick(self.tape.symbol, old.start + length.ms // 2, high, old.volume)
            for sink in self._sinks:
                sink(late)
        return f"the {length} candle that had closed got a new high of {high}"

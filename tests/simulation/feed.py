"""The feed of one life: the market as a wire brings it, with cuts, silence, late trades and slow or failing history."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from functools import partial

from engine.domain.broker import LinkState
from engine.domain.ids import Millis, Symbol
from engine.domain.market import History, Tick, Timeframe
from engine.errors import QueryFailed
from engine.ports import Clock
from tests.simulation.loop import Life
from tests.simulation.market import MINUTE_MS, Market
from tests.simulation.streams import Stream

KEPT = 200
"""Trades of each contract that the oracle may look back at."""


class FeedTrouble:
    """What the feed suffers now, whichever life listens; written by the faults."""

    def __init__(self) -> None:
        self.hidden: set[tuple[Symbol, Millis]] = set()
        self.clear(0)

    def clear(self, now: Millis) -> None:
        """Nothing is wrong any more."""
        self.cut_until: Millis = now
        self.silent_until: Millis = 0
        self.late = 0.0
        self.history_fails = 0.0
        self.history_slow = (0.05, 0.5)
        self.history_stale = 0.0
        self.delayed_until: Millis = 0
        self.delay_ms = 0


class SimFeed:
    """MarketDataSource over the market."""

    name = "simulated"

    def __init__(
        self,
        market: Market,
        clock: Clock,
        life: Life,
        trouble: FeedTrouble,
        rng: Stream,
        hit: Callable[[str], None],
    ) -> None:
        self._market = market
        self._clock = clock
        self._life = life
        self._unread: list[tuple[Callable[[Tick], None], Tick]] = []
        self._trouble = trouble
        self._rng = rng
        self._hit = hit
        self._on_link: Callable[[LinkState, str], None] = lambda state, reason: None
        self._sinks: dict[Symbol, list[Callable[[Tick], None]]] = {}
        self._state = LinkState.DOWN
        self._stopped = asyncio.Event()
        self.newest: dict[Symbol, Millis] = {}
        self.price: dict[Symbol, Decimal] = {}
        self.told_at: dict[Symbol, Millis] = {}
        self.told: defaultdict[Symbol, deque[tuple[Millis, Decimal]]] = defaultdict(partial(deque, maxlen=KEPT))
        self._told: dict[tuple[Symbol, int], History] = {}
        self.gaps: set[Symbol] = set()

    async def start(self, on_link: Callable[[LinkState, str], None]) -> None:
        """Connect, or say that the line is down and connect when it is back."""
        self._on_link = on_link
        if self._market_time() < self._trouble.cut_until:
            self.cut()
        else:
            self._change(LinkState.UP, "connected")

    @property
    def is_up(self) -> bool:
        """Whether trades come in."""
        return self._state is LinkState.UP

    async def stop(self) -> None:
        """Disconnect."""
        self._state = LinkState.DOWN
        self._stopped.set()

    async def run(self) -> None:
        """Until stopped."""
        await self._stopped.wait()

    def subscribe(self, symbol: Symbol, sink: Callable[[Tick], None]) -> None:
        """Deliver the symbol's trades."""
        self._sinks.setdefault(symbol, []).append(sink)

    def _market_time(self) -> float:
        return self._clock.monotonic() * 1000

    def _change(self, state: LinkState, reason: str) -> None:
        if self._state is LinkState.UP or state is LinkState.RECONNECTING:
            self.gaps.update(self._sinks)
        self._state = state
        self._on_link(state, reason)

    # -- the line, driven by the world --------------------------------------------------------------------

    def cut(self) -> None:
        """The line is cut until the trouble's own end."""
        if self._state is not LinkState.RECONNECTING:
            self._change(LinkState.RECONNECTING, "connection lost")
        wait = max(1.0, self._trouble.cut_until - self._market_time())
        self._clock.call_at(self._clock.now() + round(wait), self.look)

    def look(self) -> None:
        """Whether the line may come back now."""
        if self._state is LinkState.RECONNECTING:
            if self._market_time() < self._trouble.cut_until:
                self.cut()
            else:
                self._change(LinkState.UP, "connected again")

    def on_trade(self, tick: Tick) -> None:
        """The market trades; the desk hears of it now, late, or never."""
        if self._life.paused:
            self._unread.append((self.on_trade, tick))
            return
        if self._state is not LinkState.UP:
            return
        if tick.at < self._trouble.silent_until:
            self._hit("feed silence")
            self._hide(tick)
            return
        if tick.at < self._trouble.delayed_until:
            self._hit("delayed feed")
            self._hide(tick)
            self._clock.call_at(self._clock.now() + self._trouble.delay_ms, lambda: self.deliver(tick))
            return
        if self._rng.chance(self._trouble.late):
            self._hit("late tick")
            self._hide(tick)
            self._clock.call_at(self._clock.now() + self._rng.randint(500, 90_000), lambda: self.deliver(tick))
            return
        self.deliver(tick)

    def resume(self) -> None:
        """A stopped process goes on, and reads what has come meanwhile."""
        unread, self._unread = self._unread, []
        for take, tick in unread:
            take(tick)

    def _hide(self, tick: Tick) -> None:
        self._trouble.hidden.add((tick.symbol, tick.at - tick.at % MINUTE_MS))

    def deliver(self, tick: Tick) -> None:
        """To whoever subscribed, once the process runs."""
        if self._life.paused:
            self._unread.append((self.deliver, tick))
        elif self._state is LinkState.UP:
            sinks = self._sinks.get(tick.symbol, ())
            if tick.at >= self.newest.get(tick.symbol, 0):
                now = self._clock.now()
                self.newest[tick.symbol] = tick.at
                self.price[tick.symbol] = tick.price
                self.told_at[tick.symbol] = now
                self.told[tick.symbol].append((now, tick.price))
            for sink in sinks:
                sink(tick)

    # -- history ------------------------------------------------------------------------------------------

    async def history(self, symbol: Symbol, timeframe: Timeframe, count: int, until: Millis) -> History:
        """The past as it stands when asked. Raises QueryFailed."""
        if self._state is not LinkState.UP:
            raise QueryFailed("the feed is down")
        now = round(self._market_time())
        made = self._market.candles(symbol, timeframe, now + 1)
        current = timeframe.start_of(now)
        closed = tuple(c for c in made if c.start < min(current, until))[-count:]
        forming = next((c for c in made if c.start == current), None)
        await self._clock.sleep(self._rng.uniform(*self._trouble.history_slow))
        if self._rng.chance(self._trouble.history_fails):
            self._hit("history failed")
            raise QueryFailed("history answered 503")
        if self._state is not LinkState.UP:
            raise QueryFailed("the feed was cut")
        if (symbol, count) in self._told and self._rng.chance(self._trouble.history_stale):
            self._hit("stale history")
            return self._told[symbol, count]  # to the same question: a shorter answer says that there is no more
        self.gaps.discard(symbol)
        told = History(closed, forming, now)
        if until >= current:  # what was asked for an earlier moment leaves out what an old answer to this would have
            self._told[symbol, count] = told
        return told

"""A seeded market: correlated instruments through calm, trending and violent stretches.

SyntheticMarket(instruments, seed, start, prices={}); the same arguments give the same ticks for ever.

Model: log prices are random walks. One common factor drives all, each instrument adds its own noise; a stretch sets
volatility, drift and how often trades come. Prices are on the tick grid, sizes on the size step, and the times of one
instrument's trades strictly increase. Volatilities are per square root of a second, about those of the real contracts.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from random import Random

from msgspec import Struct

from brokers.paper.record import MINUTE_MS, SECOND_MS, Bar
from engine.domain.ids import Millis, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Tick
from engine.ports import Rng

_START_PRICES = {"ESZ6": "6850", "NQZ6": "25400", "CLF7": "60.50", "6EZ6": "1.16500"}
_GROUPS = {"us-index": (3.5e-5, 0.85), "energy": (7e-5, 0.25), "fx": (1.8e-5, -0.2)}
_OTHERS = (4e-5, 0.3)
RECENT_SECONDS = 3_600


class Mood(StrEnum):
    """What kind of stretch the market is in."""

    CALM = "calm"
    TRENDING = "trending"
    VIOLENT = "violent"


class Stretch(Struct, frozen=True):
    """A stretch of market: until when, how volatile (times normal), how it drifts (per second), how busy."""

    mood: Mood
    until: Millis
    volatility: float
    drift: float
    busy: float


class _Walker:
    """One instrument's walk; `level` is the log price."""

    __slots__ = ("beta", "common_seen", "instrument", "level", "own", "seen", "tick", "volatility")

    def __init__(self, instrument: Instrument, price: Decimal, at: Millis) -> None:
        self.instrument = instrument
        self.tick = float(instrument.tick_size)
        self.level = math.log(float(price))
        self.volatility, self.beta = _GROUPS.get(instrument.group or "", _OTHERS)
        self.own = math.sqrt(1 - self.beta**2)
        self.seen = at
        self.common_seen = 0.0

    def ticks(self) -> int:
        """The price in whole ticks, at least one."""
        return max(1, round(math.exp(self.level) / self.tick))


def start_price(instrument: Instrument) -> Decimal:
    """Where an instrument starts when nobody says: near its real price, else at a thousand ticks."""
    known = _START_PRICES.get(instrument.symbol)
    return instrument.nearest(Decimal(known)) if known else instrument.tick_size * 1000


class SyntheticMarket:
    """The ticks of all instruments in order of time; `next_at` is the time of the one that comes next."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        seed: int,
        start: Millis,
        prices: Mapping[Symbol, Decimal] | None = None,
    ) -> None:
        self.start = start
        self._rng: Rng = Random(f"synthetic market {seed}")
        self._past_rng = Random(f"synthetic past {seed}")
        given = prices or {}
        self._walkers = {
            instrument.symbol: _Walker(instrument, given.get(instrument.symbol) or start_price(instrument), start)
            for instrument in sorted(instruments, key=lambda instrument: instrument.symbol)
        }
        self._common = 0.0
        self._common_at = start
        self._stretch = Stretch(Mood.CALM, start + 120_000, 1.0, 0.0, 1.0)
        self._due: list[tuple[Millis, Symbol]] = [(start + 1 + self._gap(), symbol) for symbol in self._walkers]
        heapq.heapify(self._due)

    @property
    def next_at(self) -> Millis:
        """Time of the next tick of all."""
        return self._due[0][0]

    @property
    def mood(self) -> Mood:
        """The present stretch."""
        return self._stretch.mood

    def next(self) -> Tick:
        """The next tick."""
        at, symbol = self._due[0]
        if at >= self._stretch.until:
            self._stretch = self._new_stretch(at)
        heapq.heapreplace(self._due, (at + 1 + self._gap(), symbol))
        stretch, walker = self._stretch, self._walkers[symbol]
        elapsed = (at - self._common_at) / 1000
        self._common += stretch.drift * elapsed + stretch.volatility * math.sqrt(elapsed) * self._rng.gauss(0, 1)
        self._common_at = at
        own = walker.own * stretch.volatility * math.sqrt((at - walker.seen) / 1000) * self._rng.gauss(0, 1)
        walker.level += walker.volatility * (walker.beta * (self._common - walker.common_seen) + own)
        walker.seen, walker.common_seen = at, self._common
        instrument = walker.instrument
        size = 1 + int(-2.0 * math.log(1.0 - self._rng.random()))
        return Tick(symbol, at, walker.ticks() * instrument.tick_size, size * instrument.size_step)

    def _gap(self) -> int:
        """Milliseconds to an instrument's next trade: about three a second when calm."""
        return int(-330.0 / self._stretch.busy * math.log(1.0 - self._rng.random()))

    def _new_stretch(self, at: Millis) -> Stretch:
        chance = self._rng.random()
        if chance < 0.45:
            return Stretch(Mood.CALM, at + self._rng.randint(90_000, 420_000), 1.0, 0.0, 1.0)
        if chance < 0.8:
            # In units of a normal second's volatility: a trend of minutes clearly leaves its noise.
            drift = self._rng.uniform(0.1, 0.25) * (1 if self._rng.random() < 0.5 else -1)
            return Stretch(Mood.TRENDING, at + self._rng.randint(60_000, 300_000), 1.2, drift, 1.3)
        return Stretch(Mood.VIOLENT, at + self._rng.randint(20_000, 90_000), 3.5, 0.0, 2.5)

    def past(self, symbol: Symbol, minutes: int) -> tuple[list[Bar], list[Bar]]:
        """A plausible past that ends at the start price: minute bars, then second bars of the last hour.

        Walked backwards from the start, which for a random walk is as good as forwards. Oldest first.
        """
        walker = self._walkers[symbol]
        end = self.start - self.start % SECOND_MS
        first = end - minutes * MINUTE_MS
        first -= first % MINUTE_MS
        seam = end - RECENT_SECONDS * SECOND_MS
        seam = max(first, seam - seam % MINUTE_MS)
        level = walker.level
        seconds: list[Bar] = []
        for start in range(end - SECOND_MS, seam - 1, -SECOND_MS):
            if self._past_rng.random() < 0.9:
                bar, level = self._past_bar(walker, level, start, 1, 3)
                seconds.append(bar)
        older: list[Bar] = []
        for start in range(seam - MINUTE_MS, first - 1, -MINUTE_MS):
            bar, level = self._past_bar(walker, level, start, 60, 180)
            older.append(bar)
        return older[::-1], seconds[::-1]

    def _past_bar(self, walker: _Walker, level: float, start: Millis, seconds: int, trades: int) -> tuple[Bar, float]:
        """A bar that closes at `level`, and the level at which it opened."""
        spread = walker.volatility * math.sqrt(seconds)
        opened = level + spread * self._past_rng.gauss(0, 1)
        high = max(level, opened) + abs(spread * 0.4 * self._past_rng.gauss(0, 1))
        low = min(level, opened) - abs(spread * 0.4 * self._past_rng.gauss(0, 1))
        first, top, bottom, last = (max(1, round(math.exp(each) / walker.tick)) for each in (opened, high, low, level))
        volume = max(1, round(trades * 2.5 * self._past_rng.uniform(0.5, 1.5)))
        return (start, first, top, bottom, last, volume), opened

"""What a market did, kept as compact bars, so that any stretch of the past can be answered in any timeframe."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import takewhile

from engine.domain.ids import Millis
from engine.domain.instruments import Instrument
from engine.domain.market import Candle, Timeframe

Bar = tuple[int, int, int, int, int, int]
"""start (ms), open, high, low, close (in ticks), volume (in size steps)"""

SECOND_MS = 1_000
MINUTE_MS = 60_000


class Bars:
    """Bars of one length, oldest first; beyond `capacity` the oldest quarter is forgotten at once."""

    def __init__(self, step_ms: int, capacity: int) -> None:
        self._step = step_ms
        self._capacity = capacity
        self._columns = tuple(array("q") for _ in range(6))

    def __len__(self) -> int:
        return len(self._columns[0])

    @property
    def first_start(self) -> Millis | None:
        """Start of the oldest bar kept."""
        return self._columns[0][0] if len(self) else None

    def add(self, at: Millis, price: int, size: int) -> None:
        """Count a trade in that is not older than the newest bar: into that bar, or into a new one."""
        starts, _, highs, lows, closes, volumes = self._columns
        start = at - at % self._step
        if not starts or start > starts[-1]:
            self.append((start, price, price, price, price, size))
            return
        highs[-1] = max(highs[-1], price)
        lows[-1] = min(lows[-1], price)
        volumes[-1] += size
        closes[-1] = price

    def amend(self, at: Millis, price: int, size: int) -> bool:
        """Count a late trade into the middle of its bar; False if there is no such bar."""
        starts, _, highs, lows, _, volumes = self._columns
        start = at - at % self._step
        for index in range(len(starts) - 1, -1, -1):
            if starts[index] == start:
                highs[index] = max(highs[index], price)
                lows[index] = min(lows[index], price)
                volumes[index] += size
                return True
            if starts[index] < start:
                return False
        return False

    def append(self, bar: Bar) -> None:
        """Add a bar that is newer than all."""
        for column, value in zip(self._columns, bar, strict=True):
            column.append(value)
        if len(self) > self._capacity:
            for column in self._columns:
                del column[: self._capacity // 4]

    def backwards(self, before: Millis) -> Iterator[Bar]:
        """Bars with start < `before`, newest first."""
        starts, opens, highs, lows, closes, volumes = self._columns
        for i in range(bisect_left(starts, before) - 1, -1, -1):
            yield starts[i], opens[i], highs[i], lows[i], closes[i], volumes[i]


class MarketRecord:
    """One instrument's past: about a day of seconds and a week of minutes."""

    def __init__(self, instrument: Instrument, *, seconds: int = 86_400, minutes: int = 7 * 1_440) -> None:
        self._instrument = instrument
        self._seconds = Bars(SECOND_MS, seconds)
        self._minutes = Bars(MINUTE_MS, minutes)

    def add(self, at: Millis, price: int, size: int) -> None:
        """Count a trade in; price in ticks, size in size steps."""
        self._seconds.add(at, price, size)
        self._minutes.add(at, price, size)

    def load(self, minutes: Iterable[Bar], seconds: Iterable[Bar]) -> None:
        """Start with a past: minutes up to where the seconds begin, seconds from there (both oldest first)."""
        for bar in minutes:
            self._minutes.append(bar)
        for start, first, high, low, last, volume in seconds:
            self._seconds.append((start, first, high, low, last, volume))
            merge = ((start, first, 0), (start, high, 0), (start, low, 0), (start, last, volume))
            for at, price, size in merge:
                self._minutes.add(at, price, size)

    def candles(self, timeframe: Timeframe, count: int, until: Millis) -> list[Candle]:
        """The last `count` windows with trades and start < `until`, oldest first; the newest may still form.

        Only windows that the record holds from their start on; whole minutes come from the longer record.
        """
        whole_minutes = timeframe.ms % MINUTE_MS == 0
        bars = self._minutes if whole_minutes else self._seconds
        oldest = bars.first_start
        if oldest is None:
            return []
        windows: list[Bar] = []
        if count <= 0:
            return []
        for start, first, high, low, last, volume in bars.backwards(until):
            window = timeframe.start_of(start)
            if windows and windows[-1][0] == window:
                _, _, newer_high, newer_low, close, newer_volume = windows[-1]
                windows[-1] = (
                    window,
                    first,
                    max(high, newer_high),
                    min(low, newer_low),
                    close,
                    volume + newer_volume,
                )
                continue
            # A window that began before the record does would be a part shown as a whole.
            if len(windows) == count or window < oldest:
                break
            windows.append((window, first, high, low, last, volume))
        return [self._candle(window) for window in reversed(windows)]

    def _candle(self, window: Bar) -> Candle:
        start, first, high, low, last, volume = window
        tick, step = self._instrument.tick_size, self._instrument.size_step
        return Candle(start, first * tick, high * tick, low * tick, last * tick, volume * step)

    def middle(self, start: Millis, end: Millis) -> Millis:
        """A moment in the middle of what traded from `start` to `end`: inside a second that had trades."""
        inside = [bar[0] for bar in takewhile(lambda bar: bar[0] >= start, self._seconds.backwards(end))]
        return inside[len(inside) // 2] + SECOND_MS // 2 if inside else (start + end) // 2

    def amend(self, at: Millis, price: Decimal, size: Decimal) -> bool:
        """Count a late trade into a past bar, high, low and volume only; False if that bar is not kept."""
        ticks = int(price / self._instrument.tick_size)
        steps = int(size / self._instrument.size_step)
        self._minutes.amend(at, ticks, steps)
        return self._seconds.amend(at, ticks, steps)

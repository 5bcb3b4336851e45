"""What a replay has played so far, so that a feed cut can be filled from it like from any feed's history."""

from __future__ import annotations

from collections import deque
from itertools import takewhile

from msgspec.structs import replace

from engine.domain.ids import Millis
from engine.domain.market import Candle, Tick, Timeframe

KEPT = 100_000
SECOND_MS = 1_000


class Played:
    """The newest windows of one length, built from ticks or taken from recorded candles; bounded."""

    def __init__(self, step_ms: int) -> None:
        self._step = step_ms
        self._windows: deque[Candle] = deque(maxlen=KEPT)

    def add_tick(self, tick: Tick) -> None:
        """Count a tick in; ticks come in order."""
        start = tick.at - tick.at % self._step
        if not self._windows or self._windows[-1].start < start:
            self._windows.append(Candle(start, tick.price, tick.price, tick.price, tick.price, tick.size))
            return
        forming = self._windows[-1]
        self._windows[-1] = Candle(
            forming.start,
            forming.open,
            max(forming.high, tick.price),
            min(forming.low, tick.price),
            tick.price,
            forming.volume + tick.size,
        )

    def put(self, candle: Candle) -> None:
        """Take a recorded candle; one of the same time gives way to it."""
        for index in range(len(self._windows) - 1, -1, -1):
            if self._windows[index].start == candle.start:
                self._windows[index] = candle
                return
            if self._windows[index].start < candle.start:
                break
        self._windows.append(candle)

    def candles(self, timeframe: Timeframe, count: int, until: Millis) -> list[Candle]:
        """The last `count` windows of `timeframe` with start < `until`, oldest first; the newest may still form."""
        found: list[Candle] = []
        if count <= 0:
            return found
        for candle in reversed(self._windows):
            window = timeframe.start_of(candle.start)
            if window >= until:
                continue
            if found and found[-1].start == window:
                found[-1] = _joined(candle, found[-1])
            elif len(found) == count:
                break
            else:
                found.append(replace(candle, start=window))
        return found[::-1]

    def window(self, timeframe: Timeframe, start: Millis) -> Candle | None:
        """The candle of `timeframe` that starts at `start`, as far as it has come."""
        end = start + timeframe.ms
        inside = [
            candle
            for candle in takewhile(lambda candle: candle.start >= start, reversed(self._windows))
            if candle.start < end
        ]
        joined: Candle | None = None
        for candle in inside:
            joined = replace(candle, start=start) if joined is None else _joined(candle, joined)
        return joined


def _joined(earlier: Candle, later: Candle) -> Candle:
    """Two neighbouring stretches as one; it keeps the later one's start, which is their window's."""
    return replace(
        later,
        open=earlier.open,
        high=max(earlier.high, later.high),
        low=min(earlier.low, later.low),
        volume=earlier.volume + later.volume,
    )

"""Ticks become candles: one working candle, changed in place, closed by a later tick or by the clock."""

from __future__ import annotations

from decimal import Decimal

from engine.domain.ids import Millis
from engine.domain.market import Candle, CandleOrigin, Tick, Timeframe

ZERO = Decimal(0)


class CandleAssembler:
    """Holds the window that is forming; nothing in here is ever handed to a strategy.

    `first_at` and `last_at` are the times of the earliest and latest tick in the window, so that a tick that comes
    late can tell whether it is the candle's open or close.
    """

    __slots__ = ("close", "end", "first_at", "high", "last_at", "low", "open", "start", "timeframe_ms", "volume")

    def __init__(self, timeframe: Timeframe) -> None:
        self.timeframe_ms = timeframe.ms
        self.start: Millis = -1
        self.end: Millis = -1
        self.first_at: Millis = 0
        self.last_at: Millis = 0
        self.open = self.high = self.low = self.close = self.volume = ZERO

    @property
    def is_forming(self) -> bool:
        """Whether a window is open."""
        return self.start >= 0

    def add(self, tick: Tick) -> Candle | None:
        """Take a tick at or after the forming window's start; return the candle that it closed, if any."""
        price, at = tick.price, tick.at
        if at < self.end:
            if price > self.high:
                self.high = price
            elif price < self.low:
                self.low = price
            if at >= self.last_at:
                self.close = price
                self.last_at = at
            elif at < self.first_at:
                self.open = price
                self.first_at = at
            self.volume += tick.size
            return None
        closed = self.closed()
        self.start = at - at % self.timeframe_ms
        self.end = self.start + self.timeframe_ms
        self.open = self.high = self.low = self.close = price
        self.volume = tick.size
        self.first_at = self.last_at = at
        return closed

    def close_if_due(self, now: Millis, grace_ms: int) -> Candle | None:
        """Close the window once its end plus the grace has passed without a later tick."""
        if self.start < 0 or now < self.end + grace_ms:
            return None
        return self.closed()

    def closed(self) -> Candle | None:
        """The window as a candle, leaving nothing forming; None when nothing was."""
        if self.start < 0:
            return None
        candle = self.forming()
        self.start = self.end = -1
        return candle

    def forming(self) -> Candle | None:
        """A copy of the window as it stands."""
        if self.start < 0:
            return None
        return Candle(self.start, self.open, self.high, self.low, self.close, self.volume)

    def resume(self, forming: Candle, as_of: Millis) -> None:
        """Go on from a window that history saw up to and including `as_of`."""
        self.start, self.end = forming.start, forming.start + self.timeframe_ms
        self.open, self.high, self.low = forming.open, forming.high, forming.low
        self.close, self.volume = forming.close, forming.volume
        self.first_at, self.last_at = forming.start, as_of


def amended(candle: Candle, tick: Tick, first_at: Millis, last_at: Millis) -> Candle:
    """A closed candle with a late tick in it: a new revision; open or close only if it is the earliest or latest."""
    return Candle(
        candle.start,
        tick.price if tick.at < first_at else candle.open,
        max(candle.high, tick.price),
        min(candle.low, tick.price),
        tick.price if tick.at >= last_at else candle.close,
        candle.volume + tick.size,
        candle.origin,
        candle.revision + 1,
    )


def alone(tick: Tick, timeframe: Timeframe) -> Candle:
    """The candle of a window in which a late tick is the only one."""
    price = tick.price
    return Candle(timeframe.start_of(tick.at), price, price, price, price, tick.size, CandleOrigin.INSERTED)

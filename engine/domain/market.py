"""Ticks, candles and the windows that candles stand for."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from engine.domain.ids import Millis, Symbol

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DAY_MS = 86_400_000


class Tick(Struct, frozen=True, gc=False):
    """One trade or quote as the feed sent it; `price` in price points, `size` in contracts or coins."""

    symbol: Symbol
    at: Millis
    price: Decimal
    size: Decimal


class CandleOrigin(StrEnum):
    """Where a closed candle came from; only LIVE ones may lead to an entry."""

    LIVE = "live"
    WARMUP = "warm-up"
    BACKFILLED = "backfilled"
    INSERTED = "inserted"


class Candle(Struct, frozen=True, gc=False):
    """A closed window of market activity; `start` is the window's first millisecond in UTC."""

    start: Millis
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    origin: CandleOrigin = CandleOrigin.LIVE
    revision: int = 0

    def same_values(self, other: Candle) -> bool:
        """Whether both candles describe the same prices and volume."""
        return (self.open, self.high, self.low, self.close, self.volume) == (
            other.open,
            other.high,
            other.low,
            other.close,
            other.volume,
        )


class Timeframe(Struct, frozen=True, gc=False):
    """Length of a candle's window in milliseconds, 1 second to 1 day, aligned to the UTC epoch."""

    ms: int

    @classmethod
    def parse(cls, text: str) -> Timeframe:
        """Read `1s`, `5m`, `1h`, `1d`; raises ValueError with the accepted form."""
        match = re.fullmatch(r"([1-9]\d{0,4})([smhd])", text.strip())
        if match is None or (ms := int(match[1]) * _UNITS[match[2]]) > DAY_MS or DAY_MS % ms:
            raise ValueError(
                f"timeframe {text!r} is not a length from 1s to 1d that divides a day (such as 1s, 1m, 5m, 1h, 1d)"
            )
        return cls(ms)

    def start_of(self, at: Millis) -> Millis:
        """First millisecond of the window that holds `at`."""
        return at - at % self.ms

    def __str__(self) -> str:
        for unit in "dhms":
            if self.ms % _UNITS[unit] == 0:
                return f"{self.ms // _UNITS[unit]}{unit}"
        raise AssertionError(f"a timeframe of {self.ms} ms cannot be made by parse()")


class History(Struct, frozen=True):
    """What a feed says of the past: closed candles, and the forming one as far as it had come.

    `as_of` is the moment up to and including which every tick is accounted for in `candles` and `forming`.
    """

    candles: tuple[Candle, ...]
    forming: Candle | None
    as_of: Millis

"""Larger timeframes: closed candles gathered into the windows of a longer one, and what each is made of. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.domain.ids import Millis
from engine.domain.market import DAY_MS, Candle, Timeframe

NATURAL_MS = (
    1_000, 5_000, 15_000, 60_000, 5 * 60_000, 15 * 60_000, 3_600_000, 4 * 3_600_000, DAY_MS,
)  # fmt: skip
"""Lengths a person would choose: 5, 15 and 60 of a one-minute candle, and so on; each divides a day."""

MOST = 240
"""Candles of the session's timeframe in one bar; beyond that the kept candles make hardly two of them."""


@dataclass(frozen=True)
class Bar:
    """What the chart draws as one candle.

    `parts` are the closed candles in it, `wanted` how many windows of the session's timeframe have passed in it.
    """

    candle: Candle
    parts: tuple[Candle, ...]
    wanted: int
    forming: bool = False

    @property
    def start(self) -> Millis:
        """First millisecond of its window."""
        return self.candle.start

    @property
    def complete(self) -> bool:
        """Whether every window that has passed in it has its candle."""
        return len(self.parts) == self.wanted


def timeframes(base: Timeframe) -> tuple[Timeframe, ...]:
    """The session's own timeframe and the longer ones that it fits into, shortest first."""
    return base, *(Timeframe(ms) for ms in NATURAL_MS if base.ms < ms <= MOST * base.ms and ms % base.ms == 0)


def gather(candles: Sequence[Candle], forming: Candle | None, base: Timeframe, wide: Timeframe) -> list[Bar]:
    """Bars of `wide`, oldest first, from closed candles of `base` and the forming one; at most the last is forming.

    Windows are aligned as the engine aligns its own: to the UTC epoch. A window that holds no candle at all has no bar.
    """
    if forming is not None and candles and forming.start <= candles[-1].start:
        forming = None
    if wide == base:
        bars = [Bar(candle, (candle,), 1) for candle in candles]
        return bars if forming is None else [*bars, Bar(forming, (), 0, forming=True)]
    bars = []
    begin = 0
    for index, candle in enumerate(candles):
        start = wide.start_of(candle.start)
        last = index + 1 == len(candles)
        if last or wide.start_of(candles[index + 1].start) != start:
            parts = tuple(candles[begin : index + 1])
            begin = index + 1
            over = not last or candle.start + base.ms == start + wide.ms
            over = over or (forming is not None and wide.start_of(forming.start) != start)
            if over:
                bars.append(Bar(_merged(start, parts), parts, wide.ms // base.ms))
                continue
            newest = candle.start + base.ms if forming is None else forming.start
            merged = _merged(start, parts if forming is None else (*parts, forming))
            return [*bars, Bar(merged, parts, (newest - start) // base.ms, forming=True)]
    if forming is None:
        return bars
    start = wide.start_of(forming.start)
    return [*bars, Bar(_merged(start, (forming,)), (), (forming.start - start) // base.ms, forming=True)]


def _merged(start: Millis, parts: Sequence[Candle]) -> Candle:
    """First open, last close, the highest high, the lowest low, and all the volume."""
    return Candle(
        start,
        parts[0].open,
        max(part.high for part in parts),
        min(part.low for part in parts),
        parts[-1].close,
        sum((part.volume for part in parts[1:]), parts[0].volume),
    )


class Gathered:
    """Bars kept until a candle changes: between two closes only the last bar is made anew."""

    def __init__(self) -> None:
        self._of: tuple[object, Timeframe | None, Timeframe | None] = ((), None, None)
        self._closed: list[Bar] = []

    def bars(
        self, candles: tuple[Candle, ...], forming: Candle | None, base: Timeframe, wide: Timeframe
    ) -> tuple[list[Bar], Bar | None]:
        """(closed bars, the forming one), as `gather` gives them."""
        candles_before, *frames = self._of
        if candles_before is not candles or frames != [base, wide]:
            bars = gather(candles, None, base, wide)
            self._closed = bars[:-1] if bars and bars[-1].forming else bars
            self._of = (candles, base, wide)
        covered = self._closed[-1].start + wide.ms if self._closed else 0
        rest = candles[len(candles) - self._open_parts(candles, covered) :]
        tail = gather(rest, forming, base, wide)
        if tail and not tail[-1].forming:
            return [*self._closed, *tail], None
        return [*self._closed, *tail[:-1]], tail[-1] if tail else None

    @staticmethod
    def _open_parts(candles: tuple[Candle, ...], covered: Millis) -> int:
        """How many candles at the end lie after the last closed bar."""
        count = 0
        while count < len(candles) and candles[-1 - count].start >= covered:
            count += 1
        return count

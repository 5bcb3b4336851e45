"""A chart laid out: which bars are in sight, in which column each stands, how wide the axis is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from console.formatting import price
from console.widgets.bars import Bar
from console.widgets.marks import Level, fills_by_bar, gaps_by_bar, levels_of
from console.widgets.scale import Scale
from engine.domain.ids import Millis
from engine.domain.market import Timeframe
from engine.snapshot import ChartMark, Gap, SessionView

PITCHES = (1, 2, 4, 6, 8)
"""Cells from one candle to the next."""
FAR = Decimal("1.2")
"""A stop or target further away than this many spans of the candles is named at the edge, not drawn."""
NAMED = 64
"""From this many cells on the axis has room for the names of its levels."""


@dataclass(frozen=True)
class Look:
    """How the chart is looked at.

    `until` begins the newest bar shown (None: follow the feed); `cross` the bar under the crosshair, whose price is
    `level` (None: that bar's close). `shaded`: without colour; `stale`: what moves may no longer be true.
    """

    pitch: int = 2
    wide: Timeframe | None = None
    until: Millis | None = None
    cross: Millis | None = None
    level: Decimal | None = None
    shaded: bool = False
    stale: bool = False


FOLLOWING = Look()
"""The newest candles at the usual pitch."""


@dataclass(frozen=True)
class Sheet:
    """A chart laid out: what is drawn, and where."""

    view: SessionView
    look: Look
    wide: Timeframe
    closed: Sequence[Bar]
    forming: Bar | None
    levels: Sequence[Level]
    place: dict[Millis, int]
    fills: dict[Millis, list[ChartMark]]
    gaps: dict[Millis, Gap]
    plot: int
    axis: int
    digits: int
    rows: int
    volume_rows: int

    @property
    def bars(self) -> list[Bar]:
        """Every bar in sight, oldest first."""
        return [*self.closed, *([self.forming] if self.forming else [])]

    @property
    def unfilled(self) -> bool:
        """Whether a gap is open that no bar has followed yet."""
        return any(not gap.closed and gap not in self.gaps.values() for gap in self.view.gaps)

    @property
    def crossed(self) -> Bar | None:
        """The bar under the crosshair."""
        return next((bar for bar in self.bars if bar.start == self.look.cross), None)

    @property
    def level(self) -> Decimal | None:
        """The price under the crosshair."""
        bar = self.crossed
        return None if bar is None else bar.candle.close if self.look.level is None else self.look.level

    def nearest(self, x: int) -> Bar | None:
        """The bar in sight whose column is nearest."""
        return min(self.bars, key=lambda bar: abs(self.place[bar.start] - x), default=None)


def capacity(view: SessionView, width: int, pitch: int) -> int:
    """How many closed bars fit into a chart of `width` cells."""
    return max(1, (width - _axis(view, width)[1] - _forming_room(pitch)) // pitch)


def lay_out(
    view: SessionView, bars: tuple[Sequence[Bar], Bar | None], scale: Scale, width: int, height: int, look: Look
) -> Sheet | None:
    """Place closed bars and the forming one in `width` x `height` cells and move the scale if it must; None: no bar."""
    every, forming = bars
    tick, wide = view.instrument.tick_size, look.wide or view.timeframe
    if not every and forming is None:
        return None
    if look.until is not None:
        forming = None
    levels = levels_of(view, stale=look.stale)
    digits, axis = _axis(view, width)
    shown = visible(every, capacity(view, width, look.pitch), look.until)
    seen = [*shown, *([forming] if forming else [])]
    _fit_scale(scale, seen, levels, tick)
    plot = max(_forming_room(look.pitch) + look.pitch, width - axis)
    volume = 3 if height >= 22 else 2 if height >= 15 else 0
    right = plot - _forming_room(look.pitch)
    middle = max(0, look.pitch - 2) // 2
    left = right - len(shown) * look.pitch
    place = {bar.start: left + index * look.pitch + middle for index, bar in enumerate(shown)}
    if forming is not None:
        place[forming.start] = right + 1 + box(look.pitch) // 2
    known = [*every, *([forming] if forming else [])]
    return Sheet(
        view, look, wide, shown, forming, levels, place, fills_by_bar(known, view.marks),
        gaps_by_bar(known, view.gaps, wide), plot, width - plot, digits, max(3, height - 2 - volume), volume,
    )  # fmt: skip


def _axis(view: SessionView, width: int) -> tuple[int, int]:
    """(cells of the longest price, cells of the axis); room for a price that is a little higher than the highest."""
    prices = [candle.high for candle in view.candles[-1:]] + [level.price for level in levels_of(view)]
    prices += [view.forming.high] if view.forming is not None else []
    digits = max(len(price(one * Decimal("1.02"), view.instrument.tick_size)) for one in prices)
    return digits, digits + (8 if width >= NAMED else 3)


def visible(bars: Sequence[Bar], count: int, until: Millis | None) -> Sequence[Bar]:
    """The newest `count` bars, none newer than `until`."""
    end = len(bars)
    while until is not None and end > 1 and bars[end - 1].start > until:
        end -= 1
    return bars[max(0, end - count) : end]


def box(pitch: int) -> int:
    """Cells of the forming candle's box."""
    return max(3, pitch - 1)


def _forming_room(pitch: int) -> int:
    return box(pitch) + 2


def _fit_scale(scale: Scale, bars: Sequence[Bar], levels: Iterable[Level], tick: Decimal) -> None:
    low, high = min(bar.candle.low for bar in bars), max(bar.candle.high for bar in bars)
    span = max(high - low, tick * 4)
    for level in levels:
        if low - span * FAR <= level.price <= high + span * FAR:
            low, high = min(low, level.price), max(high, level.price)
    scale.cover(low, high, tick)

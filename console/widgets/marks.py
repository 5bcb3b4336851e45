"""What is unusual about a bar and what happened on it; the lines that a position draws across the chart. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from console import formatting as f
from console.widgets.bars import Bar
from engine.domain.ids import Millis
from engine.domain.market import CandleOrigin, Timeframe
from engine.domain.orders import Side
from engine.snapshot import ChartMark, Gap, MarkKind, SessionView

GAP, INCOMPLETE, REPLACED, INSERTED, BACKFILLED, WARMUP = "╳", "◑", "≈", "◌", "○", "·"
LEGEND = (
    (REPLACED, "disagree", "replaced"), (BACKFILLED, "warn", "backfilled"), (INSERTED, "warn", "inserted"),
    (GAP, "block", "open gap"), (INCOMPLETE, "warn", "incomplete"), (WARMUP, "dim", "warm-up"),
)  # fmt: skip


@dataclass(frozen=True)
class Level:
    """A horizontal line with a name; the smaller `rank`, the more its label matters."""

    name: str
    price: Decimal
    ink: str
    dash: str
    rank: int


def levels_of(view: SessionView, *, stale: bool = False) -> list[Level]:
    """Lines worth drawing, the most important last so that it is drawn over the others."""
    levels = []
    if view.position.average_price is not None and not view.position.is_flat:
        levels.append(Level("entry", view.position.average_price, "dim", "┄", 4))
    if view.target_price is not None:
        levels.append(Level("target", view.target_price, "ok", "╌", 3))
    if view.stop_price is not None:
        levels.append(Level("stop", view.stop_price, "block", "╍", 1))
    if view.last_price is not None:
        levels.append(Level("last", view.last_price, "stale" if stale else "accent", "┈", 2))
    return levels


def gaps_by_bar(bars: Sequence[Bar], gaps: Sequence[Gap], wide: Timeframe) -> dict[Millis, Gap]:
    """Start of a bar -> the gap that still is open and first touches it."""
    starts = [bar.start for bar in bars]
    found: dict[Millis, Gap] = {}
    for gap in gaps:
        if not gap.closed:
            at = bisect_right(starts, gap.start - wide.ms)
            if at < len(starts):
                found[starts[at]] = gap
    return found


def fills_by_bar(bars: Sequence[Bar], marks: Sequence[ChartMark]) -> dict[Millis, list[ChartMark]]:
    """Start of a bar -> the fills in it; one in a window without a bar belongs to the bar before it."""
    starts = [bar.start for bar in bars]
    found: dict[Millis, list[ChartMark]] = {}
    for mark in marks:
        at = bisect_right(starts, mark.at) - 1
        if at >= 0:
            found.setdefault(starts[at], []).append(mark)
    return found


def counts(bar: Bar, replaced: frozenset[Millis]) -> dict[str, int]:
    """How many of its candles are replaced, inserted, backfilled, from warm-up; only what there is."""
    found: dict[str, int] = {}
    for part in bar.parts:
        if part.start in replaced:
            found["replaced"] = found.get("replaced", 0) + 1
        if part.origin is not CandleOrigin.LIVE:
            name = part.origin.value
            found[name] = found.get(name, 0) + 1
    return found


def mark_of(bar: Bar, replaced: frozenset[Millis], *, gap: bool) -> tuple[str, str]:
    """Glyph and ink of the one thing that matters most about a bar; a blank when it is as it should be."""
    if gap:
        return GAP, "block"
    if not bar.complete:
        return INCOMPLETE, "warn"
    found = counts(bar, replaced)
    if "replaced" in found:
        return REPLACED, "disagree"
    if "inserted" in found:
        return INSERTED, "warn"
    if "backfilled" in found:
        return BACKFILLED, "warn"
    return (WARMUP, "dim") if "warm-up" in found else (" ", "text")


def fill_glyph(mark: ChartMark) -> str:
    """Entries as full triangles, exits as hollow ones; buys point up, sells down."""
    if mark.kind is MarkKind.ENTRY:
        return "▲" if mark.side is Side.BUY else "▼"
    return "△" if mark.side is Side.BUY else "▽"


def happened(
    bar: Bar, view: SessionView, fills: Sequence[ChartMark], gap: Gap | None, *, full: bool
) -> list[tuple[str, str]]:
    """(words, ink) of everything that happened on a bar, what matters most first; `full` has prices and causes."""
    words: list[tuple[str, str]] = []
    for fill in fills:
        price = f" @ {f.price(fill.price, view.instrument.tick_size)}" if full else ""
        side = f" {fill.side.value.upper()}" if full else ""
        words.append((f"{fill_glyph(fill)} {fill.kind.value}{side} {f.size(fill.quantity)}{price}", "bright"))
    if gap is not None:
        words.append((f"{GAP} open gap" + (f": {f.plain(gap.cause)}" if full else ""), "block"))
    if not bar.complete:
        words.append((f"{INCOMPLETE} {len(bar.parts)} of {bar.wanted} candles", "warn"))
    names = {name: (glyph, ink) for glyph, ink, name in LEGEND}
    for name, count in counts(bar, view.replaced).items():
        glyph, ink = names[name]
        words.append((f"{glyph} {name}" if len(bar.parts) == 1 else f"{glyph} {count} {name}", ink))
    return words

"""One line of figures over the chart: the crosshair's candle and what happened on it, or the forming one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from console import formatting as f
from console.widgets.bars import Bar
from console.widgets.candles import ink_of
from console.widgets.marks import happened
from console.widgets.sheet import Sheet
from console.widgets.spans import Line, Span, line, width_of
from engine.domain.ids import Millis
from engine.domain.market import DAY_MS, Candle
from engine.snapshot import SessionView

ROOMY = 104
"""From this many cells on fills have their prices and gaps their causes beside them."""


def readout(view: SessionView, sheet: Sheet, now: Millis, width: int) -> Line:
    """The crosshair's candle when there is one, else the forming candle."""
    bar = sheet.crossed
    if bar is not None:
        return crossed_line(view, sheet, bar, now, width)
    return live_line(view, sheet.forming, sheet, now, width)


def crossed_line(view: SessionView, sheet: Sheet, bar: Bar, now: Millis, width: int) -> Line:
    """Time, open, high, low, close, volume, and everything that happened on it."""
    when = f.axis_time(bar.start, sheet.wide.ms)
    if sheet.wide.ms < DAY_MS and f.date(bar.start) != f.date(now):
        when = f"{f.date(bar.start)[5:]} {when}"
    candle = bar.candle
    spans: list[Span] = [Span(f" {when} ", "bright"), Span(f"{f.arrow(candle.close - candle.open)} ", ink_of(candle))]
    spans += prices(view, candle, sheet.digits, close=True)
    if bar.forming:
        spans.append(Span("forming  ", "dim"))
    words = happened(bar, view, sheet.fills.get(bar.start, ()), sheet.gaps.get(bar.start), full=width >= ROOMY)
    for number, (text, ink) in enumerate(words):
        spans += [Span(" · " if number else "", "faint"), Span(text, ink)]
    return tuple(spans)


def live_line(view: SessionView, bar: Bar | None, sheet: Sheet, now: Millis, width: int) -> Line:
    """The last price with its age, the forming candle, and how long it has still to go."""
    tick, stale = view.instrument.tick_size, sheet.look.stale
    spans: list[Span] = [
        Span(f" {f.price(view.last_price, tick):>{sheet.digits}}", "stale" if stale else "bright"),
        Span(f" {f.since(now, view.last_tick):>4}", "warn" if stale else "dim"),
        Span(f" {view.freshness}" if stale else "", "warn"),
        Span("  "),
    ]
    if sheet.look.until is not None:
        return (*spans, Span("older candles, ", "dim"), Span("End", "key"), Span(" shows the newest", "dim"))
    if bar is None:
        return (*spans, Span("no forming candle", "dim"))
    figures = prices(view, bar.candle, sheet.digits, close=False)
    left = bar.start + sheet.wide.ms - now
    ending = line(("forming, ", "dim"), (f"closes in {f.age(left)}" if left > 0 else "closing", "dim"))
    missing = "" if bar.complete else f"  {len(bar.parts)} of {bar.wanted} candles"
    tail = (*ending, Span(missing, "warn"))
    if width_of((*spans, *figures, *tail)) > width:
        tail = (Span(f"closes {f.age(max(0, left))}", "dim"), Span(missing, "warn"))
    return (*spans, *figures, *tail)


def prices(view: SessionView, candle: Candle, digits: int, *, close: bool) -> Sequence[Span]:
    """Open, high, low, close if asked for, and volume, each in a field of its own width."""
    tick = view.instrument.tick_size
    named = [("O", candle.open), ("H", candle.high), ("L", candle.low), *([("C", candle.close)] if close else [])]
    spans: list[Span] = []
    for name, value in named:
        spans += [Span(f"{name} ", "dim"), Span(f"{f.price(value, tick):>{digits}} ", "text")]
    return [*spans, Span("V ", "dim"), Span(f"{f.size(candle.volume):<5} ", "text")]

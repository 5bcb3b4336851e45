"""The chart of one session as lines: closed candles, the forming one, its levels, marks, volume and axes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from console.formatting import axis_time, price
from console.widgets.candles import LOWER, body_cells, closed_cells, forming_cells, ink_of
from console.widgets.scale import Scale
from console.widgets.spans import Line, Span, hatched
from engine.domain.market import Candle, CandleOrigin
from engine.domain.orders import Side
from engine.snapshot import Gap, MarkKind, SessionView

FORMING_WIDTH = 5
PITCHES = (1, 2, 4)
FAR = Decimal("1.2")
"""A stop or target further away than this many spans of the candles is named at the edge, not drawn."""

Cell = tuple[str, str]
BLANK: Cell = (" ", "text")


@dataclass(frozen=True)
class Level:
    """A horizontal line with a name."""

    name: str
    price: Decimal
    ink: str
    dash: str


@dataclass(frozen=True)
class Look:
    """How the chart is looked at: cells per candle, and how many candles back from the newest."""

    pitch: int = 2
    back: int = 0


def levels_of(view: SessionView) -> list[Level]:
    """Lines worth drawing, the most important last so that it is drawn over the others."""
    levels = []
    if view.position.average_price is not None and not view.position.is_flat:
        levels.append(Level("entry", view.position.average_price, "dim", "┈"))
    if view.target_price is not None:
        levels.append(Level("target", view.target_price, "ok", "╌"))
    if view.stop_price is not None:
        levels.append(Level("stop", view.stop_price, "block", "╌"))
    if view.last_price is not None:
        levels.append(Level("last", view.last_price, "accent", "┈"))
    return levels


def draw_chart(view: SessionView, scale: Scale, width: int, height: int, look: Look = Look()) -> list[Line]:
    """The whole chart in `width` x `height` cells; an empty state while there is nothing to draw."""
    tick = view.instrument.tick_size
    if not view.candles and view.forming is None:
        return hatched(width, height, (f"{view.instrument.symbol}: no candle yet", view.phase_detail or view.phase))
    newest = view.candles[-1] if view.candles else view.forming
    assert newest is not None
    named = width >= 64
    axis = len(price(newest.close, tick)) + (8 if named else 3)
    volume = 3 if height >= 22 else 2 if height >= 15 else 0
    rows = max(3, height - 2 - volume)
    plot = max(FORMING_WIDTH + look.pitch, width - axis)
    shown = _visible(view.candles, (plot - FORMING_WIDTH) // look.pitch, look.back)
    forming = view.forming if look.back == 0 else None
    levels = levels_of(view)
    _fit_scale(scale, [*shown, *([forming] if forming else [])], levels, tick)

    grid = [[BLANK] * plot for _ in range(rows)]
    labels: dict[int, tuple[str, str, str]] = {}
    for level in scale.steps(rows, 4 if rows > 12 else 3, tick):
        row = scale.row(level, rows)
        if 0 <= row < rows:
            labels[row] = (price(level, tick), "dim", "")
            grid[row] = [("·", "grid") if x % 4 == 0 else BLANK for x in range(plot)]
    for drawn in levels:
        row = scale.row(drawn.price, rows)
        inside = 0 <= row < rows
        edge = 0 if row < 0 else rows - 1
        if inside:
            grid[row] = [(drawn.dash, drawn.ink)] * plot
            labels[row] = (price(drawn.price, tick), drawn.ink, drawn.name)
        elif edge not in labels or not labels[edge][2]:
            labels[edge] = (price(drawn.price, tick), drawn.ink, f"{'▲' if row < 0 else '▼'}{drawn.name}")

    place = {candle.start: (index * look.pitch) + (1 if look.pitch == 4 else 0) for index, candle in enumerate(shown)}
    for candle in shown:
        middle = closed_cells(candle, scale, rows)
        _stamp(grid, place[candle.start], middle)
        if look.pitch == 4:
            beside = body_cells(candle, scale, rows)
            beside.update({row: ("━", ink) for row, (glyph, ink) in middle.items() if glyph in "┿┷┯"})
            for x in (-1, 1):
                _stamp(grid, place[candle.start] + x, beside)
    if forming is not None:
        ink = ink_of(forming)
        left = len(shown) * look.pitch + 1
        for row, glyphs in forming_cells(forming, scale, rows).items():
            for offset, glyph in enumerate(glyphs):
                if left + offset < plot and (glyph != " " or grid[row][left + offset][0] != " "):
                    grid[row][left + offset] = (glyph, ink)
        place[forming.start] = left + 1
    _stamp_fills(grid, view, scale, place, [*shown, *([forming] if forming else [])])

    lines = [
        (*_runs(cells), *_label(labels.get(row), axis, named, last=labels.get(row, ("", "", ""))[2] == "last"))
        for row, cells in enumerate(grid)
    ]
    lines += _volume(shown, forming, place, plot, volume, axis)
    lines.append(_marks(view, shown, place, plot, axis))
    lines.append(_times(view, shown, place, plot, axis))
    return lines


def _visible(candles: tuple[Candle, ...], count: int, back: int) -> list[Candle]:
    end = max(0, len(candles) - back)
    return list(candles[max(0, end - count) : end])


def _fit_scale(scale: Scale, candles: list[Candle], levels: Iterable[Level], tick: Decimal) -> None:
    low, high = min(c.low for c in candles), max(c.high for c in candles)
    span = max(high - low, tick * 4)
    for level in levels:
        if low - span * FAR <= level.price <= high + span * FAR:
            low, high = min(low, level.price), max(high, level.price)
    scale.cover(low, high, tick)


def _stamp(grid: list[list[Cell]], x: int, cells: dict[int, Cell]) -> None:
    for row, cell in cells.items():
        if 0 <= x < len(grid[row]):
            grid[row][x] = cell


def _stamp_fills(
    grid: list[list[Cell]], view: SessionView, scale: Scale, place: dict[int, int], candles: list[Candle]
) -> None:
    """Entries as full triangles, exits as hollow ones; buys under the candle, sells over it."""
    by_start = {candle.start: candle for candle in candles}
    rows = len(grid)
    for mark in view.marks:
        candle = by_start.get(view.timeframe.start_of(mark.at))
        if candle is None:
            continue
        buy = mark.side is Side.BUY
        row = scale.row(candle.low, rows) + 1 if buy else scale.row(candle.high, rows) - 1
        glyph = ("▲" if buy else "▼") if mark.kind is MarkKind.ENTRY else ("△" if buy else "▽")
        x = place[candle.start]
        if 0 <= row < rows and 0 <= x < len(grid[row]):
            grid[row][x] = (glyph, "bright")


def _runs(cells: Iterable[Cell]) -> list[Span]:
    """Neighbours of one ink as one span: fewer escape codes on the wire."""
    runs: list[Span] = []
    for glyph, ink in cells:
        ink = "text" if glyph == " " and not ink.endswith("~") else ink
        if runs and runs[-1].ink == ink:
            runs[-1] = Span(runs[-1].text + glyph, ink)
        else:
            runs.append(Span(glyph, ink))
    return runs


def _label(label: tuple[str, str, str] | None, axis: int, named: bool, *, last: bool) -> list[Span]:
    if label is None:
        return [Span(" " * axis)]
    text, ink, name = label
    word = name if named else name[:1].upper()
    pad = max(0, axis - len(text) - len(word) - 2)
    return [Span(" "), Span(text, f"{ink}~" if last else ink), Span(f" {word}{' ' * pad}", ink)]


def _volume(
    shown: list[Candle], forming: Candle | None, place: dict[int, int], plot: int, rows: int, axis: int
) -> list[Line]:
    if not rows:
        return []
    candles = [*shown, *([forming] if forming else [])]
    most = max((c.volume for c in candles), default=Decimal(0))
    grid = [[BLANK] * plot for _ in range(rows)]
    if most > 0:
        for candle in candles:
            height = round(candle.volume / most * rows * 8)
            x = place[candle.start]
            for row in range(rows):
                part = min(8, max(0, height - (rows - 1 - row) * 8))
                if part and x < plot:
                    grid[row][x] = (LOWER[part], "dim" if candle is forming else "grid")
    return [
        (*_runs(cells), Span((" volume" if row == 0 else "").ljust(axis)[:axis], "dim"))
        for row, cells in enumerate(grid)
    ]


def gap_before(candle: Candle, gaps: Iterable[Gap]) -> bool:
    """Whether a window that was never filled ends where this candle begins."""
    return any(gap.start < candle.start <= gap.end and not gap.closed for gap in gaps)


def candle_mark(view: SessionView, candle: Candle) -> Cell:
    """What is unusual about a closed candle: ≈ replaced, ○ backfilled, ◌ inserted, · warm-up, ╳ after an open gap."""
    if gap_before(candle, view.gaps):
        return "╳", "block"
    if candle.start in view.replaced:
        return "≈", "disagree"
    match candle.origin:
        case CandleOrigin.BACKFILLED:
            return "○", "warn"
        case CandleOrigin.INSERTED:
            return "◌", "warn"
        case CandleOrigin.WARMUP:
            return "·", "dim"
        case CandleOrigin.LIVE:
            return BLANK


def _marks(view: SessionView, shown: list[Candle], place: dict[int, int], plot: int, axis: int) -> Line:
    cells = [BLANK] * plot
    for candle in shown:
        if place[candle.start] < plot:
            cells[place[candle.start]] = candle_mark(view, candle)
    return (*_runs(cells), Span(" marks".ljust(axis)[:axis], "dim"))


def _times(view: SessionView, shown: list[Candle], place: dict[int, int], plot: int, axis: int) -> Line:
    text = [" "] * plot
    free = 0
    for candle in shown:
        label = axis_time(candle.start, view.timeframe.ms)
        x = place[candle.start]
        round_time = candle.start // view.timeframe.ms % 5 == 0
        if round_time and x >= free and x + len(label) <= plot:
            text[x : x + len(label)] = label
            free = x + len(label) + 6
    return (Span("".join(text), "dim"), Span(" UTC".ljust(axis)[:axis], "faint"))

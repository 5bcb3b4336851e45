"""The chart of one session as lines: closed candles, the forming one, its levels, marks, volume and axes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from operator import itemgetter

from console.formatting import axis_time, price, size
from console.widgets.bars import gather
from console.widgets.candles import (
    LOWER,
    REVERSED,
    Shape,
    body_cells,
    closed_cells,
    forming_cells,
    ink_of,
    shaded,
    thin_cells,
)
from console.widgets.marks import GAP, fill_glyph, mark_of
from console.widgets.scale import Scale, Tag, place_tags
from console.widgets.sheet import FOLLOWING, Look, Sheet, box, lay_out
from console.widgets.spans import Line, Span
from engine.domain.market import DAY_MS
from engine.domain.orders import Side
from engine.snapshot import SessionView

TIME_STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800,
)  # fmt: skip
"""Seconds between two labels of the time axis."""

Cell = tuple[str, str]
BLANK: Cell = (" ", "text")
_GLYPH = itemgetter(0)


def draw_chart(view: SessionView, scale: Scale, width: int, height: int, look: Look = FOLLOWING) -> list[Line]:
    """The whole chart; no line while there is no candle."""
    bars = gather(view.candles, view.forming, view.timeframe, look.wide or view.timeframe)
    forming = bars.pop() if bars and bars[-1].forming else None
    sheet = lay_out(view, (bars, forming), scale, width, height, look)
    return [] if sheet is None else draw_sheet(sheet, scale)


def draw_sheet(sheet: Sheet, scale: Scale) -> list[Line]:
    """Plot with axis, volume, marks, times: every line is as wide as the sheet."""
    rows, plot = sheet.rows, sheet.plot
    tick = sheet.view.instrument.tick_size
    grid = [[BLANK] * plot for _ in range(rows)]
    tags = []
    for step in scale.steps(rows, 4 if rows > 12 else 3, tick):
        row = scale.row(step, rows)
        if 0 <= row < rows:
            tags.append(Tag(row, price(step, tick), "dim"))
            grid[row] = [("·", "grid") if x % 4 == 0 else BLANK for x in range(plot)]
    for level in sheet.levels:
        row = scale.row(level.price, rows)
        if 0 <= row < rows:
            grid[row] = [(level.dash, level.ink)] * plot
        tags.append(Tag(row, price(level.price, tick), level.ink, level.name, level.rank, level.price))
    placed = place_tags(tags, rows)
    crossed = sheet.crossed
    if crossed is not None:
        _cross(grid, sheet, scale, placed)
    _candles(grid, sheet, scale)
    _fills(grid, sheet, scale)
    lines: list[Line] = [
        (*_runs(cells), *_label(placed.get(row), row, sheet.digits, sheet.axis)) for row, cells in enumerate(grid)
    ]
    lines += _volume(sheet)
    lines.append(_marks(sheet))
    lines.append(_times(sheet))
    return lines


def _cross(grid: list[list[Cell]], sheet: Sheet, scale: Scale, placed: dict[int, Tag]) -> None:
    """The crosshair's lines where nothing else is drawn, its price on the axis over whatever stands there."""
    assert sheet.level is not None
    rows = len(grid)
    row = max(0, min(rows - 1, scale.row(sheet.level, rows)))
    grid[row] = [("─", "text") if glyph in " ·" else (glyph, ink) for glyph, ink in grid[row]]
    x = sheet.place[sheet.look.cross or 0]
    for y in range(rows):
        if grid[y][x][0] in " ·─┄┈╌╍":
            grid[y][x] = ("┼", "text") if y == row else ("┊", "text")
    tick = sheet.view.instrument.tick_size
    placed[row] = Tag(row, price(sheet.level, tick), "text" + REVERSED, "", 0)


def _candles(grid: list[list[Cell]], sheet: Sheet, scale: Scale) -> None:
    rows, look = len(grid), sheet.look
    height = scale.heights(rows)
    sides = max(0, look.pitch - 2) // 2
    for bar in sheet.closed:
        ink = ink_of(bar.candle) if bar.complete else "dim"
        shape = Shape.of(bar.candle, height)
        middle = thin_cells(shape, rows) if look.pitch == 1 else closed_cells(shape, rows)
        columns = [(0, middle)]
        if sides:
            body = body_cells(shape, rows)
            columns += [(x, body) for side in range(1, sides + 1) for x in (-side, side)]
        falls = look.shaded and bar.candle.close < bar.candle.open
        for offset, cells in columns:
            x = sheet.place[bar.start] + offset
            for row, (glyph, reverse) in (shaded(cells) if falls else cells).items():
                if 0 <= x < sheet.plot:
                    grid[row][x] = (glyph, ink + REVERSED if reverse else ink)
    if sheet.forming is not None:
        ink = "stale" if look.stale else ink_of(sheet.forming.candle)
        width = box(look.pitch)
        left = sheet.place[sheet.forming.start] - width // 2
        for row, glyphs in forming_cells(Shape.of(sheet.forming.candle, height), rows, width).items():
            for x, glyph in enumerate(glyphs, start=left):
                if 0 <= x < sheet.plot and (glyph != " " or grid[row][x][0] != " "):
                    grid[row][x] = BLANK if glyph == " " else (glyph, ink)


def _fills(grid: list[list[Cell]], sheet: Sheet, scale: Scale) -> None:
    """Buys under the candle, sells over it, several one after another; at the plot's edge back over the candle."""
    rows = len(grid)
    for bar in sheet.bars:
        x, taken = sheet.place[bar.start], set[int]()
        for mark in sheet.fills.get(bar.start, ()) if 0 <= x < sheet.plot else ():
            if mark.side is Side.BUY:
                away = range(max(0, scale.row(bar.candle.low, rows) + 1), rows)
                back = range(rows - 1, -1, -1)
            else:
                away = range(min(rows - 1, scale.row(bar.candle.high, rows) - 1), -1, -1)
                back = range(rows)
            row = next((row for row in (*away, *back) if row not in taken), None)
            if row is not None:
                taken.add(row)
                grid[row][x] = (fill_glyph(mark), "bright")


def _runs(cells: Sequence[Cell]) -> list[Span]:
    """Neighbours of one ink as one span, blanks with whatever stands before them: fewer escape codes on the wire."""
    text = "".join(map(_GLYPH, cells))
    if text.isspace():
        return [Span(text)]
    runs: list[Span] = []
    begin, last, loud = 0, "text", False
    for x, (glyph, ink) in enumerate(cells):
        if glyph == " ":
            if not loud:
                continue
            ink = "text"
        if ink != last:
            if x > begin:
                runs.append(Span(text[begin:x], last))
            begin, last, loud = x, ink, ink.endswith(REVERSED)
    runs.append(Span(text[begin:], last))
    return runs


def _label(tag: Tag | None, row: int, digits: int, axis: int) -> list[Span]:
    """A price and its name; an arrow in front when the price is on another row than its label, or beyond the plot."""
    if tag is None:
        return [Span(" " * axis)]
    lead = " " if tag.row == row else "▲" if tag.row < row else "▼"
    room = max(0, axis - digits - 1)
    name = tag.name if room >= 7 else tag.name[:1].upper()
    loud = tag.ink + REVERSED if tag.name == "last" else tag.ink
    return [
        Span(lead, tag.ink.removesuffix(REVERSED)),
        Span(f"{tag.text:>{digits}}"[:digits], loud),
        Span(f" {name}".ljust(room)[:room], tag.ink.removesuffix(REVERSED)),
    ]


def _nice(most: Decimal) -> Decimal:
    """The next round number: a top for the volume that does not move with every trade."""
    power = Decimal(1).scaleb(most.adjusted())
    return next(
        (power * tenths / 10 for tenths in (10, 15, 20, 30, 40, 50, 60, 80) if power * tenths / 10 >= most), power * 10
    )


def _volume(sheet: Sheet) -> list[Line]:
    rows = sheet.volume_rows
    most = max((bar.candle.volume for bar in sheet.bars), default=Decimal(0))
    if not rows:
        return []
    grid = [[BLANK] * sheet.plot for _ in range(rows)]
    top = _nice(most) if most > 0 else Decimal(1)
    sides = max(0, sheet.look.pitch - 2) // 2
    for bar in sheet.bars:
        height = round(float(bar.candle.volume / top) * rows * 8) if most > 0 else 0
        columns = range(sheet.place[bar.start] - sides, sheet.place[bar.start] + sides + 1)
        ink = "text" if bar.start == sheet.look.cross else "dim" if bar.forming else "faint"
        for row in range(rows):
            part = min(8, max(0, height - (rows - 1 - row) * 8))
            for x in columns if part else ():
                if 0 <= x < sheet.plot:
                    grid[row][x] = (LOWER[part], ink)
    words = [f" vol {size(top)}", *[""] * (rows - 1)]
    return [
        (*_runs(cells), Span(word.ljust(sheet.axis)[: sheet.axis], "dim"))
        for cells, word in zip(grid, words, strict=True)
    ]


def _marks(sheet: Sheet) -> Line:
    cells = [BLANK] * sheet.plot
    for bar in sheet.bars:
        cells[sheet.place[bar.start]] = mark_of(bar, sheet.view.replaced, gap=bar.start in sheet.gaps)
    if sheet.unfilled and sheet.look.until is None:
        cells[-1] = (GAP, "block")
    return (*_runs(cells), Span(" marks".ljust(sheet.axis)[: sheet.axis], "dim"))


def _times(sheet: Sheet) -> Line:
    """Labels at round times, far enough apart; under the crosshair the bar's own."""
    plot, crossed = sheet.plot, sheet.crossed
    tag, left = "", plot
    if crossed is not None:
        tag = axis_time(crossed.start, sheet.wide.ms)
        left = max(0, min(sheet.place[crossed.start] - len(tag) // 2, plot - len(tag)))
    text = [" "] * plot
    room = (8 if sheet.wide.ms < 60_000 else 5) + 4
    per_label = sheet.wide.ms * -(-room // sheet.look.pitch)
    step = next((1_000 * s for s in TIME_STEPS_S if 1_000 * s >= per_label), 1_000 * TIME_STEPS_S[-1])
    free, day = 0, None
    for bar in sheet.closed:
        x = sheet.place[bar.start]
        if bar.start % step or x < free:
            continue
        today = bar.start // DAY_MS
        label = axis_time(bar.start, DAY_MS if day is not None and today != day else sheet.wide.ms)
        day, end = today, x + len(label)
        if end <= plot and not (tag and x <= left + len(tag) and left <= end):
            text[x:end] = label
            free = end + 2
    unit = Span(f" UTC {sheet.wide}".ljust(sheet.axis)[: sheet.axis], "dim")
    if not tag:
        return (Span("".join(text), "dim"), unit)
    head, tail = "".join(text[:left]), "".join(text[left + len(tag) :])
    return (Span(head, "dim"), Span(tag, "text" + REVERSED), Span(tail, "dim"), unit)

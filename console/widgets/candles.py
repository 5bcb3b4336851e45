"""A candle in cells: eighth blocks for the body's ends, half lines for the wick's, a hollow box for the forming one.

No glyph has both a wide body and a thin wick, so where an end of the body and a wick share a cell, what is longer in it
is drawn; a high or a low is never further off than half a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from console.widgets.scale import EIGHTHS
from engine.domain.market import Candle

LOWER = " ▁▂▃▄▅▆▇█"
REVERSED = "~"
SHADE = "▒"
_HALF_LINES = {"  ": " ", "w ": "╵", " w": "╷", "ww": "│", "b ": "╹", " b": "╻", "bb": "┃", "wb": "╽", "bw": "╿"}
"""(upper half, lower half) of a cell, each empty, wick or body."""

_WICKS = {"│": "┿", "╵": "┷", "╷": "┯"}
"""A wick alone, and with a small body on it."""

Glyph = tuple[str, bool]
"""A glyph and whether its colours are reversed."""


class Shape(NamedTuple):
    """A candle as heights above the bottom, in eighths of a cell."""

    high: int
    top: int
    bottom: int
    low: int

    @classmethod
    def of(cls, candle: Candle, height: Callable[[Decimal], int]) -> Shape:
        """The heights of a candle's four prices."""
        ends = height(candle.open), height(candle.close)
        return cls(height(candle.high), max(ends), min(ends), height(candle.low))


def is_up(candle: Candle) -> bool:
    """Whether the close is not below the open."""
    return candle.close >= candle.open


def ink_of(candle: Candle) -> str:
    """Long for a rising candle, short for a falling one."""
    return "long" if is_up(candle) else "short"


@lru_cache(4_096)
def closed_cells(shape: Shape, rows: int) -> Mapping[int, Glyph]:
    """Row from the top -> glyph of a closed candle's middle column."""
    cells: dict[int, Glyph] = {}
    for level in _levels(max(shape.high, shape.bottom + 1), shape.low, rows):
        cell = _cell(level * EIGHTHS, shape)
        if cell[0] != " ":
            cells[rows - 1 - level] = cell
    middle = rows - 1 - (shape.top + shape.bottom) // 2 // EIGHTHS
    if middle in cells and all(glyph in _WICKS for glyph, _ in cells.values()):
        cells[middle] = (_WICKS[cells[middle][0]], False)
    return cells


@lru_cache(4_096)
def body_cells(shape: Shape, rows: int) -> Mapping[int, Glyph]:
    """The same for a column beside the middle: the body as far as the middle shows it, and no wick."""
    return {
        row: ("━", False) if glyph in _WICKS.values() else (glyph, reverse)
        for row, (glyph, reverse) in closed_cells(shape, rows).items()
        if glyph not in _WICKS
    }


@lru_cache(4_096)
def thin_cells(shape: Shape, rows: int) -> Mapping[int, Glyph]:
    """A candle that has one column and neighbours on both sides: heavy line for the body, light one for the wick."""
    cells: dict[int, Glyph] = {}
    half = EIGHTHS // 2
    first, last = round(shape.bottom / half), round(shape.top / half)
    if first == last:
        first, last = shape.bottom // half, shape.bottom // half + 1
    low, high = min(first, round(shape.low / half)), max(last, round(shape.high / half))
    for level in range(max(0, low // 2), min(rows - 1, (high - 1) // 2) + 1):
        halves = "".join(
            "b" if first <= part < last else "w" if low <= part < high else " " for part in (2 * level + 1, 2 * level)
        )
        if halves != "  ":
            cells[rows - 1 - level] = (_HALF_LINES[halves], False)
    return cells


def shaded(cells: Mapping[int, Glyph]) -> Mapping[int, Glyph]:
    """A falling candle where there is no colour to tell it by."""
    return {
        row: ("╏", False) if glyph == "┃" else (SHADE, False) if glyph in "▅▆▇█" and not reverse else (glyph, reverse)
        for row, (glyph, reverse) in cells.items()
    }


def _levels(high: int, low: int, rows: int) -> range:
    """Cells from the bottom that a stretch of eighths touches; one that only ends at a cell's floor is not in it."""
    return range(max(0, low // EIGHTHS), min(rows - 1, max(low, high - 1) // EIGHTHS) + 1)


def _cell(floor: int, shape: Shape) -> Glyph:
    """Glyph of the cell [floor, floor + 8)."""
    ceiling = floor + EIGHTHS
    high, top, bottom, low = shape
    flat = top == bottom and floor <= top < ceiling
    if not flat and (top <= floor or bottom >= ceiling):
        return _wick(min(high, ceiling) - floor, max(low, floor) - floor), False
    head, foot = min(top, ceiling) - floor, max(bottom, floor) - floor
    reach, root = min(high, ceiling) - floor, max(low, floor) - floor
    if head == EIGHTHS and foot == 0:
        return "█", False
    if foot == 0 and bottom < floor:
        if reach - head >= 3 and (head <= 3 or (head == 4 and reach == EIGHTHS)):
            return ("│" if reach >= 6 else "╷"), False
        return LOWER[max(1, head)], False
    if head == EIGHTHS and top >= ceiling:
        if foot - root >= 3 and (foot >= 5 or (foot == 4 and root == 0)):
            return ("│" if root <= 2 else "╵"), False
        return ("▀", False) if foot == 4 else (LOWER[foot], True) if foot else ("█", False)
    return _small_body(head, foot, reach, root)


def _small_body(head: int, foot: int, reach: int, root: int) -> Glyph:
    """A body that begins and ends inside one cell, and the stretch [root, reach] of its candle in that cell."""
    if foot <= 1 and head >= 3 and reach - head <= 3:
        return LOWER[head], False
    if head >= 7 and foot <= 5 and foot - root <= 3:
        return ("▀", False) if foot == 4 else (LOWER[foot], True)
    wick_above, wick_below = reach > head and reach >= 6, root < foot and root <= 2
    if wick_above and wick_below:
        return "┿", False
    if wick_above:
        return "┷", False
    if wick_below:
        return "┯", False
    if foot == 0 or head + foot <= 6:
        return LOWER[max(1, head)], False
    return ("▔" if foot >= 6 else "━"), False


def _wick(upper: int, lower: int) -> str:
    """A wick from `lower` to `upper` inside a cell without body."""
    if upper - lower >= 6 or (upper - lower >= 3 and lower < 3 and upper > 5):
        return "│"
    if upper - lower < 1:
        return " "
    return "╷" if upper + lower <= EIGHTHS else "╵"


def forming_cells(shape: Shape, rows: int, width: int = 3) -> dict[int, str]:
    """Row from the top -> `width` (odd) glyphs of the forming candle: a hollow box, unlike any closed one.

    The box's edges run through the middle of their rows; a wick ends at half a row.
    """
    side = (width - 1) // 2
    pad, bar = " " * side, "─" * (side - 1)
    top, bottom = shape.top // EIGHTHS, shape.bottom // EIGHTHS
    half = EIGHTHS // 2
    cells: dict[int, str] = {}
    for level in _levels(shape.high, shape.low, rows):
        floor = level * EIGHTHS
        if level > top:
            glyph = "│" if shape.high - floor > half else "╷"
        elif level < bottom:
            glyph = "│" if shape.low - floor < half else "╵"
        else:
            continue
        cells[level] = f"{pad}{glyph}{pad}"
    above = shape.high - top * EIGHTHS > half + 1 and shape.high > shape.top
    below = shape.low - bottom * EIGHTHS < half - 1 and shape.low < shape.bottom
    if top == bottom:
        middle = {(True, True): "┼", (True, False): "┴", (False, True): "┬"}.get((above, below), "─")
        cells[top] = f"╶{bar}{middle}{bar}╴"
    else:
        cells.update(dict.fromkeys(range(bottom + 1, top), f"│{' ' * (width - 2)}│"))
        cells[top] = f"┌{bar}{'┴' if above else '─'}{bar}┐"
        cells[bottom] = f"└{bar}{'┬' if below else '─'}{bar}┘"
    return {rows - 1 - level: glyphs for level, glyphs in cells.items() if 0 <= level < rows}


def lying(candle: Candle, width: int) -> str:
    """A candle on its side in `width` cells: thin for the range, thick from open to close."""
    span = candle.high - candle.low
    if not span or width < 3:
        return "╶" + "┿" * max(1, min(1, width - 2)) + "╴"
    ends = sorted((candle.open, candle.close))
    left, right = (max(0, min(width - 1, round((end - candle.low) / span * (width - 1)))) for end in ends)
    cells = ["─"] * width
    for place in range(left, right + 1):
        cells[place] = "━"
    if left == right:
        cells[left] = "┿"
    return "".join(cells)

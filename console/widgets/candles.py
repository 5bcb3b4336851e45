"""A candle in cells: eighth blocks for the body's ends, half lines for the wick's, a hollow box for the forming one."""

from __future__ import annotations

from decimal import Decimal

from console.widgets.scale import EIGHTHS, Scale
from engine.domain.market import Candle

LOWER = " ▁▂▃▄▅▆▇█"
REVERSED = "~"


def is_up(candle: Candle) -> bool:
    """Whether the close is not below the open."""
    return candle.close >= candle.open


def ink_of(candle: Candle) -> str:
    """Long for a rising candle, short for a falling one."""
    return "long" if is_up(candle) else "short"


def closed_cells(candle: Candle, scale: Scale, rows: int) -> dict[int, tuple[str, str]]:
    """Row from the top -> (glyph, ink) of a closed candle's middle column."""
    ink = ink_of(candle)
    top = scale.eighth(max(candle.open, candle.close), rows)
    bottom = scale.eighth(min(candle.open, candle.close), rows)
    high, low = scale.eighth(candle.high, rows), scale.eighth(candle.low, rows)
    cells: dict[int, tuple[str, str]] = {}
    for level in range(max(0, low // EIGHTHS), min(rows - 1, high // EIGHTHS) + 1):
        glyph, reverse = _cell(level * EIGHTHS, top, bottom, high, low)
        if glyph != " ":
            cells[rows - 1 - level] = (glyph, ink + REVERSED if reverse else ink)
    return cells


def body_cells(candle: Candle, scale: Scale, rows: int) -> dict[int, tuple[str, str]]:
    """The same for a column beside the middle, which shows the body and no wick."""
    flat = Candle(candle.start, candle.open, max(candle.open, candle.close), min(candle.open, candle.close),
                  candle.close, candle.volume)  # fmt: skip
    return closed_cells(flat, scale, rows)


def _cell(floor: int, top: int, bottom: int, high: int, low: int) -> tuple[str, bool]:
    """Glyph of the cell [floor, floor + 8) and whether its colours are reversed; all in eighths.

    A cell has one glyph, so where the body's end and a wick share it the larger of the two is drawn.
    """
    ceiling = floor + EIGHTHS
    if (top <= floor and bottom < floor) or top < floor or bottom >= ceiling:
        return _wick(min(high, ceiling) - floor, max(low, floor) - floor), False
    body_top, body_bottom = min(top, ceiling) - floor, max(bottom, floor) - floor
    if body_top == EIGHTHS and body_bottom == 0:
        return "█", False
    if body_bottom == 0 and bottom < floor:
        reach = min(high, ceiling) - floor
        if body_top <= 3 and reach - body_top >= 3:
            return ("│" if reach >= 6 else "╷"), False
        return LOWER[max(1, body_top)], False
    if body_top == EIGHTHS and top >= ceiling:
        reach = max(low, floor) - floor
        if body_bottom >= 5 and body_bottom - reach >= 3:
            return ("│" if reach <= 2 else "╵"), False
        return LOWER[body_bottom], body_bottom > 0
    return _small_body(body_top, body_bottom, high > floor + body_top, low < floor + body_bottom), False


def _small_body(top: int, bottom: int, wick_above: bool, wick_below: bool) -> str:
    """A body that begins and ends inside one cell."""
    if wick_above and wick_below:
        return "┿"
    if wick_above:
        return "┷"
    if wick_below:
        return "┯"
    if bottom == 0 or top + bottom <= 6:
        return LOWER[max(1, top)]
    return "▔" if bottom >= 6 else "━"


def _wick(upper: int, lower: int) -> str:
    """A wick from `lower` to `upper` inside a cell without body."""
    if upper - lower >= 6 or (upper - lower >= 3 and lower < 3 and upper > 5):
        return "│"
    if upper - lower < 1:
        return " "
    return "╷" if upper + lower <= EIGHTHS else "╵"


def forming_cells(candle: Candle, scale: Scale, rows: int) -> dict[int, str]:
    """Row from the top -> three glyphs of the forming candle: a hollow box, unlike any closed one."""
    top, bottom = (scale.row(level, rows) for level in _ends(candle))
    high, low = scale.row(candle.high, rows), scale.row(candle.low, rows)
    cells = dict.fromkeys(range(max(0, high), min(rows - 1, low) + 1), " │ ")
    above, below = high < top, low > bottom
    if top == bottom:
        cells[top] = {(True, True): "╶┼╴", (True, False): "╶┴╴", (False, True): "╶┬╴"}.get((above, below), "╶─╴")
    else:
        cells.update(dict.fromkeys(range(top + 1, bottom), "│ │"))
        cells[top] = "┌┴┐" if above else "┌─┐"
        cells[bottom] = "└┬┘" if below else "└─┘"
    return {row: glyphs for row, glyphs in cells.items() if 0 <= row < rows}


def _ends(candle: Candle) -> tuple[Decimal, Decimal]:
    return max(candle.open, candle.close), min(candle.open, candle.close)


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

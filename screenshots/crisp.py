"""Block characters of a picture as rectangles: exact and without seams, whatever font the reader has."""

from __future__ import annotations

import re
from html import unescape
from itertools import groupby
from xml.sax.saxutils import escape

CELL_WIDTH, CELL_HEIGHT = 12.2, 24.4
BASELINE = 18.5
"""From the top of a cell down to the line its text stands on, in the picture's own units."""
BLOCKS: dict[str, tuple[float, float, float, float]] = {
    **{glyph: (0, 1 - eighths / 8, 1, 1) for eighths, glyph in enumerate("▁▂▃▄▅▆▇█", start=1)},
    **{glyph: (0, 0, eighths / 8, 1) for eighths, glyph in enumerate("▏▎▍▌▋▊▉", start=1)},
    "▀": (0, 0, 1, 0.5),
    "▔": (0, 0, 1, 0.125),
}  # fmt: skip
"""Left, top, right and bottom of the inked part of a cell, in cells."""
_TEXT = re.compile(
    r'<text class="(?P<ink>[^"]+)" x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" textLength="[\d.]+"'
    r'(?P<clip> clip-path="[^"]+")>(?P<text>[^<]*)</text>'
)


def crisp(picture: str) -> str:
    """The same SVG, as Rich writes it, with rectangles for its block characters."""
    return _TEXT.sub(_redrawn, picture)


def _redrawn(found: re.Match[str]) -> str:
    text = unescape(found["text"])
    if not any(glyph in BLOCKS for glyph in text):
        return found[0]
    left, baseline = float(found["x"]), float(found["y"])
    parts: list[str] = []
    for block, run in groupby(text, key=lambda glyph: glyph if glyph in BLOCKS else ""):
        letters = "".join(run)
        width = len(letters) * CELL_WIDTH
        if block:
            parts.append(_rectangle(found["ink"], block, left, baseline - BASELINE, len(letters)))
        elif letters.strip():
            words = escape(letters).replace("\xa0", "&#160;")
            parts.append(
                f'<text class="{found["ink"]}" x="{left:g}" y="{baseline:g}" textLength="{width:g}"{found["clip"]}>'
                f"{words}</text>"
            )
        left += width
    return "".join(parts)


def _rectangle(ink: str, block: str, left: float, top: float, cells: int) -> str:
    """A run of one block: whole glyphs wide, so that neighbours become one rectangle."""
    x1, y1, x2, y2 = BLOCKS[block]
    width = (cells - 1 + x2 - x1) * CELL_WIDTH
    return (
        f'<rect class="{ink}" x="{left + x1 * CELL_WIDTH:g}" y="{top + y1 * CELL_HEIGHT:g}" width="{width:g}" '
        f'height="{(y2 - y1) * CELL_HEIGHT:g}" shape-rendering="crispEdges"/>'
    )

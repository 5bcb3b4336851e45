"""How a table's columns share a line: fixed widths, and on narrow terminals the least important ones leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from console.widgets.spans import Line, Span, fit, text_of, width_of


class Align(StrEnum):
    """Where a cell's text stands; POINT lines decimal points up under one another."""

    LEFT = "left"
    RIGHT = "right"
    POINT = "point"


@dataclass(frozen=True)
class Column:
    """A column of fixed `width`; `rank` 0 always stays, higher ranks leave first; `grows` takes what is left over."""

    title: str
    width: int
    align: Align = Align.LEFT
    rank: int = 0
    grows: bool = False


@dataclass(frozen=True)
class Row:
    """A row with a key of its own, so that the cursor stays on it wherever it moves."""

    key: str
    cells: tuple[Line, ...]


GAP = 2


def arrange(columns: Sequence[Column], width: int) -> list[tuple[int, int]]:
    """(index, width) of the columns that fit, in their own order."""
    kept: list[int] = []
    used = 1
    for index in sorted(range(len(columns)), key=lambda i: (columns[i].rank, i)):
        need = columns[index].width + GAP
        if used + need - GAP > width and columns[index].rank:
            continue
        kept.append(index)
        used += need
    spare = max(0, width - used + GAP)
    growing = [index for index in sorted(kept) if columns[index].grows]
    arranged = []
    for index in sorted(kept):
        extra = spare // len(growing) if index in growing else 0
        if growing and index == growing[-1]:
            extra = spare - spare // len(growing) * (len(growing) - 1)
        arranged.append((index, columns[index].width + extra))
    return arranged


def header_line(columns: Sequence[Column], arranged: Sequence[tuple[int, int]]) -> Line:
    """The titles above their columns."""
    spans: list[Span] = [Span(" ")]
    for index, width in arranged:
        column = columns[index]
        spans += fit((Span(column.title, "title"),), width, right=column.align is not Align.LEFT)
        spans.append(Span(" " * GAP))
    return tuple(spans[:-1])


def row_lines(columns: Sequence[Column], arranged: Sequence[tuple[int, int]], rows: Sequence[Row]) -> list[Line]:
    """The rows, each cell cut and aligned in its column."""
    tails = {
        index: [_tail(row.cells[index]) for row in rows] for index, _ in arranged if columns[index].align is Align.POINT
    }
    drawn: list[Line] = []
    for number, row in enumerate(rows):
        spans: list[Span] = [Span(" ")]
        for index, width in arranged:
            column, cell = columns[index], row.cells[index]
            if column.align is Align.POINT and (own := tails[index][number]) is not None:
                widest = max(tail for tail in tails[index] if tail is not None)
                pad = min(widest - own, max(0, width - width_of(cell)))
                cell = (*cell, Span(" " * pad)) if pad else cell
            spans += fit(cell, width, right=column.align is not Align.LEFT)
            spans.append(Span(" " * GAP))
        drawn.append(tuple(spans[:-1]))
    return drawn


def _tail(cell: Line) -> int | None:
    """Cells from the decimal point to the end, None for what is no number."""
    text = text_of(cell).rstrip()
    if not any(c.isdigit() for c in text):
        return None
    return len(text) - text.index(".") if "." in text else 0

"""Lines of text as plain values: spans with the name of an ink, before any terminal or theme knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from rich.cells import cell_len, chop_cells, set_cell_size

from console.formatting import plain

INKS = (
    "text", "bright", "dim", "faint", "accent", "title", "long", "short", "ok", "warn", "block", "stale",
    "disagree", "grid", "paper", "live", "alarm", "caution", "quiet", "key", "tag",
)  # fmt: skip
"""Every ink a span may ask for; console.tcss gives each its colour."""


class Span(NamedTuple):
    """A run of text in one ink; `act` is an action of the app to run when it is clicked."""

    text: str
    ink: str = "text"
    act: str = ""


Line: TypeAlias = tuple[Span, ...]
EMPTY: Line = ()


def line(*parts: str | Span | tuple[str, str]) -> Line:
    """A line from strings and (text, ink) pairs."""
    return tuple(
        Span(part) if isinstance(part, str) else part if isinstance(part, Span) else Span(*part) for part in parts
    )


def outside(text: str, ink: str = "text") -> Span:
    """Text that somebody else wrote: made printable, never read as markup."""
    return Span(plain(text), ink)


def harmless(spans: Line) -> Line:
    """The same line; should a control character have got this far, without it."""
    if all(span.text.isprintable() for span in spans):
        return spans
    return tuple(span if span.text.isprintable() else span._replace(text=plain(span.text)) for span in spans)


def width_of(spans: Line) -> int:
    """Cells that a line takes."""
    return sum(cell_len(span.text) for span in spans)


def text_of(spans: Line) -> str:
    """A line's text alone."""
    return "".join(span.text for span in spans)


def fit(spans: Line, width: int, *, right: bool = False) -> Line:
    """Cut or pad a line to exactly `width` cells; a cut shows an ellipsis."""
    total = width_of(spans)
    if total == width:
        return spans
    if total < width:
        pad = Span(" " * (width - total))
        return (pad, *spans) if right else (*spans, pad)
    kept: list[Span] = []
    room = max(0, width - 1)
    for span in spans:
        cells = cell_len(span.text)
        if cells > room:
            kept.append(Span(set_cell_size(span.text, room) + ("…" if width else ""), span.ink, span.act))
            break
        kept.append(span)
        room -= cells
    return tuple(kept)


def spread(left: Line, right: Line, width: int) -> Line:
    """`left` at the left edge and `right` at the right one; the left is cut first."""
    room = width - width_of(right)
    if room < 8:
        return fit(left, width)
    return (*fit(left, room - 1), Span(" "), *right)


def merged(spans: Line) -> Line:
    """Neighbours of one ink as one span: fewer escape codes on the wire."""
    runs: list[Span] = []
    for span in spans:
        if not span.text:
            continue
        if runs and runs[-1].ink == span.ink and runs[-1].act == span.act:
            runs[-1] = Span(runs[-1].text + span.text, span.ink, span.act)
        else:
            runs.append(span)
    return tuple(runs)


def wrap(text: str, width: int, ink: str = "text", indent: str = "") -> list[Line]:
    """Plain text on as many lines as it needs, broken at spaces."""
    width = max(8, width)
    lines: list[str] = []
    current = ""
    for word in plain(text).split():
        while cell_len(word) > width - len(indent):
            head, *rest = chop_cells(word, width - len(indent))
            if current:
                lines.append(current)
                current = ""
            lines.append(head)
            word = "".join(rest)
        start = indent if lines else ""
        joined = f"{current} {word}" if current else start + word
        if cell_len(joined) > width:
            lines.append(current)
            current = indent + word
        else:
            current = joined
    if current or not lines:
        lines.append(current)
    return [(Span(item, ink),) for item in lines]


def hatched(width: int, height: int, words: Sequence[str]) -> list[Line]:
    """An empty state: faint hatching with words in the middle that say what to do."""
    width, height = max(1, width), max(1, height)
    rows: list[Line] = [line(("╱" * width, "faint")) for _ in range(height)]
    room = min(width, max((cell_len(word) for word in words), default=0) + 4)
    padded = ["", *words, ""] if height >= len(words) + 2 else list(words)
    top = max(0, (height - len(padded)) // 2)
    for index, word in enumerate(padded[:height]):
        inside = fit(line((word, "dim" if index > 1 else "text")), room - 4) if word else line(" " * (room - 4))
        side = (width - room) // 2
        rows[top + index] = line(("╱" * side, "faint"), "  ", *inside, "  ", ("╱" * (width - room - side), "faint"))
    return rows


def changed(old: Line, new: Line, width: int) -> tuple[int, int] | None:
    """The cells [from, to) in which two drawn lines differ, None when they are the same."""
    if old == new:
        return None
    head = 0
    for before, after in zip(old, new, strict=False):
        if before != after:
            if (before.ink, before.act) == (after.ink, after.act):
                head += cell_len(_common(before.text, after.text))
            break
        head += cell_len(after.text)
    if width_of(old) != width_of(new):
        return min(head, width), width
    tail = 0
    for before, after in zip(reversed(old), reversed(new), strict=False):
        if before != after:
            if (before.ink, before.act) == (after.ink, after.act):
                tail += cell_len(_common(before.text[::-1], after.text[::-1]))
            break
        tail += cell_len(after.text)
    return min(head, width), max(head + 1, min(width, width_of(new) - tail))


def _common(one: str, other: str) -> str:
    """What both begin with."""
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]

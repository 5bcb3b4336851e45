"""Widgets drawn line by line: a drawing function gives spans, only cells that differ from the last drawing repaint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from console.formatting import plain
from console.widgets.spans import EMPTY, INKS, Line, changed, fit, harmless, merged

Drawing: TypeAlias = Callable[[int, int], list[Line]]
"""(width, height) -> lines; a pure function of what it closes over."""

REVERSED = "~"
"""Appended to an ink's name: paint the background in it and the glyph in the background's colour."""


def entitle(widget: Widget, title: str | None = None, subtitle: str | None = None) -> None:
    """Set what is given of title and subtitle into a widget's border.

    They are text alone: brackets stay brackets. What stands there already is left alone, for Textual paints the
    whole widget anew for a title.
    """
    for name, text in (("border_title", title), ("border_subtitle", subtitle)):
        if text is not None:
            content = Content(plain(text))
            if getattr(widget, name) != content.markup:
                setattr(widget, name, content)


INK_CLASSES = {f"lines--{ink}" for ink in INKS}
"""Component classes of every screen that holds lines: styled once for a screen, not once for each of its widgets."""


class Lines(Widget):
    """Base of everything drawn line by line.

    | Component class | Stands for |
    |---|---|
    | `lines--<ink>` | each ink of console.widgets.spans.INKS; of the screen, for they are the same for all of it |
    | `lines--cursor` | the marked line |
    """

    COMPONENT_CLASSES = {"lines--cursor"}

    def __init__(self, *, id: str | None = None, classes: str | None = None, title: str = "") -> None:
        super().__init__(id=id, classes=classes, markup=False)
        self._drawn: list[Line] = []
        self._marked: int | None = None
        self._inks: dict[str, Style] = {}
        self.repainted: list[Region] = []
        if title:
            entitle(self, title)

    def draw(self, width: int, height: int) -> list[Line]:
        """The lines to show now; at most `height` of them are visible."""
        return []

    def marked_line(self) -> int | None:
        """The line under the cursor after the last `draw`."""
        return None

    def redraw(self) -> None:
        """Draw again and repaint what differs."""
        width, height = self.content_size
        if width <= 0 or height <= 0:
            return
        lines = [merged(fit(harmless(spans), width)) for spans in self.draw(width, height)[:height]]
        marked = self.marked_line()
        regions = []
        for y in range(max(len(lines), len(self._drawn))):
            old = self._drawn[y] if y < len(self._drawn) else EMPTY
            new = lines[y] if y < len(lines) else EMPTY
            if marked != self._marked and y in (marked, self._marked):
                regions.append(Region(0, y, width, 1))
            elif (cells := changed(old, new, width)) is not None:
                regions.append(Region(cells[0], y, max(1, cells[1] - cells[0]), 1))
        self._drawn, self._marked = lines, marked
        self.repainted = regions
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """One drawn line as a strip."""
        width = self.content_size.width
        base = self.rich_style
        if y == self._marked:
            base += self._ink("cursor")
        spans = self._drawn[y] if y < len(self._drawn) else EMPTY
        segments = [Segment(span.text, base + self._style(span.ink, span.act)) for span in spans if span.text]
        return Strip(segments).adjust_cell_length(width, base)

    def _style(self, ink: str, act: str) -> Style:
        style = self._ink(ink)
        return style + Style.from_meta({"@click": act}) if act else style

    def _ink(self, name: str) -> Style:
        style = self._inks.get(name)
        if style is None:
            plain_name = name.removesuffix(REVERSED)
            holder = self if plain_name == "cursor" else self.screen
            style = holder.get_component_rich_style(f"lines--{plain_name}", partial=True)
            if plain_name != name:
                style += Style(reverse=True)
            self._inks[name] = style
        return style

    def notify_style_update(self) -> None:
        """A new theme: forget inks."""
        super().notify_style_update()
        self._inks = {}

    def on_resize(self) -> None:
        """A new size: draw for it."""
        self._drawn = []
        self.redraw()
        self.refresh()


class Pane(Lines):
    """A line-drawn area whose drawing its screen hands in."""

    def __init__(self, *, id: str | None = None, classes: str | None = None, title: str = "") -> None:
        super().__init__(id=id, classes=classes, title=title)
        self._drawing: Drawing | None = None

    def draw(self, width: int, height: int) -> list[Line]:
        """What the drawing gives."""
        return [] if self._drawing is None else self._drawing(width, height)

    def paint(self, drawing: Drawing) -> None:
        """Take a new drawing and show it."""
        self._drawing = drawing
        self.redraw()

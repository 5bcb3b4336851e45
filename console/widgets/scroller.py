"""A text longer than its place: lines drawn for a width, a window of them shown, moved by keys and wheel."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.binding import Binding

from console.widgets.lines import Lines
from console.widgets.spans import Line


class Scroller(Lines, can_focus=True):
    """Shows what its screen hands in; stays where it is when the text grows."""

    BINDINGS = [
        Binding("up,k", "scroll_by(-1)", show=False),
        Binding("down,j", "scroll_by(1)", show=False),
        Binding("pageup", "scroll_by(-10)", show=False),
        Binding("pagedown,space", "scroll_by(10)", show=False),
        Binding("home,g", "scroll_by(-100000)", show=False),
        Binding("end,G", "scroll_by(100000)", show=False),
    ]
    _top = 0

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text: Callable[[int], list[Line]] = lambda width: []

    def paint(self, text: Callable[[int], list[Line]]) -> None:
        """Take another text."""
        self._text = text
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The lines in the window."""
        lines = self._text(width)
        self._top = max(0, min(self._top, len(lines) - height))
        return lines[self._top : self._top + height]

    def action_scroll_by(self, by: int) -> None:
        """Move the window."""
        self._top += by
        self.redraw()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Down."""
        event.stop()
        self.action_scroll_by(2)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Up."""
        event.stop()
        self.action_scroll_by(-2)

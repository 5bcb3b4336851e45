"""The chart as a widget: keys and mouse in, lines out; where it is looked at from is in viewpoint.py."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events

from console.widgets.lines import Lines, entitle
from console.widgets.spans import Line
from console.widgets.viewpoint import Viewpoint
from engine.domain.ids import Millis
from engine.snapshot import SessionView


class Chart(Lines):
    """One session's candles with a line of figures over them."""

    def __init__(self, *, empty: Sequence[str], id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes, title="Chart")
        self.empty = empty
        self.viewpoint = Viewpoint()

    def show(self, view: SessionView | None, now: Millis, *, stale: bool) -> None:
        """Draw a session as it is `now`."""
        self.viewpoint.shaded = self.app.no_color
        self.viewpoint.show(view, now, stale=stale)
        self._show_again()

    def draw(self, width: int, height: int) -> list[Line]:
        """Figures and candles, or why there are none."""
        return self.viewpoint.draw(width, height, self.empty)

    def own(self, what: str, by: int) -> None:
        """An action of the table that is the chart's own business."""
        self.viewpoint.own(what, by)
        self._show_again()

    def _show_again(self) -> None:
        entitle(self, self.viewpoint.title())
        self.redraw()

    def _point(self, event: events.MouseEvent) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and self.viewpoint.point(offset.x, offset.y):
            self.redraw()

    def on_click(self, event: events.Click) -> None:
        """The crosshair comes to the mouse."""
        self._point(event)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """And follows it while a button is held."""
        if event.button == 1:
            self._point(event)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Wider candles; older ones with shift or ctrl."""
        event.stop()
        self.own("pan" if event.shift or event.ctrl else "zoom", 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """More candles; newer ones with shift or ctrl."""
        event.stop()
        self.own("pan" if event.shift or event.ctrl else "zoom", -1)

    def on_mouse_scroll_left(self, event: events.MouseScrollLeft) -> None:
        """Older candles."""
        event.stop()
        self.own("pan", 1)

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        """Newer candles."""
        event.stop()
        self.own("pan", -1)

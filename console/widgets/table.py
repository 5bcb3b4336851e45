"""A table for figures that change many times a second: fixed columns, a cursor, and only changed cells repaint."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events
from textual.binding import Binding
from textual.message import Message

from console.widgets.columns import Column, Row, arrange, header_line, row_lines
from console.widgets.lines import Lines, entitle
from console.widgets.spans import Line, hatched


class Table(Lines, can_focus=True):
    """Rows under a header; the cursor belongs to a row's key, not to a place."""

    BINDINGS = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "move(-10)", "Page up", show=False),
        Binding("pagedown", "move(10)", "Page down", show=False),
        Binding("home,g", "move(-100000)", "First", show=False),
        Binding("end,G", "move(100000)", "Last", show=False),
    ]

    class Chosen(Message):
        """The cursor came to another row."""

        def __init__(self, table: Table, key: str | None) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> Table:
            """The table it happened in."""
            return self.table

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        empty: Sequence[str] = ("nothing here",),
        id: str | None = None,
        classes: str | None = None,
        title: str = "",
    ) -> None:
        super().__init__(id=id, classes=classes, title=title)
        self.columns = columns
        self.empty: Sequence[str] = empty
        self.rows: Sequence[Row] = ()
        self.cursor: str | None = None
        self._top = 0
        self._place = 0

    def fill(self, rows: Sequence[Row]) -> None:
        """Show these rows; the cursor stays on its key, or near its place when the key is gone."""
        self.rows = rows
        keys = [row.key for row in rows]
        before = self.cursor
        if before in keys:
            self._place = keys.index(before)
        else:
            self._place = min(self._place, max(0, len(keys) - 1))
            self.cursor = keys[self._place] if keys else None
        self.redraw()
        if self.cursor != before:
            self.post_message(self.Chosen(self, self.cursor))

    def draw(self, width: int, height: int) -> list[Line]:
        """Header and the rows around the cursor, or the empty state."""
        if not self.rows:
            return hatched(width, height, self.empty)
        room = max(1, height - 1)
        self._top = max(0, min(self._top, len(self.rows) - room, self._place))
        self._top = max(self._top, self._place - room + 1)
        arranged = arrange(self.columns, width)
        lines = row_lines(self.columns, arranged, self.rows)
        hidden = len(self.rows) - room
        place = f"{self._place + 1} of {len(self.rows)}" if hidden > 0 else ""
        entitle(self, subtitle=place)
        return [header_line(self.columns, arranged), *lines[self._top : self._top + room]]

    def marked_line(self) -> int | None:
        """The cursor's line below the header; only a table with the focus shows a strong one."""
        return self._place - self._top + 1 if self.rows else None

    def select(self, key: str | None) -> None:
        """Move the cursor to a row."""
        self._go(lambda keys: keys.index(key) if key in keys else self._place)

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        self._go(lambda _: self._place + by)

    def on_click(self, event: events.Click) -> None:
        """Choose the row under the mouse."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y > 0:
            self._click_to(self._top + offset.y - 1)

    def _click_to(self, place: int) -> None:
        if place < len(self.rows):
            self._go(lambda _: place)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Walk down."""
        event.stop()
        self.action_move(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Walk up."""
        event.stop()
        self.action_move(-1)

    def _go(self, where: Callable[[list[str]], int]) -> None:
        keys = [row.key for row in self.rows]
        if not keys:
            return
        self._place = max(0, min(where(keys), len(keys) - 1))
        moved = keys[self._place] != self.cursor
        self.cursor = keys[self._place]
        self.redraw()
        if moved:
            self.post_message(self.Chosen(self, self.cursor))

"""A table over a long list: only what is seen is drawn, and lines that come in above move nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from console.journal import Entry
from console.widgets.columns import Column, Row, arrange, header_line, row_lines
from console.widgets.spans import Line, hatched
from console.widgets.table import Table


class Lister(Table):
    """Entries under a header, turned into rows as they come into sight; the cursor belongs to an entry."""

    def __init__(
        self, columns: Sequence[Column], *, id: str | None = None, classes: str | None = None, title: str = ""
    ) -> None:
        super().__init__(columns, id=id, classes=classes, title=title)
        self.entries: Sequence[Entry] = ()
        self._row: Callable[[Entry], Row] | None = None

    @property
    def place(self) -> int:
        """Which line the cursor stands on, from 0."""
        return self._place

    @property
    def chosen(self) -> Entry | None:
        """The entry under the cursor."""
        return self.entries[self._place] if self._place < len(self.entries) else None

    def hold(self, entries: Sequence[Entry], row: Callable[[Entry], Row], came: int = 0) -> None:
        """Show these; `came` says how many of them are new above the cursor, which stays on its entry."""
        before = self.cursor
        self.entries, self._row = entries, row
        place = self._found(before, self._place + came)
        if self._top:  # somebody reads further down: what he reads stays where it is
            self._top += place - self._place
        self._put(place)
        self.redraw()
        if self.cursor != before:
            self.post_message(self.Chosen(self, self.cursor))

    def begin(self) -> None:
        """Another filter: from the top."""
        self.entries, self.cursor, self._place, self._top = (), None, 0, 0

    def draw(self, width: int, height: int) -> list[Line]:
        """Header and the rows around the cursor, or the empty state."""
        if not self.entries or self._row is None:
            return hatched(width, height, self.empty)
        room = max(1, height - 1)
        self._top = max(0, min(self._top, len(self.entries) - room, self._place))
        self._top = max(self._top, self._place - room + 1)
        arranged = arrange(self.columns, width)
        rows = [self._row(entry) for entry in self.entries[self._top : self._top + room]]
        return [header_line(self.columns, arranged), *row_lines(self.columns, arranged, rows)]

    def marked_line(self) -> int | None:
        """The cursor's line below the header."""
        return self._place - self._top + 1 if self.entries else None

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        if not self.entries:
            return
        before = self.cursor
        self._put(self._place + by)
        self.redraw()
        if self.cursor != before:
            self.post_message(self.Chosen(self, self.cursor))

    def _click_to(self, place: int) -> None:
        if place < len(self.entries):
            self.action_move(place - self._place)

    def _put(self, place: int) -> None:
        self._place = max(0, min(place, len(self.entries) - 1))
        self.cursor = self.entries[self._place].key if self.entries else None

    def _found(self, key: str | None, guess: int) -> int:
        """Where the entry with this key stands, most likely at `guess`; near it when it is gone."""
        if key is None or not self.entries:
            return 0
        if guess < len(self.entries) and self.entries[guess].key == key:
            return guess
        return next((index for index, entry in enumerate(self.entries) if entry.key == key), guess)

"""The audit trail: every order, fill, trade, override and disagreement, newest first, filtered while one types."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.timer import Timer
from textual.widgets import Input

from console.actions import key_of
from console.client import EngineSilent
from console.journal import Book, Kind, Wanted
from console.replica import Focus, Replica
from console.screens.base import FlowScreen, screen_bindings
from console.screens.modals.export import ExportDialog
from console.widgets import ledger
from console.widgets.ledger import COLUMNS
from console.widgets.lines import Pane, entitle
from console.widgets.lister import Lister
from console.widgets.spans import hatched
from engine.errors import SextantError
from engine.queries import Answer, Query

TYPING_S = 0.15
"""So long after the last letter the filter is asked for."""

SHOWN_AFTER_S = 0.5
NEWEST_EVERY_S, ANYWAY_EVERY_S = 1.0, 5.0


class Filter(Input):
    """The filter's words; Enter and the down key go to the lines, Escape empties it first."""

    BINDINGS = [
        Binding("enter,down", "screen.to_lines", show=False),
        Binding("escape", "screen.clear_filter", show=False),
    ]


class JournalScreen(FlowScreen):
    """Chips of kinds, the filter, the lines, and the selected line whole."""

    NAME = "journal"
    BINDINGS = screen_bindings("journal")
    AUTO_FOCUS = "#lines"

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.failure = ""
        self._asking = False
        self._asked_at = 0.0
        self._newest_at = 0.0
        self._seen = 0
        self._typed: Timer | None = None

    def body(self) -> ComposeResult:
        """Chips, filter, lines, one line whole."""
        yield Pane(id="chips")
        hint = f"{key_of('filter_journal', self.desk_app.keys)} filters: words that must all occur"
        yield Filter(placeholder=hint, id="filter")
        yield Lister(COLUMNS, id="lines", classes="frame", title="Journal")
        yield Pane(id="line", classes="frame", title="Line")

    # ----------------------------------------------------------------------------------------- showing

    def show_body(self, desk: Replica) -> None:
        """Draw what is known, and ask for what may be missing."""
        self.query_one("#chips", Pane).paint(lambda w, h: [ledger.chips(self.book.wanted.kind)])
        self._show_lines()
        self._ask_if_due(desk)

    def _show_lines(self, came: int = 0) -> None:
        desk, keys, lines = self.desk_app.desk, self.desk_app.keys, self.query_one(Lister)
        searching = self._asking and self.desk_app.monotonic() - self._asked_at > SHOWN_AFTER_S
        now, kind = desk.now, self.book.wanted.kind
        lines.columns = ledger.columns_of(kind)
        lines.empty = ledger.empty(self.book, failure=self.failure, searching=self._asking, keys=keys)
        lines.hold(self.book.entries, lambda entry: ledger.row(entry, kind, now), came)
        stands = ledger.standing(self.book, lines.place, failure=self.failure, searching=searching, keys=keys)
        entitle(lines, f"{self.book.wanted.shown} · {stands}")
        pane, chosen = self.query_one("#line", Pane), lines.chosen
        if chosen is None:
            pane.paint(lambda w, h: hatched(w, h, ()))
        else:
            pane.paint(lambda w, h: ledger.whole(chosen, w, keys)[:h])

    def focus_now(self) -> Focus:
        """The order that the selected line is about."""
        chosen = self.query_one(Lister).chosen
        return Focus(screen=self.NAME, session=self.desk_app.session, about=chosen.order if chosen else None)

    def on_lister_chosen(self) -> None:
        """Another line."""
        self.desk_app.show_now()

    on_table_chosen = on_lister_chosen

    # ------------------------------------------------------------------------------------------ asking

    def _ask_if_due(self, desk: Replica) -> None:
        """Older lines while the cursor comes near the last one; else, when something happened, the newest."""
        if self._asking or not self.is_current:  # under a dialog, whose questions come first
            return
        now = self.desk_app.monotonic()
        if self.failure and now - self._newest_at < NEWEST_EVERY_S:
            return
        if self.book.older(self.query_one(Lister).place) is not None:
            self._start(self._ask_older(self.book))
            return
        passed = now - self._newest_at
        if passed >= ANYWAY_EVERY_S or (passed >= NEWEST_EVERY_S and desk.events_seen != self._seen):
            self._seen = desk.events_seen
            self._start(self._ask_newest(self.book))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._asking, self._asked_at = True, self.desk_app.monotonic()
        self.run_worker(work, group="journal", exit_on_error=False)

    async def _ask_older(self, book: Book) -> None:
        """Pages until enough lines lie below the cursor; a search goes on window by window while it is wanted."""
        while book is self.book and (query := book.older(self.query_one(Lister).place)) is not None:
            answer = await self._answer(query)
            if answer is None or book is not self.book:
                break
            book.take_older(query, answer)
            self._show_lines()
        self._done(book)

    async def _ask_newest(self, book: Book) -> None:
        query = book.newest()
        answer = await self._answer(query)
        if answer is not None and book is self.book:
            came = book.take_newest(query, answer)
            if came < 0:
                self.query_one(Lister).begin()
            self._show_lines(max(0, came))
        self._done(book)

    async def _answer(self, query: Query) -> Answer | None:
        """The answer; None, and why, when there is none."""
        try:
            answer = await self.desk_app.client.ask(query)
        except (EngineSilent, SextantError, RuntimeError) as error:
            self.failure = str(error)
            return None
        self.failure = ""
        return answer

    def _done(self, book: Book) -> None:
        self._newest_at = self.desk_app.monotonic()
        if book is self.book:
            self._asking = False
            self._show_lines()

    # --------------------------------------------------------------------------------------- filtering

    def want(self, wanted: Wanted) -> None:
        """Another kind or text: begin again at the newest line."""
        if wanted == self.book.wanted:
            return
        self.book, self._asking, self.failure = Book(wanted), False, ""
        self.query_one(Lister).begin()
        self.show(self.desk_app.desk)

    def on_input_changed(self, event: Input.Changed) -> None:
        """A letter more or less; asked for when no other follows at once."""
        event.stop()
        if self._typed is not None:
            self._typed.stop()
        self._typed = self.set_timer(TYPING_S, self._take_text)

    def _take_text(self) -> None:
        self.want(Wanted(self.book.wanted.kind, self.query_one(Filter).value))

    def own(self, what: str, by: int) -> None:
        """Kinds, filter, export."""
        match what:
            case "kind":
                self.want(Wanted(self.book.wanted.kind.after(by), self.book.wanted.text))
            case "filter":
                self.query_one(Filter).focus()
            case "clear":
                self.action_clear_filter()
            case "export":
                self.desk_app.open_dialog(ExportDialog(self.book.wanted))
            case _:
                pass

    def action_show_kind(self, kind: str) -> None:
        """A click on a chip."""
        self.want(Wanted(Kind(kind), self.book.wanted.text))

    def action_to_lines(self) -> None:
        """From the filter to the lines, with what is typed so far."""
        self._take_text()
        self.query_one(Lister).focus()

    def action_clear_filter(self) -> None:
        """Empty the filter and go to the lines."""
        self.query_one(Filter).value = ""
        self.action_to_lines()

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text is no keys; the filter takes it before this."""
        event.stop()

"""Export of what is filtered: a file's name, progress while it is written, and where it is."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, Label
from textual.worker import Worker

from console import formatting as f
from console.client import EngineSilent
from console.export import ExportFailed, Progress, default_name, export, target
from console.journal import Wanted
from console.replica import Replica
from console.screens.modals.base import DeskDialog
from console.widgets.lines import Pane, entitle
from console.widgets.spans import Line, line, outside, wrap
from engine.errors import SextantError

WIDTH = 68


class ExportDialog(DeskDialog):
    """Enter begins, Escape gives up and removes what was written; afterwards it closes."""

    BINDINGS = [("f2", "other_form", "CSV or JSON")]

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self._wanted = wanted
        self._worker: Worker[None] | None = None
        self._progress = Progress(0, None)
        self._said: list[Line] = []
        self._done = False

    def compose(self) -> ComposeResult:
        """What, where, how far."""
        with Vertical(id="dialog") as box:
            entitle(box, "Export")
            yield Pane(id="facts")
            yield Label("file (ends in .csv or .json; never written over)", classes="label", markup=False)
            yield Input(default_name(self._wanted, self.desk_app.desk.now, "csv"), id="file", select_on_focus=False)
            yield Pane(id="hint")

    def show(self, desk: Replica) -> None:
        """Draw how it stands."""
        folder = f.plain(str(self.desk_app.exports))
        facts = [line("everything that fits ", outside(self._wanted.shown, "bright"), ", newest first")]
        facts += [line(("a relative name is in ", "dim"), *words) for words in wrap(folder, WIDTH - 24, "dim")[:1]]
        self.fill("facts", facts, 2)
        hint = self._said
        if self._worker is not None and not self._done:
            back = f", back to {f.moment(self._progress.back_to, desk.now)}" if self._progress.back_to else ""
            hint = [line(("writing … ", "accent"), f"{self._progress.lines:,} rows{back}", ("  Esc gives up", "dim"))]
        if not hint:
            hint = [
                line(("Enter", "key"), (" writes it · ", "dim"), ("F2", "key"), (" CSV or JSON · Esc close", "dim"))
            ]
        self.fill("hint", hint, 4)

    def action_other_form(self) -> None:
        """The other of CSV and JSON."""
        field = self.query_one("#file", Input)
        stem, _, suffix = field.value.rpartition(".")
        if self._worker is None and stem:
            field.value = f"{stem}.{'csv' if suffix.lower() == 'json' else 'json'}"
            field.cursor_position = len(field.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Begin, once; when it is done, close."""
        event.stop()
        if self._done:
            self.action_close()
        elif self._worker is None:
            self._worker = self.run_worker(self._export(event.value), exit_on_error=False)

    async def _export(self, written: str) -> None:
        try:
            path = target(written, self.desk_app.exports)
            progress = await export(self.desk_app.client.ask, self._wanted, path, self._tell)
        except (ExportFailed, EngineSilent, SextantError, RuntimeError) as error:
            self._worker = None
            self._said = wrap(f"Not exported: {error}", WIDTH, "block")
        else:
            self._done = True
            rows = "1 row" if progress.lines == 1 else f"{progress.lines:,} rows"
            self._said = wrap(f"{rows} in {path}. Enter closes.", WIDTH, "ok")
        self.show(self.desk_app.desk)

    def _tell(self, progress: Progress) -> None:
        self._progress = progress

    def action_close(self) -> None:
        """Give up, or leave when there is nothing under way."""
        if self._worker is not None and not self._done:
            self._worker.cancel()
        super().action_close()

"""Leaving: what each shutdown policy means now, `y` for the configured one, then every step until the desk is down."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical

from console import formatting as f
from console.replica import Replica
from console.screens.modals.base import DeskDialog
from console.screens.modals.facts import POLICY_MEANS, exposure
from console.widgets.lines import Pane, entitle
from console.widgets.spans import Line, Span, line, outside
from engine.commands import Origin, Shutdown
from engine.domain.settings import ShutdownPolicy

LINGER_S = 0.4
ENGINE_SILENT = 4
"""Exit code when the engine never said how its shutdown went."""


class QuitDialog(DeskDialog):
    """With a policy given (a signal) it begins at once; else `y` begins and everything else stays."""

    BINDINGS = [
        Binding("y", "yes", "Yes", show=False),
        Binding("n", "close", "No", show=False),
    ]

    def __init__(self, policy: ShutdownPolicy | None) -> None:
        super().__init__()
        self._given = policy
        self._origin: Origin | None = None
        self._policy = ShutdownPolicy.CANCEL_ENTRIES
        self._note: Line = ()
        self._began = 0.0
        self._opened = 0.0
        self._leaving = False

    def compose(self) -> ComposeResult:
        """Facts, steps, one hint."""
        with Vertical(id="dialog") as box:
            entitle(box, "Quit: stop the desk")
            yield Pane(id="facts")
            yield Pane(id="steps")
            yield Pane(id="hint")

    def on_mount(self) -> None:
        """Begin at once when a signal asked."""
        self._opened = self.desk_app.monotonic()
        if self._given is not None:
            self.begin(self._given)
        self.show(self.desk_app.desk)

    def action_yes(self) -> None:
        """Carry out the configured policy."""
        snapshot = self.desk_app.desk.snapshot
        if snapshot is None:
            self._leave(0)
        elif self._origin is None:
            self.begin(snapshot.shutdown_policy)

    def action_close(self) -> None:
        """Stay, unless the desk is already going down."""
        if self._origin is None:
            super().action_close()

    def begin(self, policy: ShutdownPolicy) -> None:
        """Send Shutdown once, whoever asks how often."""
        if self._origin is not None:
            return
        self._policy = policy
        self._origin = self.desk_app.origin()
        self._began = self.desk_app.monotonic()
        self.run_worker(self._send(Shutdown(origin=self._origin, policy=policy)), exit_on_error=False)
        self.show(self.desk_app.desk)

    async def _send(self, command: Shutdown) -> None:
        answer = await self.desk_app.send(command)
        if isinstance(answer, str):
            self._note = line((answer, "block"), ("; waiting for it", "dim"))
        elif not answer.taken:
            self._note = line(("not taken: ", "block"), outside(answer.message))
            self._origin = None
        else:
            self._note = line((f"{f.clock(answer.at)}  ", "dim"), ("receipt  ", "ok"), outside(answer.message))
        self.show(self.desk_app.desk)

    def show(self, desk: Replica) -> None:
        """Facts before, steps after."""
        self.fill("facts", self._facts(desk), self.size.height - 8)
        self.fill("steps", self._steps(desk), max(4, self.size.height - 16), newest=True)
        hint = self._hint(desk)
        self.query_one("#hint", Pane).paint(lambda w, h: [hint])
        self._end(desk)

    def _facts(self, desk: Replica) -> list[Line]:
        if desk.snapshot is None:
            return [line("The engine has not spoken yet.")]
        lines = exposure(None, most=3)(desk)
        if self._origin is None:
            chosen = desk.snapshot.shutdown_policy
            lines.append(line(""))
            for policy, meaning in POLICY_MEANS.items():
                mine = policy is chosen
                head = line(("▸ " if mine else "  ", "key"), (f"{policy.value:<16}", "bright" if mine else "dim"))
                lines.append((*head, Span(meaning, "text" if mine else "dim")))
            lines.append(line(""))
            lines.append(line((f"The configured policy is: {chosen.value}.", "dim")))
        return lines

    def _steps(self, desk: Replica) -> list[Line]:
        if self._origin is None:
            return [self._note] if self._note else []
        lines = [line(""), self._note] if self._note else [line("")]
        procedure = desk.procedure(self._origin.id)
        if procedure is not None:
            lines += [line((f"{f.clock(at)}  ", "dim"), outside(text)) for at, text in procedure.lines]
            if procedure.ok is not None:
                mark = ("✓ ", "ok") if procedure.ok else ("■ ", "block")
                lines.append(line(mark, outside(procedure.result or "done")))
        return lines

    def _hint(self, desk: Replica) -> Line:
        if self._origin is not None:
            seconds = self.desk_app.monotonic() - self._began
            return line((f"stopping the desk: {self._policy.value} … {f.age(round(seconds * 1000))}", "dim"))
        policy = desk.snapshot.shutdown_policy.value if desk.snapshot else "leave"
        return line(("y ", "key"), (f"{policy}, and leave   ", "dim"), ("Esc ", "key"), ("stay", "dim"))

    def _end(self, desk: Replica) -> None:
        if self._origin is None or self._leaving:
            return
        procedure = desk.procedure(self._origin.id)
        if procedure is not None and procedure.ok is not None:
            self._leaving = True
            self.set_timer(LINGER_S, lambda: self._leave(0))
        elif self.desk_app.monotonic() - self._began > self.desk_app.shutdown_timeout:
            self._leaving = True
            self._leave(ENGINE_SILENT)

    def _leave(self, code: int) -> None:
        self.app.exit(return_code=code)

"""The dialog that makes one command: states the facts, asks, sends once, shows the receipt and then each step."""

from __future__ import annotations

from enum import StrEnum
from time import monotonic

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from console import formatting as f
from console.replica import Replica
from console.screens.modals.base import OPENING_KEY_SLEEPS_S, DeskDialog
from console.screens.modals.spec import Dialog, Field, FieldKind
from console.widgets.entry import Entry, TypedWord, in_order
from console.widgets.lines import Lines, Pane, entitle
from console.widgets.spans import Line, line, outside
from engine.commands import Origin, Receipt
from engine.snapshot import Procedure


class Stage(StrEnum):
    """How far the dialog is."""

    ASKING = "asking"
    SENDING = "sending"
    SENT = "sent"
    OVER = "over"


class Answer(Entry):
    """An input that does not take the key which opened its dialog while that key still sleeps."""

    async def on_key(self, event: events.Key) -> None:
        """Swallow the opening key; everything else goes on to the input, which Textual calls next by itself."""
        if isinstance(self.screen, CommandDialog) and self.screen.sleeps(event):
            event.stop()
            event.prevent_default()


class Typed(TypedWord, Answer):
    """A word that has to be typed."""


class Choice(Lines, can_focus=True):
    """One of a few, changed with the arrow keys or a click."""

    BINDINGS = [
        Binding("left,up", "turn(-1)", "Previous", show=False),
        Binding("right,down,space", "turn(1)", "Next", show=False),
        Binding("enter", "submit", "Next field", show=False),
    ]

    class Submitted(Message):
        """Enter was pressed."""

    class Turned(Message):
        """Another option stands."""

    def __init__(self, field: Field) -> None:
        super().__init__(id=f"field-{field.name}")
        self._options = field.options
        values = [value for value, _ in field.options]
        self._at = values.index(field.default) if field.default in values else 0

    @property
    def value(self) -> str:
        """The chosen option's value."""
        return self._options[self._at][0] if self._options else ""

    def draw(self, width: int, height: int) -> list[Line]:
        """The chosen option between arrows, and which of how many it is."""
        label = self._options[self._at][1] if self._options else "nothing to choose"
        place = f"  {self._at + 1} of {len(self._options)}"
        return [line((" ◂ ", "key"), outside(label), (" ▸", "key"), (place, "dim"))]

    async def on_key(self, event: events.Key) -> None:
        """Take it where it is pressed."""
        await in_order(self, event)

    def action_turn(self, by: int) -> None:
        """Choose a neighbour."""
        if self._options:
            self._at = (self._at + by) % len(self._options)
            self.redraw()
            self.post_message(self.Turned())

    def action_submit(self) -> None:
        """Enter: on to the next field."""
        self.post_message(self.Submitted())

    def on_click(self) -> None:
        """A click chooses the next one."""
        self.action_turn(1)


class CommandDialog(DeskDialog):
    """Default is No: nothing is sent before every field will do and Enter is pressed."""

    def __init__(self, dialog: Dialog, opened_by: str) -> None:
        super().__init__()
        self.dialog = dialog
        self._opened_by = opened_by
        self._opened_at = 0.0
        self._stage = Stage.ASKING
        self._origin: Origin | None = None
        self._note: Line = ()
        self._receipt: Receipt | None = None

    def compose(self) -> ComposeResult:
        """Facts, fields, steps, one hint."""
        with Vertical(id="dialog", classes="-danger" if self.dialog.danger else "") as box:
            entitle(box, self.dialog.title, self.badge)
            box.set_class(self.desk_app.desk.live, "-live")
            yield Pane(id="facts")
            for field in self.dialog.fields:
                yield from self.row(field)
            yield Pane(id="steps")
            yield Pane(id="hint")

    def row(self, field: Field) -> ComposeResult:
        """A field under its label."""
        label = Pane(id=f"label-{field.name}", classes="label")
        label.paint(lambda w, h: [line((field.label, "dim"))])
        yield label
        yield _widget(field)

    def on_mount(self) -> None:
        """Remember when: the key that opened the dialog sleeps for half a second."""
        self._opened_at = self.desk_app.monotonic()
        self.query_one(f"#field-{self.opens_at().name}", Widget).focus()
        self.show(self.desk_app.desk)

    def opens_at(self) -> Field:
        """The first field that waits for an answer."""
        return next((field for field in self.fields if not field.accepts(field.default)), self.fields[0])

    def show(self, desk: Replica) -> None:
        """Facts as they are now, and the command's progress."""
        asking = self._stage in (Stage.ASKING, Stage.SENDING)
        self.fill("facts", self.dialog.facts(desk) if asking else [], self._room_for_facts() if asking else 0)
        names = {field.name for field in self.fields} if asking else set()
        for asked in self.query("#dialog .row, #dialog .label, #dialog Input, #dialog Choice"):
            asked.display = (asked.id or "").partition("-")[2] in names
        procedure = desk.procedure(self._origin.id) if self._origin else None
        if self._stage is Stage.SENT and procedure is not None and procedure.ok is not None:
            self._stage = Stage.OVER
        self.fill("steps", self._steps(procedure), self._room_for_steps(), newest=True)
        hint = self._hint()
        self.query_one("#hint", Pane).paint(lambda w, h: [hint])

    @property
    def badge(self) -> str:
        """PAPER or LIVE, once the engine has said which."""
        desk = self.desk_app.desk
        return "" if desk.snapshot is None else " LIVE " if desk.live else " PAPER "

    @property
    def fields(self) -> tuple[Field, ...]:
        """What is asked for now."""
        return self.dialog.fields

    def answers(self) -> dict[str, str]:
        """What stands in the fields now."""
        return {field.name: _value(self.query_one(f"#field-{field.name}")) for field in self.fields}

    def follows(self, answers: dict[str, str]) -> bool:
        """Whether the dialog stays to show what comes of the command."""
        return self.dialog.follow

    def _room_for_facts(self) -> int:
        return max(4, self.size.height - 6 - 3 * len(self.dialog.fields))

    def _steps(self, procedure: Procedure | None) -> list[Line]:
        lines: list[Line] = [self._note] if self._note else []
        if procedure is not None:
            lines += [line((f"{f.clock(at)}  ", "dim"), outside(text)) for at, text in procedure.lines]
            if procedure.ok is not None:
                mark = ("✓ ", "ok") if procedure.ok else ("■ ", "block")
                lines.append(line(mark, outside(procedure.result, "ok" if procedure.ok else "block")))
        return lines

    def _room_for_steps(self) -> int:
        asking = self._stage in (Stage.ASKING, Stage.SENDING)
        return max(2, self.size.height - 16) if asking else max(4, self.size.height - 8)

    def _hint(self) -> Line:
        match self._stage:
            case Stage.ASKING:
                return line(("Enter ", "key"), (f"{self.dialog.verb}   ", "dim"), ("Esc ", "key"), ("no", "dim"))
            case Stage.SENDING:
                return line(("sending …", "dim"))
            case Stage.SENT:
                return line(("under way; ", "dim"), ("Esc ", "key"), ("closes this window, not the work", "dim"))
            case Stage.OVER:
                return line(("Esc ", "key"), ("close", "dim"))

    def sleeps(self, event: events.Key) -> bool:
        """Whether this is the key that opened the dialog, pressed or held within half a second: it cannot answer.

        What counts is when it was pressed: on a busy machine it may have waited for longer than that.
        """
        if event.key not in self._opened_by.split(","):
            return False
        pressed = self.desk_app.monotonic() - max(0.0, monotonic() - event.time)
        asleep = pressed - self._opened_at < OPENING_KEY_SLEEPS_S
        if asleep:
            self._opened_at = max(self._opened_at, pressed)
        return asleep

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in a field."""
        event.stop()
        self._enter()

    def on_choice_submitted(self) -> None:
        """Enter on a choice."""
        self._enter()

    def _enter(self) -> None:
        """Send when every field will do; else go to the first that will not."""
        if self._stage is not Stage.ASKING:
            if self._stage is Stage.OVER:
                self.action_close()
            return
        answers = self.answers()
        missing = next((field for field in self.fields if not field.accepts(answers[field.name])), None)
        if missing is not None:
            self.query_one(f"#field-{missing.name}", Widget).focus()
            return
        self._stage = Stage.SENDING
        for field in self.dialog.fields:
            self.query_one(f"#field-{field.name}", Widget).disabled = True
        self._origin = self._origin or self.desk_app.origin()
        self.run_worker(self._send(self._origin, answers), exit_on_error=False)

    async def _send(self, origin: Origin, answers: dict[str, str]) -> None:
        answer = await self.desk_app.send(self.dialog.make(origin, answers))
        if isinstance(answer, str):
            # The same id again: if the first one did arrive, the second changes nothing.
            self._note = line((f"{answer}; Enter sends the same command again", "block"))
            self._ask_again()
        elif not answer.taken:
            self._note = line(("not taken: ", "block"), outside(answer.message))
            self._origin = None
            self._ask_again()
        else:
            words = answer.message or f"{self.dialog.verb}: taken"
            self._note = line((f"{f.clock(answer.at)}  ", "dim"), ("receipt  ", "ok"), outside(words))
            self._stage = Stage.SENT
            if not self.follows(answers):
                self.desk_app.say(words)
                self.action_close()
                return
            self.set_focus(None)
        self.show(self.desk_app.desk)

    def _ask_again(self) -> None:
        self._stage = Stage.ASKING
        for field in self.dialog.fields:
            self.query_one(f"#field-{field.name}", Widget).disabled = False
        self.query_one(f"#field-{self.fields[-1].name}", Widget).focus()


def _widget(field: Field) -> Widget:
    if field.kind is FieldKind.CHOICE:
        return Choice(field)
    kind = Typed if field.kind is FieldKind.WORD else Answer
    return kind(value=field.default, id=f"field-{field.name}", select_on_focus=False)


def _value(widget: Widget) -> str:
    if isinstance(widget, Choice | Input):
        return widget.value
    raise TypeError(f"{widget} has no answer")

"""A form: its fields follow what was given so far, and the engine says what they would meet before anything is sent."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.timer import Timer

from console import formatting as f
from console.client import EngineSilent
from console.replica import Replica
from console.screens.modals.command import CommandDialog, Stage
from console.screens.modals.spec import Dialog, Field, Form
from console.widgets.lines import Pane
from console.widgets.spans import Line, line, outside, wrap
from engine.domain.orders import Order
from engine.queries import CheckAnswer, Query
from engine.snapshot import Procedure

SETTLED_S = 0.15
"""How long the hands have to rest before the engine is asked."""
AGAIN_S = 1.0
"""The market moves: what was said is asked again so often while the form is open."""
GOOD_FOR_S = 4.0
"""An older word of the engine lets no entry go."""


class FormDialog(CommandDialog):
    """One line a field, so that all of it fits 80x24; the engine's verdict below."""

    def __init__(self, form: Form, opened_by: str) -> None:
        super().__init__(form, opened_by)
        self.form = form
        self._asked: Query | str = ""
        self._answer: CheckAnswer | None = None
        self._answered: Query | str = ""
        self._heard_at = 0.0
        self._trouble = ""
        self._soon: Timer | None = None
        self._labels: dict[str, str] = {}

    def row(self, field: Field) -> ComposeResult:
        """A field beside its label."""
        yield Horizontal(*super().row(field), id=f"row-{field.name}", classes="row")

    def on_mount(self) -> None:
        """Ask at once, and again while the form is open."""
        if self.form.query is not None:
            self.set_interval(AGAIN_S, self._ask)
            self._ask()

    def opens_at(self) -> Field:
        """Where the form says, else where every dialog does."""
        return next((field for field in self.fields if field.name == self.form.start), super().opens_at())

    # -- what is asked for --------------------------------------------------------------------------------

    @property
    def fields(self) -> tuple[Field, ...]:
        """Those that these answers call for."""
        return self.form.shown(self._given(), self._answer)

    def _given(self) -> dict[str, str]:
        given: dict[str, str] = {}
        for field in self.form.fields:
            for widget in self.query(f"#field-{field.name}"):
                given[field.name] = str(getattr(widget, "value", ""))
        return given

    def on_input_changed(self) -> None:
        """Something was typed."""
        self._changed()

    def on_choice_turned(self) -> None:
        """Another option stands."""
        self._changed()

    def _changed(self) -> None:
        if not self.ready:
            return
        self._note = ()
        if self._soon is not None:
            self._soon.stop()
        if self.form.query is not None:
            self._soon = self.set_timer(SETTLED_S, self._ask)
        self.show(self.desk_app.desk)

    def key_down(self) -> None:
        """To the next field."""
        self.focus_next()

    def key_up(self) -> None:
        """To the field before."""
        self.focus_previous()

    # -- what it would meet -------------------------------------------------------------------------------

    def _ask(self) -> None:
        if self._stage is not Stage.ASKING or self.form.query is None:
            return
        self._asked = self.form.query(self._given())
        if isinstance(self._asked, str):
            self._answer, self._trouble = None, ""
            self.show(self.desk_app.desk)
        else:
            self.run_worker(self._check, group="check", exclusive=True, exit_on_error=False)  # type: ignore[arg-type]

    async def _check(self) -> None:
        query = self._asked
        if isinstance(query, str):
            return
        try:
            answer = await self.desk_app.client.ask(query)
        except EngineSilent as silent:
            self._answer, self._trouble = None, f"nobody can say what this would meet: {silent}"
        except Exception as error:
            self._answer, self._trouble = None, str(error)
        else:
            if isinstance(answer, CheckAnswer):
                self._answer, self._answered, self._trouble = answer, query, ""
                self._heard_at = self.desk_app.monotonic()
        self.show(self.desk_app.desk)

    def _current(self) -> CheckAnswer | None:
        """The engine's word on exactly what stands here, while it is fresh."""
        if self.form.query is None or self._answer is None or self._answered != self.form.query(self._given()):
            return None
        return self._answer if self.desk_app.monotonic() - self._heard_at <= GOOD_FOR_S else None

    # -- drawing ------------------------------------------------------------------------------------------

    def show(self, desk: Replica) -> None:
        """Labels of the fields as they are now, then as every dialog."""
        if self._stage in (Stage.ASKING, Stage.SENDING):
            for field in self.fields:
                if self._labels.get(field.name) != field.label:
                    self._labels[field.name] = field.label
                    label = self.query_one(f"#label-{field.name}", Pane)
                    label.paint(lambda w, h, words=field.label: [line((words, "dim"))])  # type: ignore[misc]
        super().show(desk)

    def _steps(self, procedure: Procedure | None) -> list[Line]:
        if self._stage in (Stage.ASKING, Stage.SENDING):
            return [*self._verdict(), *([self._note] if self._note else [])]
        lines = super()._steps(procedure)
        order = self.form.result(self._origin, self.desk_app.desk) if self._origin is not None else None
        return lines if order is None else [*lines, *_told(order, self.desk_app.desk)]

    def _verdict(self) -> list[Line]:
        if self.form.query is None:
            return []
        if self._trouble:
            return wrap(self._trouble, 70, "block")
        if isinstance(self._asked, str):
            return [line((self._asked, "dim"))]
        if self._answer is None:
            return [line(("asking the engine …", "dim"))]
        lines = self.form.verdict(self._given(), self._answer, self.desk_app.desk)
        old = self.desk_app.monotonic() - self._heard_at
        if self._answered != self.form.query(self._given()):
            return [tuple(span._replace(ink="stale") for span in row) for row in lines]
        if old > GOOD_FOR_S:
            age = line((f"told {f.age(round(old * 1000))} ago: too old for an entry to leave", "block"))
            return [age, *(tuple(span._replace(ink="stale") for span in row) for row in lines)]
        return lines

    def _room_for_facts(self) -> int:
        return 3 if self.size.height < 30 else 6

    def _room_for_steps(self) -> int:
        if self._stage not in (Stage.ASKING, Stage.SENDING):
            return super()._room_for_steps()
        return max(3, self.size.height - 5 - self._room_for_facts() - len(self.fields))

    def _hint(self) -> Line:
        if self._stage is not Stage.ASKING:
            return super()._hint()
        return (*super()._hint(), *line(("   Tab ", "key"), ("next field", "dim")))

    # -- sending ------------------------------------------------------------------------------------------

    def follows(self, answers: dict[str, str]) -> bool:
        """Where something comes of it that is worth watching."""
        return self.form.follows(answers)

    def _enter(self) -> None:
        """Nothing that adds risk leaves without the engine's fresh word that nothing stands against it."""
        answers = self.answers()
        if self._stage is Stage.ASKING and all(field.accepts(answers[field.name]) for field in self.fields):
            self._note = ()
            asks: Query | str | None = self.form.problem(answers) or None
            if asks is None and self.form.query is not None:
                asks = self.form.query(answers)
            word = self._current()
            if isinstance(asks, str):
                self._note = line((f"not sent: {asks}", "block"))
            elif asks is not None and self.form.waits(answers):
                if word is None:
                    self._note = line(("not sent: the engine has not said yet what this would meet", "block"))
                elif word.refusals:
                    self._note = line(("not sent: it would be refused", "block"))
            if self._note:
                self.show(self.desk_app.desk)
                return
        super()._enter()


def _told(order: Order, desk: Replica) -> list[Line]:
    """How far the order has come, from the newest snapshot."""
    ink = "block" if order.is_in_doubt else "ok" if order.broker_id else "warn"
    said = f"accepted by the broker as {order.broker_id}" if order.broker_id else "no word of the broker yet"
    lines = [
        line(("order     ", "dim"), outside(order.client_id), "  ", (str(order.state), ink)),
        line(("broker    ", "dim"), outside(said), (f"  {f.since(desk.now, order.updated)} ago", "dim")),
        line(("filled    ", "dim"), f"{f.size(order.filled)} of {f.size(order.terms.quantity)}"),
    ]
    return lines if not order.reason else [*lines, line(("why       ", "dim"), outside(order.reason))]


def asking(dialog: Dialog, opened_by: str) -> CommandDialog:
    """The window that asks for a dialog's answers."""
    return FormDialog(dialog, opened_by) if isinstance(dialog, Form) else CommandDialog(dialog, opened_by)

"""The life of one order: asked of the audit trail, and asked again while it is looked at."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical

from console.client import EngineSilent
from console.replica import Replica
from console.screens.modals.base import DeskDialog
from console.widgets.life import life_lines
from console.widgets.lines import entitle
from console.widgets.scroller import Scroller
from console.widgets.spans import line, wrap
from engine.domain.ids import ClientOrderId
from engine.errors import SextantError
from engine.queries import OrderLife, OrderLifeAnswer

AGAIN_S = 1.0


class OrderLifeDialog(DeskDialog):
    """Everything kept about one order."""

    def __init__(self, order: ClientOrderId) -> None:
        super().__init__()
        self._order = order
        self._life: OrderLifeAnswer | None = None
        self._failure = ""
        self._asking = False
        self._asked_at: float | None = None

    def compose(self) -> ComposeResult:
        """One text."""
        with Vertical(id="life") as box:
            entitle(box, f"Life of order {self._order}", "↑ ↓ scroll · Esc close")
            yield Scroller(id="steps")

    def show(self, desk: Replica) -> None:
        """Draw what is known, and ask again when a second has passed."""
        text, life = self.query_one(Scroller), self._life
        if life is not None and (life.order is not None or life.lines):
            instrument = desk.instrument_of(life.order) if life.order is not None else None
            text.paint(lambda w: life_lines(life, instrument, desk.now, w))
        else:
            words = "The audit trail does not know this order yet." if life is not None else "Reading …"
            text.paint(lambda w: [line(""), *wrap(words, w, "dim", " ")])
        box = self.query_one("#life", Vertical)
        entitle(box, subtitle=f"no answer: {self._failure}" if self._failure else "↑ ↓ scroll · Esc close")
        now = self.desk_app.monotonic()
        if not self._asking and (self._asked_at is None or now - self._asked_at >= AGAIN_S):
            self._asking, self._asked_at = True, now
            self.run_worker(self._ask(), exit_on_error=False)

    async def _ask(self) -> None:
        try:
            answer = await self.desk_app.client.ask(OrderLife(self._order))
        except (EngineSilent, SextantError, RuntimeError) as error:
            self._failure = str(error)
        else:
            self._failure = ""
            if isinstance(answer, OrderLifeAnswer):
                self._life = answer
        self._asking = False
        if self.is_current:
            self.show(self.desk_app.desk)

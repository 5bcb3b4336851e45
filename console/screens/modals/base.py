"""What every dialog has: Escape says No, paste is no keys, and it is kept current like a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import events
from textual.binding import Binding
from textual.screen import ModalScreen

from console.replica import Replica
from console.widgets.lines import INK_CLASSES, Pane
from console.widgets.spans import Line

if TYPE_CHECKING:
    from console.app import SextantApp

OPENING_KEY_SLEEPS_S = 0.5


class DeskDialog(ModalScreen[None]):
    """A dialog over a flow screen."""

    COMPONENT_CLASSES = INK_CLASSES
    BINDINGS = [Binding("escape", "close", "No", show=False)]
    ready = False

    @property
    def desk_app(self) -> SextantApp:
        """The app, by its own type."""
        return cast("SextantApp", self.app)

    def show(self, desk: Replica) -> None:
        """Draw from what is known now."""

    def on_mount(self) -> None:
        """Composed: it may be drawn."""
        self.ready = True

    def action_close(self) -> None:
        """Leave without doing anything."""
        if self.is_current:
            _ = self.dismiss()

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text is no keys."""
        event.stop()

    def fill(self, id: str, lines: list[Line], most: int, *, newest: bool = False) -> None:
        """Show lines in a pane that is as high as they are: at most `most`, the newest of them or the first."""
        pane = self.query_one(f"#{id}", Pane)
        height = min(len(lines), most)
        pane.display = height > 0
        if pane.styles.height is None or pane.styles.height.value != height:
            pane.styles.height = height
        shown = lines[-height:] if newest else lines[:height]
        pane.paint(lambda w, h: shown)

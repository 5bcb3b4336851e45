"""What every screen has: two top rows, heat, entry block, its body, alerts, footer; and how it is kept current."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen

from console import actions
from console.actions import bindings, footer_keys
from console.replica import Focus, Replica
from console.widgets import top
from console.widgets.lines import INK_CLASSES, Pane

if TYPE_CHECKING:
    from console.app import SextantApp


GRAND = 45
"""From this many rows on there is room for a third alert and a higher gauge."""
BROAD = 200
"""From this many columns on a table and a chart stand beside one another."""


def screen_bindings(screen: str | None) -> list[BindingType]:
    """Textual bindings of a screen (None: of the app) from the table of actions."""
    return [
        Binding(key, f"app.act('{name}')", title, show=False, id=f"{name}.{screen or 'app'}")
        for key, name, title in bindings(screen)
    ]


def binding_ids(changed: Mapping[str, str]) -> dict[str, str]:
    """The operator's keys for Textual: by the id of every binding that stands for the action."""
    return {
        f"{name}.{screen}": key
        for name, key in changed.items()
        for screen in (actions.BY_NAME[name].screens or ("app",))
    }


class FlowScreen(Screen[None]):
    """A screen over one flow: subclasses give a name, a body, and what to draw in it."""

    NAME: ClassVar[str]
    COMPONENT_CLASSES = INK_CLASSES
    AUTO_FOCUS = "Table"
    ready = False

    @property
    def desk_app(self) -> SextantApp:
        """The app, by its own type."""
        return cast("SextantApp", self.app)

    def compose(self) -> ComposeResult:
        """Top rows, body, bottom rows."""
        yield Pane(id="identity")
        yield Pane(id="lamps")
        yield Pane(id="heatline")
        yield Pane(id="banner")
        with Container(id="body"):
            yield from self.body()
        yield Pane(id="alerts")
        yield Pane(id="footer")

    def body(self) -> ComposeResult:
        """What lies between the top rows and the alert bar."""
        yield from ()

    def show_body(self, desk: Replica) -> None:
        """Draw the body."""

    def focus_now(self) -> Focus:
        """What the operator points at here."""
        return Focus(screen=self.NAME, session=self.desk_app.session)

    def own(self, what: str, by: int) -> None:
        """An action that is this screen's own business."""

    def show(self, desk: Replica) -> None:
        """Draw everything; only what differs repaints."""
        app = self.desk_app
        self._pane("identity").paint(lambda w, h: [top.identity(desk, app.operator, app.place, w)])
        self._pane("lamps").paint(lambda w, h: [top.lamp_line(desk, w)])
        self._pane("heatline").paint(lambda w, h: [top.heat_line(desk, w)])
        banner = self._pane("banner")
        rows = len(top.banner(desk, self.size.width, app.keys))
        banner.set_class(rows == 1, "-one").set_class(rows == 2, "-two")
        banner.paint(lambda w, h: top.banner(desk, w, app.keys))
        self.show_body(desk)
        self._pane("alerts").paint(lambda w, h: top.alert_lines(desk, w, h, app.keys))
        keys = footer_keys(desk, self.focus_now(), app.keys)
        self._pane("footer").paint(lambda w, h: [top.footer(keys, self.NAME, w)])

    def _pane(self, id: str) -> Pane:
        return self.query_one(f"#{id}", Pane)

    def on_mount(self) -> None:
        """Composed: it may be drawn."""
        self.ready = True

    def on_screen_resume(self) -> None:
        """Back on top: show the newest at once."""
        self.call_after_refresh(self.desk_app.show_now)

    def on_resize(self) -> None:
        """Another size may need other lines."""
        self.set_class(self.size.height >= GRAND, "-grand").set_class(self.size.width >= BROAD, "-broad")
        self.call_after_refresh(self.desk_app.show_now)

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text is no keys."""
        event.stop()

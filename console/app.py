"""The console's hallway: which screens there are, what reaches them, and how it ends.

    SextantApp
    ├─ modes 1-6: DeskScreen MarketScreen OrdersScreen ReconciliationScreen HeatScreen JournalScreen   (screens/)
    │    └─ identity · lamps · heat line · entry block · body · alert bar · footer             (screens/base.py)
    └─ over any of them: CommandDialog QuitDialog HelpScreen OrderLifeDialog ExportDialog the palette
                                                                                               (screens/modals/)

Three routes and no more. In: a timer pulls the newest snapshot and events, `Replica` folds them, the current screen
draws what differs. Out: a key, a click or the palette names an action; its step goes to a screen, opens a dialog or
sends a command; an answer is a receipt. Ending: `q`, or a signal through `request_quit`, opens the quit dialog, which
sends Shutdown and stays until the engine has said how it went.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from textual.app import SystemCommand
from textual.binding import Binding
from textual.css.query import NoMatches
from textual.notifications import SeverityLevel
from textual.screen import Screen

from console import actions, themes
from console.client import Client, EngineSilent
from console.formatting import plain
from console.replica import Focus, Replica
from console.screens.base import FlowScreen, binding_ids, screen_bindings
from console.screens.desk import DeskScreen
from console.screens.heat import HeatScreen
from console.screens.journal import JournalScreen
from console.screens.market import MarketScreen
from console.screens.modals.base import DeskDialog
from console.screens.modals.form import asking
from console.screens.modals.help import HelpScreen
from console.screens.modals.life import OrderLifeDialog
from console.screens.modals.palette import DeskCommands, DeskPalette
from console.screens.modals.quit import QuitDialog
from console.screens.orders import OrdersScreen
from console.screens.reconciliation import ReconciliationScreen
from console.terminal import QuietlyEndingApp, SafeLinuxDriver, mark_terminal_lost, without_colour, write_through
from engine.commands import Command, Origin, Receipt
from engine.domain.ids import CommandId, SessionId
from engine.domain.settings import ShutdownPolicy
from engine.queries import FillsAnswer, FillsPage

log = logging.getLogger(__name__)

PULLS_LOCAL, PULLS_SSH, PULLS_BLURRED = 10.0, 4.0, 2.0
ECHO_S = 1.0
SHOWN_S = 0.05
SHUTDOWN_TIMEOUT_S = 75.0


class SextantApp(QuietlyEndingApp, inherit_bindings=False):
    """Shows one desk through a client; holds nothing of the engine but messages."""

    TITLE = "Sextant"
    CSS_PATH = "console.tcss"
    BINDINGS = [
        *screen_bindings(None),
        Binding("ctrl+p", "command_palette", show=False, priority=True, id="palette.app"),
    ]
    COMMANDS = {DeskCommands}
    MODES = {
        "desk": DeskScreen,
        "market": MarketScreen,
        "orders": OrdersScreen,
        "reconciliation": ReconciliationScreen,
        "heat": HeatScreen,
        "journal": JournalScreen,
    }
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]

    def __init__(
        self,
        client: Client,
        *,
        operator: str,
        place: str,
        color: bool = True,
        colors: str | None = "truecolor",
        exports: Path | None = None,
        keys: Mapping[str, str] | None = None,
        shutdown_timeout: float = SHUTDOWN_TIMEOUT_S,
        when_shown: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
        ids: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        if not color:
            os.environ["NO_COLOR"] = "1"
        super().__init__(driver_class=SafeLinuxDriver)
        if self.no_color:
            without_colour(self)
        self.client = client
        self.operator = operator
        self.place = place
        self.keys = actions.KeyMap(keys)
        self.exports = Path.cwd() if exports is None else exports
        self.shutdown_timeout = shutdown_timeout
        self._when_shown = when_shown
        self.monotonic = monotonic
        self.desk = Replica()
        self.session: SessionId | None = None
        self.undrawn = ""
        self._ids = ids
        self._echoes: dict[str, tuple[float, Origin]] = {}
        self._quit_wanted: ShutdownPolicy | None = None
        self._pulls = PULLS_SSH if "SSH_CONNECTION" in os.environ else PULLS_LOCAL
        for theme in themes.THEMES:
            self.register_theme(themes.fitted(theme, colors))
        self.theme = themes.CALM.name

    # ------------------------------------------------------------------------------------------------ in

    def on_mount(self) -> None:
        """Open on the desk and start pulling."""
        self.set_keymap(binding_ids(self.keys.changed))
        _ = self.switch_mode("desk")
        self._timer = self.set_interval(1 / self._pulls, self.pull)
        self.run_worker(self._seed_fills(), name="fills", exit_on_error=False)
        self.call_later(self.pull)
        # a moment later: what is imported then would hold up the bytes that are on their way to the terminal
        self.call_after_refresh(self.set_timer, SHOWN_S, self._when_shown)

    def pull(self) -> None:
        """Fold the engine's newest word and show it."""
        self.desk.fold(self.client.snapshot(), self.client.events(self.desk.events_seen), self.monotonic())
        if self.desk.session(self.session) is None and self.desk.sessions:
            self.session = self.desk.sessions[0].id
        self.show_now()
        if self._quit_wanted is not None:
            policy, self._quit_wanted = self._quit_wanted, None
            if self.desk.snapshot is None:
                self.exit()
            else:
                self._open_quit(policy)

    def show_now(self) -> None:
        """Draw the current screen, and the dialog over it, from what is known."""
        for screen in self.screen_stack:
            if isinstance(screen, FlowScreen | DeskDialog) and screen.ready:
                self._draw(screen)

    def _draw(self, screen: FlowScreen | DeskDialog) -> None:
        """Draw one screen. What cannot be drawn must not take the keys away that flatten and kill."""
        try:
            screen.show(self.desk)
        except NoMatches:
            log.debug("%s is on its way out and has lost widgets", screen)
        except Exception as error:
            if repr(error) != self.undrawn:
                log.exception("%s cannot be drawn", screen)
                self.say(f"not everything can be drawn: {error}", severity="error")
            self.undrawn = repr(error)

    async def _seed_fills(self) -> None:
        try:
            answer = await self.client.ask(FillsPage())
        except EngineSilent as silent:
            log.warning("no fills to begin with: %s", silent)
            return
        if isinstance(answer, FillsAnswer):
            for fill in reversed(answer.fills):
                self.desk.book(fill)

    def on_app_blur(self) -> None:
        """Nobody looks: fewer pulls."""
        self._pace(PULLS_BLURRED)

    def on_app_focus(self) -> None:
        """Somebody looks again."""
        self._pace(self._pulls)
        self.pull()

    def _pace(self, pulls: float) -> None:
        self._timer.stop()
        self._timer = self.set_interval(1 / pulls, self.pull)

    # ----------------------------------------------------------------------------------------------- out

    def focus_now(self) -> Focus:
        """What the operator points at on the flow screen below any dialog."""
        flow = next((s for s in reversed(self.screen_stack) if isinstance(s, FlowScreen)), None)
        return Focus(screen="desk", session=self.session) if flow is None else flow.focus_now()

    def action_act(self, name: str) -> None:
        """A key, a click or the palette names an action."""
        if isinstance(self.screen, FlowScreen):
            self.act(actions.BY_NAME[name])

    def act(self, action: actions.Action, opened_by: str | None = None) -> None:
        """Take an action's step, or say why it cannot be taken now; `opened_by`: the key, where not the action's."""
        focus = self.focus_now()
        if not actions.offered(action, self.desk, focus):
            self.say(f"{action.title}: {actions.why_not(action, self.desk)}", timeout=3)
            return
        match action.step(self.desk, focus):
            case actions.GoTo(screen=screen):
                _ = self.switch_mode(screen)
            case actions.Ask(dialog=dialog):
                self.open_dialog(asking(dialog, self.keys.key(action) if opened_by is None else opened_by))
            case actions.SendNow(make=make, label=label):
                self.run_worker(self._send_now(make, label), exit_on_error=False)
            case actions.OfScreen(what=what, by=by) if isinstance(self.screen, FlowScreen):
                self.screen.own(what, by)
            case actions.OfApp(what="quit"):
                self._open_quit(None)
            case actions.OfApp(what="help"):
                self.open_dialog(HelpScreen())
            case actions.OfApp(what="life") if (order := actions.order_of(focus)) is not None:
                self.open_dialog(OrderLifeDialog(order))
            case actions.OfApp(what="palette"):
                self.action_command_palette()
            case actions.OfApp(what="theme"):
                self.theme = themes.next_theme(self.theme)
                self.say(f"theme {self.theme}", timeout=2)
            case _:
                pass

    def open_dialog(self, dialog: DeskDialog) -> None:
        """Open a dialog, unless one is open."""
        if not any(isinstance(screen, DeskDialog) for screen in self.screen_stack):
            _ = self.push_screen(dialog)

    def origin(self) -> Origin:
        """Who asks, with a fresh id."""
        return Origin(id=CommandId(self._ids()), operator=self.operator, place=self.place, at=self.desk.now)

    async def send(self, command: Command) -> Receipt | str:
        """Hand a command over; a string says why there is no receipt."""
        try:
            return await self.client.send(command)
        except EngineSilent as silent:
            return str(silent)

    async def _send_now(self, make: Callable[[Origin], Command], label: str) -> None:
        now = self.monotonic()
        sent = self._echoes.get(label)
        if sent is not None and now - sent[0] < ECHO_S:
            return
        origin = self.origin()
        self._echoes[label] = (now, origin)
        answer = await self.send(make(origin))
        words = answer if isinstance(answer, str) else answer.message or label
        taken = isinstance(answer, Receipt) and answer.taken
        self.say(words, severity="information" if taken else "warning")

    def say(self, words: str, *, severity: SeverityLevel = "information", timeout: float = 4) -> None:
        """A toast; whoever wrote the words, they are text alone."""
        self.notify(plain(words), severity=severity, timeout=timeout, markup=False)

    def action_command_palette(self) -> None:
        """Every action by name."""
        if not isinstance(self.screen, DeskPalette):
            _ = self.push_screen(DeskPalette())

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """None of Textual's own: the palette offers the table of actions."""
        return ()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No palette over a dialog."""
        return not (action == "command_palette" and isinstance(self.screen, DeskDialog))

    # --------------------------------------------------------------------------------------------- ending

    def request_quit(self, policy: ShutdownPolicy | None = None) -> None:
        """From any thread: carry out the policy (None: the configured one) and leave; no question is asked."""
        self._quit_wanted = policy or ShutdownPolicy.CANCEL_ENTRIES
        if self.desk.snapshot is not None:
            self._quit_wanted = policy or self.desk.snapshot.shutdown_policy
        if self.is_running:
            self.call_later(self.pull)

    def ring(self, sounds: str) -> None:
        """Send the terminal a bell or a desktop message."""
        write_through(self, sounds)

    def terminal_lost(self) -> None:
        """From any thread: the terminal is gone, stop reading and writing it; the app goes on until told to quit."""
        mark_terminal_lost(self)

    def _open_quit(self, policy: ShutdownPolicy | None) -> None:
        if self.desk.snapshot is not None and self.desk.snapshot.view_only:
            self.exit()  # nothing of ours runs that could be stopped in one way or another
            return
        if isinstance(self.screen, QuitDialog):
            if policy is not None:
                self.screen.begin(policy)
            return
        if policy is not None:
            while isinstance(self.screen, DeskDialog):
                _ = self.pop_screen()
            _ = self.push_screen(QuitDialog(policy))
            return
        self.open_dialog(QuitDialog(None))

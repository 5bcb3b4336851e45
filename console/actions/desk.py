"""Moving about, and what is done to one session or to all of them."""

from __future__ import annotations

from console.actions.base import Action, Ask, GoTo, OfApp, SendNow, Step
from console.replica import Focus, Replica
from console.screens.modals import dialogs
from engine.commands import AcknowledgeAlert, RetryJobs
from engine.domain.orders import OrderState
from engine.snapshot import Phase, SessionView


def _view(desk: Replica, focus: Focus) -> SessionView:
    view = desk.session(focus.session)
    if view is None:
        raise LookupError("no session is selected")
    return view


class GoDesk(Action):
    """Sessions with position, profit, heat share and why they may not enter."""

    name, key, title, group = "go_desk", "1", "Desk", "go"

    def step(self, desk: Replica, focus: Focus) -> Step:
        return GoTo("desk")


class GoMarket(Action):
    """Candles, entries and exits, stop and target, and the decision log of one session."""

    name, key, title, group = "go_market", "2", "Market", "go"

    def step(self, desk: Replica, focus: Focus) -> Step:
        return GoTo("market")


class GoOrders(Action):
    """Open orders of all sessions, the doubtful first; recent orders and fills."""

    name, key, title, group = "go_orders", "3", "Orders", "go"

    def step(self, desk: Replica, focus: Focus) -> Step:
        return GoTo("orders")


class GoReconciliation(Action):
    """Where memory, database and broker differ, and what became of it."""

    name, key, title, group = "go_reconciliation", "4", "Reconcile", "go"

    def step(self, desk: Replica, focus: Focus) -> Step:
        return GoTo("reconciliation")


class GoHeat(Action):
    """The total risk and everything it is made of."""

    name, key, title, group = "go_heat", "5", "Heat", "go"

    def step(self, desk: Replica, focus: Focus) -> Step:
        return GoTo("heat")


class GoJournal(Action):
    """The audit trail: every order, fill, trade, override and disagreement, with a filter."""

    name, key, title, group = "go_journal", "6", "Journal", "go"

    def step(self, desk: Replica, focus: Focus) -> Step:
        return GoTo("journal")


class Help(Action):
    """Keys by screen, and what the states of an order mean."""

    name, key, title, group, rank = "help", "question_mark", "Help", "console", 97

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfApp("help")


class Palette(Action):
    """Every action by name, those without a key too."""

    name, key, title, group, rank = "palette", "ctrl+p", "All", "console", 65

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfApp("palette")


class Quit(Action):
    """Stop the desk: the dialog says what each shutdown policy means now."""

    name, key, title, group, rank = "quit", "q", "Quit", "console", 98

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfApp("quit")


class Theme(Action):
    """The next theme: calm, high contrast, light."""

    name, key, title, group = "theme", "t", "Theme", "console"

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfApp("theme")


class AcknowledgeWorstAlert(Action):
    """Say that you have seen the worst alert; what lasts goes on being shown."""

    name, key, title, group = "acknowledge_alert", "exclamation_mark", "Acknowledge alert", "desk"
    otherwise = "no alert waits for you"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return any(not alert.acknowledged for alert in desk.alerts)

    def step(self, desk: Replica, focus: Focus) -> Step:
        alert = next(alert for alert in desk.alerts if not alert.acknowledged)
        return SendNow(lambda origin: AcknowledgeAlert(origin=origin, alert=alert.id), "alert acknowledged")


class RetryDeadJobs(Action):
    """Run background jobs again that used up their attempts: trades and daily profit are counted by them."""

    name, key, title, group = "retry_jobs", "J", "Retry jobs", "desk"
    otherwise = "no background job is dead"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return desk.snapshot is not None and desk.snapshot.dead_jobs > 0

    def step(self, desk: Replica, focus: Focus) -> Step:
        return SendNow(lambda origin: RetryJobs(origin=origin), "dead jobs run again")


class FlattenSession(Action):
    """Pause the selected session, cancel its entries, close its position and prove it with the broker."""

    name, key, title, group, rank = "flatten", "f", "Flatten", "session", 83
    screens = ("desk", "market", "orders", "heat")
    otherwise = "select a session first"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return desk.session(focus.session) is not None

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.flatten(focus.session, desk))


class FlattenEverything(Action):
    """The same for every session."""

    name, key, title, group, rank = "flatten_everything", "F", "Flatten all", "desk", 60

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.flatten(None, desk))


class KillDesk(Action):
    """Latch entries off everywhere, across restarts, and cancel entry orders."""

    name, key, title, group, rank = "kill", "K", "Kill", "desk", 82
    otherwise = "the kill latch is set already"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return desk.snapshot is None or not desk.snapshot.killed

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.kill())


class ReleaseKillLatch(Action):
    """Open the kill latch: a typed word and a reason."""

    name, key, title, group, rank = "release_kill", "R", "Release kill", "desk", 79
    otherwise = "the kill latch is not set"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return desk.snapshot is not None and desk.snapshot.killed

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.release_kill())


class PauseSession(Action):
    """Hold the selected session's entries; exits and protection go on."""

    name, key, title, group, rank = "pause", "p", "Pause", "session", 76
    screens = ("desk", "market", "orders", "heat")
    otherwise = "select a session that is not paused"

    def available(self, desk: Replica, focus: Focus) -> bool:
        view = desk.session(focus.session)
        return view is not None and not view.paused

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.pause(focus.session))


class ResumeSession(Action):
    """Let a paused session enter again; needs a reason."""

    name, key, title, group, rank = "resume", "u", "Resume", "session", 77
    screens = ("desk", "market", "orders", "heat")
    otherwise = "select a paused session"

    def available(self, desk: Replica, focus: Focus) -> bool:
        view = desk.session(focus.session)
        return view is not None and view.paused

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.resume(focus.session))


class PauseEverything(Action):
    """Hold entries of every session."""

    name, key, title, group = "pause_everything", "P", "Pause all", "desk"

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.pause(None))


class ResumeEverything(Action):
    """Let every paused session enter again; needs a reason."""

    name, key, title, group = "resume_everything", "U", "Resume all", "desk"
    otherwise = "no session is paused"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return any(view.paused for view in desk.sessions)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.resume(None))


class CancelAllEntries(Action):
    """Cancel resting entries of every session; protective orders stay."""

    name, key, title, group, rank = "cancel_entries", "C", "Cancel entries", "desk", 55
    otherwise = "no entry rests anywhere"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return any(order.is_entry for order in desk.open_orders)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.cancel_entries(None))


class ForceSecondExit(Action):
    """Send a second exit beside one in doubt; the typed word names what can go wrong."""

    name, key, title, group = "force_exit", "x", "Force exit", "session"
    screens = ("desk", "market", "orders")
    otherwise = "no exit of this session is in doubt"

    def available(self, desk: Replica, focus: Focus) -> bool:
        doubtful = (o for o in desk.orders_of(focus.session) if o.is_in_doubt or o.state is OrderState.LOST)
        return focus.session is not None and any(not order.is_entry for order in doubtful)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.force_exit(_view(desk, focus)))


class ReleaseSessionLatch(Action):
    """Open a latch that holds the selected session's entries; needs a reason."""

    name, key, title, group = "release_latch", "L", "Release latch", "session"
    screens = ("desk", "market")
    otherwise = "no latch holds this session"

    def available(self, desk: Replica, focus: Focus) -> bool:
        view = desk.session(focus.session)
        return view is not None and bool(view.latches)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.release_latch(_view(desk, focus)))


class StandDownSession(Action):
    """Take a dead session out of the portfolio's count, once its contract is confirmed flat."""

    name, title, group = "stand_down", "Stand down", "session"
    screens = ("desk", "heat")
    otherwise = "only a dead session can be stood down"

    def available(self, desk: Replica, focus: Focus) -> bool:
        view = desk.session(focus.session)
        return view is not None and view.phase is Phase.DEAD

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.stand_down(_view(desk, focus)))

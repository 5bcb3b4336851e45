"""What is done on one screen only: charts, orders, disagreements, orders that are not ours, faults."""

from __future__ import annotations

from console.actions.base import Action, Ask, OfScreen, SendNow, Step
from console.replica import Focus, Replica
from console.screens.modals import dialogs, limits, tickets
from engine.commands import AskNow, ReconcileNow
from engine.domain.ids import AccountId, Symbol
from engine.domain.orders import OrderState
from engine.domain.risk import PortfolioSettings

CHARTS = ("market", "desk")


class NextSession(Action):
    """The next session's chart."""

    name, key, title, group, screens, rank = (
        "next_session", "right_square_bracket,s", "Next session", "chart", ("market",), 72,
    )  # fmt: skip

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("session", 1)


class PreviousSession(Action):
    """The previous session's chart."""

    name, key, title, group, screens = "previous_session", "left_square_bracket", "Previous", "chart", ("market",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("session", -1)


class ZoomIn(Action):
    """Wider candles; the mouse wheel does the same."""

    name, key, title, group, screens, rank = "zoom_in", "plus,equals_sign", "Zoom", "chart", CHARTS, 69

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("zoom", 1)


class ZoomOut(Action):
    """More candles."""

    name, key, title, group, screens = "zoom_out", "minus", "Zoom out", "chart", CHARTS

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("zoom", -1)


class WiderTimeframe(Action):
    """The next longer timeframe, made of the session's closed candles; after the longest its own again."""

    name, key, title, group, screens, rank = "wider_timeframe", "w", "Timeframe", "chart", CHARTS, 71

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("timeframe", 1)


class NarrowerTimeframe(Action):
    """The next shorter timeframe."""

    name, key, title, group, screens = "narrower_timeframe", "W", "Shorter", "chart", CHARTS

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("timeframe", -1)


class CrossOlder(Action):
    """Crosshair to the older candle, with its values and what happened on it; a click or drag does the same."""

    name, key, title, group, screens, rank = "cross_older", "left,h", "Crosshair", "chart", ("market",), 70

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("cross", -1)


class CrossNewer(Action):
    """Crosshair to the newer candle."""

    name, key, title, group, screens = "cross_newer", "right,l", "Newer candle", "chart", ("market",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("cross", 1)


class CrossUp(Action):
    """The crosshair's price a row higher."""

    name, key, title, group, screens = "cross_up", "up,k", "Price up", "chart", ("market",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("level", 1)


class CrossDown(Action):
    """The crosshair's price a row lower."""

    name, key, title, group, screens = "cross_down", "down,j", "Price down", "chart", ("market",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("level", -1)


class CrossOff(Action):
    """No crosshair: the forming candle's values again."""

    name, key, title, group, screens = "cross_off", "escape", "No crosshair", "chart", ("market",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("uncross")


class PanBack(Action):
    """Half a window of older candles; the wheel with Shift or Ctrl does the same."""

    name, key, title, group, screens, rank = "pan_back", "pageup,shift+left", "Older", "chart", ("market",), 68

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("pan", 1)


class PanForth(Action):
    """Half a window of newer candles."""

    name, key, title, group, screens = "pan_forth", "pagedown,shift+right", "Newer", "chart", ("market",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("pan", -1)


class OldestCandles(Action):
    """The oldest candles that are kept."""

    name, key, title, group, screens = "oldest_candles", "home", "Oldest", "chart", ("market",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("edge", -1)


class NewestCandles(Action):
    """The newest candles, and following the feed again."""

    name, key, title, group, screens, rank = "newest_candles", "end", "Newest", "chart", ("market",), 67

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("edge", 1)


class OrderByHand(Action):
    """Send an order by hand; the engine says what it would meet while you type. An entry needs a reason."""

    name, key, title, group, rank = "order_by_hand", "o", "Order", "order", 81
    screens = ("desk", "market", "orders")
    otherwise = "select a session first"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return desk.session(focus.session) is not None

    def step(self, desk: Replica, focus: Focus) -> Step:
        view = desk.session(focus.session)
        assert view is not None
        return Ask(tickets.order_by_hand(view))


class ExitByHand(OrderByHand):
    """Close some or all of a position by hand, never more than can be closed; it waits for nobody's word."""

    name, key, title, rank = "exit_by_hand", "e", "Exit", 80

    def step(self, desk: Replica, focus: Focus) -> Step:
        view = desk.session(focus.session)
        assert view is not None
        return Ask(tickets.order_by_hand(view, exit=True))


class ModifyOneOrder(Action):
    """Give the selected order another price or size; what adds risk needs a reason and a typed word."""

    name, key, title, group, screens, rank = "modify_order", "m", "Modify", "order", ("orders",), 84
    otherwise = "select an open order whose session is known"

    def available(self, desk: Replica, focus: Focus) -> bool:
        order = focus.order
        return order is not None and order.is_open and not order.is_in_doubt and desk.session(order.session) is not None

    def step(self, desk: Replica, focus: Focus) -> Step:
        assert focus.order is not None
        view = desk.session(focus.order.session)
        assert view is not None
        return Ask(tickets.modify_order(focus.order, view))


class CancelOneOrder(Action):
    """Cancel the selected order."""

    name, key, title, group, screens, rank = "cancel_order", "c", "Cancel", "order", ("orders",), 85
    otherwise = "select an open order"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return focus.order is not None and focus.order.is_open

    def step(self, desk: Replica, focus: Focus) -> Step:
        assert focus.order is not None
        return Ask(dialogs.cancel_order(focus.order))


class AskAboutOrder(Action):
    """Ask the broker about the selected order in doubt now, not at the next query."""

    name, key, title, group, screens, rank = "ask_now", "n", "Ask now", "order", ("orders",), 84
    otherwise = "select an order in doubt"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return focus.order is not None and (focus.order.is_in_doubt or focus.order.state is OrderState.LOST)

    def step(self, desk: Replica, focus: Focus) -> Step:
        assert focus.order is not None
        id = focus.order.client_id
        return SendNow(lambda origin: AskNow(origin=origin, order=id), "asking the broker")


class DeclareOrderDead(Action):
    """Your verdict that a lost order never existed; a typed word and a reason."""

    name, key, title, group, screens = "declare_dead", "D", "Declare dead", "order", ("orders",)
    otherwise = "select a lost order"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return focus.order is not None and focus.order.state is OrderState.LOST

    def step(self, desk: Replica, focus: Focus) -> Step:
        assert focus.order is not None
        return Ask(dialogs.declare_dead(focus.order))


class Reconcile(Action):
    """Compare positions and orders of every account with the broker now."""

    name, key, title, group, screens, rank = (
        "reconcile_now", "r", "Reconcile now", "reconciliation", ("desk", "orders", "reconciliation"), 74,
    )  # fmt: skip

    def step(self, desk: Replica, focus: Focus) -> Step:
        return SendNow(lambda origin: ReconcileNow(origin=origin), "reconciling every account")


class AcknowledgeDisagreement(Action):
    """Say that you have seen the selected disagreement, with a note if you like."""

    name, key, title, group, screens, rank = (
        "acknowledge", "a", "Acknowledge", "reconciliation", ("reconciliation",), 85,
    )  # fmt: skip
    otherwise = "select a disagreement nobody has acknowledged"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return focus.disagreement is not None and focus.disagreement.acknowledged_by is None

    def step(self, desk: Replica, focus: Focus) -> Step:
        assert focus.disagreement is not None
        return Ask(dialogs.acknowledge(focus.disagreement))


class Adopt(Action):
    """Give the selected foreign order to a session."""

    name, key, title, group, screens, rank = "adopt", "o", "Adopt", "foreign", ("reconciliation",), 81
    otherwise = "no foreign order is selected"

    def available(self, desk: Replica, focus: Focus) -> bool:
        foreign = focus.foreign
        return foreign is not None and any(view.account == foreign.account for view in desk.sessions)

    def step(self, desk: Replica, focus: Focus) -> Step:
        assert focus.foreign is not None
        return Ask(dialogs.adopt(focus.foreign, desk))


class Ignore(Action):
    """Leave what is not ours alone for good; it goes on counting in heat."""

    name, key, title, group, screens, rank = "ignore", "i", "Ignore", "foreign", ("reconciliation",), 80
    otherwise = "select an unknown order or position"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return focus.disagreement is not None and focus.disagreement.kind.value.startswith("unknown")

    def step(self, desk: Replica, focus: Focus) -> Step:
        assert focus.disagreement is not None
        return Ask(dialogs.ignore(focus.disagreement))


class CancelForeignOrder(Action):
    """Cancel the selected order that is not ours."""

    name, key, title, group, screens = "cancel_foreign", "c", "Cancel foreign", "foreign", ("reconciliation",)
    otherwise = "no foreign order is selected"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return focus.foreign is not None

    def step(self, desk: Replica, focus: Focus) -> Step:
        assert focus.foreign is not None
        return Ask(dialogs.cancel_foreign(focus.foreign))


class OnlyOpen(Action):
    """Show open disagreements only, or all of them."""

    name, key, title, group, screens, rank = "only_open", "v", "Open/all", "reconciliation", ("reconciliation",), 73

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("open", 1)


class NextKindOfDifference(Action):
    """Show disagreements of the next kind only, then of all kinds again."""

    name, key, title, group, screens = "next_kind_of_difference", "y", "Kind", "reconciliation", ("reconciliation",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("kind", 1)


class NextOwner(Action):
    """Show disagreements of the next session only, then of all sessions again."""

    name, key, title, group, screens = "next_owner", "s", "Session", "reconciliation", ("reconciliation",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("session", 1)


class StoppedEntries(Action):
    """Show the entries that did not leave, and why; on a high terminal they are always there."""

    name, key, title, group, screens, rank = "stopped_entries", "v", "Stopped", "heat", ("heat",), 73

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("stopped", 1)


class HeatLimitsEditor(Action):
    """Set the portfolio's warning, block and release, and the blocks of groups; looser needs a reason and a word."""

    name, key, title, group, screens, rank = "heat_limits", "l", "Limits", "heat", ("heat",), 84
    otherwise = "the engine has not said its limits yet"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return desk.snapshot is not None

    def step(self, desk: Replica, focus: Focus) -> Step:
        assert desk.snapshot is not None
        heat = desk.snapshot.heat
        return Ask(limits.heat_limits(PortfolioSettings(limits=heat.limits, groups=heat.groups)))


class ShowFault(Action):
    """Show a fault on a paper account."""

    name, title, group = "fault", "Fault", "faults"

    def __init__(self, account: AccountId, symbol: Symbol | None, fault: tuple[str, str, str, str]) -> None:
        self.account, self.symbol, self.fault = account, symbol, fault

    @property
    def help(self) -> str:
        return self.fault[2] or self.fault[1]

    def step(self, desk: Replica, focus: Focus) -> Step:
        return Ask(dialogs.fault(self.account, self.symbol, *self.fault))

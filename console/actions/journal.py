"""What is done in the journal, and the life of one order from wherever it is seen."""

from __future__ import annotations

from console.actions.base import Action, OfApp, OfScreen, Step
from console.replica import Focus, Replica
from engine.domain.ids import ClientOrderId


def order_of(focus: Focus) -> ClientOrderId | None:
    """The order that is pointed at."""
    return focus.order.client_id if focus.order is not None else focus.about


class LifeOfOrder(Action):
    """The life of the selected order on one page: intent, events, queries, fills, disagreements, overrides."""

    name, key, title, group, screens, rank = "order_life", "enter", "Life", "order", ("orders", "journal"), 86
    otherwise = "select a line that is about an order"

    def available(self, desk: Replica, focus: Focus) -> bool:
        return order_of(focus) is not None

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfApp("life")


class FilterJournal(Action):
    """Type words that must all occur in a line; Enter goes back to the lines."""

    name, key, title, group, screens, rank = "filter_journal", "slash", "Filter", "journal", ("journal",), 85

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("filter")


class ClearFilter(Action):
    """Take the filter away."""

    name, key, title, group, screens = "clear_filter", "escape", "Clear filter", "journal", ("journal",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("clear")


class NextKind(Action):
    """The next kind: all, orders, fills, trades, overrides, disagreements, decisions, jobs."""

    name, key, title, group, screens, rank = (
        "next_kind", "right_square_bracket", "Kind", "journal", ("journal",), 84,
    )  # fmt: skip

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("kind", 1)


class PreviousKind(Action):
    """The kind before."""

    name, key, title, group, screens = "previous_kind", "left_square_bracket", "Kind back", "journal", ("journal",)

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("kind", -1)


class ExportJournal(Action):
    """Write everything that is filtered to a CSV or JSON file."""

    name, key, title, group, screens, rank = "export_journal", "e", "Export", "journal", ("journal",), 83

    def step(self, desk: Replica, focus: Focus) -> Step:
        return OfScreen("export")

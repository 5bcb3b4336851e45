"""Flow 1: is this candle complete? One session's candles, the proof of its seam, and why it did not trade."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container

from console.replica import Replica
from console.screens.base import FlowScreen, screen_bindings
from console.screens.completeness import completeness, decisions
from console.widgets.chart_pane import Chart
from console.widgets.lines import Pane

EMPTY = ("No session to show.", "Add a [sessions.NAME] table to sextant.toml, or start with --replay FILE.")


class MarketScreen(FlowScreen):
    """The chart with its log beside or below it."""

    NAME = "market"
    BINDINGS = screen_bindings("market")

    def body(self) -> ComposeResult:
        """Chart, seam, decision log."""
        with Container(id="panes"):
            yield Chart(empty=EMPTY, id="plot", classes="frame")
            with Container(id="side"):
                yield Pane(id="seam", classes="frame", title="Is it complete?")
                yield Pane(id="why", classes="frame", title="Why no trade")

    def show_body(self, desk: Replica) -> None:
        """Everything about the selected session."""
        seam, why = (self.query_one(f"#{id}", Pane) for id in ("seam", "why"))
        view = desk.session(self.desk_app.session)
        chart = self.query_one("#plot", Chart)
        chart.empty = EMPTY if desk.snapshot is not None else ("Waiting for the engine.",)
        chart.show(view, desk.now, stale=view is not None and (desk.silent or not view.freshness.allows_entries))
        if view is None:
            seam.paint(lambda w, h: [])
            why.paint(lambda w, h: [])
            return
        seam.paint(lambda w, h: completeness(view, desk, w, h, shaded=self.app.no_color))
        why.paint(lambda w, h: decisions(view, w, h, chart.viewpoint.pointed))

    def own(self, what: str, by: int) -> None:
        """Another session; everything else is the chart's."""
        if what != "session":
            self.query_one("#plot", Chart).own(what, by)
            self.desk_app.show_now()
            return
        sessions = [view.id for view in self.desk_app.desk.sessions]
        if sessions:
            at = sessions.index(self.desk_app.session) if self.desk_app.session in sessions else 0
            self.desk_app.session = sessions[(at + by) % len(sessions)]
            self.desk_app.show_now()

"""Flow one to five at a glance: every session in a row, and the selected one's chart and standing."""

from __future__ import annotations

from decimal import Decimal

from textual.app import ComposeResult
from textual.containers import Container

from console import formatting as f
from console.replica import Replica
from console.screens.base import FlowScreen, screen_bindings
from console.screens.standing import every_block, standing
from console.widgets.candles import ink_of, lying
from console.widgets.chart_pane import Chart
from console.widgets.columns import Align, Column, Row
from console.widgets.lines import Pane, entitle
from console.widgets.spans import Line, Span, line, outside
from console.widgets.table import Table
from engine.domain.freshness import Freshness
from engine.domain.ids import SessionId
from engine.domain.risk import Stance
from engine.snapshot import Phase, ProtectionState, SessionView

COLUMNS = (
    Column("Session", 12, rank=0),
    Column("Instrument", 10, rank=7),
    Column("State", 13, rank=0),
    Column("Last", 11, Align.POINT, rank=0),
    Column("Age", 4, Align.RIGHT, rank=1),
    Column("Forming", 10, rank=3),
    Column("Position", 13, rank=0),
    Column("Conf", 4, Align.RIGHT, rank=4),
    Column("Open P&L", 9, Align.POINT, rank=2),
    Column("Day P&L", 9, Align.POINT, rank=3),
    Column("Heat", 6, Align.RIGHT, rank=4),
    Column("Entries", 16, rank=0, grows=True),
)
EMPTY = ("No sessions.", "Add a [sessions.NAME] table to sextant.toml, or start with --replay FILE.")

_PHASE_INK = {Phase.TRADING: "ok", Phase.DEAD: "block", Phase.STOPPED: "dim", Phase.STOOD_DOWN: "dim"}
NAKED = (ProtectionState.NAKED, ProtectionState.INERT)


class DeskScreen(FlowScreen):
    """Sessions above; below them the selected one."""

    NAME = "desk"
    BINDINGS = screen_bindings("desk")
    _table_rows = 0

    def body(self) -> ComposeResult:
        """The table, then chart and standing of the selected session."""
        yield Table(COLUMNS, empty=EMPTY, id="sessions", classes="frame", title="Sessions")
        yield Chart(empty=("No session is selected.",), id="chart", classes="frame")
        with Container(id="words"):
            yield Pane(id="about", classes="frame", title="Standing")
            yield Pane(id="blocks", classes="frame", title="Entries")

    def show_body(self, desk: Replica) -> None:
        """Rows, chart, standing."""
        table = self.query_one("#sessions", Table)
        rows = [session_row(view, desk) for view in desk.sessions]
        table.empty = ("Waiting for the engine.",) if desk.snapshot is None else EMPTY
        table.fill(rows)
        if desk.session(self.desk_app.session) is not None:
            table.select(self.desk_app.session)
        roomy = self.has_class("-tall")
        needed = min(14 if roomy else 10, max(6 if roomy else 4, len(rows) + (3 if roomy else 2)))
        if needed != self._table_rows:
            self._table_rows = needed
            table.styles.height = needed
            self.query_one("#body").styles.grid_rows = f"{needed} 1fr"
        self.query_one("#blocks", Pane).paint(lambda w, h: every_block(desk, self.desk_app.session, w, h))
        about = self.query_one("#about", Pane)
        view = desk.session(self.desk_app.session)
        stale = view is not None and (desk.silent or not view.freshness.allows_entries)
        self.query_one("#chart", Chart).show(view, desk.now, stale=stale)
        if view is None:
            about.paint(lambda w, h: [])
            return
        entitle(about, view.id)
        about.paint(lambda w, h: standing(view, desk, w, h))

    def own(self, what: str, by: int) -> None:
        """The chart's zoom and timeframe."""
        self.query_one("#chart", Chart).own(what, by)

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Another session."""
        if event.key is not None and event.key != self.desk_app.session:
            self.desk_app.session = SessionId(event.key)
            self.desk_app.show_now()


def session_row(view: SessionView, desk: Replica) -> Row:
    """One session as a row of the table."""
    tick = view.instrument.tick_size
    old = desk.silent or not view.freshness.allows_entries
    return Row(
        view.id,
        (
            line(outside(view.id)),
            line(outside(view.instrument.symbol)),
            phase(view),
            line((f.price(view.last_price, tick), "stale" if old else "text")),
            line((f.since(desk.now, view.last_tick), "warn" if view.freshness is Freshness.STALE else "dim")),
            forming(view, old),
            position(view),
            line((f.since(desk.now, view.position_confirmed), "dim")),
            profit(view.open_profit, old),
            profit(view.day_profit, desk.silent),
            line((f.percent(view.heat_share), "text" if view.heat_share else "dim")),
            entries(view),
        ),
    )


def phase(view: SessionView) -> Line:
    """State of the session, with how far warm-up is."""
    if view.paused:
        return line(("paused", "warn"))
    if view.phase is Phase.WARMING:
        return line((f"warming {view.warmed}/{view.warmup}", "warn"))
    return line((view.phase.value, _PHASE_INK.get(view.phase, "warn")))


def forming(view: SessionView, old: bool) -> Line:
    """The forming candle lying on its side, and its direction; an old one in the ink of what is old."""
    candle = view.forming
    if candle is None:
        return line((f.NONE, "dim"))
    change = candle.close - candle.open
    ink = "stale" if old else ink_of(candle)
    return line((lying(candle, 8), ink), " ", (f.arrow(change), ink if change else "dim"))


def position(view: SessionView) -> Line:
    """Direction as arrow and word, size, and a mark when nothing guards it."""
    held = view.position
    if held.is_flat:
        return line(("flat", "dim"))
    ink = "long" if held.quantity > 0 else "short"
    naked = Span(" !", "block") if view.protection in NAKED else Span("")
    return line((f"{f.arrow(1 if held.quantity > 0 else -1)} {f.position(held)}", ink), naked)


def profit(amount: Decimal, old: bool) -> Line:
    """Money with its sign; old money in the ink of what is old."""
    ink = "stale" if old and amount else "long" if amount > 0 else "short" if amount < 0 else "dim"
    return line((f.profit(amount), ink))


def entries(view: SessionView) -> Line:
    """Whether an entry could leave now, or the first reason why not."""
    if view.blocks:
        more = f" (+{len(view.blocks) - 1})" if len(view.blocks) > 1 else ""
        return line(("✕ ", "block"), outside(view.blocks[0], "block" if view.stance is Stance.BLOCK else "warn"),
                    (more, "dim"))  # fmt: skip
    if view.stance is Stance.WARN:
        return line(("▲ ", "warn"), ("open, heat warns", "warn"))
    return line(("● ", "ok"), ("open", "dim"))

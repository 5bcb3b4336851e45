"""Flow 5: what is the total risk now, and do I have all of it? The gauge and everything it is made of."""

from __future__ import annotations

from decimal import Decimal

from textual.app import ComposeResult
from textual.containers import Container

from console import formatting as f
from console.replica import Focus, Replica
from console.screens.base import FlowScreen, screen_bindings
from console.widgets.columns import Align, Column, Row
from console.widgets.lines import Pane, entitle
from console.widgets.spans import Line, hatched, line, outside, wrap
from console.widgets.table import Table
from console.widgets.top import EIGHTHS, heat_bar
from engine.domain.orders import Side
from engine.domain.risk import CompleteHeat, Contribution, Stance
from engine.snapshot import HeatView, StoppedEntry

COLUMNS = (
    Column("Session", 20),
    Column("Instrument", 10, rank=4),
    Column("Group", 9, rank=3),
    Column("Position", 10, Align.POINT, rank=1),
    Column("Entries", 10, Align.POINT, rank=1),
    Column("Unguarded", 10, Align.POINT, rank=2),
    Column("Excess", 9, Align.POINT, rank=5),
    Column("Unowned", 9, Align.POINT, rank=5),
    Column("Total", 10, Align.POINT),
    Column("Share", 7, Align.RIGHT),
    Column("Of the block", 12, rank=2, grows=True),
    Column("Age", 4, Align.RIGHT, rank=2),
)
STOPPED = (
    Column("Time", 8),
    Column("Session", 13),
    Column("Wanted", 12),
    Column("By", 8, rank=2),
    Column("Why", 38, grows=True),
)
NONE_STOPPED = ("No entry was stopped.", "Those that limits, heat or a block hold back are listed here.")
EMPTY = ("Nobody has reported yet.", "Sessions report once they know their position.")
FORMULA = (
    "Heat = the sum of contributions ÷ equity. A contribution is what is lost if the stop is hit: size × distance from "
    "mark to the confirmed stop × point value, never under the gap floor; entries at full size; what no confirmed stop "
    "covers at worst case."
)
_STANCE = {
    Stance.OPEN: ("ENTRIES OPEN", "ok"),
    Stance.WARN: ("WARN: entries open", "warn"),
    Stance.BLOCK: ("ENTRIES BLOCKED, exits open", "block"),
}
SPARK = "▁▂▃▄▅▆▇█"


class HeatScreen(FlowScreen):
    """Gauge, contributions, terms."""

    NAME = "heat"
    BINDINGS = screen_bindings("heat")

    def body(self) -> ComposeResult:
        """Gauge above, contributions and terms below."""
        yield Pane(id="gauge", classes="frame", title="Heat")
        with Container(id="parts"):
            with Container(id="lists"):
                yield Table(COLUMNS, empty=EMPTY, id="contributions", classes="frame", title="Contributions")
                yield Table(STOPPED, empty=NONE_STOPPED, id="stopped", classes="frame", title="Stopped entries")
            yield Pane(id="terms", classes="frame", title="Made of")

    def show_body(self, desk: Replica) -> None:
        """Everything."""
        gauge, made = self.query_one("#gauge", Pane), self.query_one("#terms", Pane)
        table = self.query_one("#contributions", Table)
        if desk.snapshot is None:
            gauge.paint(lambda w, h: hatched(w, h, ("Waiting for the engine.",)))
            return
        view = desk.snapshot.heat
        gauge.paint(lambda w, h: gauge_lines(view, desk, w, h))
        entitle(table, f"Contributions · {view.currency}")
        table.fill([row(one, view, desk, owned=True) for one in view.contributions] + [
            row(one, view, desk, owned=False) for one in view.unowned
        ])  # fmt: skip
        made.paint(lambda w, h: terms(view, desk, w)[:h])
        stopped = self.query_one("#stopped", Table)
        entitle(stopped, stopped_title(desk))
        stopped.fill([stopped_row(entry, desk) for entry in desk.stopped_entries])

    def own(self, what: str, by: int) -> None:
        """On a low terminal the stopped entries and what heat is made of share a place."""
        if what == "stopped":
            self.toggle_class("-stopped")
            self.query_one("#stopped" if self.has_class("-stopped") else "#contributions", Table).focus()

    def focus_now(self) -> Focus:
        """The session whose contribution is selected."""
        key = self.query_one("#contributions", Table).cursor
        view = next((view for view in self.desk_app.desk.sessions if view.id == key), None)
        return Focus(screen=self.NAME, session=view.id if view else self.desk_app.session)


def stopped_title(desk: Replica) -> str:
    """How many entries did not leave in this life, and since the present block began."""
    total = sum(view.stopped_entries for view in desk.sessions)
    block = desk.entry_block
    since = f" · {block.stopped} since {f.clock(block.since)}" if block is not None and block.since is not None else ""
    return f"Stopped entries · {total}{since}"


def stopped_row(entry: StoppedEntry, desk: Replica) -> Row:
    """An entry that did not leave."""
    return Row(
        f"{entry.order}:{entry.at}",
        (
            line((f.clock(entry.at), "dim")),
            line(outside(entry.session)),
            line((f.side(entry.side), "long" if entry.side is Side.BUY else "short"), f" {f.size(entry.quantity)}"),
            line(("hand" if entry.by_hand else "strategy", "dim")),
            line(outside(entry.reason, "warn")),
        ),
    )


def gauge_lines(view: HeatView, desk: Replica, width: int, height: int) -> list[Line]:
    """The number, the stance with its reason, the bar over a scale, the history."""
    words, ink = _STANCE[view.stance]
    head = line((" ", "dim"), (f.heat_words(view.heat), "stale" if desk.silent else "bright"), "   ", (words, ink),
                outside(f"   {view.reason}" if view.reason else "", "dim"),
                (f"   since {f.clock(view.since)}" if view.since else "", "dim"))  # fmt: skip
    cells = max(20, width - 2)
    bar = line(" ", *heat_bar(view, cells))
    lines = [head, bar]
    if height >= 7:
        lines.append(bar)
    lines.append(_ruler(view, cells))
    missing = ", ".join(f.plain(name) for name in view.missing)
    old = desk.silent or any(name.startswith("equity") for name in view.missing)
    state = line(
        (" equity ", "dim"), (f.money(view.equity), "stale" if old else "text"), (f" {view.currency}", "dim"),
        (f"  read {f.since(desk.now, view.equity_at)} ago", "warn" if old else "dim"),
        ("   missing ", "dim") if missing else "", (missing, "block"),
        ("   stopped entries ", "dim"), str(view.stopped_entries), ("   resting ", "dim"), str(view.resting_entries),
    )  # fmt: skip
    lines.append(state)
    if height >= 6 and view.history:
        lines.append(line((" history ", "dim"), (spark(view.history, view.limits.block, width - 20), "dim")))
    return lines[:height]


def _ruler(view: HeatView, cells: int) -> Line:
    full = view.limits.block * Decimal("1.25")
    text = [" "] * (cells + 12)
    for level, name in ((Decimal(0), "0"), (view.limits.warn, "warn"), (view.limits.block, "block")):
        label = name if not level else f"{name} {f.percent(level)}"
        start = int(level / full * cells) if full else 0
        text[start : start + len(label)] = label
    return line(" ", ("".join(text)[:cells], "dim"))


def spark(history: tuple[Decimal, ...], full: Decimal, width: int) -> str:
    """Percentages as eighths, the newest at the right."""
    shown = history[-max(1, width) :]
    top = max(full, *shown)
    return "".join(SPARK[min(7, int(value / top * 8))] for value in shown)


def row(one: Contribution, view: HeatView, desk: Replica, *, owned: bool) -> Row:
    """A contribution as a row."""
    share = None if not view.equity else one.total / view.equity * 100
    mark = " worst" if one.worst_case else ""
    old = desk.silent or any(name.startswith(one.session) for name in view.missing)
    name = one.session if owned else f"no session: {one.symbol}"
    return Row(
        one.session if owned else f"unowned:{one.symbol}:{one.session}",
        (
            line(outside(name, "text" if owned else "block"), (mark, "warn")),
            line(outside(one.symbol)),
            line(outside(one.group or f.NONE, "dim")),
            *(amount(value) for value in (one.position_risk, one.pending, one.unprotected, one.excess, one.unowned)),
            line((f.money(one.total), "stale" if old else "bright" if one.total else "dim")),
            line((f.percent(share, 2), "stale" if old else "text")),
            bar(share, view.limits.block, 12),
            line((f.since(desk.now, one.at), "warn" if old else "dim")),
        ),
    )  # fmt: skip


def bar(share: Decimal | None, full: Decimal, cells: int) -> Line:
    """A share as a bar over the block, in eighths of a cell."""
    filled = 0 if share is None or full <= 0 else min(cells * 8, round(share / full * cells * 8))
    whole, part = divmod(filled, 8)
    rest = cells - whole - bool(part)
    return line(("█" * whole + (EIGHTHS[part] if part else ""), "long"), ("·" * rest, "grid"))


def amount(value: Decimal) -> Line:
    """Money at risk; nothing at all is dim."""
    return line((f.money(value) if value else f.NONE, "text" if value else "dim"))


def terms(view: HeatView, desk: Replica, width: int) -> list[Line]:
    """Groups, reservations, thresholds, and the formula in words."""
    lines: list[Line] = []
    if isinstance(view.heat, CompleteHeat):
        heat = view.heat
        lines.append(
            line(
                (" now      ", "dim"), f"{f.money(heat.money)} ÷ {f.money(heat.equity)} = {f.percent(heat.percent, 2)}"
            )
        )
    elif view.heat is not None:
        lines.append(line((" known    ", "dim"), f"{f.money(view.heat.money)} at least; ", ("not a total", "warn")))
    limits = view.limits
    lines.append(line((" limits   ", "dim"), f"warn {f.percent(limits.warn)}  block {f.percent(limits.block)}",
                      (f"  released at {f.percent(limits.block - limits.release)}", "dim")))  # fmt: skip
    known = dict(view.group_percent)
    for group in view.groups:
        share = known.get(group.name, Decimal(0))
        ink = "block" if share >= group.block else "text"
        lines.append(line((" group    ", "dim"), outside(f"{group.name} "), (f.percent(share), ink),
                          (f" of {f.percent(group.block)}", "dim")))  # fmt: skip
    for held in view.reservations[:4]:
        lines.append(line((" reserved ", "dim"), f.money(held.money), outside(f"  {held.session}", "text"),
                          (f"  {f.since(desk.now, held.at)}", "dim")))  # fmt: skip
    if not view.reservations:
        lines.append(line((" reserved ", "dim"), ("nothing", "dim")))
    lines.append(line(""))
    lines += [(*line(" "), *words) for words in wrap(FORMULA, width - 2, "dim")]
    return lines

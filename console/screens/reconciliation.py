"""Flow 4: is the broker still telling us the same thing? Disagreements with three values, and the next checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from textual.app import ComposeResult
from textual.containers import Container

from console import formatting as f
from console.replica import Focus, Replica
from console.screens.base import FlowScreen, screen_bindings
from console.widgets.columns import Align, Column, Row
from console.widgets.lines import Pane, entitle
from console.widgets.spans import Line, fit, hatched, line, outside, wrap
from console.widgets.table import Table
from engine.domain.broker import LinkState
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.snapshot import AccountView, ForeignOrder

_Value = TypeVar("_Value")
COLUMNS = (
    Column("", 2),
    Column("Seen", 8),
    Column("Session", 13, rank=1),
    Column("Kind", 13),
    Column("State", 10, rank=1),
    Column("Memory", 14, rank=0, grows=True),
    Column("Database", 14, rank=3, grows=True),
    Column("Broker", 14, rank=0, grows=True),
    Column("Acknowledged", 12, rank=4),
)
FOREIGN = (
    Column("Account", 9, rank=2),
    Column("Broker id", 10, rank=1, grows=True),
    Column("Order", 24, rank=0, grows=True),
    Column("Seen", 4, Align.RIGHT, rank=1),
)
EMPTY = ("Memory, database and broker tell the same story.", "Press r to compare them now.")
_STATE_INK = {DisagreementState.NEEDS_YOU: "block", DisagreementState.SEEN: "warn", DisagreementState.CONFIRMED: "warn"}


NONE_MATCHES = ("Nothing matches what is shown.", "Open/all, Kind and Session change that.")


@dataclass(frozen=True)
class Filter:
    """What of the ledger is shown; None lets everything through."""

    only_open: bool = False
    kind: DisagreementKind | None = None
    owner: str | None = None

    def lets(self, one: Disagreement) -> bool:
        """Whether a disagreement is shown."""
        return (
            (one.is_open or not self.only_open) and self.kind in (None, one.kind) and self.owner in (None, owner(one))
        )


def owner(one: Disagreement) -> str:
    """Whose it is: a session's, else the account's."""
    return one.session or one.account


def after(now: _Value | None, all: Sequence[_Value]) -> _Value | None:
    """The value that follows in a round, None (everything) between the last and the first."""
    round: list[_Value | None] = [None, *all]
    return round[(round.index(now) + 1) % len(round)] if now in round else None


def ledger_title(ones: Sequence[Disagreement], shown: Sequence[Disagreement], filter: Filter) -> str:
    """How many are open, what is shown, and how many open ones the filter hides."""
    if not ones:
        return "Disagreements"
    words = [f"Disagreements · {sum(one.is_open for one in ones)} open"]
    words += ["open only"] if filter.only_open else []
    words += [f"only {name}" for name in (filter.kind, filter.owner) if name is not None]
    hidden = sum(one.is_open for one in ones) - sum(one.is_open for one in shown)
    words += [f"{hidden} OPEN HIDDEN"] if hidden else []
    return " · ".join(words)


class ReconciliationScreen(FlowScreen):
    """The ledger, the selected line's three values, the next checks, and what is not ours."""

    NAME = "reconciliation"
    BINDINGS = screen_bindings("reconciliation")

    def body(self) -> ComposeResult:
        """Ledger, three values, checks, foreign orders."""
        yield Table(COLUMNS, empty=EMPTY, id="differences", classes="frame", title="Disagreements")
        yield Pane(id="three", classes="frame", title="Three values")
        with Container(id="below"):
            yield Pane(id="checks", classes="frame", title="Next checks")
            yield Table(
                FOREIGN, empty=("No orders at the broker but ours.",), id="foreign", classes="frame", title="Not ours"
            )

    filter = Filter()

    def show_body(self, desk: Replica) -> None:
        """Everything, the ledger as far as the filter lets it."""
        ones = desk.disagreements
        shown = [one for one in ones if self.filter.lets(one)]
        table = self.query_one("#differences", Table)
        entitle(table, ledger_title(ones, shown, self.filter))
        table.empty = EMPTY if not ones else NONE_MATCHES
        table.fill([row(one, desk) for one in shown])
        one = self._selected()
        three = self.query_one("#three", Pane)
        if one is None:
            entitle(three, "Three values")
            three.paint(lambda w, h: hatched(w, h, ("Nothing to compare.",)))
        else:
            entitle(three, f"{one.kind.value} · {one.session or one.account} · {one.symbol}")
            three.paint(lambda w, h: side_by_side(one, desk, w, h))
        accounts = desk.snapshot.accounts if desk.snapshot else ()
        self.query_one("#checks", Pane).paint(lambda w, h: [r for a in accounts for r in checks(a, desk)][:h])
        self.query_one("#foreign", Table).fill([foreign_row(order, desk) for order in desk.foreign])

    def focus_now(self) -> Focus:
        """The selected disagreement and the foreign order it is about, or the one selected in its own table."""
        desk, one = self.desk_app.desk, self._selected()
        table = self.query_one("#foreign", Table)
        wanted = table.cursor if table.has_focus or one is None or one.order is None else one.order
        foreign = next((order for order in desk.foreign if order.broker_id == wanted), None)
        return Focus(screen=self.NAME, session=one.session if one else None, disagreement=one, foreign=foreign)

    def own(self, what: str, by: int) -> None:
        """The next filter of one sort."""
        ones = self.desk_app.desk.disagreements
        match what:
            case "open":
                self.filter = replace(self.filter, only_open=not self.filter.only_open)
            case "kind":
                kinds = sorted({one.kind for one in ones})
                self.filter = replace(self.filter, kind=after(self.filter.kind, kinds))
            case "session":
                owners = sorted({owner(one) for one in ones})
                self.filter = replace(self.filter, owner=after(self.filter.owner, owners))
            case _:
                return
        self.desk_app.show_now()

    def on_table_chosen(self) -> None:
        """Another line."""
        self.desk_app.show_now()

    def _selected(self) -> Disagreement | None:
        key = self.query_one("#differences", Table).cursor
        return next((one for one in self.desk_app.desk.disagreements if one.id == key), None)


def row(one: Disagreement, desk: Replica) -> Row:
    """A disagreement as a row."""
    mark = ("✕", "block") if one.blocks_entries and one.acknowledged_by is None else ("●", "warn")
    ink = "text" if one.is_open else "dim"
    return Row(
        one.id,
        (
            line(mark if one.is_open else ("✓", "dim")),
            line((f.clock(one.first_seen), "dim")),
            line(outside(one.session or one.account, ink)),
            line((one.kind.value, "disagree" if one.is_open else "dim")),
            line((one.state.value, _STATE_INK.get(one.state, ink))),
            line(outside(one.memory, ink)),
            line(outside(one.database, ink)),
            line(outside(one.broker, ink)),
            line(outside(one.acknowledged_by or ("needs you" if one.is_open else f.NONE), "dim")),
        ),
    )


def side_by_side(one: Disagreement, desk: Replica, width: int, height: int) -> list[Line]:
    """Memory, database and broker in three columns with their ages, then what came of it."""
    third = (width - 2) // 3
    names = ("memory · working copy", "database · audit trail", "broker · source of truth")
    values = (one.memory, one.database, one.broker)
    ages = [f"{f.since(desk.now, at)} ago" for at in one.read]
    lines = [
        line(" ", *(span for name in names for span in fit(line((name, "dim")), third))),
        line(
            " ",
            *(
                span
                for index, value in enumerate(values)
                for span in fit(line(outside(value, "disagree" if value != values[2] else "bright")), third)
            ),
        ),
        line(
            " ",
            *(span for age in ages for span in fit(line((f"read {age}", "stale" if desk.silent else "dim")), third)),
        ),
    ]
    effects = [
        f"position {f.signed_size(one.position_effect)}" if one.position_effect is not None else "",
        f"P&L {f.profit(one.pnl_effect)}" if one.pnl_effect is not None else "",
        f"heat {f.profit(one.heat_effect)}" if one.heat_effect is not None else "",
    ]
    effect = "  ".join(part for part in effects if part) or "none"
    if height > 8:
        lines.append(line(""))
    lines += [
        (*line((" done    " if not number else " " * 9, "dim")), *words)
        for number, words in enumerate(wrap(one.done or "nothing yet", width - 10))
    ]
    who = f"{one.acknowledged_by} at {f.moment(one.acknowledged_at, desk.now)}" if one.acknowledged_by else "nobody yet"
    held = ("  entries wait for it" if one.blocks_entries and not one.acknowledged_by else "", "block")
    lines.append(line((" effect  ", "dim"), effect, ("   seen by ", "dim"), outside(who), held))
    if one.note:
        lines.append(line((" note    ", "dim"), outside(one.note)))
    if one.query:
        lines.append(line((" query   ", "dim"), outside(one.query, "dim")))
    return lines[:height]


def checks(account: AccountView, desk: Replica) -> list[Line]:
    """When an account was last compared, and when it will be."""
    up = account.link is LinkState.UP
    now = desk.now
    lines = [
        line((" ● " if up else " ■ ", "ok" if up else "block"), outside(account.id, "bright"),
             outside(f"  {account.broker}", "dim"), (f"  {account.link} {f.since(now, account.link_since)}",
             "dim" if up else "block"), outside(f"  {account.link_reason}" if account.link_reason else "", "warn")),
        line(("   positions ", "dim"), f"{f.countdown(now, account.positions_next):<8}",
             (f"read {f.since(now, account.positions_read)} ago", "dim")),
        line(("   orders    ", "dim"), f"{f.countdown(now, account.orders_next):<8}",
             (f"read {f.since(now, account.orders_read)} ago", "dim")),
    ]  # fmt: skip
    if account.failed_queries:
        lines.append(line((f"   {account.failed_queries} queries failed; they change nothing but this figure", "warn")))
    if account.locked_out_until is not None and account.locked_out_until > now:
        lines.append(line(("   locked out, back ", "block"), f.countdown(now, account.locked_out_until)))
    return lines


def foreign_row(order: ForeignOrder, desk: Replica) -> Row:
    """An order that is not ours."""
    instrument = desk.instrument(order.terms.symbol)
    asks = f.terms(order.terms, instrument.tick_size) if instrument else order.terms.side.value
    return Row(
        order.broker_id,
        (
            line(outside(order.account, "dim")),
            line(outside(order.broker_id)),
            line(outside(f"{order.terms.symbol} {asks}", "warn")),
            line((f.since(desk.now, order.seen), "dim")),
        ),
    )

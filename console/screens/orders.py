"""Flow 2: did this order make it? Open orders of all sessions, the doubtful first; recent orders; fills."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container

from console import formatting as f
from console.replica import Focus, Replica
from console.screens.base import FlowScreen, screen_bindings
from console.widgets.columns import Align, Column, Row
from console.widgets.lines import Pane, entitle
from console.widgets.spans import Line, Span, hatched, line, outside, wrap
from console.widgets.table import Table
from engine.domain.fills import Fill
from engine.domain.ids import ClientOrderId
from engine.domain.orders import Order, OrderState, Side

OPEN = (
    Column("State", 18),
    Column("Age", 4, Align.RIGHT, rank=1),
    Column("Session", 13, rank=1),
    Column("Instrument", 10, rank=4),
    Column("Role", 6, rank=1),
    Column("Side", 6),
    Column("Filled", 7, Align.RIGHT, rank=0),
    Column("Type", 7, rank=4),
    Column("Price", 10, Align.POINT),
    Column("TIF", 3, rank=6),
    Column("Tries", 5, Align.RIGHT, rank=3),
    Column("Next query", 10, Align.RIGHT, rank=2),
    Column("Client id", 22, rank=5, grows=True),
)
RECENT = (
    Column("Time", 8),
    Column("State", 11),
    Column("Order", 24, rank=1, grows=True),
    Column("Avg", 10, Align.POINT, rank=2),
    Column("Why", 16, rank=3, grows=True),
)
FILLS = (
    Column("Time", 8),
    Column("Instrument", 10, rank=2),
    Column("Side", 6),
    Column("Size", 6, Align.POINT),
    Column("Price", 10, Align.POINT),
    Column("Fee", 6, Align.POINT, rank=3),
)
EMPTY_OPEN = ("No open orders.", "A strategy sends one when it decides to enter; the decision log is on 2 Market.")
_DONE_INK = {
    OrderState.FILLED: "ok",
    OrderState.REJECTED: "block",
    OrderState.DENIED: "warn",
    OrderState.ABANDONED: "warn",
    OrderState.CANCELLED: "dim",
    OrderState.EXPIRED: "dim",
}


class OrdersScreen(FlowScreen):
    """Three tables and the selected order."""

    NAME = "orders"
    BINDINGS = screen_bindings("orders")

    def body(self) -> ComposeResult:
        """Open, selected, recent, fills."""
        yield Table(OPEN, empty=EMPTY_OPEN, id="open", classes="frame", title="Open orders")
        yield Pane(id="order", classes="frame", title="Order")
        with Container(id="past"):
            yield Table(RECENT, empty=("No order has ended yet.",), id="recent", classes="frame", title="Recent")
            yield Table(FILLS, empty=("No fills yet.",), id="fills", classes="frame", title="Fills")

    def show_body(self, desk: Replica) -> None:
        """Rows and the selected order."""
        orders = desk.open_orders
        doubt = sum(order.is_in_doubt for order in orders)
        table = self.query_one("#open", Table)
        entitle(table, f"Open orders · {len(orders)}" + (f" · {doubt} in doubt" if doubt else ""))
        table.fill([open_row(order, desk) for order in orders])
        recent = sorted(desk.snapshot.recent_orders if desk.snapshot else (), key=lambda o: -o.updated)
        self.query_one("#recent", Table).fill([recent_row(order, desk) for order in recent])
        self.query_one("#fills", Table).fill([fill_row(fill, desk) for fill in reversed(desk.fills)])
        order = self._selected()
        pane = self.query_one("#order", Pane)
        entitle(pane, "Order" if order is None else f"{order.role} {order.client_id}")
        if order is None:
            pane.paint(lambda w, h: hatched(w, h, ("Select an order.",)))
        else:
            pane.paint(lambda w, h: order_lines(order, desk, w)[:h])

    def focus_now(self) -> Focus:
        """The selected order, and its session when it has one."""
        order = self._selected()
        return Focus(screen=self.NAME, session=order.session if order else self.desk_app.session, order=order)

    def on_table_chosen(self) -> None:
        """Another order."""
        self.desk_app.show_now()

    def on_descendant_focus(self) -> None:
        """Another table."""
        self.call_after_refresh(self.desk_app.show_now)

    def _selected(self) -> Order | None:
        snapshot = self.desk_app.desk.snapshot
        recent = self.query_one("#recent", Table)
        table = recent if recent.has_focus else self.query_one("#open", Table)
        if snapshot is None or table.cursor is None:
            return None
        return snapshot.order(ClientOrderId(table.cursor))


def state(order: Order) -> Line:
    """The state, with a mark in front of what is not proven."""
    if order.is_in_doubt:
        return line(("? ", "block"), (order.state.value, "block"))
    if order.state is OrderState.LOST:
        return line(("? ", "block"), ("LOST", "block"))
    if order.state in _DONE_INK:
        return line((order.state.value, _DONE_INK[order.state]))
    moving = order.state in (OrderState.SUBMITTING, OrderState.PENDING_CANCEL, OrderState.PENDING_REPLACE)
    return line(
        ("… " if moving else "● ", "warn" if moving else "ok"), (order.state.value, "warn" if moving else "text")
    )


def side(value: Side) -> Line:
    """Arrow and word."""
    return line((f.side(value), "long" if value is Side.BUY else "short"))


def open_row(order: Order, desk: Replica) -> Row:
    """An open order as a row."""
    instrument = desk.instrument_of(order)
    doubt = order.doubt
    price = f.order_price(order, instrument.tick_size) if instrument else f.NONE
    return Row(
        order.client_id,
        (
            state(order),
            line((f.since(desk.now, order.updated), "dim")),
            line(outside(order.session)),
            line(outside(order.terms.symbol)),
            line((order.role.value, "text" if order.is_entry else "dim")),
            side(order.terms.side),
            line(f"{f.size(order.filled)}/{f.size(order.terms.quantity)}"),
            line((order.terms.type.value, "dim")),
            line(price),
            line((order.terms.tif.value, "dim")),
            line((str(doubt.tries) if doubt else "", "block")),
            line((f.countdown(desk.now, doubt.next_query) if doubt else "", "warn")),
            line((order.client_id, "dim")),
        ),
    )


def recent_row(order: Order, desk: Replica) -> Row:
    """An order that has ended."""
    instrument = desk.instrument_of(order)
    tick = instrument.tick_size if instrument else order.terms.quantity
    return Row(
        order.client_id,
        (
            line((f.clock(order.updated), "dim")),
            state(order),
            line(outside(f"{order.terms.symbol} {order.role} {f.terms(order.terms, tick)}")),
            line(f.price(order.average_price, tick)),
            line(outside(order.reason, "dim")),
        ),
    )


def fill_row(fill: Fill, desk: Replica) -> Row:
    """An execution."""
    instrument = desk.instrument(fill.symbol)
    price = f.price(fill.price, instrument.tick_size) if instrument else f"{fill.price:f}"
    return Row(
        fill.key,
        (
            line((f.clock(fill.at), "dim")),
            line(outside(fill.symbol)),
            side(fill.side),
            line(f.size(fill.quantity)),
            line(price),
            line((f.money(fill.fee), "dim")),
        ),
    )


def order_lines(order: Order, desk: Replica, width: int) -> list[Line]:
    """Everything memory knows about one order."""
    instrument = desk.instrument_of(order)
    asks = f.terms(order.terms, instrument.tick_size) if instrument else str(order.terms.side)
    tick = instrument.tick_size if instrument else order.terms.quantity
    lines: list[Line] = []
    if order.doubt is not None:
        doubt = order.doubt
        lines.append(
            line(
                (" in doubt  ", "block"),
                f"for {f.since(desk.now, doubt.since)}",
                ("  tries ", "dim"),
                str(doubt.tries),
                ("  answers without it ", "dim"),
                str(doubt.negatives),
                ("  next query ", "dim"),
                (f.countdown(desk.now, doubt.next_query), "warn"),
            )
        )
        lines += [
            (*line((" evidence  " if not row else " " * 11, "dim")), *words)
            for row, words in enumerate(wrap(doubt.last_evidence or "none yet", width - 12))
        ]
    spans: list[Span] = list(
        line((" asks      ", "dim"), outside(f"{order.terms.symbol} {asks}"), ("  TIF ", "dim"), order.terms.tif.value)
    )
    if order.average_price is not None:
        spans += line(("  average ", "dim"), f.price(order.average_price, tick))
    lines.append(tuple(spans))
    lines.append(
        line(
            (" broker id ", "dim"),
            outside(order.broker_id or f.NONE),
            ("  created ", "dim"),
            f.moment(order.created, desk.now),
            ("  sent ", "dim"),
            f.moment(order.sent, desk.now),
        )
    )
    lines.append(
        line(
            (" filled    ", "dim"),
            f"{f.size(order.filled)} of {f.size(order.terms.quantity)}",
            ("  broker says ", "dim"),
            (f.size(order.reported), "disagree" if order.open_for_fills else "text"),
            ("  fees ", "dim"),
            f.money(order.fees),
        )
    )
    marks = ", ".join(sorted(flag.value for flag in order.flags))
    if marks or order.reason:
        lines.append(
            line((" note      ", "dim"), (marks, "warn"), outside(f"  {order.reason}" if marks else order.reason))
        )
    lines.append(line((" decision  ", "dim"), outside(order.key, "dim")))
    return lines

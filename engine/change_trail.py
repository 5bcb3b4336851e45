"""What follows from a change of the working copy: rows of the audit trail, events, counters, reads that are due."""

from __future__ import annotations

from engine.domain.ids import Millis
from engine.domain.order_book import Change
from engine.domain.orders import TERMINAL, Flag, Order
from engine.domain.records import FillBooked, OrderChanged, PositionRecorded
from engine.events import Filled, OrderMoved
from engine.session import SessionDesk
from engine.snapshot import ChartMark, MarkKind, Severity
from engine.strategy_runner import Counters

KEEP_MARKS = 200
QUIET_EVENTS = frozenset(
    {
        "asked",
        "ask soon",
        "report",
        "intent",
        "abandoned",
        "denied",
        "lost",
        "lost with its entry",
        "adopted",
        "journalled",
    }
)
"""Changes that nothing at the broker follows from (but for a report of fills unheard): reads need not wait for them."""


def tell_change(desk: SessionDesk, counters: Counters, change: Change, now: Millis) -> None:
    """Let the audit trail, the account's queries, the consoles and the day's books know of it."""
    order = change.order
    if change.event not in QUIET_EVENTS or (change.event == "report" and order and order.open_for_fills):
        desk.road.touched(desk.book.symbol)
    if change.fill is not None:
        counters.fills += 1
        desk.ledger.book(change.realised_points, change.fill.fee, now)
        desk.record(FillBooked(fill=change.fill, order=order, position=desk.book.position, at=now))
        desk.reporter.event(Filled(change.fill))
        kind = MarkKind.ENTRY if order is not None and order.is_entry else MarkKind.EXIT
        desk.marks.append(ChartMark(change.fill.at, kind, change.fill.side, change.fill.price, change.fill.quantity))
        del desk.marks[:-KEEP_MARKS]
        if order is not None and order.is_entry and desk.book.outgrew(order):
            desk.road.suspect(f"a leg of {order.client_id} may have grown", orders=True)
    elif order is None:
        desk.record(
            PositionRecorded(
                account=desk.settings.account,
                symbol=desk.book.symbol,
                session=desk.settings.id,
                position=desk.book.position,
                cause=change.detail or change.event,
                at=now,
            )
        )
    if order is not None:
        desk.record(OrderChanged(order=order, event=change.event, at=now, detail=change.detail))
        desk.reporter.event(OrderMoved(order, change.event))
        if order.is_entry and order.state in TERMINAL:
            desk.heat.cancel(order.client_id)
        _look_at_flags(desk, order)


def _look_at_flags(desk: SessionDesk, order: Order) -> None:
    if order.flags & {Flag.OVERFILLED, Flag.LATE_FILL, Flag.BUSTED, Flag.REVIVED}:
        words = ", ".join(sorted(order.flags))
        desk.reporter.alert(
            f"flag:{order.client_id}", Severity.CRITICAL, f"{desk.id}: order {order.client_id}: {words}"
        )

"""What a dialog states before it is answered: positions, working orders, the age of the data. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from console import formatting as f
from console.replica import Replica
from console.widgets.spans import Line, line, outside, wrap
from engine.domain.disagreements import Disagreement
from engine.domain.ids import SessionId
from engine.domain.orders import Order
from engine.domain.settings import ShutdownPolicy
from engine.snapshot import ForeignOrder, SessionView

WIDTH = 66

POLICY_MEANS = {
    ShutdownPolicy.LEAVE: "entries, exits and positions stay at the broker",
    ShutdownPolicy.CANCEL_ENTRIES: "entries go; protective exits and positions stay",
    ShutdownPolicy.FLATTEN: "every position is closed, every order cancelled",
}


def exposure(session: SessionId | None, most: int = 5) -> Callable[[Replica], list[Line]]:
    """Positions and working orders of one session, or of all, and how old what we know is."""

    def facts(desk: Replica) -> list[Line]:
        views = [view for view in desk.sessions if session is None or view.id == session]
        lines = [silence(desk)] if desk.silent else []
        held = [view for view in views if not view.position.is_flat]
        for view in held:
            lines.append(_position(view, desk))
        if not held:
            lines.append(line(("position  ", "dim"), "flat"))
        lines += order_lines(desk.orders_of(session), desk, most)
        return lines

    return facts


def silence(desk: Replica) -> Line:
    """The warning that all of this may be out of date."""
    age = f.age(round((desk.silent_for or 0) * 1000))
    return line((f" ENGINE SILENT {age} ", "alarm"), (" these figures are that old", "warn"))


def _position(view: SessionView, desk: Replica) -> Line:
    tick = view.instrument.tick_size
    return line(
        ("position  ", "dim"),
        outside(f"{view.instrument.symbol} "),
        (f.position(view.position), "long" if view.position.quantity > 0 else "short"),
        f" @ {f.price(view.position.average_price, tick)}",
        (f"  confirmed {f.since(desk.now, view.position_confirmed)} ago", "dim"),
    )


def order_lines(orders: Sequence[Order], desk: Replica, most: int = 5) -> list[Line]:
    """Working orders, the doubtful first, and how many more there are."""
    if not orders:
        return [line(("orders    ", "dim"), "none working")]
    lines = []
    for order in orders[:most]:
        lines.append(line(("order     ", "dim"), *order_words(order, desk)))
    if len(orders) > most:
        lines.append(line((f"          and {len(orders) - most} more", "dim")))
    return lines


def order_words(order: Order, desk: Replica) -> Line:
    """One order in a few words."""
    instrument = desk.instrument_of(order)
    asks = f.terms(order.terms, instrument.tick_size) if instrument else str(order.terms.side)
    ink = "block" if order.is_in_doubt else "dim"
    return line(outside(f"{order.terms.symbol} {order.role} {asks} "), (f"{order.state}", ink))


def ages(session: SessionId | None) -> Callable[[Replica], list[Line]]:
    """How old the market's and the broker's last word is."""

    def facts(desk: Replica) -> list[Line]:
        lines = []
        for view in desk.sessions:
            if session is not None and view.id != session:
                continue
            fresh = "text" if view.freshness.allows_entries else "warn"
            lines.append(
                line(
                    ("data      ", "dim"),
                    outside(f"{view.instrument.symbol} "),
                    (f"{view.freshness}, last tick {f.since(desk.now, view.last_tick)} ago", fresh),
                )
            )
        return lines

    return facts


def says(*sentences: str, ink: str = "text") -> Callable[[Replica], list[Line]]:
    """Plain sentences."""

    def facts(_: Replica) -> list[Line]:
        return [row for sentence in sentences for row in wrap(sentence, WIDTH, ink)]

    return facts


def one_order(order: Order) -> Callable[[Replica], list[Line]]:
    """The order as it now stands, not as it stood when the dialog opened."""

    def facts(desk: Replica) -> list[Line]:
        now = desk.snapshot.order(order.client_id) if desk.snapshot else None
        if now is None:
            return [line((f"order {order.client_id} is no longer open", "warn"))]
        lines = [order_words(now, desk)]
        lines.append(
            line(("client id ", "dim"), now.client_id, ("  broker id ", "dim"), outside(now.broker_id or f.NONE))
        )
        lines.append(
            line(("filled ", "dim"), f"{f.size(now.filled)} of {f.size(now.terms.quantity)}",
                 ("  updated ", "dim"), f"{f.since(desk.now, now.updated)} ago")
        )  # fmt: skip
        return lines

    return facts


def one_disagreement(one: Disagreement) -> Callable[[Replica], list[Line]]:
    """Three values side by side."""

    def facts(desk: Replica) -> list[Line]:
        return [
            line(outside(f"{one.session or one.account} {one.symbol}: "), (one.kind.value, "disagree")),
            *(
                line((f"{name:<9} ", "dim"), outside(value), (f"  {f.since(desk.now, at)} ago", "dim"))
                for name, value, at in zip(
                    ("memory", "database", "broker"), (one.memory, one.database, one.broker), one.read, strict=True
                )
            ),
            line(("done      ", "dim"), outside(one.done or "nothing yet")),
        ]

    return facts


def one_foreign(order: ForeignOrder) -> Callable[[Replica], list[Line]]:
    """An order that is not ours."""

    def facts(desk: Replica) -> list[Line]:
        instrument = desk.instrument(order.terms.symbol)
        asks = f.terms(order.terms, instrument.tick_size) if instrument else order.terms.side.value
        return [
            line(("account   ", "dim"), outside(order.account), ("  broker id ", "dim"), outside(order.broker_id)),
            line(("order     ", "dim"), outside(f"{order.terms.symbol} {asks}")),
            line(("first seen ", "dim"), f"{f.since(desk.now, order.seen)} ago"),
        ]

    return facts


def both(*parts: Callable[[Replica], list[Line]]) -> Callable[[Replica], list[Line]]:
    """Several facts under one another, an empty line between."""

    def facts(desk: Replica) -> list[Line]:
        lines: list[Line] = []
        for part in parts:
            rows = part(desk)
            if lines and rows:
                lines.append(line(""))
            lines += rows
        return lines

    return facts

"""The life of one order on one page: what it asked, each step with its moment, evidence, fills, differences. Pure."""

from __future__ import annotations

from console import formatting as f
from console.widgets.spans import Line, Span, line, outside, wrap
from engine.domain.disagreements import Disagreement
from engine.domain.fills import Fill
from engine.domain.ids import Millis
from engine.domain.instruments import Instrument
from engine.domain.orders import Doubt, Order
from engine.queries import JournalLine, OrderLifeAnswer

LABEL = 11
_INK = {"override": "accent", "disagreement": "disagree", "fill": "ok", "decision": "title", "intent": "title"}


def life_lines(life: OrderLifeAnswer, instrument: Instrument | None, now: Millis, width: int) -> list[Line]:
    """The whole page for a width."""
    lines = [] if life.order is None else head(life.order, instrument, now, width)
    start = life.order.created if life.order is not None else life.lines[0].at if life.lines else now
    lines += section("What happened")
    steps = sorted((*life.lines, *life.overrides), key=lambda step: (step.at, step.number))
    for step in steps:
        lines += _step(step, start, now, width)
    if not steps:
        lines.append(line(("  no line of the journal names it", "dim")))
    if life.fills:
        lines += section(f"Fills · {len(life.fills)}")
        lines += [_fill(fill, instrument, now) for fill in life.fills]
    if life.disagreements:
        lines += section(f"Disagreements · {len(life.disagreements)}")
        for item in life.disagreements:
            lines += _difference(item, now, width)
    return lines


def section(title: str) -> list[Line]:
    """A heading with air above it."""
    return [line(""), line((f" {title}", "bright"))]


def head(order: Order, instrument: Instrument | None, now: Millis, width: int) -> list[Line]:
    """The order as its row stands."""
    asks = order.terms
    wants = f"{asks.side.value.upper()} {f.size(asks.quantity)} {asks.type}"
    if instrument is not None:
        wants = f.terms(asks, instrument.tick_size)
    open_ink = "warn" if order.is_in_doubt else "text" if order.is_open else "dim"
    lines = [
        _pair("state", (order.state.value, open_ink), (f"  since {f.moment(order.updated, now)}", "dim")),
        _pair("asks", outside(f"{asks.symbol} {wants}"), (f"  {order.role}, TIF {asks.tif}", "dim")),
        _pair(
            "filled",
            f"{f.size(order.filled)} of {f.size(asks.quantity)}",
            f" at {f.size(order.average_price)}" if order.average_price is not None else "",
            (f"  broker says {f.size(order.reported)}", "disagree" if order.open_for_fills else "dim"),
            (f"  fees {f.money(order.fees)}", "dim"),
        ),
        _pair("session", outside(order.session), outside(f"  account {order.account}", "dim")),
        _pair("ids", outside(order.client_id), outside(f"  broker {order.broker_id or f.NONE}", "dim")),
        _pair(
            "made",
            f.moment(order.created, now),
            (f"  sent {_after(order.created, order.sent)}  epoch {order.epoch}", "dim"),
        ),
        _pair("decision", outside(order.key, "dim")),
    ]
    kin = [(word, id) for word, id in (("parent", order.parent), ("replaces", order.replaces)) if id]
    kin += [("replaced by", order.replaced_by)] if order.replaced_by else []
    if kin:
        lines.append(_pair("kin", outside("  ".join(f"{word} {id}" for word, id in kin), "dim")))
    if order.flags:
        lines.append(_pair("flags", (", ".join(sorted(flag.value for flag in order.flags)), "warn")))
    if order.reason:
        lines += _wrapped("reason", order.reason, width, "text")
    if order.doubt is not None:
        lines += _doubt(order.doubt, now, width)
    return lines


def _doubt(doubt: Doubt, now: Millis, width: int) -> list[Line]:
    facts = _pair(
        "in doubt",
        (f"for {f.since(now, doubt.since)}", "block"),
        (f"  tries {doubt.tries}  answers without it {doubt.negatives}", "text"),
        (f"  next query {f.countdown(now, doubt.next_query)}", "warn"),
    )
    return [facts, *_wrapped("evidence", doubt.last_evidence or "none yet", width, "text")]


def _step(step: JournalLine, start: Millis, now: Millis, width: int) -> list[Line]:
    before = f"{f.moment(step.at, now):<14} {_after(start, step.at):>8}  "
    left = line((f" {before}", "dim"), (f"{f.plain(step.kind, 12):<13}", _INK.get(step.kind, "dim")))
    indent = 1 + len(before) + 13
    rows = wrap(step.text, width - indent - 1)
    return [(*left, *rows[0]), *((*line(" " * indent), *words) for words in rows[1:])]


def _fill(fill: Fill, instrument: Instrument | None, now: Millis) -> Line:
    price = f.price(fill.price, instrument.tick_size) if instrument is not None else f.size(fill.price)
    bust = (("  BUSTED", "block"),) if not fill.quantity else (("  corrected", "warn"),) if fill.revision else ()
    return line(
        (f" {f.moment(fill.at, now):<14}  ", "dim"),
        (f.side(fill.side), "long" if fill.side.sign > 0 else "short"),
        f" {f.size(fill.quantity)} at {price}",
        (f"  fee {f.money(fill.fee)}", "dim"),
        outside(f"  {fill.key}", "dim"),
        *bust,
    )


def _difference(item: Disagreement, now: Millis, width: int) -> list[Line]:
    lines = [
        line(
            (f" {f.moment(item.first_seen, now):<14}  ", "dim"),
            (item.kind.value, "disagree"),
            f": {item.state.value}",
            outside(f"  acknowledged by {item.acknowledged_by}" if item.acknowledged_by else "", "dim"),
        )
    ]
    for name, value, read in zip(
        ("memory", "database", "broker"), (item.memory, item.database, item.broker), item.read, strict=True
    ):
        said = line((f"    {name:<10}", "dim"), outside(value or f.NONE), (f"  read {f.moment(read, now)}", "dim"))
        lines.append(said)
    for label, words in (("done", item.done), ("note", item.note)):
        if words:
            rows = wrap(words, width - 15)
            lines.append((*line((f"    {label:<10}", "dim")), *rows[0]))
            lines += [(*line(" " * 14), *more) for more in rows[1:]]
    return lines


def _pair(label: str, *parts: str | Span | tuple[str, str]) -> Line:
    return line((f" {label:<{LABEL}}", "dim"), *parts)


def _wrapped(label: str, words: str, width: int, ink: str) -> list[Line]:
    rows = wrap(words, width - LABEL - 2, ink)
    first = (*line((f" {label:<{LABEL}}", "dim")), *rows[0])
    return [first, *((*line(" " * (LABEL + 1)), *more) for more in rows[1:])]


def _after(start: Millis, at: Millis | None) -> str:
    """How long after the order was made."""
    if at is None:
        return "not yet"
    return f"+{f.age(at - start)}" if at >= start else f"-{f.age(start - at)}"

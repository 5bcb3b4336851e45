"""Tickets: an order by hand, and other terms for a working one, each checked by the engine while it is typed. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from console import formatting as f
from console.replica import Replica
from console.screens.modals.facts import exposure, one_order
from console.screens.modals.spec import YES, Answers, Field, FieldKind, Form, number, reason, word
from console.widgets.spans import Line, line, outside, wrap
from engine.commands import Command, ModifyOrder, Origin, SubmitByHand
from engine.domain.orders import Order, OrderType, Side, Terms, TimeInForce
from engine.domain.risk import CompleteHeat
from engine.domain.settings import Protection
from engine.queries import CheckAnswer, ModifyCheck, Query, TicketCheck
from engine.snapshot import SessionView

ACTIONS = (("buy", "enter ▲ BUY"), ("sell", "enter ▼ SELL"), ("exit", "exit at market"))
TYPES = tuple((kind.value, kind.value) for kind in OrderType)
TIFS = tuple((tif.value, tif.value) for tif in TimeInForce)
LIMITED = (OrderType.LIMIT.value, OrderType.STOP_LIMIT.value)
STOPPED = (OrderType.STOP.value, OrderType.STOP_LIMIT.value)
WIDTH = 70


def _number(name: str, label: str, *, required: bool = True, default: str = "") -> Field:
    return Field(name, label, FieldKind.NUMBER, required=required, default=default)


def _choice(name: str, label: str, options: tuple[tuple[str, str], ...], default: str) -> Field:
    return Field(name, label, FieldKind.CHOICE, options=options, default=default)


# -- an order by hand ---------------------------------------------------------------------------------------------


def order_by_hand(view: SessionView, *, exit: bool = False) -> Form:
    """Enter or leave by hand; an exit is short and waits for nobody."""
    held = view.position.quantity
    first = "exit" if exit else "sell" if held < 0 else "buy"
    stop_wanted = view.protection_wanted is Protection.STOP
    fields = {
        field.name: field
        for field in (
            _choice("action", "do", ACTIONS, first),
            _number("size", "size", default=f.size(abs(held)) if exit and held else ""),
            _choice("type", "type", TYPES, OrderType.MARKET.value),
            _number("stop", "stop price"),
            _number("limit", "limit price"),
            _number("stop_loss", "stop loss", required=stop_wanted),
            _number("target", "target", required=False),
            _choice("tif", "in force", TIFS, TimeInForce.DAY.value),
            reason("reason"),
            word("BUY"),
            replace(YES, label="type yes (or y)"),
        )
    }

    def shown(answers: Answers, _: CheckAnswer | None) -> tuple[Field, ...]:
        action, kind = answers.get("action", first), answers.get("type", "")
        if action == "exit":
            return tuple(fields[name] for name in ("action", "size", "yes"))
        names = ["action", "size", "type"]
        names += ["stop"] if kind in STOPPED else []
        names += ["limit"] if kind in LIMITED else []
        names += ["stop_loss", "target", "tif", "reason"]
        typed = replace(word(action.upper()), label=f"type {action.upper()}")
        return (*(fields[name] for name in names), typed)

    def query(answers: Answers) -> Query | str:
        terms = _terms(view, answers)
        if isinstance(terms, str):
            return terms
        leaving = answers["action"] == "exit"
        return TicketCheck(
            session=view.id,
            terms=terms,
            is_exit=leaving,
            stop_loss=None if leaving else number(answers["stop_loss"]),
            take_profit=None if leaving else number(answers["target"]),
        )

    def make(origin: Origin, answers: Answers) -> Command:
        terms = _terms(view, answers)
        assert isinstance(terms, Terms)
        leaving = answers["action"] == "exit"
        return SubmitByHand(
            origin=origin,
            session=view.id,
            terms=terms,
            is_exit=leaving,
            stop_loss=None if leaving else number(answers["stop_loss"]),
            take_profit=None if leaving else number(answers["target"]),
            reason=answers.get("reason", "").strip(),
        )

    return Form(
        name="ticket",
        title=f"Order by hand · {view.id}",
        facts=_facts(view),
        fields=tuple(fields.values()),
        make=make,
        verb="send the order",
        follows=lambda answers: True,
        shown=shown,
        start="" if exit else "action",
        query=query,
        verdict=verdict(view),
        waits=lambda answers: answers["action"] != "exit",
        result=_order_of,
    )


def _terms(view: SessionView, answers: Answers) -> Terms | str:
    """The terms that the answers make, or which figure is still missing."""
    leaving, kind = answers["action"] == "exit", answers.get("type", OrderType.MARKET.value)
    names = {"size": "size"}
    if not leaving:
        names |= {"stop": "stop price"} if kind in STOPPED else {}
        names |= {"limit": "limit price"} if kind in LIMITED else {}
    for name, label in names.items():
        if number(answers.get(name, "")) is None:
            return f"give the {label} as a number" if answers.get(name, "").strip() else f"no {label} yet"
    for name, label in (("stop_loss", "stop loss"), ("target", "target")):
        if not leaving and answers.get(name, "").strip() and number(answers[name]) is None:
            return f"give the {label} as a number"
    size = number(answers["size"])
    assert size is not None
    symbol = view.instrument.symbol
    if leaving:
        side = Side.SELL if view.position.quantity > 0 else Side.BUY
        return Terms(symbol=symbol, side=side, quantity=size, type=OrderType.MARKET)
    return Terms(
        symbol=symbol,
        side=Side(answers["action"]),
        quantity=size,
        type=OrderType(kind),
        stop=number(answers["stop"]) if kind in STOPPED else None,
        limit=number(answers["limit"]) if kind in LIMITED else None,
        tif=TimeInForce(answers["tif"]),
    )


def _order_of(origin: Origin, desk: Replica) -> Order | None:
    """The order that a command made: its decision key names the command."""
    if desk.snapshot is None:
        return None
    orders = (*desk.snapshot.orders, *desk.snapshot.recent_orders)
    return next((o for o in orders if f"/{origin.id}/" in o.key and not o.role.is_protective), None)


# -- other terms --------------------------------------------------------------------------------------------------


def modify_order(order: Order, view: SessionView) -> Form:
    """Other prices or another size; what adds risk needs a reason and a typed word."""
    tick, terms = view.instrument.tick_size, order.terms
    fields = [_number("size", "size in all", default=f.size(terms.quantity))]
    if terms.stop is not None:
        fields.append(_number("stop", "stop price", default=f.price(terms.stop, tick)))
    if terms.limit is not None:
        fields.append(_number("limit", "limit price", default=f.price(terms.limit, tick)))
    why, typed, yes = reason("reason"), replace(word("MORE"), label="type MORE"), replace(YES, label="type yes (or y)")

    def shown(answers: Answers, answer: CheckAnswer | None) -> tuple[Field, ...]:
        if answer is not None and answer.risk is not None and answer.risk > 0:
            return (*fields, why, typed)
        return (*fields, yes)

    def new(answers: Answers) -> dict[str, Decimal | None]:
        given = {field.name: number(answers.get(field.name, "")) for field in fields}
        was = {"size": terms.quantity, "stop": terms.stop, "limit": terms.limit}
        return {name: value if value != was[name] else None for name, value in given.items()}

    def query(answers: Answers) -> Query | str:
        for field in fields:
            if number(answers.get(field.name, "")) is None:
                return f"give the {field.label} as a number"
        asked = new(answers)
        if not any(value is not None for value in asked.values()):
            return "nothing is changed yet"
        return ModifyCheck(
            order=order.client_id, quantity=asked["size"], limit=asked.get("limit"), stop=asked.get("stop")
        )

    def make(origin: Origin, answers: Answers) -> Command:
        asked = new(answers)
        return ModifyOrder(
            origin=origin,
            order=order.client_id,
            quantity=asked["size"],
            limit=asked.get("limit"),
            stop=asked.get("stop"),
            reason=answers.get("reason", "").strip(),
        )

    return Form(
        name="modify_order",
        title=f"Modify {order.role} {order.terms.symbol}",
        facts=one_order(order),
        fields=(*fields, why, typed, yes),
        make=make,
        verb="ask the broker for these terms",
        follows=lambda answers: True,
        danger=order.role.is_protective,
        shown=shown,
        start=fields[-1].name,
        query=query,
        verdict=verdict(view),
        waits=lambda answers: order.is_entry,
        result=lambda origin, desk: desk.snapshot.order(order.client_id) if desk.snapshot else None,
    )


# -- words --------------------------------------------------------------------------------------------------------


def _facts(view: SessionView) -> Callable[[Replica], list[Line]]:
    """Price and grid, position with its age, then orders and the age of the data where there is room."""

    def lines(desk: Replica) -> list[Line]:
        now = desk.session(view.id) or view
        tick = view.instrument.tick_size
        fresh = "text" if now.freshness.allows_entries and not desk.silent else "stale"
        market = line(
            ("market    ", "dim"),
            outside(f"{view.instrument.symbol} "),
            (f.price(now.last_price, tick), fresh),
            (f"  {f.since(desk.now, now.last_tick)} ago", "dim" if fresh == "text" else "warn"),
            (f"  tick {f.size(tick)}  size step {f.size(view.instrument.size_step)}", "dim"),
        )
        rows = exposure(view.id, most=2)(desk)
        return [*rows[:1], market, *rows[1:]] if desk.silent else [market, *rows]

    return lines


def heat_words(answer: CheckAnswer, desk: Replica) -> Line:
    """Heat before and after, in the ink of what it comes to; nothing is added up where there is no total."""
    label = ("heat      ", "dim")
    before = answer.before
    if not isinstance(before, CompleteHeat) or answer.after is None or desk.snapshot is None:
        floor = "" if before is None or isinstance(before, CompleteHeat) else f"at least {f.percent(before.at_least)}, "
        return line(label, (f"{floor}nobody can say what it would become", "warn"))
    limits = desk.snapshot.heat.limits
    ink = "block" if answer.after >= limits.block else "warn" if answer.after >= limits.warn else "ok"
    return line(
        label,
        f"{f.percent(before.percent, 2)} → ",
        (f.percent(answer.after, 2), ink),
        (f"   warn {f.percent(limits.warn)}  block {f.percent(limits.block)}", "dim"),
    )


def verdict(view: SessionView) -> Callable[[Answers, CheckAnswer, Replica], list[Line]]:
    """The engine's answer in lines: the figures, then what it brings about, and last what stands against it."""
    instrument = view.instrument

    def lines(answers: Answers, answer: CheckAnswer, desk: Replica) -> list[Line]:
        rows: list[Line] = []
        if answer.notional is not None:
            worth = f"{f.money(answer.notional)} {instrument.currency} at {f.price(answer.price, instrument.tick_size)}"
            rows.append(
                line(("value     ", "dim"), worth, ("   risk ", "dim") if answer.risk is not None else "",
                     f.profit(answer.risk) if answer.risk is not None else "")
            )  # fmt: skip
        if answer.risk is not None:
            rows.append(heat_words(answer, desk))
        if answer.closable is not None:
            asked, closes = number(answers.get("size", "")), answer.quantity or Decimal(0)
            capped = asked is not None and asked > closes
            rows.append(
                line(("closes    ", "dim"), (f.size(closes), "warn" if capped else "bright"),
                     (f"  at most {f.size(answer.closable)} can be closed", "dim"))
            )  # fmt: skip
        if answer.plan:
            rows += wrap(answer.plan, WIDTH, "text")
        for sign, ink, sentences in (("▲ ", "warn", answer.warnings), ("✕ ", "block", answer.refusals)):
            for sentence in sentences:
                first, *more = wrap(sentence, WIDTH - 2, ink)
                rows += [(*line((sign, ink)), *first), *((*line("  "), *row) for row in more)]
        if not answer.refusals:
            rows.append(line(("● ", "ok"), ("nothing stands against it", "ok"), ("  by memory's position", "dim")))
        return rows

    return lines

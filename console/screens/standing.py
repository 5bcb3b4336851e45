"""How one session stands, in label and value lines: position, guard, limits, feed, and why it may not enter. Pure."""

from __future__ import annotations

from decimal import Decimal

from console import formatting as f
from console.replica import Replica
from console.widgets.spans import Line, Span, fit, line, outside, spread, wrap
from engine.domain.ids import Millis, SessionId
from engine.domain.risk import Stance
from engine.snapshot import ProtectionState, SessionView

LABEL = 11
ROOMY = 10
"""With fewer lines only the first reason of a block is told; the list of every session's blocks has them all."""
_GUARD_INK = {
    ProtectionState.COVERED: "ok",
    ProtectionState.COVERING: "warn",
    ProtectionState.NAKED: "block",
    ProtectionState.INERT: "block",
    ProtectionState.FLAT: "dim",
    ProtectionState.NOT_REQUIRED: "dim",
}


def pair(label: str, *parts: str | Span | tuple[str, str]) -> Line:
    """A dim label and its value."""
    return line((f" {label:<{LABEL}}", "dim"), *parts)


def money(amount: Decimal) -> tuple[str, str]:
    """An amount with its sign and the ink of what it means."""
    return f.profit(amount), "long" if amount > 0 else "short" if amount < 0 else "dim"


def why_blocked(view: SessionView, now: Millis, width: int) -> list[Line]:
    """Every reason why no entry leaves, with its age."""
    if not view.blocked:
        return [pair("entries", ("● open", "ok"))]
    lines: list[Line] = []
    for number, block in enumerate(view.blocked):
        age = f" · {f.since(now, block.since)}" if block.since is not None else ""
        for row, words in enumerate(wrap(block.reason + age, width - LABEL - 4, "warn")):
            label = f" {'' if number or row else 'entries':<{LABEL}}"
            lines.append(line((label, "dim"), ("  " if row else "✕ ", "block"), *words))
    return lines


def standing(view: SessionView, desk: Replica, width: int, height: int) -> list[Line]:
    """As many lines as fit, what needs a hand first."""
    tick, now = view.instrument.tick_size, desk.now
    held = view.position
    confirmed = f"  confirmed {f.since(now, view.position_confirmed)}"
    ink = "dim" if held.is_flat else "long" if held.quantity > 0 else "short"
    average = "" if held.is_flat else f" @ {f.price(held.average_price, tick)}"
    orders = desk.orders_of(view.id)
    doubt = sum(order.is_in_doubt for order in orders)
    lines = why_blocked(view, now, width)
    if height < ROOMY and len(lines) > 1:
        lines = [fit(lines[0], width - 1) if len(view.blocks) == 1 else spread(
            lines[0], line((f"+{len(view.blocks) - 1}", "dim")), width - 1)]  # fmt: skip
    stop = (f.price(view.stop_price, tick), ("   target ", "dim"), f.price(view.target_price, tick))
    guard: tuple[str | tuple[str, str], ...] = (
        (view.protection.value, _GUARD_INK[view.protection]),
        (f"  {len(orders)} {'order' if len(orders) == 1 else 'orders'} open", "dim"),
        (f"  {doubt} in doubt" if doubt else "", "block"),
    )
    together = width >= 72
    lines += [
        pair("position", (f.position(held), ink), average, (confirmed, "dim")),
        pair("guard", *guard, *((("   stop ", "dim"), *stop) if together else ())),
        *([] if together else [pair("stop", *stop)]),
        pair(
            "open P&L",
            money(view.open_profit),
            ("   day ", "dim"),
            money(view.day_profit),
            ("   heat ", "dim"),
            f.percent(view.heat_share),
        ),
        pair(
            "feed",
            (view.freshness.value, "text" if view.freshness.allows_entries else "warn"),
            (f"  last tick {f.since(now, view.last_tick)} ago", "dim"),
        ),
    ]
    if height > len(lines) + 4:
        limits = view.limits
        lines += [
            line(""),
            pair("strategy", outside(view.strategy), (f"  {view.timeframe}", "dim")),
            pair("runs", str(view.strategy_runs), (f"  restarts {view.restarts}", "dim")),
            pair("phase", outside(view.phase.value), outside(f"  {view.phase_detail}", "dim")),
            line(""),
            pair(
                "limits",
                f"loss {f.money(limits.max_daily_loss, 0)} a day",
                (f"  worst case {f.money(limits.worst_case_per_contract, 0)}", "dim"),
            ),
            pair(
                "sizes",
                f"order {f.size(limits.max_order_size)}",
                (f"  position {f.size(limits.max_position_size)}", "dim"),
            ),
            pair("at most", f"{limits.entries_per_minute}/min", (f"  {limits.entries_per_day}/day", "dim")),
            pair("collar", f.percent(limits.price_collar * 100)),
        ]
        if view.latches:
            lines.append(pair("latches", (", ".join(view.latches), "block")))
        if view.decisions and height > len(lines) + 3:
            last = view.decisions[-1]
            lines += [line(""), pair("decision", (f.clock(last.at), "dim"), f" {f.plain(last.decision)}")]
            lines += [(*line(" " * (LABEL + 1)), *row) for row in wrap(last.reason, width - LABEL - 2, "dim")]
    return lines[:height]


def every_block(desk: Replica, selected: SessionId | None, width: int, height: int) -> list[Line]:
    """Why each session's entries are blocked and for how long, the selected one first, those that may enter last.

    Reasons are wrapped where there is room, else cut; how many did not fit is said.
    """
    views = sorted(desk.sessions, key=lambda view: view.id != selected)
    name = max((len(view.id) for view in views), default=0)
    opened = [
        line((" ▲ ", "warn") if view.stance is Stance.WARN else (" ● ", "ok"), outside(f"{view.id:<{name}}"),
             (f"{'':6}{'heat warns' if view.stance is Stance.WARN else 'open'}", "dim"))
        for view in views if not view.blocked
    ]  # fmt: skip
    whole: list[Line] = []
    short: list[Line] = []
    for view in views:
        for number, block in enumerate(view.blocked):
            head = line((" ✕ ", "block"), outside(f"{'' if number else view.id:<{name}}"),
                        (f" {f.since(desk.now, block.since):>4} ", "dim"))  # fmt: skip
            first, *rest = wrap(block.reason, width - name - 10, "warn")
            whole += [(*head, *first), *((*line(" " * (name + 9)), *row) for row in rest)]
            short.append(fit((*head, outside(block.reason, "warn")), width - 1))
    for lines in ([*whole, *opened], whole, [*short, *opened], short):
        if len(lines) <= height:
            return lines
    return [*short[: height - 1], line((f" … {len(short) - height + 1} more; select a session for its own", "dim"))]

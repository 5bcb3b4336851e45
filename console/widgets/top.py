"""What stands on every screen: identity, five lamps, heat, the entry block, alerts and footer, as lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from console import formatting as f
from console.actions import DEFAULT, KeyMap, key_of
from console.replica import Replica
from console.widgets.spans import Line, Span, fit, line, outside, spread, width_of
from engine.domain.risk import CompleteHeat, IncompleteHeat, Stance
from engine.snapshot import Alert, HeatView, Lamp, Lamps, LampView, Severity

WIDE = 120
EIGHTHS = " ▏▎▍▌▋▊▉█"

LAMPS = (
    ("inbound", "IN", "INBOUND", "market"),
    ("outbound", "OUT", "OUTBOUND", "orders"),
    ("persistence", "DB", "PERSIST", "orders"),
    ("reconciliation", "REC", "RECONCILE", "reconciliation"),
    ("aggregation", "HEAT", "HEAT", "heat"),
)
"""Field of Lamps, short name, full name, and the screen it opens."""

WIDE_SLOTS = (19, 28, 16, 28, 28)
"""Cells of each lamp with its full name at 120 columns, so that a longer figure moves no other lamp."""

TABS = (
    ("desk", "Desk"),
    ("market", "Market"),
    ("orders", "Orders"),
    ("reconciliation", "Reconcile"),
    ("heat", "Heat"),
    ("journal", "Journal"),
)

_LAMP_SHAPE = {Lamp.WAITING: ("○", "dim"), Lamp.OK: ("●", "ok"), Lamp.WARN: ("▲", "warn"), Lamp.ALARM: ("■", "block")}
_LAMP_INK = {Lamp.WAITING: "dim", Lamp.OK: "text", Lamp.WARN: "warn", Lamp.ALARM: "block"}
_STANCE_INK = {Stance.OPEN: "ok", Stance.WARN: "warn", Stance.BLOCK: "block"}
_STANCE_WORDS = {Stance.OPEN: "entries open", Stance.WARN: "WARN · entries open", Stance.BLOCK: "BLOCK · exits open"}
_ALERT_SHAPE = {
    Severity.CRITICAL: ("■ CRITICAL", "alarm"),
    Severity.WARNING: ("▲ WARNING", "caution"),
    Severity.NOTE: ("● NOTE", "quiet"),
}


def identity(desk: Replica, operator: str, place: str, width: int) -> Line:
    """Who and where we are: product, PAPER or LIVE, account, operator, clock."""
    snapshot = desk.snapshot
    left = [Span(" "), Span("SEXTANT", "bright"), Span(" ")]
    if snapshot is None:
        return spread((*left, Span("waiting for the engine", "dim")), line((f"{operator} ", "dim")), width)
    left += line((" LIVE ", "live") if desk.live else (" PAPER ", "paper"), " ")
    accounts = ", ".join(account.id for account in snapshot.accounts) or "no account"
    left.append(outside(accounts))
    if snapshot.title and width >= 100:
        left += [Span(" · ", "faint"), outside(snapshot.title, "dim")]
    if snapshot.killed:
        left += [Span(" "), Span(" KILLED ", "alarm")]
    who = f"{operator}@{place}" if width >= 100 and place else operator
    time = line((f"{f.date(desk.now)} " if width >= 100 else "", "dim"), f.clock(desk.now), (" UTC ", "dim"))
    right: Line = (outside(who, "dim"), Span(" · ", "faint"), *time)
    if desk.silent_for is not None:
        silent = f" ENGINE SILENT {f.age(round(desk.silent_for * 1000))} "
        right = (Span(silent, "alarm"), Span(" "), *right)
    return spread(tuple(left), right, width)


def lamp_line(desk: Replica, width: int) -> Line:
    """One lamp per flow, each in its place: shape, word and figure; a click opens its screen."""
    lamps = desk.snapshot.lamps if desk.snapshot else None
    cells: list[Line] = []
    for field, short, full, screen in LAMPS:
        view: LampView | None = getattr(lamps, field) if isinstance(lamps, Lamps) else None
        lamp = view.lamp if view else Lamp.WAITING
        name = full if width >= WIDE else short
        words = "waiting" if view is None else view.text if width >= WIDE else view.short
        words = words[len(name) :].strip() if words.upper().startswith(name) else words.strip()
        shape, shape_ink = _LAMP_SHAPE[lamp] if not desk.silent else ("○", "stale")
        ink = _LAMP_INK[lamp] if not desk.silent else "stale"
        act = f"app.act('go_{screen}')"
        mark = "!" if lamp is Lamp.ALARM and not words.endswith("!") else ""
        cells.append(
            (
                Span(shape, shape_ink, act),
                Span(f" {name} ", "dim", act),
                Span(f.plain(words) + mark, ink, act),
            )
        )
    slots = [each + (width - WIDE) // len(cells) for each in WIDE_SLOTS] if width >= WIDE else [(width - 1) // 5] * 5
    if any(width_of(cell) >= slot for cell, slot in zip(cells, slots, strict=True)):
        room = width - 1 - sum(width_of(cell) for cell in cells)
        gap = Span(" " * max(1, min(4, room // len(cells))))
        return fit((Span(" "), *(span for cell in cells for span in (*cell, gap))), width)
    return (Span(" "), *(span for cell, slot in zip(cells, slots, strict=True) for span in fit(cell, slot)))


def heat_bar(view: HeatView, cells: int) -> Line:
    """A bar from 0 to a quarter past the block, in eighths of a cell, with ticks at warn (╎) and block (┃)."""
    full = view.limits.block * Decimal("1.25")
    value = Decimal(0)
    if isinstance(view.heat, CompleteHeat):
        value = view.heat.percent
    elif isinstance(view.heat, IncompleteHeat):
        value = view.heat.at_least or value
    filled = min(cells * 8, max(0, round(value / full * cells * 8))) if full > 0 else 0
    ink = _STANCE_INK[view.stance]
    whole, part = divmod(filled, 8)
    glyphs = ["█"] * whole + ([EIGHTHS[part]] if part else [])
    glyphs += ["─"] * (cells - len(glyphs))
    inks = [ink if index < whole + bool(part) else "grid" for index in range(cells)]
    for level, glyph, tick_ink in ((view.limits.warn, "╎", "warn"), (view.limits.block, "┃", "block")):
        place = min(cells - 1, int(level / full * cells)) if full > 0 else 0
        glyphs[place] = glyph
        inks[place] = tick_ink if place >= whole else f"{ink}~"
    return tuple(Span(glyph, one) for glyph, one in zip(glyphs, inks, strict=True))


def heat_line(desk: Replica, width: int) -> Line:
    """Heat in one line: bar, number, thresholds, and the stance in words."""
    if desk.snapshot is None:
        return line(" HEAT ", ("waiting for the first report", "dim"))
    view = desk.snapshot.heat
    cells = max(12, min(48, width // 4))
    ink = "stale" if desk.silent else _STANCE_INK[view.stance]
    act = "app.act('go_heat')"
    stance = "not heard here" if desk.snapshot.view_only else _STANCE_WORDS[view.stance]
    warn, block = (f"{f.size(limit)} %" for limit in (view.limits.warn, view.limits.block))
    right = line((f"warn {warn}  block {block} " if width >= 100 else f"of {block} ", "dim"))
    return spread(
        (
            Span(" HEAT ", "dim", act),
            *heat_bar(view, cells),
            Span(" "),
            Span(f.heat_words(view.heat), ink, act),
            Span("  "),
            Span(stance, ink, act),
        ),
        right,
        width,
    )


def banner(desk: Replica, width: int, keys: KeyMap = DEFAULT) -> list[Line]:
    """Entries are blocked: why, since when, how many were stopped, what rests, and that exits are open.

    Where another engine commands, who that is; no word about entries or exits, which are its own.
    """
    if desk.snapshot is not None and desk.snapshot.view_only:
        who = line((" VIEW ONLY ", "alarm"), " ", outside(desk.snapshot.view_only, "bright"))
        return [fit(who, width), fit(line((" as its rows tell · nothing is sent from here", "text")), width)]
    block = desk.entry_block
    if block is None:
        return []
    ink = "alarm" if block.everywhere else "caution"
    where = "" if block.everywhere else f" in {len(block.sessions)} of {len(desk.sessions)} sessions"
    head = line((f" ENTRIES BLOCKED{where} ", ink), " ", outside(block.why, "bright"))
    facts = []
    if block.since is not None:
        facts.append(f"since {f.clock(block.since)}")
    facts.append(f"{block.stopped} {'entry' if block.stopped == 1 else 'entries'} stopped")
    facts.append(f"{block.resting} resting" + (f" ({key_of('cancel_entries', keys)} cancels)" if block.resting else ""))
    tail = line((" · ".join(facts), "text"), (" · ", "faint"), ("exits are open ", "ok"))
    if width_of(head) + width_of(tail) + 2 <= width:
        return [spread(head, tail, width)]
    return [fit(head, width), fit((Span(" "), *tail), width)]


def alert_lines(desk: Replica, width: int, height: int, keys: KeyMap = DEFAULT) -> list[Line]:
    """The worst alerts, one a line; the last line says how many more there are."""
    alerts = desk.alerts
    if not alerts:
        return [line((" no alerts", "faint"))]
    lines = [_alert(alert, desk.now, width) for alert in alerts[:height]]
    waiting = sum(not alert.acknowledged for alert in alerts)
    count = (
        line((f" {len(alerts)} · ", "dim"), (key_of("acknowledge_alert", keys), "key"), (" acknowledge ", "dim"))
        if waiting
        else line("")
    )
    lines[0] = spread(lines[0], count, width)
    return lines


def _alert(alert: Alert, now: int, width: int) -> Line:
    shape, ink = _ALERT_SHAPE[alert.severity]
    if alert.acknowledged:
        shape, ink = f"{shape} seen", "dim"
    return line(
        (f" {shape} ", ink), " ", outside(alert.text, "dim" if alert.acknowledged else "text"),
        (f"  {f.since(now, alert.since)}", "dim"),
    )  # fmt: skip


def footer(keys: Sequence[tuple[str, str, str]], screen: str, width: int) -> Line:
    """The screens as tabs, then (key, title, action) as many as fit, the most important first; all can be clicked."""
    spans: list[Span] = [Span(" ")]
    for number, (name, title) in enumerate(TABS, start=1):
        here = name == screen
        words = f" {number} {title} " if width >= WIDE or here else f" {number} "
        spans.append(Span(words, "tag" if here else "dim", f"app.act('go_{name}')"))
    spans.append(Span("  "))
    used = width_of(tuple(spans))
    for key, title, name in keys:
        act = f"app.act('{name}')"
        cells = len(key) + len(title) + 3
        if used + cells > width:
            break
        spans += [Span(key, "key", act), Span(f" {title}  ", "dim", act)]
        used += cells
    return tuple(spans)

"""Is a session's series complete, and why did it not trade: seam, gaps, replacements, decision log. Pure."""

from __future__ import annotations

from console import formatting as f
from console.replica import Replica
from console.widgets.candles import SHADE
from console.widgets.marks import LEGEND
from console.widgets.progress import on_its_way, step_words, warm_up_bar
from console.widgets.spans import Line, Span, hatched, line, outside, wrap
from engine.snapshot import Phase, SessionView


def completeness(view: SessionView, desk: Replica, width: int, height: int, *, shaded: bool = False) -> list[Line]:
    """The seam between history and feed, gaps, replacements, and the legend; one line where there is one."""
    if height == 1:
        return [in_short(view)]
    lines = [*progress(view), *seam(view, desk), *gaps(view)]
    lines.append(_pair("replaced", (str(len(view.replaced)), "disagree" if view.replaced else "dim"),
                       ("  after they had closed", "dim")))  # fmt: skip
    lines.append(_pair("candles", str(len(view.candles)), (f"  strategy ran {view.strategy_runs}", "dim")))
    rest = legend(width, shaded=shaded)
    return [*lines, line(""), *rest] if len(lines) + len(rest) < height else [*lines, *rest][:height]


def _pair(label: str, *parts: str | Span | tuple[str, str]) -> Line:
    return line((f" {label:<9} ", "dim"), *parts)


def progress(view: SessionView) -> list[Line]:
    """How far a start is; nothing when it is over."""
    if not on_its_way(view):
        return []
    bar = warm_up_bar(view, 16) if view.phase is Phase.WARMING else line((step_words(view), "warn"))
    return [_pair("warm-up" if view.phase is Phase.WARMING else "start", *bar)]


def seam(view: SessionView, desk: Replica) -> list[Line]:
    """Proof that history and feed join: how many windows both have seen."""
    if view.seam is None:
        if view.phase in (Phase.WARMING, Phase.TRADING):
            return [_pair("seam", ("none: a recording from its start", "dim"))]
        return [_pair("seam", (f"not joined yet: {view.phase}", "warn"))]
    one = view.seam
    return [
        _pair("seam", (f"overlap {one.overlap}", "ok" if one.overlap else "warn"),
              (f"  of {one.history_candles} from history", "dim")),
        _pair("joined", f.moment(one.subscribed, desk.now), ("  history to ", "dim"),
              f.moment(one.history_until, desk.now)),
    ]  # fmt: skip


def gaps(view: SessionView) -> list[Line]:
    """How many there were, and the newest two with their causes."""
    still_open = sum(not gap.closed for gap in view.gaps)
    filled = sum(gap.filled for gap in view.gaps)
    lines = [_pair("gaps", (f"{still_open} open", "block" if still_open else "ok"),
                   (f"  {len(view.gaps)} seen, {filled} candles fetched", "dim"))]  # fmt: skip
    for gap in reversed(view.gaps[-2:]):
        end = f.clock(gap.end) if gap.closed else "still open"
        ink = "text" if gap.closed else "block"
        lines.append(_pair("", (f"{f.clock(gap.start)}–{end} ", ink), outside(gap.cause, "dim")))
    return lines


def in_short(view: SessionView) -> Line:
    """The same in one line, what wants a look in colour."""
    joined = "no seam" if view.seam is None else f"seam overlap {view.seam.overlap}"
    still_open = sum(not gap.closed for gap in view.gaps)
    start = [*progress(view)[0][1:], Span("  ")] if on_its_way(view) else []
    return line(
        " ", *start, (joined, "ok" if view.seam is not None and view.seam.overlap else "dim"), (" · ", "faint"),
        (f"{still_open} gaps open", "block" if still_open else "ok"), (f" of {len(view.gaps)} seen", "dim"),
        (" · ", "faint"), (f"{len(view.replaced)} replaced", "disagree" if view.replaced else "dim"),
        (" · ", "faint"), (f"{len(view.candles)} candles", "dim"),
    )  # fmt: skip


def legend(width: int, *, shaded: bool = False) -> list[Line]:
    """What the chart's signs mean, as many to a line as fit; `shaded`: without colour."""
    signs = [("█", "long", "up"), (SHADE if shaded else "█", "short", "down"), ("□", "text", "forming"),
             ("▲▼", "bright", "entry"), ("△▽", "bright", "exit"), *LEGEND]  # fmt: skip
    lines: list[Line] = []
    spans: list[Span] = []
    used = 0
    for glyph, ink, word in signs:
        need = len(glyph) + len(word) + 3
        if spans and used + need > width:
            lines.append(tuple(spans))
            spans, used = [], 0
        spans += [Span(f" {glyph}", ink), Span(f" {word} ", "dim")]
        used += need
    return [*lines, tuple(spans)]


def decisions(view: SessionView, width: int, height: int, pointed: range = range(0)) -> list[Line]:
    """The decision log, newest first: what was decided on each candle and why not otherwise.

    `pointed`: the moments under the crosshair; their decisions are marked, and in sight.
    """
    if not view.decisions:
        return hatched(
            width, height, ("No candle has been decided on.", f.plain(view.phase_detail) or "Wait for a close.")
        )
    lines: list[Line] = []
    aim: int | None = None
    for one in reversed(view.decisions):
        here = one.candle in pointed
        aim = len(lines) if here and aim is None else aim
        quiet = one.decision.lower() in ("nothing", "none", "not run") and not here
        sign = Span("▸" if here else " ", "accent")
        head = (sign, Span(f"{f.clock(one.candle)} ", "dim"), outside(one.decision, "dim" if quiet else "bright"))
        rest = wrap(one.reason, width - 11, "dim" if quiet else "text")
        if len(rest) == 1 and len(one.decision) + len(one.reason) + 12 <= width:
            lines.append((*head, Span("  "), *rest[0]))
        else:
            lines.append(head)
            lines += [(*line(" " * 10), *row) for row in rest]
    first = 0 if aim is None else max(0, min(aim - height // 3, len(lines) - height))
    return lines[first : first + height]

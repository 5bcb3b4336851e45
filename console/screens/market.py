"""Flow 1: is this candle complete? One session's candles, the proof of its seam, and why it did not trade."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container

from console import formatting as f
from console.replica import Replica
from console.screens.base import FlowScreen, screen_bindings
from console.widgets.chart import PITCHES, Look, draw_chart
from console.widgets.lines import Pane, entitle
from console.widgets.scale import Scale
from console.widgets.spans import Line, Span, hatched, line, outside, wrap
from engine.domain.ids import SessionId
from engine.snapshot import Phase, SessionView

PAN_BY = 10


class MarketScreen(FlowScreen):
    """The chart with its log beside or below it."""

    NAME = "market"
    BINDINGS = screen_bindings("market")

    def __init__(self) -> None:
        super().__init__()
        self._scales: dict[SessionId, Scale] = {}
        self._zoom = 1
        self._back = 0

    def body(self) -> ComposeResult:
        """Chart, seam, decision log."""
        with Container(id="panes"):
            yield Pane(id="plot", classes="frame")
            with Container(id="side"):
                yield Pane(id="seam", classes="frame", title="Is it complete?")
                yield Pane(id="why", classes="frame", title="Why no trade")

    def show_body(self, desk: Replica) -> None:
        """Everything about the selected session."""
        plot, seam, why = (self.query_one(f"#{id}", Pane) for id in ("plot", "seam", "why"))
        view = desk.session(self.desk_app.session)
        if view is None:
            entitle(plot, "Market")
            plot.paint(lambda w, h: hatched(w, h, ("No session to show.", "Add one to sextant.toml.")))
            return
        self._back = max(0, min(self._back, len(view.candles) - 2))
        look = Look(PITCHES[self._zoom], self._back)
        scale = self._scales.setdefault(view.id, Scale())
        title = f"{view.instrument.symbol} {view.timeframe} · {view.id} · {view.strategy}"
        entitle(plot, title, f"{self._back} candles back" if self._back else "")
        plot.paint(lambda w, h: [forming_line(view, desk, w), *draw_chart(view, scale, w, h - 1, look)])
        seam.paint(lambda w, h: completeness(view, desk, w)[:h])
        why.paint(lambda w, h: decisions(view, w, h))

    def own(self, what: str, by: int) -> None:
        """Another session, zoom, pan."""
        sessions = [view.id for view in self.desk_app.desk.sessions]
        match what:
            case "session" if sessions:
                at = sessions.index(self.desk_app.session) if self.desk_app.session in sessions else 0
                self.desk_app.session = sessions[(at + by) % len(sessions)]
                self._back = 0
            case "zoom":
                self._zoom = max(0, min(self._zoom + by, len(PITCHES) - 1))
            case "pan":
                self._back = max(0, self._back + by * PAN_BY)
            case _:
                return
        self.desk_app.show_now()


def forming_line(view: SessionView, desk: Replica, width: int) -> Line:
    """The forming candle in figures, and how long it has still to go."""
    tick = view.instrument.tick_size
    stale = desk.silent or not view.freshness.allows_entries
    last = line(
        (" ", "dim"),
        (f.price(view.last_price, tick), "stale" if stale else "bright"),
        (f" {f.since(desk.now, view.last_tick)}", "warn" if stale else "dim"),
        (f" {view.freshness}" if stale else "", "warn"),
        "   ",
    )
    candle = view.forming
    if candle is None:
        return (*last, Span("no forming candle", "dim"))
    left = candle.start + view.timeframe.ms - desk.now
    values = [("O", candle.open), ("H", candle.high), ("L", candle.low), ("C", candle.close)]
    spans: list[Span] = [*last, Span("forming ", "dim")]
    spans.append(Span(f"closes in {f.age(max(0, left))}  " if left > 0 else "closing  ", "dim"))
    if width >= 78:
        for name, value in values:
            spans += [Span(f"{name} ", "dim"), Span(f"{f.price(value, tick)}  ", "text")]
        spans += [Span("V ", "dim"), Span(f"{f.size(candle.volume)}  ")]
    return tuple(spans)


def completeness(view: SessionView, desk: Replica, width: int) -> list[Line]:
    """The seam between history and feed, gaps, replacements."""
    lines: list[Line] = []
    if view.seam is None:
        if view.phase in (Phase.WARMING, Phase.TRADING):
            lines.append(line((" seam      ", "dim"), ("none: a recording from its start", "dim")))
        else:
            lines.append(line((" seam      ", "dim"), (f"not joined yet: {view.phase}", "warn")))
    else:
        seam = view.seam
        ink = "ok" if seam.overlap else "warn"
        lines += [
            line(
                (" seam      ", "dim"),
                (f"overlap {seam.overlap}", ink),
                (f"  of {seam.history_candles} from history", "dim"),
            ),
            line(
                (" joined    ", "dim"),
                f.moment(seam.subscribed, desk.now),
                ("  history to ", "dim"),
                f.moment(seam.history_until, desk.now),
            ),
        ]
    open_gaps = [gap for gap in view.gaps if not gap.closed]
    filled = sum(gap.filled for gap in view.gaps)
    lines.append(
        line(
            (" gaps      ", "dim"),
            (f"{len(open_gaps)} open", "block" if open_gaps else "ok"),
            (f"  {len(view.gaps)} seen, {filled} candles fetched", "dim"),
        )
    )
    for gap in reversed(view.gaps[-2:]):
        lines.append(
            line((" " * 11, "dim"), (f"{f.clock(gap.start)}–{f.clock(gap.end)} ", "text"), outside(gap.cause, "dim"))
        )
    lines.append(
        line(
            (" replaced  ", "dim"),
            (str(len(view.replaced)), "disagree" if view.replaced else "dim"),
            ("  after they had closed", "dim"),
        )
    )
    lines.append(line((" candles   ", "dim"), str(len(view.candles)), (f"  strategy ran {view.strategy_runs}", "dim")))
    lines.append(line(""))
    lines.append(
        line(
            (" █", "long"),
            (" up ", "dim"),
            ("█", "short"),
            (" down ", "dim"),
            ("▲▼", "bright"),
            (" in ", "dim"),
            ("△▽", "bright"),
            (" out", "dim"),
        )
    )
    lines.append(
        line(
            (" ≈", "disagree"),
            (" replaced ", "dim"),
            ("○", "warn"),
            (" backfilled ", "dim"),
            ("╳", "block"),
            (" gap ", "dim"),
            ("·", "dim"),
            (" warm-up", "dim"),
        )
    )
    return lines


def decisions(view: SessionView, width: int, height: int) -> list[Line]:
    """The decision log, newest first: what was decided on each candle and why not otherwise."""
    if not view.decisions:
        return hatched(
            width, height, ("No candle has been decided on.", f.plain(view.phase_detail) or "Wait for a close.")
        )
    lines: list[Line] = []
    for one in reversed(view.decisions):
        if len(lines) >= height:
            break
        quiet = one.decision.lower() in ("nothing", "none", "not run")
        head = line((f" {f.clock(one.candle)} ", "dim"), outside(one.decision, "dim" if quiet else "bright"))
        rest = wrap(one.reason, width - 11, "dim" if quiet else "text")
        if len(rest) == 1 and len(one.decision) + len(one.reason) + 12 <= width:
            lines.append((*head, Span("  "), *rest[0]))
        else:
            lines.append(head)
            lines += [(*line(" " * 10), *row) for row in rest]
    return lines[:height]

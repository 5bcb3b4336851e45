"""Where somebody stands who looks at a chart: zoom, window, crosshair, timeframe. No Textual."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

from console import formatting as f
from console.widgets.bars import Bar, Gathered, timeframes
from console.widgets.chart import draw_sheet
from console.widgets.progress import on_its_way, waiting_words
from console.widgets.readout import readout
from console.widgets.scale import Scale
from console.widgets.sheet import PITCHES, Look, Sheet, capacity, lay_out
from console.widgets.spans import Line, hatched
from engine.domain.ids import Millis, SessionId
from engine.domain.market import Timeframe
from engine.snapshot import SessionView

USUAL_PITCH = PITCHES.index(2)


class Kept(Struct):
    """What is remembered of a session while another is shown: an axis per timeframe, its bars, the timeframe."""

    scales: dict[int, Scale]
    gathered: Gathered
    wide: Timeframe


class Viewpoint:
    """How one chart is looked at; `draw` gives its lines, `own` takes the chart's actions, `point` the mouse.

    `until` and `cross` are moments, not places, so that a candle that closes moves nothing that somebody looks at.
    """

    def __init__(self, *, shaded: bool = False) -> None:
        self.shaded = shaded
        self.sheet: Sheet | None = None
        self.until: Millis | None = None
        self.cross: Millis | None = None
        self._kept: dict[SessionId, Kept] = {}
        self._view: SessionView | None = None
        self._now: Millis = 0
        self._stale = False
        self._zoom = USUAL_PITCH
        self._width = 80
        self._level: Decimal | None = None
        self._drawn: tuple[tuple[object, ...], list[Line]] = ((), [])
        self._bars: list[Bar] = []

    def show(self, view: SessionView | None, now: Millis, *, stale: bool) -> None:
        """Look at a session as it is `now`; another one than before is shown from its newest candle on."""
        if view is None or self._view is None or view.id != self._view.id:
            self.until = self.cross = self._level = None
        self._view, self._now, self._stale = view, now, stale

    @property
    def pitch(self) -> int:
        """Cells from one candle to the next."""
        return PITCHES[self._zoom]

    @property
    def wide(self) -> Timeframe | None:
        """The timeframe of the bars."""
        return None if self._view is None else self._keep(self._view).wide

    @property
    def pointed(self) -> range:
        """The moments under the crosshair."""
        bar = None if self.sheet is None else self.sheet.crossed
        return range(0) if bar is None or self.wide is None else range(bar.start, bar.start + self.wide.ms)

    def draw(self, width: int, height: int, empty: Sequence[str]) -> list[Line]:
        """Figures, then the chart; an empty state that says what is going on while there is no candle."""
        view = self._view
        self.sheet, self._width = None, width
        if view is None:
            return hatched(width, height, empty)
        kept = self._keep(view)
        closed, forming = kept.gathered.bars(view.candles, view.forming, view.timeframe, kept.wide)
        self._bars = [*closed, *([forming] if forming else [])]
        scale = kept.scales.setdefault(kept.wide.ms, Scale())
        if self.until is not None and (not closed or self.until >= closed[-1].start):
            self.until = None
        self._reveal(closed)
        look = Look(self.pitch, kept.wide, self.until, self.cross, self._level, self.shaded, self._stale)
        self.sheet = sheet = lay_out(view, (closed, forming), scale, width, height - 1, look)
        if sheet is None:
            return hatched(width, height, waiting_words(view, self._now, width))
        key = (
            view.id, id(view.candles), forming, sheet.levels, view.marks, view.gaps, view.replaced, look, width, height,
            scale.low, scale.high,
        )  # fmt: skip
        if self._drawn[0] != key:
            self._drawn = (key, draw_sheet(sheet, scale))
        return [readout(view, sheet, self._now, width), *self._drawn[1]]

    def _keep(self, view: SessionView) -> Kept:
        kept = self._kept.get(view.id)
        if kept is None or kept.wide not in timeframes(view.timeframe):
            kept = self._kept[view.id] = Kept({}, Gathered(), view.timeframe)
        return kept

    def title(self) -> str:
        """Instrument, timeframe, session, strategy, and the phase while it is not trading."""
        view = self._view
        if view is None:
            return "Chart"
        wide = self._keep(view).wide
        many = "" if wide == view.timeframe else f" ({wide.ms // view.timeframe.ms} × {view.timeframe})"
        phase = f" · {view.phase}" if view.phase.value != "trading" else ""
        if on_its_way(view) and view.warmed:
            phase = f" · {view.phase} {view.warmed}/{view.warmup}"
        return f"{view.instrument.symbol} {wide}{many} · {view.id} · {f.plain(view.strategy)}{phase}"

    def _reveal(self, closed: Sequence[Bar]) -> None:
        """Move the window so that the bar under the crosshair is in it, and no further."""
        if self.cross is None or not self._bars:
            return
        at = self._index(self.cross)
        self.cross = self._bars[at].start
        sheet = self._room()
        newest = len(closed) - 1 if self.until is None else self._index(self.until)
        if at >= len(closed):
            self.until = None
        elif at > newest:
            self._go_to(at, len(closed))
        elif at <= newest - sheet:
            self._go_to(at + sheet - 1, len(closed))

    def _room(self) -> int:
        """How many closed bars fit into the width last drawn."""
        assert self._view is not None
        return capacity(self._view, self._width, self.pitch)

    # ------------------------------------------------------------------------------------------- moving

    def own(self, what: str, by: int) -> None:
        """An action of the table that is the chart's own business."""
        if self._view is None:
            return
        match what:
            case "zoom":
                self._zoom = max(0, min(self._zoom + by, len(PITCHES) - 1))
            case "timeframe":
                self._widen(by)
            case "pan":
                self._pan(by)
            case "edge":
                self._edge(by)
            case "cross":
                self._step(by)
            case "level":
                self._lift(by)
            case "uncross":
                self.cross = self._level = None
            case _:
                return

    @property
    def _closed_count(self) -> int:
        """How many of the bars are closed."""
        return len(self._bars) - bool(self._bars and self._bars[-1].forming)

    def _index(self, start: Millis) -> int:
        """The bar that begins at `start`, else the one before."""
        return max(0, bisect_right(self._bars, start, key=lambda bar: bar.start) - 1)

    def _go_to(self, newest: int, closed: int) -> None:
        """Show the bars up to this one; up to the last of them means: follow."""
        self.until = None if newest >= closed - 1 else self._bars[max(0, newest)].start

    def _widen(self, by: int) -> None:
        assert self._view is not None
        frames, kept = timeframes(self._view.timeframe), self._keep(self._view)
        kept.wide = frames[(frames.index(kept.wide) + by) % len(frames)]
        self.until = None if self.until is None else kept.wide.start_of(self.until)
        self.cross = None if self.cross is None else kept.wide.start_of(self.cross)

    def _pan(self, by: int) -> None:
        """Half a window to the older (1) or the newer (-1); the crosshair stays where it can be seen."""
        width, closed = self._room(), self._closed_count
        newest = closed - 1 if self.until is None else self._index(self.until)
        self.cross = self._level = None
        self._go_to(max(min(width, closed) - 1, newest - by * max(1, width // 2)), closed)

    def _edge(self, by: int) -> None:
        """The oldest candles, or the newest and following again."""
        if by > 0:
            self.until = self.cross = self._level = None
            return
        self.cross = self._level = None
        self._go_to(min(self._room(), self._closed_count) - 1, self._closed_count)

    def _step(self, by: int) -> None:
        """The crosshair one candle on; the first step puts it on the newest in sight."""
        if not self._bars:
            return
        if self.cross is None:
            self.cross = self._bars[-1 if self.until is None else self._index(self.until)].start
            return
        self.cross = self._bars[max(0, min(self._index(self.cross) + by, len(self._bars) - 1))].start

    def _lift(self, by: int) -> None:
        """The crosshair's price a row up (1) or down (-1), from the close at first."""
        if self.cross is None:
            self._step(0)
        sheet, at = self.sheet, next((bar for bar in self._bars if bar.start == self.cross), None)
        if sheet is None or at is None or self._view is None:
            return
        scale = self._keep(self._view).scales[sheet.wide.ms]
        row = scale.row(at.candle.close if self._level is None else self._level, sheet.rows) - by
        self._level = scale.price_at(max(0, min(row, sheet.rows - 1)), sheet.rows, self._view.instrument.tick_size)

    def point(self, x: int, y: int) -> bool:
        """The crosshair comes to a cell of the drawing; False where there is no candle to point at."""
        sheet = self.sheet
        bar = None if sheet is None or x >= sheet.plot or y < 1 else sheet.nearest(x)
        if bar is None or sheet is None:
            return False
        self.cross, self._level = bar.start, None
        if y <= sheet.rows:
            scale = self._keep(sheet.view).scales[sheet.wide.ms]
            self._level = scale.price_at(y - 1, sheet.rows, sheet.view.instrument.tick_size)
        return True

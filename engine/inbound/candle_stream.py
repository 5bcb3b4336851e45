"""Ticks, the clock and history come in; placements of closed candles come out, in the order of time.

While the stream is buffering (before the first history, or after the link was down) ticks are kept and nothing
closes. `join` proves that history and feed overlap, places the candles that were missing, and goes on from the
forming window without losing or doubling a tick.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct
from msgspec.structs import replace as changed

from engine.domain.ids import Millis
from engine.domain.market import Candle, CandleOrigin, History, Tick, Timeframe
from engine.inbound.candle_assembler import CandleAssembler, alone, amended
from engine.inbound.candle_series import Added, CandleSeries, Ignored, Inserted, Placement
from engine.inbound.gaps import Gaps
from engine.snapshot import Seam

BUFFER = 500_000


class Joined(Struct, frozen=True):
    """History and feed meet: what was placed, and the proof."""

    placements: tuple[Placement, ...]
    seam: Seam


class NoOverlap(Struct, frozen=True):
    """History ends before the feed begins; asking again will do."""

    history_until: Millis
    subscribed: Millis


class CandleStream:
    """Everything between a session's ticks and its closed candles. Pure: the trader asks for history."""

    def __init__(self, timeframe: Timeframe, *, keep: int, replace_window: int, close_grace_ms: int) -> None:
        self.timeframe = timeframe
        self.series = CandleSeries(keep)
        self.gaps = Gaps()
        self.seam: Seam | None = None
        self.last_tick: Tick | None = None
        self.late_ignored = 0
        self.replaced_count = 0
        self._assembler = CandleAssembler(timeframe)
        self._window = replace_window
        self._grace_ms = close_grace_ms
        self._spans: dict[Millis, tuple[Millis, Millis]] = {}
        self._buffer: deque[Tick] | None = None
        self._subscribed: Millis = 0
        self._named: Millis = 0
        self.line = 0
        self._overflowed = False

    # -- live ---------------------------------------------------------------------------------------------

    @property
    def is_buffering(self) -> bool:
        """Whether ticks are kept until history joins."""
        return self._buffer is not None

    def forming(self) -> Candle | None:
        """The window that is not finished; for eyes only."""
        return self._assembler.forming()

    @property
    def close_due(self) -> Millis | None:
        """When the clock has to close the forming window if no tick does."""
        assembler = self._assembler
        return assembler.end + self._grace_ms if assembler.start >= 0 and self._buffer is None else None

    def on_tick(self, tick: Tick) -> Placement | None:
        """Take a tick; the placement of the candle that it closed or changed, if any."""
        if self._buffer is not None:
            self._keep(tick)
            self.last_tick = tick
            return None
        assembler = self._assembler
        if tick.at < assembler.start or (assembler.start < 0 and self._is_late(tick)):
            return self._late(tick)
        self.last_tick = tick
        if tick.at < assembler.end:
            assembler.add(tick)
            return None
        span = (assembler.start, assembler.first_at, assembler.last_at)
        closed = assembler.add(tick)
        return None if closed is None else self._place_closed(closed, span)

    def on_clock(self, now: Millis) -> Placement | None:
        """Close the forming window when its time has passed."""
        if self._buffer is not None:
            return None
        assembler = self._assembler
        span = (assembler.start, assembler.first_at, assembler.last_at)
        closed = assembler.close_if_due(now, self._grace_ms)
        return None if closed is None else self._place_closed(closed, span)

    def on_candle(self, candle: Candle) -> Placement:
        """Take a closed candle of the feed; a time seen before is a replacement."""
        if self._buffer is not None:
            return Ignored(candle, repeated=True)
        return self._count(self.series.add_or_replace(candle, self._window))

    def _is_late(self, tick: Tick) -> bool:
        last = self.series.last
        return last is not None and tick.at < last.start + self.timeframe.ms

    def _late(self, tick: Tick) -> Placement:
        start = self.timeframe.start_of(tick.at)
        old = self.series.at(start, self._window)
        if old is None:
            if start < self.series.oldest_open(self._window):
                self.late_ignored += 1
                return Ignored(alone(tick, self.timeframe), repeated=False)
            placement = self.series.add_or_replace(alone(tick, self.timeframe), self._window)
            if isinstance(placement, Ignored):
                self.late_ignored += 1
                return placement
            self._remember(start, tick.at, tick.at)
            # Its window had passed for empty when a later one began, even if no candle has closed since.
            return Inserted(placement.candle) if isinstance(placement, Added) else placement
        first_at, last_at = self._spans.get(start, (start, start + self.timeframe.ms - 1))
        self._remember(start, min(first_at, tick.at), max(last_at, tick.at))
        return self._count(self.series.add_or_replace(amended(old, tick, first_at, last_at), self._window))

    def _place_closed(self, closed: Candle, span: tuple[Millis, Millis, Millis]) -> Placement:
        start, first_at, last_at = span
        self._remember(start, first_at, last_at)
        return self._count(self.series.add_or_replace(closed, self._window))

    def _remember(self, start: Millis, first_at: Millis, last_at: Millis) -> None:
        """Times of the first and last tick of a window that a late tick may still change; the oldest go first."""
        self._spans[start] = (first_at, last_at)
        while len(self._spans) > 2 * self._window:
            del self._spans[min(self._spans)]

    def _count(self, placement: Placement) -> Placement:
        if isinstance(placement, Ignored) and not placement.repeated:
            self.late_ignored += 1
        elif not isinstance(placement, Added | Ignored):
            self.replaced_count += 1
        return placement

    # -- joining history ----------------------------------------------------------------------------------

    def begin_buffering(self, now: Millis, cause: str, *, named: Millis = 0) -> None:
        """Stop closing candles and keep ticks until history joins; `cause` names the gap if candles exist."""
        last = self.series.last
        if self._assembler.start >= 0:
            self.gaps.begin(self._assembler.start, cause)
        elif last is not None:
            self.gaps.begin(last.start + self.timeframe.ms, cause)
        if self._buffer is None:
            self.link_restored(now, named=named)

    def link_restored(self, now: Millis, *, named: Millis = 0) -> None:
        """Ticks from before the cut prove nothing about what came after it: buffer anew.

        `line` counts these beginnings: history asked for before one of them proves nothing, whatever clocks say.
        `named` is the latest time that the feed had named by then, which is beyond `now` where our clock is slow.
        """
        self.line += 1
        self._buffer = deque(maxlen=BUFFER)
        self._subscribed = now
        self._named = named
        self._overflowed = False

    def _keep(self, tick: Tick) -> None:
        assert self._buffer is not None
        if len(self._buffer) == BUFFER:
            self._overflowed = True
        self._buffer.append(tick)

    def wanted_since(self, warmup: int, now: Millis) -> int:
        """How many candles history has to give so that nothing between the last one we hold and now is missing."""
        last = self.series.last
        if last is None:
            return warmup
        return max(1, (now - last.start) // self.timeframe.ms + 2)

    def join(self, history: History, *, warmup: bool, behind: int = 0) -> Joined | NoOverlap:
        """Put history under the buffered ticks; `warmup` marks its candles as such, else as backfilled.

        `behind` is by how many milliseconds, at least, our clock is slow as the feed's times show: by those we
        subscribed that much later than we noted, and an old history that ends before lacks what traded in between.
        """
        buffer = self._buffer if self._buffer is not None else deque()
        begins = max(self._subscribed + behind, self._named)
        if history.as_of < begins or (self._overflowed and buffer and buffer[0].at > history.as_of):
            return NoOverlap(history.as_of, begins)
        origin = CandleOrigin.WARMUP if warmup else CandleOrigin.BACKFILLED
        placements = []
        for candle in history.candles:
            if warmup or self.series.last is None or candle.start >= self.series.oldest_open(self._window):
                placement = self.series.add_or_replace(changed(candle, origin=origin), self._window)
                if not (isinstance(placement, Ignored) and placement.repeated):
                    placements.append(self._count(placement))
        self._buffer = None
        self._assembler = CandleAssembler(self.timeframe)
        if history.forming is not None:
            self._assembler.resume(history.forming, history.as_of)
        added = sum(isinstance(p, Added) for p in placements)
        self.gaps.fill(self.timeframe.start_of(history.as_of), added)
        seam = Seam(
            subscribed=self._subscribed,
            history_until=history.as_of,
            history_candles=len(history.candles),
            overlap=self._overlap(history.as_of),
        )
        self.seam = seam
        for tick in buffer:
            if tick.at > history.as_of and (placement_or_none := self.on_tick(tick)) is not None:
                placements.append(placement_or_none)
        return Joined(tuple(placements), seam)

    def _overlap(self, until: Millis) -> int:
        first = self.timeframe.start_of(self._subscribed)
        return (self.timeframe.start_of(until) - first) // self.timeframe.ms + 1

    def go_live_without_history(self) -> None:
        """The feed has no past (a tape at its start): what comes is all there is."""
        self._buffer = None

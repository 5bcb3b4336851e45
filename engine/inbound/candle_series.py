"""The closed candles of one session, and what may still change in them."""

from __future__ import annotations

from bisect import bisect_right
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace as changed

from engine.domain.ids import Millis
from engine.domain.market import Candle, CandleOrigin


class Added(Struct, frozen=True):
    """Newer than all before: the strategy may decide on it."""

    candle: Candle


class Replaced(Struct, frozen=True):
    """The same window with other values: state is updated, the strategy does not run."""

    was: Candle
    now: Candle


class Inserted(Struct, frozen=True):
    """A window that was missing inside the replacement window: kept and marked, the strategy does not run."""

    candle: Candle


class Ignored(Struct, frozen=True):
    """Too old to matter, or nothing new in it."""

    candle: Candle
    repeated: bool


Placement: TypeAlias = Added | Replaced | Inserted | Ignored


class CandleSeries:
    """Closed candles in order of time, bounded; `version` grows with every change."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._candles: list[Candle] = []
        self._frozen: tuple[Candle, ...] | None = ()
        self.version = 0

    def __len__(self) -> int:
        return len(self._candles)

    @property
    def last(self) -> Candle | None:
        """The newest closed candle."""
        return self._candles[-1] if self._candles else None

    def as_tuple(self) -> tuple[Candle, ...]:
        """All candles, oldest first; the same object until something changes."""
        if self._frozen is None:
            self._frozen = tuple(self._candles)
        return self._frozen

    def until(self, start: Millis) -> tuple[Candle, ...]:
        """All candles up to the window that begins at `start`: what a strategy may see when it decides on that one."""
        candles = self.as_tuple()
        if not candles or candles[-1].start <= start:
            return candles
        return candles[: bisect_right(candles, start, key=lambda candle: candle.start)]

    def at(self, start: Millis, window: int) -> Candle | None:
        """The candle of that window if it is among the last `window`."""
        for candle in reversed(self._candles[-window:]):
            if candle.start == start:
                return candle
        return None

    def oldest_open(self, window: int) -> Millis:
        """Start of the oldest candle that may still be replaced; 0 when there is none yet."""
        return self._candles[-window].start if len(self._candles) >= window else 0

    def add_or_replace(self, candle: Candle, window: int = 5) -> Placement:
        """Put a closed candle where it belongs.

        Newer than the last: Added. The time of one of the last `window`: Replaced (Ignored when nothing differs).
        A time missing among them: Inserted. Older: Ignored.
        """
        candles = self._candles
        if not candles or candle.start > candles[-1].start:
            candles.append(candle)
            if len(candles) > self._keep:
                del candles[0]
            self._changed()
            return Added(candle)
        first = max(0, len(candles) - window)
        for index in range(len(candles) - 1, first - 1, -1):
            old = candles[index]
            if old.start == candle.start:
                if old.same_values(candle):
                    return Ignored(candle, repeated=True)
                now = changed(candle, origin=old.origin, revision=old.revision + 1)
                candles[index] = now
                self._changed()
                return Replaced(old, now)
            if old.start < candle.start:
                inserted = changed(candle, origin=CandleOrigin.INSERTED)
                candles.insert(index + 1, inserted)
                self._changed()
                return Inserted(inserted)
        return Ignored(candle, repeated=False)

    def _changed(self) -> None:
        self._frozen = None
        self.version += 1

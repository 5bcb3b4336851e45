"""Windows that the feed did not cover, from the moment they open until history has filled them."""

from __future__ import annotations

from msgspec.structs import replace as changed

from engine.domain.ids import Millis
from engine.snapshot import Gap

KEEP = 20


class Gaps:
    """The gaps of one session, newest last; at most one is open."""

    def __init__(self) -> None:
        self._gaps: list[Gap] = []

    @property
    def open(self) -> Gap | None:
        """The gap that still waits for history."""
        return self._gaps[-1] if self._gaps and not self._gaps[-1].closed else None

    def begin(self, start: Millis, cause: str) -> None:
        """The feed stopped covering windows from `start`; an open gap only grows."""
        if self.open is None:
            self._gaps.append(Gap(start=start, end=start, cause=cause))
            del self._gaps[:-KEEP]

    def fill(self, end: Millis, candles: int) -> Gap | None:
        """History covered everything up to `end` with `candles` candles that we lacked."""
        gap = self.open
        if gap is None:
            return None
        if candles == 0 and end <= gap.start:
            self._gaps.pop()
            return None
        self._gaps[-1] = changed(gap, end=max(end, gap.start), filled=candles, closed=True)
        return self._gaps[-1]

    def all(self) -> tuple[Gap, ...]:
        """Every gap kept."""
        return tuple(self._gaps)

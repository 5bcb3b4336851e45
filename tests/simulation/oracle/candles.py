"""What strategies are shown: closed candles only, each once a life, without gap, and which of them were live."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.domain.ids import Millis, SessionId
from engine.domain.market import Candle, CandleOrigin
from tests.simulation.oracle.findings import Findings

MINUTE_MS = 60_000
KEPT = 60
WARMUP = 3


class Candles:
    """Judges what `decide` is called with. `traded` tells whether a window had trades that the feed delivered."""

    def __init__(self, findings: Findings, traded: Callable[[str, Millis], bool]) -> None:
        self._findings = findings
        self._traded = traded
        self._last: dict[tuple[str, SessionId], Millis] = {}
        self._origins: dict[tuple[SessionId, Millis], CandleOrigin] = {}
        self._warming: dict[tuple[str, SessionId], bool] = {}
        self._warmed: dict[tuple[str, SessionId], int] = {}

    def begin(self, life: str, session: SessionId) -> None:
        """The strategy starts anew (a life, or a restart of its session)."""
        self._last.pop((life, session), None)
        self._warmed.pop((life, session), None)

    def shown(
        self, life: str, session: SessionId, symbol: str, candles: Sequence[Candle], now: Millis, *, warming: bool
    ) -> None:
        """One call of a strategy."""
        check, key, candle = self._findings.check, (life, session), candles[-1]
        again = not self._warming.get(key, True) or self._warmed.get(key, 0) >= WARMUP
        if warming and (again or candle.start <= self._last.get(key, -1)):
            self.begin(life, session)  # its session started again
        self._warming[key] = warming
        warmed = self._warmed[key] = self._warmed.get(key, 0) + warming
        if not warming:
            check("I17 warm-up", warmed >= WARMUP, f"{session} was warmed with {warmed} candles")
        end = candle.start + MINUTE_MS
        check("I16", end <= now, lambda: f"{session} was shown {candle.start}, which ends at {end}")
        last = self._last.get(key)
        if last is not None:
            check("I15", candle.start > last, f"{session} ran on {candle.start} after {last} in one life")
            between = range(last + MINUTE_MS, candle.start, MINUTE_MS)
            shown = {each.start for each in candles[-KEPT:]}
            missing = [start for start in between if self._traded(symbol, start) and start not in shown]
            check("I17", not missing, f"{session} was shown {candle.start} after {last}: {missing} had trades")
        self._last[key] = candle.start
        if not warming:
            self._origins[session, candle.start] = candle.origin
            if len(self._origins) > 2_000:
                del self._origins[next(iter(self._origins))]

    def origin(self, session: SessionId, key: str) -> CandleOrigin | None:
        """Where the candle came from that a decision key names; None when the key names no candle."""
        word = key.split("/")[1]
        return self._origins.get((session, int(word))) if word.isdigit() else None

"""What strategies are shown: closed candles only, each once a life, without gap, true, and which of them were live."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.domain.ids import Millis, SessionId, Symbol
from engine.domain.market import Candle, CandleOrigin
from tests.simulation.oracle.findings import Findings

MINUTE_MS = 60_000
KEPT = 60
WARMUP = 3


class Candles:
    """Judges what `decide` is called with. `traded` tells whether a window had trades that the feed delivered.

    `whole` is a window as the market made it, once each of its trades has been told in its turn.
    """

    def __init__(
        self,
        findings: Findings,
        traded: Callable[[str, Millis], bool],
        whole: Callable[[Symbol, Millis], Candle | None],
    ) -> None:
        self._findings = findings
        self._traded = traded
        self._whole = whole
        self._last: dict[tuple[str, SessionId], Millis] = {}
        self._origins: dict[tuple[SessionId, Millis], CandleOrigin] = {}
        self._late: dict[tuple[SessionId, Millis], Millis] = {}
        self._warming: dict[tuple[str, SessionId], bool] = {}
        self._warmed: dict[tuple[str, SessionId], int] = {}

    def begin(self, life: str, session: SessionId) -> None:
        """The strategy starts anew (a life, or a restart of its session)."""
        self._last.pop((life, session), None)
        self._warmed.pop((life, session), None)

    def shown(
        self,
        life: str,
        session: SessionId,
        symbol: Symbol,
        candles: Sequence[Candle],
        now: Millis,
        clock: Millis,
        *,
        warming: bool,
    ) -> None:
        """One call of a strategy; `clock` is the desk's own time, and `now` the later of that and ours."""
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
        whole = self._whole(symbol, candle.start)
        if whole is not None:
            inside = candle.volume <= whole.volume and whole.low <= candle.low and candle.high <= whole.high
            check("candle values", inside, lambda: f"{session} was shown {candle}, the market made {whole}")
        if not warming:
            self._late[session, candle.start] = clock - end
            self._origins[session, candle.start] = candle.origin
            if len(self._origins) > 2_000:
                oldest = next(iter(self._origins))
                del self._origins[oldest], self._late[oldest]

    def late(self, session: SessionId, key: str) -> Millis:
        """How long after its end, by the desk's clock, the candle was decided on that a decision key names."""
        word = key.split("/")[1]
        return self._late.get((session, int(word)), 0) if word.isdigit() else 0

    def origin(self, session: SessionId, key: str) -> CandleOrigin | None:
        """Where the candle came from that a decision key names; None when the key names no candle."""
        word = key.split("/")[1]
        return self._origins.get((session, int(word))) if word.isdigit() else None

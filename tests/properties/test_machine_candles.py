"""Candles under anything a feed does, step by step: the series is the group-by of all ticks, each run at most once."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.domain.market import Tick
from engine.inbound.candle_series import Added, Ignored, Placement
from engine.inbound.candle_stream import Joined
from tests.properties.test_candles import a_stream, grouped, history_of, moments, prices, sizes, values
from tests.unit.engine.samples import SYMBOL

LATE = st.integers(1, 2_500)


class LifeOfASeries(RuleBasedStateMachine):
    """Ticks on time and late, the clock, cuts and refills. The model is the list of what the market traded."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = a_stream()
        self.market: list[Tick] = []
        self.runs: list[int] = []
        self.now = 0
        self.cut_at: int | None = None
        self.settled = -1  # history accounts for all up to here: nothing older comes any more

    @initialize(at=moments, price=prices, size=sizes)
    def begin(self, at: int, price: Decimal, size: Decimal) -> None:
        self.now = at
        self._trade(at, price, size)

    def _trade(self, at: int, price: Decimal, size: Decimal) -> None:
        tick = Tick(SYMBOL, at, price, size)
        self.market.append(tick)
        if self.cut_at is None:
            self._placed(self.stream.on_tick(tick))

    def _placed(self, placement: Placement | None) -> None:
        if isinstance(placement, Added):
            self.runs.append(placement.candle.start)
        assert not (isinstance(placement, Ignored) and not placement.repeated)

    @rule(later=st.integers(0, 1_700), price=prices, size=sizes)
    def tick(self, later: int, price: Decimal, size: Decimal) -> None:
        self.now += later
        self._trade(self.now, price, size)

    @precondition(lambda self: self.cut_at is None)
    @rule(back=LATE, price=prices, size=sizes)
    def late_tick(self, back: int, price: Decimal, size: Decimal) -> None:
        at = self.now - back
        if at > self.settled and at >= min(tick.at for tick in self.market):
            self._trade(at, price, size)

    @precondition(lambda self: self.cut_at is None)
    @rule(later=st.integers(0, 2_500))
    def clock(self, later: int) -> None:
        self.now += later
        self._placed(self.stream.on_clock(self.now))

    @precondition(lambda self: self.cut_at is None)
    @rule()
    def cut(self) -> None:
        self.now += 1
        self.cut_at = self.now
        self.stream.begin_buffering(self.now, "cut")

    @precondition(lambda self: self.cut_at is not None)
    @rule(later=st.integers(0, 3_000))
    def refill(self, later: int) -> None:
        self.now += later
        self.stream.link_restored(self.now)
        joined = self.stream.join(history_of(sorted(self.market, key=lambda t: t.at), self.now), warmup=False)
        assert isinstance(joined, Joined)
        for placement in joined.placements:
            self._placed(placement)
        self.settled, self.cut_at = self.now, None

    @invariant()
    def the_series_is_the_group_by(self) -> None:
        if self.cut_at is None:
            forming = self.stream.forming()
            seen = [*self.stream.series.as_tuple(), *([forming] if forming is not None else [])]
            assert values(seen) == values(grouped(self.market))

    @invariant()
    def a_window_is_run_on_once_and_in_time(self) -> None:
        assert self.runs == sorted(set(self.runs))
        assert self.stream.late_ignored == 0


TestLifeOfASeries = LifeOfASeries.TestCase
TestLifeOfASeries.settings = settings(max_examples=150, stateful_step_count=25)

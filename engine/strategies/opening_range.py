"""Opening range with a bracket: trade the first close outside the period's opening range, once per period."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from engine.domain.decisions import Decision, Intent, Nothing, StrategyContext, Submit
from engine.domain.orders import Side


class Range(Struct, frozen=True):
    """State: the period's range as far as it is known, and whether it was traded."""

    period: int = -1
    high: Decimal | None = None
    low: Decimal | None = None
    traded: bool = False


class OpeningRange(Struct, frozen=True, kw_only=True):
    """`period_minutes` is the length of a period from UTC midnight (1440: one a day), `range_minutes` its opening part.

    Enters with a stop at the far side of the range and a target `reward` times the risk away.
    """

    period_minutes: int = 60
    range_minutes: int = 10
    reward: float = 1.5

    def __post_init__(self) -> None:
        if not 0 < self.range_minutes < self.period_minutes <= 1440 or self.reward <= 0:
            raise ValueError("range_minutes must be below period_minutes (at most 1440), and reward above 0")

    def initial(self) -> Range:
        """No period yet."""
        return Range()

    def decide(self, context: StrategyContext) -> Decision:
        """Extend the range while it opens; afterwards trade the first close outside it."""
        state: Range = context.state
        candle = context.candles[-1]
        minute = candle.start // 60_000
        period, into = divmod(minute, self.period_minutes)
        if period != state.period:
            state = Range(period)
        if into < self.range_minutes:
            high = candle.high if state.high is None else max(state.high, candle.high)
            low = candle.low if state.low is None else min(state.low, candle.low)
            return Nothing(state=Range(period, high, low), reason="the opening range is forming")
        if state.high is None or state.low is None:
            return Nothing(state=state, reason="the opening of this period was not seen")
        if state.traded:
            return Nothing(state=state, reason="this period was traded")
        if not context.position.is_flat:
            return Nothing(state=state, reason="a position is open; the bracket will close it")
        if candle.close > state.high:
            side, stop = Side.BUY, state.low
        elif candle.close < state.low:
            side, stop = Side.SELL, state.high
        else:
            return Nothing(state=state, reason="inside the opening range")
        risk = abs(candle.close - stop)
        target = candle.close + side.sign * risk * Decimal(str(self.reward))
        if target <= 0:
            return Nothing(state=state, reason="the target would lie below zero")
        return Submit(
            state=Range(period, state.high, state.low, traded=True),
            intent=Intent.ENTER,
            side=side,
            stop_loss=context.instrument.nearest(stop),
            take_profit=context.instrument.nearest(target),
            reason="close above the opening range" if side is Side.BUY else "close below the opening range",
        )

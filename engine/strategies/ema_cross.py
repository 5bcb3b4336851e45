"""Two exponential moving averages: long while the fast one is above the slow one, short while below."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from engine.domain.decisions import Decision, Intent, Nothing, StrategyContext, Submit
from engine.domain.orders import Side
from engine.strategies.indicators import average_true_range, ema_step


class Averages(Struct, frozen=True):
    """State: both averages, and how many candles they have seen."""

    fast: float | None = None
    slow: float | None = None
    candles: int = 0


class EmaCross(Struct, frozen=True, kw_only=True):
    """Enters on a cross and reverses on the next; the stop lies `stop_atr` average true ranges away.

    `fast` and `slow` are periods in candles.
    """

    fast: int = 5
    slow: int = 13
    atr: int = 14
    stop_atr: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.fast < self.slow:
            raise ValueError(f"fast ({self.fast}) must be above 0 and below slow ({self.slow})")
        if self.atr < 1 or self.stop_atr <= 0:
            raise ValueError("atr must be at least 1 and stop_atr above 0")

    def initial(self) -> Averages:
        """No average yet."""
        return Averages()

    def decide(self, context: StrategyContext) -> Decision:
        """Trade the cross that the last candle completed."""
        before: Averages = context.state
        candle = context.candles[-1]
        price = float(candle.close)
        after = Averages(
            ema_step(before.fast, price, self.fast), ema_step(before.slow, price, self.slow), before.candles + 1
        )
        if before.fast is None or before.slow is None or after.candles <= self.slow:
            return Nothing(state=after, reason=f"{after.candles} of {self.slow + 1} candles seen")
        assert after.fast is not None
        assert after.slow is not None
        was_above, is_above = before.fast > before.slow, after.fast > after.slow
        if was_above == is_above:
            return Nothing(state=after, reason="fast above slow" if is_above else "fast below slow")
        side = Side.BUY if is_above else Side.SELL
        held = context.position.quantity
        if held and (held > 0) == is_above:
            return Nothing(state=after, reason="already in the direction of the cross")
        reach = average_true_range(context.candles, self.atr)
        stop = candle.close - side.sign * (reach or 0) * Decimal(str(self.stop_atr))
        if not reach or stop <= 0:
            why = "the stop would lie below zero" if reach else "no range to place a stop by"
            if held:
                return Submit(state=after, intent=Intent.EXIT, reason=f"crossed; {why}")
            return Nothing(state=after, reason=why)
        return Submit(
            state=after,
            intent=Intent.REVERSE if held else Intent.ENTER,
            side=side,
            stop_loss=context.instrument.nearest(stop),
            reason="fast crossed above slow" if is_above else "fast crossed below slow",
        )

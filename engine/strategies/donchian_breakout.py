"""Breakout of the highest high or lowest low of the last candles; leaves on the opposite, shorter channel."""

from __future__ import annotations

from msgspec import Struct

from engine.domain.decisions import Decision, Intent, Nothing, StrategyContext, Submit
from engine.domain.orders import Side


class DonchianBreakout(Struct, frozen=True, kw_only=True):
    """`entry` and `exit` are channel lengths in candles, the candle that decides left out of both."""

    entry: int = 20
    exit: int = 10

    def __post_init__(self) -> None:
        if self.entry < 2 or self.exit < 1 or self.exit > self.entry:
            raise ValueError(f"entry ({self.entry}) must be at least 2 and exit ({self.exit}) from 1 to entry")

    def initial(self) -> None:
        """The channel is read from the candles each time; there is no state."""

    def decide(self, context: StrategyContext) -> Decision:
        """Enter beyond the long channel, exit beyond the short one."""
        if len(context.candles) <= self.entry:
            return Nothing(state=None, reason=f"{len(context.candles)} of {self.entry + 1} candles seen")
        close = context.candles[-1].close
        leave = context.candles[-self.exit - 1 : -1]
        floor, ceiling = min(c.low for c in leave), max(c.high for c in leave)
        held = context.position.quantity
        if held > 0:
            if close < floor:
                return Submit(state=None, intent=Intent.EXIT, reason=f"close below the {self.exit}-candle low")
            return Nothing(state=None, reason="long, above the exit channel")
        if held < 0:
            if close > ceiling:
                return Submit(state=None, intent=Intent.EXIT, reason=f"close above the {self.exit}-candle high")
            return Nothing(state=None, reason="short, below the exit channel")
        channel = context.candles[-self.entry - 1 : -1]
        high, low = max(c.high for c in channel), min(c.low for c in channel)
        if close > high and floor < close:
            return self._enter(Side.BUY, context, f"close above the {self.entry}-candle high")
        if close < low and ceiling > close:
            return self._enter(Side.SELL, context, f"close below the {self.entry}-candle low")
        return Nothing(state=None, reason="inside the channel")

    def _enter(self, side: Side, context: StrategyContext, reason: str) -> Decision:
        leave = context.candles[-self.exit - 1 : -1]
        stop = min(c.low for c in leave) if side is Side.BUY else max(c.high for c in leave)
        return Submit(
            state=None, intent=Intent.ENTER, side=side, stop_loss=context.instrument.nearest(stop), reason=reason
        )

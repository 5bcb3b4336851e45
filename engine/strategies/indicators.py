"""Arithmetic on closed candles that the built-in strategies share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal

from engine.domain.market import Candle


def average_true_range(candles: Sequence[Candle], periods: int) -> Decimal | None:
    """Mean true range of the last `periods` candles in price points (Wilder 1978, simple mean); None if too few.

    True range: the largest of high - low, |high - previous close|, |low - previous close|.
    """
    if len(candles) < periods + 1:
        return None
    recent = candles[-periods - 1 :]
    ranges = [
        max(now.high - now.low, abs(now.high - before.close), abs(now.low - before.close))
        for before, now in itertools.pairwise(recent)
    ]
    return sum(ranges, Decimal(0)) / periods


def ema_step(average: float | None, price: float, periods: int) -> float:
    """Next exponential moving average with smoothing 2 / (periods + 1); starts at the first price."""
    if average is None:
        return price
    return average + (price - average) * 2 / (periods + 1)

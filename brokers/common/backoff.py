"""Pauses between tries: growing, capped, and jittered so that many links do not return in step."""

from __future__ import annotations

from collections.abc import Iterator

from engine.ports import Rng


def pauses(rng: Rng, *, first: float = 0.5, factor: float = 2.0, cap: float = 30.0) -> Iterator[float]:
    """Seconds to wait before each further try, without end: between half and all of a doubling step, at most `cap`.

    Raises ValueError unless 0 < first <= cap and factor >= 1.
    """
    if not 0 < first <= cap or factor < 1:
        raise ValueError("backoff needs 0 < first <= cap and factor >= 1")
    step = first
    while True:
        yield step * rng.uniform(0.5, 1.0)
        step = min(cap, step * factor)

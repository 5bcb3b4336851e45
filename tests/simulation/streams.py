"""One seed, split by name into independent random streams: one more draw in one part does not shift another."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Stream(Random):
    """A named stream with the few draws that faults need."""

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens now; draws nothing when it cannot."""
        return probability > 0 and self.random() < probability

    def one_of(self, items: Sequence[T]) -> T:
        """One of them."""
        return items[int(self.random() * len(items))]

    def pause(self, mean: float) -> float:
        """Seconds to the next event of a process that happens every `mean` seconds."""
        return self.expovariate(1 / mean)


class Streams:
    """The streams of one seed."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._made: dict[str, Stream] = {}

    def of(self, name: str) -> Stream:
        """The stream of that name; always the same object."""
        if name not in self._made:
            self._made[name] = Stream(f"{self._seed}/{name}")
        return self._made[name]

"""What the oracle found, and which antecedents it met on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from msgspec import Struct


class Violation(Struct, frozen=True):
    """A broken invariant: which, when (milliseconds of virtual UTC), and the figures."""

    invariant: str
    at: int
    text: str


class Findings:
    """Collects; `met` counts how often an invariant had something to say at all."""

    def __init__(self, now: Callable[[], int], on_violation: Callable[[Violation], None]) -> None:
        self.violations: list[Violation] = []
        self.met: Counter[str] = Counter()
        self._now = now
        self._on_violation = on_violation

    def check(self, invariant: str, holds: bool, text: Callable[[], str] | str) -> None:
        """One look at an invariant whose antecedent holds."""
        self.met[invariant] += 1
        if not holds:
            violation = Violation(invariant, self._now(), text if isinstance(text, str) else text())
            self.violations.append(violation)
            self._on_violation(violation)

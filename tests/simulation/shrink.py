"""A failing run made smaller: shorter, fewer sessions, fewer faults, as long as it breaks the same invariant."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from tests.simulation.options import Options
from tests.simulation.run import CYCLE_MS, Run
from tests.simulation.world import START

HOURS_OF_A_CYCLE = CYCLE_MS / 3_600_000


def broken_by(options: Options) -> tuple[str, int] | None:
    """The first invariant that a run breaks, and when; None for a clean one."""
    violations = Run(options).go().violations
    return (violations[0].invariant, violations[0].at) if violations else None


def smaller(options: Options, at: int) -> Iterator[Options]:
    """Runs that are one step smaller, the largest steps first."""
    hours = (at - START) / 3_600_000
    cycles = -(-hours // HOURS_OF_A_CYCLE) * HOURS_OF_A_CYCLE
    if cycles < options.hours:
        yield replace(options, hours=cycles)
    if options.sessions > 1:
        yield replace(options, sessions=1)
        yield replace(options, sessions=options.sessions - 1)
    names = list(options.faults)
    size = len(names) // 2
    while size:
        for start in range(0, len(names), size):
            gone = set(names[start : start + size])
            yield replace(options, faults={n: s for n, s in options.faults.items() if n not in gone})
        size //= 2


def shrunk(options: Options, say: Callable[[str], None]) -> Options:
    """The smallest run found that breaks the same invariant. Raises ValueError when the run breaks none."""
    broken = broken_by(options)
    if broken is None:
        raise ValueError("this run breaks nothing")
    wanted, at = broken
    found = True
    while found:
        found = False
        for candidate in smaller(options, at):
            again = broken_by(candidate)
            if again is not None and again[0] == wanted:
                options, at, found = candidate, again[1], True
                say(f"{wanted}: {options.hours:g} h, {options.sessions} sessions, {len(options.faults)} faults")
                break
    return options

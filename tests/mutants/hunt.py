"""`python -m tests.mutants.hunt RUNS HOURS`: simulated runs of the program that lies here, until one is noticed.

RUNS is a list such as `0:tag,1:none`. Prints one JSON line: how many runs were made and, when one was noticed, its
seed, mode and the invariant. Errors and runs that take too long are no notice: a mistake is found by the rule that it
breaks.
"""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType

from tests.simulation.options import options_of
from tests.simulation.run import simulate

SECONDS_AN_HOUR = 30.0
"""Processor time that a simulated hour may take; the unchanged program takes about two."""
NO_RULE = "run"
"""What the oracle calls an error of the run itself."""


class TooLong(SystemExit):
    """The run did not end in its time; of an exit not even a task takes it for an error of its own."""


def _give_up(number: int, frame: FrameType | None) -> None:
    raise TooLong


def hunt(runs: list[tuple[int, str]], hours: float) -> dict[str, object]:
    """The first run whose oracle speaks, and how many were made."""
    signal.signal(signal.SIGPROF, _give_up)
    for number, (seed, mode) in enumerate(runs, 1):
        signal.setitimer(signal.ITIMER_PROF, SECONDS_AN_HOUR * max(0.5, hours))
        try:
            found = simulate(options_of(seed, mode, hours)).violations
        except (Exception, TooLong):
            continue
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if found and found[0].invariant != NO_RULE:
            first = found[0]
            return {"runs": number, "seed": seed, "mode": mode, "invariant": first.invariant, "text": first.text}
    return {"runs": len(runs)}


def runs_of(text: str) -> list[tuple[int, str]]:
    """Read `0:tag,1:none`."""
    return [(int(seed), mode) for seed, _, mode in (each.partition(":") for each in text.split(","))]


if __name__ == "__main__":
    print(json.dumps(hunt(runs_of(sys.argv[1]), float(sys.argv[2]))))

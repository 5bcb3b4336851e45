"""`python -m tests.mutants.hunt FIRST:LAST HOURS`: simulated runs of the program that lies here, until one is noticed.

Prints one JSON line: the seed, its mode and the invariant, or null. Errors and runs that take too long are no notice:
a mistake is found by the rule that it breaks.
"""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType

from tests.simulation.__main__ import batch, simulate

RUN_SECONDS = 240


class TooLong(Exception):
    """The run did not end in its time."""


def _give_up(number: int, frame: FrameType | None) -> None:
    raise TooLong


def hunt(seeds: range, hours: float) -> dict[str, object] | None:
    """The first run whose oracle speaks."""
    signal.signal(signal.SIGALRM, _give_up)
    for options in batch(seeds, "all", hours):
        signal.alarm(RUN_SECONDS)
        try:
            found = simulate(options).violations
        except Exception:
            continue
        finally:
            signal.alarm(0)
        if found:
            return {"seed": options.seed, "mode": options.mode, "invariant": found[0].invariant, "text": found[0].text}
    return None


if __name__ == "__main__":
    first, _, last = sys.argv[1].partition(":")
    print(json.dumps(hunt(range(int(first), int(last)), float(sys.argv[2]))))

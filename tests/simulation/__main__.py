"""`python -m tests.simulation SEEDS [--hours H] [--mode M] [--jobs N]`: a batch, and one JSON line at its end.

Exit code 0 only without a violation and with full coverage. `--trace FILE` writes every line of the
first failing run; `--shrink` makes that run smaller and prints it; `--options JSON` runs one such line again.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.simulation.coverage import Coverage
from tests.simulation.options import MODES, Options, options_of
from tests.simulation.run import Result, Run, simulate
from tests.simulation.shrink import shrunk


def batch(seeds: range, mode: str, hours: float) -> list[Options]:
    """The runs of a batch; `all` runs each seed in every mode."""
    modes = tuple(MODES) if mode == "all" else (mode,)
    return [options_of(seed, each, hours) for seed in seeds for each in modes]


def results(runs: list[Options], jobs: int) -> Iterator[Result]:
    """Results in the order of the runs, however many processes work."""
    if jobs == 1:
        yield from map(simulate, runs)
        return
    # what a process has imported is no garbage: each collection between two runs leaves it out
    with multiprocessing.get_context("spawn").Pool(jobs, gc.freeze, maxtasksperchild=100) as pool:
        yield from pool.imap(simulate, runs)


def told(result: Result) -> str:
    """A failing run, with all that its seed expands into."""
    lines = [f"seed {result.options.seed} mode {result.options.mode}: {len(result.violations)} violations"]
    lines += [f"  {v.invariant} at {v.at}: {v.text}" for v in result.violations]
    lines.append(f"  {result.options}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run a batch and print its figures."""
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__)
    parser.add_argument("seeds", help="half-open range a:b")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--mode", choices=(*MODES, "all"), default="all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--trace", type=Path, help="write the trace of the first failing run there")
    parser.add_argument("--no-coverage", action="store_true", help="print what is missing and do not fail for it")
    parser.add_argument("--shrink", action="store_true", help="make the first failing run smaller")
    parser.add_argument("--options", help="run exactly these options, as printed by --shrink; seeds are not looked at")
    wanted = parser.parse_args(arguments)
    first, _, last = wanted.seeds.partition(":")
    runs = batch(range(int(first), int(last or int(first) + 1)), wanted.mode, wanted.hours)
    if wanted.options is not None:
        runs = [msgspec.json.decode(wanted.options, type=Options)]
    began = time.monotonic()
    coverage, digest, failed, simulated = Coverage(), hashlib.blake2b(digest_size=12), 0, 0.0
    for result in results(runs, wanted.jobs):
        coverage.add(result)
        simulated += result.simulated_seconds
        digest.update(f"{result.options.seed} {result.options.mode} {result.digest}\n".encode())
        if result.violations:
            failed += 1
            print(told(result), flush=True)
            if wanted.trace is not None and failed == 1:
                wanted.trace.write_text("\n".join(Run(result.options, trace=True).go().trace), "utf-8")
            if wanted.shrink and failed == 1:
                smallest = shrunk(result.options, lambda line: print(f"  {line}", flush=True))
                print(f"  {msgspec.json.encode(smallest).decode()}", flush=True)
    wall = time.monotonic() - began
    counts = coverage.counts
    print(
        json.dumps(
            {
                "seeds": len(runs),
                "simulated_hours": round(simulated / 3600, 2),
                "wall_seconds": round(wall, 2),
                "jobs": wanted.jobs,
                "speed": round(simulated / (wall * wanted.jobs)),
                "orders": counts["orders"],
                "fills": counts["fills"],
                "crashes": counts["crash"] + counts["crash in recovery"],
                "faults": coverage.faults(),
                "coverage": coverage.figures(),
                "violations": failed,
                "digest": digest.hexdigest(),
            }
        )
    )
    return 1 if failed or (coverage.missing() and not wanted.no_coverage) else 0


if __name__ == "__main__":
    sys.exit(main())

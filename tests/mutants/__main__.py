"""`python -m tests.mutants [NAME …] [--seeds N] [--hours H] [--runs R] [--jobs N]`: who notices each mistake.

Each mistake is made in a copy of the program and simulated run by run, unit tests off, until an invariant speaks. The
runs are the same for all: seeds 0 to N-1, each in one mode, by turns. A mistake that needs some kind of fault meets
those with the most of it first (`needs.py`), and the run that noticed it last time (`noticed.json`, rewritten by
`--keep`) before all. A notice counts only if the unchanged program is silent on the same run. Ends with a table and one
line of JSON; the exit code is 0 when at least 95 in a hundred were noticed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import ROOT, Mutant
from tests.mutants.needs import NEEDS
from tests.simulation.options import MODES, options_of

PACKAGES = ("engine", "brokers", "tests/simulation", "tests/mutants")
ENOUGH = 0.95
NOTICED = Path(__file__).with_name("noticed.json")
Runs = list[tuple[int, str]]


def preset(seeds: int) -> Runs:
    """The runs that every mistake has to face."""
    modes = tuple(MODES)
    return [(seed, modes[seed % len(modes)]) for seed in range(seeds)]


def in_order(runs: Runs, mutant: Mutant) -> Runs:
    """The same runs, those first in which what the mistake needs is strongest."""

    def strength(run: tuple[int, str]) -> float:
        faults = options_of(*run, 1.0).faults
        return min((faults.get(kind, 0.0) for kind in NEEDS.get(mutant.name, ())), default=0.0)

    return sorted(runs, key=strength, reverse=True)


def hunted(folder: Path, runs: Runs, hours: float) -> dict[str, Any]:
    """What the hunt in a copy of the program found. Raises RuntimeError when the copy does not even run."""
    words = ",".join(f"{seed}:{mode}" for seed, mode in runs)
    command = [sys.executable, "-m", "tests.mutants.hunt", words, str(hours)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


class Referee:
    """Whether the unchanged program is silent on a run; each run made once."""

    def __init__(self, folder: Path, hours: float) -> None:
        self._folder = folder
        self._hours = hours
        self._silent: dict[tuple[int, str], bool] = {}
        self._turn = threading.Lock()

    def is_silent(self, seed: int, mode: str) -> bool:
        """Make the run unless it was made before."""
        with self._turn:
            if (seed, mode) not in self._silent:
                self._silent[seed, mode] = "seed" not in hunted(self._folder, [(seed, mode)], self._hours)
            return self._silent[seed, mode]

    @property
    def figures(self) -> dict[str, int]:
        """How many runs of the unchanged program were made, and in how many an invariant spoke."""
        return {"reference_runs": len(self._silent), "reference_loud": sum(not each for each in self._silent.values())}


def copy_of_program(target: Path) -> None:
    """The packages that a simulated run needs."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "tests" / "__init__.py", target / "tests" / "__init__.py")


def noticed(mutant: Mutant, runs: Runs, hours: float, referee: Referee) -> dict[str, Any]:
    """Seed, mode and invariant that noticed the mistake; without a seed when nobody did."""
    began, made = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="sextant-mutant-") as folder:
        copy_of_program(Path(folder))
        mutant.apply(Path(folder))
        while made < len(runs):
            try:
                found = hunted(Path(folder), runs[made:], hours)
            except RuntimeError as error:
                return {"name": mutant.name, "error": str(error)}
            made += found["runs"]
            if "seed" in found and referee.is_silent(found["seed"], found["mode"]):
                return {"name": mutant.name, **found, "runs": made, "seconds": round(time.monotonic() - began)}
    return {"name": mutant.name, "runs": made, "seconds": round(time.monotonic() - began)}


def known() -> dict[str, tuple[int, str]]:
    """The run that noticed each mistake last time."""
    kept = json.loads(NOTICED.read_text("utf-8")) if NOTICED.exists() else {}
    return {name: (row["seed"], row["mode"]) for name, row in kept.items()}


def keep(results: list[dict[str, Any]]) -> None:
    """Remember which run noticed what."""
    kept = json.loads(NOTICED.read_text("utf-8")) if NOTICED.exists() else {}
    names = {mutant.name for mutant in MUTANTS}
    for row in results:
        if "seed" in row:
            kept[row["name"]] = {"seed": row["seed"], "mode": row["mode"], "invariant": row["invariant"]}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept.keys() & names))
    NOTICED.write_text(f"{{\n{lines}\n}}\n", "utf-8")


def main() -> int:
    """Hunt, print, judge."""
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--runs", type=int, help="of these seeds, at most so many runs for each mistake")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="write what noticed each into noticed.json")
    parser.add_argument("--cold", action="store_true", help="do not try first what noticed last time")
    parser.add_argument("--say", action="store_true", help="print what the invariant said")
    wanted = parser.parse_args()
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in wanted.names if name not in by_name]:
        parser.error(f"there is no mutant {unknown[0]}; they are {', '.join(by_name)}")
    chosen = [by_name[name] for name in wanted.names] or list(MUTANTS)
    runs, first, results = preset(wanted.seeds), {} if wanted.cold else known(), []
    began = time.monotonic()

    def one(mutant: Mutant) -> dict[str, Any]:
        lead = [run for run in (first.get(mutant.name),) if run in runs]
        rest = [run for run in in_order(runs, mutant) if run not in lead]
        return noticed(mutant, [*lead, *rest][: wanted.runs], wanted.hours, referee)

    with tempfile.TemporaryDirectory(prefix="sextant-unchanged-") as folder, ThreadPoolExecutor(wanted.jobs) as pool:
        copy_of_program(Path(folder))
        referee = Referee(Path(folder), wanted.hours)
        for row in pool.map(one, chosen):
            results.append(row)
            by = f"{row['invariant']:<14} seed {row['seed']:>3} {row['mode']}" if "seed" in row else "NOBODY"
            print(f"{row['name']:<36} {row.get('error') or by}", flush=True)
            if wanted.say and "text" in row:
                print(f"    {row['text']}", flush=True)
            if wanted.keep:
                keep(results)
    missed = [row["name"] for row in results if "seed" not in row]
    figures = {
        "mutants": len(results),
        "noticed": len(results) - len(missed),
        "seeds": wanted.seeds,
        "hours_each": wanted.hours,
        "runs": sum(row.get("runs", 0) for row in results),
        "most_runs": max((row["runs"] for row in results if "seed" in row), default=0),
        "wall_seconds": round(time.monotonic() - began),
        **referee.figures,
        "missed": missed,
    }
    print(json.dumps(figures))
    return 0 if len(missed) <= (1 - ENOUGH) * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())

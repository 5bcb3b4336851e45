"""`python -m tests.mutants [NAME …] [--seeds N] [--hours H] [--jobs N]`: who notices each deliberate mistake.

Each mistake is made in a copy of the program and simulated seed by seed, unit tests off, until an invariant speaks. A
notice counts only if the unchanged program is silent on the same run. Ends with a table and one line of JSON; the exit
code is 0 when at least 95 in a hundred were noticed.
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
from tests.simulation.__main__ import simulate
from tests.simulation.options import options_of

PACKAGES = ("engine", "brokers", "tests/simulation", "tests/mutants")
ENOUGH = 0.95


class Referee:
    """What the unchanged program says of a run; each run once."""

    def __init__(self, hours: float) -> None:
        self._hours = hours
        self._said: dict[tuple[int, str], set[str]] = {}
        self._turn = threading.Lock()

    def is_silent(self, seed: int, mode: str, invariant: str) -> bool:
        """Whether the unchanged program does not break this invariant in this run."""
        with self._turn:
            if (seed, mode) not in self._said:
                found = simulate(options_of(seed, mode, self._hours)).violations
                self._said[(seed, mode)] = {violation.invariant for violation in found}
            return invariant not in self._said[(seed, mode)]


def copy_of_program(target: Path) -> None:
    """The packages that a simulated run needs."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "tests" / "__init__.py", target / "tests" / "__init__.py")


def noticed(mutant: Mutant, seeds: int, hours: float, referee: Referee) -> dict[str, Any]:
    """Seed, mode and invariant that noticed the mistake; without a seed when nobody did."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sextant-mutant-") as folder:
        copy_of_program(Path(folder))
        mutant.apply(Path(folder))
        first = 0
        while first < seeds:
            command = [sys.executable, "-m", "tests.mutants.hunt", f"{first}:{seeds}", str(hours)]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                return {"name": mutant.name, "error": done.stderr.strip().splitlines()[-1:]}
            found = json.loads(done.stdout.strip().splitlines()[-1])
            if found is None:
                break
            if referee.is_silent(found["seed"], found["mode"], found["invariant"]):
                return {"name": mutant.name, **found, "seconds": round(time.monotonic() - began)}
            first = found["seed"] + 1
    return {"name": mutant.name, "seconds": round(time.monotonic() - began)}


def main() -> int:
    """Hunt, print, judge."""
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=2)
    wanted = parser.parse_args()
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in wanted.names if name not in known]:
        parser.error(f"there is no mutant {unknown[0]}; they are {', '.join(known)}")
    chosen = [known[name] for name in wanted.names] or list(MUTANTS)
    referee, results = Referee(wanted.hours), []
    with ThreadPoolExecutor(wanted.jobs) as pool:
        for result in pool.map(lambda mutant: noticed(mutant, wanted.seeds, wanted.hours, referee), chosen):
            results.append(result)
            by = f"{result['invariant']:<5} seed {result['seed']:>3} {result['mode']}" if "seed" in result else "NOBODY"
            print(f"{result['name']:<36} {result.get('error') or by}", flush=True)
    missed = [result["name"] for result in results if "seed" not in result]
    share = 1 - len(missed) / len(results)
    print(json.dumps({"mutants": len(results), "noticed": len(results) - len(missed), "missed": missed}))
    return 0 if share >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())

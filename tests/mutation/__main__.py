"""`python -m tests.mutation [MODULE …] [--mutants N] [--seed S …] [--page]`: do the quick tests notice small changes?

A library's operators change the engine's outbound, reconciliation and aggregation rooms, one place at a time; a seed
draws `--mutants` of all that are possible (several seeds: each so many), shared among the modules by their size, and
in each module every operator has the same chance. Each is judged in a copy of the program by the quick tests that
reach its line, the fastest first, at most `MOST_TESTS`; one that nobody reaches has survived. `--minutes` ends it
early. Ends with a table and one line of JSON; `--page` writes docs/mutation-survivors.md, with the reasons that
`reasons.json` gives for some of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tests.mutation.operators import Change, Sites

ROOT = Path(__file__).parents[2]
ROOMS = ("engine/outbound", "engine/reconciliation", "engine/aggregation")
PROGRAM = ("engine", "brokers", "console", "tests")
QUICK = "not slow and not e2e and not postgres"
TESTS = (
    "tests/unit/engine/test_heat.py",
    "tests/unit/engine/test_portfolio_server.py",
    "tests/unit/engine/test_gates.py",
    "tests/unit/engine/test_standing.py",
    "tests/properties/test_comparison.py",
    "tests/properties/test_exits.py",
    "tests/properties/test_machine_exits.py",
    "tests/properties/test_machine_heat.py",
    "tests/properties/test_machine_reconciliation.py",
    *(
        f"tests/flows/test_{name}.py"
        for name in (
            "aggregation_cover",
            "aggregation_heat",
            "aggregation_modify",
            "entry_blocks",
            "faults_orders",
            "outbound_basic",
            "outbound_decisions",
            "outbound_entries",
            "outbound_exits",
            "outbound_look_alikes",
            "outbound_races",
            "outbound_remainder",
            "outbound_sizing",
            "outbound_steps",
            "outbound_unheard",
            "reconciliation_orders",
            "reconciliation_positions",
        )
    ),
)
MOST_TESTS = 25
SECONDS = 120.0
"""A change after which the tests do not end in this time has been noticed."""
PAGE = ROOT / "docs" / "mutation-survivors.md"
REASONS = Path(__file__).with_name("reasons.json")
OPEN = "to be tested"
NOTICED = "noticed by"


def modules() -> list[str]:
    """Everything that may be changed."""
    return [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in sorted((ROOT / room).glob("*.py"))
        if path.name != "__init__.py"
    ]


def drawn(paths: list[str], total: int, seed: int) -> list[Change]:
    """The sample: the same for the same seed and program."""
    sites = {path: Sites(path, (ROOT / path).read_text("utf-8")) for path in paths}
    whole, sample = sum(len(each) for each in sites.values()), []
    for path, places in sites.items():
        rng = Random(f"{seed}/{path}")
        left = {operator: rng.sample(range(len(found)), len(found)) for operator, found in places.found.items()}
        wanted = max(2, round(total * len(places) / whole))
        while wanted and left:
            operator = rng.choice(sorted(left))
            change = places.change(operator, left[operator].pop())
            if not left[operator]:
                del left[operator]
            if change is not None:
                sample.append(change)
                wanted -= 1
    Random(seed).shuffle(sample)  # a run that is cut short has seen a bit of everything
    return sample


def pytest(folder: Path, tests: list[str], seconds: float, **environment: str) -> int | None:
    """Run tests in a copy; their exit code, None when they did not end in time."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", QUICK, *tests]
    try:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **environment}, capture_output=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode


def reached(folder: Path) -> dict[str, Any]:
    """Which quick tests reach which line, by one run of all of them. Raises RuntimeError when that does not end."""
    where = folder / "reach.json"
    wanted = f"{','.join(ROOMS)}:{where}"
    plugin = ("-p", "tests.mutation.reach")
    if pytest(folder, [*plugin, "--maxfail=50", *TESTS], 3_600.0, SEXTANT_REACH=wanted) is None or not where.exists():
        raise RuntimeError("the tests of the unchanged program do not run")
    found: dict[str, Any] = json.loads(where.read_text("utf-8"))
    return found


def judged(folder: Path, change: Change, reach: dict[str, Any]) -> str:
    """noticed, too long, survived, or unreached."""
    seconds = reach["seconds"]
    names = reach["lines"].get(change.path, {}).get(str(change.line), [])
    tests = sorted(names, key=lambda name: (seconds[name], name))[:MOST_TESTS]
    if not tests:
        return "unreached"
    path = folder / change.path
    was = path.read_text("utf-8")
    path.write_text(change.code, "utf-8")
    try:
        code = pytest(folder, tests, SECONDS)
    finally:
        path.write_text(was, "utf-8")
    return {0: "survived", None: "too long"}.get(code, "noticed")


def table(verdicts: list[tuple[Change, str]]) -> list[str]:
    """One row for each module."""
    rows = ["| Module | Changes | Noticed | Survived | Reached by no test |", "|---|---:|---:|---:|---:|"]
    for path in dict.fromkeys(change.path for change, _ in verdicts):
        words = [word for change, word in verdicts if change.path == path]
        survived, unreached = words.count("survived"), words.count("unreached")
        rows.append(f"| `{path}` | {len(words)} | {len(words) - survived - unreached} | {survived} | {unreached} |")
    return rows


def page(verdicts: list[tuple[Change, str]], figures: dict[str, Any]) -> str:
    """What docs/mutation-survivors.md says."""
    reasons: dict[str, str] = json.loads(REASONS.read_text("utf-8")) if REASONS.exists() else {}
    drew = " and ".join(f"seed {seed} drew {count}" for seed, count in figures["seeds"].items())
    head = (
        "# Small changes that no test noticed\n\n"
        "Written by `make mutation ARGS=--page`. mutmut's operators changed the rooms that send, compare and add up, "
        f"one place at a time; {drew} of {figures['possible']} changes, "
        f"and the quick tests that reach a line noticed {figures['noticed']} of {figures['changes']} "
        f"({figures['share']} %). Only the {MOST_TESTS} fastest that reach the line were asked; the slower stories, "
        "those of overrides and restarts, and the simulator were not. "
        "Whatever survived stands below with the test that notices it since, or that is slower, with the reason why "
        "it is no loss, or as to be tested. A change of a module moves what a seed draws from it.\n\n"
    )
    rows = ["| File | Line | Operator | Change | Reason |", "|---|---:|---|---|---|"]
    told: Counter[str] = Counter()
    for change, word in verdicts:
        if word in ("survived", "unreached"):
            reason = reasons.get(change.name, OPEN if word == "survived" else f"{OPEN}: no quick test reaches it")
            text = f"`{change.before}` → `{change.after}`".replace("|", "\\|")
            rows.append(f"| {change.path} | {change.line} | {change.operator} | {text} | {reason} |")
            told[NOTICED if reason.startswith(NOTICED) else OPEN if reason.startswith(OPEN) else "no loss"] += 1
    head += (
        f"Of these {told.total()}, {told[NOTICED]} are noticed by the test that is named, {told['no loss']} are no "
        f"loss, {told[OPEN]} are to be tested.\n\n"
    )
    return head + "\n".join(table(verdicts)) + "\n\n## Survivors\n\n" + "\n".join(rows) + "\n"


def main() -> int:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser(prog="tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="files or parts of their names")
    parser.add_argument("--mutants", type=int, default=160)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--minutes", type=float, default=1e6, help="judge no further change after so long")
    parser.add_argument("--page", action="store_true", help="write docs/mutation-survivors.md")
    wanted = parser.parse_args()
    paths = [path for path in modules() if not wanted.modules or any(each in path for each in wanted.modules)]
    if not paths:
        parser.error(f"no such module; they are {', '.join(modules())}")
    began = time.monotonic()
    samples = {seed: drawn(paths, wanted.mutants, seed) for seed in wanted.seed}
    sample = list({(change.path, change.code): change for each in samples.values() for change in each}.values())
    possible = sum(len(Sites(path, (ROOT / path).read_text("utf-8"))) for path in paths)
    verdicts: list[tuple[Change, str]] = []
    with tempfile.TemporaryDirectory(prefix="sextant-mutation-") as name:
        folder = Path(name)
        for package in PROGRAM:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
        reach = reached(folder)
        known, failed, took = len(reach["seconds"]), reach["failed"], time.monotonic() - began
        print(f"{known} tests, {len(failed)} of no use here {failed[:5]} ({took:.0f} s)", flush=True)
        for change in sample:
            if time.monotonic() - began > wanted.minutes * 60:
                break
            word = judged(folder, change, reach)
            verdicts.append((change, word))
            if word in ("survived", "unreached"):
                what = f"{change.before} -> {change.after}"
                print(f"{word:<9} {change.path}:{change.line} {change.operator}: {what}", flush=True)
    verdicts.sort(key=lambda each: (each[0].path, each[0].line, each[0].operator))
    words = [word for _, word in verdicts]
    noticed = words.count("noticed") + words.count("too long")
    figures = {
        "seeds": {seed: len(each) for seed, each in samples.items()},
        "modules": len(paths),
        "possible": possible,
        "changes": len(words),
        "noticed": noticed,
        "too_long": words.count("too long"),
        "survived": words.count("survived"),
        "unreached": words.count("unreached"),
        "share": round(100 * noticed / max(1, len(words)), 1),
        "wall_seconds": round(time.monotonic() - began),
    }
    print("\n".join(table(verdicts)))
    if wanted.page:
        PAGE.write_text(page(verdicts, figures), "utf-8")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

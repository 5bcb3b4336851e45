"""Simulated desks: a seed is a run, in any process, and what it finds is nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.domain.orders import OrderState

ROOT = Path(__file__).resolve().parents[2]


def simulate(
    *arguments: str, hash_seed: str = "0", module: str = "tests.simulation"
) -> tuple[int, dict[str, object], str]:
    """Run a batch in a process of its own; its exit code, its figures, and everything it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stdout


@pytest.mark.slow
def test_r4_a_seed_is_the_same_run_in_every_process_and_under_every_hash_seed() -> None:
    batches = [
        simulate("3:5", "--hours", "0.5", "--mode", "all", "--no-coverage", hash_seed=seed) for seed in ("0", "1", "77")
    ]
    assert len({figures["digest"] for _, figures, _ in batches}) == 1


@pytest.mark.slow
def test_a_slice_of_seeds_ends_without_a_violation() -> None:
    code, figures, said = simulate("206:208", "--hours", "1", "--mode", "all", "--no-coverage", "--jobs", "2")
    assert figures["violations"] == 0, said
    assert code == 0


@pytest.mark.slow
def test_a_process_killed_at_any_seam_recovers() -> None:
    code, figures, said = simulate("--every", "97", module="tests.simulation.crash_points")
    assert figures["not_recovered"] == 0, said
    assert code == 0
    points = figures["crash_points"]
    assert isinstance(points, int)
    assert points >= 60, said
    met, at_death = figures["states"], figures["states_at_death"]
    assert isinstance(met, list)
    assert isinstance(at_death, dict)
    assert set(met) == {state.value for state in OrderState}, "the scenarios bring an order into every state"
    assert len(at_death) >= 8, said  # all of them when every seam is cut: `make crash-points`


@pytest.mark.slow
def test_seeds_that_once_failed_fail_no_more() -> None:
    corpus = json.loads((Path(__file__).parent / "corpus.json").read_text("utf-8"))
    assert len({(case["seed"], case["mode"]) for case in corpus}) == len(corpus)
    broken = []
    for case in corpus:
        # what a seed expands into changes with the list of fault kinds: newer cases keep their options
        whole = ["--options", json.dumps(case["options"])] if "options" in case else []
        seeds = f"{case['seed']}:{case['seed'] + 1}"
        _, figures, said = simulate(
            seeds, "--hours", str(case["hours"]), "--mode", case["mode"], "--no-coverage", *whole
        )
        if figures["violations"]:
            broken.append(f"{case['was']}\n{said}")
    assert not broken, "\n".join(broken)

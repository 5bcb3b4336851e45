"""Two engines, one account: who commands, who looks on, and what a suspended one may still send."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Open, Sextant
from tests.e2e.desks import ONE_SESSION, at_once
from tests.e2e.terminal import PATIENCE_S, wait_until
from tests.e2e.test_postgres import database
from tests.postgres import Cluster

SHORT = ("run", "--headless", "--symbol", "ESZ6", "--timeframe", "1s", "--warmup", "5")
# A lease that expires while a test can wait for it.
CONFIG = f"[desk.numbers]\nlease = 3\nlease_renewal = 0.8\n{ONE_SESSION}"


def test_a_second_engine_looks_on_names_the_first_and_sends_nothing(
    terminal: Open, sextant: Sextant, tmp_path: Path
) -> None:
    state = tmp_path / "desk"
    run = ("run", "--state-dir", str(state), "--timeframe", "1s", "--symbol", "CLF7", "--strategy", at_once(tmp_path))
    first = terminal(120, 40)
    first.run(*run)
    first.wait_for(r"cl-breakout\s+trading.*LONG 6")
    first.wait_for(r"guard +covered")
    orders = sextant("orders", "--json", "--state-dir", state).json

    second = terminal(80, 24)
    second.run(*run)
    second.wait_for(r"VIEW ONLY +Another desk \(process \d+\) uses")
    second.wait_for(r"cl-breakout +view only.*LONG 6")
    second.press_until("f", "Flatten: view only: Another desk")
    second.press("q")
    assert second.ended() == 0
    assert second.is_clean()

    assert sextant("orders", "--json", "--state-dir", state).json == orders
    first.wait_for(r"cl-breakout\s+trading.*LONG 6")
    refused = sextant(*SHORT, "--for", "1", "--state-dir", state)
    assert refused.code == 3
    assert re.search(r"Another desk \(process \d+\) uses", refused.line)
    first.signal(signal.SIGTERM)
    assert first.ended() == 0


def submits(requests: list[dict[str, Any]]) -> set[str]:
    """Client ids of the orders that were sent."""
    return {each["call"]["request"]["client_id"] for each in requests if "request" in each["call"]}


@contextlib.contextmanager
def process(
    command: Sequence[str | Path], environment: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[str]]:
    """A program that is certainly gone afterwards."""
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.send_signal(signal.SIGCONT)
            running.kill()


@pytest.mark.postgres
def test_a_suspended_engine_whose_account_was_taken_over_sends_nothing_when_it_wakes(
    postgres: Cluster, sextant: Sextant, program: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Two state directories and lock paths, as on two machines; one database, one exchange in a process of its own."""
    url = database(postgres, environment)
    config = tmp_path / "sextant.toml"
    config.write_text(CONFIG)
    socket, requests = tmp_path / "x" / "exchange.sock", tmp_path / "requests.jsonl"
    there = {**environment, "XDG_STATE_HOME": str(tmp_path / "there")}

    def run(state: str, *more: str) -> list[str | Path]:
        where = ("--db", url, "--state-dir", tmp_path / state, "--exchange", socket)
        return [program, "run", "--headless", "--config", config, *where, *more]

    def epochs() -> list[int]:
        rows = postgres.sql("SELECT epoch FROM sextant.leases ORDER BY account", url.rpartition("/")[2])
        return [row[0] for row in rows]

    def sent() -> list[dict[str, Any]]:
        written = requests.read_text() if requests.exists() else ""
        return [json.loads(line) for line in written.splitlines(keepends=True) if line.endswith("\n")]

    exchange: list[str | Path] = [sys.executable, "-m", "brokers.paper", "--socket", socket, "--config", config]
    exchange += ["--requests", requests]
    root = str(Path(__file__).parents[2])
    with process(exchange, {**environment, "PYTHONPATH": root}, tmp_path), contextlib.ExitStack() as stack:
        wait_until(socket.exists, "the exchange listens")
        first = stack.enter_context(process(run("one"), environment, tmp_path))
        wait_until(lambda: len(sent()) >= 2, "the first engine trades")
        os.kill(first.pid, signal.SIGSTOP)
        known = len(sent())

        refused = subprocess.run(run("two", "--for", "1"), env=there, cwd=tmp_path, capture_output=True, text=True)
        assert refused.returncode == 3
        assert "--take-over" in refused.stderr
        assert epochs() == [1]

        second = stack.enter_context(process(run("two", "--take-over"), there, tmp_path))
        wait_until(lambda: epochs() == [2], "the second engine commands")
        os.kill(first.pid, signal.SIGCONT)
        _, said = first.communicate(timeout=PATIENCE_S)
        assert first.returncode == 3
        assert f"is now commanded by process {second.pid} on " in said
        wait_until(lambda: len(submits(sent()[known:])) >= 2, "the second engine trades")
        second.send_signal(signal.SIGTERM)
        assert second.wait(PATIENCE_S) == 0
        rows = postgres.sql("SELECT client_id FROM sextant.orders WHERE epoch = 2", url.rpartition("/")[2])
        assert submits(sent()[known:]) <= {client for (client,) in rows}

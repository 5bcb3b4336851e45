"""The installed program while its audit trail is in trouble: what the screen says, what leaves, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Open
from tests.e2e.desks import at_once
from tests.e2e.terminal import PATIENCE_S, wait_until
from tests.outage.troubles import locked
from tests.postgres import PASSWORD, Cluster

RUN = ("run", "--symbol", "ESZ6", "--timeframe", "1s", "--warmup", "5")
# Loaded with the strategy: while the file is there, nothing of ours comes back from a sync of the disk.
HANG = """

import os
import re
import time
from pathlib import Path

from engine.persistence import sqlite

HANG = Path("{hang}")
_fdatasync, _execute = os.fdatasync, sqlite._OneHop.execute


def _wait():
    while HANG.exists():
        time.sleep(0.01)


def fdatasync(descriptor):
    _wait()
    return _fdatasync(descriptor)


def execute(self, sql, parameters=()):
    if sql is sqlite.TRANSACT:
        _wait()
    return _execute(self, sql, parameters)


os.fdatasync, sqlite._OneHop.execute = fdatasync, execute
"""


@pytest.mark.postgres
def test_a_frozen_server_is_on_the_screen_and_a_flatten_leaves(
    postgres: Cluster, terminal: Open, environment: dict[str, str], tmp_path: Path
) -> None:
    url = postgres.database()
    pgpass = Path(environment["HOME"], ".pgpass")
    pgpass.write_text(f"127.0.0.1:{postgres.port}:*:{url.user}:{PASSWORD}\n")
    pgpass.chmod(0o600)
    desk = terminal(120, 40)
    state = tmp_path / "state"
    desk.run(*RUN, "--strategy", at_once(tmp_path), "--db", url.shown, "--state-dir", str(state))
    desk.wait_for(r"PERSIST ok")
    desk.wait_for(r"es-cross\s+trading.*LONG \d")
    desk.wait_for(r"guard +covered")
    with postgres.frozen():
        desk.wait_for(r"PERSIST not writing: no answer for \d+ s")
        desk.wait_for(r"ENTRIES BLOCKED.*database: no answer for \d+ s")
        desk.wait_for(r"exits are open")
        desk.press("f")
        desk.wait_for(r"Flatten es-cross")
        desk.type("y")
        desk.press("Enter")
        desk.wait_for(r"✓ flat confirmed at \d\d:\d\d:\d\d")
        desk.escape("flat confirmed at")
    desk.wait_for(r"PERSIST ok")
    desk.press("q")
    desk.wait_for("Quit: stop the desk")
    desk.press("y")
    assert desk.ended() == 0
    kinds = {kind for (kind,) in postgres.sql("SELECT kind FROM sextant.intents", url.database)}
    assert kinds == {"submit", "replace"}, "by its own commit or from the journal, before the desk ended"
    assert list((state / "journal").glob("*.journal.imported"))
    assert not list((state / "journal").glob("*.journal"))


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_hung_disk_does_not_hold_up_the_end(
    program: Path, environment: dict[str, str], tmp_path: Path, stop: signal.Signals,
    record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    hang = tmp_path / "hang"
    strategy = at_once(tmp_path)
    file = Path(strategy.rpartition(":")[0])
    file.write_text(file.read_text() + HANG.format(hang=hang))
    state = tmp_path / "state"
    with subprocess.Popen(
        [program, *RUN, "--headless", "--json", "--strategy", strategy, "--state-dir", state],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as desk:  # fmt: skip
        try:
            book = state / "paper-exchange.book"
            wait_until(lambda: book.exists() and '"filled"' in book.read_text(), "a fill at the exchange")
            hang.touch()
            asked = time.monotonic()
            os.kill(desk.pid, stop)
            out, err = desk.communicate(timeout=PATIENCE_S)
        finally:
            desk.kill()
    record_property("figures", f"a process whose disk hangs ends {time.monotonic() - asked:.1f} s after {stop.name}")
    assert json.loads(out)["fills"] >= 1
    assert desk.returncode == 1
    assert "could not be written to the audit trail" in err
    log = "".join(path.read_text() for path in state.glob("*.log*"))
    assert "nobody knows whether" in log, log[-2000:]


def test_a_run_that_could_not_write_its_rows_says_so_and_does_not_end_well(
    program: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    log, trail = state / "sextant.log", state / "desk.sqlite3"

    def has_rows() -> bool:
        try:
            with contextlib.closing(sqlite3.connect(f"file:{trail}?mode=ro", uri=True)) as reader:
                return bool(reader.execute("SELECT count(*) FROM log WHERE session IS NOT NULL").fetchone()[0])
        except sqlite3.OperationalError:  # not made yet
            return False

    with subprocess.Popen(
        [program, "run", "--headless", "--json", "--timeframe", "1s", "--warmup", "2", "--state-dir", state],
        env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as desk:  # fmt: skip
        wait_until(has_rows, "a session's rows in the audit trail")
        with locked(trail):
            wait_until(lambda: log.exists() and "does not take rows" in log.read_text(), "rows that wait")
            os.kill(desk.pid, signal.SIGTERM)
            out, err = desk.communicate(timeout=PATIENCE_S)
    did = json.loads(out)
    assert did["rows_not_written"] > 0
    assert desk.returncode == 1
    assert re.fullmatch(rf"sextant: {did['rows_not_written']} rows? could not be written to the audit trail; .*\n", err)
    assert "never written" in log.read_text() or "nobody knows" in log.read_text()

"""A desk and its exchange in two processes: it trades there, waits for it, and sees the other desk."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers.paper.book import Book
from brokers.paper.book_file import BookFile, UnsyncedFiles
from tests.e2e.conftest import Sextant
from tests.e2e.desks import full_portfolio
from tests.e2e.terminal import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[2]


class Venue:
    """The exchange process of one test."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.socket = folder / "x.sock"
        self._command: list[str | Path] = [
            sys.executable,
            "-m",
            "brokers.paper",
            "--socket",
            self.socket,
            "--config",
            config,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, cwd=ROOT)

    def stop(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(PATIENCE_S)

    def fills(self) -> int:
        path, book = self.socket.with_suffix(".book"), Book()
        if path.exists():
            BookFile(path, UnsyncedFiles()).load(book)
        return len(book.fills)


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[Venue]:
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="sxt-") as folder:
        venue = Venue(Path(folder), full_portfolio(tmp_path))
        yield venue
        if venue.process is not None and venue.process.poll() is None:
            venue.stop(signal.SIGKILL)


@pytest.mark.slow
def test_a_desk_trades_on_an_exchange_process_waits_for_it_and_shares_no_account(
    sextant: Sextant, program: Path, environment: dict[str, str], venue: Venue, tmp_path: Path
) -> None:
    state, config = tmp_path / "one", tmp_path / "full.toml"
    at = ("--config", config, "--exchange", f"unix:{venue.socket}")
    doctor = sextant("doctor", *at, "--state-dir", state)
    assert doctor.code == 3
    assert "# BAD brokers: paper: no exchange answers on" in doctor.out
    run: list[str | Path] = [program, "run", *at, "--state-dir", state, "--headless", "--json"]
    desk = subprocess.Popen(run, env=environment, cwd=tmp_path, stdout=subprocess.PIPE)
    try:
        wait_until(lambda: (state / "desk.sqlite3").exists(), "the desk begins without an exchange")
        venue.start()
        wait_until(lambda: venue.fills() > 0, "a fill at the exchange")
        assert (
            f"answers and keeps {venue.socket.with_suffix('.book')}"
            in sextant("doctor", *at, "--state-dir", tmp_path / "two").out
        )
        # By another name of the same socket, with a state of its own.
        alias = tmp_path / "alias.sock"
        alias.symlink_to(venue.socket)
        second = sextant("run", "--config", config, "--exchange", alias, "--state-dir", tmp_path / "two", "--headless")
        assert second.code == 3
        assert "Account" in second.line
        assert "is commanded by" in second.line
        venue.stop(signal.SIGKILL)
        before = venue.fills()
        assert before > 0
        venue.start()
        wait_until(lambda: _rows(state, "fills") == venue.fills(), "every fill is booked")
    finally:
        desk.terminate()
        out, _ = desk.communicate(timeout=PATIENCE_S)
    assert json.loads(out)["fills"] > 0
    assert desk.returncode == 0
    assert _rows(state, "fills") >= before
    mismatch = sextant("run", "--exchange", venue.socket, "--state-dir", tmp_path / "three", "--headless", "--for", "2")
    assert mismatch.code == 0, "it waits: the exchange may be started again with the right file"
    assert "the exchange does not list NQZ6" in sextant("doctor", "--exchange", venue.socket).out


def _rows(state: Path, table: str) -> int:
    with sqlite3.connect(f"file:{state / 'desk.sqlite3'}?mode=ro", uri=True) as database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_state_directory_stays_with_its_exchange(sextant: Sextant, venue: Venue, tmp_path: Path) -> None:
    state, config = tmp_path / "one", tmp_path / "full.toml"
    assert sextant("run", "--config", config, "--state-dir", state, "--headless", "--for", "1").code == 0
    venue.start()
    moved = sextant(
        "run", "--config", config, "--exchange", venue.socket, "--state-dir", state, "--headless", "--for", "1"
    )
    assert moved.code == 3
    assert "was made by another feed" in moved.line

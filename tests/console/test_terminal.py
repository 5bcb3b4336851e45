"""The safe driver in a real pseudo-terminal: one that stalls, one that hangs up, one that is asked to stop."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, threading, time
sys.path.insert(0, {root!r})
from console.app import SextantApp
from engine.domain.settings import ShutdownPolicy
from screenshots.story import StillClient, busy_desk
app = SextantApp(StillClient(busy_desk()), operator="operator", place="pty", shutdown_timeout=1)
beats = 0
def beat():
    global beats
    beats += 1
    open({report!r} + ".beats", "w").write(str(beats))
def heartbeat():
    app.set_interval(0.05, beat)
    app.set_interval(0.02, lambda: app.screen.refresh())
app.call_later(heartbeat)
def watch():
    while True:
        time.sleep(0.1)
        try:
            order = open({orders!r}).read().strip()
        except OSError:
            continue
        if order == "lost":
            app.terminal_lost()
        if order in ("lost", "quit"):
            app.request_quit(ShutdownPolicy.LEAVE)
            return
threading.Thread(target=watch, daemon=True).start()
app.run()
open({report!r}, "w").write(str(app.return_code))
"""


class Console:
    """The console in a pseudo-terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self.orders, self.report = folder / "orders", folder / "report"
        code = PROGRAM.format(root=str(ROOT), orders=str(self.orders), report=str(self.report))
        self.terminal, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "TEXTUAL_DISABLE_KITTY_KEY": "1", "COLUMNS": "120",
                       "LINES": "40"}  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.seen = b""

    def read(self, seconds: float, until: bytes = b"\0never") -> bool:
        """Take what the program writes, for a while or until something is seen; whether more may come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and until not in self.seen:
            if select.select([self.terminal], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.terminal, 65536)
                except OSError:
                    return False
        return True

    def beats(self) -> int:
        """How often the app's loop has come round."""
        file = self.report.with_suffix(".beats")
        return int(file.read_text() or "0") if file.exists() else 0

    def ended(self) -> int:
        """Return code of the app, once the process is gone and its last word is read."""
        end = time.monotonic() + PATIENCE_S
        while self.read(0.2) and time.monotonic() < end:
            pass
        assert self.process.wait(PATIENCE_S) == 0
        return int(self.report.read_text())


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    made = Console(tmp_path)
    made.read(PATIENCE_S, until=b"eurusd-ema")
    assert b"eurusd-ema" in made.seen
    yield made
    if made.process.poll() is None:
        made.process.send_signal(signal.SIGKILL)
    made.process.wait()


pytestmark = pytest.mark.slow


def test_a_stalled_terminal_does_not_stop_the_loop_and_is_repainted(console: Console) -> None:
    # Nobody reads: at fifty repaints a second the terminal's buffer is full long before the loop came round so often.
    begun, end = console.beats(), time.monotonic() + PATIENCE_S
    while console.beats() < begun + 50:
        assert time.monotonic() < end, "the loop stands"
        time.sleep(0.02)
    console.seen = b""
    console.read(PATIENCE_S, until=b"SEXTANT")
    assert b"SEXTANT" in console.seen
    console.orders.write_text("quit")
    assert console.ended() == 4


def test_u1_a_lost_terminal_ends_cleanly_and_does_not_spin(console: Console) -> None:
    console.orders.write_text("lost")
    assert console.ended() == 4


def test_stop_signals_do_not_stop_the_process_and_quitting_resets_the_terminal(console: Console) -> None:
    console.process.send_signal(signal.SIGTSTP)
    console.read(0.5)
    state = Path(f"/proc/{console.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    assert state != "T"
    console.seen = b""
    console.orders.write_text("quit")
    console.ended()
    for reset in (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?2004l"):
        assert reset in console.seen


def test_no_kitty_keys_are_asked_for(console: Console) -> None:
    assert b"\x1b[>1" not in console.seen
    assert b"\x1b[>2" not in console.seen

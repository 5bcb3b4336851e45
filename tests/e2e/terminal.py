"""The real program in a real terminal: a tmux server of its own, keys in, screens out. Nothing here waits for luck."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

CLEAN = "0 0 1 1"
"""alternate screen off, mouse off, cursor shown, lines wrap: what a shell expects."""
COLOURED = re.compile(r"\x1b\[(?:[\d;:]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:[;:][\d;:]*)?m")
"""An escape that sets a foreground or background colour (bold, dim, reverse and underline are none)."""
PATIENCE_S = 90.0
"""Long: it costs nothing when the event comes, and a loaded machine is no failure."""
LOOK_EVERY_S = 0.05


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has collected yet has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status in ("Z", "X")


def wait_until(check: Callable[[], bool], what: Callable[[], str] | str, seconds: float = PATIENCE_S) -> float:
    """Look again and again until it is so, and say how long that took; an AssertionError after the deadline."""
    began = time.monotonic()
    while not check():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - began


class Terminal:
    """One window of so many columns and rows; `run` puts a program into it, after whose end the window stays."""

    def __init__(self, program: Path, directory: Path, environment: Mapping[str, str], columns: int, rows: int) -> None:
        self._program = program
        self._directory = directory
        self._name = f"sextant-{uuid.uuid4().hex[:12]}"
        self._sockets = tempfile.mkdtemp(prefix="sxt-")  # short: a socket's path has at most 108 bytes
        self._environment = {**environment, "TMUX_TMPDIR": self._sockets}
        self._size = ("-x", str(columns), "-y", str(rows))
        self._runs = 0
        self.pid = 0

    # -- in ---------------------------------------------------------------------------------------------

    def run(self, *arguments: str, wrap: str = "") -> None:
        """Start `sextant ARGUMENTS`, again after it ended; `wrap` are words of shell before it."""
        self._runs += 1
        pid = self._directory / f"pid-{self._runs}"
        command = shlex.join([str(self._program), *arguments])
        script = self._directory / f"run-{self._runs}.sh"
        script.write_text(
            f"{wrap} sh -c 'echo $$ >{shlex.quote(str(pid))}.new; mv {shlex.quote(str(pid))}.new "
            f"{shlex.quote(str(pid))}; exec {command}'\n"
            f"echo ended-{self._runs} with=$?=; stty -a | tr ';' '\\n' | grep -ow -e '-\\?icanon' -e '-\\?echo'\n"
            "cat\n"
        )
        start = f"exec sh {shlex.quote(str(script))}"
        if self._runs == 1:
            self._tmux("-f", "/dev/null", "-u", "new-session", "-d", *self._size, start)
        else:
            self._tmux("respawn-pane", "-k", start)
        wait_until(pid.exists, "the program's process id")
        self.pid = int(pid.read_text())

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self._tmux("send-keys", *keys)

    def hold(self, key: str, times: int) -> None:
        """A key held down: so many of it in one go, as a keyboard's repetition sends them."""
        self._tmux("send-keys", "-N", str(times), key)

    def type(self, text: str) -> None:
        """Type text as it stands."""
        self._tmux("send-keys", "-l", "--", text)

    def paste(self, text: str) -> None:
        """Paste text as a terminal does for a program that asked to know (bracketed)."""
        self._tmux("set-buffer", "--", text)
        self._tmux("paste-buffer", "-p")

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        os.kill(self.pid, number)

    def hang_up(self) -> None:
        """The terminal goes away, as a lost connection makes it."""
        self._tmux("kill-pane")

    # -- out --------------------------------------------------------------------------------------------

    def screen(self) -> str:
        """What stands on the screen now."""
        return self._tmux("capture-pane", "-p")

    def with_escapes(self) -> str:
        """The same with colours and attributes."""
        return self._tmux("capture-pane", "-p", "-e")

    def shows(self, pattern: str) -> bool:
        """Whether the screen matches a regular expression now."""
        return re.search(pattern, self.screen()) is not None

    def wait_for(self, pattern: str, seconds: float = PATIENCE_S) -> re.Match[str]:
        """Until the screen matches; the match."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = re.search(pattern, self.screen())
            if match is not None:
                found.append(match)
            return match is not None

        wait_until(look, lambda: f"no {pattern!r} on the screen:\n{self.screen()}", seconds)
        return found[0]

    def wait_without(self, pattern: str, seconds: float = PATIENCE_S) -> None:
        """Until the screen no longer matches."""
        wait_until(
            lambda: not self.shows(pattern), lambda: f"still {pattern!r} on the screen:\n{self.screen()}", seconds
        )

    def ended(self, seconds: float = PATIENCE_S) -> int:
        """Wait for the program's end: its exit status."""
        return int(self.wait_for(rf"ended-{self._runs} with=(\d+)=", seconds).group(1))

    def is_clean(self) -> bool:
        """Whether the terminal is as a shell wants it: main screen, no mouse, cursor, wrapping, cooked and echoing."""
        flags = "#{alternate_on} #{mouse_any_flag} #{cursor_flag} #{wrap_flag}"
        self.wait_for(r"(?m)^icanon$")
        self.wait_for(r"(?m)^echo$")
        return self._tmux("display-message", "-p", flags).strip() == CLEAN

    def escape(self, pattern: str) -> None:
        """Press Escape once this is shown; wait until it is gone: a key straight after Escape would be Alt and that."""
        self.wait_for(pattern)  # an Escape before the dialog opened would close nothing
        self.press("Escape")
        self.wait_without(pattern)

    def press_until(self, key: str, pattern: str, seconds: float = PATIENCE_S) -> None:
        """Press a key again and again, a second apart, until the screen matches."""
        pressed = 0.0

        def look() -> bool:
            nonlocal pressed
            if self.shows(pattern):
                return True
            if time.monotonic() - pressed > 1:
                self.press(key)
                pressed = time.monotonic()
            return False

        wait_until(look, lambda: f"no {pattern!r} on the screen:\n{self.screen()}", seconds)

    # -- the end ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Nothing stays behind, whatever went wrong."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")
        if self.pid:
            try:
                wait_until(lambda: gone(self.pid), "the program's end after its terminal closed", 15)
            except AssertionError:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self._name, *arguments], env=self._environment, check=True, capture_output=True, text=True,
            timeout=PATIENCE_S,
        ).stdout  # fmt: skip

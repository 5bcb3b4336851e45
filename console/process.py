"""The process itself: signals, secrets kept out of core dumps, the log file, and an end that always comes.

Used headless and under a screen alike. Order of use: `harden` first of all, `SignalThread` before any other
thread, `prepare_terminal` before textual is imported, `start_logging` once the state directory is known,
`exit_within` when the engine is done.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterable, MutableMapping
from enum import StrEnum
from pathlib import Path

from console.formatting import plain
from console.process_log import hide, redacted, start_logging
from engine.errors import DeskUnusable

__all__ = [
    "STOP_SIGNALS",
    "SignalThread",
    "Urgency",
    "Watchdog",
    "exit_within",
    "harden",
    "hide",
    "prepare_terminal",
    "redacted",
    "start_logging",
    "state_directory",
    "unblock_signals",
]  # fmt: skip

STOP_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
SWITCH_INTERVAL_S = 0.0005
LAST_WORDS_S = 0.5

_log = logging.getLogger("sextant.process")


class Urgency(StrEnum):
    """What a signal asks for: the shutdown policy, or (the second one) to persist and go."""

    POLICY = "policy"
    GO = "go"


def harden() -> None:
    """Files for us alone, no core dumps, and threads that take turns quickly; call before anything else."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A console that paints holds the GIL for up to this long while a tick waits (default: 5 ms).
    sys.setswitchinterval(SWITCH_INTERVAL_S)


class SignalThread:
    """Waits for SIGHUP, SIGTERM and SIGINT on a thread of its own, so that no stuck event loop can miss them.

    Make it in the main thread before any other thread starts: threads inherit the blocked signals (so do child
    processes, which want `unblock_signals`). `on_signal` runs on this thread and must be quick and thread-safe.
    A second SIGTERM or SIGINT means go at once; a hang-up never does, for a dying terminal sends it twice.
    """

    def __init__(
        self,
        on_signal: Callable[[signal.Signals, Urgency], None],
        signals: Iterable[signal.Signals] = STOP_SIGNALS,
    ) -> None:
        self._signals = frozenset(signals)
        self._on_signal = on_signal
        self._stopping = False
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        self._thread = threading.Thread(target=self._wait, name="signals", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        while True:
            caught = signal.Signals(signal.sigwait(self._signals))
            again = self._stopping and caught is not signal.SIGHUP
            self._stopping = True
            _log.warning("%s received", caught.name)
            try:
                self._on_signal(caught, Urgency.GO if again else Urgency.POLICY)
            except Exception:
                # The next signal must still be heard: it may be the operator's only way out.
                _log.exception("%s could not be handled", caught.name)


def unblock_signals() -> None:
    """In a child process: hear the stop signals again (a mask outlives exec)."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def prepare_terminal(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set what Textual reads from the environment; it does so while it is imported, so call this before."""
    # A terminal that is lost stays in this protocol, and Textual's parser for it keeps finished consoles alive.
    environ.setdefault("TEXTUAL_DISABLE_KITTY_KEY", "1")
    if environ.get("SSH_CONNECTION"):
        environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    # A window's size is the terminal's to tell; exported copies of it are out of date or somebody else's.
    for name in ("COLUMNS", "LINES"):
        environ.pop(name, None)
    # Development tools open sockets and log widgets' contents.
    for name in ("TEXTUAL", "TEXTUAL_LOG", "TEXTUAL_DEBUG", "TEXTUAL_DRIVER", "TEXTUAL_PRESS", "TEXTUAL_SCREENSHOT"):
        environ.pop(name, None)


def state_directory(path: Path) -> Path:
    """Make the state directory, for us alone, or check the one that is there.

    Raises DeskUnusable with a sentence when it cannot be made, or belongs to or is writable by somebody else.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except FileExistsError:
        raise DeskUnusable(plain(f"{path} is not a directory; name another with --state-dir")) from None
    except OSError as error:
        raise DeskUnusable(
            plain(f"{path} cannot be used ({error.strerror}); name another directory with --state-dir")
        ) from None
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DeskUnusable(
            plain(f"{path} belongs to or is writable by somebody else; make it yours alone (chown, chmod 700)")
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise DeskUnusable(plain(f"{path} is read-only; name another directory with --state-dir"))
    return path


class Watchdog:
    """Ends the process unless it is called off in time."""

    def __init__(self, seconds: float, code: int, last_words: Callable[[], None] | None) -> None:
        self._off = threading.Event()
        self._seconds, self._code, self._last_words = seconds, code, last_words
        threading.Thread(target=self._watch, name="exit watchdog", daemon=True).start()

    def cancel(self) -> None:
        """The process ends by itself after all."""
        self._off.set()

    def _watch(self) -> None:
        if self._off.wait(self._seconds):
            return
        # On a thread of its own: whatever is stuck may hold the log's lock or the terminal.
        farewell = threading.Thread(target=self._farewell, name="last words", daemon=True)
        farewell.start()
        farewell.join(LAST_WORDS_S)
        os._exit(self._code)

    def _farewell(self) -> None:
        if self._last_words is not None:
            self._last_words()
        _log.error("something did not end within %g s; leaving without it", self._seconds)
        logging.shutdown()


def exit_within(seconds: float, code: int = 0, last_words: Callable[[], None] | None = None) -> Watchdog:
    """End the process with `code` after so many seconds, whatever is stuck then.

    For when the engine is done and only a screen, or a thread that waits for a disk, may be in the way: Python joins
    such threads before it ends. `last_words` (such as giving the terminal
    back) gets half a second.
    """
    return Watchdog(seconds, code, last_words)

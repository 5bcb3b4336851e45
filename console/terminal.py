"""The safe driver, and every private Textual name the console leans on (textual 8.2.8, pinned exactly).

A terminal that stops reading must not stop the console's loop, and one that vanishes must not spin its input
thread. Textual's writer thread has a queue of 30 slots and its `put` blocks; so frames are dropped whole while the
queue is high, and one full repaint heals the picture once it has drained.

Private names used here: LinuxDriver._writer_thread, WriterThread._queue, LinuxDriver.exit_event,
LinuxDriver._sigtstp_application, LinuxDriver._sigcont_application, Driver._app, App._sync_available, App._driver,
App._filters, App._handle_exception, App._return_code, App._exception, App._exception_event, App._exit_renderables,
App._close_messages_no_wait.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from rich.console import Console
from rich.text import Text
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.filter import NoColor

from console.formatting import plain
from console.process_log import redacted

log = logging.getLogger(__name__)

FRAME_START: Final = "\x1b[?2026h"
QUEUE_HIGH: Final = 12


class SafeLinuxDriver(LinuxDriver):
    """A Linux driver whose writes never block and never raise, whatever becomes of the terminal."""

    lost = False
    dropped = 0
    _dropping = False

    def write(self, data: str) -> None:
        """Queue output, or drop it: when the terminal is gone, when it lags, never in the middle of a frame."""
        writer = self._writer_thread
        if writer is None or self.lost or not writer.is_alive() or _asks_for_kitty_keys(data):
            return
        queue = writer._queue
        starts_frame = data == FRAME_START or not self._app._sync_available
        if starts_frame:
            if self._dropping and queue.empty():
                self._dropping = False
                log.info("terminal reads again; %d writes were dropped", self.dropped)
                self._app.call_later(self._app.refresh, layout=True)
            elif queue.qsize() >= QUEUE_HIGH:
                self._dropping = True
        if self._dropping or queue.full():
            self._dropping = True
            self.dropped += 1
            return
        writer.write(data)

    def terminal_lost(self) -> None:
        """From any thread: the terminal is gone. A hung-up one reads as end of file for ever, so reading stops too."""
        self.lost = True
        self.exit_event.set()

    def disable_input(self) -> None:
        """Stop reading keys, unless there is nobody left to read from."""
        if not self.lost:
            super().disable_input()

    def close(self) -> None:
        """Let the writer finish, but never wait for one that is stuck."""
        writer = self._writer_thread
        if writer is None or self.lost or not writer.is_alive() or writer._queue.full():
            return
        super().close()

    def _sigtstp_application(self, *_: Any) -> None:
        """A stop signal must not stop the engine that shares this process."""

    def _sigcont_application(self, *_: Any) -> None:
        """The kernel sends this straight after a hang-up; starting application mode again would double the threads."""


def _asks_for_kitty_keys(data: str) -> bool:
    """Whether this asks the terminal for modifier-only key events, which break input methods."""
    return data.startswith(("\x1b[>", "\x1b[<")) and data.endswith("u")


def mark_terminal_lost(app: App[Any]) -> None:
    """From any thread: stop reading from and writing to the terminal of a running app."""
    driver = app._driver
    if isinstance(driver, SafeLinuxDriver):
        driver.terminal_lost()


def write_through(app: App[Any], data: str) -> None:
    """Send the terminal what is no picture, between two frames; dropped when the terminal lags or is gone."""
    driver = app._driver
    if driver is not None and data:
        driver.write(data)
        driver.flush()


def without_colour(app: App[Any]) -> None:
    """NO_COLOR means none: Textual would send greys, which are colours to a terminal. Attributes carry on."""
    app._filters = [NoColor()]


class QuietlyEndingApp(App[None]):
    """An App whose unhandled error ends it with one line on the terminal.

    Textual prints a traceback with the values of local variables, which may hold secrets and broker text; the log
    has the traceback without them.
    """

    def _handle_exception(self, error: Exception) -> None:
        log.critical("the console failed", exc_info=error)
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        what = redacted(plain(f"{type(error).__name__}: {error}"))
        said = f"sextant: the console failed ({what}); the desk stops by its policy, the log has the details"
        self._exit_renderables.append(Text(said))
        self._close_messages_no_wait()


def terminal_colors() -> str | None:
    """How many colours this terminal says that it has, by Rich's name for them: truecolor, 256, standard, or none."""
    return Console(force_terminal=True).color_system

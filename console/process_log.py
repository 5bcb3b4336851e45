"""The log file: one event a line, no secrets, no control characters, and never an exception of its own.

Nothing may write onto the screen, so there is no handler but this file, and what Python itself would print
(uncaught exceptions, warnings, complaints of destructors) goes here too.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
import traceback
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from console.formatting import plain
from engine.errors import DeskUnusable

LOG_FILE = "sextant.log"
LARGEST_LOG, KEPT_LOGS = 5_000_000, 5
LONGEST_LINE = 16_000
SHORTEST_SECRET = 4
HIDDEN = "***"

# httpx logs whole URLs at INFO; websockets logs headers and the first frame at DEBUG.
QUIET = ("asyncio", "httpx", "httpcore", "websockets", "aiosqlite", "asyncpg")

# Bounded on both sides, so that a hostile line cannot make the search slow.
_WORD = (
    r"[\w-]{0,40}(?:token|secret|passw(?:or)?d|passphrase|credential|api[_-]?key|private[_-]?key)[\w-]{0,40}|pwd|key"
)
_SCHEME = r"(?:(?:bearer|basic|digest|token)\s+)?"
_PATTERNS = (
    # Authorization: Bearer abc     "authorization": "Basic abc"
    (
        re.compile(r"""(?i)(authorization["']?\s*[:=]\s*["']?)(?:(?:bearer|basic|digest|token)\s+)?[^\s"',;}\]]+"""),
        r"\1",
    ),
    (re.compile(r"(?i)\b(bearer\s+)[^\s\"',;}\]]+"), r"\1"),
    # "password": "two words"     token='abc'
    (re.compile(rf"""(?i)(?<![\w-])((?:{_WORD})["']?\s*[:=]\s*")(?:[^"\\]|\\.)*"""), r"\1"),
    (re.compile(rf"""(?i)(?<![\w-])((?:{_WORD})["']?\s*[:=]\s*')(?:[^'\\]|\\.)*"""), r"\1"),
    # token=abc&more     key: abc
    (re.compile(rf"""(?i)(?<![\w-])((?:{_WORD})["']?\s*[:=]\s*)(?!["'])[^\s"',;&}}\])]+"""), r"\1"),
    # scheme://user:password@host
    (re.compile(r"(://)[^\s/@]+@"), rf"\1{HIDDEN}@"),
)

_secrets: tuple[str, ...] = ()
_secrets_lock = threading.Lock()


def hide(secret: str) -> None:
    """Never let this value reach the log, however it gets there; values under four characters are not hidden."""
    global _secrets
    if len(secret) < SHORTEST_SECRET:
        return
    forms = {secret, quote(secret, safe=""), repr(secret)[1:-1], secret.replace("\\", "\\\\").replace('"', '\\"')}
    with _secrets_lock:
        # Longest first: a secret that contains another must not leave its rest behind.
        _secrets = tuple(sorted({*_secrets, *forms}, key=len, reverse=True))


def redacted(text: str) -> str:
    """Text without the known secrets and without whatever stands behind words such as token= or Authorization:."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    for pattern, kept in _PATTERNS:
        text = pattern.sub(kept if kept.endswith("@") else kept + HIDDEN, text)
    return text


def harmless(text: str) -> str:
    """One line of printable text without secrets."""
    # A control character inside a secret would hide it from the first look, so there is a second.
    line = " | ".join(text[: 4 * LONGEST_LINE].splitlines())
    return redacted(plain(redacted(line)))[:LONGEST_LINE]


class Redaction(logging.Filter):
    """Makes a record harmless before any handler formats it; put one on every handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING and record.name.split(".", 1)[0] in QUIET:
            return False
        try:
            message = record.getMessage()
        except Exception as error:
            # Its arguments are not shown: nobody knows what they hold.
            message = f"a record of {record.pathname}:{record.lineno} could not be formatted ({type(error).__name__})"
        if record.exc_info and record.exc_info[1] is not None:
            message = f"{message} | {_without_locals(record.exc_info[1])}"
        elif record.exc_text:
            message = f"{message} | {record.exc_text}"
        if record.stack_info:
            message = f"{message} | {record.stack_info}"
        record.msg, record.args = harmless(message), ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def _without_locals(error: BaseException) -> str:
    try:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format())
    except Exception:  # an exception whose own text raises
        return f"{type(error).__name__} (its text could not be read)"


class _LogFile(RotatingFileHandler):
    """A rotating file that only we can read; trouble with it is nobody's trouble."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self.baseFilename, flags, 0o600)
        os.fchmod(handle, 0o600)
        return open(handle, "a", encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk or a removed directory must not stop trading, and there is no screen to complain on."""


def start_logging(state_dir: Path, level: int = logging.INFO) -> Path:
    """Log to `sextant.log` in the state directory and nowhere else; the file's path.

    Raises DeskUnusable when the file cannot be written.
    """
    path = state_dir / LOG_FILE
    try:
        handler = _LogFile(path, maxBytes=LARGEST_LOG, backupCount=KEPT_LOGS, encoding="utf-8")
    except OSError as error:
        raise DeskUnusable(plain(f"{path} cannot be written ({error.strerror}); make the directory yours")) from None
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(Redaction())
    root = logging.getLogger()
    for other in root.handlers[:]:
        root.removeHandler(other)
        other.close()
    root.addHandler(handler)
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    silence()
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable
    return path


def silence() -> None:
    """Let nothing be printed by logging itself: no last resort on stderr, no complaints."""
    logging.lastResort = None
    logging.raiseExceptions = False


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("sextant").critical("uncaught", exc_info=(kind, error, trace))


def _uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is not None and not isinstance(caught.exc_value, SystemExit):
        where = caught.thread.name if caught.thread else "a thread"
        logging.getLogger("sextant").critical("uncaught in %s", where, exc_info=caught.exc_value)


def _unraisable(caught: sys.UnraisableHookArgs) -> None:
    if caught.exc_value is not None:
        logging.getLogger("sextant").error(
            "%s in %s", caught.err_msg or "ignored", type(caught.object).__name__, exc_info=caught.exc_value
        )

"""The log: no secret gets in, one event is one line, and logging never harms the program."""

import contextlib
import io
import json
import logging
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import process_log
from console.process_log import HIDDEN, harmless, hide, redacted, start_logging
from engine.errors import DeskUnusable

CANARY = "canary-S3cr3t/+=&'\"\\x"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging and its hooks are the process's own: put back what a test changes."""
    root = logging.getLogger()
    handlers, level, last = root.handlers[:], root.level, logging.lastResort
    monkeypatch.setattr(process_log, "_secrets", ())
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    root.handlers[:] = []
    yield
    for handler in root.handlers:
        with contextlib.suppress(OSError):  # one test leaves a full disk behind
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    logging.lastResort = last


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return start_logging(tmp_path, logging.DEBUG)


def test_the_file_is_ours_alone_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "sextant.log").write_text("older\n")
    (tmp_path / "sextant.log").chmod(0o644)
    path = start_logging(tmp_path)
    logging.getLogger("x").warning("hello")
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert text.startswith("older\n20")
    assert text.endswith("Z WARNING x hello\n")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeskUnusable, match="cannot be written"):
        start_logging(tmp_path)


CALLS: list[Callable[[logging.Logger], None]] = [
    lambda log: log.info("connecting with %s", CANARY),
    lambda log: log.info("connecting to https://host/?q=%s", quote(CANARY, safe="")),
    lambda log: log.info("said %r", CANARY),
    lambda log: log.info("sent %s", json.dumps({"x": CANARY})),
    lambda log: log.info("%s and %s", {"x": [CANARY]}, (CANARY,)),
    lambda log: log.info("too few %s %s", CANARY),
    lambda log: log.info("headers", extra={"x": CANARY}),
    lambda log: _raise(log, ValueError(CANARY)),
    lambda log: _raise(log, KeyError(f"token {CANARY}")),
]


def _raise(log: logging.Logger, error: Exception) -> None:
    local = CANARY
    try:
        raise error
    except Exception:
        log.exception("failed for %s", len(local), stack_info=True)


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_a_known_secret_never_reaches_the_file(log: Path, number: int) -> None:
    hide(CANARY)
    CALLS[number](logging.getLogger("brokers.any"))
    text = log.read_text()
    assert text.count("\n") == 1
    for form in (CANARY, repr(CANARY)[1:-1], quote(CANARY, safe=""), json.dumps(CANARY)[1:-1], "S3cr3t"):
        assert form not in text


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer hush.hush",
        "Authorization: Basic hush==",
        "{'authorization': 'Token hush'}",
        '"Authorization": "Bearer hush"',
        "got bearer hush, going on",
        "GET https://h/oauth?client_secret=hush&x=1",
        "refresh_token=hush",
        '{"access_token": "hush hush", "x": 1}',
        "password: hush",
        "PASSWD='hush hush'",
        "api-key = hush",
        "APIKEY=hush;",
        "key=hush",
        "my-broker-secret-2: hush",
        "postgresql://me:hush@host/desk",
        'say "password": "hush \\" hush"',
    ],
)
def test_what_looks_like_a_secret_is_hidden_unknown(line: str) -> None:
    assert "hush" not in redacted(line)
    assert HIDDEN in redacted(line)


@pytest.mark.parametrize(
    "line", ["the market opened at 09:30", "order abc of es-cross: working", "monkey=3", "keyboard: en", "turkey: 1"]
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert redacted(line) == line


def test_a_secret_within_a_secret_leaves_no_rest_and_short_ones_are_left_alone() -> None:
    hide("abcd")
    hide("abcdefgh")
    hide("no")
    assert redacted("abcdefgh no") == f"{HIDDEN} no"


@given(st.text(max_size=300))
def test_a_line_is_one_line_of_printable_text(text: str) -> None:
    assert harmless(text).isprintable()


def test_a_long_hostile_line_is_quick() -> None:
    started = time.process_time()  # ours alone: a busy machine does not count
    for hostile in ("token" * 20_000, "a-" * 50_000, "key=" * 25_000, "://" * 33_000, '"password":"\\' * 8_000):
        harmless(hostile)
    assert time.process_time() - started < 5


def test_one_event_is_one_line_and_control_characters_stay_out(log: Path) -> None:
    logging.getLogger("x").warning("a\nfake 2026 line\r\x1b[2J\x9b\u202e\tend")
    text = log.read_text()
    assert text.count("\n") == 1
    assert text[:-1].isprintable()


def test_an_exception_is_logged_whole_but_without_locals(log: Path) -> None:
    def inner() -> None:
        local = "value-of-a-local"
        raise RuntimeError("boom" if local else "")

    try:
        inner()
    except RuntimeError:
        logging.getLogger("x").exception("it failed")
    text = log.read_text()
    assert "it failed | Traceback" in text
    assert "RuntimeError: boom" in text
    assert "in inner" in text
    assert "value-of-a-local" not in text.replace('local = "value-of-a-local"', "")


def test_chatty_libraries_are_capped_even_when_turned_up(log: Path) -> None:
    for name in ("httpx", "websockets.client", "asyncio"):
        logging.getLogger(name).setLevel(logging.DEBUG)
        logging.getLogger(name).info("GET https://h/?q=%s", CANARY)
        logging.getLogger(name).warning("slow")
        logging.getLogger(name).setLevel(logging.NOTSET)
    assert [line.split(" ", 1)[1] for line in log.read_text().splitlines()] == [
        "WARNING httpx slow",
        "WARNING websockets.client slow",
        "WARNING asyncio slow",
    ]


def test_x3_logging_never_raises_and_never_prints(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Awkward:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    logging.getLogger("x").error("%s", Awkward())
    logging.getLogger("x").error("%d", "not a number")
    assert log.read_text().count("could not be formatted") == 2
    (handler,) = (h for h in logging.getLogger().handlers if isinstance(h, RotatingFileHandler))
    handler.setStream(io.TextIOWrapper(io.FileIO("/dev/full", "a"), encoding="utf-8", write_through=True))
    logging.getLogger("x").error("lost")
    assert capfd.readouterr() == ("", "")


def test_it_rotates_and_the_new_file_is_ours_alone_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_log, "LARGEST_LOG", 300)
    path = start_logging(tmp_path)
    for number in range(99):
        logging.getLogger("x").warning("line %d of many", number)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 1 + process_log.KEPT_LOGS
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert "line 98 of many" in path.read_text()


def test_warnings_go_to_the_file(log: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old way", DeprecationWarning, stacklevel=1)
    assert "old way" in log.read_text()


def test_what_python_would_print_goes_to_the_file(tmp_path: Path) -> None:
    code = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from console.process_log import start_logging\n"
        "start_logging(Path(sys.argv[1]))\n"
        "class Bad:\n"
        "    def __del__(self): raise RuntimeError('in a destructor')\n"
        "def fail(): raise RuntimeError('in a thread')\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "bad = Bad(); del bad\n"
        "raise RuntimeError('at the end, token=hush')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    text = (tmp_path / "sextant.log").read_text()
    assert all(words in text for words in ("in a thread", "in a destructor", "at the end"))
    assert "hush" not in text

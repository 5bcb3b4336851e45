"""Signals, hardening and the watchdog, in real processes with real signals; every wait is for an event."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from console.process import prepare_terminal, state_directory
from engine.errors import DeskUnusable

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60


@contextmanager
def program(code: str) -> "Iterator[subprocess.Popen[str]]":
    """A process that runs these lines; it is over when the block is."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


LISTENER = """
import sys
from console.process import SignalThread
def on_signal(caught, urgency):
    print(caught.name, urgency, flush=True)
    if raising: raise RuntimeError("not handled")
raising = {raising}
SignalThread(on_signal)
print("ready", flush=True)
{stuck}
"""
WAITING = "sys.stdin.read()"
# A loop that holds the interpreter for good, but for the switches it is forced to: no event loop would ever answer.
SPINNING = "while True: pass"


@pytest.mark.parametrize("stuck", [WAITING, SPINNING])
def test_signals_are_heard_whatever_the_main_thread_does(stuck: str) -> None:
    with program(LISTENER.format(stuck=stuck, raising=False)) as process:
        assert line(process) == "ready"
        for sent, heard in [
            (signal.SIGHUP, "SIGHUP policy"),
            (signal.SIGHUP, "SIGHUP policy"),  # a dying terminal sends it twice: that is no second order
            (signal.SIGTERM, "SIGTERM go"),
            (signal.SIGINT, "SIGINT go"),
        ]:
            process.send_signal(sent)
            assert line(process) == heard


def test_the_first_term_asks_for_the_policy_and_a_hang_up_after_it_changes_nothing() -> None:
    with program(LISTENER.format(stuck=WAITING, raising=False)) as process:
        assert line(process) == "ready"
        for sent, heard in [
            (signal.SIGINT, "SIGINT policy"),
            (signal.SIGHUP, "SIGHUP policy"),
            (signal.SIGINT, "SIGINT go"),
        ]:
            process.send_signal(sent)
            assert line(process) == heard


def test_a_handler_that_fails_does_not_make_the_process_deaf() -> None:
    with program(LISTENER.format(stuck=WAITING, raising=True)) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "SIGTERM policy"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "SIGTERM go"


def test_a_child_process_can_hear_signals_again() -> None:
    code = """
import subprocess, sys
from console.process import SignalThread, unblock_signals
SignalThread(lambda caught, urgency: None)
child = subprocess.Popen([sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=unblock_signals)
child.stdout.readline()
child.terminate()
print(child.wait(), flush=True)
"""
    with program(code) as process:
        assert line(process) == str(-signal.SIGTERM)


def test_hardening_hides_files_drops_cores_and_shortens_turns(tmp_path: Path) -> None:
    code = f"""
import os, resource, sys
from console.process import harden
harden()
open({str(tmp_path / "made")!r}, "w").close()
print(resource.getrlimit(resource.RLIMIT_CORE), sys.getswitchinterval(), oct(os.umask(0)))
"""
    with program(code) as process:
        assert line(process) == "(0, 0) 0.0005 0o77"
        assert process.wait(PATIENCE) == 0
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600


WATCHED = """
import sys, threading
from console.process import exit_within
{setting}
while True: pass
"""


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("exit_within(0.01, 7)", 7),
        ("exit_within(0.01, 7, last_words=lambda: print('bye', flush=True))", 7),
        ("exit_within(0.01, 7, last_words=threading.Event().wait)", 7),  # the farewell itself is stuck
        ("exit_within(0.01, 7, last_words=lambda: 1 / 0)", 7),
        ("dog = exit_within(0.01, 7)\ndog.cancel()\nsys.exit(3)", 3),
    ],
)
def test_the_process_ends_though_its_main_thread_never_does(setting: str, code: int) -> None:
    with program(WATCHED.format(setting=setting)) as process:
        assert line(process) == ("bye" if "bye" in setting else "")
        assert process.wait(PATIENCE) == code


def test_a_dog_called_off_bites_nobody() -> None:
    code = """
import threading
from console.process import exit_within
dog = exit_within(0.05, 7)
dog.cancel()
[thread.join() for thread in threading.enumerate() if thread.name == "exit watchdog"]
print("still here", flush=True)
"""
    with program(code) as process:
        assert line(process) == "still here"
        assert process.wait(PATIENCE) == 0


def test_the_terminal_is_prepared_before_textual_reads_its_environment() -> None:
    over_ssh = {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22", "TEXTUAL": "devtools", "TEXTUAL_LOG": "/tmp/x"}
    prepare_terminal(over_ssh)
    assert over_ssh == {
        "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22", "TEXTUAL_ANIMATIONS": "none", "TEXTUAL_DISABLE_KITTY_KEY": "1",
    }  # fmt: skip
    chosen = {"SSH_CONNECTION": "x", "TEXTUAL_ANIMATIONS": "full", "TEXTUAL_DISABLE_KITTY_KEY": "0"}
    before = dict(chosen)
    prepare_terminal(chosen)
    assert chosen == before, "what the operator set stays"
    local = {"COLUMNS": "80", "LINES": "24"}
    prepare_terminal(local)
    assert set(local) == {"TEXTUAL_DISABLE_KITTY_KEY"}, "no animations to save, and the window tells its size"


def test_preparing_imports_no_textual_and_textual_then_obeys() -> None:
    code = """
import os, sys
os.environ["SSH_CONNECTION"] = "x"
from console.process import prepare_terminal
prepare_terminal()
print("textual" in sys.modules)
from textual import constants
print(constants.TEXTUAL_ANIMATIONS, constants.DISABLE_KITTY_KEY)
"""
    with program(code) as process:
        assert line(process) == "False"
        assert line(process) == "none True"


def test_a_state_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    made = state_directory(tmp_path / "state" / "sextant")
    assert made.stat().st_mode & 0o777 == 0o700
    assert state_directory(made) == made


def test_a_state_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    shared, file, locked = tmp_path / "shared", tmp_path / "file", tmp_path / "locked"
    shared.mkdir()
    shared.chmod(0o777)
    file.write_text("")
    locked.mkdir(mode=0o500)
    with pytest.raises(DeskUnusable, match="writable by somebody else; make it yours alone"):
        state_directory(shared)
    with pytest.raises(DeskUnusable, match="is not a directory; name another"):
        state_directory(file)
    with pytest.raises(DeskUnusable, match="cannot be used"):
        state_directory(file / "below")
    if os.geteuid() != 0:  # root may write everywhere
        with pytest.raises(DeskUnusable, match="is read-only"):
            state_directory(locked)

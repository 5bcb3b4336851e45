"""The installed program, with a home of its own: `sextant(...)` runs a command, `terminal(...)` opens it in tmux."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.terminal import PATIENCE_S, Terminal

HERE = Path(__file__).parent
OURS = ("SEXTANT_", "TEXTUAL", "TMUX", "SSH_", "XDG_")
FOREIGN = {"NO_COLOR", "COLORTERM", "TERM_PROGRAM", "PYTHONPATH", "COLUMNS", "LINES"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an end-to-end test."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line on stderr, without the program's name."""
        assert self.err.startswith("sextant: "), self
        assert self.err.endswith("\n"), self
        assert self.err.count("\n") == 1, self
        assert self.err[:-1].isprintable(), self
        return self.err[len("sextant: ") : -1]


class Running:
    """A desk without a screen that runs until it is told to stop."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def end(self) -> Outcome:
        """SIGTERM, and how it ended."""
        self.process.terminate()
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return Outcome(self.process.returncode, out, err)


Sextant = Callable[..., Outcome]
Headless = Callable[..., Running]
Open = Callable[..., Terminal]


def environment_in(home: Path) -> dict[str, str]:
    """A user's environment whose home is `home`, so that no desk of the machine is touched."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS) and k not in FOREIGN}
    return {**kept, "HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}


@pytest.fixture(scope="session")
def program() -> Path:
    """`sextant` beside the interpreter that runs the tests."""
    path = Path(sys.executable).with_name("sextant")
    assert path.exists(), f"{path} is not installed: make setup"
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a user who has never run a desk."""
    home = tmp_path / "home"
    home.mkdir()
    return environment_in(home)


@pytest.fixture
def sextant(program: Path, environment: dict[str, str], tmp_path: Path) -> Sextant:
    """Run one command to its end, without a terminal."""

    def run(*arguments: str | Path, seconds: float = 180.0) -> Outcome:
        done = subprocess.run(
            [program, *arguments], env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=seconds,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def headless(program: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Headless]:
    """Start `sextant run --headless --json ARGUMENTS`; it is certainly gone after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path, umask: int = -1) -> Running:
        started.append(
            subprocess.Popen(
                [program, "run", "--headless", "--json", *arguments], env=environment, cwd=tmp_path,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, umask=umask,
            )
        )  # fmt: skip
        return Running(started[-1])

    yield start
    for each in started:
        with each:
            each.kill()


@pytest.fixture(scope="session")
def tmux() -> None:
    """Skips where there is no tmux (`make test` says so before anything runs)."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed (on Debian: apt install tmux)")


@pytest.fixture
def terminal(tmux: None, program: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Open]:
    """Open terminals; they are closed after the test."""
    opened: list[Terminal] = []

    def open_one(columns: int = 120, rows: int = 40, **more: str) -> Terminal:
        directory = tmp_path / f"terminal-{len(opened)}"
        directory.mkdir()
        opened.append(Terminal(program, directory, {**environment, **more}, columns, rows))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()

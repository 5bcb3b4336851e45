"""Bad input: one sentence that names file, line and key or column, an exit code, and nothing half-started."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.e2e.conftest import Outcome, Sextant
from tests.e2e.desks import at_once

DESK = Path(__file__).parents[2] / "sextant.example.toml"
SECOND = """
[sessions.twin]
account = "paper"
symbol = "ESZ6"
strategy = "ema_cross"
sizing = { quantity = 1 }
[sessions.twin.limits]
max_order_size = 6
max_position_size = 6
entries_per_minute = 6
entries_per_day = 2000
price_collar = 0.02
max_daily_loss = 12_500
worst_case_per_contract = 2500
"""


@pytest.fixture
def refused(sextant: Sextant, tmp_path: Path) -> Refused:
    return Refused(sextant, tmp_path)


class Refused:
    """Runs what must be refused and watches that nothing is made of it."""

    def __init__(self, sextant: Sextant, directory: Path) -> None:
        self._sextant, self._directory = sextant, directory

    def _files(self) -> dict[Path, bytes]:
        skipped = "__pycache__"
        return {p: p.read_bytes() for p in self._directory.rglob("*") if p.is_file() and skipped not in p.parts}

    def __call__(self, *arguments: str | Path) -> str:
        before = self._files()
        state = self._directory / "never"
        done: Outcome = self._sextant("run", "--headless", "--for", "5", *arguments, "--state-dir", state)
        assert (done.code, done.out) == (2, "")
        assert not state.exists()
        assert self._files() == before
        return done.line


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ("[desk]\n", "[desk]\ntitel = 1\n", "desk.titel", "did you mean title?"),
        ("[portfolio]\n", "[portfolios]\n", "portfolios", "did you mean portfolio?"),
        ("block = 8  ", "block = 800", "portfolio.block", "at most 100"),
        ("warn = 6", "warn = 9", "portfolio.warn", "must lie below block"),
        ("max_daily_loss = 12_500\n", "", "sessions.es-cross.limits.max_daily_loss", "every session must set this"),
        ("max_order_size = 6\n", "max_order_size = -1\n", "sessions.es-cross.limits.max_order_size", "above 0"),
        ('strategy = "ema_cross"\n', 'strategy = "mine.py:Mine"\n', "", "does not exist"),
    ],
)
def test_configuration(refused: Refused, tmp_path: Path, old: str, new: str, key: str, words: str) -> None:
    text = DESK.read_text()
    assert old in text
    file = tmp_path / "sextant.toml"
    file.write_text(text.replace(old, new, 1))
    line = refused("--config", file)
    assert words in line
    if key:
        last = key.rpartition(".")[2]
        own = [n for n, row in enumerate(file.read_text().splitlines(), 1) if row.strip(" []").split(" ")[0] == last]
        table = f"[{key.rpartition('.')[0]}]"
        where = own[:1] or [1 + file.read_text()[: file.read_text().index(table)].count("\n")]
        if key.endswith("max_daily_loss"):  # missing: the line of its table
            where = [1 + file.read_text()[: file.read_text().index(table)].count("\n")]
        assert line.startswith(f"{file}:{where[0]}: {key} "), line
    else:
        assert str(tmp_path / "mine.py") in line


def test_two_sessions_on_one_contract(refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "sextant.toml"
    file.write_text(DESK.read_text() + SECOND)
    number = file.read_text().splitlines().index("[sessions.twin]") + 3
    line = refused("--config", file)
    assert line.startswith(
        f"{file}:{number}: sessions.twin.symbol is already traded on account paper by session es-cross"
    )


def test_not_toml_and_not_there(refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "sextant.toml"
    assert str(file) in refused("--config", file)
    file.write_text("[desk]\ntitle = \n")
    assert refused("--config", file).startswith(f"{file}:2: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("class Mine:\n    def decide(self, context)\n", "line 2: "),
        ("x = 1\nraise RuntimeError('no')\n", "line 2 raised RuntimeError: no"),
        ("import there_is_no_such_module\n", "line 1 raised ModuleNotFoundError"),
        ("raise SystemExit(0)\n", "line 1 raised SystemExit"),
        ("class Other:\n    pass\n", "has no class 'Mine'"),
        ("class Mine:\n    pass\n", "has no initial() and decide()"),
        ("class Mine:\n    def __init__(self, size):\n        pass\n", "does not take these arguments"),
    ],
)
def test_strategy_files(refused: Refused, tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
        file.chmod(0o600)
    line = refused("--strategy", f"{file}:Mine")
    assert str(file) in line
    assert words in line


@pytest.mark.parametrize("place", ["file", "directory"])
def test_a_strategy_that_others_can_write_is_not_loaded(refused: Refused, tmp_path: Path, place: str) -> None:
    home = tmp_path / "strategies"
    home.mkdir(mode=0o700)
    strategy = at_once(home)
    if place == "file":
        (home / "at_once.py").chmod(0o622)
    else:
        home.chmod(0o777)
    assert f"strategy {place} {home}" in refused("--strategy", strategy)


TIME = "2024-01-02T00:00:0"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"", "the recording is empty"),
        (b"timestamp,price\n", "no usable row after the header"),
        (b"\x7fELF\x00\x01\x02\x00\xff", "line 1 holds binary content"),
        (b"timestamp,price\n2024-01-02T00:00:01Z,\xff\xfe\n", "line 2 is not UTF-8"),
        (f"timestamp,price\n{TIME}2Z,1\n{TIME}1Z,1\n".encode(), "line 3: the time in column 'timestamp' goes back"),
        (f"timestamp,cost\n{TIME}2Z,1\n".encode(), "line 1: no column 'price'"),
        (f"when,price\n{TIME}2Z,1\n".encode(), "line 1: no time column among when, price"),
        (f"timestamp,bid\n{TIME}2Z,1\n".encode(), "line 1: no column 'ask'"),
        (f"timestamp,price,price\n{TIME}2Z,1,1\n".encode(), "line 1: the column 'price' appears twice"),
        (f"timestamp,price\nnever,1\n{TIME}1Z,inf\n{TIME}1Z,-1\n".encode(), "no usable row after the header (line 2: "),
    ],
)
def test_recordings(refused: Refused, sextant: Sextant, tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "tape.csv"
    if content is not None:
        file.write_bytes(content)
    line = refused("--replay", file, "--symbol", "XYZ")
    assert line.startswith(str(file))
    assert words in line
    if content is not None:
        out = tmp_path / "out.csv"
        done = sextant("candles", file, "--out", out)
        assert (done.code, done.out, done.line) == (2, "", line)
        assert not out.exists()


def test_a_replay_without_a_symbol_and_an_unknown_strategy(refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "tape.csv"
    file.write_text(f"timestamp,price\n{TIME}1Z,1\n")
    assert "--replay needs --symbol" in refused("--replay", file)
    assert "there is no strategy 'ema_crss'" in refused("--strategy", "ema_crss")
    assert "--timeframe" in refused("--timeframe", "7m")


# ------------------------------------------------------------------------------------ databases that are not for us


@pytest.fixture
def ours(sextant: Sextant, tmp_path: Path) -> Path:
    """The state of a desk that has run."""
    state = tmp_path / "state"
    assert sextant("run", "--headless", "--for", "0.2", "--json", "--state-dir", state).code == 0
    return state


def turned_away(sextant: Sextant, state: Path) -> str:
    """The sentence; the file is the same byte for byte."""
    file = state / "desk.sqlite3"
    before, beside = file.read_bytes(), {path.name for path in state.iterdir()}
    done = sextant("run", "--headless", "--for", "5", "--json", "--state-dir", state)
    assert (done.code, done.out) == (3, "")
    assert file.read_bytes() == before
    made = {path.name for path in state.iterdir()} - beside
    assert not [name for name in made if name.startswith("desk.sqlite3")], "no journal of SQLite's beside it"
    return done.line


@pytest.mark.parametrize("kind", ["garbage", "empty", "foreign"])
def test_a_database_that_is_not_ours(sextant: Sextant, tmp_path: Path, kind: str) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    file = state / "desk.sqlite3"
    if kind == "foreign":
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE photos (path TEXT)")
        database.close()
    else:
        file.write_bytes(b"SQLite format 4, or so\n" * 400 if kind == "garbage" else b"")
    line = turned_away(sextant, state)
    assert str(file) in line
    assert {"garbage": "not a Sextant database", "empty": "is an empty file", "foreign": "another program"}[
        kind
    ] in line
    assert sextant("orders", "--state-dir", state).code == 3


def test_a_newer_database(sextant: Sextant, ours: Path) -> None:
    database = sqlite3.connect(ours / "desk.sqlite3")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    database.execute(f"PRAGMA user_version = {version + 1}")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.commit()
    database.close()
    line = turned_away(sextant, ours)
    assert str(ours / "desk.sqlite3") in line
    assert "newer" in line


def test_a_locked_database(sextant: Sextant, ours: Path) -> None:
    file = ours / "desk.sqlite3"
    before = file.read_bytes()  # before it is locked: closing a file gives up every lock that this process has on it
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("BEGIN EXCLUSIVE")
    try:
        done = sextant("run", "--headless", "--for", "5", "--json", "--state-dir", ours)
    finally:
        database.execute("ROLLBACK")
        database.close()
    assert (done.code, done.out) == (3, "")
    assert str(file) in done.line
    assert "locked" in done.line
    assert file.read_bytes() == before
    assert sextant("run", "--headless", "--for", "0.2", "--state-dir", ours).code == 0, "unlocked, it runs again"


def test_a_state_directory_that_is_none(sextant: Sextant, ours: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    done = sextant("run", "--headless", "--for", "5", "--state-dir", file)
    assert (done.code, done.out) == (3, "")
    assert str(file) in done.line
    assert file.read_text() == "mine"
    ours.chmod(0o777)
    done = sextant("run", "--headless", "--for", "5", "--state-dir", ours)
    assert done.code == 3
    assert "writable by somebody else" in done.line
    shutil.rmtree(ours)
    assert sextant("orders", "--state-dir", ours).code == 3
    assert not ours.exists(), "asking makes nothing"

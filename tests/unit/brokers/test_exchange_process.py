"""`python -m brokers.paper`: a process with a socket and a book, killed and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from brokers.paper.listing import demo_listing, read_listing
from brokers.paper.options import demo_accounts, demo_instruments
from brokers.paper.remote import RemotePaperAccount, RemoteSource
from console.config import default_desk, load
from engine.clock import SystemClock
from engine.domain.broker import AcceptedOrder, Capabilities, SubmitRequest
from engine.domain.ids import AccountId, ClientOrderId, Symbol
from engine.domain.market import Timeframe
from engine.errors import ConfigurationError
from tests.unit.brokers.paper_desk import terms

ROOT = Path(__file__).parents[3]
PAPER = AccountId("paper")


class Exchanges:
    """Starts exchange processes in a private directory and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "x.sock"
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, *more: str, socket_path: Path | None = None) -> subprocess.Popen[bytes]:
        """A process; the caller waits for it."""
        command = [sys.executable, "-m", "brokers.paper", "--socket", str(socket_path or self.path), *more]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT)
        self._all.append(process)
        return process

    def up(self, *more: str) -> subprocess.Popen[bytes]:
        """A process that takes connections."""
        process = self.start(*more)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert process.poll() is None, self.told(process)
            with socket.socket(socket.AF_UNIX) as knock:
                if not knock.connect_ex(str(self.path)):
                    return process
            time.sleep(0.01)
        pytest.fail("it does not listen")

    def told(self, process: subprocess.Popen[bytes]) -> str:
        """What it wrote to stderr once it has ended."""
        return process.communicate(timeout=60)[1].decode()

    def end(self) -> None:
        for process in self._all:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


@pytest.fixture
def exchanges() -> Iterator[Exchanges]:
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="sxt-") as folder:
        exchanges = Exchanges(Path(folder))
        yield exchanges
        exchanges.end()


def account(path: Path) -> RemotePaperAccount:
    return RemotePaperAccount(PAPER, "USD", Capabilities(), demo_instruments(), path, SystemClock(), Random(1))


async def test_its_book_and_its_price_survive_a_kill(exchanges: Exchanges) -> None:
    requests = exchanges.folder / "requests"
    first = exchanges.up("--requests", str(requests))
    assert stat.S_IMODE(exchanges.path.stat().st_mode) == 0o600
    desk = account(exchanges.path)
    await desk.start(lambda event: None)
    answer = await desk.submit(SubmitRequest(ClientOrderId("one"), terms(limit=7)))
    assert isinstance(answer, AcceptedOrder)
    await desk.stop()
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert exchanges.path.exists(), "the trace of a killed process"
    second = exchanges.up()
    await desk.start(lambda event: None)
    rows = (await desk.open_orders()).rows
    assert [(row.client_id, row.broker_id) for row in rows] == [("one", answer.broker_id)]
    await desk.stop()
    line = json.loads(requests.read_text())
    assert (line["account"], line["call"]["type"], line["call"]["request"]["client_id"]) == ("paper", "Submit", "one")
    second.terminate()
    assert exchanges.told(second) == ""
    assert second.returncode == 0
    assert not exchanges.path.exists()
    book = json.loads((exchanges.folder / "x.book").read_bytes().splitlines()[1])
    marks = {mark["symbol"]: Decimal(mark["price"]) for mark in book["marks"]}
    exchanges.up("--seed", "99")
    source = RemoteSource(demo_instruments(), exchanges.path, SystemClock(), Random(1))
    await source.start(lambda state, reason: None)
    history = await source.history(Symbol("ESZ6"), Timeframe(1_000), 1, SystemClock().now() + 10_000)
    assert abs(history.candles[-1].close - marks[Symbol("ESZ6")]) < 20
    await source.stop()


def test_a_live_socket_and_a_book_in_use_are_left_alone(exchanges: Exchanges) -> None:
    first = exchanges.up()
    second = exchanges.start()
    assert f"is in use by process {first.pid}" in exchanges.told(second)
    assert second.returncode == 3
    third = exchanges.start("--book", str(exchanges.folder / "x.book"), socket_path=exchanges.folder / "y.sock")
    assert f"is in use by process {first.pid}" in exchanges.told(third)
    assert third.returncode == 3
    assert first.poll() is None


Spoil = Callable[[Path], list[str]]


def _open_directory(folder: Path) -> list[str]:
    folder.chmod(0o755)
    return []


def _no_socket(folder: Path) -> list[str]:
    (folder / "x.sock").write_text("mine")
    return []


def _listened(folder: Path) -> list[str]:
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(folder / "x.sock"))
    door.listen()
    os.set_inheritable(door.fileno(), False)
    KEPT.append(door)
    return []


def _no_book(folder: Path) -> list[str]:
    (folder / "x.book").write_text("once upon a time\n")
    return []


def _no_toml(folder: Path) -> list[str]:
    (folder / "bad.toml").write_text("a = = b")
    return ["--config", str(folder / "bad.toml")]


def _bad_value(folder: Path) -> list[str]:
    (folder / "bad.toml").write_text("[accounts.a]\n[instruments.X]\ntick_size = -1\n")
    return ["--config", str(folder / "bad.toml")]


KEPT: list[socket.socket] = []


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (_open_directory, 3, "can be entered by others"),
        (_no_socket, 3, "is there already and is no socket"),
        (_listened, 3, "an exchange answers on"),
        (_no_book, 3, "is not a paper book of this version"),
        (_no_toml, 2, "is not TOML"),
        (_bad_value, 2, "tick_size"),
        (lambda folder: ["--config", "/nowhere.toml"], 2, "/nowhere.toml cannot be read"),
        (lambda folder: ["--seed", "x"], 2, "argument --seed"),
        (lambda folder: ["--what"], 2, "unrecognized arguments: --what"),
        (lambda folder: ["--socket", str(folder / ("x" * 120))], 3, "too long for a socket"),
    ],
)
def test_bad_input_is_one_sentence(exchanges: Exchanges, spoil: Spoil, code: int, says: str) -> None:
    process = exchanges.start(*spoil(exchanges.folder))
    told = exchanges.told(process)
    assert (process.returncode, told.count("\n")) == (code, 1), told
    assert told.startswith("exchange: ")
    assert says in told
    while KEPT:
        KEPT.pop().close()


def test_without_a_file_it_lists_what_the_embedded_desk_trades() -> None:
    desk = default_desk(Path("/nowhere"))
    assert demo_instruments() == desk.instruments
    (ours,), (theirs,) = demo_accounts(), desk.accounts
    for name in ("equity", "currency", "fee_per_unit", "margin_per_unit", "margin_rate", "capabilities"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert demo_listing().latency_ms == {theirs.id: theirs.latency_ms}


CALENDAR = """
[desk]
seed = 3
[accounts.one]
equity = "1_000.5"
fills = "cumulative"
max_fill = 2
slippage_ticks = 4
latency_ms = 9
margin_per_unit = { "EUR/USD" = 3 }
[instruments."EUR/USD"]
tick_size = "0.00005"
size_step = 0.01
[instruments."EUR/USD".calendar]
zone = "America/Chicago"
hours = ["Sun 17:00-Mon 16:00", "Mon 17:00-18:00"]
day_rolls_at = "17:00"
holidays = [2026-12-25]
[sessions.s]
account = "one"
symbol = "EUR/USD"
strategy = "ema_cross"
sizing = { quantity = 1 }
limits = { max_order_size = 1, max_position_size = 1, entries_per_minute = 1, entries_per_day = 1, price_collar = 1, max_daily_loss = 1, worst_case_per_contract = 1 }
"""  # noqa: E501


@pytest.mark.parametrize("text", [CALENDAR, (ROOT / "sextant.example.toml").read_text()])
def test_the_exchange_reads_a_desks_file_as_the_desk_does(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sextant.toml"
    file.write_text(text)
    desk, listing = load(file, {}), read_listing(file)
    assert listing.seed == desk.seed
    for ours, theirs in zip(listing.instruments, desk.instruments, strict=True):
        for name in ("symbol", "tick_size", "point_value", "currency", "size_step", "calendar", "group"):
            assert getattr(ours, name) == getattr(theirs, name), name
    for kept, asked in zip(listing.accounts, desk.accounts, strict=True):
        assert kept.account == asked.id
        for name in ("equity", "currency", "fee_per_unit", "margin_per_unit", "margin_rate", "capabilities"):
            assert getattr(kept, name) == getattr(asked, name), name
        assert listing.latency_ms[kept.account] == asked.latency_ms
        assert listing.options.max_fill == asked.max_fill
        assert listing.options.slippage_ticks == asked.slippage_ticks


def test_a_file_that_lists_nothing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sextant.toml"
    file.write_text("[accounts.a]\n")
    with pytest.raises(ConfigurationError, match="no \\[instruments"):
        read_listing(file)

"""The command line: what it hands to bootstrap, its exit codes, and one plain line for every failure."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from console import cli
from console.options import RunOptions
from engine.domain.ids import AccountId, ClientOrderId, DecisionKey, SessionId, Symbol
from engine.domain.market import Timeframe
from engine.domain.orders import Order, OrderState, OrderType, Role, Side, Terms
from engine.errors import ConfigurationError, DeskUnusable, StoreUnavailable
from engine.queries import (
    Answer,
    JournalAnswer,
    JournalLine,
    JournalPage,
    OrdersAnswer,
    OrdersPage,
    Query,
    SessionLine,
    SessionsAnswer,
)

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "=cmd\x1b[2J\u202eno\nmargin"


class Bootstrap(ModuleType):
    """Stands in for console.bootstrap and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("console.bootstrap")
        self.asked: list[Any] = []
        self.queries: list[Query] = []
        self.fails: BaseException | None = None
        self.code = 0

    def _do(self, *asked: Any) -> int:
        self.asked.append(asked)
        if self.fails is not None:
            raise self.fails
        return self.code

    def run_headless(self, options: RunOptions) -> int:
        return self._do("run", options)

    def on_screen(self, options: RunOptions) -> int:
        return self._do("run", options)

    def doctor(self, options: RunOptions, *, alert: bool = False) -> int:
        return self._do("doctor", options)

    def candles(self, file: Path, timeframe: Timeframe, symbol: str | None, out: Path | None) -> int:
        return self._do("candles", file, timeframe, symbol, out)

    @asynccontextmanager
    async def open_audit_trail(self, options: RunOptions) -> "AsyncIterator[Bootstrap]":
        self._do("audit", options)
        yield self

    async def answer(self, query: Query) -> Answer:
        self.queries.append(query)
        match query:
            case OrdersPage():
                start = 0 if query.before is None else int(query.before[1]) + 1
                return OrdersAnswer(tuple(order(n) for n in range(start, start + query.limit)), more=True)
            case JournalPage():
                return JournalAnswer((LINE,), more=False)
            case _:
                return SessionsAnswer((SESSION,))


LINE = JournalLine(number=9, at=1_600_000_000_000, kind="order", session=None, subject="s", text=HOSTILE)
SESSION = SessionLine(
    session=SessionId("es"),
    account=AccountId("paper"),
    symbol="ESZ6",
    strategy="ema_cross",
    timeframe="1m",
    started=0,
    evaluated=None,
    latches=("kill",),
    orders=12,
    fills=3,
)


def order(number: int) -> Order:
    return Order(
        client_id=ClientOrderId(str(number)),
        key=DecisionKey("k"),
        session=SessionId("es"),
        account=AccountId("paper"),
        role=Role.ENTRY,
        terms=Terms(symbol=Symbol("ESZ6"), side=Side.BUY, quantity=Decimal("2.50"), type=OrderType.MARKET),
        state=OrderState.REJECTED,
        created=1_600_000_000_123 - number,
        updated=0,
        reason=HOSTILE,
    )


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> Bootstrap:
    stub = Bootstrap()
    monkeypatch.setitem(sys.modules, "console.bootstrap", stub)
    monkeypatch.setattr("console.bootstrap", stub, raising=False)
    monkeypatch.setattr("console.cli._with_screen", stub.on_screen)
    monkeypatch.setattr("console.process.harden", lambda: None)
    return stub


Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], bootstrap: Bootstrap) -> Said:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run_command(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def one_line(err: str) -> str:
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    assert err[:-1].isprintable(), err
    assert err.startswith("sextant: ")
    assert "Traceback" not in err
    return err[len("sextant: ") : -1]


def test_run_hands_over_every_option(said: Said, bootstrap: Bootstrap) -> None:
    where = "--config c.toml --db d.db --state-dir s --replay r.csv --symbol X"
    how = "--timeframe 5s --strategy a.py:B --warmup 3 --speed max --headless --for 2.5 --json --live"
    code, out, err = said("run", *f"{where} {how}".split(" "))
    assert (code, out, err) == (0, "", "")
    assert bootstrap.asked == [
        (
            "run",
            RunOptions(
                config=Path("c.toml"), db="d.db", state_dir=Path("s"), replay=Path("r.csv"), symbol="X",
                timeframe=Timeframe(5_000), strategy="a.py:B", warmup=3, speed=math.inf, headless=True, seconds=2.5,
                json=True, live=True,
            ),
        )
    ]  # fmt: skip


def test_doctor_takes_the_same_options(said: Said, bootstrap: Bootstrap) -> None:
    assert said("doctor", "--timeframe", "1h", "--speed", "10")[0] == 0
    assert bootstrap.asked == [("doctor", RunOptions(timeframe=Timeframe(3_600_000), speed=10.0))]


def test_candles_hands_over_its_file(said: Said, bootstrap: Bootstrap) -> None:
    assert said("candles", "t.csv", "--timeframe", "1s", "--symbol", "X", "--out", "o.csv")[0] == 0
    assert said("candles", "t.csv")[0] == 0
    assert bootstrap.asked == [
        ("candles", Path("t.csv"), Timeframe(1_000), "X", Path("o.csv")),
        ("candles", Path("t.csv"), Timeframe(60_000), None, None),
    ]


def test_without_a_terminal_run_says_so_and_is_headless(said: Said, bootstrap: Bootstrap) -> None:
    code, out, err = said("run", "--json")
    assert (code, out) == (0, "")
    assert one_line(err).startswith("no terminal here, so the desk runs headless")
    assert bootstrap.asked[0][1].headless


@pytest.mark.parametrize("option", [["--json"], ["--for", "3"]])
def test_with_a_terminal_json_and_for_need_headless(
    said: Said, bootstrap: Bootstrap, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    for stream in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: True)
    code, _, err = said("run", *option)
    assert code == 2
    assert one_line(err) == f"{option[0]} belongs to a run without a screen; add --headless"
    assert said("run")[0] == 0
    assert [options.headless for _, options in bootstrap.asked] == [False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rn"], "No such command 'rn'. Did you mean 'run'?"),
        (["run", "--speeed", "1"], "No such option: --speeed"),
        (["run", "extra"], "unexpected extra argument"),
        (["run", "--warmup", "many"], "Invalid value for '--warmup'"),
        (["run", "--warmup", "-1"], "--warmup -1 is not a number of candles; give 0 to 100000"),
        (["run", "--timeframe", "7m"], "--timeframe: timeframe '7m' is not a length from 1s to 1d"),
        (["run", "--speed", "nan"], "--speed 'nan' is not a pace; give a number above 0 (1 is real time), or max"),
        (["run", "--speed", "0"], "is not a pace"),
        (["run", "--speed", "quick\x1b[2J"], "is not a pace"),
        (["run", "--for", "0", "--headless"], "--for 0 is not a time; give seconds above 0"),
        (["run", "--for", "inf", "--headless"], "is not a time"),
        (["run", "--config"], "--config"),
        (["candles"], "Missing argument 'FILE'"),
        (["orders", "--json", "--csv"], "--json and --csv exclude each other; choose one"),
        (["orders", "--limit", "0"], "--limit 0 asks for nothing; give 1 or more"),
    ],
)
def test_usage_errors_are_one_line_and_exit_code_2(
    said: Said, bootstrap: Bootstrap, arguments: list[str], words: str
) -> None:
    code, out, err = said(*arguments)
    assert (code, out) == (2, "")
    assert words in one_line(err)
    assert bootstrap.asked in ([], [("audit", RunOptions())]), "nothing was started"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x.toml:3: desk.titel is not a setting"), 2),
        (DeskUnusable("the database is newer"), 3),
        (StoreUnavailable("the database does not answer"), 1),
        (KeyError("oops\x1b[2J\n"), 1),
    ],
)
@pytest.mark.parametrize("command", [["run", "--headless"], ["doctor"], ["candles", "x"], ["orders"], ["sessions"]])
def test_errors_become_one_line_and_their_exit_code(
    said: Said, bootstrap: Bootstrap, error: Exception, code: int, command: list[str]
) -> None:
    bootstrap.fails = error
    got, out, err = said(*command)
    assert (got, out) == (code, "")
    line = one_line(err)
    assert (line == str(error)) if not isinstance(error, KeyError) else line.startswith("internal error: KeyError")


def test_a_failed_run_keeps_its_code_and_an_interrupt_is_quiet(said: Said, bootstrap: Bootstrap) -> None:
    bootstrap.code = 1
    assert said("run", "--headless") == (1, "", "")
    bootstrap.fails = KeyboardInterrupt()
    for command in (["orders"], ["doctor"], ["run", "--headless"]):
        assert said(*command) == (130, "", "")


def test_orders_page_through_the_trail_up_to_the_limit(said: Said, bootstrap: Bootstrap) -> None:
    code, out, _ = said(
        "orders", "--json", "--limit", "250", "--session", "es", "--open", "--text", "ESZ6", "--db", "d"
    )
    rows = json.loads(out)
    assert (code, len(rows)) == (0, 250)
    assert [row["client_id"] for row in rows] == [str(n) for n in range(250)]
    assert rows[0] | {"reason": ""} == {
        "created": "2020-09-13T12:26:40.123Z", "client_id": "0", "session": "es", "account": "paper", "symbol": "ESZ6",
        "role": "entry", "side": "buy", "type": "market", "quantity": "2.50", "limit": None, "stop": None, "tif": "DAY",
        "state": "rejected", "filled": "0", "average_price": None, "fees": "0", "broker_id": None, "parent": None,
        "sent": None, "updated": "1970-01-01T00:00:00.000Z", "flags": [], "reason": "",
    }  # fmt: skip
    assert rows[0]["reason"] == HOSTILE, "JSON carries it whole, escaped"
    assert "\x1b" not in out
    assert [query.limit for query in bootstrap.queries if isinstance(query, OrdersPage)] == [100, 100, 50]
    assert bootstrap.asked == [("audit", RunOptions(db="d"))]


def test_a_table_is_aligned_and_clean(said: Said) -> None:
    _, out, _ = said("orders", "--limit", "2")
    head, first, second = out.splitlines()
    first_words = "created client id session symbol role side type quantity limit stop"
    assert " ".join(head.split()) == f"{first_words} state filled average price broker id reason"
    assert first.index("2.5") + 3 == head.index("quantity") + len("quantity"), "numbers end where their column ends"
    assert second.index("rejected") == head.index("state")
    assert all(line.isprintable() for line in out.splitlines())


def test_csv_has_plain_cells_that_no_spreadsheet_runs(said: Said) -> None:
    _, out, _ = said("journal", "--csv", "--kind", "order", "--kind", "fill")
    assert out.splitlines() == [
        "number,at,kind,session,subject,text",
        "9,2020-09-13T12:26:40.000Z,order,,s,'=cmd[2Jno margin",
    ]


def test_journal_and_sessions_are_listed(said: Said, bootstrap: Bootstrap) -> None:
    said("journal", "--kind", "order", "--session", "es", "--text", "x", "--limit", "7")
    assert bootstrap.queries == [JournalPage(kinds=("order",), session=SessionId("es"), text="x", limit=7)]
    rows = json.loads(said("sessions", "--json")[1])
    assert rows[0]["latches"] == ["kill"]
    assert rows[0]["evaluated"] is None
    assert said("sessions")[1].splitlines()[1].split()[-3:] == ["12", "3", "kill"]


def test_help_and_version_cost_no_engine_and_no_click() -> None:
    probe = (
        "import sys; from console import cli; cli.run_command(['--version']); cli.run_command([]);"
        "heavy = {'click', 'textual', 'rich', 'asyncio', 'httpx', 'aiosqlite'};"
        "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith("sextant ")
    assert "Usage: sextant [OPTIONS] COMMAND" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def sextant(*arguments: str, stub: str = "", **options: Any) -> "subprocess.Popen[str]":
    """The real program in a process of its own, with a bootstrap of these lines."""
    code = (
        "import sys, types, contextlib, asyncio\n"
        "stub = types.ModuleType('console.bootstrap')\n"
        f"exec({stub!r}, stub.__dict__)\n"
        "sys.modules['console.bootstrap'] = stub\n"
        "import console; console.bootstrap = stub\n"
        f"sys.argv[1:] = {list(arguments)!r}\n"
        "from console.cli import main; main()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def test_a_bad_file_in_a_real_process_is_one_line_and_code_2(tmp_path: Path) -> None:
    bad = tmp_path / "sextant.toml"
    bad.write_text("[desk]\ntitel = 1\n")
    stub = "from console.config import settle\ndef doctor(options, alert):\n    settle(options)\n    return 0\n"
    with sextant("doctor", "--config", str(bad), stub=stub) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert one_line(err) == f"{bad}:2: desk.titel is not a setting; did you mean title?"


def test_an_ascii_terminal_gets_escapes_instead_of_a_failure() -> None:
    stub = "def doctor(options, alert):\n    raise ValueError('\\u2192')\n"
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with sextant("doctor", stub=stub, env=environ) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "\\u2192" in one_line(err)


def test_a_closed_pipe_is_no_error() -> None:
    stub = "import sys\ndef doctor(options, alert):\n    sys.stdout.write('x' * 10_000_000)\n    return 0\n"
    with sextant("doctor", stub=stub) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == "x"
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


def test_ctrl_c_in_a_listing_is_quiet() -> None:
    stub = (
        "import contextlib, asyncio, sys\n"
        "@contextlib.asynccontextmanager\n"
        "async def open_audit_trail(options):\n"
        "    print('waiting', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "    yield\n"
    )
    with sextant("orders", stub=stub) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == ""

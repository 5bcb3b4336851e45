"""Without a screen: recordings, candles, figures, listings, and what a second run on the same state may do."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from tests.e2e import tapes
from tests.e2e.conftest import Outcome, Sextant
from tests.e2e.desks import intact
from tests.e2e.terminal import PATIENCE_S, wait_until

FAST = ("run", "--headless", "--json", "--speed", "max")
FIGURES = {
    "ticks", "candles_closed", "candles_replaced", "warmup_candles", "strategy_runs", "decisions", "orders", "fills",
    "disagreements", "heat", "rows_not_written", "uptime_s", "loop_lag_ms",
}  # fmt: skip
WITNESS = '''
from pathlib import Path

from engine.domain.decisions import Nothing

OUT = Path(__file__).with_name("seen.csv")
OUT.write_text("")


class Witness:
    """Writes down every candle that it is shown."""

    def initial(self):
        return None

    def decide(self, context):
        c = context.candles[-1]
        with OUT.open("a") as file:
            print(c.start, c.open, c.high, c.low, c.close, c.volume, context.warming, sep=",", file=file)
        return Nothing(state=None, reason="only watches")
'''


def shared(path: Path) -> Path:
    """A recording of real ticks, where there is one."""
    if not path.exists():
        pytest.skip(f"{path} is not here: recordings of real ticks are not part of the repository")
    return path


@pytest.mark.parametrize(("timeframe", "seconds"), [("1s", 1), ("5s", 5), ("1m", 60), ("1h", 3_600)])
def test_candles_equal_an_independent_computation(
    sextant: Sextant, tmp_path: Path, timeframe: str, seconds: int
) -> None:
    tape, out = tapes.ticks(tmp_path / "ticks.csv"), tmp_path / "out.csv"
    expected = tapes.computed(tape, seconds)
    printed = sextant("candles", tape, "--timeframe", timeframe)
    assert printed.code == 0
    assert printed.line.startswith(f"{tape}: 12 bad rows left out (the first is line 701: ")
    assert tapes.read(printed.out) == expected
    assert sextant("candles", tape, "--timeframe", timeframe, "--out", out).out == ""
    assert out.read_text() == printed.out


def test_a_run_shows_its_strategy_the_same_candles_and_counts_warm_up_apart(sextant: Sextant, tmp_path: Path) -> None:
    tape = tapes.ticks(tmp_path / "ticks.csv")
    expected = tapes.computed(tape, 60)
    file = tmp_path / "witness.py"
    file.write_text(WITNESS)
    file.chmod(0o600)
    run = sextant(*FAST, "--replay", tape, "--symbol", "XYZ", "--warmup", "12", "--strategy", f"{file}:Witness")
    did = run.json
    assert (run.code, set(did)) == (0, FIGURES)
    assert did["ticks"] == 3_000
    assert did["warmup_candles"] == 12
    assert did["candles_closed"] == did["strategy_runs"] == len(expected) - 12 > 20
    assert did["decisions"] == {"nothing": len(expected) - 12}
    seen = [line.split(",") for line in (tmp_path / "seen.csv").read_text().splitlines()]
    stamps = [f"{int(row[0]) // 60_000}" for row in seen]
    assert len(set(stamps)) == len(stamps), "no candle twice"
    shown = {row[0]: row[1:6] for row in seen}
    for at, *values in tapes.read(sextant("candles", tape, "--timeframe", "1m").out):
        start = str(int(datetime.fromisoformat(at).timestamp() * 1000))
        assert [float(v) for v in shown[start]] == [float(v) for v in values]
    assert [row[6] for row in seen] == ["True"] * 12 + ["False"] * (len(expected) - 12)


@pytest.mark.parametrize(
    ("tape", "symbol", "timeframe", "seconds"),
    [(tapes.EURUSD, "EURUSD", "1m", 60), (tapes.BTCUSDT, "BTCUSDT", "1s", 1)],
    ids=["eurusd", "btcusdt"],
)
def test_real_ticks_trade(sextant: Sextant, tape: Path, symbol: str, timeframe: str, seconds: int) -> None:
    expected = tapes.computed(shared(tape), seconds)
    assert tapes.read(sextant("candles", tape, "--timeframe", timeframe).out) == expected
    did = sextant(*FAST, "--replay", tape, "--symbol", symbol, "--timeframe", timeframe).json
    assert did["warmup_candles"] == 20
    assert did["candles_closed"] == did["strategy_runs"] == len(expected) - 20
    assert did["fills"] >= 1
    assert did["orders"].get("filled", 0) >= 1
    assert did["disagreements"] == 0
    assert did["heat"]["complete"]


def test_a_repeated_candle_is_a_replacement_and_no_run(sextant: Sextant, tmp_path: Path) -> None:
    def played(repeats: bool) -> dict[str, int]:
        tape = tapes.candles(tmp_path / f"candles-{repeats}.csv", repeats=repeats)
        run = sextant(*FAST, "--replay", tape, "--symbol", "XYZ")
        assert (run.code, run.err) == (0, "")
        return run.json  # type: ignore[no-any-return]

    once, again = played(False), played(True)
    assert once["candles_replaced"] == 0
    assert again["candles_replaced"] == 10
    assert again["strategy_runs"] == once["strategy_runs"] == again["candles_closed"] == 71


def test_what_happened_is_listed_afterwards(sextant: Sextant, tmp_path: Path) -> None:
    tape, state = tapes.ticks(tmp_path / "ticks.csv"), tmp_path / "state"
    did = sextant(*FAST, "--replay", tape, "--symbol", "XYZ", "--timeframe", "5s", "--state-dir", state).json
    assert did["fills"] >= 1

    def rows(command: str, *more: str) -> list[dict[str, object]]:
        listed: list[dict[str, object]] = sextant(
            command, "--state-dir", state, *more, "--json", *(() if command == "sessions" else ("--limit", "100000"))
        ).json
        return listed

    orders = rows("orders")
    states = [order["state"] for order in orders]
    assert {state: states.count(state) for state in set(states)} == did["orders"]
    assert [row["created"] for row in orders] == sorted((str(row["created"]) for row in orders), reverse=True)
    assert len(rows("journal", "--kind", "fill")) == did["fills"]
    (session,) = rows("sessions")
    assert (session["symbol"], session["timeframe"], session["orders"], session["fills"]) == (
        "XYZ", "5s", len(orders), did["fills"],
    )  # fmt: skip

    listed = sextant("orders", "--state-dir", state, "--csv", "--limit", "100000").out
    assert [row["client_id"] for row in csv.DictReader(listed.splitlines())] == [row["client_id"] for row in orders]
    table = sextant("orders", "--state-dir", state, "--limit", "3").out.splitlines()
    assert len(table) == 1 + min(3, len(orders))
    assert all(line.isprintable() for line in table)

    # The same recording again is past its end, another one is another market; neither touches what is there.
    other = tapes.ticks(tmp_path / "other.csv", seed=12)
    for again, words in ((tape, "is already past the end of"), (other, "was made by another recording")):
        refused = sextant(*FAST, "--replay", again, "--symbol", "XYZ", "--state-dir", state)
        assert (refused.code, refused.out) == (3, "")
        assert words in refused.line
        assert str(state) in refused.line
    live = sextant("run", "--headless", "--for", "1", "--state-dir", state)
    assert live.code == 3
    assert "was made by another recording" in live.line
    assert rows("orders") == orders


def test_for_ends_a_synthetic_run_with_one_json_object(sextant: Sextant, tmp_path: Path) -> None:
    state = tmp_path / "state"
    run = sextant(
        "run", "--headless", "--json", "--for", "4", "--timeframe", "1s", "--state-dir", state,
    )  # fmt: skip
    did = run.json
    assert (run.code, run.err) == (0, "")
    assert run.out.count("\n") == 1
    assert set(did) == FIGURES
    assert did["uptime_s"] >= 4
    assert did["candles_closed"] == did["strategy_runs"]
    assert set(did["loop_lag_ms"]) == {"p50", "p99", "max"}
    assert intact(state)
    assert [row["symbol"] for row in sextant("sessions", "--state-dir", state, "--json").json] != []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_without_a_terminal_it_says_so_and_a_signal_ends_it(
    program: Path, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    state = tmp_path / "state"
    with subprocess.Popen(
        [program, "run", "--json", "--state-dir", state], env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as desk:  # fmt: skip
        assert desk.stderr is not None
        line = desk.stderr.readline()
        assert line == "sextant: no terminal here, so the desk runs headless (SIGTERM or Ctrl+C ends it)\n"
        wait_until((state / "desk.sqlite3").exists, "the desk's database")
        os.kill(desk.pid, number)
        out, err = desk.communicate(timeout=PATIENCE_S)
    assert (desk.returncode, err) == (0, "")
    assert set(json.loads(out)) == FIGURES


def test_doctor_says_what_is_configured_and_whether_it_would_run(sextant: Sextant, tmp_path: Path) -> None:
    state = tmp_path / "state"
    fine = sextant("doctor", "--state-dir", state)
    assert (fine.code, fine.err) == (0, "")
    assert "does not exist yet" in fine.out
    assert not state.exists(), "looking makes nothing"
    kept = tmp_path / "effective.toml"
    kept.write_text(fine.out)
    assert sextant("doctor", "--config", kept).code == 0, "what it prints loads again"

    tape = tapes.ticks(tmp_path / "ticks.csv")
    replay = sextant("doctor", "--replay", tape, "--symbol", "XYZ")
    assert replay.code == 0
    for words in (
        'strategy = "ema_cross"', "fast = 5", "slow = 13", "warmup = 20", "equity = 100000", "tick_size = 0.01",
        "point_value = 1", 'calendar = "24/7"', "risk_percent = 1", "3000 rows of ticks, 12 bad rows left out",
    ):  # fmt: skip
        assert words in replay.out, words

    state.mkdir(mode=0o700)
    (state / "desk.sqlite3").write_bytes(b"not ours" * 512)
    bad = sextant("doctor", "--state-dir", state)
    assert (bad.code, bad.err) == (3, "")
    assert "# BAD database" in bad.out
    assert (state / "desk.sqlite3").read_bytes() == b"not ours" * 512


def test_the_documented_example_runs(sextant: Sextant, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "sextant.example.toml"
    for seconds in ("2", "20", "80"):  # two are plenty, unless the machine is busy with something else
        run: Outcome = sextant(
            "run", "--headless", "--json", "--for", seconds, "--config", example, "--state-dir", tmp_path / "state"
        )
        assert (run.code, run.err) == (0, "")
        if run.json["ticks"]:
            return
    pytest.fail("no tick ever came")

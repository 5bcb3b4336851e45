"""The real program, killed ten times with SIGKILL while orders are in flight; then the exchange is asked."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from brokers.paper.book import Book
from brokers.paper.book_file import BookFile, UnsyncedFiles

SEXTANT = Path(sys.executable).with_name("sextant")
LIVES = 10
ENOUGH = 3  # lives that ended with an order under way
PATIENCE_S = 60.0
BUSY = '''
from decimal import Decimal

from engine.domain.decisions import Intent, Nothing, Submit
from engine.domain.orders import OrderType, Side


class Busy:
    """Buys, sells, reverses and rests limits, one of them on every candle."""

    def initial(self):
        return 0

    def decide(self, context):
        turn = context.state + 1
        if context.warming:
            return Nothing(state=turn, reason="warm-up")
        price = context.candles[-1].close
        near = context.instrument.nearest
        held = context.position.quantity
        side = Side.BUY if held > 0 or (not held and turn % 2) else Side.SELL
        stop = near(price * (1 - Decimal("0.005") * side.sign))
        if turn % 5 == 4 and held:
            return Submit(state=turn, intent=Intent.EXIT, reason="busy")
        if turn % 7 == 3 and held:
            other = near(price * (1 + Decimal("0.005") * side.sign))
            return Submit(state=turn, intent=Intent.REVERSE, side=side.opposite, stop_loss=other, reason="busy")
        if turn % 3 == 0:
            limit = near(price * (1 - Decimal("0.0002") * side.sign))
            kind = OrderType.LIMIT
            return Submit(
                state=turn, intent=Intent.ENTER, side=side, type=kind, limit=limit, stop_loss=stop, reason="busy"
            )
        return Submit(state=turn, intent=Intent.ENTER, side=side, stop_loss=stop, reason="busy")
'''
SETTINGS = """
[desk]
shutdown = "leave"
[desk.numbers]
lost_after = 3
lost_negatives = 2
[portfolio]
warn = 90
block = 95
[accounts.paper]
equity = 250_000
latency_ms = 120
[instruments.ESZ6]
tick_size = 0.25
point_value = 50
worst_case = 2500
[instruments.NQZ6]
tick_size = 0.25
point_value = 20
worst_case = 4000
[instruments.YMZ6]
tick_size = 1
point_value = 5
worst_case = 2500
[instruments.RTYZ6]
tick_size = 0.1
point_value = 50
worst_case = 2500
"""
SESSION = """
[sessions.{name}]
account = "paper"
symbol = "{symbol}"
strategy = "{strategy}"
timeframe = "1s"
warmup = 3
sizing = {{ quantity = 1 }}
[sessions.{name}.limits]
max_order_size = 3
max_position_size = 8
entries_per_minute = 1000
entries_per_day = 100000
price_collar = 0.02
max_daily_loss = 200_000
worst_case_per_contract = 2500
"""
UNDER_WAY = ("submitting", "pending cancel", "pending replace")


class Program:
    """Starts the installed command with a home of its own."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        strategy = directory / "busy.py"
        strategy.write_text(BUSY)
        strategy.chmod(0o600)
        self.config = directory / "sextant.toml"
        sessions = (("es", "ESZ6"), ("nq", "NQZ6"), ("ym", "YMZ6"), ("rty", "RTYZ6"))  # a lost order stills its own
        self.config.write_text(
            SETTINGS + "".join(SESSION.format(name=n, symbol=s, strategy=f"{strategy}:Busy") for n, s in sessions)
        )
        self.environment = {
            **os.environ,
            "HOME": str(directory),
            "XDG_STATE_HOME": str(directory / "xdg"),
        }

    def command(self, name: str, *arguments: str) -> list[str]:
        where = ("--config", str(self.config), "--state-dir", str(self.state))
        return [str(SEXTANT), name, *where, *arguments]

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command("run", "--headless"),
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def ask(self, name: str, *arguments: str) -> Any:
        done = subprocess.run(
            self.command(name, *arguments, "--json"),
            env=self.environment,
            capture_output=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{self.state / 'desk.sqlite3'}?mode=ro", uri=True) as database:
            return database.execute(sql).fetchall()

    def under_way(self) -> int:
        words = ", ".join(f"'{state}'" for state in UNDER_WAY)
        return int(self.rows(f"SELECT count(*) FROM orders WHERE state IN ({words})")[0][0])

    def book(self) -> Book:
        book = Book()
        BookFile(self.state / "paper-exchange.book", UnsyncedFiles())._fold(
            book, (self.state / "paper-exchange.book").read_bytes()
        )
        return book


def _trades(program: Program, life: subprocess.Popen[bytes], orders: int, seconds: float) -> bool:
    """Wait for an order; none comes when each session waits for a typed word about an order that was lost."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if life.poll() is not None:
            assert life.stderr is not None
            pytest.fail(f"it ended by itself: {life.stderr.read().decode()}")
        try:
            if program.rows("SELECT count(*) FROM orders")[0][0] > orders:
                return True
        except sqlite3.Error:
            pass
        time.sleep(0.02)
    return False


def _stand_still_with_one_under_way(program: Program, life: subprocess.Popen[bytes]) -> None:
    """Stop the process in a moment in which an order is under way: nothing gets on between the look and the kill."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        life.send_signal(signal.SIGSTOP)
        while Path(f"/proc/{life.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)
        if program.under_way():
            return
        life.send_signal(signal.SIGCONT)
        time.sleep(0.02)
    pytest.fail(f"no order under way within {PATIENCE_S:g} s")


@pytest.mark.slow
def test_killed_ten_times_at_random_moments_it_comes_back_to_the_exchanges_truth(tmp_path: Path) -> None:
    program, rng = Program(tmp_path), Random(20_260_105)
    in_flight, orders = 0, 0
    for _ in range(LIVES):
        life = program.start()
        try:
            proven = in_flight >= ENOUGH
            if not _trades(program, life, orders, 20.0 if proven else PATIENCE_S):
                assert proven, "no order"
                break
            time.sleep(rng.uniform(0.0, 0.5))
            if not proven:
                _stand_still_with_one_under_way(program, life)
        finally:
            life.send_signal(signal.SIGKILL)
            life.wait()
            assert life.stderr is not None
            life.stderr.close()
        in_flight += program.under_way()
        orders = program.rows("SELECT count(*) FROM orders")[0][0]
    assert in_flight >= ENOUGH, "these moments prove little"
    # One more life, with nothing new to decide: every doubt ends, by evidence or as lost.
    program.config.write_text(program.config.read_text().replace("warmup = 3", "warmup = 100000"))
    did = program.ask("run", "--headless", "--for", "7")
    assert did["fills"] >= 0
    _compare(program)


def _compare(program: Program) -> None:
    book = program.book()
    theirs = {o.record.client_id: o.record for o in book.orders.values() if o.record.client_id is not None}
    shown = program.ask("orders", "--limit", "100000")
    live = {r.client_id: r for r in theirs.values() if not r.status.is_final}
    open_here = {o["client_id"]: o for o in program.ask("orders", "--open", "--limit", "100000")}
    unheard = {c for c, o in open_here.items() if o["state"] in ("lost", "in doubt: submit") and c not in theirs}
    assert open_here.keys() - unheard == live.keys(), (open_here, live)
    for client_id, record in live.items():
        ours = open_here[client_id]
        assert ours["broker_id"] == record.broker_id
        assert Decimal(ours["quantity"]) == record.terms.quantity
        assert Decimal(ours["filled"]) == record.filled
        for name, price in (("limit", record.terms.limit), ("stop", record.terms.stop)):
            assert (None if ours[name] is None else Decimal(ours[name])) == price
    # Nothing left without a row that was durable before.
    assert theirs.keys() <= {o["client_id"] for o in shown}
    by_id = {o["client_id"]: o for o in shown}
    for client_id, record in theirs.items():
        assert Decimal(by_id[client_id]["filled"]) == record.filled, client_id
    at_broker = {s: p.quantity for (_, s), p in _positions(book).items() if p.quantity}
    newest = program.rows(
        "SELECT symbol, quantity, average_price FROM positions WHERE number IN "
        "(SELECT max(number) FROM positions GROUP BY account, symbol)"
    )
    assert {s: Decimal(q) for s, q, _ in newest if Decimal(q)} == at_broker
    prices = {s: p.average_price for (_, s), p in _positions(book).items() if p.quantity}
    assert {s: Decimal(a) for s, q, a in newest if Decimal(q)} == prices
    unexplained = program.rows("SELECT id FROM disagreements WHERE kind = 'position' AND state = 'adopted'")
    assert unexplained == [], "a fill of ours was taken for somebody else's doing"
    # A decision was used once: no two orders of one leg of one candle.
    doubled = program.rows(
        "SELECT decision_key, count(*) FROM orders WHERE state != 'denied' GROUP BY decision_key HAVING count(*) > 1"
    )
    assert doubled == []


def _positions(book: Book) -> dict[Any, Any]:
    return dict(book.positions)

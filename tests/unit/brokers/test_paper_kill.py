"""A process that dies without warning has kept every order it confirmed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from brokers.paper.book_file import BookFile, UnsyncedFiles
from tests.unit.brokers.paper_desk import ACCOUNT, Box

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import sys
from pathlib import Path
from decimal import Decimal
from brokers.paper.book_file import BookFile, UnsyncedFiles
from brokers.paper.options import AccountTerms
from tests.unit.brokers.paper_desk import ACCOUNT, Box, terms
box = Box(AccountTerms(account=ACCOUNT, equity=Decimal(10**12)), book_file=BookFile(Path(sys.argv[1]), UnsyncedFiles()))
for number in range(100_000):
    if number % 3 == 0:
        box.tick(100 + number % 7)
    answer = box.accepted(terms(limit=90 + number % 12), client_id=f"{sys.argv[2]}-{number}")
    print(answer.broker_id, flush=True)
"""


@pytest.mark.parametrize("confirmed", [1, 40, 333])
def test_every_confirmed_order_is_there_after_a_kill(tmp_path: Path, confirmed: int) -> None:
    path = tmp_path / "book"
    seen: list[str] = []
    for life in ("first", "second"):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), life], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert child.stdout is not None
        with child.stdout:
            seen += [child.stdout.readline().strip() for _ in range(confirmed)]
            child.send_signal(signal.SIGKILL)
            seen += [line.strip() for line in child.stdout if line.endswith("\n")]
        child.wait()
    box = Box(book_file=BookFile(path, UnsyncedFiles()))
    kept = {row.broker_id for row in box.exchange.orders_since(ACCOUNT, 0)}
    assert len(seen) == len(set(seen)) >= 2 * confirmed
    assert set(seen) <= kept
    filled = sum(row.filled for row in box.exchange.orders_since(ACCOUNT, 0))
    assert box.position == filled == sum(fill.quantity for fill in box.exchange.fills_since(ACCOUNT, 0))

"""`sextant trades`, `pnl` and `jobs` of a desk that has traded."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from tests.e2e.conftest import Headless, Sextant
from tests.e2e.desks import at_once
from tests.e2e.terminal import wait_until

RUN = ("--symbol", "ESZ6", "--timeframe", "1s", "--warmup", "5")


def test_what_a_desk_has_earned_is_listed(sextant: Sextant, headless: Headless, tmp_path: Path) -> None:
    where: tuple[str | Path, ...] = ("--state-dir", tmp_path / "state")
    missing = sextant("pnl", *where)
    assert (missing.code, missing.out) == (3, "")
    desk = headless(*RUN, "--strategy", at_once(tmp_path), *where)
    wait_until(lambda: "ESZ6" in sextant("pnl", "--json", *where).out, "a day's profit or loss")
    done = desk.end()
    assert (done.code, done.err) == (0, "")
    days = sextant("pnl", "--json", *where).json
    assert {(day["symbol"], day["currency"]) for day in days} == {("ESZ6", "USD")}
    assert all(Decimal(day["net"]) == Decimal(day["realised"]) - Decimal(day["fees"]) for day in days)
    trades = sextant("trades", "--json", "--limit", "1000", *where).json
    assert len(trades) == sum(day["round_trips"] for day in days)
    jobs = sextant("jobs", *where)
    assert (jobs.code, jobs.out.split()[:2]) == (0, ["state", "kind"])
    assert sextant("jobs", "--retry", *where).out == "No job is dead.\n"
    assert sextant("jobs", "--retry", "--json", *where).code == 2

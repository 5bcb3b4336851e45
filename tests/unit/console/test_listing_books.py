"""`trades`, `pnl` and `jobs`: every page of them, in a table, JSON and CSV."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

from msgspec.structs import replace

from console.listing import Form
from console.listing_books import list_jobs, list_pnl, list_trades
from engine.domain.ids import AccountId, SessionId, Symbol
from engine.domain.records import DailyPnl, Trade
from engine.queries import (
    Answer,
    DailyPnlAnswer,
    DailyPnlPage,
    JobLine,
    JobsAnswer,
    JobsPage,
    Query,
    TradesAnswer,
    TradesPage,
)

TRADE = Trade(
    account=AccountId("paper"),
    symbol=Symbol("ESZ6"),
    number=1,
    quantity=Decimal(-2),
    opened=1_600_000_000_000,
    closed=1_600_000_060_000,
    entry_price=Decimal("5000.25"),
    exit_price=Decimal("4999"),
    fees=Decimal("4.20"),
    profit=Decimal("120.80"),
    sessions=(SessionId("a"), SessionId("b")),
)
DAY = DailyPnl(
    account=AccountId("paper"),
    symbol=Symbol("ESZ6"),
    day=date(2026, 1, 2),
    currency="USD",
    realised=Decimal("125.00"),
    fees=Decimal("4.20"),
    round_trips=1,
    quantity=Decimal(4),
)
JOB = JobLine(
    id=1,
    kind="trades",
    subject='["paper","XX"]',
    state="dead",
    attempts=8,
    queued=1_600_000_000_000,
    age_ms=61_500,
    due=0,
    error="=LookupError: \x1b[2J no contract",
)


class Trail:
    """Holds so many of each, and remembers what was asked."""

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.asked: list[Query] = []

    async def answer(self, query: Query) -> Answer:
        self.asked.append(query)
        assert isinstance(query, TradesPage | DailyPnlPage | JobsPage)
        if isinstance(query, TradesPage):
            told = 0 if query.before is None else query.before[-1]
            reached = told + query.limit
            more = reached < self.kept
            trades = (TRADE,) * min(query.limit, self.kept - told)
            return TradesAnswer(trades, more, (0, "paper", "ESZ6", reached) if more else None)
        count = max(0, min(query.limit, self.kept - query.offset))
        match query:
            case DailyPnlPage():
                return DailyPnlAnswer((DAY,) * count)
            case JobsPage():
                return JobsAnswer((JOB,) * count)


async def test_pages_are_asked_until_the_limit_or_the_end() -> None:
    trail = Trail(250)
    assert len(json.loads(await list_jobs(trail, Form.JSON, 1000))) == 250
    assert trail.asked == [JobsPage(offset=0), JobsPage(offset=100), JobsPage(offset=200)]
    trail = Trail(250)
    assert len(json.loads(await list_trades(trail, Form.JSON, "paper", "ESZ6", 130))) == 130
    first = TradesPage(account=AccountId("paper"), symbol=Symbol("ESZ6"))
    assert trail.asked == [first, replace(first, before=(0, "paper", "ESZ6", 100), limit=30)]


async def test_money_is_exact_in_json_and_net_of_fees() -> None:
    (day,) = json.loads(await list_pnl(Trail(1), Form.JSON, None, None, 9))
    assert day == {
        "day": "2026-01-02", "account": "paper", "symbol": "ESZ6", "round_trips": 1, "quantity": "4",
        "realised": "125.00", "fees": "4.20", "net": "120.80", "currency": "USD",
    }  # fmt: skip
    (trade,) = json.loads(await list_trades(Trail(1), Form.JSON, None, None, 9))
    assert (trade["profit"], trade["closed"], trade["sessions"]) == ("120.80", "2020-09-13T12:27:40.000Z", ["a", "b"])


async def test_a_job_s_error_reaches_neither_terminal_nor_spreadsheet_alive() -> None:
    table = await list_jobs(Trail(1), Form.TABLE, 9)
    assert all(line.isprintable() for line in table.splitlines())
    assert "61.5" in table
    assert "'=LookupError" in await list_jobs(Trail(1), Form.CSV, 9)

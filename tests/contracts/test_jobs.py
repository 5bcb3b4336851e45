"""Background jobs and the books they keep, over every database the product supports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from engine.clock import SystemClock
from engine.domain.calendar import Calendar
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, BrokerOrderId, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import Side
from engine.domain.records import DailyPnl, Trade
from engine.persistence import trades_job
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.connection import RowRefused, Statement
from engine.persistence.statements import trades_subject
from engine.persistence.store import SqlStore
from engine.persistence.trades import books_of
from engine.persistence.trades_job import TradesBody
from engine.queries import DailyPnlAnswer, DailyPnlPage, JobsAnswer, JobsPage, TradesAnswer, TradesPage
from tests.unit.persistence.samples import (
    ACCOUNT,
    AT,
    SYMBOL,
    CountedIds,
    booked,
    contract,
    fill,
    postgres_store,
    sqlite_store,
)

Maker = Callable[..., SqlStore]
Kept = tuple[list[Trade], list[DailyPnl]]
SUBJECT = trades_subject(ACCOUNT, SYMBOL)
MINUTE = 60_000


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    if request.param == "sqlite":
        return lambda: sqlite_store(tmp_path / "desk" / "sextant.db")
    url = request.getfixturevalue("postgres").emptied()
    return lambda: postgres_store(url, directory=tmp_path / "desk")


@pytest.fixture
async def store(make: Maker) -> AsyncIterator[SqlStore]:
    made = make()
    await made.open()
    yield made
    await made.close()


def known(symbol: Symbol) -> Instrument:
    if symbol != SYMBOL:
        raise KeyError(symbol)
    return contract("50")


def trading(trades: int) -> list[Fill]:
    """Round trips of one, an hour each, alternately long and short."""
    fills = []
    for number in range(2 * trades):
        side = Side.BUY if number % 4 in (0, 3) else Side.SELL
        price = Decimal(5000 + number % 7)
        fills.append(fill(f"t{number}", side=side, price=price, at=AT + number * 30 * MINUTE))
    return fills


async def books(store: SqlStore) -> Kept:
    trades = await store.answer(TradesPage(symbol=SYMBOL, limit=1000))
    days = await store.answer(DailyPnlPage(account=ACCOUNT, limit=1000))
    assert isinstance(trades, TradesAnswer)
    assert isinstance(days, DailyPnlAnswer)
    return sorted(trades.trades, key=lambda trade: trade.number), sorted(days.days, key=lambda daily: daily.day)


def expected(fills: list[Fill], instrument: Instrument | None = None) -> Kept:
    whole = books_of(ACCOUNT, SYMBOL, fills, instrument or contract("50"))
    return list(whole.trades), list(whole.days)


async def book(store: SqlStore, *fills: Fill) -> None:
    for each in fills:
        store.record(booked(each, "0"))
    await store.settled()


async def apply(store: SqlStore, effect: list[list[Statement]]) -> None:
    for part in effect:
        await store.apply("part", part)


async def test_late_fills_corrections_busts_flips_and_fees_give_the_books_of_a_whole_count(store: SqlStore) -> None:
    jobs = store.jobs(known)
    fills = trading(120)
    await book(store, *fills)
    await jobs.drain()
    assert await books(store) == expected(fills)
    ((marks,),) = await store._read().query("SELECT count(*) FROM trade_marks")
    assert marks > 3
    changes = [
        fill("new", at=fills[-1].at + MINUTE, broker_id=BrokerOrderId("flip"), quantity=Decimal(3)),
        fill("through zero", side=Side.SELL, at=fills[-1].at + 2 * MINUTE, quantity=Decimal(5)),
        msgspec.structs.replace(fills[-1], fee=Decimal("9.99"), revision=1),
        fill("late", at=fills[150].at + MINUTE, session=SessionId("other")),
        msgspec.structs.replace(fills[30], quantity=Decimal(0), revision=1),
        msgspec.structs.replace(fills[0], price=Decimal(4000), revision=1),
    ]
    for change in changes:
        fills.append(change)
        await book(store, change)
        assert await jobs.drain() == 1
        assert await books(store) == expected(fills), change.key


async def test_days_are_the_exchange_s_and_newest_first(store: SqlStore) -> None:
    chicago = contract("50", calendar=Calendar(zone="America/Chicago", day_rolls_at=17 * 60))
    # 2023-11-14, 22:59 and 23:00 UTC are the last minute of one trade date and the first of the next
    rolls = 1_700_002_800_000
    fills = [fill("in", at=rolls - MINUTE), fill("out", side=Side.SELL, price=Decimal(5001), at=rolls)]
    await book(store, *fills)
    await store.jobs(lambda symbol: chicago).drain()
    answer = await store.answer(DailyPnlPage(symbol=SYMBOL))
    assert isinstance(answer, DailyPnlAnswer)
    assert [(line.day, line.realised, line.fees, line.net, line.round_trips) for line in answer.days] == [
        (date(2023, 11, 15), Decimal(50), Decimal("2.10"), Decimal("47.90"), 1),
        (date(2023, 11, 14), Decimal(0), Decimal("2.10"), Decimal("-2.10"), 0),
    ]
    nobody = await store.answer(DailyPnlPage(account=AccountId("nobody")))
    assert nobody == DailyPnlAnswer(())


async def test_books_that_were_read_before_another_run_replaced_them_hold_nothing(store: SqlStore) -> None:
    clock = SystemClock()
    ids = CountedIds()
    body = TradesBody(store._read(), ThreadBlocking(clock), known, lambda: ids.fresh("count-"))
    fills = trading(9)
    for part in (fills[:6], fills[6:12]):  # nothing is kept before the first run
        await book(store, *part[:2])
        (slow,) = await body(SUBJECT)
        await book(store, *part[2:4])
        await apply(store, await body(SUBJECT))
        before = await store._read().query("SELECT version, basis FROM trade_versions")
        with pytest.raises(RowRefused):
            await store.apply("slow", slow)
        assert await store._read().query("SELECT version, basis FROM trade_versions") == before
        await book(store, *part[4:])
        await apply(store, await body(SUBJECT))
    assert await books(store) == expected(fills[:12])


async def test_a_large_count_in_parts_is_whole_at_last_and_gives_way_to_a_faster_one(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trades_job, "IN_ONE_GO", 2)
    ids = CountedIds()
    body = TradesBody(store._read(), ThreadBlocking(SystemClock()), known, lambda: ids.fresh("count-"))
    fills = trading(400)
    await book(store, *fills)
    slow = await body(SUBJECT)
    assert len(slow) > 4
    for part in slow[:-2]:
        await store.apply("slow", part)
    # it dies here; a later life counts from the first fill, in parts too, and leaves the slow one no way back in
    fills[9] = msgspec.structs.replace(fills[9], price=Decimal(1), revision=1)
    await book(store, fills[9])
    fast = await body(SUBJECT)
    await apply(store, fast[:1])
    for part in slow[-2:]:
        with pytest.raises(RowRefused):
            await store.apply("slow", part)
    await apply(store, fast[1:])
    assert await books(store) == expected(fills)
    # a bust of long ago shifts every number behind it: from a mark on, in parts
    gone = msgspec.structs.replace(fills[100], quantity=Decimal(0), revision=1)
    await book(store, gone)
    effect = await body(SUBJECT)
    assert len(effect) > 2
    await apply(store, effect)
    assert await books(store) == expected([*fills, gone])
    assert await body(SUBJECT) == []


async def test_books_that_rest_on_other_terms_are_counted_again_at_the_next_start(make: Maker) -> None:
    fills = trading(60)
    first = make()
    await first.open()
    await book(first, *fills)
    await first.jobs(known).drain()
    assert await first.jobs(known).drain() == 0
    # as a program left it that kept no days yet
    await first.apply("older", [("DELETE FROM daily_pnl", ()), ("UPDATE trade_versions SET basis = ''", ())])
    await first.close()
    second = make()
    await second.open()
    assert await second.jobs(known).drain() == 1
    assert await books(second) == expected(fills)
    dearer = contract("20")
    assert await second.jobs(lambda symbol: dearer).drain() == 1
    assert await books(second) == expected(fills, dearer)
    await second.close()


async def test_jobs_not_done_are_listed_the_dead_first_and_a_retry_gives_them_all_attempts(store: SqlStore) -> None:
    strange = Symbol("XXX")
    await book(store, fill("mine"), fill("odd", symbol=strange))
    jobs = store.jobs(known)
    await jobs.drain()
    answer = await store.answer(JobsPage())
    assert isinstance(answer, JobsAnswer)
    (waiting,) = answer.jobs
    assert (waiting.state, waiting.attempts) == ("pending", 1)
    assert "knows no contract XXX" in waiting.error
    await store.apply("die", [("UPDATE jobs SET state = 'dead', attempts = 8", ())])
    await book(store, fill("then", at=AT + 1))
    answer = await store.answer(JobsPage())
    assert isinstance(answer, JobsAnswer)
    assert [(job.state, job.subject) for job in answer.jobs] == [
        ("dead", trades_subject(ACCOUNT, strange)),
        ("pending", SUBJECT),
    ]
    await jobs.drain()
    assert store.health().dead_jobs == 1
    assert "knows no contract XXX" in store.health().died_of
    assert await jobs.retry_dead() == 1
    assert (store.health().dead_jobs, store.health().died_of) == (0, "")
    answer = await store.answer(JobsPage())
    assert isinstance(answer, JobsAnswer)
    assert [(job.state, job.attempts) for job in answer.jobs] == [("pending", 0)]
    assert await jobs.retry_dead() == 0

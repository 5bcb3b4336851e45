"""Daily profit and marks: days add up to the trades, and a walk begun at a mark comes to the books of a whole one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.calendar import Calendar
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, BrokerOrderId, Millis, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import ZERO, Side
from engine.domain.records import DailyPnl
from engine.persistence import pages, trades, trades_job
from engine.persistence.connection import Statement
from engine.persistence.migrate import migrations
from engine.persistence.order_rows import PUT_FILL, fill_row
from engine.persistence.statements import trades_subject
from engine.persistence.trades import Books, books_of
from engine.persistence.trades_job import TradesBody
from tests.properties.sqlite_rows import MemoryDatabase, OnTheSpot

ACCOUNT, SYMBOL = AccountId("A"), Symbol("ES")
CHICAGO = Calendar(name="CME", zone="America/Chicago", day_rolls_at=17 * 60)
CONTRACT = Instrument(symbol=SYMBOL, tick_size=Decimal("0.25"), point_value=Decimal(50), calendar=CHICAGO)
HOUR = 3_600_000
BEGIN = 1_762_000_000_000  # the first of November 2025: clocks are put back in the night that follows
Event = tuple[int, int, int, int, int, int]

events = st.lists(
    st.tuples(
        st.integers(0, 5),  # what: a fill, late or not; a correction; a bust; a fee that comes later
        st.integers(0, 40),  # when: the hour of a fill; which fill is changed
        st.integers(-5, 5).filter(bool),
        st.integers(1, 40_000),
        st.integers(-50, 500),
        st.integers(0, 5),  # the session; now and then an order of any other time
    ),
    max_size=60,
)


def fill_of(number: int, event: Event) -> Fill:
    _, hour, quantity, ticks, cents, chance = event
    # an order fills within a few hours, so that there are places with no order on both sides
    order = hour // 8 if chance else number % 5
    return Fill(
        key=f"x{number}",
        account=ACCOUNT,
        session=(None, SessionId("a"), SessionId("b"))[chance % 3],
        symbol=SYMBOL,
        client_id=None,
        broker_id=BrokerOrderId(f"{'B' if quantity > 0 else 'S'}{order}"),
        side=Side.BUY if quantity > 0 else Side.SELL,
        quantity=Decimal(abs(quantity)),
        price=Decimal(ticks) / 4,
        at=Millis(BEGIN + hour * HOUR),
        fee=Decimal(cents) / 100,
    )


def happening(history: list[Event]) -> Iterator[Fill]:
    """Fills in the order in which they are booked: new ones at any moment, and newer revisions of booked ones."""
    newest: list[Fill] = []
    for number, event in enumerate(history):
        what, which, _, ticks, cents, _ = event
        if what <= 2 or not newest:
            newest.append(fill_of(number, event))
            yield newest[-1]
            continue
        old = newest[which % len(newest)]
        changes: dict[str, object] = {
            3: {"price": Decimal(ticks) / 4, "at": BEGIN + which * HOUR},
            4: {"quantity": ZERO},
            5: {"fee": Decimal(cents) / 100},
        }[what]  # type: ignore[assignment]
        newest[which % len(newest)] = msgspec.structs.replace(old, revision=old.revision + 1, **changes)
        yield newest[which % len(newest)]


@contextmanager
def marks_everywhere() -> Iterator[None]:
    """As many marks as can be, and pages of three rows."""
    with mock.patch.object(trades, "SPACING", 1), mock.patch.object(trades_job, "PAGE", 3):
        yield


def whole(fills: list[Fill]) -> Books:
    return books_of(ACCOUNT, SYMBOL, fills, CONTRACT)


@given(events)
def test_days_add_up_to_trades_and_fees(history: list[Event]) -> None:
    fills = list(happening(history))
    books = whole(fills)
    counted = [fill for fill in trades.newest(fills) if fill.quantity]
    assert sum(day.fees for day in books.days) == sum(fill.fee for fill in counted)
    assert sum(day.quantity for day in books.days) == sum(fill.quantity for fill in counted)
    assert sum(day.round_trips for day in books.days) == len(books.trades)
    before_fees = sum((trade.profit + trade.fees for trade in books.trades), ZERO)
    assert sum((day.realised for day in books.days), ZERO) == before_fees
    assert {day.day for day in books.days} == {CHICAGO.trade_date(fill.at) for fill in counted}


@given(events)
def test_a_walk_from_any_mark_comes_to_the_same_books(history: list[Event]) -> None:
    with marks_everywhere():
        fills = list(happening(history))
        all_of_it = whole(fills)
        for mark in all_of_it.marks:
            rest = [fill for fill in fills if fill.at > mark.at]
            again = books_of(ACCOUNT, SYMBOL, rest, CONTRACT, mark)
            assert again.trades == all_of_it.trades[again.trades_before :]
            assert again.first_day is not None
            assert again.days == tuple(day for day in all_of_it.days if day.day >= again.first_day)
            # spacing begins anew at a mark, so fewer may be found, but what is found is the same
            assert set(again.marks) <= set(all_of_it.marks)


@settings(deadline=None)
@given(events, st.data())
def test_the_job_run_at_any_time_keeps_the_books_of_a_whole_count(history: list[Event], data: st.DataObject) -> None:
    with marks_everywhere():
        database = MemoryDatabase(migrations())
        body = TradesBody(database, OnTheSpot(), lambda symbol: CONTRACT, lambda: "counting")
        booked: list[Fill] = []
        for fill in happening(history):
            booked.append(fill)
            database.run([(PUT_FILL, fill_row(fill, 0))])
            if data.draw(st.booleans(), label="run the job"):
                run(database, body)
                assert kept(database) == expected(booked)
        run(database, body)
        assert kept(database) == expected(booked)
        assert run(database, body) == [], "nothing is left to do"


def run(database: MemoryDatabase, body: TradesBody) -> list[list[Statement]]:
    effect = asyncio.run(body(trades_subject(ACCOUNT, SYMBOL)))
    for part in effect:
        database.run(part)
    return effect


def kept(database: MemoryDatabase) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    rows = database.rows(f"SELECT {pages.TRADE_COLUMNS} FROM trades ORDER BY number")
    days = database.rows(f"SELECT {pages.DAILY_COLUMNS} FROM daily_pnl ORDER BY day")
    return (
        [tuple(msgspec.structs.astuple(pages.trade_from(row))) for row in rows],
        [tuple(msgspec.structs.astuple(pages.daily_from(row))) for row in days],
    )


def expected(booked: list[Fill]) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    books = whole(booked)
    return (
        [tuple(msgspec.structs.astuple(trade)) for trade in books.trades],
        [tuple(msgspec.structs.astuple(day)) for day in books.days],
    )


# --------------------------------------------------------------------------------------- by hand


def made(key: str, order: str, signed: int, price: int, at: str, fee: str = "1", session: str = "a") -> Fill:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    moment = datetime.fromisoformat(f"2025-11-{at}").replace(tzinfo=ZoneInfo(CHICAGO.zone))
    return Fill(
        key=key,
        account=ACCOUNT,
        session=SessionId(session),
        symbol=SYMBOL,
        client_id=None,
        broker_id=BrokerOrderId(order),
        side=Side.BUY if signed > 0 else Side.SELL,
        quantity=Decimal(abs(signed)),
        price=Decimal(price),
        at=round(moment.timestamp() * 1000),
        fee=Decimal(fee),
    )


def daily(day: int, realised: int, fees: int, round_trips: int, quantity: int) -> DailyPnl:
    return DailyPnl(
        account=ACCOUNT,
        symbol=SYMBOL,
        day=date(2025, 11, day),
        currency="USD",
        realised=Decimal(realised),
        fees=Decimal(fees),
        round_trips=round_trips,
        quantity=Decimal(quantity),
    )


HELD_OVERNIGHT = [
    made("in", "B1", 2, 100, "04 16:59"),  # still the fourth in Chicago
    made("part", "B2", -1, 110, "04 17:00", session="b"),  # the fifth begins
    made("rest", "B2", -1, 120, "05 16:30", session="b"),
    made("flip", "B3", -1, 130, "05 17:30"),
]


def test_profit_is_of_the_day_on_which_it_was_realised_across_sessions() -> None:
    books = whole(HELD_OVERNIGHT)
    assert books.days == (daily(4, 0, 1, 0, 2), daily(5, 10 * 50 + 20 * 50, 2, 1, 2), daily(6, 0, 1, 0, 1))
    (trade,) = books.trades
    assert (trade.profit, trade.sessions) == (Decimal(1500 - 3), ("a", "b"))


def test_a_bust_empties_a_day_and_a_late_fee_lands_on_its_own_fill() -> None:
    busted = msgspec.structs.replace(HELD_OVERNIGHT[3], quantity=ZERO, revision=1)
    dearer = msgspec.structs.replace(HELD_OVERNIGHT[0], fee=Decimal(9), revision=1)
    books = whole([*HELD_OVERNIGHT, busted, dearer])
    assert books.days == (daily(4, 0, 9, 0, 2), daily(5, 1500, 2, 1, 2))


def test_an_old_order_that_fills_again_goes_on_with_its_trade() -> None:
    before = [made("in", "B1", 5, 100, "04 10:00"), made("out", "S1", -2, 110, "04 11:00")]
    before += [made("more", "B2", 1, 100, "04 12:00"), made("on", "B3", 1, 100, "04 13:00")]
    with marks_everywhere():
        database = MemoryDatabase(migrations())
        body = TradesBody(database, OnTheSpot(), lambda symbol: CONTRACT, lambda: "counting")
        database.run([(PUT_FILL, fill_row(fill, 0)) for fill in before])
        run(database, body)
        marked = database.rows("SELECT count(*) FROM trade_marks WHERE at >= ?", (before[1].at,))
        assert marked != [(0,)], "a mark stands behind the order's first fill"
        again = made("out again", "S1", -2, 120, "04 14:00")
        database.run([(PUT_FILL, fill_row(again, 0))])
        run(database, body)
        assert kept(database) == expected([*before, again])
        assert len(kept(database)[0]) == 1


def test_hours_that_are_unknown_count_by_utc() -> None:
    plain = msgspec.structs.replace(CONTRACT, calendar=Calendar())
    books = books_of(ACCOUNT, SYMBOL, HELD_OVERNIGHT, plain)
    assert [day.day.day for day in books.days] == [4, 5]

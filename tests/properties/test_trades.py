"""FIFO round trips: sums agree with the position's own arithmetic, and the order of arrival does not matter."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.fills import Fill
from engine.domain.ids import AccountId, BrokerOrderId, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import ZERO, Side
from engine.domain.positions import FLAT, Position, after_fill
from engine.domain.records import Trade
from engine.persistence.trades import books_of, newest

ACCOUNT, SYMBOL = AccountId("A"), Symbol("ES")
POINT = Decimal(50)
CONTRACT = Instrument(symbol=SYMBOL, tick_size=Decimal("0.25"), point_value=POINT)


def made(number: int, quantity: int, price: Decimal, fee: Decimal, order: int, session: str | None) -> Fill:
    return Fill(
        key=f"x{number}",
        account=ACCOUNT,
        session=SessionId(session) if session else None,
        symbol=SYMBOL,
        client_id=None,
        broker_id=BrokerOrderId(f"B{order}"),
        side=Side.BUY if quantity > 0 else Side.SELL,
        quantity=Decimal(abs(quantity)),
        price=price,
        at=1_000 + number,
        fee=fee,
    )


quantities = st.integers(-5, 5).filter(bool)
prices = st.integers(1, 40_000).map(lambda ticks: Decimal(ticks) / 4)
fees = st.integers(-50, 500).map(lambda cents: Decimal(cents) / 100)


@st.composite
def histories(draw: st.DrawFn) -> list[Fill]:
    """Fills of one contract at strictly growing moments."""
    rows = draw(st.lists(st.tuples(quantities, prices, fees, st.integers(0, 4), st.sampled_from(["a", "b", None]))))
    return [made(number, *row) for number, row in enumerate(rows)]


def closed_out(fills: list[Fill]) -> list[Fill]:
    held = int(sum((fill.signed for fill in fills), ZERO))
    return [*fills, made(len(fills), -held, Decimal(777), ZERO, 99, "a")] if held else fills


def book(fills: list[Fill]) -> tuple[Position, Decimal]:
    position, realised = FLAT, ZERO
    for fill in fills:
        done = after_fill(position, fill.signed, fill.price)
        position, realised = done.position, realised + done.realised_points
    return position, realised


def trips(fills: list[Fill]) -> tuple[Trade, ...]:
    return books_of(ACCOUNT, SYMBOL, fills, CONTRACT).trades


@given(histories())
def test_profits_sum_to_what_the_position_realised(history: list[Fill]) -> None:
    fills = closed_out(history)
    position, realised = book(fills)
    assert position.is_flat
    trades = trips(fills)
    total = sum((trade.profit for trade in trades), ZERO)
    paid = sum((fill.fee for fill in fills), ZERO)
    assert sum((trade.fees for trade in trades), ZERO) == paid
    # the position's average price divides, so its own sum is right only to its last digits
    assert abs(total - (realised * POINT - paid)) < Decimal("1e-15")
    cash = sum((-fill.signed * fill.price for fill in fills), ZERO)
    assert total == cash * POINT - paid


@given(histories())
def test_what_is_not_closed_is_what_is_held(history: list[Fill]) -> None:
    trades = trips(history)
    bought = sum((fill.quantity for fill in history if fill.side is Side.BUY), ZERO)
    sold = sum((fill.quantity for fill in history if fill.side is Side.SELL), ZERO)
    assert sum((abs(trade.quantity) for trade in trades), ZERO) == min(bought, sold)


@given(histories().flatmap(lambda fills: st.tuples(st.just(fills), st.permutations(fills))))
def test_the_order_of_arrival_does_not_matter(pair: tuple[list[Fill], list[Fill]]) -> None:
    assert trips(pair[0]) == trips(pair[1])


@given(histories(), st.data())
def test_only_the_newest_revision_counts(history: list[Fill], data: st.DataObject) -> None:
    if not history:
        return
    index = data.draw(st.integers(0, len(history) - 1))
    wrong = history[index]
    busted = msgspec.structs.replace(wrong, quantity=ZERO, revision=2)
    corrected = msgspec.structs.replace(wrong, price=data.draw(prices), revision=1)
    without = [fill for fill in history if fill is not wrong]
    arrivals = data.draw(st.permutations([*history, corrected, busted]))
    assert trips(arrivals) == trips(without)
    instead = [corrected if fill is wrong else fill for fill in history]
    assert trips(data.draw(st.permutations([*history, corrected]))) == trips(instead)


@given(histories())
def test_a_trade_says_where_it_came_from(history: list[Fill]) -> None:
    for trade in trips(history):
        assert trade.opened <= trade.closed
        assert trade.quantity != 0
        points = (trade.exit_price - trade.entry_price) * trade.quantity
        assert abs(points * POINT - trade.fees - trade.profit) < Decimal("1e-15")
        assert set(trade.sessions) <= {"a", "b"}
    assert [trade.number for trade in trips(history)] == list(range(1, len(trips(history)) + 1))


def figures(trade: Trade) -> list[object]:
    return [trade.quantity, trade.fees, trade.profit, trade.sessions]


def test_a_flip_closes_then_opens() -> None:
    fills = [
        made(0, 2, Decimal(100), Decimal(2), 1, "a"),
        made(1, -5, Decimal(110), Decimal(5), 2, "b"),
        made(2, 3, Decimal(108), Decimal(3), 3, "b"),
    ]
    long, short = trips(fills)
    assert figures(long) == [2, 4, 996, ("a", "b")]
    assert figures(short) == [-3, 6, 294, ("b",)]


def test_partial_fills_of_one_order_are_one_trade_first_in_first_out() -> None:
    fills = [made(0, 1, Decimal(100), ZERO, 1, "a"), made(1, 1, Decimal(102), ZERO, 1, "a")]
    fills += [made(2, 2, Decimal(90), ZERO, 2, "a"), made(3, -2, Decimal(103), ZERO, 3, "a")]
    (only,) = trips(fills)
    assert [only.entry_price, only.exit_price, only.quantity] == [Decimal(101), Decimal(103), Decimal(2)]


def test_newest_keeps_one_of_each_execution() -> None:
    first = made(0, 1, Decimal(1), ZERO, 1, None)
    second = msgspec.structs.replace(first, revision=1)
    assert newest([second, first]) == [second]

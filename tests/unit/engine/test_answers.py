"""One answer about one order of several broker ids: what filled under each is booked, and nothing twice."""

from __future__ import annotations

import pytest
from msgspec.structs import replace as changed

from engine.domain.answers import book_answer, book_ids_left
from engine.domain.broker import BrokerOrder, BrokerStatus, Capabilities, FillsKind, IdMode, ReplaceId, ReplaceQuantity
from engine.domain.ids import BrokerOrderId
from engine.domain.incarnations import is_cut_off, record_of
from engine.domain.order_book import OrderBook
from engine.domain.order_lifecycle import Evidence
from engine.domain.orders import Flag, Order, OrderState, OrderType, Role, Side
from engine.domain.positions import Position
from tests.unit.engine.samples import ACCOUNT, SESSION, SYMBOL, d, order, report, terms

S, B = OrderState, BrokerStatus
STOP = terms(4, type=OrderType.STOP, side=Side.SELL)


def a_book(size: ReplaceQuantity, known: Order) -> OrderBook:
    """Long four, at a broker whose ids change and whose fills come as cumulative quantities."""
    manners = Capabilities(fills=FillsKind.CUMULATIVE, replace_id=ReplaceId.CHANGES, replace_quantity=size)
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, manners, lambda change, now: None)
    book.restore_position(Position(d(4), d(100)))
    book.load(known)
    return book


def asked(wanted: int, state: OrderState = S.PENDING_REPLACE) -> Order:
    """A stop for four that is being made a market order of `wanted`."""
    market = changed(STOP, type=OrderType.MARKET, stop=None, quantity=d(wanted))
    return order("o", state, role=Role.STOP, of=STOP, wanted=market, sent=1)


def old_id(known: Order, *, echoes: bool) -> BrokerOrder:
    """One had filled when it was replaced, and nobody heard of it."""
    return report(known, B.CANCELLED, 1, reason="replaced", client_id=known.client_id if echoes else None)


def new_id(known: Order, quantity: int, filled: int, status: BrokerStatus, *, echoes: bool) -> BrokerOrder:
    """What replaced it."""
    wanted = known.wanted or known.terms
    return report(
        known,
        status,
        filled,
        broker_id=BrokerOrderId("B2"),
        replaces=BrokerOrderId("B-o"),
        terms=changed(wanted, quantity=d(quantity)),
        client_id=known.client_id if echoes else None,
        submitted=2,
    )


@pytest.mark.parametrize("echoes", [True, False])
@pytest.mark.parametrize("size", list(ReplaceQuantity))
def test_what_filled_under_the_id_before_is_booked_though_only_an_answer_tells(
    size: ReplaceQuantity, echoes: bool
) -> None:
    """Booked under the new id alone, a fill was missing for ever, and the position had to be adopted."""
    known = asked(3, S.IN_DOUBT_REPLACE)
    book = a_book(size, known)
    rows = (old_id(known, echoes=echoes), new_id(known, 3, 3, B.FILLED, echoes=echoes))
    for _ in range(2):
        record = record_of(known, rows)
        assert record is not None
        known = book_answer(book, known, record, rows, 5)
        assert (known.state, known.filled, book.position.quantity) == (S.FILLED, d(4), d(0))
    assert Flag.OVERFILLED not in known.flags or size is ReplaceQuantity.TOTAL


def test_an_order_that_works_on_is_as_large_as_all_its_ids_together() -> None:
    """Taken for three in all, it would be believed filled while one rests at the broker."""
    known = asked(3, S.IN_DOUBT_REPLACE)
    book = a_book(ReplaceQuantity.REMAINING, known)
    new = new_id(known, 3, 2, B.PARTIALLY_FILLED, echoes=True)
    known = book_answer(book, known, new, (new,), 5)
    assert (known.state, known.remaining) == (S.PARTIALLY_FILLED, d(1))
    known = book_answer(book, known, new, (old_id(known, echoes=True), new), 6)
    assert (known.state, known.filled, known.remaining) == (S.PARTIALLY_FILLED, d(3), d(1))
    assert book.position.quantity == 1


def test_the_word_that_an_id_ended_tells_of_its_fills_while_the_replace_is_awaited() -> None:
    known = asked(3)
    book = a_book(ReplaceQuantity.REMAINING, known)
    known = book.report(known, old_id(known, echoes=True), Evidence.STREAM, 2)
    assert (known.state, known.filled, book.position.quantity) == (S.PENDING_REPLACE, d(1), d(3))
    known = book.report(known, new_id(known, 3, 0, B.WORKING, echoes=True), Evidence.STREAM, 3)
    known = book.report(known, new_id(known, 3, 3, B.FILLED, echoes=True), Evidence.STREAM, 4)
    assert (known.filled, book.position.quantity) == (d(4), d(0))


def test_an_answer_by_client_id_is_not_asked_for_where_it_may_lack_the_ids_of_before() -> None:
    """A broker shows the newest order under that name; what filled before it was replaced is in the whole list."""
    assert Capabilities(replace_id=ReplaceId.CHANGES).finds_whole
    assert Capabilities(fills=FillsKind.CUMULATIVE).finds_whole
    assert not Capabilities(fills=FillsKind.CUMULATIVE, replace_id=ReplaceId.CHANGES).finds_whole
    assert not Capabilities(id_mode=IdMode.NONE).finds_whole


def test_a_list_that_began_before_an_order_moved_tells_nothing_of_it() -> None:
    known = changed(order("o", S.WORKING, role=Role.STOP, of=STOP), broker_id=BrokerOrderId("B2"), updated=10)
    rows = (old_id(known, echoes=False), new_id(known, 4, 0, B.WORKING, echoes=False))
    for begun, booked in ((9, 0), (10, 1), (11, 1)):
        book = a_book(ReplaceQuantity.TOTAL, changed(known, broker_id=BrokerOrderId("B-o")))
        book.load(known)
        assert bool(book_ids_left(book, rows, begun, 12)) is bool(booked)
        assert book.position.quantity == 4 - booked
        assert book_ids_left(book, rows, 13, 14) == (0 if booked else 1)


def test_an_answer_that_skips_an_id_between_is_cut_off_from_the_one_we_know() -> None:
    """Two replaces that nobody kept: only the whole list says that the second followed the first, and ours that."""
    known = order("o", S.IN_DOUBT_CANCEL, role=Role.STOP, of=STOP)
    second = report(known, B.FILLED, 4, broker_id=BrokerOrderId("B3"), replaces=BrokerOrderId("B2"))
    first = report(known, B.CANCELLED, broker_id=BrokerOrderId("B2"), replaces=known.broker_id)
    assert is_cut_off(known.broker_id, [second])
    assert not is_cut_off(known.broker_id, [first])
    assert not is_cut_off(known.broker_id, [second, first])
    assert not is_cut_off(known.broker_id, [report(known, B.WORKING), second])
    assert not is_cut_off(known.broker_id, [])
    assert not is_cut_off(None, [second])


@pytest.mark.parametrize("is_known", [True, False])
def test_executions_under_ids_that_nobody_told_of_are_the_orders_own(is_known: bool) -> None:
    """Replaced three times by an engine that could write nothing down: the next one took their fills for a stranger's.

    What an order had been before the id under which we came to know it stays a stranger's.
    """
    manners = Capabilities(fills=FillsKind.EXECUTIONS, replace_id=ReplaceId.CHANGES, id_mode=IdMode.NONE)
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, manners, lambda change, now: None)
    book.restore_position(Position(d(4), d(100)))
    known = order("o", S.WORKING, role=Role.STOP, of=STOP, broker_id="B1" if is_known else "B4")
    book.load(known)
    rows = tuple(
        report(
            known,
            B.WORKING if number == 4 else B.CANCELLED,
            broker_id=BrokerOrderId(f"B{number}"),
            replaces=BrokerOrderId(f"B{number - 1}"),
            client_id=None,
            submitted=number,
        )
        for number in (1, 2, 3, 4)
    )
    record = record_of(known, rows)
    assert record is not None
    book_answer(book, known, record, rows, 5)
    owners = [book.by_broker_id(BrokerOrderId(f"B{number}")) is not None for number in (1, 2, 3, 4, 5)]
    assert owners == ([True, True, True, True, False] if is_known else [False, False, False, True, False])

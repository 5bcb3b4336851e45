"""The working copy: each fact once, whatever the order in which facts come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace as changed

from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import BrokerOrder, BrokerStatus, Capabilities, FillsKind, ReplaceId, ReplaceQuantity
from engine.domain.ids import BrokerOrderId, ClientOrderId
from engine.domain.incarnations import record_of
from engine.domain.order_book import (
    KEEP_RECENT,
    Change,
    OrderBook,
    book_executions,
    closable,
    entry_pending,
    held_quantity,
    parent_unfilled,
)
from engine.domain.order_lifecycle import Evidence
from engine.domain.orders import Doubt, Order, OrderState, OrderType, Role, Side
from engine.domain.positions import FLAT, Position
from tests.unit.engine.samples import ACCOUNT, SESSION, SYMBOL, d, execution, order, report, terms

S, B = OrderState, BrokerStatus


def a_book(fills: FillsKind = FillsKind.EXECUTIONS) -> tuple[OrderBook, list[Change]]:
    """An empty book and what it tells."""
    told: list[Change] = []
    capabilities = Capabilities(fills=fills)
    return OrderBook(SESSION, ACCOUNT, SYMBOL, capabilities, lambda change, now: told.append(change)), told


def test_filled_then_new_stays_filled() -> None:
    """A REST answer "new" that comes after the stream's "filled" must not raise a phantom working order."""
    book, _ = a_book()
    known = book.put(order(state=S.SUBMITTING, sent=1, of=terms(2)), "sent", 1)
    known = book.execution(known, execution(known, 1, 2), 2)
    known = book.report(known, report(known, B.FILLED, 2), Evidence.STREAM, 3)
    for stale in (report(known, B.WORKING), report(known, B.WORKING, 2), report(known, B.PARTIALLY_FILLED, 1)):
        known = book.report(known, stale, Evidence.QUERY, 4)
    assert known.state is S.FILLED
    assert book.open() == ()
    assert book.position == Position(d(2), d(100))


def test_a_fill_inside_the_answer_to_a_replace_is_booked_from_the_cumulative_quantity() -> None:
    book, told = a_book(FillsKind.CUMULATIVE)
    known = book.put(order(state=S.WORKING, of=terms(5)), "accepted", 1)
    known = book.put(lifecycle.replace_asked(known, 2, terms(4)), "replace sent", 2)
    known = book.report(known, report(known, B.UNKNOWN, 3, average_price=d(101)), Evidence.STREAM, 3)
    assert (known.filled, book.position) == (d(3), Position(d(3), d(101)))
    assert [c.fill.quantity for c in told if c.fill is not None] == [3]
    known = book.put(lifecycle.replaced(known, 4, BrokerOrderId("B2")), "replaced", 4)
    assert (known.state, known.remaining) == (S.PARTIALLY_FILLED, d(1))


def test_cumulative_reports_become_intervals_at_their_own_price() -> None:
    book, told = a_book(FillsKind.CUMULATIVE)
    known = book.put(order(state=S.WORKING, of=terms(5)), "accepted", 1)
    known = book.report(known, report(known, B.PARTIALLY_FILLED, 2, average_price=d(100)), Evidence.STREAM, 2)
    known = book.report(known, report(known, B.FILLED, 5, average_price=d("100.6")), Evidence.STREAM, 3)
    fills = [c.fill for c in told if c.fill is not None]
    assert [(f.since, f.upto, f.price) for f in fills] == [(d(0), d(2), d(100)), (d(2), d(5), d(101))]
    assert len({f.key for f in fills}) == 2
    assert known.state is S.FILLED


def test_a_leg_that_grew_with_its_entry_is_not_ended_by_the_fill_that_the_same_record_tells() -> None:
    """A late word of a moment when it was smaller came before: what is left of it works on."""
    book, _ = a_book(FillsKind.CUMULATIVE)
    leg = changed(order(state=S.WORKING, of=terms(1)), role=Role.TARGET, parent=ClientOrderId("entry"))
    leg = book.put(leg, "accepted", 1)
    record = changed(report(leg, B.PARTIALLY_FILLED, 1, average_price=d(100)), terms=terms(2))
    leg = book.report(leg, record, Evidence.STREAM, 2)
    assert (leg.state, leg.filled, leg.remaining) == (S.PARTIALLY_FILLED, d(1), d(1))


def test_on_a_broker_with_executions_a_report_alone_moves_no_position() -> None:
    book, _ = a_book()
    known = book.put(order(state=S.WORKING), "accepted", 1)
    known = book.report(known, report(known, B.PARTIALLY_FILLED, 2), Evidence.STREAM, 2)
    assert book.position == FLAT
    assert known.open_for_fills


@pytest.mark.parametrize("final", [B.CANCELLED, B.EXPIRED, B.FILLED])
def test_the_state_follows_a_final_word_once_the_missing_fills_are_there(final: BrokerStatus) -> None:
    """Else an order that ended with 2 of 5 filled would be believed to work until the next check of orders."""
    book, _ = a_book()
    known = book.put(order(state=S.WORKING, of=terms(5)), "accepted", 1)
    known = book.report(known, report(known, final, 2), Evidence.STREAM, 2)
    assert (known.state, known.open_for_fills) == (S.WORKING, True)
    known = book.execution(known, execution(known, 1, 1), 3)
    assert known.is_open
    known = book.execution(known, execution(known, 2, 1), 4)
    assert known.state is {B.CANCELLED: S.CANCELLED, B.EXPIRED: S.EXPIRED, B.FILLED: S.FILLED}[final]
    assert book.get(known.client_id) is known
    assert book.open() == ()


def test_a_final_word_that_a_larger_quantity_outdates_is_not_waited_for() -> None:
    book, _ = a_book()
    known = book.put(order(state=S.WORKING, of=terms(5)), "accepted", 1)
    known = book.report(known, report(known, B.CANCELLED, 2), Evidence.STREAM, 2)
    for number in (1, 2, 3):
        known = book.execution(known, execution(known, number, 1), 3)
    assert known.filled == 3
    known = book.report(known, report(known, B.CANCELLED, 3), Evidence.STREAM, 4)
    assert known.state is S.CANCELLED


def test_a_final_word_under_an_id_that_a_replace_left_behind_ends_nothing() -> None:
    book, _ = a_book()
    known = book.put(order(state=S.PENDING_REPLACE, of=terms(5), wanted=terms(4)), "replace sent", 1)
    known = book.report(known, report(known, B.CANCELLED, 2), Evidence.QUERY, 2)
    known = book.put(lifecycle.replaced(known, 3, BrokerOrderId("B2")), "replaced", 3)
    for number in (1, 2):
        known = book.execution(known, execution(known, number, 1), 4)
    assert (known.state, known.remaining) == (S.PARTIALLY_FILLED, d(2))


def test_facts_twice_change_nothing_and_tell_nobody() -> None:
    book, told = a_book()
    known = book.put(order(state=S.SUBMITTING, sent=1, of=terms(3)), "sent", 1)
    facts: list[Callable[[Order], Order]] = [
        lambda o: book.report(o, report(o, B.WORKING), Evidence.STREAM, 2),
        lambda o: book.execution(o, execution(o, 1, 1), 3),
        lambda o: book.report(o, report(o, B.PARTIALLY_FILLED, 1), Evidence.STREAM, 3),
        lambda o: book.execution(o, execution(o, 2, 2), 4),
        lambda o: book.report(o, report(o, B.FILLED, 3), Evidence.STREAM, 4),
    ]
    for fact in facts:
        known = fact(known)
        seen, version, position = len(told), book.version, book.position
        assert fact(known) is known
        assert (len(told), book.version, book.position) == (seen, version, position)
    assert [c.fill.quantity for c in told if c.fill is not None] == [1, 2]


def test_a_bust_and_a_correction_move_the_position_by_the_difference() -> None:
    book, told = a_book()
    known = book.put(order(state=S.WORKING, of=terms(5)), "accepted", 1)
    known = book.execution(known, execution(known, 1, 3, 100), 2)
    known = book.execution(known, execution(known, 1, 2, 101, revision=1), 3)
    assert (known.filled, book.position.quantity) == (d(2), d(2))
    known = book.execution(known, execution(known, 1, 0, 101, revision=2), 4)
    assert (known.filled, book.position) == (d(0), FLAT)
    assert book.execution(known, execution(known, 1, 3, 100), 5) is known, "an older revision comes late"
    assert [c.event for c in told] == ["accepted", "fill", "corrected", "busted"]
    assert book.has_fill("o-x1", 1)
    assert not book.has_fill("o-x1", 3)


def test_an_execution_first_heard_of_as_busted_is_not_waited_for_any_more() -> None:
    book, _ = a_book()
    known = book.put(order(state=S.WORKING, of=terms(1)), "accepted", 1)
    known = book.report(known, report(known, B.PARTIALLY_FILLED, 1), Evidence.STREAM, 2)
    assert known.open_for_fills
    known = book.execution(known, execution(known, 1, 0, revision=1), 3)
    assert (known.filled, known.open_for_fills, book.position) == (d(0), False, FLAT)


def test_executions_find_their_order_by_either_id_and_only_on_this_contract() -> None:
    book, _ = a_book()
    known = book.put(order(state=S.WORKING, of=terms(5)), "accepted", 1)
    foreign = order("stranger", S.WORKING)
    rows = [
        execution(known, 1, 1, client_id=None),
        execution(known, 2, 1, symbol="NQ"),
        execution(foreign, 3, 1),
        execution(known, 4, 1, broker_id=BrokerOrderId("B-other")),
    ]
    assert book_executions(book, rows, 5) > 0
    assert book.position.quantity == 2
    assert book_executions(book, rows, 6) == 0


def test_an_earlier_broker_id_still_leads_to_the_order() -> None:
    book, _ = a_book()
    known = book.put(order(state=S.WORKING), "accepted", 1)
    book.put(changed(known, broker_id=BrokerOrderId("B2"), revision=1), "replaced", 2)
    for name in ("B-o", "B2"):
        found = book.by_broker_id(BrokerOrderId(name))
        assert found is not None
        assert found.broker_id == "B2"
    assert book.owner_of(report(known, B.WORKING, client_id=None)) is book.get(known.client_id)


def test_what_is_loaded_is_told_to_nobody() -> None:
    book, told = a_book()
    book.load(order(state=S.WORKING))
    book.restore_position(Position(d(2), d(100)))
    assert told == []
    assert book.version == 1, "what was read out of the book before is out of date"
    assert [o.client_id for o in book.open()] == ["o"]


def test_x6_memory_of_ended_orders_is_bounded_and_counted() -> None:
    book, _ = a_book()
    keeper = book.put(order("keeper", S.WORKING), "accepted", 0)
    for number in range(2 * KEEP_RECENT + 1):
        book.put(order(f"old{number}", S.CANCELLED), "ended", number)
    assert KEEP_RECENT <= len(book.recent()) <= 2 * KEEP_RECENT
    assert book.forgotten == {S.CANCELLED: 2 * KEEP_RECENT + 1 - len(book.recent())}
    assert book.open() == (keeper,)
    assert book.recent()[0].client_id == f"old{2 * KEEP_RECENT}"
    assert book.by_broker_id(BrokerOrderId("B-old0")) is None


# -- what exits hold --------------------------------------------------------------------------------------

LONG = Position(d(3), d(100))


def stop(name: str, quantity: int, state: OrderState = S.WORKING, **more: Any) -> Order:
    return order(name, state, role=Role.STOP, of=terms(quantity, Side.SELL, OrderType.STOP), **more)


def target(name: str, quantity: int, **more: Any) -> Order:
    return order(name, S.WORKING, role=Role.TARGET, of=terms(quantity, Side.SELL), **more)


def test_exits_hold_what_they_may_still_fill() -> None:
    assert held_quantity((stop("a", 2, filled=1),), LONG) == 1
    assert held_quantity((stop("a", 2, S.LOST), stop("b", 1, S.IN_DOUBT_SUBMIT)), LONG) == 3
    assert held_quantity((stop("a", 2, S.CANCELLED),), LONG) == 0
    assert closable((stop("a", 9),), LONG) == 0


def test_what_does_not_reduce_the_position_holds_nothing_of_it() -> None:
    entry = order("e", S.WORKING, of=terms(2, Side.SELL))
    wrong = order("w", S.WORKING, role=Role.EXIT, of=terms(2, Side.BUY))
    assert closable((entry, wrong), LONG) == 3
    assert held_quantity((stop("a", 2),), FLAT) == 0


def test_a_pair_that_the_broker_links_holds_its_larger_leg_once() -> None:
    pair: dict[str, Any] = {"linked": True, "parent": ClientOrderId("e")}
    assert held_quantity((stop("s", 3, **pair), target("t", 2, **pair)), LONG) == 3
    assert held_quantity((stop("s", 2), target("t", 1)), LONG) == 3


def test_a_replace_under_way_holds_the_larger_size() -> None:
    """A stop growing from 1 to 3 beside an exit of 2 would close 5 of 3."""
    growing = stop("s", 1, S.PENDING_REPLACE, wanted=terms(3, Side.SELL, OrderType.STOP))
    shrinking = stop("s", 3, S.IN_DOUBT_REPLACE, wanted=terms(1, Side.SELL, OrderType.STOP))
    assert closable((growing,), LONG) == 0
    assert closable((shrinking,), LONG) == 0


def test_legs_hold_nothing_until_their_entry_fills() -> None:
    waiting, filled = order("e", S.WORKING), order("e", S.PARTIALLY_FILLED, filled=1)
    leg = stop("s", 3, parent=ClientOrderId("e"))
    assert parent_unfilled(leg, {waiting.client_id: waiting})
    assert closable((waiting, leg), LONG) == 3
    assert closable((filled, leg), LONG) == 0
    assert closable((leg,), LONG) == 0, "an entry that is forgotten has filled"


def test_an_entry_is_pending_while_nobody_knows_its_fate() -> None:
    for state in S:
        pending = entry_pending((order(state=state),))
        assert (pending is not None) is (state in (S.SUBMITTING, S.IN_DOUBT_SUBMIT, S.LOST))
    assert entry_pending((stop("s", 1, S.IN_DOUBT_SUBMIT),)) is None


def a_leg_of_an_entry(entry_filled: int) -> tuple[OrderBook, Order, Order]:
    """An entry for three of which so much has filled, and its stop, which the broker showed for one so far."""
    book, _ = a_book()
    entry = book.put(order("e", S.WORKING, of=terms(3)), "accepted", 1)
    entry = book.execution(entry, execution(entry, 1, entry_filled), 2)
    sell = changed(terms(1), side=Side.SELL)
    stop = book.put(order("s", S.WORKING, role=Role.STOP, of=sell, parent=entry.client_id), "accepted", 1)
    return book, entry, stop


def test_a_leg_that_filled_whole_may_have_grown_with_its_entry_and_is_asked_for() -> None:
    """The news of its growth was lost: what the broker may still execute of it holds the position until it says so."""
    book, _, stop = a_leg_of_an_entry(entry_filled=2)
    stop = book.execution(stop, execution(stop, 2, 1), 3)
    assert (stop.state, stop.filled, stop.at_most) == (S.IN_DOUBT_REPLACE, d(1), d(1))
    assert stop.doubt is not None
    assert stop.doubt.next_query <= 3
    assert closable(book.open(), book.position) == 0
    grown = changed(report(stop, B.PARTIALLY_FILLED, 1), terms=changed(stop.terms, quantity=d(2)))
    live = book.report(stop, grown, Evidence.QUERY, 4)
    assert (live.state, live.remaining, live.doubt) == (S.PARTIALLY_FILLED, d(1), None)


def test_a_leg_in_doubt_for_its_size_ends_by_the_brokers_final_word() -> None:
    book, _, stop = a_leg_of_an_entry(entry_filled=2)
    stop = book.execution(stop, execution(stop, 2, 1), 3)
    ended = book.report(stop, report(stop, B.FILLED, 1), Evidence.STREAM, 4)
    assert (ended.state, book.open(), book.position.quantity) == (S.FILLED, (book.get(ClientOrderId("e")),), d(1))


def test_a_leg_as_large_as_what_its_entry_filled_is_filled() -> None:
    book, _, stop = a_leg_of_an_entry(entry_filled=1)
    assert book.execution(stop, execution(stop, 2, 1), 3).state is S.FILLED


def test_a_filled_leg_that_the_broker_still_lists_larger_lives_after_all() -> None:
    """Its entry filled more only afterwards; a list that is merely late changes nothing."""
    book, entry, stop = a_leg_of_an_entry(entry_filled=1)
    stop = book.execution(stop, execution(stop, 2, 1), 3)
    assert not book.outgrew(entry)
    entry = book.execution(entry, execution(entry, 3, 1), 4)
    assert book.outgrew(entry)
    late = changed(report(stop, B.WORKING), terms=changed(stop.terms, quantity=d(2)))
    assert book.revive(stop, late, 5) is stop
    grown = changed(report(stop, B.PARTIALLY_FILLED, 1), terms=changed(stop.terms, quantity=d(2)))
    live = book.revive(stop, grown, 6)
    assert (live.state, live.remaining) == (S.PARTIALLY_FILLED, d(1))
    assert not book.outgrew(entry)


def a_stop_whose_replace_was_not_found(quantity: ReplaceQuantity) -> tuple[OrderBook, Order]:
    """A stop for two that was to cover four; a query still showed two, and the request may yet arrive."""
    capabilities = Capabilities(replace_quantity=quantity)
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, capabilities, lambda change, now: None)
    sell = terms(2, side=Side.SELL, type=OrderType.STOP, stop=d(90))
    asked = order("s", S.IN_DOUBT_REPLACE, role=Role.STOP, of=sell, wanted=changed(sell, quantity=d(4)))
    known = book.report(book.put(asked, "in doubt", 1), report(asked, B.WORKING), Evidence.QUERY, 2)
    assert (known.state, known.terms.quantity) == (S.WORKING, d(2))
    return book, known


@pytest.mark.parametrize("quantity", list(ReplaceQuantity))
def test_fills_do_not_end_an_order_whose_unanswered_replace_may_still_enlarge_it(quantity: ReplaceQuantity) -> None:
    """A replace that a query did not find came a minute later: the order went on at the broker, and had ended here."""
    book, known = a_stop_whose_replace_was_not_found(quantity)
    known = book.execution(known, execution(known, 1, 2), 3)
    assert (known.state, known.doubt and known.doubt.next_query) == (S.IN_DOUBT_REPLACE, 3)
    assert known.at_most >= d(2)
    by_market = changed(known.terms, quantity=d(5), type=OrderType.MARKET, stop=None)
    rest = book.report(known, changed(report(known, B.PARTIALLY_FILLED, 2), terms=by_market), Evidence.QUERY, 4)
    assert (rest.state, rest.terms, rest.remaining) == (S.PARTIALLY_FILLED, by_market, d(3))


def test_what_fills_before_a_replace_of_the_rest_arrives_is_no_part_of_it() -> None:
    """Sold out for four by a replace that came late, two had filled by then: the broker made six of it."""
    capabilities = Capabilities(replace_quantity=ReplaceQuantity.REMAINING)
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, capabilities, lambda change, now: None)
    sell = terms(4, side=Side.SELL, type=OrderType.STOP, stop=d(90))
    out = changed(sell, type=OrderType.MARKET, stop=None)
    asked = book.put(order("s", S.IN_DOUBT_REPLACE, role=Role.STOP, of=sell, wanted=out), "in doubt", 1)
    asked = book.execution(asked, execution(asked, 1, 2), 2)
    asked = book.execution(asked, execution(asked, 2, 2), 3)
    assert (asked.state, asked.doubt and asked.doubt.next_query) == (S.IN_DOUBT_REPLACE, 3)
    larger = changed(report(asked, B.PARTIALLY_FILLED, 4), terms=changed(out, quantity=d(6)))
    asked = book.report(asked, larger, Evidence.QUERY, 4)
    assert (asked.state, asked.remaining) == (S.PARTIALLY_FILLED, d(2))


def test_a_leg_that_has_ended_is_not_made_larger_by_a_record() -> None:
    """It is open again by `revive`, which needs to see that the broker has it larger than it was."""
    book, _, stop = a_leg_of_an_entry(entry_filled=1)
    stop = book.execution(stop, execution(stop, 2, 1), 3)
    grown = changed(report(stop, B.PARTIALLY_FILLED, 1), terms=changed(stop.terms, quantity=d(2)))
    stop = book.report(stop, grown, Evidence.STREAM, 4)
    assert (stop.state, stop.terms.quantity) == (S.FILLED, d(1))
    assert book.revive(stop, grown, 5).state is S.PARTIALLY_FILLED


def test_an_order_whose_unanswered_replace_never_came_ends_by_the_brokers_word() -> None:
    book, known = a_stop_whose_replace_was_not_found(ReplaceQuantity.TOTAL)
    known = book.execution(known, execution(known, 1, 2), 3)
    assert book.report(known, report(known, B.FILLED, 2), Evidence.QUERY, 4).state is S.FILLED


def test_fills_do_not_end_an_order_that_the_stream_showed_larger_than_we_know() -> None:
    book, _ = a_book()
    known = book.put(order("o", S.WORKING, of=terms(2)), "accepted", 1)
    larger = changed(report(known, B.WORKING), terms=terms(3))
    known = book.report(known, larger, Evidence.STREAM, 2)
    assert book.execution(known, execution(known, 1, 2), 3).state is S.IN_DOUBT_REPLACE


def test_fills_end_an_order_that_was_replaced_as_asked() -> None:
    book, _ = a_book()
    known = book.put(order("o", S.IN_DOUBT_REPLACE, of=terms(2), wanted=terms(3)), "in doubt", 1)
    known = book.report(known, changed(report(known, B.WORKING), terms=terms(3)), Evidence.QUERY, 2)
    assert book.execution(known, execution(known, 1, 3), 3).state is S.FILLED


def test_a_word_that_the_order_was_cancelled_may_tell_of_a_replace_that_was_given_up() -> None:
    """Where ids change the replaced order ends as cancelled: whether another took its place is asked for."""
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(replace_id=ReplaceId.CHANGES), lambda change, now: None)
    stop = terms(type=OrderType.STOP, stop=d(90), side=Side.SELL)
    asked = order("o", S.IN_DOUBT_REPLACE, of=stop, wanted=changed(stop, stop=d(97)))
    known = book.report(book.put(asked, "in doubt", 1), report(asked, B.WORKING), Evidence.QUERY, 2)
    known = book.report(known, report(known, B.CANCELLED), Evidence.STREAM, 3)
    assert (known.state, known.doubt and known.doubt.next_query) == (S.IN_DOUBT_REPLACE, 3)
    late = book.report(known, _replaced(known, 3, B.WORKING, 97, str(known.broker_id)), Evidence.QUERY, 4)
    assert (late.state, late.broker_id, late.terms.stop) == (S.WORKING, "B3", d(97))


def test_a_leg_that_grew_by_itself_to_what_was_asked_for_is_not_replaced_yet() -> None:
    """Where ids change the old one says that the request has not been there: it may still come, and end this one."""
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(replace_id=ReplaceId.CHANGES), lambda change, now: None)
    leg = terms(1, type=OrderType.STOP, stop=d(90), side=Side.SELL)
    asked = order("o", S.IN_DOUBT_REPLACE, of=leg, wanted=changed(leg, quantity=d(2)), parent=ClientOrderId("e"))
    grown = changed(report(asked, B.WORKING), terms=changed(leg, quantity=d(2)))
    known = book.report(book.put(asked, "in doubt", 1), grown, Evidence.QUERY, 2)
    assert (known.state, known.terms.quantity) == (S.WORKING, d(2))
    assert book.report(known, report(known, B.CANCELLED), Evidence.STREAM, 3).state is S.IN_DOUBT_REPLACE


def test_a_word_that_an_order_was_cancelled_ends_it_where_every_replace_was_answered() -> None:
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(replace_id=ReplaceId.CHANGES), lambda change, now: None)
    known = book.put(order("o", S.WORKING), "accepted", 1)
    assert book.report(known, report(known, B.CANCELLED), Evidence.STREAM, 3).state is S.CANCELLED


def test_a_word_that_an_order_of_an_earlier_life_was_cancelled_may_tell_of_a_replace_without_a_row() -> None:
    """Another engine that has not read yet who holds the account may ask on: what took its place is asked for."""
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(replace_id=ReplaceId.CHANGES), lambda change, now: None)
    stop = order("o", S.WORKING, of=terms(3, type=OrderType.STOP, stop=d(90), side=Side.SELL))
    book.load(stop)
    known = book.report(stop, report(stop, B.CANCELLED), Evidence.STREAM, 3)
    assert (known.state, known.doubt and known.doubt.next_query) == (S.IN_DOUBT_REPLACE, 3)
    assert book.report(known, report(known, B.CANCELLED), Evidence.QUERY, 4).state is S.CANCELLED
    less = changed(report(known, B.WORKING), terms=changed(stop.terms, quantity=d(1)))
    less = changed(less, broker_id=BrokerOrderId("B3"), replaces=BrokerOrderId(str(stop.broker_id)))
    after = book.report(known, less, Evidence.QUERY, 4)
    assert (after.state, after.broker_id, after.terms.quantity) == (S.WORKING, "B3", d(1))


def _replaced(of: Order, number: int, status: BrokerStatus, stop: int, after: str) -> BrokerOrder:
    moved = changed(of.terms, stop=d(stop))
    return report(
        of, status, terms=moved, broker_id=BrokerOrderId(f"B{number}"), replaces=BrokerOrderId(after), client_id=None
    )


def test_of_several_replaces_that_nobody_heard_of_the_last_one_counts() -> None:
    """Taken for its first successor, which ended when it was replaced, a stop that works would count as cancelled."""
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(replace_id=ReplaceId.CHANGES), lambda change, now: None)
    stop = terms(type=OrderType.STOP, side=Side.SELL)
    doubtful = order("o", S.IN_DOUBT_REPLACE, role=Role.STOP, of=stop, wanted=changed(stop, stop=d(97)))
    book.load(doubtful)
    own = report(doubtful, B.CANCELLED, reason="replaced", client_id=None)
    chain = [
        _replaced(doubtful, 3, B.WORKING, 97, "B2"),
        own,
        _replaced(doubtful, 1, B.CANCELLED, 99, str(own.broker_id)),
        _replaced(doubtful, 2, B.CANCELLED, 98, "B1"),
    ]
    found = record_of(doubtful, chain)
    assert found is not None
    after = book.report(doubtful, found, Evidence.QUERY, 1)
    assert (after.state, after.broker_id, after.terms.stop) == (S.WORKING, "B3", d(97))
    assert record_of(after, chain) == chain[0], "once it is known, its own record says where it stands"


def test_what_took_the_place_of_an_order_and_was_cancelled_ended_so_on_the_terms_that_it_had() -> None:
    """A later replace of which nothing was written made it larger: taken for the one we know of, it would be filled."""
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(replace_id=ReplaceId.CHANGES), lambda change, now: None)
    stop = terms(1, type=OrderType.STOP, side=Side.SELL)
    doubtful = order("o", S.IN_DOUBT_REPLACE, role=Role.STOP, of=stop, wanted=changed(stop, quantity=d(2)))
    book.load(doubtful)
    left = terms(3, type=OrderType.MARKET, side=Side.SELL)
    before = BrokerOrderId(str(doubtful.broker_id))
    last = report(doubtful, B.CANCELLED, 2, terms=left, broker_id=BrokerOrderId("B1"), replaces=before)
    known = book.report(doubtful, last, Evidence.QUERY, 1)
    known = book.execution(known, execution(known, 1, 2, broker_id=BrokerOrderId("B1")), 2)
    known = book.report(known, last, Evidence.QUERY, 3)
    assert (known.state, known.filled, known.terms.quantity) == (S.CANCELLED, d(2), d(3))


def test_the_last_replace_counts_though_the_broker_has_forgotten_those_before_it() -> None:
    """Else the doubt never ends: the record names an order before it that nobody knows."""
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(replace_id=ReplaceId.CHANGES), lambda change, now: None)
    stop = terms(type=OrderType.STOP, side=Side.SELL)
    doubt = Doubt(since=90_000, sent=60_000)
    doubtful = order("o", S.IN_DOUBT_REPLACE, role=Role.STOP, of=stop, wanted=changed(stop, stop=d(97)), doubt=doubt)
    book.load(doubtful)
    last = changed(_replaced(doubtful, 3, B.WORKING, 97, "B2"), client_id=doubtful.client_id, submitted=61_000)
    found = record_of(doubtful, [last])
    assert found is not None
    after = book.report(doubtful, found, Evidence.QUERY, 1)
    assert (after.state, after.broker_id, after.terms.stop) == (S.WORKING, "B3", d(97))
    older = changed(last, submitted=50_000)  # of before our replace: an old picture of what we know to be replaced
    assert record_of(doubtful, [older]) == older
    assert record_of(changed(doubtful, state=S.WORKING, doubt=None), [last]) == last


def test_records_that_replace_each_other_in_a_ring_end_the_search() -> None:
    lost = order("o", S.IN_DOUBT_REPLACE)
    ring = [_replaced(lost, 1, B.WORKING, 99, "B-o"), _replaced(lost, 0, B.WORKING, 98, "B1")]
    ring[1] = changed(ring[1], broker_id=BrokerOrderId("B-o"))
    found = record_of(lost, ring)
    assert found is not None
    assert found.replaces == "B-o"

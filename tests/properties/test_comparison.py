"""Belief against the broker's list: every difference is named, and after it is corrected there is none."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import BrokerOrder, BrokerStatus, Capabilities
from engine.domain.ids import BrokerOrderId, ClientOrderId, Symbol
from engine.domain.order_book import OrderBook
from engine.domain.order_lifecycle import Evidence
from engine.domain.orders import LIVE_AT_BROKER, Order, OrderState, OrderType, Role, Side, Terms
from engine.reconciliation.compare import (
    Absent,
    Agrees,
    DuplicateOrder,
    OrderVerdict,
    PositionDiffers,
    Seen,
    Stranger,
    TermsDiffer,
    compare_orders,
    compare_position,
    terms_difference,
    union_of_symbols,
)
from tests.unit.engine.samples import ACCOUNT, SESSION, SYMBOL, order, report, terms

S, B = OrderState, BrokerStatus
OPEN = [s for s in S if s in LIVE_AT_BROKER or s in (S.SUBMITTING, S.IN_DOUBT_SUBMIT, S.LOST)]

some_terms = st.builds(
    terms,
    st.integers(3, 5),
    st.sampled_from(Side),
    st.sampled_from(OrderType),
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Order], list[BrokerOrder]]:
    """Our open orders, and a broker's list that has them, has them changed, lacks them, doubles them, or has more."""
    ours: list[Order] = []
    theirs: list[BrokerOrder] = []
    for number in range(draw(st.integers(0, 4))):
        state = draw(st.sampled_from(OPEN))
        of = draw(some_terms)
        mine = order(
            f"o{number}", state, of=of, role=draw(st.sampled_from(Role)), filled=1 if state is S.WORKING else 0
        )
        if draw(st.booleans()):
            mine = changed(mine, parent=ClientOrderId("p"))
        if state in (S.PENDING_REPLACE, S.IN_DOUBT_REPLACE):
            mine = changed(mine, wanted=draw(some_terms))
        ours.append(mine)
        match draw(st.sampled_from(["same", "differs", "absent", "double", "no client id"])):
            case "same":
                theirs.append(report(mine, B.WORKING, mine.filled))
            case "differs":
                theirs.append(report(mine, B.WORKING, mine.filled, terms=draw(some_terms)))
            case "double":
                theirs.append(report(mine, B.WORKING, mine.filled))
                theirs.append(report(mine, B.WORKING, mine.filled, broker_id=BrokerOrderId(f"C{number}")))
            case "no client id":
                theirs.append(report(mine, B.WORKING, mine.filled, client_id=None))
            case _:
                pass
    for number in range(draw(st.integers(0, 2))):
        foreign = order(f"f{number}", S.WORKING, of=draw(some_terms))
        theirs.append(report(foreign, B.WORKING))
    return ours, draw(st.permutations(theirs))


def corrected(book: OrderBook, verdicts: tuple[OrderVerdict, ...]) -> None:
    """What a reconciliation does with verdicts that repeated."""
    for verdict in verdicts:
        match verdict:
            case Seen(order=mine, record=record):
                book.report(mine, record, Evidence.QUERY, 5)
            case TermsDiffer(order=mine, record=record):
                book.put(lifecycle.adjusted(mine, 5, record.terms), "terms adopted", 5)
            case Absent(order=mine):
                book.put(lifecycle.gone(mine, 5, "twice absent"), "gone", 5)
            case DuplicateOrder() | Stranger():
                pass


@settings(max_examples=300)
@given(world=worlds())
def test_each_order_gets_one_verdict_and_each_record_is_accounted_for(
    world: tuple[list[Order], list[BrokerOrder]],
) -> None:
    ours, theirs = world
    verdicts = compare_orders(ours, theirs)
    named: list[ClientOrderId] = []
    records: list[BrokerOrderId] = []
    for verdict in verdicts:
        match verdict:
            case Seen(order=mine, record=record) | TermsDiffer(order=mine, record=record):
                named.append(mine.client_id)
                records.append(record.broker_id)
            case Absent(order=mine):
                named.append(mine.client_id)
                assert mine.state in LIVE_AT_BROKER
            case DuplicateOrder(client_id=client_id, records=several):
                named.append(client_id)
                records += [r.broker_id for r in several]
            case Stranger(record=record):
                records.append(record.broker_id)
    assert sorted(records) == sorted(r.broker_id for r in theirs)
    assert len(named) == len(set(named))
    unnamed = [o for o in ours if o.client_id not in named]
    assert all(o.state in (S.SUBMITTING, S.IN_DOUBT_SUBMIT, S.LOST) for o in unnamed), "the doubt loop asks about these"


@settings(max_examples=300)
@given(world=worlds())
def test_a_second_comparison_after_the_first_was_applied_finds_nothing(
    world: tuple[list[Order], list[BrokerOrder]],
) -> None:
    ours, theirs = world
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(), lambda change, now: None)
    for mine in ours:
        book.load(mine)
    corrected(book, compare_orders(book.open(), theirs))
    # A verdict on an order whose replace was in doubt may show other terms only now: that takes one more look.
    corrected(book, compare_orders(book.open(), theirs))
    again = compare_orders(book.open(), theirs)
    assert not [v for v in again if isinstance(v, TermsDiffer | Absent)]
    version = book.version
    corrected(book, again)
    assert book.version == version, "reconciling twice on the same broker changes memory once"


@given(memory=st.integers(-5, 5), broker=st.integers(-5, 5))
def test_a_position_agrees_or_differs_by_what_has_to_repeat(memory: int, broker: int) -> None:
    verdict = compare_position(Decimal(memory), Decimal(broker), Decimal(100))
    match verdict:
        case Agrees(quantity=quantity):
            assert quantity == memory == broker
        case PositionDiffers():
            assert memory != broker
            assert memory + verdict.difference == broker
            assert verdict.reverses is ((memory > 0 > broker) or (memory < 0 < broker))
            assert isinstance(compare_position(verdict.broker, Decimal(broker), None), Agrees)


@given(one=some_terms, other=some_terms)
def test_terms_differ_exactly_when_something_is_named(one: Terms, other: Terms) -> None:
    mine = order(state=S.WORKING, of=one)
    assert bool(terms_difference(mine, other)) is (not lifecycle.same_terms(one, other))
    leg = changed(mine, parent=ClientOrderId("p"))
    assert "quantity" not in terms_difference(leg, other), "the broker sizes a leg to its parent's fills"


def test_every_contract_that_either_side_names_is_compared() -> None:
    es, nq, cl = Symbol("ES"), Symbol("NQ"), Symbol("CL")
    assert union_of_symbols([es, nq], [nq, cl]) == (es, nq, cl)

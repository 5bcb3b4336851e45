"""Any order, loss of order and repetition of the broker's facts leads to the same order, position and state."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace as changed

from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import BrokerFill, BrokerOrder, BrokerStatus, Capabilities, FillsKind
from engine.domain.ids import BrokerOrderId
from engine.domain.order_book import Change, OrderBook
from engine.domain.order_lifecycle import Evidence
from engine.domain.orders import IN_DOUBT, TERMINAL, ZERO, Order, OrderState, Side
from engine.domain.positions import FLAT, Position, after_fill
from engine.errors import IllegalCommand
from tests.unit.engine.samples import ACCOUNT, SESSION, SYMBOL, execution, order, report, terms

S, B = OrderState, BrokerStatus
Fact = BrokerOrder | BrokerFill
ENDS = {B.FILLED: S.FILLED, B.CANCELLED: S.CANCELLED, B.EXPIRED: S.EXPIRED}


@st.composite
def lives(draw: st.DrawFn) -> tuple[Order, list[Fact], list[BrokerOrder], BrokerStatus | None]:
    """An order of 1 to 5, its executions, the records that a broker might send of it, and how it ends."""
    total = draw(st.integers(1, 5))
    subject = order(state=S.SUBMITTING, sent=1, of=terms(total, draw(st.sampled_from(Side))))
    parts: list[int] = []
    while sum(parts) < total and draw(st.booleans()):
        parts.append(draw(st.integers(1, total - sum(parts))))
    filled = sum(parts)
    end: BrokerStatus | None = draw(st.sampled_from([B.CANCELLED, B.EXPIRED, None]))
    if filled == total:
        end = B.FILLED
    fills: list[Fact] = []
    records = [report(subject, B.WORKING)]
    cumulative, cost = 0, 0
    for number, part in enumerate(parts):
        price = draw(st.integers(90, 110))
        fills.append(execution(subject, number, part, price))
        cumulative, cost = cumulative + part, cost + part * price
        average = Decimal(cost) / cumulative
        records.append(report(subject, B.PARTIALLY_FILLED, cumulative, average_price=average))
    if end is not None:
        last = records[-1]
        records.append(report(subject, end, cumulative, average_price=last.average_price if cumulative else None))
    return subject, fills, records, end


def told(subject: Order, facts: list[Fact], kind: FillsKind) -> tuple[OrderBook, Order, list[Change]]:
    """A book after it was told these facts in this order."""
    changes: list[Change] = []
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(fills=kind), lambda c, now: changes.append(c))
    current = book.put(subject, "sent", 1)
    for now, fact in enumerate(facts, 2):
        before = current.filled
        if isinstance(fact, BrokerFill):
            current = book.execution(current, fact, now)
        else:
            current = book.report(current, fact, Evidence.STREAM, now)
        assert current.filled >= before, "without a bust the filled quantity never falls"
        assert book.get(current.client_id) is current
        assert book.position.quantity == current.filled * current.terms.side.sign
    return book, current, changes


@pytest.mark.parametrize("kind", FillsKind)
@given(life=lives(), seed=st.integers(0, 2**32), copies=st.integers(1, 3))
def test_order_and_number_of_facts_do_not_matter(
    kind: FillsKind, life: tuple[Order, list[Fact], list[BrokerOrder], BrokerStatus | None], seed: int, copies: int
) -> None:
    subject, fills, records, end = life
    facts = [*records, *(fills if kind is FillsKind.EXECUTIONS else [])] * copies
    _, straight, _ = told(subject, facts, kind)
    random.Random(seed).shuffle(facts)
    book, current, changes = told(subject, facts, kind)
    quantity = sum((f.quantity for f in fills if isinstance(f, BrokerFill)), ZERO)
    assert current.filled == quantity == sum((c.fill.quantity for c in changes if c.fill is not None), ZERO)
    if end is not None:
        assert current.state is ENDS[end]
        assert book.open() == ()
    else:
        assert current.state is lifecycle.resting_state(current)
    assert (current.filled, current.state) == (straight.filled, straight.state)
    assert not current.flags - straight.flags, "a cumulative record is no late fill"
    if quantity:
        cost = sum((f.quantity * f.price for f in fills if isinstance(f, BrokerFill)), ZERO)
        assert current.average_price is not None
        assert abs(current.average_price - cost / quantity) < Decimal("1e-20")


@given(life=lives(), seed=st.integers(0, 2**32))
def test_a_bust_may_come_before_or_after_what_it_busts(
    life: tuple[Order, list[Fact], list[BrokerOrder], BrokerStatus | None], seed: int
) -> None:
    subject, fills, records, _ = life
    executions = [f for f in fills if isinstance(f, BrokerFill)]
    if not executions:
        return
    busted = executions[seed % len(executions)]
    facts: list[Fact] = [*executions, changed(busted, quantity=ZERO, revision=1), records[0]]
    random.Random(seed).shuffle(facts)
    changes: list[Change] = []
    book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(), lambda c, now: changes.append(c))
    current = book.put(subject, "sent", 1)
    for now, fact in enumerate(facts * 2, 2):
        if isinstance(fact, BrokerFill):
            current = book.execution(current, fact, now)
        else:
            current = book.report(current, fact, Evidence.STREAM, now)
    left = sum((f.quantity for f in executions), ZERO) - busted.quantity
    assert current.filled == left
    assert book.position.quantity == left * subject.terms.side.sign


@given(trades=st.lists(st.tuples(st.integers(-9, 9).filter(bool), st.integers(1, 400)), max_size=30))
def test_money_is_conserved_by_every_sequence_of_fills(trades: list[tuple[int, int]]) -> None:
    """Realised plus open profit equals what the trades paid and got, at any mark."""
    position, realised, cash = FLAT, ZERO, ZERO
    for quantity, price in trades:
        booked = after_fill(position, Decimal(quantity), Decimal(price))
        position, realised = booked.position, realised + booked.realised_points
        cash -= quantity * price
        assert (position.average_price is None) is position.is_flat
        for mark in (Decimal(1), Decimal(777)):
            assert abs(realised + position.open_points(mark) - (cash + position.quantity * mark)) < Decimal("1e-15")
    assert position.quantity == sum(q for q, _ in trades)


class LifeOfAnOrder(RuleBasedStateMachine):
    """Our commands and the broker's facts in any mixture; a model counts what was really filled."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Change] = []
        self.book = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(), lambda c, now: self.changes.append(c))
        self.known = self.book.put(order(of=terms(5)), "intent", 0)
        self.fills: dict[int, Decimal] = {}
        self.busts = 0
        self.now = 0

    def _command(self, make: object, legal: bool) -> None:
        self.now += 1
        before = self.known
        try:
            after = make(before)  # type: ignore[operator]
        except IllegalCommand:
            assert not legal
            return
        assert legal
        self._took(after)

    def _took(self, after: Order) -> None:
        was = self.known
        if was.state in TERMINAL:
            assert after.state is was.state, "an end never reopens and never gets another name"
        self.known = self.book.put(after, "event", self.now)

    @rule()
    def send(self) -> None:
        legal = self.known.state is S.SUBMITTING and self.known.sent is None
        self._command(lambda o: lifecycle.sent(o, self.now), legal)

    @rule()
    def ask_for_a_cancel(self) -> None:
        legal = self.known.broker_id is not None and self.known.state in (
            S.WORKING,
            S.PARTIALLY_FILLED,
            S.IN_DOUBT_CANCEL,
        )
        self._command(lambda o: lifecycle.cancel_asked(o, self.now), legal)

    @rule(quantity=st.integers(1, 8))
    def ask_for_a_replace(self, quantity: int) -> None:
        legal = (
            self.known.broker_id is not None
            and self.known.state in (S.WORKING, S.PARTIALLY_FILLED)
            and not self.known.cancel_wanted
        )
        self._command(lambda o: lifecycle.replace_asked(o, self.now, terms(quantity)), legal)

    @precondition(lambda self: self.known.state not in TERMINAL)
    @rule()
    def want_a_cancel(self) -> None:
        self._command(lambda o: lifecycle.cancel_wanted(o, self.now, "out"), True)

    @precondition(lambda self: self.known.state is S.IN_DOUBT_SUBMIT)
    @rule()
    def give_up(self) -> None:
        self._command(lambda o: lifecycle.presumed_lost(o, self.now, "absent"), True)

    @rule(
        answer=st.sampled_from(
            ["accepted", "refused", "doubted", "cancel refused", "replaced", "replace refused", "not sent", "restart"]
        )
    )
    def hear_an_answer(self, answer: str) -> None:
        self.now += 1
        o, now = self.known, self.now
        waiting = o.state in (S.SUBMITTING, S.PENDING_CANCEL, S.PENDING_REPLACE) or o.is_in_doubt
        match answer:
            case "accepted":
                after = lifecycle.accepted(o, now, o.broker_id or BrokerOrderId("B-o"))
            case "refused":
                after = lifecycle.refused(o, now, "no")
            case "doubted":
                after = lifecycle.doubted(o, now, "reset")
                assert (after.state in IN_DOUBT) is waiting
            case "cancel refused":
                after = lifecycle.cancel_refused(o, now, "no")
            case "replaced":
                after = lifecycle.replaced(o, now, BrokerOrderId("B-o"))
            case "replace refused":
                after = lifecycle.replace_refused(o, now, "no")
            case "not sent":
                after = lifecycle.not_sent(o, now, "down")
            case _:
                after = lifecycle.as_found_after_restart(o, now)
        self._took(after)

    @rule(number=st.integers(0, 6), quantity=st.integers(1, 3))
    def fill(self, number: int, quantity: int) -> None:
        self.now += 1
        state, before = self.known.state, self.known.filled
        fact = execution(self.known, number, self.fills.get(number, Decimal(quantity)))
        self.known = self.book.execution(self.known, fact, self.now)
        if number not in self.fills:
            self.fills[number] = fact.quantity
        assert self.known.filled >= before
        if state in TERMINAL:
            assert self.known.state is state

    @precondition(lambda self: self.fills)
    @rule(data=st.data())
    def bust(self, data: st.DataObject) -> None:
        self.now += 1
        number = data.draw(st.sampled_from(sorted(self.fills)))
        self.busts += 1
        fact = execution(self.known, number, 0, revision=self.busts)
        self.known = self.book.execution(self.known, fact, self.now)
        self.fills[number] = ZERO

    @rule(
        status=st.sampled_from(BrokerStatus),
        filled=st.integers(0, 8),
        evidence=st.sampled_from(Evidence),
        quantity=st.integers(1, 8),
    )
    def report(self, status: BrokerStatus, filled: int, evidence: Evidence, quantity: int) -> None:
        self.now += 1
        was = self.known
        fact = report(was, status, filled, terms=terms(quantity))
        self.known = self.book.report(was, fact, evidence, self.now)
        assert self.known.filled == was.filled, "on a broker with executions only an execution fills"
        late = self.busts and evidence is Evidence.STREAM  # perhaps a word of before the bust
        believed = Decimal(filled) if filled >= was.filled and not late else ZERO
        assert self.known.reported == max(was.reported, believed)
        if was.state in TERMINAL:
            assert self.known.state is was.state
        if self.known.state in TERMINAL and was.state not in TERMINAL:
            assert filled == was.filled, "an end is believed only when its fills are all there"
        version = self.book.version
        assert self.book.report(self.known, fact, evidence, self.now) is self.known
        assert self.book.version == version

    @invariant()
    def filled_is_what_was_filled(self) -> None:
        assert self.known.filled == sum(self.fills.values(), ZERO)
        assert self.book.position == (Position(self.known.filled, Decimal(100)) if self.known.filled else FLAT)
        assert self.book.get(self.known.client_id) is self.known
        assert self.known.reported >= self.known.filled

    @invariant()
    def whoever_is_in_doubt_is_asked_about(self) -> None:
        if self.known.is_in_doubt or self.known.state is S.LOST:
            assert self.known.doubt is not None

    @invariant()
    def resting_states_tell_the_fills(self) -> None:
        if self.known.state in (S.WORKING, S.PARTIALLY_FILLED):
            assert (self.known.state is S.PARTIALLY_FILLED) is bool(self.known.filled)
        if self.known.state in (S.PENDING_REPLACE, S.IN_DOUBT_REPLACE):
            assert self.known.wanted is not None
        else:
            assert self.known.wanted is None

    @invariant()
    def revisions_only_grow(self) -> None:
        revisions = [c.order.revision for c in self.changes if c.order is not None]
        assert revisions == sorted(set(revisions))


TestLifeOfAnOrder = LifeOfAnOrder.TestCase
TestLifeOfAnOrder.settings = settings(max_examples=300, stateful_step_count=25)

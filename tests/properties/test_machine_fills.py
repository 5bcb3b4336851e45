"""Fills of several orders, again, corrected, busted, in any order: the book is the sum of the newest of each."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.domain.broker import BrokerFill, BrokerOrder, BrokerStatus, Capabilities, FillsKind
from engine.domain.ids import ClientOrderId
from engine.domain.order_book import Change, OrderBook
from engine.domain.order_lifecycle import Evidence
from engine.domain.orders import ZERO, OrderState, Side
from tests.unit.engine.samples import ACCOUNT, SESSION, SYMBOL, execution, order, report, terms

SIZE = 9


class Fills(RuleBasedStateMachine):
    """The model: which execution of which order, and its newest quantity and price."""

    kind = FillsKind.EXECUTIONS

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Change] = []
        self.book = OrderBook(
            SESSION, ACCOUNT, SYMBOL, Capabilities(fills=self.kind), lambda change, now: self.changes.append(change)
        )
        self.sides: dict[str, Side] = {}
        self.newest: dict[tuple[str, int], tuple[int, int, int]] = {}  # revision, quantity, price
        self.told: list[BrokerFill | BrokerOrder] = []
        self.now = 0

    def filled(self, name: str) -> int:
        return sum(quantity for (owner, _), (_, quantity, _) in self.newest.items() if owner == name)

    def hear(self, fact: BrokerFill | BrokerOrder) -> None:
        self.now += 1
        subject = self.book.get(fact.client_id) if fact.client_id is not None else None
        assert subject is not None
        if isinstance(fact, BrokerFill):
            self.book.execution(subject, fact, self.now)
        else:
            self.book.report(subject, fact, Evidence.STREAM, self.now)
        self.told.append(fact)

    @precondition(lambda self: len(self.sides) < 3)
    @rule(side=st.sampled_from(Side))
    def send(self, side: Side) -> None:
        name = f"o{len(self.sides)}"
        self.sides[name] = side
        self.book.put(order(name, OrderState.WORKING, of=terms(SIZE, side)), "sent", self.now)

    @precondition(lambda self: self.sides)
    @rule(data=st.data(), quantity=st.integers(1, 4), price=st.integers(90, 110))
    def fill(self, data: st.DataObject, quantity: int, price: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.sides)))
        quantity = min(quantity, SIZE - self.filled(name))
        subject = self.book.get(ClientOrderId(name))
        assert subject is not None
        if not quantity:
            return
        number = sum(owner == name for owner, _ in self.newest)
        self.newest[name, number] = (0, quantity, price)
        if self.kind is FillsKind.EXECUTIONS:
            self.hear(execution(subject, number, quantity, price))
        else:
            done = self.filled(name)
            cost = sum(q * p for (owner, _), (_, q, p) in self.newest.items() if owner == name)
            status = BrokerStatus.FILLED if done == SIZE else BrokerStatus.PARTIALLY_FILLED
            self.hear(report(subject, status, done, average_price=Decimal(cost) / done))

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def tell_again(self, data: st.DataObject) -> None:
        version, position = self.book.version, self.book.position
        self.hear(data.draw(st.sampled_from(self.told)))
        assert (self.book.version, self.book.position) == (version, position)

    @precondition(lambda self: self.newest and self.kind is FillsKind.EXECUTIONS)
    @rule(data=st.data(), quantity=st.integers(0, 3), price=st.integers(90, 110), skipped=st.integers(1, 2))
    def correct(self, data: st.DataObject, quantity: int, price: int, skipped: int) -> None:
        """A newer revision; quantity zero busts. Revisions may be missed."""
        name, number = data.draw(st.sampled_from(sorted(self.newest)))
        revision, old, _ = self.newest[name, number]
        quantity = min(quantity, SIZE - self.filled(name) + old)
        subject = self.book.get(ClientOrderId(name))
        assert subject is not None
        self.newest[name, number] = (revision + skipped, quantity, price)
        self.hear(execution(subject, number, quantity, price, revision=revision + skipped))

    @invariant()
    def orders_and_position_are_the_sum(self) -> None:
        signed = 0
        for name, side in self.sides.items():
            kept = self.book.get(ClientOrderId(name))
            assert kept is not None
            done = self.filled(name)
            assert kept.filled == done
            signed += done * side.sign
            parts = [(q, p) for (owner, _), (_, q, p) in self.newest.items() if owner == name and q]
            if parts:
                assert kept.average_price is not None
                assert abs(kept.average_price - Decimal(sum(q * p for q, p in parts)) / done) < Decimal("1e-15")
        assert self.book.position.quantity == signed

    @invariant()
    def what_was_told_adds_up_too(self) -> None:
        """Whoever only hears the changes comes to the same: the newest revision of each key."""
        newest = {change.fill.key: change.fill for change in self.changes if change.fill is not None}
        assert sum((fill.signed for fill in newest.values()), ZERO) == self.book.position.quantity


class CumulativeFills(Fills):
    """The same where the broker tells cumulative quantities."""

    kind = FillsKind.CUMULATIVE


TestFills = Fills.TestCase
TestFills.settings = settings(max_examples=120, stateful_step_count=25)
TestCumulativeFills = CumulativeFills.TestCase
TestCumulativeFills.settings = settings(max_examples=80, stateful_step_count=25)

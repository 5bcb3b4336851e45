"""A broker that does what it likes between two looks: after a reconciliation, another one finds nothing."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from msgspec.structs import replace as changed

from engine.domain.broker import BrokerOrder, BrokerStatus, Capabilities
from engine.domain.ids import BrokerOrderId, ClientOrderId
from engine.domain.order_book import OrderBook
from engine.domain.orders import OrderState, OrderType, Side
from engine.reconciliation.compare import Absent, Agrees, PositionDiffers, TermsDiffer, compare_orders, compare_position
from tests.properties.test_comparison import corrected
from tests.unit.engine.samples import ACCOUNT, SESSION, SYMBOL, execution, order, report, terms

sides = st.sampled_from(Side)


class TwoBooks(RuleBasedStateMachine):
    """Ours, and a dictionary of what rests at the broker with its position as a whole number."""

    def __init__(self) -> None:
        super().__init__()
        self.ours = OrderBook(SESSION, ACCOUNT, SYMBOL, Capabilities(), lambda change, now: None)
        self.theirs: dict[str, BrokerOrder] = {}
        self.held = 0
        self.made = 0
        self.now = 0

    def _any(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.theirs)))

    @precondition(lambda self: self.made < 5)
    @rule(side=sides, size=st.integers(2, 5), known=st.booleans())
    def place(self, side: Side, size: int, known: bool) -> None:
        """One of ours that both know of, or somebody else's."""
        self.made += 1
        name = f"o{self.made}"
        mine = order(name, OrderState.WORKING, of=terms(size, side, OrderType.LIMIT))
        if known:
            self.ours.put(mine, "sent", self.now)
        self.theirs[name] = report(mine, BrokerStatus.WORKING, client_id=mine.client_id if known else None)

    @precondition(lambda self: self.theirs)
    @rule(data=st.data(), heard=st.booleans())
    def fill_one(self, data: st.DataObject, heard: bool) -> None:
        """An execution of one unit; if nobody hears of it, only the position tells."""
        name = self._any(data)
        record = self.theirs[name]
        filled = record.filled + 1
        self.held += record.terms.side.sign
        mine = self.ours.get(ClientOrderId(name))
        if heard and mine is not None and mine.is_open:
            self.now += 1
            self.ours.execution(mine, execution(mine, 100 * self.made + int(filled), 1, at=self.now), self.now)
        if filled == record.terms.quantity:
            del self.theirs[name]
        else:
            self.theirs[name] = changed(record, filled=filled, status=BrokerStatus.PARTIALLY_FILLED)

    @precondition(lambda self: self.theirs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        del self.theirs[self._any(data)]

    @precondition(lambda self: self.theirs)
    @rule(data=st.data(), price=st.integers(90, 110), more=st.integers(0, 2))
    def change_terms(self, data: st.DataObject, price: int, more: int) -> None:
        name = self._any(data)
        record = self.theirs[name]
        of = changed(record.terms, limit=Decimal(price), quantity=record.terms.quantity + more)
        self.theirs[name] = changed(record, terms=of)

    @rule(by=st.integers(-3, 3))
    def margin_desk(self, by: int) -> None:
        self.held += by

    @precondition(lambda self: self.theirs)
    @rule(data=st.data())
    def double(self, data: st.DataObject) -> None:
        name = self._any(data)
        if self.theirs[name].client_id is not None and f"{name}'" not in self.theirs:
            self.theirs[f"{name}'"] = changed(self.theirs[name], broker_id=BrokerOrderId(f"again-{name}"))

    @rule(order_of=st.randoms(use_true_random=False))
    def reconcile(self, order_of: object) -> None:
        """Once is enough; the order in which the broker lists its rows says nothing."""
        self.now += 1
        rows = [self.theirs[name] for name in sorted(self.theirs)]
        order_of.shuffle(rows)  # type: ignore[attr-defined]
        corrected(self.ours, compare_orders(self.ours.open(), rows))
        verdict = compare_position(self.ours.position.quantity, Decimal(self.held), Decimal(100) if self.held else None)
        if isinstance(verdict, PositionDiffers):
            self.ours.adopt_position(verdict.broker, verdict.average, "test", self.now)
        assert self.ours.position.quantity == self.held
        again = compare_orders(self.ours.open(), rows)
        assert not [v for v in again if isinstance(v, TermsDiffer | Absent)]
        version = self.ours.version
        corrected(self.ours, again)
        assert self.ours.version == version, "a second look changes nothing"
        assert isinstance(compare_position(self.ours.position.quantity, Decimal(self.held), None), Agrees)
        doubled = {row.client_id for row in rows if sum(r.client_id == row.client_id for r in rows) > 1}
        for mine in self.ours.open():
            row = self.theirs.get(mine.client_id)
            if mine.client_id not in doubled and row is not None and mine.filled >= row.filled:
                assert (mine.terms.limit, mine.terms.quantity) == (row.terms.limit, row.terms.quantity)


TestTwoBooks = TwoBooks.TestCase
TestTwoBooks.settings = settings(max_examples=150, stateful_step_count=25)

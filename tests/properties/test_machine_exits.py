"""Entries, exits, stops, fills and cancels in any order: whatever fills, exits never take a position past flat."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace as changed

from engine.domain.broker import Capabilities, Enforcer
from engine.domain.order_book import closable
from engine.domain.orders import Order, OrderState, OrderType, Role, Side
from engine.domain.positions import FLAT, Position
from engine.outbound.exits import Wait, excess_exits, plan_market_exit
from tests.properties.test_exits import carried_out
from tests.unit.engine.samples import order, terms


class Exits(RuleBasedStateMachine):
    """The model is a whole number, and for every own exit what is left of it."""

    convert = True

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.orders: list[Order] = []
        self.made = 0
        self.asked = 0  # of the present position, by exits at market
        self.manners = Capabilities(one_cancels_other=Enforcer.OURS, replace_may_change_type=self.convert)

    @property
    def position(self) -> Position:
        return Position(Decimal(self.held), Decimal(100)) if self.held else FLAT

    def left(self) -> int:
        return sum(int(o.terms.quantity - o.filled) for o in self.orders)

    @precondition(lambda self: not self.orders)
    @rule(size=st.integers(-5, 5).filter(bool), covered=st.booleans())
    def enter(self, size: int, covered: bool) -> None:
        """A fill; with a stop for all of it, or without."""
        if self.held * size < 0:
            return
        self.held += size
        if covered:
            self.made += 1
            of = terms(abs(self.held), self.closing, OrderType.STOP)
            self.orders.append(order(f"s{self.made}", OrderState.WORKING, role=Role.STOP, of=of))

    @property
    def closing(self) -> Side:
        return Side.SELL if self.held > 0 else Side.BUY

    @precondition(lambda self: self.held)
    @rule(wanted=st.none() | st.integers(1, 6))
    def leave(self, wanted: int | None) -> None:
        before = self.left()
        size = None if wanted is None else Decimal(wanted)
        plan = plan_market_exit(self.position, tuple(self.orders), size, self.manners)
        after = carried_out(plan, tuple(self.orders), self.closing)
        self.made += 1
        self.orders = [changed(o, client_id=f"x{self.made}") if o.client_id == "new" else o for o in after]
        at_market = sum(int(o.remaining) for o in self.orders if o.terms.type is OrderType.MARKET)
        if wanted is None and not isinstance(plan, Wait):
            assert at_market == abs(self.held), "everything was asked to leave"
        assert isinstance(plan, Wait) or before or at_market, "nothing holds it, so something leaves"

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), size=st.integers(1, 5))
    def fill(self, data: st.DataObject, size: int) -> None:
        """One of the exits fills, in part or whole."""
        number = data.draw(st.integers(0, len(self.orders) - 1))
        chosen = self.orders[number]
        size = min(size, int(chosen.terms.quantity - chosen.filled))
        self.held += size * chosen.terms.side.sign
        filled = chosen.filled + size
        self.orders.pop(number)
        if filled < chosen.terms.quantity:
            state = OrderState.PARTIALLY_FILLED
            self.orders.insert(number, changed(chosen, filled=filled, reported=filled, state=state))

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def cancelled(self, data: st.DataObject) -> None:
        """The broker takes one away."""
        self.orders.pop(data.draw(st.integers(0, len(self.orders) - 1)))

    @precondition(lambda self: abs(self.held) > 1)
    @rule()
    def margin_desk(self) -> None:
        """The position shrinks by one behind our back: the excess is named, goes, and no more than it."""
        self.held -= 1 if self.held > 0 else -1
        before = self.left()
        excess, gone = excess_exits(tuple(self.orders), self.position)
        assert excess == max(0, before - abs(self.held))
        assert bool(gone) is bool(excess)
        self.orders = [o for o in self.orders if o not in gone]

    @invariant()
    def filling_all_never_goes_past_flat(self) -> None:
        for one in self.orders:
            assert one.terms.side.sign * self.held < 0, "an exit on the wrong side would open"
        assert self.left() <= abs(self.held)

    @invariant()
    def closable_is_what_is_free(self) -> None:
        assert closable(tuple(self.orders), self.position) == abs(self.held) - self.left()
        excess, gone = excess_exits(tuple(self.orders), self.position)
        assert not excess
        assert gone == ()


class ExitsWithoutConversion(Exits):
    """The same where a stop cannot become a market order."""

    convert = False


TestExits = Exits.TestCase
TestExits.settings = settings(max_examples=150, stateful_step_count=25)
TestExitsWithoutConversion = ExitsWithoutConversion.TestCase
TestExitsWithoutConversion.settings = settings(max_examples=100, stateful_step_count=25)

"""Reports, reservations, deaths and equity in any order: no room is given twice, and no total while one is missing."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.aggregation.portfolio_server import PortfolioServer
from engine.clock import TapeClock
from engine.domain.broker import Balance
from engine.domain.ids import ClientOrderId, SessionId
from engine.domain.risk import Approved, CompleteHeat, Contribution, PortfolioSettings, Stance, StanceNotice
from tests.unit.engine.samples import ACCOUNT, SYMBOL

MEMBERS = [SessionId(name) for name in "abc"]
EQUITY = 10_000  # a percent is a hundred
BLOCK = 800
RELEASED = 750
members = st.sampled_from(MEMBERS)
money = st.integers(0, 8).map(lambda steps: steps * 50)


class LifeOfAPortfolio(RuleBasedStateMachine):
    """The model knows what each member last said, what was approved and not yet said, and who lives."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = TapeClock(1_000_000)
        self.told: dict[SessionId, StanceNotice] = {}
        self.server = PortfolioServer(
            PortfolioSettings(equity_max_age_ms=10**12, dead_after_ms=10**12),
            (ACCOUNT,),
            self.clock,
            self.told.__setitem__,
        )
        self.said: dict[SessionId, int | None] = dict.fromkeys(MEMBERS)
        self.names: dict[SessionId, frozenset[str]] = dict.fromkeys(MEMBERS, frozenset())
        self.dead: set[SessionId] = set()
        self.promised: dict[str, tuple[SessionId, int]] = {}
        self.has_equity = False
        self.was_full = False
        self.orders = 0
        for member in MEMBERS:
            self.server.expect(member, None)

    # -- the model ------------------------------------------------------------------------------------------

    def at_risk(self) -> int:
        return sum(value or 0 for value in self.said.values()) + sum(size for _, size in self.promised.values())

    def is_whole(self) -> bool:
        return self.has_equity and not self.dead and None not in self.said.values()

    def note(self) -> None:
        """A block holds from its threshold until half a percent under it, as far as a total was ever seen."""
        if self.is_whole():
            self.was_full = self.at_risk() >= (RELEASED if self.was_full else BLOCK)

    # -- what happens ---------------------------------------------------------------------------------------

    @initialize(values=st.none() | st.tuples(money, money, money))
    def begin(self, values: tuple[int, int, int] | None) -> None:
        """As the engine starts, with nobody heard, or some time later."""
        if values is not None:
            self.money_is_told()
            for member, value in zip(MEMBERS, values, strict=True):
                self._report(member, value // 2, [])

    @rule()
    def money_is_told(self) -> None:
        self.server.equity(ACCOUNT, Balance(equity=Decimal(EQUITY), cash=Decimal(EQUITY)), self.clock.now())
        self.has_equity = True
        self.note()

    @rule(member=members, value=money, data=st.data())
    def report(self, member: SessionId, value: int, data: st.DataObject) -> None:
        """A member declares its risk; it names some of the entries that were promised room."""
        mine = sorted(order for order, (owner, _) in self.promised.items() if owner is member)
        self._report(member, value, data.draw(st.lists(st.sampled_from(mine), unique=True) if mine else st.just([])))

    def _report(self, member: SessionId, value: int, named: list[str]) -> None:
        value += sum(self.promised[order][1] for order in named)
        self.server.report(
            Contribution(
                session=member,
                symbol=SYMBOL,
                group=None,
                at=self.clock.now(),
                position_risk=Decimal(value),
                entries=frozenset(ClientOrderId(order) for order in named),
            )
        )
        if member not in self.dead and member in self.said:
            self.said[member], self.names[member] = value, frozenset(named)
            for order in named:
                del self.promised[order]
            self.note()

    @rule(member=members, value=money)
    def ask_for_room(self, member: SessionId, value: int) -> None:
        self.orders += 1
        order = f"o{self.orders}"
        may = (
            member in self.said
            and member not in self.dead
            and self.is_whole()
            and not self.was_full
            and self.at_risk() + value < BLOCK
        )
        answer = self.server.review(member, ClientOrderId(order), Decimal(value))
        assert isinstance(answer, Approved) is may, answer
        if may:
            self.promised[order] = (member, value)
            self.note()
            assert self.at_risk() < BLOCK, "approvals alone never fill the portfolio"

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(sorted(self.promised) or ["nobody's"]))
        self.server.cancel(ClientOrderId(order))
        self.promised.pop(order, None)
        self.note()

    @rule(member=members, what=st.sampled_from(["dies", "lives again", "lives again", "stands down"]))
    def change(self, member: SessionId, what: str) -> None:
        if what == "dies":
            self.server.died(member, "it raised")
            if member in self.said:
                self.dead.add(member)
        elif what == "lives again":
            self.server.expect(member, None)
            self.dead.discard(member)
            self.said[member], self.names[member] = None, frozenset()
        else:
            self.server.stood_down(member)
            self.dead.discard(member)
            self.said.pop(member, None)
            self.promised = {order: kept for order, kept in self.promised.items() if kept[0] is not member}
            self.note()

    # -- what holds -----------------------------------------------------------------------------------------

    @invariant()
    def the_total_is_a_total_or_a_floor(self) -> None:
        heat = self.server.heat()
        assert isinstance(heat, CompleteHeat) is self.is_whole()
        assert heat.money == self.at_risk()
        if isinstance(heat, CompleteHeat):
            assert heat.percent == Decimal(self.at_risk()) / 100

    @invariant()
    def stances_say_so(self) -> None:
        for member in self.said:
            notice = self.server.stance(member)
            assert notice is not None
            assert notice == self.told[member]
            blocked = not self.is_whole() or self.was_full
            assert (notice.stance is Stance.BLOCK) is blocked
            if not blocked:
                assert (notice.stance is Stance.WARN) is (self.at_risk() >= 600)

    @invariant()
    def an_approval_stands_until_it_is_reported_or_given_back(self) -> None:
        if self.is_whole() and not self.was_full:
            for order, (owner, _) in self.promised.items():
                assert self.server.still_open(owner, ClientOrderId(order)) is None
            for owner, named in self.names.items():
                if owner in self.said:
                    assert all(self.server.still_open(owner, ClientOrderId(order)) is None for order in named)
            alive = next(iter(self.said), None)
            if alive is not None:
                assert self.server.still_open(alive, ClientOrderId("never asked")) is not None


TestLifeOfAPortfolio = LifeOfAPortfolio.TestCase
TestLifeOfAPortfolio.settings = settings(max_examples=150, stateful_step_count=30)

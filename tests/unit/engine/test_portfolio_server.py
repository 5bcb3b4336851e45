"""The total, what keeps it from being one, and what follows: stances, blocks, reservations."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.aggregation.portfolio_server import PortfolioServer
from engine.clock import TapeClock
from engine.domain.broker import Balance
from engine.domain.ids import AccountId, ClientOrderId, SessionId
from engine.domain.risk import (
    Approved,
    CompleteHeat,
    Contribution,
    Denied,
    GroupLimits,
    IncompleteHeat,
    PortfolioSettings,
    Stance,
    StanceNotice,
)
from tests.unit.engine.samples import ACCOUNT, SYMBOL, d

A, B = SessionId("a"), SessionId("b")
START = 1_000_000


class Portfolio:
    """A server on a tape, with two reporting members and 100,000 of equity unless told otherwise."""

    def __init__(self, settings: PortfolioSettings | None = None, *, ready: bool = True) -> None:
        self.clock = TapeClock(START)
        self.told: list[tuple[SessionId, StanceNotice]] = []
        self.server = PortfolioServer(
            settings or PortfolioSettings(), (ACCOUNT,), self.clock, lambda s, notice: self.told.append((s, notice))
        )
        for session in (A, B):
            self.server.expect(session, "g")
        if ready:
            self.equity(100_000)
            self.report(A, 0)
            self.report(B, 0)

    def equity(self, value: float, account: AccountId = ACCOUNT, currency: str = "USD") -> None:
        money = Decimal(value)
        self.server.equity(account, Balance(equity=money, cash=money, currency=currency), self.clock.now())

    def report(self, session: SessionId, money: float, *entries: str) -> None:
        self.server.report(
            Contribution(
                session=session,
                symbol=SYMBOL,
                group="g",
                at=self.clock.now(),
                position_risk=Decimal(money),
                entries=frozenset(ClientOrderId(e) for e in entries),
            )
        )

    def review(self, order: str, money: float, session: SessionId = A) -> Approved | Denied:
        return self.server.review(session, ClientOrderId(order), Decimal(money))

    def stance(self, session: SessionId = A) -> Stance:
        notice = self.server.stance(session)
        assert notice is not None
        return notice.stance

    def percent(self) -> Decimal:
        heat = self.server.heat()
        assert isinstance(heat, CompleteHeat)
        return heat.percent

    def missing(self) -> str:
        heat = self.server.heat()
        assert isinstance(heat, IncompleteHeat)
        return " / ".join(heat.missing)


def test_a_new_server_holds_no_heat_and_waits_for_every_member() -> None:
    desk = Portfolio(ready=False)
    heat = desk.server.heat()
    assert isinstance(heat, IncompleteHeat)
    assert (heat.at_least, heat.reporting, heat.expected) == (None, 0, 2)
    assert desk.stance() is Stance.BLOCK
    desk.equity(100_000)
    desk.report(A, 1_000)
    assert desk.missing() == "b has not reported"
    assert isinstance(desk.review("o", 1), Denied)
    desk.report(B, 500)
    assert desk.percent() == d("1.5")
    assert desk.stance() is Stance.OPEN


async def test_a_member_that_is_silent_for_45_seconds_leaves_a_floor_and_no_total() -> None:
    desk = Portfolio()
    desk.report(B, 1_000)
    await desk.clock.advance(START + 30_000)
    desk.report(A, 0)
    await desk.clock.advance(START + 45_000)
    assert desk.percent() == 1
    await desk.clock.advance(START + 45_001)
    heat = desk.server.heat()
    assert isinstance(heat, IncompleteHeat)
    assert (heat.at_least, heat.reporting, heat.expected) == (d(1), 1, 2)
    assert desk.missing() == "b silent for 45 s"
    desk.server.check()
    assert desk.stance() is Stance.BLOCK
    assert isinstance(desk.review("o", 1), Denied)


def test_a_dead_member_blocks_until_it_reports_again_or_is_stood_down() -> None:
    desk = Portfolio()
    desk.server.died(B, "it raised")
    assert desk.missing() == "b died: it raised"
    desk.report(B, 0)
    assert desk.missing() == "b died: it raised", "a dead session's word does not count"
    assert isinstance(desk.review("o", 1, B), Denied)
    desk.server.expect(B, "g")
    assert desk.missing() == "b has not reported"
    desk.server.died(B, "again")
    desk.server.stood_down(B)
    assert desk.percent() == 0
    assert desk.server.members() == (A,)
    assert isinstance(desk.review("o", 1, B), Denied)


@pytest.mark.parametrize(("value", "words"), [(0, "is 0"), (-5, "is -5")])
def test_equity_that_is_not_positive_makes_heat_incomplete(value: int, words: str) -> None:
    desk = Portfolio(ready=False)
    desk.report(A, 0)
    desk.report(B, 0)
    assert desk.missing() == "equity of A not known yet"
    desk.equity(value)
    assert words in desk.missing()
    desk.equity(100_000)
    assert desk.percent() == 0


async def test_old_equity_and_a_foreign_currency_make_heat_incomplete() -> None:
    desk = Portfolio()
    await desk.clock.advance(START + 120_001)
    desk.report(A, 0)
    desk.report(B, 0)
    assert desk.missing() == "equity of A is 120 s old"
    desk.equity(100_000, currency="EUR")
    assert "is in EUR, the portfolio in USD" in desk.missing()


def test_a_jump_of_equity_counts_only_once_it_repeats() -> None:
    desk = Portfolio()
    desk.equity(120_000)
    desk.equity(145_000)
    assert "jumped from 120000 to 145000, not confirmed" in desk.missing()
    desk.equity(170_000)
    assert "to 170000, not confirmed" in desk.missing(), "another number is another jump"
    desk.equity(171_000)
    desk.report(A, 1_710)
    assert desk.percent() == 1
    desk.equity(100_000)
    assert "not confirmed" in desk.missing()
    desk.equity(171_500)
    assert isinstance(desk.server.heat(), CompleteHeat), "back to where it was"


def test_only_the_portfolios_own_accounts_count_as_equity() -> None:
    desk = Portfolio()
    desk.equity(900_000, AccountId("someone else's"))
    desk.report(A, 1_000)
    assert desk.percent() == 1


def test_what_nobody_owns_counts_and_without_a_worst_case_there_is_no_total() -> None:
    desk = Portfolio()
    foreign = Contribution(session=SessionId("-"), symbol=SYMBOL, group=None, at=START, unowned=d(2_000))
    desk.server.unowned(ACCOUNT, SYMBOL, foreign, known=True)
    assert desk.percent() == 2
    desk.server.unowned(ACCOUNT, SYMBOL, None, known=False)
    assert "has no worst case" in desk.missing()
    desk.server.unowned(ACCOUNT, SYMBOL, None, known=True)
    assert desk.percent() == 0


def test_check_and_reservation_are_one_step() -> None:
    desk = Portfolio()
    first = desk.review("o1", 5_000)
    assert isinstance(first, Approved)
    assert (first.before, first.after) == (d(0), d(5))
    second = desk.review("o2", 3_000, B)
    assert isinstance(second, Denied)
    assert second.reason == "heat 5.00 % would become 8.00 %, entries are blocked from 8.00 %"
    assert isinstance(desk.review("o2", 2_999, B), Approved)
    assert desk.percent() == d("7.999")


def test_a_reservation_yields_only_to_a_report_that_names_its_order() -> None:
    desk = Portfolio()
    desk.review("o1", 5_000)
    desk.report(A, 0)
    assert desk.percent() == 5
    assert desk.server.still_open(A, ClientOrderId("o1")) is None
    desk.report(A, 4_000, "o1")
    assert desk.percent() == 4
    assert desk.server.still_open(A, ClientOrderId("o1")) is None
    desk.report(A, 0)
    gone = desk.server.still_open(A, ClientOrderId("o1"))
    assert gone is not None
    assert gone.reason == "its heat reservation is gone"


def test_a_reservation_is_given_back() -> None:
    desk = Portfolio()
    desk.review("o1", 5_000)
    desk.server.cancel(ClientOrderId("o1"))
    desk.server.cancel(ClientOrderId("o1"))
    assert desk.percent() == 0
    desk.review("o2", 5_000, B)
    desk.server.stood_down(B)
    assert desk.percent() == 0


def test_the_gate_is_read_again_at_the_send() -> None:
    desk = Portfolio()
    desk.review("o1", 5_000)
    desk.server.died(B, "it raised")
    refusal = desk.server.still_open(A, ClientOrderId("o1"))
    assert refusal is not None
    assert "b died" in refusal.reason


def test_warn_block_and_release() -> None:
    desk = Portfolio()
    steps = [
        (5_999, Stance.OPEN),
        (6_000, Stance.WARN),
        (7_999, Stance.WARN),
        (8_000, Stance.BLOCK),
        (7_500, Stance.BLOCK),
        (7_499, Stance.WARN),
        (7_600, Stance.WARN),
        (5_000, Stance.OPEN),
    ]
    for money, stance in steps:
        desk.report(A, money)
        assert (money, desk.stance(A), desk.stance(B)) == (money, stance, stance)
        blocked = isinstance(desk.review("probe", 0), Denied)
        assert blocked is (stance is Stance.BLOCK)
        desk.server.cancel(ClientOrderId("probe"))


def test_stopped_entries_are_counted_while_the_block_stands() -> None:
    desk = Portfolio()
    desk.report(A, 9_000)
    desk.review("o1", 1)
    desk.review("o2", 1, B)
    view = desk.server.view(resting_entries=3)
    assert (view.stance, view.stopped_entries, view.resting_entries, view.since) == (Stance.BLOCK, 2, 3, START)
    desk.report(A, 0)
    assert (desk.server.view(0).stopped_entries, desk.server.view(0).since) == (0, None)


async def test_a_block_stands_since_the_moment_in_which_it_began() -> None:
    desk = Portfolio()
    told = []
    for at, money in ((1_000, 0), (2_000, 9_000), (3_000, 9_500), (4_000, 0), (5_000, 9_000)):
        await desk.clock.advance(START + at)
        desk.report(A, money)
        told.append(desk.server.view(0).since)
    assert told == [None, START + 2_000, START + 2_000, None, START + 5_000]


def test_a_group_blocks_its_own_members_only() -> None:
    desk = Portfolio(PortfolioSettings(groups=(GroupLimits(name="g", block=d(3)),)))
    other = SessionId("c")
    desk.server.expect(other, None)
    desk.server.report(Contribution(session=other, symbol=SYMBOL, group=None, at=START, position_risk=d(2_900)))
    denied = desk.review("o1", 3_000)
    assert isinstance(denied, Denied)
    assert denied.reason == "group g would reach 3.00 %, its block is 3.00 %"
    desk.report(A, 3_000)
    assert (desk.stance(A), desk.stance(B), desk.stance(other)) == (Stance.BLOCK, Stance.BLOCK, Stance.OPEN)
    assert isinstance(desk.review("o2", 100, other), Approved)
    desk.report(A, 2_500)
    assert desk.stance(B) is Stance.BLOCK, "released half a point under its block"
    desk.report(A, 2_499)
    assert desk.stance(B) is Stance.OPEN


def test_what_is_reserved_counts_in_its_group() -> None:
    desk = Portfolio(PortfolioSettings(groups=(GroupLimits(name="g", block=d(3)),)))
    assert isinstance(desk.review("o1", 2_000), Approved)
    denied = desk.review("o2", 1_500, B)
    assert isinstance(denied, Denied)
    assert denied.reason == "group g would reach 3.50 %, its block is 3.00 %"


def test_limits_set_live_take_effect_at_once() -> None:
    desk = Portfolio()
    desk.report(A, 4_000)
    desk.server.set_limits({"warn": d(2), "block": d(4)})
    assert desk.stance() is Stance.BLOCK
    desk.server.set_limits({"warn": d(6), "block": d(8)})
    assert desk.stance() is Stance.OPEN


def test_a_stance_is_told_once_until_it_changes() -> None:
    desk = Portfolio()
    before = len(desk.told)
    desk.report(A, 1_000)
    desk.report(A, 2_000)
    assert len(desk.told) == before
    desk.report(A, 6_500)
    assert [(s, n.stance) for s, n in desk.told[before:]] == [(A, Stance.WARN), (B, Stance.WARN)]


async def test_a_stance_keeps_its_beginning_when_only_its_reason_changes() -> None:
    desk = Portfolio()
    desk.report(A, 9_000)
    await desk.clock.advance(START + 5_000)
    desk.server.died(B, "it raised")
    blocked = desk.server.stance(A)
    assert blocked is not None
    assert (blocked.stance, blocked.since) == (Stance.BLOCK, START)
    assert blocked.reason.startswith("heat is incomplete")
    desk.server.expect(B, "g")
    desk.report(B, 0)
    desk.report(A, 0)
    opened = desk.server.stance(A)
    assert opened is not None
    assert (opened.stance, opened.since) == (Stance.OPEN, START + 5_000)


steps = st.one_of(
    st.tuples(st.just("review"), st.sampled_from([A, B]), st.integers(0, 4_000)),
    st.tuples(st.just("report"), st.sampled_from([A, B]), st.integers(0, 6_000)),
    st.tuples(st.just("taken"), st.sampled_from([A, B]), st.integers(0, 9)),
    st.tuples(st.just("cancel"), st.sampled_from([A, B]), st.integers(0, 9)),
    st.tuples(st.just("die"), st.sampled_from([A, B]), st.just(0)),
    st.tuples(st.just("expect"), st.sampled_from([A, B]), st.just(0)),
)


@given(script=st.lists(steps, max_size=40))
def test_the_total_is_the_sum_of_exactly_the_live_members_and_what_is_reserved(
    script: list[tuple[str, SessionId, int]],
) -> None:
    desk = Portfolio()
    reported: dict[SessionId, int | None] = {A: 0, B: 0}
    named: dict[SessionId, set[str]] = {A: set(), B: set()}
    reserved: dict[str, tuple[SessionId, int]] = {}
    dead: set[SessionId] = set()
    for number, (what, session, value) in enumerate(script):
        complete = not dead and None not in reported.values()
        total = sum(v or 0 for v in reported.values()) + sum(m for _, m in reserved.values())
        match what:
            case "review":
                outcome = desk.review(f"o{number}", value, session)
                if isinstance(outcome, Approved):
                    assert complete
                    assert total + value < 8_000, "no sequence of reviews reaches the block"
                    reserved[f"o{number}"] = (session, value)
            case "report":
                desk.report(session, value)
                if session not in dead:
                    reported[session] = value
                    named[session] = set()
            case "taken":
                mine = [o for o, (owner, _) in reserved.items() if owner == session]
                if mine and session not in dead:
                    desk.report(session, value, mine[0])
                    reported[session] = value
                    named[session] = {mine[0]}
                    del reserved[mine[0]]
            case "cancel":
                if reserved:
                    order = sorted(reserved)[value % len(reserved)]
                    desk.server.cancel(ClientOrderId(order))
                    del reserved[order]
            case "die":
                desk.server.died(session, "test")
                dead.add(session)
            case _:
                desk.server.expect(session, "g")
                dead.discard(session)
                reported[session] = None
                named[session] = set()
        total = sum(v or 0 for v in reported.values()) + sum(m for _, m in reserved.values())
        heat = desk.server.heat()
        assert heat.money == total
        assert isinstance(heat, CompleteHeat) is (not dead and None not in reported.values())
        if isinstance(heat, IncompleteHeat):
            assert desk.stance(A) is desk.stance(B) is Stance.BLOCK
        for session in (A, B):
            mine = [o for o, (owner, _) in reserved.items() if owner == session] + sorted(named[session])
            for order in mine:
                if desk.server.still_open(session, ClientOrderId(order)) is None:
                    assert isinstance(heat, CompleteHeat)
                    assert heat.percent < 8

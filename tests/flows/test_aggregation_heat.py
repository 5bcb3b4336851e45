"""Flow 5: the total over all sessions, who may declare what, and what happens while something is missing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from msgspec.structs import replace

from engine import commands as c
from engine.domain.broker import Balance
from engine.domain.ids import SessionId
from engine.domain.orders import OrderState, Role
from engine.domain.risk import (
    CompleteHeat,
    Contribution,
    GroupLimits,
    IncompleteHeat,
    PortfolioSettings,
    Stance,
)
from engine.snapshot import Phase
from tests.flows.acts import FailingStore, enter, finished, hold, leave, next_life, next_window, rest, working
from tests.flows.harness import ES, MINUTE, NQ, PAPER, Desk

S_ES = SessionId(f"s-{ES}")
BOTH = (ES, NQ)
# 8 contracts, 50 points to the stop, 50 USD a point: 20,000 USD of 250,000 is 8 %.


def percent(desk: Desk) -> Decimal:
    heat = desk.engine.portfolio.heat()
    assert isinstance(heat, CompleteHeat), heat
    return heat.percent


def incomplete(desk: Desk) -> IncompleteHeat:
    heat = desk.engine.portfolio.heat()
    assert isinstance(heat, IncompleteHeat), heat
    return heat


def balance(equity: str, currency: str = "USD") -> Balance:
    return Balance(equity=Decimal(equity), cash=Decimal(equity), margin_used=Decimal(0), currency=currency)


async def test_a_full_desk_denies_an_entry_with_its_number_while_flatten_works(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(symbols=BOTH).start()
    await hold(desk, ES, stop="4950", size="7")
    assert percent(desk) == 7
    desk.strategies[NQ].script.append(enter(stop="19800", quantity="1"))  # 200 points, 20 USD: 1.6 %
    await next_window(desk, NQ="20000")
    await desk.pass_(2)
    (denied,) = desk.orders(Role.ENTRY, NQ)
    assert denied.state is OrderState.DENIED
    assert denied.reason == "heat 7.00 % would become 8.60 %, entries are blocked from 8.00 %"
    assert desk.broker_position(NQ) == 0
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=S_ES))
    assert (await finished(desk, receipt.id)).ok
    assert desk.broker_position(ES) == 0


async def test_the_block_has_a_banner_with_stopped_and_resting_entries_and_a_lower_release(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(symbols=BOTH).start()
    resting = await rest(desk, NQ, "20000", limit="19900", stop="19800")  # 2 x 100 points x 20 USD: 1.6 %
    await hold(desk, ES, stop="4950", size="5")
    assert percent(desk) == Decimal("6.6")
    assert desk.snapshot().heat.stance is Stance.WARN
    # The market rises: the distance to the stop grows, and with it what can be lost.
    await next_window(desk, ES="5020")
    await desk.pass_(6)
    view = desk.snapshot().heat
    assert view.stance is Stance.BLOCK
    assert view.resting_entries == 1
    assert desk.trader(NQ).desk.current(resting).is_open, "the block leaves resting entries"
    desk.strategies[NQ].script.append(enter(stop="19900", quantity="1"))
    await next_window(desk, NQ="20000")
    await desk.pass_(2)
    view = desk.snapshot().heat
    assert view.stopped_entries == 1
    assert "8.00 %" in desk.orders(Role.ENTRY, NQ)[-1].reason
    # Back under the block but not half a point under it: still blocked.
    desk.feed.trade(ES, "5012")
    await desk.pass_(31)  # equity is asked for every 30 s
    desk.feed.trade(ES, "5012")
    await desk.pass_(6)
    assert Decimal("7.5") <= percent(desk) < 8
    assert desk.snapshot().heat.stance is Stance.BLOCK
    desk.feed.trade(ES, "5005")
    await desk.pass_(6)
    assert percent(desk) < Decimal("7.5")
    view = desk.snapshot().heat
    assert view.stance is Stance.WARN
    assert view.stopped_entries == 0
    receipt = await desk.send(lambda o: c.CancelEntries(origin=o, session=None))
    assert receipt.message.startswith("1 ")
    await desk.until(lambda: working(desk, Role.ENTRY, NQ) == [], 5)


async def test_r14_check_and_reservation_are_one_step_for_two_sessions_that_decide_on_the_same_tick(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(symbols=BOTH).start()
    # Each alone takes 5 %; both together are over the block.
    desk.strategies[ES].script.append(enter(stop="4950", quantity="5"))
    desk.strategies[NQ].script.append(enter(stop="19500", quantity="1"))
    portfolio = desk.engine.portfolio
    seen: list[Decimal] = []

    def watch() -> bool:
        seen.append(portfolio.heat().money * 100 / 250_000)
        return desk.position(ES) != 0 or desk.position(NQ) != 0

    portfolio.set_limits({"warn": Decimal(2), "block": Decimal(6)})
    start = desk.clock.now() // MINUTE * MINUTE + MINUTE
    await desk.clock.advance(start)
    desk.feed.trade(ES, "5000")
    desk.feed.trade(NQ, "20000")
    await desk.until(watch, 5)
    await desk.pass_(3)
    entries = [*desk.orders(Role.ENTRY, ES), *desk.orders(Role.ENTRY, NQ)]
    assert sorted(o.state for o in entries) == [OrderState.DENIED, OrderState.FILLED]
    assert max(seen) < 6


async def test_a_reservation_yields_only_to_a_report_that_names_its_order(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(symbols=BOTH).start()
    portfolio = desk.engine.portfolio
    order = desk.trader(ES).desk.client_id("s/any/entry/1")  # type: ignore[arg-type]
    portfolio.review(S_ES, order, Decimal(10_000))
    assert percent(desk) == 4
    desk.trader(ES).report_heat()
    desk.trader(NQ).report_heat()
    assert percent(desk) == 4, "a report that does not name the order took its reservation"
    named = Contribution(
        session=S_ES,
        symbol=ES,
        group=None,
        at=desk.clock.now(),
        pending=Decimal(12_500),
        entries=frozenset({order}),
    )
    portfolio.report(named)
    assert percent(desk) == 5, "reservation and report were both counted, or neither"


async def test_a_group_has_a_block_of_its_own(make_desk: Callable[..., Desk]) -> None:
    settings = PortfolioSettings(groups=(GroupLimits(name="us-index", block=Decimal(3)),))
    desk = await make_desk(symbols=BOTH, portfolio=settings).start()
    await hold(desk, ES, stop="4950", size="2")  # 2 %
    desk.strategies[NQ].script.append(enter(stop="19800", quantity="1"))  # 1.6 %
    await next_window(desk, NQ="20000")
    await desk.pass_(2)
    (denied,) = desk.orders(Role.ENTRY, NQ)
    assert denied.state is OrderState.DENIED
    assert denied.reason == "group us-index would reach 3.60 %, its block is 3.00 %"
    assert percent(desk) == 2


# -- incomplete ------------------------------------------------------------------------------------------


async def _no_entry_anywhere(desk: Desk, because: str) -> None:
    """NQ decides to enter and is denied; ES, which holds a position, leaves."""
    if desk.clock.now() - desk.feed.market[NQ][-1].at >= MINUTE:
        await next_window(desk, NQ="20000")
    desk.strategies[NQ].script.append(enter(stop="19900", quantity="1"))
    await next_window(desk, NQ="20000")
    await desk.pass_(2)
    denied = desk.orders(Role.ENTRY, NQ)[-1]
    assert denied.state in (OrderState.DENIED, OrderState.ABANDONED)
    assert because in denied.reason, denied.reason
    assert desk.broker_position(NQ) == 0
    assert desk.snapshot().heat.stance is Stance.BLOCK
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=S_ES))
    result = await finished(desk, receipt.id)
    assert result.ok, result.lines
    assert desk.broker_position(ES) == 0


async def test_r13_a_dead_session_makes_heat_incomplete_and_stops_its_siblings_entries(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(symbols=BOTH).start()
    await hold(desk, ES)

    def broken() -> None:
        raise RuntimeError("upkeep broke")

    desk.trader(ES).upkeep = broken  # type: ignore[method-assign]
    await desk.pass_(1.1)
    heat = incomplete(desk)
    assert (heat.reporting, heat.expected) == (1, 2)
    assert "died" in heat.missing[0]
    assert heat.at_least is not None
    assert heat.at_least > 0, "what is known stays in the floor"
    await _no_entry_anywhere(desk, "heat is incomplete")


async def test_a_session_silent_for_45_s_makes_heat_incomplete(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(symbols=BOTH).start()
    await hold(desk, ES)
    desk.trader(ES).report_heat = lambda: None  # type: ignore[method-assign]
    await desk.pass_(44)
    assert isinstance(desk.engine.portfolio.heat(), CompleteHeat)
    await desk.pass_(3)
    assert "silent" in incomplete(desk).missing[0]
    await _no_entry_anywhere(desk, "silent")


async def test_a_session_that_hangs_goes_silent_because_nobody_reports_for_it(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(symbols=BOTH).start()

    async def hang(predicate: Callable[[], bool], seconds: float) -> bool:
        await desk.clock.sleep(10_000)
        return False

    desk.trader(ES).desk.until = hang  # type: ignore[method-assign]
    await desk.pass_(50)
    assert incomplete(desk).missing[0].startswith(f"{S_ES} silent")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (balance("0"), "jumped"),
        (balance("-5"), "jumped"),
        (balance("150000"), "jumped from 250000 to 150000"),
        (balance("250000", "EUR"), "is in EUR"),
    ],
)
async def test_bad_equity_makes_heat_incomplete(make_desk: Callable[..., Desk], told: Balance, said: str) -> None:
    desk = await make_desk(symbols=BOTH).start()
    await hold(desk, ES)
    desk.engine.portfolio.equity(PAPER, told, desk.clock.now())
    assert said in incomplete(desk).missing[0]
    desk.strategies[NQ].script.append(enter(stop="19900", quantity="1"))
    desk.engine.accounts[PAPER].reconciler._on_balance = lambda balance, at: None
    await _no_entry_anywhere(desk, said)


async def test_a_jump_of_equity_counts_once_it_repeats_and_a_loss_of_everything_never(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk().start()
    portfolio, now = desk.engine.portfolio, desk.clock.now()
    portfolio.equity(PAPER, balance("150000"), now)
    incomplete(desk)
    portfolio.equity(PAPER, balance("150010"), now)
    assert isinstance(portfolio.heat(), CompleteHeat)
    for _ in range(3):
        portfolio.equity(PAPER, balance("-1"), now)
    assert "is -1" in incomplete(desk).missing[0]


async def test_equity_older_than_two_minutes_makes_heat_incomplete(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(symbols=BOTH).start()
    await hold(desk, ES)
    desk.engine.accounts[PAPER].reconciler._on_balance = lambda balance, at: None
    await desk.pass_(160)
    assert "s old" in incomplete(desk).missing[0]
    await _no_entry_anywhere(desk, "s old")


async def test_orders_in_doubt_and_lost_count_at_full_size(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(symbols=BOTH).start()
    desk.link.armed.lose_requests = 1
    desk.strategies[ES].script.append(enter(stop="4990", quantity="2"))
    await next_window(desk, ES="5000")
    await desk.until(lambda: any(o.state is OrderState.IN_DOUBT_SUBMIT for o in desk.orders(Role.ENTRY)), 8)
    full = Decimal(2) * 2500 * 100 / 250_000
    assert percent(desk) == full, "in doubt is charged at worst case and heat stays complete"
    await desk.until(lambda: desk.orders(Role.ENTRY)[-1].state is OrderState.LOST, 150)
    assert percent(desk) == full
    assert any("LOST" in b or "lost" in b for b in desk.blocks(ES))
    # Only that session's entries stop.
    await next_window(desk)
    desk.strategies[NQ].script.append(enter(stop="19900", quantity="1"))
    await next_window(desk, NQ="20000")
    await desk.until(lambda: desk.position(NQ) == 1, 5)
    assert desk.blocks(NQ) == ()


async def test_a_position_that_nobody_owns_counts_at_its_worst_case(make_desk: Callable[..., Desk]) -> None:
    both = await make_desk(symbols=BOTH).start()
    await hold(both, NQ, "20000", stop="19900", size="2")
    await both.stop()
    alone = await next_life(both, make_desk, symbols=(ES,))
    await alone.pass_(2)
    assert alone.broker_position(NQ) == 2
    assert percent(alone) == Decimal(2) * 4000 * 100 / 250_000 + _orders_of(alone)
    view = alone.snapshot().heat
    assert view.unowned


def _orders_of(desk: Desk) -> Decimal:
    """What the foreign looking legs of NQ add at worst case."""
    sizes = {o.broker_id: o.terms.quantity for o in desk.engine.accounts[PAPER].reconciler.foreign}
    return sum(sizes.values(), Decimal(0)) * 4000 * 100 / 250_000


# -- principles of the seed --------------------------------------------------------------------------------


async def test_the_portfolio_server_rebuilds_from_the_traders_not_the_database(make_desk: Callable[..., Desk]) -> None:
    first = await make_desk(symbols=BOTH).start()
    await hold(first, ES, stop="4950", size="4")
    before = percent(first)
    await first.stop()
    second = make_desk(symbols=BOTH, now=first.clock.now())
    second.feed.market = first.feed.market
    # One trader never comes: the total stays unknown, whatever the database says about the position.
    second.link.armed.fail_queries_until = second.clock.now() + 20_000
    await second.start(trading=False)
    await second.pass_(10)
    heat = incomplete(second)
    assert heat.reporting == 0
    assert heat.money == 0, "heat was taken from somewhere else than a trader's word"
    await second.until(lambda: isinstance(second.engine.portfolio.heat(), CompleteHeat), 60)
    second.feed.trade(ES, "5000")
    await second.pass_(6)
    assert percent(second) == before
    # Limits are settings, and come from the database.
    await second.send(lambda o: c.ChangeHeatLimits(origin=o, warn=Decimal(3), block=Decimal(5), reason="less"))
    await second.stop()
    third = await next_life(second, make_desk, trading=False)
    assert third.engine.portfolio.settings.limits.block == 5


async def test_the_owner_of_a_fact_alone_declares_it(make_desk: Callable[..., Desk]) -> None:
    """Nobody but a trader tells its risk, and nobody but the broker its position."""
    desk = await make_desk(symbols=BOTH).start()
    await hold(desk, ES)
    portfolio = desk.engine.portfolio
    stranger = Contribution(session=SessionId("s-other"), symbol=ES, group=None, at=desk.clock.now())
    portfolio.report(replace(stranger, position_risk=Decimal(99_999)))
    assert percent(desk) < 1
    # A dead trader's last word is not renewed by anybody else.
    portfolio.died(S_ES, "test")
    portfolio.report(replace(stranger, session=S_ES))
    assert "died" in incomplete(desk).missing[0]
    portfolio.expect(S_ES, None)
    desk.trader(ES).report_heat()
    # The broker owns the position: what we believe gives way to it.
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: desk.position() == 1, 45)
    assert desk.broker_position() == 1


async def test_no_total_before_every_trader_has_agreed_with_its_broker(make_desk: Callable[..., Desk]) -> None:
    """The database says 2, the broker 6: until that is adopted nobody may count with the 2."""
    first = await make_desk(symbols=BOTH).start()
    await hold(first, ES, stop="4950", size="2")
    await first.stop()
    first.faults.inject("margin-desk", ES, "-4")
    second = make_desk(symbols=BOTH, now=first.clock.now())
    second.feed.market = first.feed.market
    await second.start(trading=False)
    trader = second.trader(ES)
    while trader.desk.phase in (Phase.STARTING, Phase.RECOVERING, Phase.RECONCILING):
        assert second.engine.portfolio.contribution(S_ES) is None, (trader.desk.phase, trader.desk.book.position)
        await second.pass_(0.05)
    assert second.position(ES) == 6
    reported = second.engine.portfolio.contribution(S_ES)
    assert reported is not None
    assert reported.total >= 6 * 2500 - 1


# -- exits ---------------------------------------------------------------------------------------------------


async def _heat_block(desk: Desk) -> None:
    desk.engine.portfolio.set_limits({"warn": Decimal("0.01"), "block": Decimal("0.02")})


async def _incomplete(desk: Desk) -> None:
    desk.engine.portfolio.expect(SessionId("s-missing"), None)


async def _pause(desk: Desk) -> None:
    await desk.send(lambda o: c.Pause(origin=o, session=None))


async def _kill(desk: Desk) -> None:
    await desk.send(lambda o: c.Kill(origin=o))


async def _stale(desk: Desk) -> None:
    desk.feed.is_up = False
    await desk.pass_(70)


async def _feed_down(desk: Desk) -> None:
    desk.feed.cut()
    await desk.pass_(1)


async def _warm_up(desk: Desk) -> None:
    desk.feed.history_fails = True
    desk.trader().start_over("test")
    await desk.until(lambda: desk.trader().desk.phase is Phase.LOADING_HISTORY, 20)


async def _limits(desk: Desk) -> None:
    settings = desk.trader().desk.settings
    closed = replace(settings.limits, max_order_size=Decimal(0), max_position_size=Decimal(0), entries_per_day=0)
    desk.trader().desk.settings = replace(settings, limits=closed)


async def _database_down(desk: Desk) -> None:
    desk.store.down = True  # type: ignore[attr-defined]


async def _dead_session(desk: Desk) -> None:
    def broken() -> None:
        raise RuntimeError("upkeep broke")

    desk.trader().upkeep = broken  # type: ignore[method-assign]
    await desk.until(lambda: desk.engine.sessions[S_ES].supervisor.restarts >= 5, 120)
    await desk.pass_(20)
    assert desk.trader().desk.phase is Phase.DEAD


EVERYTHING_THAT_BLOCKS_ENTRIES = {
    "heat block": _heat_block,
    "incomplete heat": _incomplete,
    "pause": _pause,
    "kill": _kill,
    "stale feed": _stale,
    "feed down": _feed_down,
    "warm-up": _warm_up,
    "limits": _limits,
    "database down": _database_down,
    "dead session": _dead_session,
}


@pytest.mark.parametrize("block", EVERYTHING_THAT_BLOCKS_ENTRIES)
async def test_exits_are_never_blocked(make_desk: Callable[..., Desk], block: str) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    await EVERYTHING_THAT_BLOCKS_ENTRIES[block](desk)
    wish = desk.trader().gate.before() or desk.engine.portfolio._refusal(S_ES, Decimal(1))
    if block in ("limits", "database down"):
        assert wish is None or block == "database down"
    else:
        assert wish is not None, "this does not block entries, so it proves nothing about exits"
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=S_ES))
    assert receipt.taken
    await desk.until(lambda: desk.broker_position() == 0, 10)
    result = await finished(desk, receipt.id)
    assert result.ok, result.lines
    assert "flat confirmed" in result.result


@pytest.mark.parametrize("block", ["heat block", "incomplete heat", "pause", "kill", "limits", "database down"])
async def test_exits_are_never_blocked_when_the_strategy_decides_them(
    make_desk: Callable[..., Desk], block: str
) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    await EVERYTHING_THAT_BLOCKS_ENTRIES[block](desk)
    desk.strategies[ES].script += [leave]
    await next_window(desk, ES="5001")
    await desk.until(lambda: desk.broker_position() == 0, 5)
    await desk.until(lambda: desk.position() == 0, 5)

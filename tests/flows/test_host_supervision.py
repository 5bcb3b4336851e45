"""Parts that fail: one at a time, noticed within a second, started again within a budget, never spreading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine import commands as c
from engine.domain.ids import SessionId
from engine.domain.orders import OrderState, Role
from engine.domain.risk import CompleteHeat, IncompleteHeat
from engine.snapshot import Phase
from tests.flows.acts import alerts, enter, finished, hold, next_window, rest, working
from tests.flows.harness import ES, NQ, PAPER, Desk

S_ES, S_NQ = SessionId(f"s-{ES}"), SessionId(f"s-{NQ}")


class Breaks:
    """Raises so many times, then does what was there before."""

    def __init__(self, was: Callable[[], None], times: int) -> None:
        self.was, self.left = was, times

    def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise RuntimeError("it broke")
        self.was()


def break_upkeep(desk: Desk, times: int) -> None:
    trader = desk.trader(ES)
    trader.upkeep = Breaks(trader.upkeep, times)  # type: ignore[method-assign]


async def test_x4_a_trader_that_raises_is_a_blocked_session_within_a_second_and_comes_back(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    await hold(desk)
    sibling = desk.trader(NQ)
    runs = len(desk.strategies[NQ].seen)
    break_upkeep(desk, 1)
    await desk.pass_(1.0)
    assert desk.trader().desk.phase is Phase.DEAD
    assert any("it broke" in b for b in desk.blocks(ES))
    assert isinstance(desk.engine.portfolio.heat(), IncompleteHeat)
    assert "died" in alerts(desk)
    await next_window(desk)
    await desk.pass_(1)
    assert len(desk.strategies[NQ].seen) > runs, "the sibling went on"
    assert sibling.desk.phase is Phase.TRADING
    await desk.until(lambda: desk.trader().desk.phase is Phase.TRADING, 30)
    desk.feed.trade(ES, "5000")
    desk.feed.trade(NQ, "20000")
    await desk.pass_(1)
    assert desk.position() == 2
    assert desk.blocks(ES) == ()
    assert isinstance(desk.engine.portfolio.heat(), CompleteHeat)
    view = desk.snapshot().session(S_ES)
    assert view is not None
    assert view.restarts == 1


async def test_when_the_budget_is_used_up_the_session_stays_dead_and_flatten_works(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    await hold(desk)
    break_upkeep(desk, 1000)
    await desk.pass_(120)
    assert desk.engine.sessions[S_ES].supervisor.restarts == 5
    assert "not started again" in alerts(desk)
    assert desk.trader().desk.phase is Phase.DEAD
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=S_ES))
    assert (await finished(desk, receipt.id)).ok
    assert desk.broker_position() == 0


@pytest.mark.parametrize("loop", ["guard", "doubt loop", "data half"])
async def test_a_standing_loop_that_fails_restarts_its_session_and_leaves_no_block(
    make_desk: Callable[..., Desk], loop: str
) -> None:
    desk = await make_desk().start()
    await hold(desk)
    trader = desk.trader()
    failed = False
    owner, name = {
        "guard": (trader.guard, "step"),
        "doubt loop": (trader.recovery, "step"),
        "data half": (trader, "_join"),
    }[loop]
    was = getattr(owner, name)

    async def step(**arguments: Any) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise RuntimeError("loop broke")
        await was(**arguments)

    setattr(owner, name, step)
    if loop == "data half":
        trader.start_over("test")
    await desk.until(lambda: failed, 40)
    await desk.until(lambda: trader.desk.phase is Phase.DEAD, 2)
    await desk.until(lambda: trader.desk.phase is Phase.TRADING, 40)
    desk.feed.trade(ES, "5000")
    await desk.pass_(1)
    assert desk.blocks() == (), "a loop that runs again still blocks entries"


async def test_a_wait_cancelled_inside_a_trader_is_a_failure_like_any_other(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()

    def cancelled() -> None:
        desk.trader().upkeep = was  # type: ignore[method-assign]
        raise asyncio.CancelledError

    was = desk.trader().upkeep
    desk.trader().upkeep = cancelled  # type: ignore[method-assign]
    await desk.pass_(1.1)
    assert isinstance(desk.engine.portfolio.heat(), IncompleteHeat), "a dead trader looked alive"
    await desk.until(lambda: desk.trader().desk.phase is Phase.TRADING, 30)
    assert desk.engine.sessions[S_ES].supervisor.restarts == 1


async def test_a_supervisor_that_is_gone_is_noticed_within_a_second(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    running = desk.engine.sessions[S_ES].running
    assert running is not None
    running.cancel()
    await desk.pass_(2)
    assert desk.trader().desk.phase is Phase.DEAD
    assert any("supervisor ended" in b for b in desk.blocks())


async def test_a_failed_procedure_blocks_its_session_until_resumed_by_hand(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("bug")

    was = desk.trader().entries.enter
    desk.trader().entries.enter = broken  # type: ignore[method-assign]
    desk.strategies[ES].script.append(enter())
    await next_window(desk)
    await desk.pass_(1)
    assert any("failed: RuntimeError" in b for b in desk.blocks(ES))
    assert desk.blocks(NQ) == ()
    desk.trader().entries.enter = was  # type: ignore[method-assign]
    await desk.send(lambda o: c.Resume(origin=o, session=S_ES, reason="looked at the log"))
    assert desk.blocks(ES) == ()


async def test_an_account_link_that_dies_blocks_its_sessions_and_is_started_again(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    await hold(desk)
    account = desk.engine.accounts[PAPER]
    bell = account.reconciler._positions_wanted
    was = bell.wait

    async def fails_once(*arguments: Any) -> None:
        bell.wait = was  # type: ignore[method-assign]
        raise RuntimeError("reconciler broke")

    bell.wait = fails_once  # type: ignore[assignment, method-assign]
    await desk.until(lambda: "link of account paper died" in alerts(desk), 35)
    assert all(any("died" in b for b in desk.blocks(symbol)) for symbol in (ES, NQ))
    await desk.pass_(2)
    read = account.reconciler.positions_read
    await desk.pass_(40)
    assert account.reconciler.positions_read != read, "nobody asks for positions any more"
    assert not any("died" in b for symbol in (ES, NQ) for b in desk.blocks(symbol))


async def _raise(*_: Any) -> None:
    raise RuntimeError("reconciler broke")


async def test_a_feed_that_dies_is_marked_and_started_again(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    was = desk.feed.run
    desk.feed.run = _raise  # type: ignore[method-assign]
    desk.feed._stopped.set()  # the first run returns: a feed that ends is a feed that died
    await desk.pass_(0.2)
    assert "the feed died" in alerts(desk)
    assert any("feed" in b for b in desk.blocks())
    desk.feed.run = was  # type: ignore[method-assign]
    desk.feed._stopped.clear()
    await desk.pass_(5)
    desk.feed.trade(ES, "5000")
    await desk.until(lambda: desk.blocks() == (), 20)
    desk.strategies[ES].script.append(enter(quantity="1"))
    await next_window(desk)
    await next_window(desk)
    await desk.pass_(2)
    assert desk.orders(Role.ENTRY)[-1].state in (OrderState.FILLED, OrderState.DENIED)


async def test_a_strategy_that_raises_pauses_its_entries_and_cancels_what_rests(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    await rest(desk)

    def broken(context: Any) -> Any:
        raise ValueError("strategy broke")

    desk.strategies[ES].script.append(broken)
    await next_window(desk)
    await desk.until(lambda: working(desk, Role.ENTRY) == [], 5)
    assert any("strategy broke" in b for b in desk.blocks(ES))
    assert desk.blocks(NQ) == ()
    released = await desk.send(
        lambda o: c.ReleaseLatch(origin=o, session=S_ES, latch="strategy", reason="one bad candle")
    )
    assert released.taken
    assert desk.blocks(ES) == ()

"""Why no entry leaves, since when, and which ones did not: told by whoever holds them back."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from engine import commands as c
from engine.domain.ids import Millis, SessionId
from engine.domain.intents import SubmitIntent
from engine.domain.orders import OrderState, OrderType, Role, Side, Terms
from engine.domain.risk import GroupLimits, HeatLimits, PortfolioSettings
from engine.session import KEEP_STOPPED
from engine.snapshot import SessionView
from tests.flows.acts import FailingStore, enter, failing, next_life, next_window, rest, working
from tests.flows.harness import ES, Desk

S_ES = SessionId(f"s-{ES}")


def view(desk: Desk) -> SessionView:
    found = desk.snapshot().session(S_ES)
    assert found is not None
    return found


def begins(desk: Desk) -> dict[str, Millis | None]:
    return {block.reason: block.since for block in view(desk).blocked}


async def test_every_block_says_since_when(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    assert begins(desk) == {}
    paused = desk.clock.now()
    await desk.send(lambda o: c.Pause(origin=o, session=S_ES))
    await desk.pass_(5)
    killed = desk.clock.now()
    await desk.send(lambda o: c.Kill(origin=o))
    await desk.pass_(2)
    await desk.send(lambda o: c.Kill(origin=o))
    cut = desk.clock.now()
    desk.feed.cut()
    desk.link.disconnect(300)
    await desk.until(lambda: "the account link is down" in begins(desk), 30)
    down = desk.engine.accounts[desk.trader().desk.settings.account].link.since
    await desk.pass_(30)
    told = begins(desk)
    assert told["KILL: by test"] == killed
    assert told["paused by test"] == paused
    assert told["the feed is down"] == cut
    assert told["the account link is down"] == down
    last = view(desk).last_tick
    assert last is not None
    assert told["market data is stale"] == last + desk.trader().desk.instrument.stale_after_ms


async def test_a_store_in_trouble_and_a_portfolio_without_its_total_say_since_when(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    began = desk.clock.now()
    desk.engine.portfolio.died(S_ES, "for the test")
    failing(desk).down = True
    await desk.pass_(20)
    told = begins(desk)
    lease = next(reason for reason in told if reason.startswith("the lease is not confirmed"))
    since = told[lease]
    assert since is not None
    assert began < since <= desk.clock.now()
    assert told["heat is incomplete: s-ESZ6 died: for the test"] == began
    failing(desk).back()


async def test_a_pause_and_a_kill_keep_their_beginning_over_a_restart(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await desk.send(lambda o: c.Pause(origin=o, session=S_ES))
    await desk.send(lambda o: c.Kill(origin=o))
    before = begins(desk)
    await desk.pass_(3)
    await desk.stop()
    again = await next_life(desk, make_desk, later=120)
    after = begins(again)
    assert after["KILL: by test"] == before["KILL: by test"]
    assert after["paused: paused by test"] == before["paused by test"]


async def test_the_entries_that_did_not_leave_are_told_with_their_reasons(make_desk: Callable[..., Desk]) -> None:
    limits = HeatLimits(warn=Decimal("0.5"), block=Decimal(1), release=Decimal("0.1"))
    desk = await make_desk(portfolio=PortfolioSettings(limits=limits)).start()
    desk.strategies[ES].script.append(enter(stop="4950"))  # 2 contracts, 50 points: 2 %
    await next_window(desk)
    await desk.pass_(2)
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(3), type=OrderType.MARKET)
    await desk.send(
        lambda o: c.SubmitByHand(origin=o, session=S_ES, terms=terms, is_exit=False, stop_loss=None, reason="try")
    )
    first, second = view(desk).stopped
    assert view(desk).stopped_entries == 2
    assert (first.side, first.quantity, first.by_hand) == (Side.BUY, Decimal(2), False)
    assert first.reason == "heat 0.00 % would become 2.00 %, entries are blocked from 1.00 %"
    assert (second.quantity, second.by_hand) == (Decimal(3), True)
    assert second.reason == "protection = stop, and this entry carries no stop"
    assert first.at < second.at <= desk.clock.now()
    denied = {order.client_id for order in desk.orders(Role.ENTRY) if order.state is OrderState.DENIED}
    assert {first.order, second.order} == denied


async def test_an_entry_given_up_at_the_send_counts_and_the_list_is_bounded(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await make_desk().start()
    session, commit = desk.trader().desk, desk.store.commit

    async def committed(intent: SubmitIntent) -> object:
        outcome = await commit(intent)
        session.blocks.set("test", "in the last moment")
        return outcome

    monkeypatch.setattr(desk.store, "commit", committed)
    desk.strategies[ES].script.append(enter())
    await next_window(desk)
    await desk.until(lambda: view(desk).stopped_entries == 1, 5)
    (given_up,) = view(desk).stopped
    assert given_up.reason == "in the last moment"
    (order,) = desk.orders(Role.ENTRY)
    assert order.state is OrderState.ABANDONED
    for _ in range(KEEP_STOPPED + 5):
        session.entry_stopped(order, "again", by_hand=False)
    assert (len(view(desk).stopped), view(desk).stopped_entries) == (KEEP_STOPPED, KEEP_STOPPED + 6)


async def test_no_entry_goes_beside_an_open_one_of_the_other_side(make_desk: Callable[..., Desk]) -> None:
    """Both could fill, and the legs of the larger one then turn the position round."""
    desk = await make_desk().start()
    resting = await rest(desk)
    terms = Terms(symbol=ES, side=Side.SELL, quantity=Decimal(1), type=OrderType.LIMIT, limit=Decimal(5020))

    def sell(origin: c.Origin) -> c.SubmitByHand:
        return c.SubmitByHand(
            origin=origin, session=S_ES, terms=terms, is_exit=False, stop_loss=Decimal(5030), reason="try"
        )

    refused = await desk.send(sell)
    assert not refused.taken
    assert f"entry {resting.client_id} may still buy" in refused.message
    assert "cancel it first" in refused.message
    await desk.send(lambda o: c.CancelOrder(origin=o, order=resting.client_id))
    await desk.until(lambda: not working(desk, Role.ENTRY), 5)
    assert (await desk.send(sell)).taken


async def test_a_groups_limit_set_live_counts_again_after_a_restart(make_desk: Callable[..., Desk]) -> None:
    groups = (GroupLimits(name="us-index", block=Decimal(4)),)
    desk = await make_desk(portfolio=PortfolioSettings(groups=groups)).start()
    strange = await desk.send(lambda o: c.ChangeHeatLimits(origin=o, groups={"metals": Decimal(1)}, reason="less"))
    assert (strange.taken, strange.message) == (False, "there is no group metals in the configuration")
    taken = await desk.send(lambda o: c.ChangeHeatLimits(origin=o, groups={"us-index": Decimal(3)}, reason="less"))
    assert taken.message.endswith("group us-index 3 %") or "us-index 3 %" in taken.message
    await desk.stop()
    again = await next_life(desk, make_desk)
    assert again.snapshot().heat.groups == (GroupLimits(name="us-index", block=Decimal(3)),)


async def test_limits_set_live_that_a_changed_file_contradicts_are_said_until_set_anew(
    make_desk: Callable[..., Desk],
) -> None:
    """Either is right by itself; together a block of that group would never open again."""
    desk = await make_desk(
        portfolio=PortfolioSettings(groups=(GroupLimits(name="us-index", block=Decimal(4)),))
    ).start()
    wider = await desk.send(lambda o: c.ChangeHeatLimits(origin=o, release=Decimal("2.5"), reason="less"))
    assert wider.taken, wider.message
    await desk.stop()
    changed = PortfolioSettings(groups=(GroupLimits(name="us-index", block=Decimal(2)),))
    again = await next_life(desk, make_desk, portfolio=changed)

    def said() -> list[str]:
        return [alert.text for alert in again.engine.board.alerts() if alert.id == "limits"]

    (text,) = said()
    assert "block 2 of group us-index must be above release 2.5; set them anew" in text
    anew = await again.send(lambda o: c.ChangeHeatLimits(origin=o, release=Decimal(1), reason="as it was"))
    assert anew.taken, anew.message
    assert said() == []

"""What a strategy's decision becomes: limit and stop exits move what rests, modify and cancel keep to the rules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time
from decimal import Decimal

import pytest
from msgspec.structs import replace

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import Capabilities, SubmitAnswer
from engine.domain.decisions import Intent, Modify, Submit
from engine.domain.ids import BrokerOrderId, SessionId
from engine.domain.orders import Flag, Order, OrderType, Role, Side
from engine.domain.settings import Protection
from engine.snapshot import ProtectionState
from tests.flows.harness import ES, MINUTE, PAPER, Desk
from tests.flows.script import Step, enter, in_position, leave, nothing

MakeDesk = Callable[..., Desk]
SESSION = SessionId("s-ESZ6")


def leave_at(kind: OrderType, *, limit: str | None = None, stop: str | None = None) -> Step:
    """An exit at a price."""
    return lambda context: Submit(
        state=context.state,
        intent=Intent.EXIT,
        type=kind,
        limit=None if limit is None else Decimal(limit),
        stop=None if stop is None else Decimal(stop),
        reason="scripted",
    )


def modify(order: Order, *, limit: str | None = None, stop: str | None = None) -> Step:
    """Other prices for a working order."""
    return lambda context: Modify(
        state=context.state,
        order=order.client_id,
        limit=None if limit is None else Decimal(limit),
        stop=None if stop is None else Decimal(stop),
        reason="scripted",
    )


def live(desk: Desk) -> list[tuple[OrderType, Decimal, Decimal | None, Decimal | None]]:
    """Type, size left, limit and stop price of what works at the broker."""
    return sorted(
        (o.terms.type, o.terms.quantity - o.filled, o.terms.limit, o.terms.stop)
        for o in desk.exchange.open_orders(PAPER)
    )


async def decided(desk: Desk, step: Step) -> None:
    """Let the strategy decide this on the next candle, and the broker answer."""
    desk.strategies[ES].script.append(step)
    await desk.next_candle(ES, "5000")
    await desk.pass_(3)


def logged(desk: Desk) -> tuple[bool, str, str]:
    """Whether the strategy ran on the newest candle, what it decided, and why nothing came of it."""
    line = desk.trader().desk.decisions[-1]
    return line.ran, line.decision, line.reason


# -- exits at a price ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "legs", "asked", "target", "stop"),
    [
        (Side.BUY, ("4990", "5050"), ("5040.10", "4995.10"), "5040", "4995.25"),
        (Side.SELL, ("5010", "4950"), ("4960.10", "5005.10"), "4960.25", "5005"),
    ],
)
async def test_exits_at_a_price_move_what_rests_to_the_tick_towards_the_market(
    make_desk: MakeDesk, side: Side, legs: tuple[str, str], asked: tuple[str, str], target: str, stop: str
) -> None:
    """Never a second order beside the target or the stop; a price off the grid fills or acts rather sooner."""
    desk = await in_position(make_desk(), enter(side, legs[0], target=legs[1]), size=2 * side.sign)
    made = len(desk.orders())
    await decided(desk, leave_at(OrderType.LIMIT, limit=asked[0]))
    assert live(desk) == [
        (OrderType.LIMIT, Decimal(2), Decimal(target), None),
        (OrderType.STOP, Decimal(2), None, Decimal(legs[0])),
    ]
    await decided(desk, leave_at(OrderType.STOP, stop=asked[1]))
    assert live(desk) == [
        (OrderType.LIMIT, Decimal(2), Decimal(target), None),
        (OrderType.STOP, Decimal(2), None, Decimal(stop)),
    ]
    assert len(desk.orders()) == made
    assert desk.position() == desk.broker_position() == 2 * side.sign


async def test_a_limit_exit_without_a_target_at_the_broker_is_watched_here(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    await decided(desk, leave_at(OrderType.LIMIT, limit="5040.10"))
    assert live(desk) == [(OrderType.STOP, Decimal(2), None, Decimal(4990))]
    assert desk.trader().guard.target_price == Decimal(5040)
    desk.feed.trade(ES, "5040")
    await desk.until(lambda: desk.broker_position() == 0, 8)
    await desk.pass_(5)
    assert desk.position() == 0
    assert live(desk) == []


async def test_a_stop_exit_is_where_a_stop_that_vanishes_is_armed_again(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    await decided(desk, leave_at(OrderType.STOP, stop="4995"))
    (stop,) = desk.exchange.open_orders(PAPER)
    out_of_band.cancel_order(desk.exchange, stop.broker_id, desk.clock.now(), "cancelled by the broker")
    await desk.until(lambda: live(desk) == [(OrderType.STOP, Decimal(2), None, Decimal(4995))], 8)


async def test_a_stop_exit_rests_at_the_broker_though_the_session_demands_no_stop(make_desk: MakeDesk) -> None:
    """Without a stop to move it was dropped in silence."""
    desk = await make_desk(session={"protection": Protection.NONE}).start()
    for size in (1, 2):  # the second position wants no stop again
        desk.strategies[ES].script.append(enter(stop=None, quantity=str(size)))
        await desk.next_candle(ES, "5000")
        await desk.until(lambda size=size: desk.position() == size, 5)  # type: ignore[misc]
        await desk.pass_(5)
        assert live(desk) == []
        assert desk.trader().desk.protection is ProtectionState.NOT_REQUIRED
        await decided(desk, leave_at(OrderType.STOP, stop="4990.10"))
        assert live(desk) == [(OrderType.STOP, Decimal(size), None, Decimal("4990.25"))]
        await decided(desk, leave_at(OrderType.STOP, stop="4995"))
        assert live(desk) == [(OrderType.STOP, Decimal(size), None, Decimal(4995))]
        desk.feed.trade(ES, "4995")
        await desk.until(lambda: desk.position() == desk.broker_position() == 0, 5)
        await desk.pass_(2)


async def test_an_exit_at_a_price_that_names_none_changes_nothing(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(), enter(target="5050"))
    before = live(desk)
    await decided(desk, leave_at(OrderType.LIMIT))
    await decided(desk, leave_at(OrderType.STOP))
    assert live(desk) == before
    assert desk.position() == 2


async def test_an_exit_on_a_live_candle_is_not_marked_missed(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    await decided(desk, leave)
    assert desk.broker_position() == 0
    assert not any(Flag.MISSED in o.flags for o in desk.orders())


async def test_flat_by_leaves_once_and_in_time(make_desk: MakeDesk) -> None:
    limits = Desk.session_settings(make_desk(directory="throw-away"), ES).limits
    desk = await in_position(
        make_desk(
            session={"limits": replace(limits, flat_by=time(9, 3))},  # it is 09:01 and some seconds
            capabilities=Capabilities(replace_may_change_type=False),
        )
    )
    cancel = desk.manager.cancel

    async def slowly(broker_id: BrokerOrderId) -> SubmitAnswer:
        await desk.clock.sleep(3)
        return await cancel(broker_id)

    desk.manager.cancel = slowly  # type: ignore[method-assign]
    at = desk.clock.now() // (60 * MINUTE) * 60 * MINUTE + 3 * MINUTE
    while desk.clock.now() < at - 1_000:
        assert desk.broker_position() == 2
        desk.feed.trade(ES, "5000")
        await desk.pass_(1)
    await desk.until(lambda: desk.broker_position() == 0, 8)
    await desk.pass_(10)
    assert len(desk.orders(Role.EXIT)) == 1
    assert desk.position() == 0


# -- modify -------------------------------------------------------------------------------------------------


async def test_a_strategy_moves_one_price_of_its_order_and_leaves_the_other(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await decided(desk, enter(limit="4980", stop="4970"))
    (entry,) = desk.orders(Role.ENTRY)
    await decided(desk, modify(entry, limit="4979.10"))
    assert desk.trader().desk.current(entry).terms.limit == Decimal(4979)
    await decided(desk, modify(entry))
    assert desk.trader().desk.current(entry).terms.limit == Decimal(4979)
    assert (OrderType.LIMIT, Decimal(2), Decimal(4979), None) in live(desk)


async def test_a_stop_is_moved_though_no_entry_may_leave_and_far_from_the_market(make_desk: MakeDesk) -> None:
    """Gate and collar are for entries; what protects obeys neither."""
    desk = await in_position(make_desk())
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    await desk.send(lambda o: c.Pause(origin=o, session=SESSION))
    await decided(desk, modify(stop, stop="4700.10"))  # 6 % away; the collar is 5 %
    assert live(desk) == [(OrderType.STOP, Decimal(2), None, Decimal("4700.25"))]


async def test_a_target_that_a_strategy_modifies_goes_to_the_tick_towards_the_market(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(), enter(target="5050"))
    (target,) = (o for o in desk.orders(Role.TARGET) if o.is_open)
    await decided(desk, modify(target, limit="5040.20"))
    assert live(desk)[0] == (OrderType.LIMIT, Decimal(2), Decimal(5040), None)


async def test_an_entry_is_not_moved_while_none_may_leave_nor_beyond_the_collar(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await decided(desk, enter(limit="4980", stop="4970"))
    (entry,) = desk.orders(Role.ENTRY)
    await decided(desk, modify(entry, limit="4700"))
    ran, decision, reason = logged(desk)
    assert (ran, decision) == (True, "modify: not sent")
    assert "more than 5.00 % away from the mark" in reason
    await desk.send(lambda o: c.Pause(origin=o, session=SESSION, keep_resting=True))
    await decided(desk, modify(entry, limit="4979"))
    ran, decision, reason = logged(desk)
    assert (ran, decision) == (True, "modify: not sent")
    assert "paused" in reason
    assert desk.trader().desk.current(entry).terms.limit == Decimal(4980)
    await desk.send(lambda o: c.CancelOrder(origin=o, order=entry.client_id))
    await decided(desk, modify(entry, limit="4979"))
    assert logged(desk) == (True, "modify: not sent", f"{entry.client_id} is not open")


async def test_a_candle_without_a_decision_is_told_as_one_on_which_the_strategy_ran(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await decided(desk, nothing)
    assert logged(desk) == (True, "nothing", "scripted to wait")

"""Flow 2, the other half: exits do not add up, are never refused, and the stop always fits the position."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import (
    BrokerOrder,
    Capabilities,
    Enforcer,
    FillsKind,
    IdMode,
    ReplaceId,
    ReplaceQuantity,
    SubmitAnswer,
)
from engine.domain.disagreements import DisagreementKind
from engine.domain.ids import BrokerOrderId, SessionId
from engine.domain.orders import Flag, OrderState, OrderType, Role, Side, Terms
from engine.domain.settings import FixedSize, Remedy
from engine.snapshot import Phase, ProtectionState
from tests.flows.acts import kill, next_life
from tests.flows.harness import ES, MINUTE, PAPER, Desk
from tests.flows.script import enter, in_position, leave, leave_part

MakeDesk = Callable[..., Desk]
SESSION = SessionId("s-ESZ6")

BROKERS = {
    "default": Capabilities(),
    "no brackets": Capabilities(brackets=False),
    "no conversion": Capabilities(replace_may_change_type=False),
    "no conversion, no brackets": Capabilities(replace_may_change_type=False, brackets=False),
    "our one-cancels-other": Capabilities(one_cancels_other=Enforcer.OURS),
    "replace changes the id": Capabilities(replace_id=ReplaceId.CHANGES),
    "replace changes the id, remaining": Capabilities(
        replace_id=ReplaceId.CHANGES, replace_quantity=ReplaceQuantity.REMAINING
    ),
    "replace changes the id, tag": Capabilities(replace_id=ReplaceId.CHANGES, id_mode=IdMode.TAG),
    "remaining": Capabilities(replace_quantity=ReplaceQuantity.REMAINING),
    "remaining, no brackets": Capabilities(replace_quantity=ReplaceQuantity.REMAINING, brackets=False),
    "cumulative": Capabilities(fills=FillsKind.CUMULATIVE),
    "cumulative, changes the id": Capabilities(fills=FillsKind.CUMULATIVE, replace_id=ReplaceId.CHANGES),
    "tag-less": Capabilities(
        id_mode=IdMode.NONE, find_by_client_id=False, fills=FillsKind.CUMULATIVE, brackets=False
    ),
    "tag-less, changes the id": Capabilities(
        id_mode=IdMode.NONE, find_by_client_id=False, fills=FillsKind.CUMULATIVE, replace_id=ReplaceId.CHANGES
    ),
}  # fmt: skip


def live(desk: Desk) -> tuple[BrokerOrder, ...]:
    return desk.exchange.open_orders(PAPER)


def stops(desk: Desk) -> list[tuple[Decimal, Decimal | None]]:
    """What guards at the broker: remaining size and price of each live stop."""
    return [(o.terms.quantity - o.filled, o.terms.stop) for o in live(desk) if o.terms.type is OrderType.STOP]


def watch_exits(desk: Desk) -> list[Decimal]:
    """At every change at the exchange: own reducing orders beyond the position, a linked pair counted once."""
    excess: list[Decimal] = []

    def look(_: object) -> None:
        held = desk.broker_position()
        sizes: dict[object, Decimal] = {}
        for order in live(desk):
            if order.status.value != "held" and order.terms.side.sign * held < 0:
                pair = (desk.capabilities.one_cancels_other is Enforcer.BROKER and order.parent) or order.broker_id
                sizes[pair] = max(sizes.get(pair, Decimal(0)), order.terms.quantity - order.filled)
        total = sum(sizes.values(), Decimal(0))
        if total > abs(held):
            excess.append(total - abs(held))

    desk.exchange.listen(PAPER, look)
    return excess


async def before_the_close(desk: Desk) -> None:
    """Three seconds before the window ends."""
    await desk.clock.advance(desk.clock.now() - desk.clock.now() % MINUTE + MINUTE - 3_000)


def alerts(desk: Desk) -> str:
    return "\n".join(alert.text for alert in desk.engine.board.alerts())


@pytest.mark.parametrize("broker", BROKERS)
async def test_exits_are_never_blocked_and_never_add_up(make_desk: MakeDesk, broker: str) -> None:
    """Out at market while a stop and a target rest: one of them is used, nothing is left, nothing is reversed."""
    desk = await in_position(make_desk(capabilities=BROKERS[broker]), enter(target="5050"))
    excess = watch_exits(desk)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0, 8)
    await desk.pass_(15)
    assert desk.broker_position() == desk.position() == 0
    assert live(desk) == ()
    assert excess == []
    assert [o for o in desk.orders() if o.is_open] == []
    sold = sum((o.filled for o in desk.orders() if o.terms.side is Side.SELL), Decimal(0))
    assert sold == 2
    assert desk.snapshot().disagreements == ()


@pytest.mark.parametrize("broker", BROKERS)
async def test_a_partial_exit_leaves_a_stop_for_what_is_left(make_desk: MakeDesk, broker: str) -> None:
    desk = await in_position(make_desk(capabilities=BROKERS[broker]), enter(target="5050"))
    excess = watch_exits(desk)
    desk.strategies[ES].script.append(leave_part("1"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 1, 12)
    await desk.pass_(8)
    assert desk.position() == 1
    assert stops(desk) == [(Decimal(1), Decimal(4990))]
    assert excess == []
    desk.feed.trade(ES, "4990")
    await desk.until(lambda: desk.position() == 0, 5)
    await desk.pass_(8)
    assert desk.broker_position() == 0
    assert live(desk) == ()
    assert desk.snapshot().disagreements == ()


@pytest.mark.parametrize("broker", BROKERS)
async def test_a_partial_exit_beside_a_stop_and_a_target_that_nothing_links_leaves(
    make_desk: MakeDesk, broker: str
) -> None:
    """Both hold the whole position, and to make room in one of them is not enough."""
    desk = await in_position(make_desk(capabilities=BROKERS[broker]), enter(target="5050"))
    (stop,) = [o for o in desk.orders() if o.role is Role.STOP]
    await desk.send(lambda o: c.CancelOrder(origin=o, order=stop.client_id))
    await desk.until(
        lambda: len([o for o in desk.orders() if o.role is Role.STOP and o.is_open and o.broker_id]) == 1, 8
    )
    part = Terms(symbol=ES, side=Side.SELL, quantity=Decimal(1), type=OrderType.MARKET)
    await desk.send(lambda o: c.SubmitByHand(origin=o, session=SESSION, terms=part, is_exit=True))
    await desk.until(lambda: desk.broker_position() == 1, 12)
    await desk.pass_(8)
    assert desk.position() == desk.broker_position() == 1
    assert stops(desk) == [(Decimal(1), Decimal(4990))]


@pytest.mark.parametrize("broker", BROKERS)
async def test_a_partial_fill_resizes_the_stop(make_desk: MakeDesk, broker: str) -> None:
    desk = await make_desk(capabilities=BROKERS[broker]).start()
    desk.faults.inject("partial-fills", None, "1")
    desk.strategies[ES].script.append(enter(limit="5000", quantity="3", target="5050"))
    await desk.next_candle(ES, "5000")
    for filled in (1, 2, 3):
        await desk.until(lambda seen=filled: desk.broker_position() == seen, 5)  # type: ignore[misc]
        await desk.until(lambda seen=filled: stops(desk) == [(Decimal(seen), Decimal(4990))], 5)  # type: ignore[misc]
        await desk.until(lambda seen=filled: desk.position() == seen, 5)  # type: ignore[misc]
        await desk.pass_(6)
        assert stops(desk) == [(Decimal(filled), Decimal(4990))]
        desk.feed.trade(ES, "5000")
    desk.faults.inject("partial-fills", None, "0")
    await desk.pass_(5)
    assert desk.trader().desk.protection is ProtectionState.COVERED
    assert desk.snapshot().disagreements == ()
    desk.feed.trade(ES, "4989")
    await desk.until(lambda: desk.position() == 0, 5)
    await desk.pass_(8)
    assert desk.broker_position() == 0
    assert live(desk) == ()


@pytest.mark.parametrize("broker", BROKERS)
async def test_e18_a_stop_that_fills_in_parts_and_is_then_resized_or_converted_keeps_count(
    make_desk: MakeDesk, broker: str
) -> None:
    """Sizes in a replace obey the broker's manners even when part of the order has filled already."""
    desk = await in_position(make_desk(capabilities=BROKERS[broker], session={"sizing": FixedSize(Decimal(4))}), size=4)
    desk.faults.inject("partial-fills", None, "1")
    desk.feed.trade(ES, "4990")
    await desk.until(lambda: desk.position() == 3, 5)
    desk.faults.inject("partial-fills", None, "0")
    excess = watch_exits(desk)
    await desk.pass_(3)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "4995")
    await desk.until(lambda: desk.broker_position() == 0, 8)
    await desk.pass_(10)
    assert desk.position() == desk.broker_position() == 0
    assert excess == []
    assert live(desk) == ()
    assert desk.snapshot().disagreements == ()


@pytest.mark.parametrize("broker", BROKERS)
async def test_a_modified_entry_that_has_filled_in_part_is_never_made_larger(make_desk: MakeDesk, broker: str) -> None:
    desk = await make_desk(capabilities=BROKERS[broker]).start()
    desk.faults.inject("partial-fills", None, "1")
    desk.strategies[ES].script.append(enter(limit="5000", quantity="3"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 1, 5)
    entry = desk.orders(Role.ENTRY)[0]
    receipt = await desk.send(
        lambda o: c.ModifyOrder(origin=o, order=entry.client_id, limit=Decimal(4998), reason="lower")
    )
    assert receipt.taken, receipt.message
    await desk.pass_(5)
    buys = [o for o in live(desk) if o.terms.side is Side.BUY]
    assert [(o.terms.quantity - o.filled, o.terms.limit) for o in buys] == [(Decimal(2), Decimal(4998))]
    entry = desk.orders(Role.ENTRY)[0]
    assert (entry.filled, entry.remaining, entry.state) == (Decimal(1), Decimal(2), OrderState.PARTIALLY_FILLED)
    desk.faults.inject("partial-fills", None, "0")
    desk.feed.trade(ES, "4998")
    await desk.until(lambda: desk.position() == 3, 10)
    await desk.pass_(8)
    assert desk.broker_position() == 3
    assert stops(desk) == [(Decimal(3), Decimal(4990))]
    assert desk.orders(Role.ENTRY)[0].state is OrderState.FILLED
    assert desk.snapshot().disagreements == ()


@pytest.mark.parametrize("broker", ["default", "tag-less", "replace changes the id"])
async def test_a_conversion_whose_answer_is_lost_leaves_no_second_exit(make_desk: MakeDesk, broker: str) -> None:
    desk = await in_position(make_desk(capabilities=BROKERS[broker]))
    excess = watch_exits(desk)
    desk.faults.inject("lose-answer", None, "")
    desk.strategies[ES].script += [leave, leave]
    await desk.next_candle(ES, "5000")
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 0, 30)
    await desk.pass_(15)
    assert desk.broker_position() == 0
    assert live(desk) == ()
    assert excess == []
    assert [o for o in desk.orders() if o.is_open] == []


@pytest.mark.parametrize("broker", ["no conversion", "no conversion, no brackets"])
async def test_an_exit_in_doubt_defers_another_until_evidence(make_desk: MakeDesk, broker: str) -> None:
    desk = await in_position(make_desk(capabilities=BROKERS[broker]))
    desk.strategies[ES].script += [leave]
    cancel = desk.manager.cancel

    async def cancelled(broker_id: object) -> object:
        answer = await cancel(broker_id)  # type: ignore[arg-type]
        desk.faults.inject("next-order-slow", None, "20")
        return answer

    desk.manager.cancel = cancelled  # type: ignore[method-assign, assignment]
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: any(o.role is Role.EXIT and o.is_in_doubt for o in desk.orders()), 15)
    await desk.send(lambda o: c.Flatten(origin=o, session=SESSION))
    await desk.pass_(5)
    assert len(desk.orders(Role.EXIT)) == 1
    await desk.until(lambda: desk.position() == 0, 60)
    await desk.pass_(20)
    assert desk.broker_position() == 0
    assert live(desk) == ()


async def test_a_stop_cancelled_out_of_band_is_armed_once(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.faults.inject("cancel-out-of-band", ES, "")
    await desk.until(lambda: stops(desk) == [(Decimal(2), Decimal(4990))], 5)
    await desk.pass_(30)
    assert stops(desk) == [(Decimal(2), Decimal(4990))]
    assert len(desk.orders(Role.STOP)) == 2
    assert desk.trader().desk.protection is ProtectionState.COVERED


@pytest.mark.parametrize("broker", ["default", "our one-cancels-other", "no brackets", "cumulative"])
async def test_a_stop_armed_again_beside_a_target_is_no_excess(make_desk: MakeDesk, broker: str) -> None:
    """The new stop is not linked to the old target: both filling would reverse the position."""
    desk = await in_position(make_desk(capabilities=BROKERS[broker]), enter(target="5050"))
    stop = next(o for o in live(desk) if o.terms.type is OrderType.STOP)
    out_of_band.cancel_order(desk.exchange, stop.broker_id, desk.clock.now(), "cancelled by the broker")
    await desk.until(lambda: stops(desk) == [(Decimal(2), Decimal(4990))], 5)
    await desk.pass_(8)
    assert [o.terms.type for o in live(desk)] == [OrderType.STOP]
    desk.feed.trade(ES, "5050")  # the target is ours to watch now
    await desk.until(lambda: desk.broker_position() == 0, 8)
    await desk.pass_(8)
    assert desk.broker_position() == desk.position() == 0
    assert live(desk) == ()


async def test_a_target_reached_while_its_session_starts_again_waits_for_it(make_desk: MakeDesk) -> None:
    """The guard asked again and again without letting go: the whole engine stood still."""
    desk = await in_position(make_desk(capabilities=BROKERS["our one-cancels-other"]), enter(target="5050"))
    session, turns = desk.trader().desk, 0
    due = desk.trader().guard._target_due

    def counted() -> bool:
        nonlocal turns
        turns += 1
        assert turns < 1_000, "the guard never lets go"
        return due()

    desk.trader().guard._target_due = counted  # type: ignore[method-assign]
    session.phase = Phase.RECOVERING
    desk.feed.trade(ES, "5050")
    await desk.pass_(5)
    assert desk.broker_position() == 2
    session.phase = Phase.TRADING
    await desk.until(lambda: desk.broker_position() == 0, 8)


async def test_no_stop_is_armed_beside_an_exit_that_began_while_the_broker_was_asked(make_desk: MakeDesk) -> None:
    """Both could act, and the second would turn the position round."""
    desk = await in_position(make_desk(capabilities=BROKERS["no brackets"]))
    guard, exits = desk.trader().guard, desk.trader().exits
    asked, leaving = guard._still_held, []

    async def and_meanwhile_out(else_what: str) -> frozenset[Flag] | None:
        flags = await asked(else_what)
        leaving.append(asyncio.ensure_future(exits.leave("out", None, "out")))
        await asyncio.sleep(0)  # its first step
        assert exits.busy
        return flags

    guard._still_held = and_meanwhile_out  # type: ignore[method-assign]
    stop = next(o for o in live(desk) if o.terms.type is OrderType.STOP)
    out_of_band.cancel_order(desk.exchange, stop.broker_id, desk.clock.now(), "cancelled by the broker")
    await desk.until(lambda: desk.position() == 0, 8)
    await desk.pass_(8)
    assert leaving
    assert [o.reason for o in desk.orders(Role.STOP) if o.reason == "re-armed"] == []
    assert desk.broker_position() == 0
    assert live(desk) == ()


@pytest.mark.parametrize("broker", ["default", "no brackets"])
async def test_e17_a_refused_stop_means_out_at_market(make_desk: MakeDesk, broker: str) -> None:
    desk = await in_position(make_desk(capabilities=BROKERS[broker]))
    desk.faults.inject("refuse-stops", None, "1")
    stop = next(o for o in live(desk) if o.terms.type is OrderType.STOP)
    out_of_band.cancel_order(desk.exchange, stop.broker_id, desk.clock.now(), "cancelled by the broker")
    await desk.until(lambda: desk.position() == 0, 8)
    await desk.pass_(5)
    assert desk.broker_position() == 0
    assert live(desk) == ()
    assert any(o.role is Role.STOP and o.state is OrderState.REJECTED for o in desk.orders())


async def test_a_refused_stop_asks_when_the_session_says_so(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(session={"naked": Remedy.ASK}))
    desk.faults.inject("refuse-stops", None, "1")
    stop = next(o for o in live(desk) if o.terms.type is OrderType.STOP)
    out_of_band.cancel_order(desk.exchange, stop.broker_id, desk.clock.now(), "cancelled by the broker")
    await desk.pass_(10)
    assert desk.broker_position() == 2
    assert desk.trader().desk.protection is ProtectionState.NAKED
    assert "NAKED 2" in alerts(desk)


async def test_price_through_a_missing_stop_means_out_at_market(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(capabilities=BROKERS["no brackets"]))
    desk.faults.inject("disconnect-account", None, "10")
    stop = next(o for o in live(desk) if o.terms.type is OrderType.STOP)
    out_of_band.cancel_order(desk.exchange, stop.broker_id, desk.clock.now(), "cancelled by the broker")
    desk.feed.trade(ES, "4985")
    await desk.until(lambda: desk.position() == 0, 25)
    await desk.pass_(5)
    assert desk.broker_position() == 0
    assert live(desk) == ()


@pytest.mark.parametrize(("price", "stands"), [("4990.25", True), ("4990", False)])
async def test_price_at_a_missing_stop_means_out_and_a_tick_before_it_a_new_stop(
    make_desk: MakeDesk, price: str, stands: bool
) -> None:
    desk = await in_position(make_desk(capabilities=BROKERS["no brackets"]))
    stop = next(o for o in live(desk) if o.terms.type is OrderType.STOP)
    desk.feed.late(ES, price, desk.clock.now())  # nobody trades there: the exchange's own price stays away from it
    out_of_band.cancel_order(desk.exchange, stop.broker_id, desk.clock.now(), "cancelled by the broker")
    await desk.until(lambda: bool(stops(desk)) if stands else desk.broker_position() == 0, 8)
    await desk.pass_(3)
    assert stops(desk) == ([(Decimal(2), Decimal(4990))] if stands else [])
    assert desk.broker_position() == (2 if stands else 0)


async def test_the_first_stop_of_a_life_is_no_second_try(make_desk: MakeDesk) -> None:
    """The stop of the life before is gone, and so is the first of this one at once: it is placed again."""
    desk = await in_position(make_desk(capabilities=BROKERS["no brackets"]))
    await kill(desk)
    for order in live(desk):
        out_of_band.cancel_order(desk.exchange, order.broker_id, desk.clock.now(), "cancelled by the broker")
    again = await next_life(desk, make_desk, trading=False)
    for _ in range(2):
        await again.until(lambda: len(stops(again)) == 1, 20)
        (stop,) = live(again)
        out_of_band.cancel_order(again.exchange, stop.broker_id, again.clock.now(), "cancelled by the broker")
        await again.until(lambda: stops(again) == [], 1)
        if again.broker_position() == 0:
            break
    await again.pass_(5)
    made = [o for o in again.orders(Role.STOP) if o.reason == "re-armed" or o.state is OrderState.CANCELLED]
    assert len(made) == 3, "that of the life before, the first of this one, and one more"
    assert again.broker_position() == 0, "a stop that does not stay is no cover: out"


async def test_an_inert_stop_alarms_is_a_disagreement_and_flatten_still_closes(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.faults.inject("inert-stop", ES, "")
    desk.feed.trade(ES, "4989")
    await desk.pass_(4)
    assert "STOP NOT PROTECTING" not in alerts(desk)
    await desk.pass_(4)
    assert "STOP NOT PROTECTING" in alerts(desk)
    assert desk.trader().desk.protection is ProtectionState.INERT
    (row,) = desk.snapshot().disagreements
    assert row.kind is DisagreementKind.STOP_NOT_PROTECTING
    assert desk.blocks()
    assert desk.broker_position() == 2
    await desk.pass_(20)
    assert len(desk.snapshot().disagreements) == 1
    await desk.send(lambda o: c.Flatten(origin=o, session=SESSION))
    await desk.until(lambda: desk.broker_position() == 0, 10)
    await desk.pass_(8)
    assert live(desk) == ()


async def test_a_stop_that_works_raises_no_alarm(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.feed.trade(ES, "4989")
    await desk.pass_(10)
    assert desk.position() == 0
    assert "STOP NOT PROTECTING" not in alerts(desk)


async def test_an_exit_sized_from_memory_when_the_broker_is_silent_is_marked(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    await before_the_close(desk)
    desk.faults.inject("fail-queries", None, "20")
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0, 5)
    await desk.pass_(30)
    sold = [o for o in desk.orders() if o.terms.side is Side.SELL and o.filled]
    assert [Flag.SIZED_FROM_MEMORY in o.flags for o in sold] == [True]


async def test_r10_an_exit_after_the_margin_desk_closed_a_part_never_reverses(make_desk: MakeDesk) -> None:
    """The position is read afresh before an exit is sized: what is gone already is not sold again."""
    desk = await in_position(make_desk())
    await before_the_close(desk)
    desk.faults.inject("margin-desk", ES, "1")
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.pass_(40)
    assert desk.broker_position() == desk.position() == 0
    assert live(desk) == ()


async def test_an_entry_against_the_position_is_tightened_to_an_exit(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.strategies[ES].script.append(enter(Side.SELL, "5010", quantity="5"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 0, 8)
    await desk.pass_(5)
    assert desk.broker_position() == 0


async def test_the_exit_that_cannot_leave_waits_for_the_link_and_is_sized_again(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    await before_the_close(desk)
    desk.faults.inject("disconnect-account", None, "20")
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.pass_(5)
    assert desk.broker_position() == 2
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-1), desk.clock.now())
    await desk.until(lambda: desk.broker_position() == 0, 40)
    await desk.pass_(40)
    assert desk.broker_position() == desk.position() == 0
    assert live(desk) == ()


def lose_the_next_order(desk: Desk) -> None:
    """Let the next submit, and nothing before it, be lost on its way."""
    send = desk.link.request

    async def request(call: Callable[[int], Any], *, is_order: bool = False) -> Any:
        if is_order:
            desk.link.armed.lose_requests += 1
            desk.link.request = send  # type: ignore[method-assign]
        return await send(call, is_order=is_order)

    desk.link.request = request  # type: ignore[method-assign]


async def test_a_position_whose_exit_is_in_doubt_is_naked_and_covered_again_once_the_exit_is_lost(
    make_desk: MakeDesk,
) -> None:
    """Its stop gave way to the exit, and the exit never arrived: nothing guarded it, and nobody was told."""
    desk = await in_position(make_desk(capabilities=BROKERS["no conversion"]))
    lose_the_next_order(desk)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: [o.state for o in desk.orders(Role.EXIT)] == [OrderState.IN_DOUBT_SUBMIT], 10)
    assert stops(desk) == []
    assert desk.trader().desk.protection is ProtectionState.COVERING
    await desk.pass_(8)
    assert desk.trader().desk.protection is ProtectionState.NAKED
    assert any("NAKED 2 ESZ6: exit" in alert.text for alert in desk.engine.board.alerts())
    assert stops(desk) == [], "no second order beside one that may be executed any moment"
    exit = desk.orders(Role.EXIT)[0]
    while desk.trader().desk.current(exit).state is not OrderState.LOST:
        desk.feed.trade(ES, "5000")
        await desk.pass_(5)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 5)
    assert stops(desk) == [(Decimal(2), Decimal("4990"))]
    assert not any(alert.lasting and "NAKED" in alert.text for alert in desk.engine.board.alerts())


async def test_an_exit_that_was_lost_and_fills_after_all_takes_the_new_stop_with_it(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(capabilities=BROKERS["no conversion"]))
    await before_the_close(desk)
    desk.strategies[ES].script.append(leave)
    desk.faults.inject("next-order-slow", None, "150")
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.orders(Role.EXIT) != [], 10)
    exit = desk.orders(Role.EXIT)[0]
    while desk.trader().desk.current(exit).state is not OrderState.LOST:
        desk.feed.trade(ES, "5000")
        await desk.pass_(5)
    await desk.until(lambda: stops(desk) != [], 5)
    while desk.broker_position():
        desk.feed.trade(ES, "5000")
        await desk.pass_(5)
    await desk.until(lambda: desk.position() == 0 and not live(desk), 5)
    assert desk.broker_position() == 0


@pytest.mark.parametrize("seconds", [0.3, 3])
async def test_a_position_that_shrinks_during_a_slow_cancel_is_not_turned_round(
    make_desk: MakeDesk, seconds: float
) -> None:
    """The exit was sized before its stop was cancelled; meanwhile the broker's own desk closed a part."""
    desk = await in_position(make_desk(capabilities=Capabilities(replace_may_change_type=False)))
    cancel = desk.manager.cancel

    async def slow(broker_id: BrokerOrderId) -> SubmitAnswer:
        out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-1), desk.clock.now())
        await desk.clock.sleep(seconds)
        return await cancel(broker_id)

    held: list[Decimal] = []
    desk.exchange.listen(PAPER, lambda _: held.append(desk.broker_position()))
    desk.manager.cancel = slow  # type: ignore[method-assign]
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0, 15)
    await desk.pass_(10)
    assert min(held) == 0, "never short"
    assert desk.position() == desk.broker_position() == 0

"""Single steps of the roads out: what is proven before the next step, what stops an exit, what a refusal leads to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise

import pytest
from msgspec.structs import replace

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import (
    AcceptedOrder,
    BrokerOrder,
    BrokerPosition,
    Capabilities,
    IdMode,
    RefusedOrder,
    ReplaceQuantity,
    SubmitAnswer,
)
from engine.domain.ids import BrokerOrderId, ClientOrderId, SessionId, Symbol
from engine.domain.intents import IntentRecord, SubmitIntent
from engine.domain.orders import Flag, Order, OrderState, Role
from engine.outbound.exit_road import ExitResult, Failed, Held, Left
from engine.ports import NotHolder, Taken
from engine.session import NotSent
from tests.flows.acts import kill, next_life, next_window, rows
from tests.flows.harness import ES, NQ, PAPER, Desk
from tests.flows.script import StoreAround, enter, in_position, leave
from tests.flows.test_outbound_exits import before_the_close, live, lose_the_next_order, stops, watch_exits

MakeDesk = Callable[..., Desk]
SESSION = SessionId(f"s-{ES}")
NO_CONVERSION = Capabilities(replace_may_change_type=False)


def slow_cancels(desk: Desk, seconds: float) -> None:
    """Every cancel takes so long to reach the broker."""
    cancel = desk.manager.cancel

    async def slow(broker_id: BrokerOrderId) -> SubmitAnswer:
        await desk.clock.sleep(seconds)
        return await cancel(broker_id)

    desk.manager.cancel = slow  # type: ignore[method-assign]


def late_cancels(desk: Desk, seconds: float) -> None:
    """Every cancel is accepted at once and carried out so much later."""
    cancel = desk.manager.cancel

    async def carried_out(broker_id: BrokerOrderId) -> None:
        await desk.clock.sleep(seconds)
        await cancel(broker_id)

    async def accepted(broker_id: BrokerOrderId) -> SubmitAnswer:
        desk.trader().desk.tasks.launch(carried_out(broker_id), f"late cancel of {broker_id}")
        return AcceptedOrder(broker_id)

    desk.manager.cancel = accepted  # type: ignore[method-assign]


def answer_cancels(desk: Desk, answer: SubmitAnswer) -> list[BrokerOrderId]:
    """Every cancel is answered so, and nothing else comes of it; those asked for."""
    asked: list[BrokerOrderId] = []

    async def answered(broker_id: BrokerOrderId) -> SubmitAnswer:
        asked.append(broker_id)
        return answer

    desk.manager.cancel = answered  # type: ignore[method-assign]
    return asked


def leaving(desk: Desk) -> asyncio.Task[ExitResult]:
    """An exit of everything, begun now."""
    return desk.trader().desk.tasks.spawn(desk.trader().exits.leave("test", None, "by test"), "exit by test")


async def resting(desk: Desk) -> Order:
    """A limit entry at work at the broker."""
    await desk.start()
    desk.strategies[ES].script.append(enter(limit="4980", stop="4970"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(3)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.WORKING
    return entry


# -- proof before the next step -----------------------------------------------------------------------------


async def test_no_stop_becomes_a_market_order_while_another_pair_may_still_close(make_desk: MakeDesk) -> None:
    """Two brackets hold the position: the second has to be gone, with proof, before the first closes everything."""
    desk = await in_position(make_desk(), enter(target="5050", quantity="1"), size=1)
    desk.strategies[ES].script.append(enter(target="5060", quantity="1"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2 and len(live(desk)) == 4, 8)
    await desk.pass_(3)
    second = desk.orders(Role.ENTRY)[-1]
    legs = {o.client_id for o in desk.orders() if o.parent == second.client_id}
    excess, beside = watch_exits(desk), list[object]()

    def look(_: object) -> None:
        if not desk.broker_position():
            beside.extend(o.client_id for o in live(desk) if o.client_id in legs)

    desk.exchange.listen(PAPER, look)
    late_cancels(desk, 7)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0, 60)
    await desk.pass_(15)
    assert (excess, beside) == ([], [])
    assert desk.broker_position() == desk.position() == 0
    assert live(desk) == ()


@pytest.mark.parametrize("silent", [False, True])
async def test_an_exit_read_again_after_a_slow_cancel_says_whether_the_broker_answered(
    make_desk: MakeDesk, silent: bool
) -> None:
    desk = await in_position(make_desk(capabilities=NO_CONVERSION))
    await before_the_close(desk)
    slow_cancels(desk, 1.5)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: any(o.cancel_wanted for o in desk.orders(Role.STOP)), 3)
    if silent:
        desk.faults.inject("fail-queries", None, "20")
    await desk.until(lambda: desk.broker_position() == 0, 8)
    (exit,) = desk.orders(Role.EXIT)
    assert exit.terms.quantity == 2
    assert (Flag.SIZED_FROM_MEMORY in exit.flags) is silent


async def test_a_flatten_closes_only_once_the_entries_cancel_is_proven(make_desk: MakeDesk) -> None:
    """Until then the entry may fill, and what fills after the close would stand alone."""
    desk = await in_position(make_desk())
    desk.strategies[ES].script.append(enter(limit="4995", quantity="1"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(3)
    entry = desk.orders(Role.ENTRY)[-1]
    slow_cancels(desk, 2)
    await desk.send(lambda o: c.Flatten(origin=o, session=SESSION))
    await desk.pass_(1.5)
    assert desk.trader().desk.current(entry).is_open
    assert desk.broker_position() == 2
    await desk.until(lambda: desk.broker_position() == 0, 3)
    assert desk.trader().desk.current(entry).state is OrderState.CANCELLED
    await desk.pass_(5)
    assert live(desk) == ()


# -- what stops an exit -------------------------------------------------------------------------------------


async def test_an_exit_whose_decision_was_used_before_does_not_leave_and_says_so(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(capabilities=NO_CONVERSION, wrap_store=StoreAround.wrap))
    commit = desk.store.commit

    async def used(intent: IntentRecord) -> object:
        return Taken("an earlier order") if isinstance(intent, SubmitIntent) else await commit(intent)

    desk.store.commit = used  # type: ignore[method-assign, assignment]
    exiting = leaving(desk)
    await desk.until(exiting.done, 60)
    result = exiting.result()
    assert isinstance(result, Failed)
    assert result.text == "this decision was used before (an earlier order)"
    assert desk.broker_position() == 2
    assert {o.state for o in desk.orders(Role.EXIT)} == {OrderState.ABANDONED}


async def test_an_exit_beside_one_in_doubt_is_held_at_once_and_names_it(make_desk: MakeDesk) -> None:
    """Held, not failed: only what is held may be forced by a typed word or by the settings."""
    desk = await in_position(make_desk(capabilities=NO_CONVERSION))
    lose_the_next_order(desk)
    first = leaving(desk)
    await desk.until(first.done, 20)
    (exit,) = desk.orders(Role.EXIT)
    assert exit.state is OrderState.IN_DOUBT_SUBMIT
    begun, second = desk.clock.now(), leaving(desk)
    await desk.until(second.done, 10)
    held = second.result()
    assert isinstance(held, Held)
    assert held.order.client_id == exit.client_id
    assert desk.clock.now() - begun < 1_000
    assert desk.orders(Role.EXIT) == [desk.trader().desk.current(exit)]


async def test_a_converted_stop_is_the_exit_and_asked_for_once(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    exiting = leaving(desk)
    await desk.until(exiting.done, 5)
    result = exiting.result()
    assert isinstance(result, Left)
    assert result.order is not None
    assert (result.order.client_id, result.text) == (stop.client_id, f"stop {stop.client_id} became a market order")
    assert not result.order.flags & {Flag.SIZED_FROM_MEMORY, Flag.MISSED, Flag.FORCED}


async def test_nothing_to_close_needs_two_answers(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    road, asked = desk.trader().desk.road, list[Symbol]()
    ask = road.fresh_position

    async def counted(symbol: Symbol, seconds: float) -> BrokerPosition | None:
        asked.append(symbol)
        return await ask(symbol, seconds)

    road.fresh_position = counted  # type: ignore[method-assign]
    exiting = leaving(desk)
    await desk.until(exiting.done, 5)
    assert exiting.result() == Left(None, "nothing to close")
    assert asked == [ES, ES]


async def test_an_exit_beside_one_that_works_is_that_one_and_under_way(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(capabilities=NO_CONVERSION))
    desk.faults.inject("partial-fills", None, "1")
    first = leaving(desk)
    await desk.until(lambda: first.done() and desk.position() == 1, 10)
    (exit,) = desk.orders(Role.EXIT)
    second = leaving(desk)
    await desk.until(second.done, 10)
    result = second.result()
    assert isinstance(result, Left)
    assert (result.order, result.text) == (exit, "under way")
    assert desk.orders(Role.EXIT) == [exit]


async def test_an_exit_that_another_holder_stops_is_not_even_journalled(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(capabilities=NO_CONVERSION, wrap_store=StoreAround.wrap))
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)

    async def not_ours(intent: IntentRecord) -> NotHolder:
        return NotHolder("another desk")

    desk.store.commit = not_ours  # type: ignore[method-assign]
    exiting = leaving(desk)
    await desk.pass_(3)
    assert stops(desk) == [(Decimal(2), Decimal(4990))], "the stop's cancel did not leave either"
    after = desk.trader().desk.current(stop)
    assert "another desk" in after.reason
    assert not [o for o in desk.orders() if Flag.JOURNALLED in o.flags]
    exiting.cancel()


async def test_an_exit_cut_off_while_it_is_written_never_leaves_and_holds_nothing(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(capabilities=Capabilities(brackets=False), wrap_store=StoreAround.wrap))
    (stop,) = live(desk)
    written = asyncio.Event()

    async def hang(intent: IntentRecord) -> None:
        written.set()
        await desk.clock.sleep(30)

    out_of_band.cancel_order(desk.exchange, stop.broker_id, desk.clock.now(), "cancelled by the broker")
    StoreAround.of(desk).after_commit = hang
    desk.trader().guard.stop_price = None  # no new stop stands in its way
    exiting = leaving(desk)
    await desk.until(written.is_set, 3)
    exiting.cancel()
    await desk.pass_(1)
    assert exiting.cancelled()
    (exit,) = desk.orders(Role.EXIT)
    assert (exit.state, exit.reason) == (OrderState.ABANDONED, "it was cut off before it left")
    assert desk.broker_position() == 2


async def test_an_entry_that_the_link_did_not_take_is_abandoned_with_its_legs(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()

    async def down(request: object) -> NotSent:
        return NotSent("the account link is down")

    desk.trader().desk.road.submit = down  # type: ignore[method-assign]
    desk.strategies[ES].script.append(enter(target="5050"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(3)
    told = {(o.role, o.state, o.reason) for o in desk.orders()}
    assert told == {(r, OrderState.ABANDONED, "the account link is down") for r in (Role.ENTRY, Role.STOP, Role.TARGET)}
    assert desk.snapshot().heat.reservations == ()
    assert live(desk) == ()


# -- cancels that are refused, and those without a final word -----------------------------------------------


@pytest.mark.parametrize(
    ("not_open", "state"), [(True, OrderState.IN_DOUBT_CANCEL), (False, OrderState.WORKING)], ids=["not open", "other"]
)
async def test_a_refused_cancel_asks_for_the_orders_at_once(
    make_desk: MakeDesk, not_open: bool, state: OrderState
) -> None:
    """ "Not open" is a doubt, any other word leaves the order working; either way the broker's list is asked."""
    desk = make_desk()
    entry = await resting(desk)
    asked: list[int] = []
    ask = desk.manager.open_orders

    async def counted() -> object:
        asked.append(desk.clock.now())
        return await ask()

    desk.manager.open_orders = counted  # type: ignore[method-assign, assignment]
    answer_cancels(desk, RefusedOrder("no", not_open=not_open))
    begun = desk.clock.now()
    await desk.send(lambda o: c.CancelOrder(origin=o, order=entry.client_id))
    after = desk.trader().desk.current(entry)
    assert (after.state, after.cancel_wanted) == (state, not_open)
    await desk.until(lambda: bool(asked), 1)
    assert asked[0] - begun < 1_000


async def test_a_cancel_without_a_final_word_is_in_doubt_after_five_seconds(make_desk: MakeDesk) -> None:
    desk = make_desk()
    entry = await resting(desk)
    asked = answer_cancels(desk, AcceptedOrder(entry.broker_id or BrokerOrderId("")))
    await desk.send(lambda o: c.CancelOrder(origin=o, order=entry.client_id))
    begun = desk.clock.now()
    assert desk.trader().desk.current(entry).state is OrderState.PENDING_CANCEL
    await desk.until(lambda: desk.trader().desk.current(entry).state is OrderState.IN_DOUBT_CANCEL, 6)
    assert desk.clock.now() - begun >= 4_900
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("not_open", "state"), [(True, OrderState.IN_DOUBT_REPLACE), (False, OrderState.WORKING)], ids=["not open", "other"]
)
async def test_a_refused_replace_leaves_the_old_terms_or_a_doubt(
    make_desk: MakeDesk, not_open: bool, state: OrderState
) -> None:
    desk = make_desk()
    entry = await resting(desk)

    async def refused(*arguments: object) -> SubmitAnswer:
        return RefusedOrder("no", not_open=not_open)

    desk.manager.replace = refused  # type: ignore[method-assign, assignment]
    lower = replace(entry.terms, limit=Decimal(4979))
    asking = desk.trader().desk.tasks.spawn(desk.trader().submission.replace(entry, lower, "by test"), "replace")
    await desk.until(asking.done, 3)
    assert (asking.result().state, asking.result().terms) == (state, entry.terms)


async def test_a_replace_that_no_fill_crosses_raises_no_doubt_though_a_part_had_filled(make_desk: MakeDesk) -> None:
    """Where the broker reads what remains, only what fills while the request is under way makes the order larger."""
    broker = Capabilities(replace_quantity=ReplaceQuantity.REMAINING)
    desk = await make_desk(capabilities=broker).start()
    desk.faults.inject("partial-fills", None, "1")
    desk.strategies[ES].script.append(enter(limit="5000", quantity="3"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 1, 5)
    await desk.pass_(3)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.filled == 1
    lower = replace(entry.terms, limit=Decimal(4998))
    asking = desk.trader().desk.tasks.spawn(desk.trader().submission.replace(entry, lower, "by test"), "replace")
    await desk.until(asking.done, 3)
    after = asking.result()
    assert (after.state, after.terms, after.doubt) == (OrderState.PARTIALLY_FILLED, lower, None)


@pytest.mark.parametrize("broker_says", ["one", "two", "nothing in time"])
async def test_what_the_broker_holds_is_read_before_an_exit_is_replaced_where_it_reads_what_remains(
    make_desk: MakeDesk, broker_says: str
) -> None:
    """Never larger than that; and where the broker is silent the replace leaves all the same."""
    broker = Capabilities(replace_quantity=ReplaceQuantity.REMAINING, brackets=False)
    desk = await in_position(make_desk(capabilities=broker))
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    if broker_says == "one":
        out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-1), desk.clock.now())
    elif broker_says == "nothing in time":
        desk.faults.inject("fail-queries", None, "20")
    doubted: list[str] = []

    def suspected(reason: str, orders: bool = False) -> None:
        if orders:
            doubted.append(reason)

    desk.trader().desk.road.suspect = suspected  # type: ignore[method-assign]
    closer = replace(stop.terms, stop=Decimal(4995))
    asking = desk.trader().desk.tasks.spawn(desk.trader().submission.replace(stop, closer, "by test"), "replace")
    await desk.until(asking.done, 5)
    assert stops(desk) == [(Decimal(1 if broker_says == "one" else 2), Decimal(4995))]
    told = ["ESZ6: broker 1 before a replace", f"{stop.client_id} filled while it was replaced"]
    assert doubted == (told if broker_says == "one" else [])


# -- doubt --------------------------------------------------------------------------------------------------


async def test_the_alert_of_a_doubt_stands_as_long_as_the_doubt(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await before_the_close(desk)
    desk.strategies[ES].script.append(enter(limit="4980", stop="4970"))
    desk.faults.inject("lose-answer", None, "")
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(desk.orders(Role.ENTRY)) and desk.orders(Role.ENTRY)[0].sent is not None, 4)
    desk.faults.inject("fail-queries", None, "20")
    await desk.until(lambda: desk.orders(Role.ENTRY)[0].is_in_doubt, 8)
    (entry,) = desk.orders(Role.ENTRY)

    def lasting() -> list[bool]:
        return [a.lasting for a in desk.engine.board.alerts() if a.id == f"doubt:{entry.client_id}"]

    await desk.clock.settle()
    while desk.trader().desk.current(entry).is_in_doubt:
        assert lasting() == [True]
        await desk.pass_(1)
    assert lasting() == []


async def test_a_doubt_is_asked_about_soon_then_less_often_then_every_ten_seconds(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await before_the_close(desk)
    link, asked = desk.engine.accounts[PAPER].link, list[int]()
    find = link.find

    async def noted(
        client_id: ClientOrderId, since: int, known: BrokerOrderId | None = None
    ) -> tuple[BrokerOrder, ...] | None:
        if client_id == desk.orders(Role.ENTRY)[0].client_id:
            asked.append(desk.clock.now())
        return await find(client_id, since, known)

    link.find = noted  # type: ignore[method-assign]
    lose_the_next_order(desk)
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: len(asked) == 7, 60)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.doubt is not None
    waits = [round((at - before) / 1000) for before, at in pairwise([entry.doubt.since, *asked])]
    assert waits == [1, 1, 2, 4, 8, 10, 10], "at 1, 2, 4, 8 and 16 s, then every ten"


async def test_a_doubt_stops_the_entries_of_its_own_session_only(make_desk: MakeDesk) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    await before_the_close(desk)
    lose_the_next_order(desk)
    desk.strategies[ES].script += [enter(), enter()]
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: any(o.is_in_doubt for o in desk.orders(Role.ENTRY)), 8)
    desk.strategies[NQ].script.append(enter(stop="19900"))
    desk.feed.trade(NQ, "20000")
    await next_window(desk)
    await desk.until(lambda: desk.position(NQ) == 2, 8)
    assert [o.state for o in desk.orders(Role.ENTRY)] == [OrderState.IN_DOUBT_SUBMIT, OrderState.DENIED]


async def test_a_match_without_a_name_says_in_the_trail_which_order_it_took_and_how(make_desk: MakeDesk) -> None:
    desk = await make_desk(capabilities=Capabilities(id_mode=IdMode.NONE, find_by_client_id=False)).start()
    desk.faults.inject("lose-answer", None, "")
    desk.strategies[ES].script.append(enter(limit="4980", stop="4970"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: any(Flag.MATCHED_BY_SHAPE in o.flags for o in desk.orders(Role.ENTRY)), 30)
    (entry,) = desk.orders(Role.ENTRY)
    found = next(o for o in desk.exchange.open_orders(PAPER) if o.parent is None)
    assert entry.broker_id == found.broker_id
    told = await rows(desk, "SELECT event, detail FROM order_events WHERE client_id = ?", entry.client_id)
    assert ("named by its leg", found.broker_id) in told
    (stop,) = desk.orders(Role.STOP)
    told = await rows(desk, "SELECT event, detail FROM order_events WHERE client_id = ?", stop.client_id)
    assert ("matched by shape", stop.broker_id) in told


# -- what guards --------------------------------------------------------------------------------------------


async def test_a_target_that_still_stands_at_the_broker_is_not_watched_here_too(make_desk: MakeDesk) -> None:
    """Its cancel is under way: until that is proven, the broker's own order may close the position."""
    desk = await in_position(make_desk(), enter(target="5050"))
    late_cancels(desk, 3)
    stop = next(o for o in live(desk) if o.terms.stop is not None)
    out_of_band.cancel_order(desk.exchange, stop.broker_id, desk.clock.now(), "cancelled by the broker")
    guard = desk.trader().guard
    await desk.until(lambda: guard.target_price == 5050 and stops(desk) == [(Decimal(2), Decimal(4990))], 8)
    (target,) = (o for o in desk.orders(Role.TARGET) if o.is_open)
    desk.feed.late(ES, "5050", desk.clock.now())
    await desk.until(lambda: not desk.trader().desk.current(target).is_open, 8)
    await desk.pass_(5)
    assert desk.broker_position() == 2
    assert stops(desk) == [(Decimal(2), Decimal(4990))]
    desk.feed.trade(ES, "5050")
    await desk.until(lambda: desk.broker_position() == 0, 8)


async def test_the_stop_of_the_newest_entry_is_the_one_that_is_armed_again(make_desk: MakeDesk) -> None:
    """Two entries made the position, and both their stops went while nobody looked."""
    desk = await in_position(make_desk(), enter(stop="4990", quantity="1"), size=1)
    desk.strategies[ES].script.append(enter(stop="4985", quantity="1"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2 and len(live(desk)) == 2, 8)
    await desk.pass_(3)
    assert desk.trader().guard._opening_entry() == desk.orders(Role.ENTRY)[-1]
    await kill(desk)
    for order in live(desk):
        out_of_band.cancel_order(desk.exchange, order.broker_id, desk.clock.now(), "cancelled by the broker")
    again = await next_life(desk, make_desk)
    await again.until(lambda: stops(again) == [(Decimal(2), Decimal(4985))], 15)


async def test_a_sleeping_entry_that_the_broker_calls_unfilled_holds_nothing_of_the_position(
    make_desk: MakeDesk,
) -> None:
    """Its legs sleep: an exit is a new order, and neither waits for them nor touches them."""
    desk = make_desk()
    entry = await resting(desk)
    legs = [o for o in desk.orders() if o.parent == entry.client_id]
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(2), desk.clock.now())
    await desk.until(lambda: desk.position() == 2, 45)
    assert desk.trader().desk.book.is_adopted
    exiting = leaving(desk)
    await desk.until(exiting.done, 5)
    (exit,) = desk.orders(Role.EXIT)
    assert exit.terms.quantity == 2
    assert exiting.result() == Left(exit, "exit sell 2 at market")
    assert legs
    assert [desk.trader().desk.current(leg) for leg in legs] == legs, "untouched"


async def test_fills_are_told_only_by_a_complete_answer(make_desk: MakeDesk) -> None:
    """A session that starts again asks until it got one."""
    desk = await in_position(make_desk())
    recovery, tasks = desk.trader().recovery, desk.trader().desk.tasks
    for answers in (True, False):
        if not answers:
            desk.faults.inject("fail-queries", None, "20")
        asking = tasks.spawn(recovery.fetch_fills(0), "fills by test")
        await desk.until(asking.done, 15)
        assert asking.result() is answers

"""Flow 2 while the broker knows more than memory: fills unheard, keys used before, exits that do not act."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

import pytest
from msgspec.structs import replace as changed

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import (
    AcceptedOrder,
    AccountEvent,
    Capabilities,
    Enforcer,
    FillsKind,
    IdMode,
    OrderReported,
    ReplaceId,
    ReplaceQuantity,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.ids import BrokerOrderId, ClientOrderId, SessionId, decision_key
from engine.domain.intents import ReplaceIntent
from engine.domain.market import Tick
from engine.domain.orders import Flag, OrderState, OrderType, Role, Side, Terms
from engine.errors import AnswerLost
from engine.outbound.exit_road import Held
from engine.ports import Committed
from engine.snapshot import ProtectionState
from tests.flows.acts import alerts
from tests.flows.harness import ES, PAPER, Desk
from tests.flows.script import enter, in_position, leave, leave_part

MakeDesk = Callable[..., Desk]
SESSION = SessionId(f"s-{ES}")
BROKERS = {
    "executions": Capabilities(),
    "cumulative": Capabilities(fills=FillsKind.CUMULATIVE),
    "tag-less": Capabilities(id_mode=IdMode.NONE, find_by_client_id=False, fills=FillsKind.CUMULATIVE),
    "cannot convert": Capabilities(replace_may_change_type=False),
}


async def enter_unheard(desk: Desk) -> None:
    """The strategy buys two with a stop attached; the fill is never reported, and the reconciler does not ask."""
    desk.link.armed.drop_fills = 1
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 2, 5)
    await desk.pass_(1)
    assert desk.position() == 0


async def silent(*_: object) -> None:
    """A question that never gets a complete answer."""


@pytest.mark.parametrize("told", ["of the entry alone", "of nothing but positions"])
@pytest.mark.parametrize("broker", BROKERS)
async def test_an_exit_of_a_fill_unheard_leaves_no_leg_behind_that_could_turn_the_position(
    make_desk: MakeDesk, broker: str, told: str
) -> None:
    desk = await make_desk(capabilities=BROKERS[broker]).start()
    await enter_unheard(desk)
    link = desk.engine.accounts[PAPER].link
    link.fills_since = silent  # type: ignore[method-assign, assignment]
    link.open_orders = silent  # type: ignore[method-assign]
    if told == "of nothing but positions":
        link.find = silent  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0, 20)
    desk.feed.trade(ES, "4980")
    await desk.pass_(5)
    assert desk.broker_position() == 0


async def test_a_difference_is_adopted_only_after_our_own_orders_were_asked(make_desk: MakeDesk) -> None:
    """What the entry's own record explains is a fill, whatever the position says, also when the first list fails."""
    desk = await make_desk(capabilities=BROKERS["cumulative"]).start()
    await enter_unheard(desk)
    ask = desk.manager.open_orders
    failing = [True, True]

    async def sometimes() -> object:
        if failing:
            failing.pop()
            raise RuntimeError("503")
        return await ask()

    desk.manager.open_orders = sometimes  # type: ignore[method-assign, assignment]
    await desk.until(lambda: desk.position() == 2, 45)
    await desk.pass_(10)
    assert not failing
    assert desk.position() == desk.broker_position() == 2
    assert [o.filled for o in desk.orders(Role.ENTRY)] == [2]
    assert not [d for d in desk.snapshot().disagreements if d.state == "adopted"]


async def test_a_conversion_whose_key_an_earlier_life_used_leaves_all_the_same(make_desk: MakeDesk) -> None:
    """Its row had not caught up with what that life had asked: an exit was held back by it for ever."""
    desk = await in_position(make_desk())
    (stop,) = desk.orders(Role.STOP)
    book = desk.trader().desk
    origin = f"replace:{stop.client_id}:{book.lease.epoch}"
    used = ReplaceIntent(
        key=decision_key(SESSION, origin, "r", stop.revision),
        account=PAPER,
        session=SESSION,
        client_id=stop.client_id,
        terms=stop.terms,
        at=desk.clock.now(),
        epoch=book.lease.epoch,
        reason="an earlier life",
    )
    with desk.clock.outside():
        assert isinstance(await desk.real_store.commit(used), Committed)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0, 10)


async def test_a_cancel_that_was_held_back_after_its_commit_leaves_later(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    (stop,) = desk.orders(Role.STOP)
    lease = desk.trader().desk.lease
    asked = lease.why_nothing
    answers = [False, True]

    async def unsure(patience: float, begun: float | None = None) -> str | None:
        return "the lease is being read" if answers and answers.pop(0) else await asked(patience, begun)

    lease.why_nothing = unsure  # type: ignore[method-assign]
    receipt = await desk.send(lambda o: c.CancelOrder(origin=o, order=stop.client_id))
    assert receipt.taken
    await desk.until(lambda: not desk.trader().desk.current(stop).is_open, 20)
    assert not answers


async def test_a_market_exit_that_does_not_fill_is_no_protection(make_desk: MakeDesk) -> None:
    """Nobody trades: the converted stop rests as a market order, and after five seconds the alarm says so."""
    desk = await in_position(make_desk())
    desk.exchange.max_fill = Decimal(0)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: any(o.terms.type is OrderType.MARKET for o in desk.orders(Role.STOP)), 5)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.NAKED, 8)
    assert "NAKED 2 ESZ6" in alerts(desk)
    assert desk.position() == desk.broker_position() == 2


async def test_a_guard_that_gets_nowhere_keeps_nobody_else_from_running(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await in_position(make_desk())
    guard, book, looks = desk.trader().guard, desk.trader().desk.book, 0

    async def held_back_at_once() -> None:
        nonlocal looks
        looks += 1
        book.version += 1
        assert looks < 10_000, "the engine's loop belongs to the guard alone"

    monkeypatch.setattr(guard, "step", held_back_at_once)
    await desk.pass_(10)
    assert 10 < looks < 1_000, "it goes on looking, and others run meanwhile"


async def test_a_stop_does_not_grow_past_what_the_broker_holds(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    asked: list[Decimal] = []
    replace = desk.manager.replace

    async def seen(broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        asked.append(terms.quantity)
        return await replace(broker_id, client_id, terms)

    desk.manager.replace = seen  # type: ignore[method-assign]
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-1), desk.clock.now())
    desk.trader().desk.book.adopt_position(Decimal(4), Decimal(5000), "a wrong belief", desk.clock.now())
    await desk.until(lambda: desk.position() == 1, 45)
    await desk.pass_(5)
    assert asked == [1]
    assert "died" not in alerts(desk)


async def test_a_stop_that_fills_while_others_are_cancelled_is_not_closed_again(make_desk: MakeDesk) -> None:
    """Two stops: one is cancelled before the other is converted, and fills first."""
    broker = Capabilities(one_cancels_other=Enforcer.OURS)
    desk = await in_position(make_desk(capabilities=broker))
    desk.strategies[ES].script.append(enter(stop="4995", quantity="1"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 3, 5)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 8)
    cancel = desk.manager.cancel

    async def crossed(broker_id: object) -> object:
        desk.exchange.on_tick(Tick(ES, desk.clock.now(), Decimal(4995), Decimal(1)))
        return await cancel(broker_id)  # type: ignore[arg-type]

    desk.manager.cancel = crossed  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 0, 12)
    await desk.pass_(5)
    sold = [kept.fill.quantity for kept in desk.exchange.book.fills.values() if kept.fill.side is Side.SELL]
    assert sum(sold) == 3
    assert desk.broker_position() == 0


async def test_what_is_left_of_an_exit_is_cancelled_once_the_position_has_turned(make_desk: MakeDesk) -> None:
    """A market exit fills in part, somebody else closes the rest and more: what is left of it would add."""
    desk = await in_position(make_desk())
    desk.exchange.max_fill = Decimal(0)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: any(o.terms.type is OrderType.MARKET for o in desk.orders(Role.STOP)), 5)
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-3), desk.clock.now())
    await desk.until(lambda: desk.position() == -1, 60)
    await desk.pass_(5)
    assert not [o for o in desk.exchange.open_orders(PAPER) if o.terms.side is Side.SELL]


async def test_a_fill_that_crosses_a_replace_where_the_broker_reads_what_remains_is_asked_for(
    make_desk: MakeDesk,
) -> None:
    """It filled one while "two remain" was on its way: the broker makes a total of three of it."""
    broker = Capabilities(replace_quantity=ReplaceQuantity.REMAINING, brackets=False)
    desk = await in_position(make_desk(capabilities=broker))
    change = desk.manager.replace

    async def crossed(broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        desk.exchange.max_fill = Decimal(1)
        desk.feed.trade(ES, "4990")
        desk.exchange.max_fill = Decimal(0)
        return await change(broker_id, client_id, terms)

    desk.manager.replace = crossed  # type: ignore[method-assign]
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    await desk.send(
        lambda o: c.ModifyOrder(origin=o, order=stop.client_id, limit=None, stop=Decimal(4985), reason="moves")
    )
    desk.manager.replace = change  # type: ignore[method-assign]
    desk.exchange.max_fill = None
    await desk.pass_(6)
    held = desk.broker_position()
    resting = sum((o.terms.quantity - o.filled for o in desk.exchange.open_orders(PAPER)), Decimal(0))
    assert (desk.position(), held, resting) == (Decimal(1), Decimal(1), Decimal(1))


async def test_an_order_that_filled_what_it_was_made_is_not_over_where_the_fills_crossed_the_replace(
    make_desk: MakeDesk,
) -> None:
    """Two filled, and were heard, while "two remain" was on its way: the broker makes a total of four of it."""
    broker = Capabilities(replace_quantity=ReplaceQuantity.REMAINING, fills=FillsKind.CUMULATIVE, brackets=False)
    desk = await in_position(make_desk(capabilities=broker), enter(quantity="3"), size=3)
    change, waiting = desk.manager.replace, desk.trader().submission

    async def crossed(broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        desk.exchange.max_fill = Decimal(1)
        for _ in range(2):
            desk.feed.trade(ES, "4990")
            await desk.clock.sleep(0.1)
        assert desk.position() == 1
        desk.exchange.max_fill = Decimal(0)
        return await change(broker_id, client_id, terms)

    desk.manager.replace = crossed  # type: ignore[method-assign]
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    smaller = changed(stop.terms, quantity=Decimal(2))
    asking = desk.trader().desk.tasks.spawn(waiting.replace(stop, smaller, "by test"), "replace")
    await desk.until(asking.done, 5)
    assert asking.result().is_open
    desk.manager.replace, desk.exchange.max_fill = change, None  # type: ignore[method-assign]
    await desk.pass_(6)
    desk.feed.trade(ES, "4989")
    await desk.pass_(6)
    assert desk.position() == desk.broker_position() == 0
    assert not desk.exchange.open_orders(PAPER)


async def test_a_conversion_of_a_stop_with_a_fill_unheard_does_not_end_before_the_broker_ends_it(
    make_desk: MakeDesk,
) -> None:
    """One had filled unheard, and "two remain" was asked for: the broker makes a total of three of it."""
    broker = Capabilities(replace_quantity=ReplaceQuantity.REMAINING, fills=FillsKind.CUMULATIVE, brackets=False)
    desk = await in_position(make_desk(capabilities=broker), enter(quantity="3"), size=3)
    held: list[Decimal] = []
    listeners = desk.exchange._listeners[PAPER]
    (heard,) = listeners

    def mostly(event: AccountEvent) -> None:
        held.append(desk.broker_position())
        if not (isinstance(event, OrderReported) and event.order.filled == 1):
            heard(event)

    listeners[:] = [mostly]
    desk.exchange.max_fill = Decimal(1)
    desk.feed.trade(ES, "4990")
    assert (desk.broker_position(), desk.position()) == (Decimal(2), Decimal(3))
    leaving = desk.trader().desk.tasks.spawn(desk.trader().exits.leave("test", None, "by test"), "leave")
    for _ in range(10):
        await desk.pass_(1)
        desk.feed.trade(ES, "4990")
    await desk.pass_(10)
    assert leaving.done()
    assert min(held) == 0, "never short"
    assert desk.position() == desk.broker_position() == 0


async def test_a_final_word_with_less_than_was_booked_ends_the_order_when_it_is_repeated(make_desk: MakeDesk) -> None:
    """Where fills come as cumulative quantities, nothing else tells that one was voided."""
    desk = await make_desk(capabilities=Capabilities(fills=FillsKind.CUMULATIVE), max_fill=Decimal(1)).start()
    desk.strategies[ES].script.append(enter(limit="4999", quantity="3"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(2)
    desk.feed.trade(ES, "4999")
    await desk.until(lambda: desk.position() == 1, 5)
    (entry,) = desk.orders(Role.ENTRY)
    account = desk.engine.accounts[PAPER]
    hear, account._on_event = account._on_event, lambda event: None  # type: ignore[method-assign]
    account.link._on_event = account._on_event
    out_of_band.bust_last_fill(desk.exchange, PAPER, ES, desk.clock.now())
    assert entry.broker_id is not None
    out_of_band.cancel_order(desk.exchange, entry.broker_id, desk.clock.now(), "by the broker")
    await desk.pass_(1)
    account.link._on_event = hear
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: not desk.trader().desk.current(entry).is_open, 60)
    await desk.until(lambda: desk.position() == 0, 60)
    assert "busted" in desk.trader().desk.current(entry).flags


async def test_a_kill_without_its_file_says_so_until_the_file_is_written(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    latch = desk.engine.plan.kill_latch
    write = latch.set
    full = [True]

    def sometimes(reason: str) -> None:
        if full:
            raise OSError(28, "no space left on device")
        write(reason)

    latch.set = sometimes  # type: ignore[method-assign]
    receipt = await desk.send(lambda o: c.Kill(origin=o, flatten=False))
    assert receipt.taken
    await desk.pass_(5)
    assert "has no latch file" in alerts(desk)
    full.clear()
    await desk.until(latch.is_set, 5)


async def test_a_stop_replaced_twice_between_its_fills_has_the_size_that_was_meant(make_desk: MakeDesk) -> None:
    """Where each replace makes a new order, its total is counted from that order, not from the first."""
    desk = await in_position(make_desk(capabilities=Capabilities(replace_id=ReplaceId.CHANGES)), enter(quantity="2"))
    left: list[Decimal] = []
    replace = desk.manager.replace

    async def seen(broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        left.append(terms.quantity - desk.exchange.book.orders[broker_id].record.filled)
        return await replace(broker_id, client_id, terms)

    (stop,) = desk.orders(Role.STOP)
    desk.trader().desk.book.adopt_position(Decimal(6), Decimal(5000), "as the broker has it", desk.clock.now())
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(4), desk.clock.now())
    await desk.until(lambda: desk.trader().desk.current(stop).remaining == 6, 10)
    desk.manager.replace = seen  # type: ignore[method-assign]
    desk.exchange.max_fill = Decimal(1)
    for price, moved in (("4990", "4988"), ("4988", "4986")):
        before = desk.position()
        desk.feed.trade(ES, price)
        desk.exchange.max_fill = Decimal(0)
        await desk.until(lambda seen=before: desk.position() < seen, 5)  # type: ignore[misc]
        await desk.send(
            lambda o, at=moved: c.ModifyOrder(  # type: ignore[misc]
                origin=o, order=stop.client_id, limit=None, stop=Decimal(at), reason="moves"
            )
        )
        desk.exchange.max_fill = Decimal(1)
    assert left == [desk.position() + 1, desk.position()]
    assert desk.position() == desk.broker_position() == 4


async def test_the_record_of_a_refused_order_is_not_taken_for_the_next_one_that_looks_like_it(
    make_desk: MakeDesk,
) -> None:
    """Without ids of ours in the records: the second exit is on its slow way, and a third would turn us round."""
    broker = Capabilities(id_mode=IdMode.NONE, find_by_client_id=False, brackets=False, replace_may_change_type=False)
    desk = await in_position(make_desk(capabilities=broker))
    submit = desk.manager.submit
    tries: list[Decimal] = []

    async def troubled(request: SubmitRequest) -> SubmitAnswer:
        tries.append(request.terms.quantity)
        if len(tries) == 1:
            out_of_band.refuse_next(desk.exchange, PAPER, "by the risk desk", stops_only=False)
        if len(tries) == 2:
            desk.link.armed.slow_next_ms = 8_000
        return await submit(request)

    desk.manager.submit = troubled  # type: ignore[method-assign]
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 0, 40)
    await desk.pass_(20)
    assert desk.broker_position() == 0
    assert len(tries) == 2


async def test_a_stop_moved_while_a_fill_of_it_is_unheard_asks_for_no_more_than_is_held(make_desk: MakeDesk) -> None:
    """Where the broker reads what remains, memory's count of it would make the stop one too large."""
    broker = Capabilities(replace_quantity=ReplaceQuantity.REMAINING, brackets=False)
    desk = await in_position(make_desk(capabilities=broker))
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    desk.exchange.max_fill = Decimal(1)
    desk.link.armed.drop_fills = 1
    desk.feed.trade(ES, "4990")
    desk.exchange.max_fill = Decimal(0)
    assert desk.broker_position() == 1
    await desk.send(
        lambda o: c.ModifyOrder(origin=o, order=stop.client_id, limit=None, stop=Decimal(4985), reason="moves")
    )
    resting = sum((o.terms.quantity - o.filled for o in desk.exchange.open_orders(PAPER)), Decimal(0))
    assert resting == desk.broker_position() == 1


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("ids", list(ReplaceId))
@pytest.mark.parametrize("fills", list(FillsKind))
async def test_a_fill_that_crosses_a_replace_unheard_leaves_no_stop_larger_than_the_position(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch, ids: ReplaceId, fills: FillsKind, flat: bool
) -> None:
    """One had filled while "so much remains" was on its way, and no event told of it: the next tick would turn it."""
    remaining = ReplaceQuantity.REMAINING
    broker = Capabilities(replace_quantity=remaining, replace_id=ids, fills=fills, brackets=False)
    desk = await in_position(make_desk(capabilities=broker))
    change, deaf = desk.manager.replace, False
    monkeypatch.setattr(desk.link, "_is_dropped", lambda event: deaf)

    async def crossed(broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        nonlocal deaf
        desk.exchange.max_fill, deaf = Decimal(1), True
        desk.exchange.on_tick(Tick(ES, desk.clock.now(), Decimal(4990), Decimal(1)))
        deaf = False
        if not flat:
            desk.exchange.max_fill = Decimal(0)
        return await change(broker_id, client_id, terms)

    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    monkeypatch.setattr(desk.manager, "replace", crossed)
    moved = Decimal(4995 if flat else 4985)  # through the market, it fills one more on arrival, and that is told
    await desk.send(lambda o: c.ModifyOrder(origin=o, order=stop.client_id, limit=None, stop=moved, reason="moves"))
    monkeypatch.setattr(desk.manager, "replace", change)
    desk.exchange.max_fill = None
    await desk.pass_(2.5)
    held = desk.broker_position()
    resting = sum((o.terms.quantity - o.filled for o in desk.exchange.open_orders(PAPER)), Decimal(0))
    assert desk.position() == held == resting == (0 if flat else 1)
    assert [o.remaining for o in desk.orders(Role.STOP) if o.is_open] == ([] if flat else [1])
    assert not any(Flag.OVERFILLED in o.flags for o in desk.orders(Role.STOP))


async def test_a_stop_is_not_moved_where_the_broker_holds_nothing_that_it_could_close(make_desk: MakeDesk) -> None:
    """Where the broker reads what remains, memory's count of it would make an order that opens a position."""
    broker = Capabilities(replace_quantity=ReplaceQuantity.REMAINING, brackets=False)
    desk = await in_position(make_desk(capabilities=broker))
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-2), desk.clock.now())
    await desk.send(
        lambda o: c.ModifyOrder(origin=o, order=stop.client_id, limit=None, stop=Decimal(4985), reason="moves")
    )
    assert desk.orders(Role.STOP)[0].terms.stop == stop.terms.stop
    await desk.until(lambda: desk.position() == 0 and not desk.exchange.open_orders(PAPER), 10)


@pytest.mark.parametrize("size", list(ReplaceQuantity))
async def test_a_conversion_that_was_not_found_and_arrives_after_a_partial_exit_closes_no_more(
    make_desk: MakeDesk, size: ReplaceQuantity
) -> None:
    """The stop still rests, says the broker: a smaller stop beside the exit would be made the larger exit again."""
    desk = await in_position(make_desk(capabilities=Capabilities(replace_quantity=size, brackets=False)))
    replace, kept = desk.manager.replace, list[tuple[BrokerOrderId, ClientOrderId, Terms]]()

    async def on_its_way(*request: object) -> SubmitAnswer:
        kept.append(request)  # type: ignore[arg-type]
        raise AnswerLost("no answer")

    desk.manager.replace = on_its_way  # type: ignore[method-assign, assignment]
    exiting = asyncio.ensure_future(desk.trader().exits.leave("hand", None, "asked for once"))
    await desk.until(lambda: bool(kept) and desk.orders(Role.STOP)[0].state is OrderState.WORKING, 20)
    desk.manager.replace = replace  # type: ignore[method-assign]
    desk.strategies[ES].script.append(leave_part("1"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 1, 20)
    arriving = desk.trader().desk.tasks.spawn(replace(*kept[0]), "late conversion")
    await desk.until(arriving.done, 5)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 20)
    assert desk.position() == desk.broker_position() == 1
    assert [o.remaining for o in desk.orders(Role.STOP) if o.is_open] == [1]
    assert isinstance(exiting.result(), Held)


@pytest.mark.parametrize("size", list(ReplaceQuantity))
async def test_a_fill_of_an_id_that_a_replace_left_behind_is_found_though_no_event_told_of_it(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch, size: ReplaceQuantity
) -> None:
    """Only the record of the old id tells of it where fills come as cumulative quantities; it was adopted."""
    manners = Capabilities(fills=FillsKind.CUMULATIVE, replace_id=ReplaceId.CHANGES, replace_quantity=size)
    desk = await in_position(make_desk(capabilities=manners))
    (stop,) = desk.orders(Role.STOP)
    old = stop.broker_id
    monkeypatch.setattr(
        desk.link, "_is_dropped", lambda event: isinstance(event, OrderReported) and event.order.broker_id == old
    )
    desk.exchange.max_fill = Decimal(1)
    desk.exchange.on_tick(Tick(ES, desk.clock.now(), Decimal(4990), Decimal(1)))
    desk.exchange.max_fill = None
    assert desk.broker_position() == 1
    task = asyncio.ensure_future(
        desk.trader().submission.replace(stop, changed(stop.terms, stop=Decimal(4985)), "by hand")
    )
    await desk.until(lambda: task.done() and desk.position() == 1, 45)
    await desk.pass_(10)
    (stop,) = desk.orders(Role.STOP)
    assert stop.broker_id != old
    assert (stop.filled, stop.remaining) == (Decimal(1), Decimal(1))
    assert [o.terms.quantity - o.filled for o in desk.exchange.open_orders(PAPER)] == [1]
    assert not [d for d in desk.snapshot().disagreements if d.state == "adopted"]


async def test_an_order_that_has_left_two_ids_unheard_is_followed_to_the_third(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash took the rows of two replaces. Asked by our id the broker names the last: the doubt never ended."""
    manners = Capabilities(id_mode=IdMode.ENFORCED, replace_id=ReplaceId.CHANGES)
    desk = await in_position(make_desk(capabilities=manners))
    (stop,) = desk.orders(Role.STOP)
    monkeypatch.setattr(desk.link, "_is_dropped", lambda event: isinstance(event, OrderReported))
    broker_id = stop.broker_id
    assert broker_id is not None
    for price in (4991, 4992):
        moved = changed(stop.terms, stop=Decimal(price))
        answer = desk.exchange.replace(PAPER, broker_id, stop.client_id, moved, desk.clock.now())
        assert isinstance(answer, AcceptedOrder)
        broker_id = answer.broker_id
    cancelling = asyncio.ensure_future(desk.trader().submission.cancel(desk.trader().desk.current(stop), "by hand"))
    await desk.until(lambda: cancelling.done(), 5)
    assert desk.trader().desk.current(stop).state is OrderState.IN_DOUBT_CANCEL
    await desk.until(lambda: desk.trader().desk.current(stop).broker_id == broker_id, 10)
    await desk.until(lambda: desk.trader().desk.current(stop).state is OrderState.CANCELLED, 10)


async def test_a_stop_that_was_lost_and_works_after_all_has_none_placed_beside_it(make_desk: MakeDesk) -> None:
    """It came to life while the new one's row was written: two stops would turn the position round."""
    desk = await in_position(make_desk(capabilities=Capabilities(brackets=False)))
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 8)
    (stop,) = desk.orders(Role.STOP)
    session, asked = desk.trader().desk, desk.trader().desk.lease.why_nothing
    revived: list[bool] = []

    async def revive(patience: float, begun: float | None = None) -> str | None:
        if not revived:
            revived.append(True)
            now = session.current(stop)
            session.put(changed(now, state=OrderState.WORKING, revision=now.revision + 1), "lives after all")
        return await asked(patience, begun)

    session.lease.why_nothing = revive  # type: ignore[method-assign]
    session.put(changed(stop, state=OrderState.LOST, revision=stop.revision + 1), "lost")
    await desk.until(lambda: bool(revived), 10)
    await desk.pass_(10)
    assert [o.id for o in desk.exchange.book.orders.values() if o.record.terms.side is Side.SELL] == [stop.broker_id]
    assert [o.state for o in desk.orders(Role.STOP)] == [OrderState.WORKING, OrderState.ABANDONED]
    assert desk.position() == desk.broker_position() == 2
    assert session.protection is ProtectionState.COVERED

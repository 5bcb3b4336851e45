"""Flow 4, orders: what rests at the broker against what we believe rests there, and what is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from brokers.paper import out_of_band
from brokers.paper.book import with_record
from engine import commands as c
from engine.domain.broker import BrokerOrder, Capabilities, Enforcer, FillsKind, ReplaceId, Report, SubmitAnswer
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.ids import BrokerOrderId, CommandId, SessionId
from engine.domain.market import Tick
from engine.domain.orders import TERMINAL, OrderState, OrderType, Role, Side, Terms, TimeInForce
from engine.errors import AnswerLost
from tests.flows.harness import ES, NQ, PAPER, Desk
from tests.flows.script import enter, in_position, leave

MakeDesk = Callable[..., Desk]
SESSION = SessionId("s-ESZ6")


def rows(desk: Desk, kind: DisagreementKind) -> list[Disagreement]:
    return [row for row in desk.snapshot().disagreements if row.kind is kind]


def silently(desk: Desk, act: Callable[[], object]) -> None:
    """Do something at the exchange whose events the desk never hears of."""
    listeners = desk.exchange._listeners[PAPER]
    heard, listeners[:] = list(listeners), []
    act()
    listeners[:] = heard


def working(desk: Desk, kind: OrderType) -> BrokerOrder:
    return next(o for o in desk.exchange.open_orders(PAPER) if o.terms.type is kind)


def cancel_silently(desk: Desk, order: BrokerOrder) -> None:
    silently(
        desk,
        lambda: out_of_band.cancel_order(desk.exchange, order.broker_id, desk.clock.now(), "cancelled by the broker"),
    )


async def keep_fresh(desk: Desk, seconds: float, price: str = "5000") -> None:
    end = desk.clock.now() + round(seconds * 1000)
    while desk.clock.now() < end:
        desk.feed.trade(ES, price)
        await desk.pass_(min(5, (end - desk.clock.now()) / 1000))


async def test_e16_a_cancel_out_of_band_whose_event_was_dropped_is_found_by_the_order_check(
    make_desk: MakeDesk,
) -> None:
    desk = await in_position(make_desk())
    at = desk.clock.now()
    cancel_silently(desk, working(desk, OrderType.STOP))
    await desk.pass_(3)
    assert desk.orders(Role.STOP)[0].state is OrderState.WORKING
    await desk.until(lambda: desk.orders(Role.STOP)[0].state is OrderState.CANCELLED, 305)
    assert desk.clock.now() - at <= 305_000
    (row,) = rows(desk, DisagreementKind.ORDER_GONE)
    assert (row.state, row.broker) == (DisagreementState.EXPLAINED, "cancelled")
    await desk.pass_(5)
    assert working(desk, OrderType.STOP).terms.stop == Decimal(4990)


@pytest.mark.parametrize("answers", [True, False])
async def test_a_list_older_than_it_says_brings_no_ended_order_back(make_desk: MakeDesk, answers: bool) -> None:
    """Revived by it, an order was open for ever: no later list of open orders tells how it had ended."""
    desk = await make_desk(capabilities=Capabilities(brackets=False)).start()
    desk.strategies[ES].script.append(enter(limit="4995"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(desk.exchange.open_orders(PAPER)), 5)
    ask, old = desk.manager.open_orders, desk.exchange.open_orders(PAPER)
    await desk.send(lambda o: c.CancelOrder(origin=o, order=desk.orders(Role.ENTRY)[0].client_id))
    await desk.until(lambda: not desk.trader().desk.book.open(), 5)
    entry = desk.orders(Role.ENTRY)[0]
    await desk.pass_(5)
    lists = 0

    async def lagging() -> object:
        nonlocal lists
        lists += 1
        return Report(old, desk.clock.now()) if lists == 1 else await ask()

    async def silent(*_: object) -> None:
        return None

    desk.manager.open_orders = lagging  # type: ignore[method-assign, assignment]
    link = desk.engine.accounts[PAPER].link
    find = link.find
    if not answers:
        link.find = silent  # type: ignore[method-assign, assignment]
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: lists == 1, 10)
    await desk.pass_(1)
    assert desk.trader().desk.current(entry).state in TERMINAL
    link.find = find  # type: ignore[method-assign]
    await desk.pass_(10)
    assert lists >= (1 if answers else 2)
    assert not desk.trader().desk.book.open()


async def test_an_order_check_disturbed_by_our_own_doings_is_made_up_for_soon(make_desk: MakeDesk) -> None:
    """A verdict is skipped while our side moves; it is not skipped until the next check in five minutes."""
    desk = await in_position(make_desk())
    cancel_silently(desk, working(desk, OrderType.STOP))
    desk.trader().desk.road.touched(ES)
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: desk.orders(Role.STOP)[0].state is OrderState.CANCELLED, 5)


async def test_an_order_that_vanished_without_a_trace_is_gone_after_two_looks(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    stop = working(desk, OrderType.STOP)

    since = desk.manager.orders_since

    async def nothing(what: object) -> object:
        answer = await since(0)
        return replace(answer, rows=tuple(r for r in answer.rows if r.broker_id != stop.broker_id))

    desk.manager.order_by_client_id = desk.manager.orders_since = nothing  # type: ignore[method-assign, assignment]
    silently(desk, lambda: out_of_band.cancel_order(desk.exchange, stop.broker_id, desk.clock.now(), ""))
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.pass_(1)
    assert desk.orders(Role.STOP)[0].state is OrderState.WORKING
    await desk.until(lambda: desk.orders(Role.STOP)[0].state is OrderState.CANCELLED, 8)
    (row,) = rows(desk, DisagreementKind.ORDER_GONE)
    assert row.state is DisagreementState.ADOPTED
    assert desk.blocks()
    await desk.pass_(5)
    assert working(desk, OrderType.STOP).broker_id != stop.broker_id


async def test_an_absence_of_before_a_replace_was_accepted_says_nothing(make_desk: MakeDesk) -> None:
    """A list forgot the order, it was replaced, and the next list forgets it again: that is the first absence."""
    desk = await in_position(make_desk())
    (stop,) = desk.orders(Role.STOP)
    opened = desk.manager.open_orders

    async def nothing(*what: object) -> Report[BrokerOrder]:
        return replace(await opened(), rows=())

    desk.manager.open_orders = desk.manager.order_by_client_id = nothing  # type: ignore[method-assign, assignment]
    desk.manager.orders_since = nothing  # type: ignore[method-assign, assignment]
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.pass_(1)
    submission, wanted = desk.trader().submission, replace(stop.terms, stop=Decimal(4985))
    replacing = desk.trader().desk.tasks.spawn(submission.replace(stop, wanted, "by test"), "replace")
    await desk.until(replacing.done, 1)
    assert replacing.result().terms.stop == Decimal(4985)
    await desk.pass_(2)
    assert desk.orders(Role.STOP)[0].state is OrderState.WORKING
    await desk.until(lambda: desk.orders(Role.STOP)[0].state is OrderState.CANCELLED, 8)


async def test_two_looks_at_once_count_as_one(make_desk: MakeDesk) -> None:
    """Both may be answered from one old picture: an order that works would be taken as gone, and its stop doubled."""
    desk = await in_position(make_desk())
    stop = working(desk, OrderType.STOP)
    opened, find = desk.manager.open_orders, desk.manager.order_by_client_id
    looked = []

    async def without(answer: object) -> object:
        return replace(answer, rows=tuple(r for r in answer.rows if r.broker_id != stop.broker_id))  # type: ignore[attr-defined, type-var]

    async def open_orders() -> object:
        looked.append(desk.clock.now())
        return await without(await opened())

    async def order_by_client_id(client_id: object) -> object:
        return await without(await find(client_id))  # type: ignore[arg-type]

    desk.manager.open_orders = open_orders  # type: ignore[method-assign, assignment]
    desk.manager.order_by_client_id = order_by_client_id  # type: ignore[method-assign, assignment]
    for _ in range(4):
        await desk.send(lambda o: c.ReconcileNow(origin=o))
        await desk.pass_(0.2)
    assert len(looked) >= 3
    desk.manager.open_orders, desk.manager.order_by_client_id = opened, find  # type: ignore[method-assign]
    await desk.pass_(5)
    assert [o.client_id for o in desk.orders(Role.STOP)] == [stop.client_id]
    assert not rows(desk, DisagreementKind.ORDER_GONE)


async def test_terms_changed_at_the_broker_are_adopted_after_two_looks(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(capabilities=Capabilities(brackets=False)))
    stop = working(desk, OrderType.STOP)

    def move() -> None:
        order = desk.exchange.book.orders[stop.broker_id]
        desk.exchange.book.put(with_record(order, desk.clock.now(), terms=replace(stop.terms, stop=Decimal(4980))))

    silently(desk, move)
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.pass_(1)
    assert desk.orders(Role.STOP)[0].terms.stop == Decimal(4990)
    await desk.pass_(4)
    assert desk.orders(Role.STOP)[0].terms.stop == Decimal(4980)
    (row,) = rows(desk, DisagreementKind.ORDER_DIFFERS)
    assert row.state is DisagreementState.ADOPTED
    assert "4990" in row.memory
    assert "4980" in row.broker
    assert desk.blocks()


async def test_r12_a_foreign_order_is_shown_blocks_counts_in_heat_and_is_never_touched(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.faults.inject("foreign-order", ES, "2")
    await desk.until(lambda: bool(rows(desk, DisagreementKind.UNKNOWN_ORDER)), 3)
    (row,) = rows(desk, DisagreementKind.UNKNOWN_ORDER)
    assert (row.memory, row.session) == ("not ours", SESSION)
    assert "buy 2 limit 4900" in row.broker
    assert sum(u.total for u in desk.snapshot().heat.unowned) == 5000
    assert desk.blocks()
    desk.strategies[ES].script += [enter(), leave]
    await desk.next_candle(ES, "5000")
    await desk.next_candle(ES, "5000")
    await desk.pass_(3)
    assert [o.state for o in desk.orders(Role.ENTRY)] == [OrderState.DENIED]
    await desk.send(lambda o: c.Flatten(origin=o, session=SESSION))
    await desk.pass_(10)
    assert [o.client_id for o in desk.exchange.open_orders(PAPER)] == [None]
    assert len(rows(desk, DisagreementKind.UNKNOWN_ORDER)) == 1


async def test_a_foreign_orders_row_tells_all_that_an_operator_needs(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(3), type=OrderType.STOP, stop=Decimal(5100))
    broker_id = out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now())
    await desk.until(lambda: bool(rows(desk, DisagreementKind.UNKNOWN_ORDER)), 3)
    (row,) = rows(desk, DisagreementKind.UNKNOWN_ORDER)
    assert (row.id, row.account, row.session, row.symbol) == (f"foreign:{broker_id}", PAPER, SESSION, ES)
    assert (row.memory, row.database, row.broker) == ("not ours", "not ours", "buy 3 stop 5100")
    assert (row.state, row.order, row.blocks_entries) == (DisagreementState.CONFIRMED, broker_id, True)
    assert row.done == "left alone; adopt it, ignore it or cancel it"
    assert row.query == "open orders"
    assert {row.first_seen, row.updated, *row.read} == {row.first_seen}


async def test_foreign_orders_beside_each_of_several_sessions_are_all_shown(make_desk: MakeDesk) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    for symbol in (ES, NQ):
        desk.faults.inject("foreign-order", symbol, "2")
    await desk.pass_(3)
    shown = {row.symbol: row.session for row in rows(desk, DisagreementKind.UNKNOWN_ORDER)}
    assert shown == {ES: SESSION, NQ: SessionId("s-NQZ6")}


async def foreign(desk: Desk) -> Disagreement:
    await desk.start()
    desk.faults.inject("foreign-order", ES, "2")
    await desk.until(lambda: bool(rows(desk, DisagreementKind.UNKNOWN_ORDER)), 3)
    return rows(desk, DisagreementKind.UNKNOWN_ORDER)[0]


async def test_a_foreign_order_is_not_merely_acknowledged(make_desk: MakeDesk) -> None:
    desk = make_desk()
    row = await foreign(desk)
    receipt = await desk.send(lambda o: c.Acknowledge(origin=o, disagreement=row.id))
    assert not receipt.taken
    assert desk.blocks()


async def test_a_foreign_order_can_be_cancelled(make_desk: MakeDesk) -> None:
    desk = make_desk()
    row = await foreign(desk)
    assert row.order is not None
    order = row.order
    receipt = await desk.send(lambda o: c.CancelForeign(origin=o, account=PAPER, order=order))
    assert receipt.taken
    await desk.until(lambda: desk.exchange.open_orders(PAPER) == (), 3)
    await desk.pass_(5)
    desk.feed.trade(ES, "5000")
    assert desk.snapshot().accounts[0].foreign == ()
    assert desk.snapshot().heat.unowned == ()
    assert desk.blocks() == ()
    assert rows(desk, DisagreementKind.UNKNOWN_ORDER)[0].state is DisagreementState.PASSED


async def test_a_foreign_order_can_be_ignored_and_still_counts_in_heat(make_desk: MakeDesk) -> None:
    desk = make_desk()
    row = await foreign(desk)
    refused = await desk.send(lambda o: c.IgnoreForeign(origin=o, disagreement=row.id, reason=" "))
    assert not refused.taken
    done = await desk.send(lambda o: c.IgnoreForeign(origin=o, disagreement=row.id, reason="mine, by phone"))
    assert done.taken, done.message
    for _ in range(3):
        await desk.send(lambda o: c.ReconcileNow(origin=o))
        await desk.pass_(3)
    desk.feed.trade(ES, "5000")
    assert desk.blocks() == ()
    assert sum(u.total for u in desk.snapshot().heat.unowned) == 5000
    assert rows(desk, DisagreementKind.UNKNOWN_ORDER)[0].state is DisagreementState.IGNORED


async def test_a_foreign_order_can_be_adopted_and_is_then_ours_alone(make_desk: MakeDesk) -> None:
    desk = make_desk()
    row = await foreign(desk)
    assert row.order is not None
    order = row.order
    done = await desk.send(lambda o: c.AdoptOrder(origin=o, order=order, session=SESSION, reason="mine"))
    assert done.taken, done.message
    await desk.pass_(5)
    desk.feed.trade(ES, "5000")
    await desk.pass_(1)
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.state, entry.broker_id) == (OrderState.WORKING, order)
    assert desk.blocks() == ()
    heat = desk.snapshot().heat
    assert heat.unowned == ()
    assert heat.contributions[0].pending == 5000
    desk.feed.trade(ES, "4900")
    await desk.until(lambda: desk.position() == 2, 5)
    await keep_fresh(desk, 70, "4900")
    assert rows(desk, DisagreementKind.POSITION) == []


@pytest.mark.parametrize("arrives", [True, False])
async def test_an_adopted_order_whose_cancel_got_no_answer_is_found_by_the_brokers_own_id(
    make_desk: MakeDesk, arrives: bool
) -> None:
    """The broker does not know it by a name of ours: asked for that, it told for ever that there is no such order."""
    desk = make_desk()
    row = await foreign(desk)
    order = row.order
    assert order is not None
    await desk.send(lambda o: c.AdoptOrder(origin=o, order=order, session=SESSION, reason="mine"))
    await desk.pass_(2)
    (entry,) = desk.orders(Role.ENTRY)
    cancel = desk.manager.cancel

    async def unanswered(broker_id: BrokerOrderId) -> SubmitAnswer:
        if arrives:
            silently(desk, lambda: desk.exchange.cancel(PAPER, broker_id, desk.clock.now()))
        raise AnswerLost("no answer")

    desk.manager.cancel = unanswered  # type: ignore[method-assign]
    await desk.send(lambda o: c.CancelOrder(origin=o, order=entry.client_id))
    assert desk.orders(Role.ENTRY)[0].state is OrderState.IN_DOUBT_CANCEL
    desk.manager.cancel = cancel  # type: ignore[method-assign]
    await desk.until(lambda: desk.orders(Role.ENTRY)[0].state is OrderState.CANCELLED, 10)
    assert desk.exchange.open_orders(PAPER) == ()


@pytest.mark.parametrize("hold", [lambda o: c.Pause(origin=o, session=SESSION), lambda o: c.Kill(origin=o)])
async def test_an_entry_is_not_adopted_into_a_hold_that_came_meanwhile(make_desk: MakeDesk, hold: Any) -> None:
    """What the hold cancelled could not include it yet: it would rest on under a desk that was told to stop."""
    desk = make_desk()
    row = await foreign(desk)
    order = row.order
    assert order is not None
    opened, answered = desk.manager.open_orders, asyncio.Event()

    async def slow() -> object:
        await answered.wait()
        return await opened()

    desk.manager.open_orders = slow  # type: ignore[method-assign, assignment]
    origins = [c.Origin(id=CommandId(n), operator=n, place="test", at=desk.clock.now()) for n in ("ann", "ben")]
    adopt = c.AdoptOrder(origin=origins[0], order=order, session=SESSION, reason="mine")
    given = [asyncio.ensure_future(desk.overrides.dispatch(each)) for each in (adopt, hold(origins[1]))]
    await desk.pass_(0.5)
    answered.set()
    await desk.pass_(2)
    done, held = (each.result() for each in given)
    assert held.taken
    assert not done.taken
    assert "meanwhile" in done.message
    assert desk.orders(Role.ENTRY) == []


@pytest.mark.parametrize("ids", list(ReplaceId))
@pytest.mark.parametrize("fills", list(FillsKind))
async def test_an_adopted_order_that_had_filled_in_part_is_counted_once(
    make_desk: MakeDesk, fills: FillsKind, ids: ReplaceId
) -> None:
    """Also once a replace gave it another id: the record of the old one told of that part a second time."""
    desk = make_desk(capabilities=Capabilities(fills=fills, replace_id=ids))
    row = await foreign(desk)
    assert row.order is not None
    order = row.order
    desk.faults.inject("partial-fills", None, "1")
    desk.feed.trade(ES, "4900")
    desk.faults.inject("partial-fills", None, "0")
    desk.feed.trade(ES, "5000")
    await desk.until(lambda: desk.position() == 1, 45)
    done = await desk.send(lambda o: c.AdoptOrder(origin=o, order=order, session=SESSION, reason="mine"))
    assert done.taken, done.message
    await keep_fresh(desk, 45)
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.filled, entry.remaining) == (Decimal(1), Decimal(1))
    (seen,) = rows(desk, DisagreementKind.POSITION)
    await desk.send(lambda o: c.Acknowledge(origin=o, disagreement=seen.id, note="seen"))
    done = await desk.send(lambda o: c.ModifyOrder(origin=o, order=entry.client_id, limit=Decimal(4940)))
    assert done.taken, done.message
    await keep_fresh(desk, 1)
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.filled, entry.remaining, entry.terms.limit) == (Decimal(1), Decimal(1), Decimal(4940))
    assert desk.position() == desk.broker_position() == 1
    assert len(rows(desk, DisagreementKind.POSITION)) == 1


async def test_an_order_that_fills_while_it_is_adopted_is_adopted_once_its_list_and_executions_agree(
    make_desk: MakeDesk,
) -> None:
    """What filled in between counted as known and as still to be told: the order never ended."""
    desk = await make_desk().start()
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(3), type=OrderType.LIMIT, limit=Decimal(4950))
    order = out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now())
    desk.exchange.max_fill = Decimal(1)
    desk.feed.trade(ES, "4949")
    await desk.until(lambda: desk.position() == 1, 60)
    ask = desk.manager.open_orders

    async def crossed() -> Report[BrokerOrder]:
        listed = await ask()
        if desk.broker_position() == 1:
            silently(desk, lambda: desk.exchange.on_tick(tick(desk, "4949")))
        return listed

    desk.manager.open_orders = crossed  # type: ignore[method-assign]
    done = await desk.send(lambda o: c.AdoptOrder(origin=o, order=order, session=SESSION, reason="mine"))
    assert not done.taken
    assert "filling just now" in done.message
    await desk.until(lambda: desk.position() == 2, 60)
    done = await desk.send(lambda o: c.AdoptOrder(origin=o, order=order, session=SESSION, reason="mine"))
    assert done.taken, done.message
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.filled, entry.remaining) == (Decimal(2), Decimal(1))
    desk.feed.trade(ES, "4949")
    await desk.until(lambda: desk.orders(Role.ENTRY)[0].state is OrderState.FILLED, 10)
    assert desk.position() == desk.broker_position() == 3


async def test_e4_a_foreign_fill_is_not_explained_by_our_fills_and_is_adopted(make_desk: MakeDesk) -> None:
    desk = make_desk()
    await foreign(desk)
    desk.feed.trade(ES, "4900")
    await desk.until(lambda: desk.position() == 2, 45)
    await desk.pass_(3)
    (row,) = rows(desk, DisagreementKind.POSITION)
    assert row.state is DisagreementState.ADOPTED
    assert desk.trader().counters.fills == 0
    assert desk.blocks()


async def test_a_foreign_order_on_a_contract_without_a_session_is_shown_and_counted(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.feed.trade(NQ, "20000")
    desk.faults.inject("foreign-order", NQ, "1")
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: bool(rows(desk, DisagreementKind.UNKNOWN_ORDER)), 5)
    (row,) = rows(desk, DisagreementKind.UNKNOWN_ORDER)
    assert (row.symbol, row.session) == (NQ, None)
    assert sum(u.total for u in desk.snapshot().heat.unowned) == 4000
    (theirs,) = desk.exchange.open_orders(PAPER)
    out_of_band.cancel_order(desk.exchange, theirs.broker_id, desk.clock.now(), "cancelled by its owner")
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: rows(desk, DisagreementKind.UNKNOWN_ORDER)[0].state is DisagreementState.PASSED, 5)
    assert not desk.snapshot().heat.unowned


async def test_r8_orders_of_an_earlier_life_are_recognised_not_foreign(make_desk: MakeDesk) -> None:
    first = await make_desk().start()
    first.strategies[ES].script.append(enter(limit="4990", stop="4980"))
    await first.next_candle(ES, "5000")
    await first.pass_(5)
    await first.stop()
    second = make_desk(now=first.clock.now())
    second.feed.market = first.feed.market
    await second.start()
    await second.pass_(5)
    assert rows(second, DisagreementKind.UNKNOWN_ORDER) == []
    assert [o.state for o in second.orders(Role.ENTRY)] == [OrderState.WORKING]
    second.feed.trade(ES, "4990")
    await second.until(lambda: second.position() == 2, 5)
    await second.pass_(8)
    assert [o.terms.quantity for o in second.exchange.open_orders(PAPER) if o.terms.type is OrderType.STOP] == [2]


async def test_s25_two_orders_with_one_client_id_block_and_are_left_alone(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script.append(enter(limit="4990", stop="4980"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(5)
    (entry,) = desk.orders(Role.ENTRY)
    silently(desk, lambda: desk.exchange.add(PAPER, entry.client_id, entry.terms, submitted=desk.clock.now()) and None)
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: bool(rows(desk, DisagreementKind.DUPLICATE)), 8)
    assert desk.blocks()
    await desk.pass_(10)
    assert len([o for o in desk.exchange.open_orders(PAPER) if o.parent is None]) == 2
    assert len(rows(desk, DisagreementKind.DUPLICATE)) == 1


@pytest.mark.parametrize("enforcer", list(Enforcer))
async def test_own_exits_beyond_the_position_are_cancelled_not_left(make_desk: MakeDesk, enforcer: Enforcer) -> None:
    """The position shrinks behind our back while a stop and a target rest: both shrink with it, or go."""
    desk = await in_position(make_desk(capabilities=Capabilities(one_cancels_other=enforcer)), enter(target="5050"))
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: desk.position() == 1, 45)
    await desk.pass_(8)
    stops = [o for o in desk.exchange.open_orders(PAPER) if o.terms.type is OrderType.STOP]
    targets = [o for o in desk.exchange.open_orders(PAPER) if o.terms.type is OrderType.LIMIT]
    assert [o.terms.quantity for o in stops] == [1]
    assert all(o.terms.quantity == 1 for o in targets)
    desk.feed.trade(ES, "5050")
    await desk.until(lambda: desk.broker_position() == 0, 10)
    await desk.pass_(8)
    assert desk.exchange.open_orders(PAPER) == ()


async def test_an_adopted_second_stop_is_an_excess_and_is_cancelled(make_desk: MakeDesk) -> None:
    """Two stops for one position would sell it twice; the newest goes, the position stays covered."""
    desk = await in_position(make_desk())
    terms = Terms(
        symbol=ES, side=Side.SELL, quantity=Decimal(2), type=OrderType.STOP, stop=Decimal(4985), tif=TimeInForce.GTC
    )
    broker_id = out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now())
    await desk.until(lambda: bool(rows(desk, DisagreementKind.UNKNOWN_ORDER)), 5)
    done = await desk.send(lambda o: c.AdoptOrder(origin=o, order=broker_id, session=SESSION, reason="mine"))
    assert done.taken, done.message
    await desk.pass_(10)
    stops = [(o.terms.quantity, o.terms.stop) for o in desk.exchange.open_orders(PAPER)]
    assert len(stops) == 1
    assert stops[0][0] == 2


async def test_s23_a_refused_cancel_asks_what_became_of_the_order(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script.append(enter(limit="4990", stop="4980"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(5)
    (entry,) = desk.orders(Role.ENTRY)
    silently(desk, lambda: desk.exchange.on_tick(tick(desk, "4990")))
    assert desk.broker_position() == 2
    asked: list[object] = []
    cancel = desk.manager.cancel

    async def counted(broker_id: object) -> object:
        asked.append(broker_id)
        return await cancel(broker_id)  # type: ignore[arg-type]

    desk.manager.cancel = counted  # type: ignore[method-assign, assignment]
    await desk.send(lambda o: c.CancelOrder(origin=o, order=entry.client_id))
    await desk.until(lambda: desk.position() == 2, 8)
    await desk.pass_(8)
    assert asked == [entry.broker_id]
    assert desk.orders(Role.ENTRY)[0].state is OrderState.FILLED
    assert [o.terms.quantity for o in desk.exchange.open_orders(PAPER) if o.terms.type is OrderType.STOP] == [2]


def tick(desk: Desk, price: str) -> Tick:
    return Tick(ES, desk.clock.now(), Decimal(price), Decimal(1))


@pytest.mark.parametrize("size", [1, 5])
async def test_a_stop_that_the_stream_shows_another_is_asked_for_at_once(make_desk: MakeDesk, size: int) -> None:
    """A replace that nobody waits for arrives: whoever waited five minutes for the next check would stand half bare."""
    desk = await in_position(make_desk(capabilities=Capabilities(brackets=False)))
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    assert stop.broker_id is not None
    late = desk.manager.replace(stop.broker_id, stop.client_id, replace(stop.terms, quantity=Decimal(size)))
    arriving = desk.trader().desk.tasks.spawn(late, "late replace")
    await desk.until(lambda: bool(rows(desk, DisagreementKind.ORDER_DIFFERS)), 8)
    assert arriving.done()
    await desk.until(lambda: [o.terms.quantity for o in desk.orders(Role.STOP) if o.is_open] == [2], 8)
    assert working(desk, OrderType.STOP).terms.quantity == 2


async def test_a_stop_that_one_list_shows_larger_does_not_end_when_all_that_we_know_of_it_has_filled(
    make_desk: MakeDesk,
) -> None:
    """An engine that was taken over had made it larger: what is left of it acts, and an exit would stand beside it."""
    desk = await in_position(make_desk(capabilities=Capabilities(brackets=False)))
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    broker_id, larger = working(desk, OrderType.STOP).broker_id, replace(stop.terms, quantity=Decimal(5))
    silently(desk, lambda: desk.exchange.replace(PAPER, broker_id, stop.client_id, larger, desk.clock.now()))
    looking = desk.trader().desk.tasks.spawn(desk.engine.accounts[PAPER].reconciler.check_orders(), "one look")
    await desk.until(looking.done, 2)
    assert [o.terms.quantity for o in desk.orders(Role.STOP) if o.is_open] == [2], "it takes a second look"
    desk.exchange.max_fill = Decimal(2)
    desk.feed.trade(ES, "4990")
    await desk.until(lambda: desk.position() == 0, 2)
    assert desk.orders(Role.STOP)[0].state is not OrderState.FILLED
    await desk.until(lambda: not desk.exchange.open_orders(PAPER), 3)
    assert desk.position() == desk.broker_position() == 0
    (stop,) = desk.orders(Role.STOP)
    assert (stop.state, stop.terms.quantity, stop.filled) == (OrderState.CANCELLED, Decimal(5), Decimal(2))

"""Faults that met other people's desks, on the way in: each test bears its row's id (docs/faults.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from brokers.paper.book import PaperFill, with_record
from engine import commands as c
from engine.domain.broker import (
    AccountEvent,
    BrokerFill,
    BrokerStatus,
    Capabilities,
    FillReported,
    OrderReported,
    RefusedOrder,
    Report,
)
from engine.domain.disagreements import DisagreementKind, DisagreementState
from engine.domain.ids import BrokerOrderId, SessionId
from engine.domain.orders import OrderState, Role
from engine.snapshot import ProtectionState
from tests.flows.acts import all_agree, kill, next_life, rows
from tests.flows.harness import ES, PAPER, Desk
from tests.flows.script import enter, in_position, leave
from tests.flows.test_faults_orders import deaf, keep_fresh, submits
from tests.flows.test_outbound_entries import MODES
from tests.flows.test_outbound_exits import alerts, stops
from tests.flows.test_reconciliation_positions import FILLS

MakeDesk = Callable[..., Desk]
SESSION = SessionId("s-ESZ6")


def adopted(desk: Desk) -> list[str]:
    """Differences that were believed without an explanation."""
    return [row.id for row in desk.snapshot().disagreements if row.state is DisagreementState.ADOPTED]


def overheard(desk: Desk) -> list[AccountEvent]:
    """Every order record and execution that the exchange streams from now on."""
    log: list[AccountEvent] = []
    desk.exchange.listen(
        PAPER, lambda event: log.append(event) if isinstance(event, OrderReported | FillReported) else None
    )
    return log


async def tell(desk: Desk, events: list[AccountEvent]) -> None:
    """The exchange streams these, whatever it streamed before."""
    for event in tuple(events):
        for sink in tuple(desk.exchange._listeners[PAPER]):
            sink(event)
    await desk.pass_(1)


# -- fills that come early, late, twice, or not at all -----------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_e4_a_fill_before_its_order_is_known_is_kept_for_it(make_desk: MakeDesk, mode: str) -> None:
    """The answer takes three seconds, the fill is streamed at once: without our ids nobody can say whose it is."""
    desk = await make_desk(capabilities=MODES[mode]).start()
    desk.strategies[ES].script.append(enter())
    await desk.clock.advance(desk.clock.now() // 60_000 * 60_000 + 59_500)
    desk.feed.trade(ES, "5000")
    submit = desk.manager.submit

    async def slow(request: Any) -> object:
        desk.manager.submit = submit  # type: ignore[method-assign]
        answer = await submit(request)
        await desk.clock.sleep(3)
        return answer

    desk.manager.submit = slow  # type: ignore[method-assign, assignment]
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 6)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 6)
    await keep_fresh(desk, 40)
    assert [o.state for o in desk.orders(Role.ENTRY)] == [OrderState.FILLED]
    assert desk.trader().counters.fills == 1
    assert adopted(desk) == []
    assert desk.blocks() == ()


@pytest.mark.parametrize("broker", FILLS)
async def test_e5_fills_that_are_streamed_again_after_a_restart_are_booked_once(
    make_desk: MakeDesk, broker: str
) -> None:
    desk = make_desk(capabilities=FILLS[broker])
    log = overheard(desk)
    await in_position(desk)
    await rows(desk, "SELECT 1 FROM fills")
    await kill(desk)
    again = await next_life(desk, make_desk, later=5)
    for _ in range(2):
        await tell(again, log)
    await keep_fresh(again, 40)
    assert again.position() == again.broker_position() == 2
    assert await rows(again, "SELECT side, quantity FROM fills") == [("buy", "2")]
    assert stops(again) == [(Decimal(2), Decimal(4990))]
    assert again.blocks() == ()


@pytest.mark.parametrize("broker", FILLS)
async def test_e6_a_fill_found_by_asking_and_then_told_is_one_fill(make_desk: MakeDesk, broker: str) -> None:
    desk = await make_desk(capabilities=FILLS[broker]).start()
    desk.strategies[ES].script.append(enter(limit="4998"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(5)
    log = overheard(desk)
    listeners = desk.exchange._listeners[PAPER]
    heard, listeners[:] = list(listeners), listeners[-1:]
    desk.feed.trade(ES, "4998")
    await desk.pass_(0.5)
    listeners[:] = heard
    assert desk.position() == 0
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: desk.position() == 2, 10)
    await tell(desk, log)
    await keep_fresh(desk, 40)
    assert desk.position() == desk.broker_position() == 2
    assert await rows(desk, "SELECT side, quantity FROM fills") == [("buy", "2")]
    assert stops(desk) == [(Decimal(2), Decimal(4990))]
    assert adopted(desk) == []


@pytest.mark.parametrize("broker", FILLS)
async def test_e7_an_old_story_told_again_moves_nothing_back(make_desk: MakeDesk, broker: str) -> None:
    """Partial fills, a stop that grew with them: after a restart all of it comes again, the oldest last."""
    desk = make_desk(capabilities=FILLS[broker])
    log = overheard(desk)
    await desk.start()
    desk.faults.inject("partial-fills", None, "1")
    desk.strategies[ES].script.append(enter(limit="5000", quantity="3"))
    await desk.next_candle(ES, "5000")
    for _ in range(3):
        await desk.pass_(2)
        desk.feed.trade(ES, "5000")
    await desk.until(lambda: desk.position() == 3 and stops(desk) == [(Decimal(3), Decimal(4990))], 8)
    desk.faults.inject("partial-fills", None, "0")
    await desk.pass_(5)
    await kill(desk)
    again = await next_life(desk, make_desk, later=5)
    before = [(o.client_id, o.state, o.filled, o.terms) for o in again.orders()]
    sent = submits(again)
    await tell(again, log[::-1])
    await again.pass_(40)
    assert [(o.client_id, o.state, o.filled, o.terms) for o in again.orders()] == before
    assert again.position() == again.broker_position() == 3
    assert stops(again) == [(Decimal(3), Decimal(4990))]
    assert sent == []
    again.feed.trade(ES, "4989")
    await again.until(lambda: again.position() == 0, 5)
    await again.pass_(5)
    assert [row[0] for row in await rows(again, "SELECT quantity FROM fills WHERE side = 'sell'")] in (["3"],)


async def test_e8_a_corrected_execution_takes_the_place_of_the_first(make_desk: MakeDesk) -> None:
    """Two at 5000 were one at 5001: position, price, stop, row and round trip follow."""
    desk = await in_position(make_desk())
    exchange, (kept,) = desk.exchange, desk.exchange.book.fills.values()
    old = kept.fill
    new = replace(old, quantity=Decimal(1), price=Decimal(5001), cumulative=Decimal(1), revision=1)
    exchange.roll(desk.clock.now())
    order = with_record(
        exchange.book.orders[old.broker_id], desk.clock.now(), filled=Decimal(1), average_price=Decimal(5001)
    )
    exchange.book.put(order)
    exchange.book.put_fill(PaperFill(PAPER, new, desk.clock.now()))
    exchange.move(PAPER, ES, Decimal(-2), old.price)
    exchange.move(PAPER, ES, Decimal(1), new.price)
    exchange.tell_fill(PAPER, new)
    exchange.commit()
    await desk.until(lambda: desk.position() == 1, 3)
    await desk.pass_(10)
    assert desk.broker_position() == 1
    assert desk.trader().desk.book.position.average_price == 5001
    assert stops(desk) == [(Decimal(1), Decimal(4990))]
    kept_rows = await rows(desk, "SELECT quantity, price FROM fills ORDER BY revision")
    assert (len(kept_rows), kept_rows[-1]) == (2, ("1", "5001"))
    assert "busted" in alerts(desk)
    assert adopted(desk) == []


@pytest.mark.parametrize("broker", FILLS)
async def test_e10_an_order_is_not_over_while_its_fills_do_not_add_up(make_desk: MakeDesk, broker: str) -> None:
    desk = await make_desk(capabilities=FILLS[broker]).start()
    desk.faults.inject("partial-fills", None, "1")
    desk.strategies[ES].script.append(enter(limit="5000", quantity="3"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 1, 5)
    desk.faults.inject("drop-fill", None, "")
    desk.feed.trade(ES, "5000")
    await desk.pass_(0.5)
    assert desk.position() == 1
    assert desk.broker_position() == 2
    desk.feed.trade(ES, "5000")
    await desk.until(lambda: desk.position() == 3, 5)
    await desk.pass_(8)
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.state, entry.filled) == (OrderState.FILLED, Decimal(3))
    assert sum(Decimal(row[0]) for row in await rows(desk, "SELECT quantity FROM fills")) == 3
    assert stops(desk) == [(Decimal(3), Decimal(4990))]
    assert adopted(desk) == []


@pytest.mark.parametrize("broker", ["executions", "tag-less"])
async def test_e14_a_question_that_is_never_answered_is_not_an_empty_answer(make_desk: MakeDesk, broker: str) -> None:
    """A fill is dropped while the list of executions hangs: the position is not adopted as if nobody had traded."""
    desk = await make_desk(capabilities=FILLS[broker]).start()
    desk.strategies[ES].script.append(enter(limit="4998"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(5)
    fills, hung = desk.manager.fills_since, asyncio.Event()

    async def never(since: int) -> Report[BrokerFill]:
        await hung.wait()
        return await fills(since)

    desk.manager.fills_since = never  # type: ignore[method-assign]
    failed = desk.snapshot().accounts[0].failed_queries
    desk.faults.inject("drop-fill", None, "")
    desk.feed.trade(ES, "4998")
    await desk.pass_(1)
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.pass_(8)
    assert desk.snapshot().accounts[0].failed_queries > failed
    assert desk.blocks() != ()
    assert adopted(desk) == []
    hung.set()
    desk.manager.fills_since = fills  # type: ignore[method-assign]
    await desk.until(lambda: desk.position() == 2, 20)
    await keep_fresh(desk, 40)
    assert desk.position() == desk.broker_position() == 2
    assert adopted(desk) == []
    assert desk.orders(Role.ENTRY)[0].state is OrderState.FILLED
    assert stops(desk) == [(Decimal(2), Decimal(4990))]


async def test_e15_a_stream_that_went_silent_for_a_day_costs_no_fill(make_desk: MakeDesk) -> None:
    """The heart beats, nothing is told any more: each fill of the day is found by a poll and protected."""
    desk = await make_desk().start()
    deaf(desk)
    for _ in range(3):
        desk.strategies[ES].script += [enter(), leave]
        await desk.next_candle(ES, "5000")
        await desk.until(lambda: desk.position() == 2, 45)
        await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 20)
        await desk.next_candle(ES, "5000")
        await desk.until(lambda: desk.position() == desk.broker_position() == 0, 45)
        await desk.pass_(900)
        desk.feed.trade(ES, "5000")
        await desk.pass_(2)
        assert desk.blocks() == ()
    await all_agree(desk)
    assert adopted(desk) == []


# -- protection that is not there --------------------------------------------------------------------------


@pytest.mark.parametrize(("brackets", "times"), [(True, 1), (True, 2), (False, 1), (False, 2)])
async def test_e17_a_stop_that_is_rejected_without_a_word_is_armed_again_or_the_position_leaves(
    make_desk: MakeDesk, brackets: bool, times: int
) -> None:
    """Taken, then rejected, and no report of it ever comes: nobody believes for five minutes in a stop that is not."""
    desk = await make_desk(capabilities=Capabilities(brackets=brackets)).start()
    listeners, told = desk.exchange._listeners[PAPER], list(desk.exchange._listeners[PAPER])
    rejected: list[str] = []

    def reject(event: AccountEvent) -> None:
        order = event.order if isinstance(event, OrderReported) else None
        if order is None or order.terms.stop is None or order.status is not BrokerStatus.WORKING:
            return
        if len(rejected) < times and order.broker_id not in rejected:
            rejected.append(order.broker_id)
            desk.clock.call_at(desk.clock.now() + 300, lambda: silently(order.broker_id))

    def silently(broker_id: BrokerOrderId) -> None:
        listeners[:] = []
        desk.exchange.close_order(desk.exchange.book.orders[broker_id], BrokerStatus.REJECTED, "no stops today")
        desk.exchange.commit()
        listeners[:] = [*told, reject]

    listeners.append(reject)
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: len(rejected) == times, 20)
    if times == 1:
        await desk.until(lambda: len(desk.orders(Role.STOP)) == 2, 20)
        await keep_fresh(desk, 30)
        assert stops(desk) == [(Decimal(2), Decimal(4990))]
        assert desk.trader().desk.protection is ProtectionState.COVERED
    else:
        await desk.until(lambda: desk.broker_position() == 0, 20)
        await desk.pass_(10)
        assert desk.position() == 0
        assert "NAKED 2" in alerts(desk)
    assert len(desk.orders(Role.STOP)) == 2


async def test_d14_an_exit_into_a_halt_stays_with_the_operator_and_is_no_loop(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    halted = desk.clock.now() + 600_000
    replaced: list[int] = []
    submit, change = desk.manager.submit, desk.manager.replace

    async def no_submit(request: Any) -> object:
        replaced.append(desk.clock.now())
        return RefusedOrder("trading is halted") if desk.clock.now() < halted else await submit(request)

    async def no_replace(*arguments: Any) -> object:
        replaced.append(desk.clock.now())
        return RefusedOrder("trading is halted") if desk.clock.now() < halted else await change(*arguments)

    desk.manager.submit = no_submit  # type: ignore[method-assign, assignment]
    desk.manager.replace = no_replace  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.pass_(300)
    assert len(replaced) <= 10
    assert "exit not done" in alerts(desk)
    assert "trading is halted" in alerts(desk)
    assert stops(desk) == [(Decimal(2), Decimal(4990))]
    await desk.pass_(310)
    desk.feed.trade(ES, "5000")
    await desk.send(lambda o: c.Flatten(origin=o, session=SESSION))
    await desk.until(lambda: desk.broker_position() == 0, 20)
    await desk.pass_(10)
    assert desk.position() == 0
    assert stops(desk) == []


# -- restarts ----------------------------------------------------------------------------------------------


async def test_r1_a_position_whose_opening_nobody_kept_is_adopted_and_shown(make_desk: MakeDesk) -> None:
    """Neither the database nor the broker's list of executions knows how it came about: no reason not to start."""
    desk = make_desk()
    desk.feed.trade(ES, "5000")
    desk.exchange.move(PAPER, ES, Decimal(2), Decimal(5000))
    desk.exchange.commit()
    sent = submits(desk)
    await desk.start()
    assert desk.position() == desk.broker_position() == 2
    (row,) = desk.snapshot().disagreements
    assert (row.kind, row.state, row.broker) == (DisagreementKind.POSITION, DisagreementState.ADOPTED, "2")
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.pass_(10)
    assert [o.state for o in desk.orders(Role.ENTRY)] == [OrderState.DENIED]
    assert "NAKED 2" in alerts(desk)
    assert sent == []


async def test_r2_restarts_in_a_row_invent_nothing(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: desk.position() == 1 and stops(desk) == [(Decimal(1), Decimal(4990))], 60)
    await desk.pass_(5)
    before = (
        await rows(desk, "SELECT client_id, state, filled FROM orders ORDER BY client_id"),
        await rows(desk, "SELECT id, state FROM disagreements ORDER BY id"),
        await rows(desk, "SELECT COUNT(*) FROM fills"),
        desk.exchange.orders_since(PAPER, 0),
    )
    for life in range(5):
        await (kill(desk) if life % 2 else desk.stop())
        desk = await next_life(desk, make_desk, later=10)
        await keep_fresh(desk, 35)
    assert before == (
        await rows(desk, "SELECT client_id, state, filled FROM orders ORDER BY client_id"),
        await rows(desk, "SELECT id, state FROM disagreements ORDER BY id"),
        await rows(desk, "SELECT COUNT(*) FROM fills"),
        desk.exchange.orders_since(PAPER, 0),
    )
    assert desk.position() == desk.broker_position() == 1

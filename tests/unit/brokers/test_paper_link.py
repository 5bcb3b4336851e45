"""What the wire to the paper exchange does to requests, questions and events."""

from __future__ import annotations

import asyncio

import pytest

from brokers.paper.link import LinkOptions
from engine.domain.broker import AcceptedOrder, Capabilities, FillsKind, LinkState, SubmitRequest
from engine.domain.ids import ClientOrderId
from engine.errors import AnswerLost, LinkDown, QueryFailed
from tests.unit.brokers.paper_desk import ACCOUNT, START, terms
from tests.unit.brokers.tape_desk import Wire


def buy(client_id: str = "c1", **prices: object) -> SubmitRequest:
    return SubmitRequest(ClientOrderId(client_id), terms(**prices))  # type: ignore[arg-type]


async def test_a_request_takes_two_trips() -> None:
    wire = Wire(link=LinkOptions(latency_ms=(10, 10)))
    await wire.start()
    call = wire.spawn(wire.account.submit(buy()))
    await wire.wait(0.009)
    assert not wire.exchange.orders_since(ACCOUNT, 0)
    await wire.wait(0.001)
    assert wire.exchange.orders_since(ACCOUNT, 0)[0].submitted == START + 10
    assert not call.done()
    await wire.wait(0.010)
    assert isinstance(await call, AcceptedOrder)


async def test_a_caller_who_stops_waiting_does_not_stop_the_request() -> None:
    wire = Wire(link=LinkOptions(latency_ms=(10, 10)))
    await wire.start()
    call = wire.spawn(wire.account.submit(buy()))
    await wire.wait(0.005)
    call.cancel()
    await wire.wait(0.1)
    assert call.cancelled()
    assert len(wire.exchange.orders_since(ACCOUNT, 0)) == 1


async def test_down_at_the_moment_of_sending_nothing_leaves() -> None:
    wire = Wire()
    await wire.start()
    wire.link.disconnect(5)
    with pytest.raises(LinkDown):
        await wire.account.submit(buy())
    with pytest.raises(QueryFailed):
        await wire.account.positions()
    await wire.wait(1)
    assert not wire.exchange.orders_since(ACCOUNT, 0)


async def test_a_cut_while_under_way_leaves_the_order_in_doubt() -> None:
    wire = Wire(link=LinkOptions(latency_ms=(10, 10)))
    await wire.start()
    call, question = wire.spawn(wire.account.submit(buy())), wire.spawn(wire.account.positions())
    await wire.wait(0.005)
    wire.link.disconnect(5)
    await wire.clock.settle()
    with pytest.raises(AnswerLost):
        await call
    with pytest.raises(QueryFailed):
        await question
    await wire.wait(1)
    assert len(wire.exchange.orders_since(ACCOUNT, 0)) == 1


async def test_a_disconnect_is_told_and_events_meanwhile_are_lost() -> None:
    wire = Wire()
    await wire.start()
    await wire.do(wire.account.submit(buy()))
    wire.link.disconnect(5)
    wire.tick(100)
    await wire.wait(4)
    assert wire.links() == ["up", "reconnecting"]
    await wire.wait(1.1)
    assert wire.links() == ["up", "reconnecting", "up"]
    assert not wire.fills()
    assert (await wire.do(wire.account.positions())).rows[0].quantity == 1


async def test_an_event_under_way_when_the_link_is_cut_is_lost() -> None:
    wire = Wire(link=LinkOptions(latency_ms=(100, 100)))
    await wire.start()
    wire.exchange.submit(ACCOUNT, buy(), wire.clock.now())
    await wire.wait(0.05)
    wire.link.disconnect(5)
    await wire.wait(10)
    assert not wire.orders()
    wire.exchange.submit(ACCOUNT, buy("c2", limit=90), wire.clock.now())
    await wire.wait(1)
    assert [event.order.client_id for event in wire.orders()] == ["c2"]


async def test_starting_again_does_not_end_a_cut() -> None:
    wire = Wire()
    await wire.start()
    wire.link.disconnect(5)
    await wire.wait(1)
    await wire.account.stop()
    await wire.start()
    assert wire.links() == ["up", "reconnecting", "reconnecting"]
    await wire.wait(4.1)
    assert wire.links()[-1] == "up"
    await wire.do(wire.account.positions())


async def test_after_stop_the_sink_is_silent() -> None:
    wire = Wire()
    await wire.start()
    await wire.do(wire.account.submit(buy()))
    wire.events.clear()
    wire.tick(100)
    await wire.account.stop()
    wire.tick(101)
    await wire.wait(1)
    assert not wire.events
    assert wire.link.state is LinkState.DOWN


@pytest.mark.parametrize(("fault", "orders"), [("lose_requests", 0), ("lose_answers", 1)])
async def test_a_lost_request_and_a_lost_answer_look_the_same(fault: str, orders: int) -> None:
    wire = Wire()
    await wire.start()
    setattr(wire.link.armed, fault, 1)
    with pytest.raises(AnswerLost):
        await wire.do(wire.account.submit(buy()))
    assert len(wire.exchange.orders_since(ACCOUNT, 0)) == orders
    assert isinstance(await wire.do(wire.account.submit(buy("c2"))), AcceptedOrder)


async def test_events_keep_their_order_however_long_each_trip_takes() -> None:
    wire = Wire(link=LinkOptions(latency_ms=(0, 500)))
    await wire.start()
    for number in range(20):
        wire.exchange.submit(ACCOUNT, buy(f"c{number}", limit=90), wire.clock.now())
    await wire.wait(2)
    assert [event.order.client_id for event in wire.orders()] == [f"c{number}" for number in range(20)]


async def test_one_event_is_duplicated() -> None:
    wire = Wire()
    await wire.start()
    wire.link.armed.duplicate_events = 1
    await wire.do(wire.account.submit(buy()))
    assert len(wire.orders()) == 2
    assert wire.orders()[0] == wire.orders()[1]


@pytest.mark.parametrize("kind", FillsKind)
async def test_a_dropped_fill_is_not_told_at_all_but_can_be_asked_for(kind: FillsKind) -> None:
    wire = Wire(Capabilities(fills=kind))
    await wire.start()
    await wire.do(wire.account.submit(buy()))
    wire.link.armed.drop_fills = 1
    wire.tick(100)
    await wire.wait(1)
    assert not wire.fills()
    assert [event.order.filled for event in wire.orders()] == [0]
    report = await wire.do(wire.account.orders_since(0))
    assert report.rows[0].filled == 1


async def test_answers_can_be_late_and_the_next_order_slow() -> None:
    wire = Wire(link=LinkOptions(latency_ms=(0, 0)))
    await wire.start()
    wire.link.armed.delay_ms, wire.link.armed.delay_until = 3_000, START + 60_000
    call = wire.spawn(wire.account.positions())
    await wire.wait(2.9)
    assert not call.done()
    await wire.wait(0.2)
    assert (await call).rows == ()
    wire.link.armed.delay_until = 0
    wire.link.armed.slow_next_ms = 8_000
    slow = wire.spawn(wire.account.submit(buy()))
    await wire.do(wire.account.submit(buy("c2")), 0.1)
    assert [row.client_id for row in wire.exchange.orders_since(ACCOUNT, 0)] == ["c2"]
    await wire.wait(8)
    assert isinstance(await slow, AcceptedOrder)


async def test_questions_fail_are_cut_off_or_go_stale_when_told() -> None:
    wire = Wire()
    await wire.start()
    await wire.do(wire.account.submit(buy()))
    old = await wire.do(wire.account.positions())
    wire.tick(100)
    armed, hour = wire.link.armed, wire.clock.now() + 3_600_000
    armed.stale_queries_until = hour
    assert await wire.do(wire.account.positions()) == old
    armed.stale_queries_until, armed.truncate_queries_until = 0, hour
    with pytest.raises(QueryFailed, match="cut off"):
        await wire.do(wire.account.positions())
    armed.truncate_queries_until, armed.fail_queries_until = 0, hour
    with pytest.raises(QueryFailed, match="503"):
        await wire.do(wire.account.positions())
    armed.fail_queries_until = 0
    fresh = await wire.do(wire.account.positions())
    assert fresh.as_of > old.as_of
    assert fresh.rows[0].quantity == 1


async def test_chances_strike_by_the_seed() -> None:
    async def lost() -> list[int]:
        wire = Wire(link=LinkOptions(latency_ms=(0, 0), lose_request=0.5))
        await wire.start()
        calls = [wire.spawn(wire.account.submit(buy(f"c{number}", limit=90))) for number in range(40)]
        await wire.wait(1)
        results = await asyncio.gather(*calls, return_exceptions=True)
        return [number for number, result in enumerate(results) if isinstance(result, AnswerLost)]

    first = await lost()
    assert 5 < len(first) < 35
    assert await lost() == first

"""What an exit is sized by when the broker's answers, its reports and memory do not agree."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest
from msgspec.structs import replace as changed

from brokers.paper import out_of_band
from engine.domain.broker import BrokerPosition, Capabilities, ReplaceQuantity, Report, SubmitAnswer
from engine.domain.ids import BrokerOrderId, ClientOrderId, Symbol
from engine.domain.intents import IntentRecord, ReplaceIntent, SubmitIntent
from engine.domain.order_lifecycle import Evidence
from engine.domain.orders import Flag, Order, OrderState, OrderType, Role, Side, Terms
from tests.flows.harness import ES, PAPER, Desk
from tests.flows.script import StoreAround, enter, in_position, leave, leave_part
from tests.flows.test_outbound_decisions import leave_at
from tests.flows.test_outbound_exits import before_the_close

MakeDesk = Callable[..., Desk]


def told(desk: Desk, *quantities: int) -> list[int]:
    """Sizing reads name these positions, one each, and every other question fails; those not named yet."""
    left = list(quantities)

    async def fresh_position(symbol: Symbol, seconds: float) -> BrokerPosition:
        return BrokerPosition(symbol, Decimal(left.pop(0)), Decimal(5000))

    desk.trader().desk.road.fresh_position = fresh_position  # type: ignore[method-assign]
    desk.faults.inject("fail-queries", None, "100")
    return left


def all_held(desk: Desk) -> list[Decimal]:
    """What the broker holds after each of its events from now on."""
    held: list[Decimal] = []
    desk.exchange.listen(PAPER, lambda _: held.append(desk.broker_position()))
    return held


async def test_two_reads_that_differ_from_each_other_and_from_memory_are_no_reason_to_size_by_memory(
    make_desk: MakeDesk,
) -> None:
    """Memory says two, the first read nothing, the second one: the third decides, and nothing is turned round."""
    desk = await in_position(make_desk())
    await before_the_close(desk)
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-1), desk.clock.now())
    left = told(desk, 0, 1, 1)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() != 1, 8)
    assert desk.broker_position() == 0
    assert not left


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
async def test_of_two_sizes_the_smaller_goes_first_on_either_side(make_desk: MakeDesk, side: Side) -> None:
    """The broker holds one where memory holds two: one leaves, and the other way round nothing turns."""
    legs = enter(side, "4990" if side is Side.BUY else "5010")
    desk = await in_position(make_desk(capabilities=Capabilities(brackets=False)), legs, size=2 * side.sign)
    await before_the_close(desk)
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-side.sign), desk.clock.now())
    told(desk, *[side.sign] * 3)
    held: list[Decimal] = []
    desk.exchange.listen(PAPER, lambda _: held.append(desk.broker_position()))
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0, 8)
    assert {abs(each) for each in held} <= {Decimal(0), Decimal(1)}
    assert all(each * side.sign >= 0 for each in held)


@pytest.mark.parametrize("again", ["agrees", "is silent"])
async def test_a_first_read_that_nothing_confirms_gives_way_to_memory(make_desk: MakeDesk, again: str) -> None:
    """One read said that all was gone; the next one agrees with memory, or none comes: marked then."""
    desk = await in_position(make_desk(capabilities=Capabilities(brackets=False)))
    await before_the_close(desk)
    answers: list[int | None] = [0, 2 if again == "agrees" else None]

    async def fresh_position(symbol: Symbol, seconds: float) -> BrokerPosition | None:
        quantity = answers.pop(0)
        return None if quantity is None else BrokerPosition(symbol, Decimal(quantity), Decimal(5000))

    desk.trader().desk.road.fresh_position = fresh_position  # type: ignore[method-assign]
    desk.faults.inject("fail-queries", None, "100")
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0, 6)
    assert not answers
    sold = [o for o in desk.orders() if o.terms.side is Side.SELL and o.filled]
    assert [Flag.SIZED_FROM_MEMORY in o.flags for o in sold] == [again == "is silent"]


async def test_reads_that_never_agree_leave_the_newest_to_size_by(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(), size=2)
    await before_the_close(desk)
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-1), desk.clock.now())
    tries = desk.trader().desk.numbers.tries
    told(desk, *(-n for n in range(tries)), 1)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() != 1, 30)
    assert desk.broker_position() == 0


async def test_an_exit_whose_fill_is_reported_and_not_yet_fetched_is_not_made_twice(make_desk: MakeDesk) -> None:
    """The position in memory still holds what the broker's word on the first exit says is gone."""
    desk = await in_position(make_desk(capabilities=Capabilities(replace_may_change_type=False)))
    await before_the_close(desk)
    desk.link.armed.drop_fills = 1
    left = told(desk, 2, 2, 0)  # before the first exit; an old picture after it; what is
    desk.strategies[ES].script += [leave, leave]
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0, 5)
    (first,) = desk.orders(Role.EXIT)
    (record,) = desk.exchange.orders_of(PAPER, first.client_id)
    known = desk.trader().desk.book.report(first, record, Evidence.STREAM, desk.clock.now())
    assert known.filled == 0
    assert known.reported == desk.position() == 2
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: not left, 5)
    await desk.pass_(1)
    assert desk.broker_position() == 0
    assert len(desk.orders(Role.EXIT)) == 1


async def test_an_exit_whose_position_closes_while_its_row_is_written_does_not_leave(make_desk: MakeDesk) -> None:
    """The last fill of the stop was heard of between the sizing and the send."""
    broker = Capabilities(replace_may_change_type=False)
    desk = await in_position(make_desk(capabilities=broker, wrap_store=StoreAround.wrap))
    await before_the_close(desk)

    async def closes(intent: IntentRecord) -> None:
        if isinstance(intent, SubmitIntent):
            out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-2), desk.clock.now())
            desk.trader().desk.book.adopt_position(Decimal(0), None, "broker 0", desk.clock.now())

    StoreAround.of(desk).after_commit = closes
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: [o.state for o in desk.orders(Role.EXIT)] == [OrderState.ABANDONED], 8)
    await desk.pass_(10)
    assert desk.broker_position() == desk.position() == 0
    assert "nothing to close" in desk.orders(Role.EXIT)[0].reason


async def test_an_exit_whose_position_shrinks_while_its_row_is_written_leaves_as_large_as_what_is_left(
    make_desk: MakeDesk,
) -> None:
    """A part of it was heard of as closed between the sizing and the send."""
    broker = Capabilities(replace_may_change_type=False)
    desk = await in_position(make_desk(capabilities=broker, wrap_store=StoreAround.wrap))
    await before_the_close(desk)

    async def closes(intent: IntentRecord) -> None:
        if isinstance(intent, SubmitIntent):
            StoreAround.of(desk).after_commit = None
            out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-1), desk.clock.now())
            desk.trader().desk.book.adopt_position(Decimal(1), Decimal(5000), "broker 1", desk.clock.now())

    StoreAround.of(desk).after_commit = closes
    held = all_held(desk)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0, 8)
    await desk.pass_(5)
    assert min(held) == 0, "never short"
    first, second = desk.orders(Role.EXIT)
    assert (first.state, second.terms.quantity) == (OrderState.ABANDONED, Decimal(1))
    assert "not 2 to close" in first.reason


def fills_a_target_beside(desk: Desk, kept: list[Decimal]) -> Callable[[IntentRecord], Awaitable[None]]:
    """One of three is sold by the target once a replace stands in its row; how large the stop is then."""

    async def fills(intent: IntentRecord) -> None:
        if isinstance(intent, ReplaceIntent):
            StoreAround.of(desk).after_commit = None
            desk.exchange.max_fill = Decimal(1)
            desk.feed.trade(ES, "5010")
            desk.exchange.max_fill = None
            await desk.clock.sleep(0.1)
            kept.extend(o.remaining for o in desk.orders(Role.STOP) if o.is_open)

    return fills


@pytest.mark.parametrize("counts", list(ReplaceQuantity))
async def test_a_stop_is_converted_no_larger_than_the_target_beside_it_left_it(
    make_desk: MakeDesk, counts: ReplaceQuantity
) -> None:
    """The broker made the stop smaller while the conversion's row was written: the old size would turn us round."""
    broker = Capabilities(replace_quantity=counts)
    desk = await in_position(
        make_desk(wrap_store=StoreAround.wrap, capabilities=broker), enter(quantity="3", target="5010"), size=3
    )
    await before_the_close(desk)
    kept: list[Decimal] = []
    StoreAround.of(desk).after_commit = fills_a_target_beside(desk, kept)
    held = all_held(desk)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 0 and desk.position() == 0, 8)
    await desk.pass_(5)
    assert kept == [Decimal(2)]
    assert min(held) == 0, "never short"


async def test_a_stop_is_moved_no_larger_than_the_target_beside_it_left_it(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(wrap_store=StoreAround.wrap), enter(quantity="3", target="5010"), size=3)
    await before_the_close(desk)
    kept: list[Decimal] = []
    sizes: list[Decimal] = []
    StoreAround.of(desk).after_commit = fills_a_target_beside(desk, kept)
    replace = desk.manager.replace

    async def noted(broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        sizes.append(terms.quantity)
        return await replace(broker_id, client_id, terms)

    desk.manager.replace = noted  # type: ignore[method-assign]
    desk.strategies[ES].script.append(leave_at(OrderType.STOP, stop="4995"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: [o.terms.stop for o in desk.orders(Role.STOP) if o.is_open] == [Decimal(4995)], 8)
    await desk.pass_(5)
    assert (kept, sizes) == ([Decimal(2)], [Decimal(2)])
    assert [o.remaining for o in desk.orders(Role.STOP) if o.is_open] == [Decimal(2)]


async def test_a_read_waits_until_a_report_of_fills_unheard_has_settled(make_desk: MakeDesk) -> None:
    """A broker's position may lag behind its own reports by the time that it declares."""
    desk = await in_position(make_desk())
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    session, link = desk.trader().desk, desk.engine.accounts[PAPER].link
    await desk.pass_(5)
    assert link.settled_at(ES) < desk.clock.now()
    (record,) = desk.exchange.orders_of(PAPER, stop.client_id)
    session.book.report(stop, changed(record, filled=Decimal(1)), Evidence.STREAM, desk.clock.now())
    assert link.settled_at(ES) > desk.clock.now()


@pytest.mark.parametrize(("unit", "again"), [(1, "old"), (1_000, "counts")])
async def test_an_answer_older_than_its_question_counts_unless_the_question_before_had_it(
    make_desk: MakeDesk, unit: int, again: str
) -> None:
    """Clocks differ; but a picture that does not go on from one question to the next is an old one.

    A broker that tells whole seconds shows the same one for a second.
    """
    desk = await in_position(make_desk())
    tasks, road = desk.trader().desk.tasks, desk.trader().desk.road
    await desk.clock.advance(desk.clock.now() // 1_000 * 1_000 + 1_234)
    pictured = desk.clock.now() // unit * unit
    await desk.clock.advance(desk.clock.now() + 10)

    async def positions() -> Report[BrokerPosition]:
        return Report((), pictured)

    desk.manager.positions = positions  # type: ignore[method-assign]
    answers = []
    for _ in range(2):
        asking = tasks.spawn(road.fresh_position(ES, 0.1), "position")
        await desk.until(asking.done, 1)
        answers.append(asking.result())
    assert answers[0] is not None
    assert (answers[1] is not None) is (again == "counts")


async def slowly_while_the_broker_closes(desk: Desk, request: str, quantity: int) -> list[Decimal]:
    """The next such requests take a second each, and in the first one the broker closes that much; what is held."""
    ask, left = getattr(desk.manager, request), [quantity]

    async def slow(*arguments: object) -> object:
        if left:
            out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-left.pop()), desk.clock.now())
        await desk.clock.sleep(1)
        return await ask(*arguments)

    setattr(desk.manager, request, slow)
    return all_held(desk)


async def test_a_position_closed_while_room_is_made_for_a_part_is_not_turned_round(make_desk: MakeDesk) -> None:
    """The stop was made smaller for an exit of one; meanwhile the broker's own desk closed both."""
    desk = await in_position(make_desk())
    held = await slowly_while_the_broker_closes(desk, "replace", 2)
    desk.strategies[ES].script.append(leave_part("1"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 0, 45)
    await desk.pass_(5)
    assert min(held) == 0, "never short"
    assert desk.broker_position() == 0


async def test_a_position_that_shrinks_while_other_legs_are_cancelled_is_not_turned_round(make_desk: MakeDesk) -> None:
    """One stop is converted once the other is gone; meanwhile the broker's own desk closed a part."""
    desk = await in_position(make_desk(), enter(quantity="1"), size=1)
    desk.strategies[ES].script.append(enter(quantity="2"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 3 and len(desk.exchange.open_orders(PAPER)) == 2, 8)
    await desk.pass_(3)
    held = await slowly_while_the_broker_closes(desk, "cancel", 2)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 0, 45)
    await desk.pass_(5)
    assert min(held) == 0, "never short"
    assert desk.broker_position() == 0


async def test_a_stop_is_not_made_as_large_as_the_position_was_before_other_engines_stops_were_looked_for(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await in_position(make_desk())
    trader, book = desk.trader(), desk.trader().desk.book
    held, asked = int(book.position.quantity), list[Decimal]()
    carried_out = trader.submission.replace

    async def replace(order: Order, wanted: Terms, reason: str, begun: float | None = None) -> Order:
        asked.append(wanted.quantity)
        return await carried_out(order, wanted, reason, begun)

    def adopt(quantity: int) -> None:
        out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(1), desk.clock.now())
        book.adopt_position(Decimal(quantity), book.position.average_price, "others' hands", desk.clock.now())

    monkeypatch.setattr(trader.submission, "replace", replace)
    monkeypatch.setattr(trader.desk.lease, "unsure_since", desk.clock.now)
    adopt(held + 1)
    await desk.pass_(1.5)  # a second of grace, and then others' stops are looked for, for a second and a half at least
    adopt(held + 2)
    await desk.until(lambda: bool(asked), 10)
    assert asked == [held + 2]

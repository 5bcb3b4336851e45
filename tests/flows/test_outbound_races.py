"""Flow 2 under bad luck: things that cross on the wire, come twice, late, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

import pytest
from msgspec.structs import replace as changed

from brokers.paper import out_of_band
from engine.domain.broker import (
    Capabilities,
    FillsKind,
    IdMode,
    OrderReported,
    RefusedOrder,
    ReplaceId,
    SubmitAnswer,
)
from engine.domain.ids import BrokerOrderId, ClientOrderId
from engine.domain.intents import Concluded, JournalRecord, Outcome
from engine.domain.market import Tick
from engine.domain.orders import OrderState, OrderType, Role, Side, Terms
from engine.snapshot import ProtectionState
from tests.flows.acts import FailingStore, failing
from tests.flows.harness import ES, PAPER, Desk
from tests.flows.script import enter, in_position, leave

MakeDesk = Callable[..., Desk]

BROKERS = {
    "default": Capabilities(),
    "no brackets": Capabilities(brackets=False),
    "cumulative": Capabilities(fills=FillsKind.CUMULATIVE),
    "tag-less": Capabilities(id_mode=IdMode.NONE, find_by_client_id=False, fills=FillsKind.CUMULATIVE),
    "changes the id": Capabilities(replace_id=ReplaceId.CHANGES),
}


def alerts(desk: Desk) -> str:
    return "\n".join(alert.text for alert in desk.engine.board.alerts())


@pytest.mark.parametrize("broker", BROKERS)
async def test_reports_that_come_twice_are_booked_once(make_desk: MakeDesk, broker: str) -> None:
    desk = await make_desk(capabilities=BROKERS[broker]).start()
    desk.link.armed.duplicate_events = 12
    await in_position(desk, enter(target="5050"))
    desk.link.armed.duplicate_events = 12
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 0, 8)
    await desk.pass_(40)
    assert desk.position() == desk.broker_position() == 0
    assert desk.trader().counters.fills == 2
    assert desk.snapshot().disagreements == ()


@pytest.mark.parametrize("broker", BROKERS)
async def test_s5_answers_slower_than_the_deadline_leave_one_order_and_no_doubt(
    make_desk: MakeDesk, broker: str
) -> None:
    desk = await make_desk(capabilities=BROKERS[broker]).start()
    desk.strategies[ES].script.append(enter())
    await desk.clock.advance(desk.clock.now() - desk.clock.now() % 60_000 + 59_000)
    await desk.next_candle(ES, "5000")
    await desk.pass_(0.1)
    desk.link.armed.delay_ms = 7_000
    desk.link.armed.delay_until = desk.clock.now() + 20_000
    await desk.until(lambda: desk.position() == 2, 60)
    await desk.pass_(30)
    assert [o.terms.quantity for o in desk.exchange.open_orders(PAPER)] == [2]
    assert len(desk.orders(Role.ENTRY)) == 1
    assert not [o for o in desk.orders() if o.is_in_doubt]


@pytest.mark.parametrize("broker", BROKERS)
async def test_a_stop_that_fills_while_it_is_converted_closes_once(make_desk: MakeDesk, broker: str) -> None:
    desk = await in_position(make_desk(capabilities=BROKERS[broker]))
    change = desk.manager.replace

    async def crossed(*arguments: object) -> object:
        desk.exchange.on_tick(Tick(ES, desk.clock.now(), Decimal(4990), Decimal(1)))
        return await change(*arguments)  # type: ignore[arg-type]

    desk.manager.replace = crossed  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 0, 8)
    await desk.pass_(15)
    assert desk.broker_position() == 0
    assert desk.exchange.open_orders(PAPER) == ()
    sold = [kept.fill.quantity for kept in desk.exchange.book.fills.values() if kept.fill.side is Side.SELL]
    assert sum(sold) == 2
    assert "exit not done" not in alerts(desk)
    desk.feed.trade(ES, "5000")
    assert desk.blocks() == ()


async def test_a_cancel_that_crosses_with_the_fill_ends_filled_and_protected(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script.append(enter(limit="4995"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(3)
    cancel = desk.manager.cancel

    async def crossed(broker_id: object) -> object:
        desk.exchange.on_tick(Tick(ES, desk.clock.now(), Decimal(4995), Decimal(1)))
        return await cancel(broker_id)  # type: ignore[arg-type]

    desk.manager.cancel = crossed  # type: ignore[method-assign, assignment]
    desk.trader().cancel_entries("test")
    await desk.until(lambda: desk.position() == 2, 5)
    await desk.pass_(8)
    assert desk.orders(Role.ENTRY)[0].state is OrderState.FILLED
    assert desk.trader().desk.protection is ProtectionState.COVERED


@pytest.mark.parametrize("broker", BROKERS)
async def test_an_exit_the_broker_refuses_leaves_a_stop_or_the_alarm(make_desk: MakeDesk, broker: str) -> None:
    desk = await in_position(make_desk(capabilities=BROKERS[broker]))
    refused: list[object] = []

    async def no(*arguments: object) -> RefusedOrder:
        refused.append(arguments)
        return RefusedOrder("not now")

    desk.manager.replace = no  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.pass_(10)
    assert len(refused) == 5
    assert "exit not done" in alerts(desk)
    assert desk.broker_position() == 2
    stops = [o for o in desk.exchange.open_orders(PAPER) if o.terms.type is OrderType.STOP]
    assert [o.terms.quantity for o in stops] == [2]
    desk.feed.trade(ES, "4990")
    await desk.until(lambda: desk.position() == 0, 8)
    await desk.pass_(3)
    alert = next(alert for alert in desk.engine.board.alerts() if "exit not done" in alert.text)
    assert not alert.lasting  # still to be seen, no longer so


async def test_the_margin_desk_closing_while_our_exit_is_under_way_never_reverses_twice(make_desk: MakeDesk) -> None:
    """The broker closes between our reading and our sending: what that opens is closed again and named."""
    desk = await in_position(make_desk(capabilities=Capabilities(replace_may_change_type=False)))
    submit = desk.manager.submit

    async def crossed(request: object) -> object:
        if desk.broker_position() == 2:
            out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-2), desk.clock.now())
        return await submit(request)  # type: ignore[arg-type]

    desk.manager.submit = crossed  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.pass_(60)
    assert desk.position() == desk.broker_position()
    assert desk.snapshot().disagreements
    assert desk.blocks()


async def test_an_old_word_about_a_leg_that_has_grown_since_is_checked_at_once(make_desk: MakeDesk) -> None:
    """Its stop believed too small, another one would be made larger: together they would turn the position round."""
    desk = await in_position(make_desk())
    (stop,) = [o for o in desk.exchange.open_orders(PAPER) if o.terms.type is OrderType.STOP]
    (memory,) = desk.orders(Role.STOP)
    replace, asked = desk.manager.replace, []

    async def seen(broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        asked.append(terms)
        return await replace(broker_id, client_id, terms)

    desk.manager.replace = seen  # type: ignore[method-assign]
    for listener in tuple(desk.exchange._listeners[PAPER]):
        listener(OrderReported(changed(stop, terms=changed(stop.terms, quantity=Decimal(1)))))
    await desk.pass_(5)
    after = desk.trader().desk.current(memory)
    assert after.revision > memory.revision, "the word was heard"
    assert after.terms.quantity == 2
    assert asked == [], "nothing was resized for it"


@pytest.mark.parametrize("command", ["cancel", "replace"])
async def test_a_fill_while_the_journal_learns_that_nothing_was_sent_is_not_lost(
    make_desk: MakeDesk, command: str
) -> None:
    """The command was given up with the order as it had been before the fill: the doubt never ended."""
    desk = await in_position(make_desk(wrap_store=FailingStore))
    (stop,) = desk.orders(Role.STOP)
    failing(desk).down = True
    trader, journal = desk.trader(), desk.trader().desk.journal
    asked, append = trader.desk.lease.why_nothing, journal.append
    answers = [False, True]

    async def unsure(patience: float, begun: float | None = None) -> str | None:
        return "the lease is being read" if answers and answers.pop() is False else await asked(patience, begun)

    async def crossed(record: JournalRecord) -> None:
        if isinstance(record, Concluded):
            desk.exchange.max_fill = Decimal(1)
            desk.exchange.on_tick(Tick(ES, desk.clock.now(), Decimal(4990), Decimal(1)))
            await desk.clock.sleep(0.1)
        await append(record)

    trader.desk.lease.why_nothing = unsure  # type: ignore[method-assign]
    journal.append = crossed  # type: ignore[method-assign]
    work = (
        trader.submission.cancel(stop, "by hand")
        if command == "cancel"
        else trader.submission.replace(stop, changed(stop.terms, stop=Decimal(4985)), "by hand")
    )
    task = asyncio.ensure_future(work)
    await desk.until(task.done, 5)
    after = task.result()
    assert not answers
    assert desk.exchange.book.orders[BrokerOrderId(str(stop.broker_id))].record.filled == 1
    filled = (after.filled, desk.trader().desk.current(stop).filled, desk.position())
    assert set(filled) == {Decimal(1)}


async def test_of_two_who_change_an_order_at_once_the_second_sees_what_the_first_made_of_it(
    make_desk: MakeDesk,
) -> None:
    """Under one key each took the other's record for its own: one that was sent was journalled as never sent."""
    desk = await in_position(make_desk(wrap_store=FailingStore))
    (stop,) = desk.orders(Role.STOP)
    failing(desk).down = True
    written: list[JournalRecord] = []
    journal, submission = desk.trader().desk.journal, desk.trader().submission
    append = journal.append

    async def seen(record: JournalRecord) -> None:
        written.append(record)
        await append(record)

    journal.append = seen  # type: ignore[method-assign]
    prices = (Decimal(4985), Decimal(4980))
    tasks = [
        asyncio.ensure_future(submission.replace(stop, changed(stop.terms, stop=price), "by hand")) for price in prices
    ]
    await desk.until(lambda: all(task.done() for task in tasks), 5)
    assert [task.result().terms.stop for task in tasks] == [4985, 4985]
    assert [o.terms.stop for o in desk.exchange.open_orders(PAPER)] == [4985]
    assert [type(record).__name__ for record in written] == ["Prepared", "Concluded"]
    assert [record.outcome for record in written if isinstance(record, Concluded)] == [Outcome.ACCEPTED]

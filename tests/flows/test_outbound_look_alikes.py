"""A broker that echoes no ids, and several orders that look like the one in doubt: an operator says which is ours."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import BrokerOrder, Capabilities, IdMode
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.ids import BrokerOrderId, SessionId
from engine.domain.orders import Flag, OrderState, OrderType, Role, Side, Terms
from tests.flows.harness import ES, PAPER, Desk
from tests.flows.script import enter

MakeDesk = Callable[..., Desk]
SESSION = SessionId(f"s-{ES}")
TAG_LESS = Capabilities(id_mode=IdMode.NONE, find_by_client_id=False, brackets=False)


async def three_alike(make_desk: MakeDesk) -> tuple[Desk, BrokerOrderId, list[BrokerOrderId]]:
    """The desk's entry whose answer was lost, and two of a stranger's on the same terms, all resting."""
    desk = await make_desk(capabilities=TAG_LESS).start()
    desk.link.armed.lose_answers = 1
    desk.strategies[ES].script.append(enter(limit="4995", quantity="2"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(desk.exchange.open_orders(PAPER)), 5)
    (ours,) = (o.broker_id for o in desk.exchange.open_orders(PAPER))
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(2), type=OrderType.LIMIT, limit=Decimal(4995))
    theirs = [out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now()) for _ in range(2)]
    await desk.until(lambda: len(questions(desk)) == 3, 30)
    return desk, ours, theirs


def questions(desk: Desk) -> list[Disagreement]:
    rows = (row for row in desk.snapshot().disagreements if row.kind is DisagreementKind.UNKNOWN_ORDER)
    return [row for row in rows if row.state is DisagreementState.CONFIRMED]


async def ignore(desk: Desk, id: BrokerOrderId) -> None:
    receipt = await desk.send(lambda o: c.IgnoreForeign(origin=o, disagreement=f"foreign:{id}", reason="theirs"))
    assert receipt.taken, receipt.message


async def test_each_order_that_may_be_the_one_in_doubt_is_shown_with_its_name(make_desk: MakeDesk) -> None:
    desk, ours, theirs = await three_alike(make_desk)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.IN_DOUBT_SUBMIT
    assert {row.order for row in questions(desk)} == {ours, *theirs}
    assert {row.memory for row in questions(desk)} == {f"perhaps {entry.client_id}"}
    await desk.pass_(300)
    assert desk.orders(Role.ENTRY)[0].state is OrderState.IN_DOUBT_SUBMIT


@pytest.mark.parametrize("filled", [False, True])
async def test_the_one_that_an_operator_adopts_is_the_order_in_doubt(make_desk: MakeDesk, filled: bool) -> None:
    desk, ours, _ = await three_alike(make_desk)
    if filled:
        desk.exchange.max_fill = Decimal(1)
        desk.feed.trade(ES, "4994")
        desk.exchange.max_fill = None
        await desk.until(lambda: desk.position() == desk.broker_position() == 3, 60)
    receipt = await desk.send(lambda o: c.AdoptOrder(origin=o, order=ours, session=SESSION, reason="this one"))
    assert receipt.taken, receipt.message
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.broker_id == ours
    assert Flag.MATCHED_BY_SHAPE in entry.flags
    assert entry.state is (OrderState.PARTIALLY_FILLED if filled else OrderState.WORKING)
    await desk.pass_(60)
    assert desk.position() == desk.broker_position()
    assert desk.orders(Role.ENTRY)[0].filled == entry.filled == record(desk, ours).filled


def record(desk: Desk, id: BrokerOrderId) -> BrokerOrder:
    return desk.exchange.book.orders[id].record


async def test_the_last_of_several_is_not_taken_without_a_word_of_its_own(make_desk: MakeDesk) -> None:
    desk, ours, theirs = await three_alike(make_desk)
    for id in theirs:
        await ignore(desk, id)
    await desk.pass_(60)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.IN_DOUBT_SUBMIT
    assert entry.doubt is not None
    assert entry.doubt.candidates == (ours,)


async def test_when_none_of_them_is_ours_it_is_lost_and_can_be_declared_dead(make_desk: MakeDesk) -> None:
    desk, ours, theirs = await three_alike(make_desk)
    for id in (ours, *theirs):
        await ignore(desk, id)
    await desk.until(lambda: desk.orders(Role.ENTRY)[0].state is OrderState.LOST, 150)

"""What every AccountManager owes the engine, whatever its broker's manners.

To run it over another adapter, give `DESKS` another maker of `Desk`: an account, a way to move its market, and time.
The paper account runs in every combination of manners, the one in another process (behind a real socket) in a few
that have each manner both ways: the exchange behind it is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from decimal import Decimal
from itertools import product
from typing import Any, Protocol, TypeVar

import pytest

from brokers.paper.exchange import PaperExchange
from engine.clock import TapeClock
from engine.domain.broker import (
    AcceptedOrder,
    AccountEvent,
    AttachedLeg,
    BalanceReported,
    BrokerOrder,
    BrokerStatus,
    Capabilities,
    FillReported,
    FillsKind,
    IdMode,
    LinkChanged,
    LinkState,
    OrderReported,
    RefusedOrder,
    ReplaceId,
    ReplaceQuantity,
    Report,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.ids import BrokerOrderId, ClientOrderId, Symbol
from engine.domain.orders import OrderType, Side, Terms
from engine.errors import AnswerLost, LinkDown, QueryFailed
from engine.ports import AccountManager
from tests.unit.brokers.paper_desk import terms
from tests.unit.brokers.remote_desk import RemoteWire
from tests.unit.brokers.tape_desk import Wire

T = TypeVar("T")
MANNERS = [
    pytest.param(
        Capabilities(
            id_mode=mode,
            find_by_client_id=mode is not IdMode.NONE,
            fills=fills,
            replace_id=replace_id,
            replace_quantity=quantity,
            replace_may_change_type=may_change,
        ),
        id=f"{mode}-{fills}-{replace_id}-{quantity}-{'any' if may_change else 'same'} type",
    )
    for mode, fills, replace_id, quantity, may_change in product(
        IdMode, FillsKind, ReplaceId, ReplaceQuantity, (True, False)
    )
]


class Port(Protocol):
    """What the tests use: the account and the exchange behind it, a way to move its market, and time."""

    account: Any
    exchange: PaperExchange
    link: Any
    events: list[AccountEvent]
    clock: TapeClock

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def tick(self, price: int | str) -> None: ...
    async def wait(self, seconds: float) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]: ...
    async def do(self, work: Coroutine[Any, Any, T], seconds: float = 1.0) -> T: ...
    def fills(self) -> list[FillReported]: ...
    def orders(self) -> list[OrderReported]: ...


class Shorthand(Port):
    """Requests and questions in few words."""

    @property
    def port(self) -> AccountManager:
        port: AccountManager = self.account
        return port

    async def submit(self, client_id: str, order: Terms, *legs: Terms) -> SubmitAnswer:
        attached = tuple(AttachedLeg(ClientOrderId(f"{client_id}l{n}"), leg) for n, leg in enumerate(legs))
        return await self.do(self.port.submit(SubmitRequest(ClientOrderId(client_id), order, attached)))

    async def accepted(self, client_id: str, order: Terms, *legs: Terms) -> AcceptedOrder:
        answer = await self.submit(client_id, order, *legs)
        assert isinstance(answer, AcceptedOrder), answer
        return answer

    async def open(self) -> dict[BrokerOrderId, BrokerOrder]:
        return {row.broker_id: row for row in (await self.do(self.port.open_orders())).rows}

    async def all(self) -> dict[BrokerOrderId, BrokerOrder]:
        return {row.broker_id: row for row in (await self.do(self.port.orders_since(0))).rows}

    async def position(self) -> Decimal:
        rows = (await self.do(self.port.positions())).rows
        return next((row.quantity for row in rows), Decimal(0))


class Here(Wire, Shorthand):
    """A paper account in this process."""

    async def stop(self) -> None:
        await self.account.stop()


class There(RemoteWire, Shorthand):
    """A paper account in an exchange process's server."""


Desk = Here | There
DESKS = [
    pytest.param((maker, case.values[0]), id=f"{maker.__name__.lower()}-{case.id}")
    for maker, cases in ((Here, MANNERS), (There, MANNERS[::7]))
    for case in cases
]


@pytest.fixture(params=DESKS)
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    maker, manners = request.param
    desk: Desk = maker(manners)
    await desk.start()
    yield desk
    await desk.stop()


async def test_the_link_is_told_first(desk: Desk) -> None:
    assert desk.events == [LinkChanged(LinkState.UP, "connected")]


async def test_an_accepted_order_is_listed_and_reported_with_its_terms(desk: Desk) -> None:
    order = terms(limit=90)
    answer = await desk.accepted("one", order)
    for row in ((await desk.open())[answer.broker_id], desk.orders()[-1].order):
        assert row.terms == order
        assert row.status is BrokerStatus.WORKING
        assert row.client_id == (None if desk.port.capabilities.id_mode is IdMode.NONE else "one")


async def test_a_fill_shows_everywhere_the_capabilities_promise(desk: Desk) -> None:
    answer = await desk.accepted("one", terms(quantity=2))
    desk.tick(100)
    await desk.wait(1)
    assert await desk.position() == 2
    record = (await desk.all())[answer.broker_id]
    assert record.status is BrokerStatus.FILLED
    assert record.filled == 2
    assert record.average_price == 100
    assert answer.broker_id not in await desk.open()
    assert [event.order.filled for event in desk.orders()][-1] == 2
    assert any(isinstance(event, BalanceReported) for event in desk.events)
    if desk.port.capabilities.fills is FillsKind.EXECUTIONS:
        (fill,) = (await desk.do(desk.port.fills_since(0))).rows
        assert [event.fill for event in desk.events if isinstance(event, FillReported)] == [fill]
        assert fill.quantity == fill.cumulative == 2
        assert (await desk.do(desk.port.fills_since(fill.at + 1))).rows == ()
    else:
        assert not desk.fills()
        with pytest.raises(QueryFailed):
            await desk.do(desk.port.fills_since(0))


async def test_the_same_client_id_twice(desk: Desk) -> None:
    """Where ids are enforced the second is refused, which proves nothing: the first may be the one that is meant."""
    await desk.accepted("same", terms(limit=90))
    enforced = desk.port.capabilities.id_mode is IdMode.ENFORCED
    if enforced:
        with pytest.raises(AnswerLost):
            await desk.submit("same", terms(limit=90))
    else:
        await desk.accepted("same", terms(limit=90))
    assert len(await desk.open()) == (1 if enforced else 2)


async def test_an_order_is_found_by_client_id_only_where_promised(desk: Desk) -> None:
    answer = await desk.accepted("mine", terms(limit=90))
    if not desk.port.capabilities.find_by_client_id:
        with pytest.raises(QueryFailed):
            await desk.do(desk.port.order_by_client_id(ClientOrderId("mine")))
        return
    found = await desk.do(desk.port.order_by_client_id(ClientOrderId("mine")))
    assert [row.broker_id for row in found.rows] == [answer.broker_id]
    nothing: Report[BrokerOrder] = await desk.do(desk.port.order_by_client_id(ClientOrderId("else")))
    assert nothing.rows == ()


async def test_a_refusal_is_proof_that_nothing_was_executed(desk: Desk) -> None:
    desk.tick(100)
    answer = await desk.submit("bad", terms(symbol=Symbol("NOPE")))
    assert isinstance(answer, RefusedOrder)
    assert answer.reason
    assert not await desk.open()
    assert await desk.position() == 0


async def test_a_cancel_is_accepted_then_confirmed(desk: Desk) -> None:
    answer = await desk.accepted("one", terms(limit=90))
    assert isinstance(await desk.do(desk.port.cancel(answer.broker_id)), AcceptedOrder)
    assert desk.orders()[-1].order.status is BrokerStatus.CANCELLED
    again = await desk.do(desk.port.cancel(answer.broker_id))
    assert isinstance(again, RefusedOrder)
    assert again.not_open


async def test_a_replace_obeys_the_capabilities_and_leaves_the_wanted_rest(desk: Desk) -> None:
    manners = desk.port.capabilities
    desk.exchange.max_fill = Decimal(2)
    desk.tick(100)
    old = await desk.accepted("old", terms(quantity=5, limit=100))
    asked = 4 if manners.replace_quantity is ReplaceQuantity.TOTAL else 2
    new = await desk.do(desk.port.replace(old.broker_id, ClientOrderId("new"), terms(quantity=asked, limit=99)))
    assert isinstance(new, AcceptedOrder)
    rows = await desk.all()
    if manners.replace_id is ReplaceId.KEEPS:
        assert new.broker_id == old.broker_id
        assert rows[new.broker_id].terms.quantity == 4
    else:
        assert new.broker_id != old.broker_id
        assert rows[new.broker_id].replaces == old.broker_id
        assert rows[old.broker_id].status is BrokerStatus.CANCELLED
    assert list(await desk.open()) == [new.broker_id]
    desk.exchange.max_fill = None
    desk.tick(99)
    assert await desk.position() == 4


async def test_a_stop_becomes_a_market_order_only_where_a_replace_may_change_the_type(desk: Desk) -> None:
    desk.tick(100)
    stop = await desk.accepted("stop", terms(Side.SELL, stop=95))
    answer = await desk.do(desk.port.replace(stop.broker_id, ClientOrderId("now"), terms(Side.SELL)))
    may = desk.port.capabilities.replace_may_change_type
    assert isinstance(answer, AcceptedOrder) is may
    assert await desk.position() == (-1 if may else 0)


async def test_a_replace_of_what_is_gone_says_so(desk: Desk) -> None:
    answer = await desk.do(desk.port.replace(BrokerOrderId("P0000099"), ClientOrderId("x"), terms(limit=90)))
    assert isinstance(answer, RefusedOrder)
    assert answer.not_open


async def test_legs_are_named_held_and_sized(desk: Desk) -> None:
    desk.tick(100)
    bracket = await desk.accepted(
        "b", terms(quantity=3, limit=99), terms(Side.SELL, 3, stop=95), terms(Side.SELL, 3, limit=110)
    )
    assert [client_id for client_id, _ in bracket.legs] == ["bl0", "bl1"]
    opened = await desk.open()
    assert {opened[leg].status for _, leg in bracket.legs} == {BrokerStatus.HELD}
    assert {opened[leg].parent for _, leg in bracket.legs} == {bracket.broker_id}
    desk.exchange.max_fill = Decimal(2)
    desk.tick(99)
    opened = await desk.open()
    assert {opened[leg].terms.quantity for _, leg in bracket.legs} == {Decimal(2)}
    desk.exchange.max_fill = None
    desk.tick(94)
    await desk.wait(1)
    assert await desk.position() == 0
    assert not await desk.open()


async def test_orders_since_holds_open_and_closed_ones_that_changed(desk: Desk) -> None:
    early = await desk.accepted("early", terms(limit=90))
    await desk.wait(10)
    since = desk.clock.now()
    later = await desk.accepted("later", terms(limit=91))
    assert [row.broker_id for row in (await desk.do(desk.port.orders_since(since))).rows] == [later.broker_id]
    await desk.do(desk.port.cancel(early.broker_id))
    changed = {row.broker_id: row.status for row in (await desk.do(desk.port.orders_since(since))).rows}
    assert changed == {early.broker_id: BrokerStatus.CANCELLED, later.broker_id: BrokerStatus.WORKING}


async def test_the_balance_is_one_row_and_follows_the_market(desk: Desk) -> None:
    desk.tick(100)
    await desk.accepted("one", terms())
    desk.tick(101)
    (money,) = (await desk.do(desk.port.balance())).rows
    assert money.equity - money.cash == 50
    assert money.margin_used > 0


async def test_reports_say_when_the_books_were_read(desk: Desk) -> None:
    asked = desk.clock.now()
    report = await desk.do(desk.port.positions())
    assert asked <= report.as_of <= desk.clock.now()
    await desk.wait(5)
    assert (await desk.do(desk.port.positions())).as_of >= report.as_of + 5_000


@pytest.mark.parametrize("how", ["submit", "replace", "cancel"])
async def test_down_means_that_nothing_left_and_a_cut_that_nobody_knows(desk: Desk, how: str) -> None:
    resting = await desk.accepted("one", terms(limit=90))
    calls: dict[str, Callable[[], Coroutine[Any, Any, SubmitAnswer]]] = {
        "submit": lambda: desk.account.submit(SubmitRequest(ClientOrderId("two"), terms(limit=91))),
        "replace": lambda: desk.account.replace(resting.broker_id, ClientOrderId("two"), terms(limit=91)),
        "cancel": lambda: desk.account.cancel(resting.broker_id),
    }
    before = await desk.all()
    desk.link.disconnect(3)
    with pytest.raises(LinkDown):
        await calls[how]()
    await desk.wait(4)
    assert await desk.all() == before
    call = desk.spawn(calls[how]())
    await desk.clock.settle()
    desk.link.disconnect(3)
    await desk.clock.settle()
    with pytest.raises(AnswerLost):
        await call
    await desk.wait(4)
    assert await desk.all() != before


async def test_every_order_type_is_taken(desk: Desk) -> None:
    desk.tick(100)
    for number, order in enumerate(
        (terms(), terms(limit=90), terms(Side.SELL, stop=90), terms(Side.SELL, stop=90, limit=89))
    ):
        await desk.accepted(f"t{number}", order)
    types = {event.order.terms.type for event in desk.events if isinstance(event, OrderReported)}
    assert types == set(OrderType)

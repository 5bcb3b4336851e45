"""An exit of everything while the entry it leaves is still filling."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import (
    BrokerOrder,
    Capabilities,
    FillsKind,
    OrderReported,
    RefusedOrder,
    ReplaceId,
    Report,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.decisions import Intent, Submit
from engine.domain.ids import BrokerOrderId, Millis
from engine.domain.orders import Order, OrderState, OrderType, Role, Side
from engine.errors import LinkDown, LockedOut
from engine.session import Sent
from engine.snapshot import ProtectionState
from tests.flows.acts import alerts, rows
from tests.flows.harness import ES, PAPER, Desk
from tests.flows.script import enter as enter_with
from tests.flows.script import in_position
from tests.flows.test_outbound_basic import enter, leave
from tests.flows.test_outbound_exits import lose_the_next_order, stops


async def test_leaving_everything_calls_off_what_the_entry_has_not_filled(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(max_fill=Decimal(1), capabilities=Capabilities(brackets=False)).start()
    desk.strategies[ES].script += [enter(quantity="4"), leave]
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 1, 5)
    await desk.next_candle(ES, "5001")
    for step in range(8):
        desk.feed.trade(ES, str(5001 + step))
        await desk.pass_(2)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.CANCELLED
    assert desk.position() == desk.broker_position() == 0
    assert not [o for o in desk.orders() if o.is_open]


@pytest.mark.parametrize("answer", ["locked out", "refused"])
async def test_what_is_left_of_a_closed_position_is_asked_to_go_once_a_look(
    make_desk: Callable[..., Desk], answer: str
) -> None:
    """An answer that changes nothing brings no storm of further questions, and the order goes once it can."""
    desk = await in_position(make_desk(), enter_with(target="5050"))
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-2), desk.clock.now())
    cancel, until, knocks = desk.manager.cancel, desk.clock.now() + 80_000, 0

    async def barred(broker_id: BrokerOrderId) -> SubmitAnswer:
        nonlocal knocks
        if desk.clock.now() >= until:
            return await cancel(broker_id)
        knocks += 1
        if answer == "locked out":
            raise LockedOut("too many requests", retry_after_seconds=(until - desk.clock.now()) / 1000)
        return RefusedOrder(reason="not now")

    desk.manager.cancel = barred  # type: ignore[method-assign]
    await desk.until(lambda: desk.position() == 0, 60)
    before = {o.client_id: o.revision for o in desk.orders() if o.is_open}
    seconds = (until - desk.clock.now()) / 1000
    await desk.pass_(seconds)
    assert len(before) == 2
    assert 0 < knocks <= 2 * (seconds + 1)
    for client_id, revision in before.items():
        now = next(o.revision for o in desk.orders() if o.client_id == client_id)
        assert now - revision <= 4 * (seconds + 1), "each look leaves a few events, not a storm"
    await desk.until(lambda: not [o for o in desk.orders() if o.is_open], 5)
    assert desk.exchange.open_orders(PAPER) == ()


async def test_a_leg_that_grew_unheard_is_asked_to_be_as_large_and_no_other_stop_grows_beside_it(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stops larger than the position together would turn it round when both act."""
    desk = await in_position(make_desk(), enter_with(quantity="1"), size=1)
    first = {o.client_id for o in desk.orders(Role.STOP)}
    monkeypatch.setattr(
        desk.link,
        "_is_dropped",
        lambda event: (
            isinstance(event, OrderReported)
            and event.order.terms.type is OrderType.STOP
            and event.order.terms.quantity == 2
            and event.order.client_id not in first
        ),
    )
    desk.exchange.max_fill = Decimal(1)
    desk.strategies[ES].script.append(enter(quantity="2"))
    await desk.next_candle(ES, "5000")
    for size in (2, 3):
        desk.feed.trade(ES, "5000")
        await desk.until(lambda size=size: desk.position() == size, 8)  # type: ignore[misc]
    for _ in range(20):
        await desk.pass_(1)
        resting = [o for o in desk.exchange.open_orders(PAPER) if o.terms.type is OrderType.STOP]
        assert sum(o.terms.quantity for o in resting) == 3
    assert desk.trader().desk.protection is ProtectionState.COVERED


@pytest.mark.parametrize("by", ["a hand", "a bust"])
async def test_a_leg_that_a_fill_has_woken_goes_though_its_entry_still_works(
    make_desk: Callable[..., Desk], by: str
) -> None:
    """Flat, a stop that acts would open a position; what the entry fills next has a stop of its own at once."""
    desk = await make_desk().start()
    desk.faults.inject("partial-fills", None, "1")
    desk.strategies[ES].script.append(enter_with(limit="5000", quantity="3"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 1, 5)
    desk.faults.inject("partial-fills", None, "0")
    if by == "a bust":
        out_of_band.bust_last_fill(desk.exchange, PAPER, ES, desk.clock.now())
    else:
        out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-1), desk.clock.now())
        desk.trader().desk.book.adopt_position(Decimal(0), None, "broker 0", desk.clock.now())

    def resting() -> list[tuple[OrderType, Decimal]]:
        return [(o.terms.type, o.terms.quantity - o.filled) for o in desk.exchange.open_orders(PAPER)]

    await desk.until(lambda: [kind for kind, _ in resting()] == [OrderType.LIMIT], 8)
    assert desk.broker_position() == desk.position() == 0
    assert [o.is_open for o in desk.orders(Role.ENTRY)] == [True]
    desk.exchange.max_fill = Decimal(1)
    desk.feed.trade(ES, "5000")
    await desk.until(lambda: (OrderType.STOP, desk.broker_position()) in resting() and desk.position() > 0, 8)


async def test_a_stop_is_cut_to_the_position_while_another_entry_and_its_stop_are_in_doubt(
    make_desk: Callable[..., Desk],
) -> None:
    """What sleeps beside an entry that may never have arrived says nothing of the stop that rests."""
    desk = await in_position(make_desk(), enter_with(quantity="3"), size=3)
    lose_the_next_order(desk)
    desk.strategies[ES].script.append(enter_with(quantity="2", limit="4995"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: [o.state for o in desk.orders(Role.STOP)][-1] is OrderState.IN_DOUBT_SUBMIT, 8)
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-2), desk.clock.now())
    await desk.until(lambda: desk.position() == 1, 60)
    await desk.until(lambda: stops(desk) == [(Decimal(1), Decimal(4990))], 8)
    assert desk.orders(Role.STOP)[-1].state is OrderState.IN_DOUBT_SUBMIT


@pytest.mark.parametrize("converts", [True, False])
async def test_an_exit_waits_while_the_link_is_up_and_lets_nothing_leave(
    make_desk: Callable[..., Desk], converts: bool
) -> None:
    """A token had expired for half a minute: the exit used its tries up and was dropped."""
    desk = await in_position(make_desk(capabilities=Capabilities(brackets=False, replace_may_change_type=converts)))
    manager, until = desk.manager, desk.clock.now() + 95_000
    asked = {name: getattr(manager, name) for name in ("submit", "replace", "cancel")}

    def muted(name: str) -> Any:
        async def ask(*values: object) -> object:
            if desk.clock.now() < until:
                raise LinkDown("the token has expired; nothing was sent")
            return await asked[name](*values)

        return ask

    for name in asked:
        setattr(manager, name, muted(name))
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5001")
    began = desk.clock.now()
    assert until - began > 25_000
    await desk.until(lambda: desk.position() == desk.broker_position() == 0, 60)
    assert desk.clock.now() - until < 10_000


@pytest.mark.parametrize("meanwhile", ["nothing", "closed by hand", "wants in", "wanted in", "wanted the other way"])
async def test_an_exit_that_another_in_doubt_holds_back_goes_on_once_there_is_evidence(
    make_desk: Callable[..., Desk], meanwhile: str
) -> None:
    """Deferred, not dropped; but what is opened anew is not its to close, and a newer decision counts."""
    desk = await in_position(make_desk(capabilities=Capabilities(replace_may_change_type=False)))
    lose_the_next_order(desk)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: [o.state for o in desk.orders(Role.EXIT)] == [OrderState.IN_DOUBT_SUBMIT], 10)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: "exit not done" in alerts(desk), 10)
    (first,) = desk.orders(Role.EXIT)
    if meanwhile == "wants in":
        desk.strategies[ES].script.append(enter_with())
        await desk.next_candle(ES, "5000")
    if meanwhile.startswith("wanted"):
        await desk.pass_(1)
        session = desk.trader()
        last = session.stream.series.last
        assert last is not None
        candle = replace(last, start=last.start + 60_000)
        side = Side.BUY if meanwhile == "wanted in" else Side.SELL
        desk.strategies[ES].script.append(lambda context: Submit(state=0, intent=Intent.ENTER, side=side))
        session.runner.decide(candle, (candle,), warming=False, catching_up=True)
        session.runner.send_missed()
    if meanwhile == "closed by hand":
        out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-2), desk.clock.now())
        await desk.until(lambda: desk.position() == 0, 60)
        out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(1), desk.clock.now())
        await desk.until(lambda: desk.position() == 1, 60)
    while desk.trader().desk.current(first).state is not OrderState.LOST:
        desk.feed.trade(ES, "5000")
        await desk.pass_(5)
    await desk.send(lambda o: c.DeclareDead(origin=o, order=first.client_id, word="DEAD", reason="asked the broker"))
    await desk.until(lambda: not desk.trader().desk.current(first).is_open, 10)
    await desk.pass_(20)
    assert desk.broker_position() == {"closed by hand": 1, "wants in": 2, "wanted in": 2}.get(meanwhile, 0)


async def test_standing_still_over_an_answer_does_not_lengthen_the_wait_for_a_lost_order(
    make_desk: Callable[..., Desk],
) -> None:
    """A lost order is waited for three times as long as the broker's slowest acceptance: not as long as we slept."""
    desk = await make_desk().start()
    road = desk.trader().desk.road
    submit = road.submit

    async def slept(request: SubmitRequest) -> Sent:
        answer = await submit(request)
        desk.clock._now += 240_000
        return answer

    road.submit = slept  # type: ignore[method-assign]
    desk.strategies[ES].script.append(enter_with(limit="4990", stop="4980"))
    await desk.next_candle(ES, "5000")
    session = desk.trader().desk
    await desk.until(lambda: session.slowest_acceptance_ms > 1_000, 300)
    assert session.slowest_acceptance_ms == 120_000


async def test_a_stop_whose_new_id_a_list_leaves_out_has_not_ended_with_its_old_one(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a move is lost: "cancelled" of the old id proves nothing until the new one is absent repeatedly."""
    desk = await in_position(
        make_desk(capabilities=Capabilities(replace_id=ReplaceId.CHANGES, find_by_client_id=False))
    )
    (stop,) = (o for o in desk.orders(Role.STOP) if o.is_open)
    ask, asked = desk.manager.orders_since, 0

    async def forgetful(since: Millis) -> Report[BrokerOrder]:
        nonlocal asked
        report = await ask(since)
        asked += 1
        listed = tuple(r for r in report.rows if r.broker_id == stop.broker_id) if asked == 1 else report.rows
        return Report(listed, report.as_of)

    desk.manager.orders_since = forgetful  # type: ignore[method-assign]
    desk.link.armed.lose_answers = 1
    monkeypatch.setattr(desk.link, "_is_dropped", lambda event: isinstance(event, OrderReported))
    desk.trader().desk.tasks.launch(moved(desk, stop), "move")
    await desk.until(lambda: asked == 2, 10)
    await desk.pass_(1)
    (resting,) = desk.exchange.open_orders(PAPER)
    current = desk.trader().desk.current(stop)
    assert (current.state, current.broker_id) == (OrderState.WORKING, resting.broker_id)
    told = await rows(desk, "SELECT event FROM order_events WHERE client_id = ?", stop.client_id)
    assert ("broker says cancelled",) not in told


async def moved(desk: Desk, stop: Order) -> None:
    wanted = msgspec.structs.replace(stop.terms, stop=Decimal(4991))
    await desk.trader().submission.replace(stop, wanted, "by test")


async def test_what_an_exit_does_not_close_leaves_after_it_and_not_beside_it(make_desk: Callable[..., Desk]) -> None:
    """The position grew by others' hands while the exit was in doubt: one attempt of a decision after the other."""
    desk = await in_position(make_desk(capabilities=Capabilities(replace_may_change_type=False)))
    submit, beside = desk.manager.submit, []

    async def seen(request: SubmitRequest) -> SubmitAnswer:
        beside.append([o.key for o in desk.orders(Role.EXIT) if o.is_open and o.client_id != request.client_id])
        return await submit(request)

    cancel = desk.manager.cancel

    async def cancelled(broker_id: BrokerOrderId) -> SubmitAnswer:
        answer = await cancel(broker_id)
        desk.faults.inject("next-order-slow", None, "60")
        desk.manager.cancel = cancel  # type: ignore[method-assign]
        return answer

    desk.manager.cancel = cancelled  # type: ignore[method-assign]
    desk.manager.submit = seen  # type: ignore[method-assign]
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: [o.state for o in desk.orders(Role.EXIT)] == [OrderState.IN_DOUBT_SUBMIT], 10)
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(2), desk.clock.now())
    await desk.until(lambda: desk.position() == 4, 40)
    desk.exchange.max_fill = Decimal(1)
    (first,) = desk.orders(Role.EXIT)
    await desk.until(lambda: desk.trader().desk.current(first).filled == 1, 60)
    for _ in range(12):
        await desk.pass_(5)
        desk.feed.trade(ES, "5000")
    assert [keys for keys in beside if keys] == []
    assert len([o for o in desk.orders(Role.EXIT) if o.state is OrderState.FILLED]) >= 2
    assert desk.position() == desk.broker_position() == 0


@pytest.mark.parametrize("may_convert", [True, False])
async def test_an_exit_that_waits_for_the_market_closes_no_more_than_others_left(
    make_desk: Callable[..., Desk], may_convert: bool
) -> None:
    """A market order that fills little by little is made smaller once somebody else took a part of the position."""
    capabilities = Capabilities(replace_may_change_type=may_convert)
    desk = await in_position(make_desk(capabilities=capabilities), enter_with(quantity="4"), size=4)
    desk.exchange.max_fill = Decimal(1)
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 3, 10)
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-1), desk.clock.now())

    def asked() -> list[Decimal]:
        return [o.terms.quantity for o in desk.exchange.open_orders(PAPER)]

    assert asked() == [4]
    await desk.until(lambda: asked() == [3], 60)
    for _ in range(4):
        desk.feed.trade(ES, "5000")
        await desk.pass_(5)
    assert not asked()
    assert desk.broker_position() == desk.position() == 0


@pytest.mark.parametrize("fills", list(FillsKind))
async def test_an_exit_whose_fill_was_voided_fills_that_again_and_no_other_leaves_beside_it(
    make_desk: Callable[..., Desk], fills: FillsKind
) -> None:
    """Two exits together would turn the position round."""
    manners = Capabilities(brackets=False, fills=fills)
    desk = await in_position(make_desk(capabilities=manners), enter_with(quantity="4"), size=4)
    desk.exchange.max_fill = Decimal(1)
    await desk.send(lambda o: c.Flatten(origin=o, session=desk.trader().desk.settings.id))
    await desk.until(lambda: desk.position() == 3, 5)
    out_of_band.bust_last_fill(desk.exchange, PAPER, ES, desk.clock.now())
    await desk.pass_(60)
    assert desk.broker_position() == 4
    seen = [desk.broker_position()]
    for _ in range(12):
        desk.feed.trade(ES, "5000")
        await desk.pass_(2)
        seen.append(desk.broker_position())
    assert min(seen) == seen[-1] == 0

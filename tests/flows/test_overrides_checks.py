"""What an order by hand would meet: told by the engine before it is sent, and nothing comes of the question."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial

import pytest

from engine import commands as c
from engine.domain.ids import SessionId
from engine.domain.orders import OrderType, Role, Side, Terms
from engine.domain.risk import CompleteHeat, HeatLimits, PortfolioSettings
from engine.overrides.base import Refusal
from engine.queries import CheckAnswer, ModifyCheck, TicketCheck
from tests.flows.acts import FailingStore, failing, hold, rest, rows, working
from tests.flows.harness import ES, PAPER, Desk

S_ES = SessionId(f"s-{ES}")
D = Decimal


def terms(size: str, side: Side = Side.BUY, *, limit: str | None = None) -> Terms:
    kind = OrderType.MARKET if limit is None else OrderType.LIMIT
    return Terms(symbol=ES, side=side, quantity=D(size), type=kind, limit=None if limit is None else D(limit))


async def entry(desk: Desk, size: str, *, limit: str | None = None, stop: str | None = "4950") -> CheckAnswer:
    asked = TicketCheck(
        session=S_ES, terms=terms(size, limit=limit), is_exit=False, stop_loss=None if stop is None else D(stop)
    )
    return await desk.overrides.check(asked)


def modification(query: ModifyCheck, origin: c.Origin) -> c.ModifyOrder:
    return c.ModifyOrder(
        origin=origin, order=query.order, quantity=query.quantity, limit=query.limit, stop=query.stop, reason="x"
    )


async def leaving(desk: Desk, size: str) -> CheckAnswer:
    return await desk.overrides.check(TicketCheck(session=S_ES, terms=terms(size, Side.SELL), is_exit=True))


async def test_the_check_tells_value_risk_and_heat_as_the_gate_will_count_them(make_desk: Callable[..., Desk]) -> None:
    """2 contracts, 50 points to the stop, 50 USD a point: 5,000 of 250,000 is 2 %."""
    desk = await make_desk().start()
    seen = await entry(desk, "2")
    assert seen.refusals == ()
    assert (seen.price, seen.notional, seen.risk, seen.after) == (D(5000), D(500_000), D(5_000), D(2))
    assert isinstance(seen.before, CompleteHeat)
    assert seen.before.percent == 0
    receipt = await desk.send(
        lambda o: c.SubmitByHand(
            origin=o, session=S_ES, terms=terms("2"), is_exit=False, stop_loss=D(4950), reason="as checked"
        )
    )
    assert receipt.taken, receipt.message
    await desk.until(lambda: desk.broker_position() == 2, 5)
    await desk.pass_(8)
    heat = desk.engine.portfolio.heat()
    assert isinstance(heat, CompleteHeat)
    assert heat.percent == seen.after


async def test_a_check_reserves_nothing_keeps_nothing_and_latches_nothing(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    before = await rows(desk, "SELECT count(*) FROM orders")
    for size in ("1", "2", "50"):
        await entry(desk, size)
        await leaving(desk, size)
    view = desk.snapshot()
    assert (view.heat.reservations, view.heat.stopped_entries, desk.blocks()) == ((), 0, ())
    assert desk.orders() == []
    assert desk.exchange.open_orders(PAPER) == ()
    assert await rows(desk, "SELECT count(*) FROM orders") == before
    assert await rows(desk, "SELECT count(*) FROM overrides") == [(0,)]


@pytest.mark.parametrize(
    ("size", "limit", "stop", "why"),
    [
        ("2", None, None, "protection = stop, and this entry carries no stop"),
        ("2", "4990.1", "4950", "price 4990.1 is not a positive multiple of the tick size 0.25"),
        ("0.5", None, "4950", "size 0.5 is not a positive multiple of 1"),
        ("2", None, "5010", "the stop 5010 lies on the wrong side of 5000"),
        ("11", None, "4950", "size 11 is over max_order_size 10"),
        ("2", "4000", "3990", "price 4000 is more than 5.00 % away from the mark 5000"),
    ],
)
async def test_the_check_says_what_the_engine_then_says(
    make_desk: Callable[..., Desk], size: str, limit: str | None, stop: str | None, why: str
) -> None:
    desk = await make_desk().start()
    seen = await entry(desk, size, limit=limit, stop=stop)
    assert why in seen.refusals
    command = await desk.send(
        lambda o: c.SubmitByHand(
            origin=o, session=S_ES, terms=terms(size, limit=limit), is_exit=False,
            stop_loss=None if stop is None else D(stop), reason="all the same",
        )
    )  # fmt: skip
    assert command.message == f"denied: {seen.refusals[0]}"


async def test_a_size_over_the_limit_warns_that_sending_it_pauses_the_session(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    assert (await entry(desk, "11")).warnings == ("sending it all the same would pause the session",)


async def test_every_reason_is_told_and_an_operators_own_pause_is_none(make_desk: Callable[..., Desk]) -> None:
    limits = HeatLimits(warn=D("0.5"), block=D(1), release=D("0.1"))
    desk = await make_desk(portfolio=PortfolioSettings(limits=limits)).start()
    await desk.send(lambda o: c.Pause(origin=o, session=S_ES))
    assert (await entry(desk, "2")).refusals == ("heat 0.00 % would become 2.00 %, entries are blocked from 1.00 %",)
    await desk.send(lambda o: c.Kill(origin=o))
    seen = await entry(desk, "2", stop=None)
    assert seen.refusals[0] == "kill latch is set: by test"
    assert "protection = stop, and this entry carries no stop" in seen.refusals
    assert seen.risk == 5_000, "without a stop: the worst case per contract"


async def test_an_exit_is_capped_at_what_can_be_closed(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    assert (await leaving(desk, "2")).plan == "there is nothing to close"
    await hold(desk)
    (stop,) = working(desk, Role.STOP)
    seen = await leaving(desk, "50")
    assert (seen.closable, seen.quantity) == (D(2), D(2))
    assert seen.refusals == ()
    assert seen.warnings == ("capped: 2 can be closed",)
    assert seen.plan == f"the stop {stop.client_id} becomes a market order"
    assert (await leaving(desk, "1")).plan == "1 resting order made smaller with proof, then sent at market"
    assert desk.broker_position() == 2


@pytest.mark.parametrize("size", ["0", "-1", "0.5"])
async def test_an_exit_of_no_size_is_no_exit(make_desk: Callable[..., Desk], size: str) -> None:
    desk = await make_desk().start()
    await hold(desk)
    why = f"size {size} is not a positive multiple of 1"
    assert (await leaving(desk, size)).refusals == (why,)
    refused = await desk.send(
        lambda o: c.SubmitByHand(origin=o, session=S_ES, terms=terms(size, Side.SELL), is_exit=True)
    )
    assert (refused.taken, refused.message) == (False, why)
    await desk.pass_(5)
    assert desk.broker_position() == 2


async def test_a_stop_farther_away_adds_risk_and_needs_a_reason_kept_first(make_desk: Callable[..., Desk]) -> None:
    """2 contracts from 50 points to 60: 1,000 USD more, 0.4 % of 250,000."""
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk, stop="4950")
    await desk.pass_(6)
    (stop,) = working(desk, Role.STOP)
    seen = await desk.overrides.check(ModifyCheck(order=stop.client_id, stop=D(4940)))
    assert (seen.risk, seen.after) == (D(1_000), D("2.4"))
    assert seen.refusals == ()
    nearer = await desk.overrides.check(ModifyCheck(order=stop.client_id, stop=D(4960)))
    assert nearer.risk == -1_000
    at_once = await desk.overrides.check(ModifyCheck(order=stop.client_id, stop=D(5001)))
    assert at_once.warnings == ("the price is at 5000: a stop at 5001 acts at once",)

    silent = await desk.send(lambda o: c.ModifyOrder(origin=o, order=stop.client_id, stop=D(4940)))
    assert silent.message == "this adds risk: it needs a reason"
    failing(desk).down = True
    unkept = await desk.send(lambda o: c.ModifyOrder(origin=o, order=stop.client_id, stop=D(4940), reason="room"))
    assert "could not be recorded first" in unkept.message
    assert working(desk, Role.STOP)[0].terms.stop == 4950
    lower = await desk.send(lambda o: c.ModifyOrder(origin=o, order=stop.client_id, stop=D(4960)))
    assert lower.taken, "what lowers risk is not held up by the database"
    failing(desk).back()
    receipt = await desk.send(lambda o: c.ModifyOrder(origin=o, order=stop.client_id, stop=D(4940), reason="room"))
    assert receipt.taken, receipt.message
    assert working(desk, Role.STOP)[0].terms.stop == 4940
    kept = await rows(desk, "SELECT what, reason FROM overrides WHERE what = 'modify stop'")
    assert kept == [("modify stop", "room")]


async def test_what_a_modification_may_not_ask_for(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    resting = await rest(desk)
    stop = next(o for o in working(desk, Role.STOP) if o.parent != resting.client_id)
    asked = (
        (ModifyCheck(order=stop.client_id, limit=D(4990)), "a stop order has no such price"),
        (ModifyCheck(order=stop.client_id, stop=D("4990.1")), "price 4990.1 is not a positive multiple of the tick"),
        (ModifyCheck(order=stop.client_id, quantity=D(0)), "size 0 is not a positive multiple of 1"),
        (ModifyCheck(order=resting.client_id, quantity=D(9)), "an entry is never made larger; submit another"),
    )
    for query, why in asked:
        (refusal,) = (await desk.overrides.check(query)).refusals
        assert refusal.startswith(why)
        receipt = await desk.send(partial(modification, query))
        assert (receipt.taken, receipt.message) == (False, refusal)


async def test_what_is_not_there_cannot_be_checked(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    with pytest.raises(Refusal, match="there is no session"):
        await desk.overrides.check(TicketCheck(session=SessionId("nobody"), terms=terms("1"), is_exit=False))

"""An exit that nothing could record, a crash, and a next life to which the same exit is owed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from brokers.paper.out_of_band import move_position
from engine.domain.broker import Capabilities, IdMode
from engine.domain.decisions import Decision, Nothing, StrategyContext
from engine.domain.ids import ClientOrderId, client_order_id, decision_key
from engine.domain.orders import Flag, OrderType, Role, Side, Terms
from tests.flows.acts import FailingStore, Script, alerts, failing, hold, kill, leave, next_life, next_window
from tests.flows.harness import ES, PAPER, Desk


def _manners(mode: IdMode = IdMode.TAG, *, find: bool = True) -> Capabilities:
    return Capabilities(id_mode=mode, find_by_client_id=find, replace_may_change_type=False)


async def _full(record: Any) -> None:
    raise OSError(28, "No space left on device")


def _nothing(desk: Desk) -> None:
    """All is well."""


def _wants_out(desk: Desk, candle: int, meanwhile: Callable[[Desk], object]) -> Script:
    """As a strategy without chance in it decides again on a candle that it has seen."""

    def decide(context: StrategyContext) -> Decision:
        if context.candles[-1].start == candle:
            meanwhile(desk)
            return leave(context)
        return Nothing(state=context.state, reason="hold")

    return decide


async def _next(
    desk: Desk, make_desk: Callable[..., Desk], candle: int, meanwhile: Callable[[Desk], object] = _nothing
) -> Desk:
    """The life after, which holds one contract that the exit did not close."""
    move_position(desk.exchange, PAPER, ES, 1 - desk.broker_position(), desk.clock.now())

    def scripted(**options: Any) -> Desk:
        again = make_desk(**options)
        again.strategies[ES].decide = _wants_out(again, candle, meanwhile)  # type: ignore[method-assign, assignment]
        return again

    return await next_life(desk, scripted)


@pytest.mark.parametrize(
    "capabilities",
    [_manners(), _manners(find=False), _manners(IdMode.ENFORCED)],
    ids=["found by name", "told in lists", "unique names"],
)
async def test_an_exit_owed_again_leaves_under_another_name_than_the_one_that_nothing_recorded(
    make_desk: Callable[..., Desk], capabilities: Capabilities
) -> None:
    desk = await make_desk(wrap_store=FailingStore, capabilities=capabilities).start()
    await hold(desk)
    await desk.pass_(5)
    failing(desk).down = True
    desk.journal.append = _full  # type: ignore[method-assign]
    desk.strategies[ES].script.append(leave)
    await next_window(desk)
    await desk.until(lambda: desk.position() == 0, 5)
    assert "exit sent WITHOUT A RECORD" in alerts(desk)
    (unrecorded,) = desk.orders(Role.EXIT)
    await kill(desk)
    again = await _next(desk, make_desk, int(unrecorded.key.split("/")[1]))
    await again.until(lambda: again.broker_position() == 0, 10)
    (owed,) = again.orders(Role.EXIT)
    assert Flag.MISSED in owed.flags
    assert owed.client_id != unrecorded.client_id
    assert [o.client_id for o in again.exchange.orders_since(PAPER, 0)].count(unrecorded.client_id) == 1


async def test_the_exit_of_the_time_to_be_flat_by_leaves_under_another_name_too(make_desk: Callable[..., Desk]) -> None:
    limits = make_desk(directory="other").session_settings(ES).limits
    session = {"limits": replace(limits, flat_by=time(9, 3))}  # 09:00 is now
    desk = await make_desk(wrap_store=FailingStore, capabilities=_manners(), session=session).start()
    await hold(desk)
    await desk.pass_(5)
    failing(desk).down = True
    desk.journal.append = _full  # type: ignore[method-assign]
    await desk.until(lambda: desk.position() == 0, 180)
    (unrecorded,) = desk.orders(Role.EXIT)
    await kill(desk)
    again = await _next(desk, make_desk, -1)
    await again.until(lambda: again.broker_position() == 0, 10)
    names = [o.client_id for o in again.exchange.orders_since(PAPER, 0)]
    assert names.count(unrecorded.client_id) == 1
    assert {o.key.split("/")[1] for o in again.orders(Role.EXIT)} == {unrecorded.key.split("/")[1]}


async def _one_works(make_desk: Callable[..., Desk]) -> tuple[Desk, int, ClientOrderId]:
    """A life that died, of whose exit the broker alone knows; as it sent it, and the candle it was decided on."""
    desk = await make_desk(wrap_store=FailingStore, capabilities=_manners()).start()
    await hold(desk)
    await desk.pass_(5)
    failing(desk).down = True
    await next_window(desk)
    candle = desk.trader().desk.decisions[-1].candle
    await kill(desk)
    key = decision_key(desk.trader().desk.settings.id, str(candle), "exit", 1)
    terms = Terms(symbol=ES, side=Side.SELL, quantity=Decimal(1), type=OrderType.LIMIT, limit=Decimal(5100))
    name = client_order_id(desk.store.salt, key)
    desk.exchange.arrive(desk.exchange.add(PAPER, name, terms).id)
    desk.exchange.commit()
    return desk, candle, name


async def test_an_exit_owed_again_does_not_leave_beside_one_of_an_earlier_life_that_still_works(
    make_desk: Callable[..., Desk],
) -> None:
    desk, candle, name = await _one_works(make_desk)
    again = await _next(desk, make_desk, candle)
    await again.until(lambda: "exit of an earlier life without a record, still works" in alerts(again), 10)
    await again.pass_(10)
    assert again.broker_position() == 1
    assert again.orders(Role.EXIT) == []
    assert [o.client_id for o in again.exchange.open_orders(PAPER) if o.terms.limit == 5100] == [name]


async def test_a_broker_that_does_not_answer_stops_no_exit_that_is_owed(make_desk: Callable[..., Desk]) -> None:
    desk, candle, _ = await _one_works(make_desk)
    again = await _next(desk, make_desk, candle, meanwhile=lambda desk: desk.faults.inject("fail-queries", None, "60"))
    await again.until(lambda: any(Flag.MISSED in o.flags for o in again.orders(Role.EXIT)), 15)

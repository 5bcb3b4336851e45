"""A desk that stops leaves protective orders that fit what they protect."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from engine.domain.orders import Role
from engine.domain.settings import ShutdownPolicy
from tests.flows.harness import ES, PAPER, Desk
from tests.flows.test_outbound_basic import enter


async def test_a_desk_that_stops_right_after_an_adoption_first_sizes_the_stop(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script += [enter(quantity="3")]
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 3, 5)
    await desk.pass_(5)
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: desk.position() == 2, 45)
    assert [o.terms.quantity for o in desk.orders(Role.STOP) if o.is_open] == [3]
    await desk.clock.settle()
    await desk.stop(ShutdownPolicy.CANCEL_ENTRIES)
    (stop,) = desk.exchange.open_orders(PAPER)
    assert stop.terms.quantity == Decimal(2)

"""What counts as cover: a stop that can act on the position now, and no other order."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from engine.domain.broker import BrokerStatus
from engine.domain.ids import SessionId
from engine.domain.orders import Role
from engine.snapshot import ProtectionState
from tests.flows.acts import all_agree, hold, kill, next_life, rest, working
from tests.flows.harness import ES, PAPER, Desk


async def test_the_legs_of_a_resting_entry_cover_nothing(make_desk: Callable[..., Desk]) -> None:
    """A position with its stop, and a second entry that still rests with a sleeping stop of its own."""
    desk = await make_desk().start()
    await rest(desk, limit="4960", stop="4955")
    await hold(desk, stop="4950", size="3")
    await desk.pass_(10)
    stops = {o.terms.stop: (o.status, o.terms.quantity) for o in desk.exchange.open_orders(PAPER) if o.terms.stop}
    assert stops[Decimal(4950)] == (BrokerStatus.WORKING, Decimal(3)), "the live stop was taken for surplus"
    assert stops[Decimal(4955)] == (BrokerStatus.HELD, Decimal(2)), "the sleeping leg was fitted to the position"
    assert desk.trader().guard.stop_price == Decimal(4950)
    reported = desk.engine.portfolio.contribution(SessionId(f"s-{ES}"))
    assert reported is not None
    assert reported.position_risk == 3 * 50 * 50
    assert reported.unprotected == 0
    # A position whose only stop sleeps is naked, and is covered again.
    live = next(o for o in working(desk, Role.STOP) if o.terms.stop == 4950)
    desk.faults.inject("refuse-stops", ES, "9")
    desk.exchange.cancel(PAPER, live.broker_id, desk.clock.now())  # type: ignore[arg-type]
    await desk.until(lambda: desk.trader().desk.protection is not ProtectionState.COVERED, 3)


async def test_a_restart_does_not_confuse_sleeping_and_live_stops(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await rest(desk, limit="4960", stop="4955")
    await hold(desk, stop="4950", size="3")
    await kill(desk)
    again = await next_life(desk, make_desk)
    await again.pass_(10)
    assert again.trader().desk.protection is ProtectionState.COVERED
    assert sorted(o.terms.quantity for o in working(again, Role.STOP)) == [2, 3]
    await all_agree(again)
    again.feed.trade(ES, "4949")
    await again.pass_(10)
    assert again.broker_position() == again.position() == 0
    await all_agree(again)

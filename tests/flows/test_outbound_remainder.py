"""An exit of everything while the entry it leaves is still filling."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from engine.domain.broker import Capabilities
from engine.domain.orders import OrderState, Role
from tests.flows.harness import ES, Desk
from tests.flows.test_outbound_basic import enter, leave


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

"""An entry that is moved farther from its stop adds risk, and is reviewed like an entry."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from engine import commands as c
from engine.domain.orders import OrderState, OrderType, Role, Side, Terms
from engine.domain.risk import HeatLimits, PortfolioSettings
from tests.flows.harness import ES, PAPER, Desk


async def test_a_resting_entry_is_not_moved_through_the_block(make_desk: Callable[..., Desk]) -> None:
    """1 contract, 20 points to its stop: 1,000 of 100,000. 60 points would be 3 %, over a block of 2 %."""
    limits = HeatLimits(warn=Decimal("1.5"), block=Decimal(2), release=Decimal("0.1"))
    desk = await make_desk(equity=Decimal(100_000), portfolio=PortfolioSettings(limits=limits)).start()
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(1), type=OrderType.LIMIT, limit=Decimal(4920))
    receipt = await desk.send(
        lambda origin: c.SubmitByHand(
            origin=origin,
            session=desk.trader().desk.settings.id,
            terms=terms,
            is_exit=False,
            stop_loss=Decimal(4900),
            reason="resting",
        )
    )
    assert receipt.taken, receipt.message
    (entry,) = desk.orders(Role.ENTRY)
    refused = await desk.send(lambda origin: c.ModifyOrder(origin=origin, order=entry.client_id, limit=Decimal(4960)))
    assert not refused.taken
    assert "3.00 %" in refused.message
    nearer = await desk.send(lambda origin: c.ModifyOrder(origin=origin, order=entry.client_id, limit=Decimal(4915)))
    assert nearer.taken, nearer.message
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.state, entry.terms.limit) == (OrderState.WORKING, Decimal(4915))
    (resting,) = [o for o in desk.exchange.open_orders(PAPER) if o.client_id == entry.client_id]
    assert resting.terms.limit == Decimal(4915)

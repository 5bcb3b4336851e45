"""An entry with its bracket, filled, protected, and closed by the strategy."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from engine.domain.decisions import Decision, Intent, StrategyContext, Submit
from engine.domain.orders import OrderState, Role, Side
from engine.snapshot import ProtectionState
from tests.flows.harness import ES, Desk


def enter(
    side: Side = Side.BUY, stop: str = "4990", quantity: str | None = None
) -> Callable[[StrategyContext], Decision]:
    """A scripted entry at market with a protective stop."""
    return lambda context: Submit(
        state=context.state,
        intent=Intent.ENTER,
        side=side,
        quantity=None if quantity is None else Decimal(quantity),
        stop_loss=Decimal(stop),
        reason="scripted",
    )


def leave(context: StrategyContext) -> Decision:
    """A scripted exit of everything."""
    return Submit(state=context.state, intent=Intent.EXIT, reason="scripted")


async def test_an_entry_is_filled_protected_and_left_again(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script += [enter(), leave]
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 5)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 5)
    (entry,) = desk.orders(Role.ENTRY)
    (stop,) = desk.orders(Role.STOP)
    assert entry.state is OrderState.FILLED
    assert stop.terms.quantity == 2
    assert stop.terms.stop == Decimal(4990)
    await desk.next_candle(ES, "5001")
    await desk.until(lambda: desk.position() == 0, 5)
    await desk.pass_(10)
    assert desk.broker_position() == 0
    assert [o for o in desk.orders() if o.is_open] == []

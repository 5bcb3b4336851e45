"""What scripted strategies and stores of the flow tests do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeAlias, cast

from engine.domain.decisions import Decision, Intent, Nothing, StrategyContext, Submit
from engine.domain.intents import IntentRecord
from engine.domain.orders import OrderType, Role, Side
from engine.ports import Committed, NotHolder, Store, Taken
from engine.snapshot import Phase, ProtectionState
from tests.flows.harness import ES, Desk

Step: TypeAlias = Callable[[StrategyContext], Decision]


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def enter(
    side: Side = Side.BUY,
    stop: str | None = "4990",
    *,
    quantity: str | None = None,
    target: str | None = None,
    limit: str | None = None,
    at_stop: str | None = None,
) -> Step:
    """An entry with a protective stop: at market, or at the `limit` or stop price given."""
    kind = OrderType.LIMIT if limit is not None else OrderType.STOP if at_stop is not None else OrderType.MARKET
    return lambda context: Submit(
        state=context.state,
        intent=Intent.ENTER,
        side=side,
        quantity=_number(quantity),
        type=kind,
        limit=_number(limit),
        stop=_number(at_stop),
        stop_loss=_number(stop),
        take_profit=_number(target),
        reason="scripted",
    )


def leave(context: StrategyContext) -> Decision:
    """An exit of everything."""
    return Submit(state=context.state, intent=Intent.EXIT, reason="scripted")


def leave_part(quantity: str) -> Step:
    """An exit of a part."""
    return lambda context: Submit(
        state=context.state, intent=Intent.EXIT, quantity=Decimal(quantity), reason="scripted"
    )


def reverse(side: Side, stop: str) -> Step:
    """Out, and in again on the other side."""
    return lambda context: Submit(
        state=context.state, intent=Intent.REVERSE, side=side, stop_loss=Decimal(stop), reason="scripted"
    )


def nothing(context: StrategyContext) -> Decision:
    """No order this time."""
    return Nothing(state=context.state, reason="scripted to wait")


async def in_position(desk: Desk, step: Step | None = None, *, size: int = 2) -> Desk:
    """A desk that trades, with a position filled and covered by a stop the broker confirmed."""
    if not desk.engine.sessions or desk.trader().desk.phase is not Phase.TRADING:
        await desk.start()
    desk.strategies[ES].script.append(step or enter())
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == size, 8)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 8)
    await desk.pass_(2)
    assert sum(o.remaining for o in desk.orders(Role.STOP) if o.is_open) == abs(size)
    return desk


class StoreAround:
    """The real store, with something that happens after each commit and before its caller hears of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.log: list[tuple[str, str]] = []
        self.after_commit: Callable[[IntentRecord], Awaitable[None]] | None = None

    @classmethod
    def wrap(cls, store: Store) -> Store:
        """For the desk's option `wrap_store`."""
        return cast(Store, cls(store))

    @classmethod
    def of(cls, desk: Desk) -> StoreAround:
        """The wrapper that a desk was made with."""
        assert isinstance(desk.store, cls)
        return desk.store

    async def commit(self, intent: IntentRecord) -> Committed | Taken | NotHolder:
        """Commit for real, note it, then let the test act."""
        outcome = await self._store.commit(intent)
        self.log.append(("committed", intent.key))
        if self.after_commit is not None:
            await self.after_commit(intent)
        return outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

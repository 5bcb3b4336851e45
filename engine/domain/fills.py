"""Executions and the keys under which each is booked exactly once."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, SessionId, Symbol
from engine.domain.orders import ZERO, Side


class Fill(Struct, frozen=True, kw_only=True, gc=False):
    """An execution as booked: the interval (`since`, `upto`] of its order's cumulative quantity.

    `key` is the natural key: the broker's execution id where it gives one, else the interval.
    `client_id` is None for an execution of an order that is not ours. `revision` grows when the broker
    corrects or busts an execution (a bust has quantity zero).
    """

    key: str
    account: AccountId
    session: SessionId | None
    symbol: Symbol
    client_id: ClientOrderId | None
    broker_id: BrokerOrderId
    side: Side
    quantity: Decimal
    price: Decimal
    at: Millis
    fee: Decimal = ZERO
    since: Decimal = ZERO
    upto: Decimal = ZERO
    revision: int = 0

    @property
    def signed(self) -> Decimal:
        """Effect on the position."""
        return self.quantity * self.side.sign

"""What a strategy may return, and what it may see."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeAlias

from msgspec import Struct

from engine.domain.ids import ClientOrderId
from engine.domain.instruments import Instrument
from engine.domain.market import Candle
from engine.domain.orders import Order, OrderType, Side, TimeInForce
from engine.domain.positions import Position


class Intent(StrEnum):
    """What a submit is meant to do; arithmetic may tighten it, never widen it."""

    ENTER = "enter"
    EXIT = "exit"
    REVERSE = "reverse"


class Nothing(Struct, frozen=True, kw_only=True):
    """No order this time; `reason` answers "why no trade?"."""

    state: Any
    reason: str = ""


class Submit(Struct, frozen=True, kw_only=True):
    """Place an order. `side` is the side of the order; an EXIT may leave it to the position.

    `quantity` None lets the session's sizing choose (an EXIT: all that can be closed).
    `stop_loss` and `take_profit` are prices of protective legs for what opens.
    """

    state: Any
    intent: Intent
    side: Side | None = None
    quantity: Decimal | None = None
    type: OrderType = OrderType.MARKET
    limit: Decimal | None = None
    stop: Decimal | None = None
    tif: TimeInForce = TimeInForce.DAY
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    reason: str = ""


class Modify(Struct, frozen=True, kw_only=True):
    """Change the price of one working order; None leaves that price alone."""

    state: Any
    order: ClientOrderId
    limit: Decimal | None = None
    stop: Decimal | None = None
    reason: str = ""


class Cancel(Struct, frozen=True, kw_only=True):
    """Cancel working orders."""

    state: Any
    orders: tuple[ClientOrderId, ...]
    reason: str = ""


Decision: TypeAlias = Nothing | Submit | Modify | Cancel


class StrategyContext(Struct, frozen=True, kw_only=True):
    """All that a strategy sees: closed candles (oldest first, the last is the one to decide on), its own state,
    the confirmed position, its working orders and the instrument. `warming` is true while history is replayed."""

    candles: Sequence[Candle]
    state: Any
    position: Position
    orders: tuple[Order, ...]
    instrument: Instrument
    warming: bool = False

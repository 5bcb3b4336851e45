"""Small values for the tests of the engine's pure parts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from engine.domain.broker import BrokerFill, BrokerOrder, BrokerStatus
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, DecisionKey, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Candle, CandleOrigin, Tick
from engine.domain.orders import Order, OrderState, OrderType, Role, Side, Terms

SESSION, ACCOUNT, SYMBOL = SessionId("s"), AccountId("A"), Symbol("ES")
ES = Instrument(symbol=SYMBOL, tick_size=Decimal("0.25"), point_value=Decimal(50))


def d(value: float | str) -> Decimal:
    """A Decimal, written short."""
    return Decimal(str(value))


def terms(quantity: int = 5, side: Side = Side.BUY, type: OrderType = OrderType.LIMIT, **more: Any) -> Terms:
    """Terms with the price that their type needs."""
    prices: dict[str, Any] = {}
    if type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
        prices["limit"] = Decimal(100)
    if type in (OrderType.STOP, OrderType.STOP_LIMIT):
        prices["stop"] = Decimal(100)
    prices.update(more)
    return Terms(symbol=SYMBOL, side=side, quantity=Decimal(quantity), type=type, **prices)


def order(
    name: str = "o",
    state: OrderState = OrderState.SUBMITTING,
    *,
    role: Role = Role.ENTRY,
    filled: int = 0,
    of: Terms | None = None,
    **more: Any,
) -> Order:
    """An order in any state; it knows its broker id `B-name` once it is past submitting."""
    known = state not in (OrderState.SUBMITTING, OrderState.IN_DOUBT_SUBMIT, OrderState.LOST)
    fields: dict[str, Any] = {
        "client_id": ClientOrderId(name),
        "key": DecisionKey(name),
        "session": SESSION,
        "account": ACCOUNT,
        "role": role,
        "terms": of if of is not None else terms(),
        "state": state,
        "created": 0,
        "updated": 0,
        "broker_id": BrokerOrderId(f"B-{name}") if known else None,
        "filled": Decimal(filled),
        "reported": Decimal(filled),
        "average_price": Decimal(100) if filled else None,
    }
    fields.update(more)
    return Order(**fields)


def report(of: Order, status: BrokerStatus, filled: int | Decimal = 0, **more: Any) -> BrokerOrder:
    """The broker's record of an order of ours."""
    fields: dict[str, Any] = {
        "broker_id": BrokerOrderId(f"B-{of.client_id}"),
        "client_id": of.client_id,
        "terms": of.terms,
        "status": status,
        "filled": Decimal(filled),
        "average_price": Decimal(100) if filled else None,
    }
    fields.update(more)
    return BrokerOrder(**fields)


def execution(of: Order, number: int, quantity: int | Decimal, price: int | str = 100, **more: Any) -> BrokerFill:
    """An execution of an order of ours; the same number is the same execution."""
    fields: dict[str, Any] = {
        "execution_id": f"{of.client_id}-x{number}",
        "broker_id": BrokerOrderId(f"B-{of.client_id}"),
        "client_id": of.client_id,
        "symbol": SYMBOL,
        "side": of.terms.side,
        "quantity": Decimal(quantity),
        "price": Decimal(price),
        "at": number,
    }
    fields.update(more)
    return BrokerFill(**fields)


def fill(quantity: int, price: int | str = 100, **more: Any) -> Fill:
    """A booked execution; a negative quantity sells."""
    fields: dict[str, Any] = {
        "key": "x",
        "account": ACCOUNT,
        "session": SESSION,
        "symbol": SYMBOL,
        "client_id": ClientOrderId("o"),
        "broker_id": BrokerOrderId("B-o"),
        "side": Side.BUY if quantity >= 0 else Side.SELL,
        "quantity": Decimal(abs(quantity)),
        "price": Decimal(price),
        "at": 1,
    }
    fields.update(more)
    return Fill(**fields)


def tick(at: int, price: int | str = 100, size: int | str = 1) -> Tick:
    """A tick of the one symbol."""
    return Tick(SYMBOL, at, Decimal(price), Decimal(size))


def candle(start: int, close: int | str = 100, **more: Any) -> Candle:
    """A flat candle at one price, or with the prices named."""
    price = Decimal(close)
    fields: dict[str, Any] = {"open": price, "high": price, "low": price, "volume": Decimal(1)}
    fields.update({key: value if isinstance(value, CandleOrigin) else Decimal(value) for key, value in more.items()})
    return Candle(start=start, close=price, **fields)

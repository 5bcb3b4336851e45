"""What happens at a broker behind the desk's back; each leaves the exchange consistent with itself."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from brokers.paper.book import PaperFill, is_held, with_record
from brokers.paper.exchange import PaperExchange
from engine.domain.broker import BrokerFill, BrokerStatus
from engine.domain.ids import AccountId, BrokerOrderId, Millis, Symbol
from engine.domain.orders import OrderType, Terms
from engine.domain.positions import Position


def move_position(exchange: PaperExchange, account: AccountId, symbol: Symbol, by: Decimal, at: Millis) -> Position:
    """The margin desk changes a position by a signed quantity at the last price: no order, no fill, no event.

    Raises ValueError when there is no price to do it at.
    """
    exchange.roll(at)
    price = exchange.last_price(symbol) or exchange.book.position(account, symbol).average_price
    if price is None or symbol not in exchange.instruments:
        raise ValueError(f"{symbol} has not traded yet, so there is no price to move a position at")
    exchange.move(account, symbol, by, price)
    exchange.commit()
    return exchange.book.position(account, symbol)


def place_foreign(exchange: PaperExchange, account: AccountId, terms: Terms, at: Millis) -> BrokerOrderId:
    """Somebody else places an order on the account; it carries no client id and asks for no margin."""
    exchange.roll(at)
    order = exchange.add(account, None, terms)
    exchange.arrive(order.id)
    exchange.commit()
    return order.id


def cancel_order(exchange: PaperExchange, broker_id: BrokerOrderId, at: Millis, reason: str) -> None:
    """The broker cancels an open order by itself. Raises ValueError when it is not open."""
    exchange.roll(at)
    order = exchange.book.orders.get(broker_id)
    if order is None or not order.is_open:
        raise ValueError(f"order {broker_id} is not open")
    exchange.close_order(order, BrokerStatus.CANCELLED, reason)
    exchange.commit()


def move_price(exchange: PaperExchange, broker_id: BrokerOrderId, by: Decimal, at: Millis) -> bool:
    """Its owner moves the price of a working order elsewhere, its stop before its limit; no event tells of it.

    False, and nothing is changed, where the order has no price, waits for its entry, or has filled.
    """
    exchange.roll(at)
    order = exchange.book.orders.get(broker_id)
    if order is None or order.record.status is not BrokerStatus.WORKING or order.record.filled or order.triggered:
        return False
    terms = order.record.terms
    if terms.stop is not None:
        terms = replace(terms, stop=terms.stop + by)
    elif terms.limit is not None:
        terms = replace(terms, limit=terms.limit + by)
    else:
        return False
    exchange.book.put(with_record(order, exchange.book.at, terms=terms))
    exchange.commit()
    return True


def make_stops_inert(exchange: PaperExchange, account: AccountId, symbol: Symbol, at: Millis) -> int:
    """The account's present stops of the symbol stay WORKING and never trigger; returns how many."""
    exchange.roll(at)
    count = 0
    for broker_id in list(exchange.book.resting.get(symbol, ())):
        order = exchange.book.orders[broker_id]
        if order.account == account and order.record.terms.type in (OrderType.STOP, OrderType.STOP_LIMIT):
            exchange.book.put(replace(order, inert=True))
            count += 1
    exchange.commit()
    return count


def refuse_next(exchange: PaperExchange, account: AccountId, reason: str, *, stops_only: bool, count: int = 1) -> None:
    """Refuse the next `count` orders that would have been taken (or the next stops)."""
    exchange.refusals.setdefault(account, []).extend([(reason, stops_only)] * count)


def bust_last_fill(exchange: PaperExchange, account: AccountId, symbol: Symbol | None, at: Millis) -> BrokerFill:
    """Void the newest execution: position, money and the order's filled quantity go back, the status stays.

    Streams the execution again with quantity zero and a higher revision. Raises ValueError when there is none.
    """
    exchange.roll(at)
    for kept in reversed(list(exchange.book.fills.values())):
        fill = kept.fill
        if kept.account == account and fill.quantity and symbol in (None, fill.symbol):
            break
    else:
        raise ValueError("there is no fill to bust")
    order = exchange.book.orders.get(fill.broker_id)
    cumulative = None
    if order is not None:
        record = order.record
        cumulative = record.filled - fill.quantity
        paid = (record.average_price or fill.price) * record.filled - fill.price * fill.quantity
        order = with_record(
            order, exchange.book.at, filled=cumulative, average_price=paid / cumulative if cumulative else None
        )
        exchange.book.put(order)
    busted = replace(fill, quantity=Decimal(0), fee=Decimal(0), cumulative=cumulative, revision=fill.revision + 1)
    exchange.book.put_fill(PaperFill(account, busted, exchange.book.at))
    exchange.move(account, fill.symbol, -fill.quantity * fill.side.sign, fill.price, fill.fee)
    exchange.tell_fill(account, busted)
    if order is not None:
        exchange.tell_order(order)
    exchange.commit()
    return busted


def newest_open(exchange: PaperExchange, account: AccountId, symbol: Symbol | None) -> BrokerOrderId | None:
    """The account's newest working order that carries a client id, None without one."""
    found = [
        order.id
        for resting in exchange.book.resting.values()
        for order in (exchange.book.orders[broker_id] for broker_id in resting)
        if order.account == account
        and order.record.client_id is not None
        and not is_held(order)
        and symbol in (None, order.record.terms.symbol)
    ]
    return max(found, key=lambda broker_id: (len(broker_id), broker_id), default=None)

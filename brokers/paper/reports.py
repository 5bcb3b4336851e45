"""What an account gets to see of the book. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from brokers.paper.book import Book, PaperOrder
from brokers.paper.checks import unit_margin
from brokers.paper.options import AccountTerms
from engine.domain.broker import Balance, BrokerFill, BrokerOrder, BrokerPosition, Capabilities, IdMode
from engine.domain.ids import AccountId, Millis, Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import ZERO


def seen_order(order: PaperOrder, capabilities: Capabilities) -> BrokerOrder:
    """The order's record as the account sees it: without the client id where the broker does not echo it."""
    if capabilities.id_mode is IdMode.NONE:
        return replace(order.record, client_id=None)
    return order.record


def seen_fill(fill: BrokerFill, capabilities: Capabilities) -> BrokerFill:
    """An execution as the account sees it."""
    return replace(fill, client_id=None) if capabilities.id_mode is IdMode.NONE else fill


def positions(book: Book, account: AccountId) -> tuple[BrokerPosition, ...]:
    """Open positions, by symbol."""
    return tuple(
        BrokerPosition(symbol, position.quantity, position.average_price)
        for (owner, symbol), position in sorted(book.positions.items())
        if owner == account
    )


def open_orders(book: Book, account: AccountId, capabilities: Capabilities) -> tuple[BrokerOrder, ...]:
    """Orders that may still fill, oldest first."""
    orders = (book.orders[broker_id] for resting in book.resting.values() for broker_id in resting)
    return tuple(
        seen_order(order, capabilities)
        for order in sorted(orders, key=_age)
        if order.account == account
    )  # fmt: skip


def orders_since(book: Book, account: AccountId, capabilities: Capabilities, since: Millis) -> tuple[BrokerOrder, ...]:
    """Orders submitted or changed at or after `since`, oldest first."""
    found = (
        order
        for order in book.orders.values()
        if order.account == account and max(order.record.updated, order.record.submitted) >= since
    )
    return tuple(seen_order(order, capabilities) for order in sorted(found, key=_age))


def _age(order: PaperOrder) -> tuple[int, str]:
    return len(order.id), order.id


def fills_since(book: Book, account: AccountId, capabilities: Capabilities, since: Millis) -> tuple[BrokerFill, ...]:
    """Executions made or revised at or after `since`, in the order of execution."""
    return tuple(
        seen_fill(kept.fill, capabilities)
        for kept in book.fills.values()
        if kept.account == account and kept.changed >= since
    )


def balance(book: Book, account: AccountTerms, instruments: Mapping[Symbol, Instrument]) -> Balance:
    """Cash, equity at the last trades, and margin held for positions."""
    cash = book.cash[account.account]
    equity, margin = cash, ZERO
    for (owner, symbol), position in book.positions.items():
        if owner != account.account or symbol not in instruments:
            continue
        mark = book.marks.get(symbol)
        price = position.average_price if mark is None else mark.price
        equity += position.open_points(price) * instruments[symbol].point_value
        margin += abs(position.quantity) * unit_margin(account, instruments[symbol], price)
    return Balance(equity=equity, cash=cash, margin_used=margin, currency=account.currency)

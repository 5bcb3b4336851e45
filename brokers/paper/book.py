"""The exchange's own book: orders, executions, positions, money, marks; and the changes it is rebuilt from."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from engine.domain.broker import BrokerFill, BrokerOrder, BrokerStatus
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, Symbol
from engine.domain.orders import ZERO
from engine.domain.positions import FLAT, Position

KEPT_CLIENT_IDS = 50_000


class PaperOrder(Struct, frozen=True, kw_only=True):
    """An order as the exchange knows it; `record` holds the true client id, whatever the account echoes.

    `triggered`: its stop was hit. `inert`: its stop never will be (a fault). `legs`: its bracket.
    """

    account: AccountId
    record: BrokerOrder
    trade_date: date
    triggered: bool = False
    inert: bool = False
    legs: tuple[BrokerOrderId, ...] = ()

    @property
    def id(self) -> BrokerOrderId:
        """The broker's id."""
        return self.record.broker_id

    @property
    def is_open(self) -> bool:
        """Whether more may fill."""
        return not self.record.status.is_final

    @property
    def remaining(self) -> Decimal:
        """What is left to fill."""
        return self.record.terms.quantity - self.record.filled


class PaperFill(Struct, frozen=True):
    """An execution and when it last changed (a bust comes later than the fill)."""

    account: AccountId
    fill: BrokerFill
    changed: Millis


class Holding(Struct, frozen=True):
    """A position of an account."""

    account: AccountId
    symbol: Symbol
    position: Position


class Money(Struct, frozen=True):
    """Cash of an account: what it started with, plus realised profit, minus fees."""

    account: AccountId
    cash: Decimal


class Mark(Struct, frozen=True, gc=False):
    """The last trade of a symbol."""

    symbol: Symbol
    price: Decimal
    at: Millis


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the book's file: everything that one request or tick changed; `whole` starts afresh."""

    at: Millis
    next_order: int
    next_execution: int
    whole: bool = False
    orders: tuple[PaperOrder, ...] = ()
    fills: tuple[PaperFill, ...] = ()
    holdings: tuple[Holding, ...] = ()
    money: tuple[Money, ...] = ()
    marks: tuple[Mark, ...] = ()
    client_ids: tuple[tuple[AccountId, ClientOrderId], ...] = ()


class Book:
    """What the exchange knows. Mutable, and it remembers what changed since the last `take_change`."""

    def __init__(self, *, kept_orders: int = 5_000, kept_fills: int = 10_000) -> None:
        self._kept_orders = kept_orders
        self._kept_fills = kept_fills
        self.at: Millis = 0
        self.next_order = 1
        self.next_execution = 1
        self.orders: dict[BrokerOrderId, PaperOrder] = {}
        # By symbol, in order of creation, held legs included: the order in which a tick meets them.
        self.resting: dict[Symbol, dict[BrokerOrderId, None]] = {}
        self.fills: dict[str, PaperFill] = {}
        self.positions: dict[tuple[AccountId, Symbol], Position] = {}
        self.cash: dict[AccountId, Decimal] = {}
        self.marks: dict[Symbol, Mark] = {}
        self._closed: dict[BrokerOrderId, None] = {}
        self._client_ids: dict[tuple[AccountId, ClientOrderId], list[BrokerOrderId]] = {}
        self._forget_changes()

    def _forget_changes(self) -> None:
        self._dirty_orders: dict[BrokerOrderId, None] = {}
        self._dirty_fills: dict[str, None] = {}
        self._dirty_positions: dict[tuple[AccountId, Symbol], None] = {}
        self._dirty_cash: dict[AccountId, None] = {}

    def new_order_id(self) -> BrokerOrderId:
        """An id never given before."""
        self.next_order += 1
        return BrokerOrderId(f"P{self.next_order - 1:07d}")

    def new_execution_id(self) -> str:
        """An id never given before."""
        self.next_execution += 1
        return f"X{self.next_execution - 1:07d}"

    def put(self, order: PaperOrder) -> None:
        """Keep this version of the order."""
        new = order.id not in self.orders
        self.orders[order.id] = order
        self._dirty_orders[order.id] = None
        resting = self.resting.setdefault(order.record.terms.symbol, {})
        if order.is_open:
            resting[order.id] = None
        else:
            resting.pop(order.id, None)
            self._closed[order.id] = None
            self._prune()
        if new:
            self._index(order)

    def _index(self, order: PaperOrder) -> None:
        if order.record.client_id is None:
            return
        ids = self._client_ids.setdefault((order.account, order.record.client_id), [])
        if order.record.replaces in ids:
            ids.remove(order.record.replaces)
        ids.append(order.id)
        if len(self._client_ids) > KEPT_CLIENT_IDS:
            del self._client_ids[next(iter(self._client_ids))]

    def _prune(self) -> None:
        while len(self._closed) > self._kept_orders:
            oldest = next(iter(self._closed))
            del self._closed[oldest]
            # An entry whose legs still work is needed to find the other leg.
            if any(leg in self.orders and self.orders[leg].is_open for leg in self.orders[oldest].legs):
                self._closed[oldest] = None
                return
            del self.orders[oldest]
            self._dirty_orders.pop(oldest, None)

    def by_client_id(self, account: AccountId, client_id: ClientOrderId) -> list[PaperOrder]:
        """Orders kept under this client id; a replaced incarnation with the same id gives way to the newer."""
        ids = self._client_ids.get((account, client_id), [])
        return [self.orders[broker_id] for broker_id in ids if broker_id in self.orders]

    def is_used(self, account: AccountId, client_id: ClientOrderId) -> bool:
        """Whether any order ever carried this client id, forgotten ones included."""
        return (account, client_id) in self._client_ids

    def legs_of(self, order: PaperOrder) -> list[PaperOrder]:
        """The legs of an entry that the book still keeps."""
        return [self.orders[leg] for leg in order.legs if leg in self.orders]

    def put_fill(self, fill: PaperFill) -> None:
        """Keep this revision of an execution."""
        self.fills[fill.fill.execution_id] = fill
        self._dirty_fills[fill.fill.execution_id] = None
        if len(self.fills) > self._kept_fills:
            oldest = next(iter(self.fills))
            del self.fills[oldest]
            self._dirty_fills.pop(oldest, None)

    def position(self, account: AccountId, symbol: Symbol) -> Position:
        """Where the account stands in the symbol."""
        return self.positions.get((account, symbol), FLAT)

    def set_position(self, account: AccountId, symbol: Symbol, position: Position) -> None:
        """Keep a position; a flat one is forgotten."""
        if position.is_flat:
            self.positions.pop((account, symbol), None)
        else:
            self.positions[account, symbol] = position
        self._dirty_positions[account, symbol] = None

    def add_cash(self, account: AccountId, amount: Decimal) -> None:
        """Book money."""
        self.cash[account] = self.cash.get(account, ZERO) + amount
        self._dirty_cash[account] = None

    def take_change(self) -> Change | None:
        """What changed since the last call, None if nothing that has to be kept. Marks alone are no change."""
        if not (self._dirty_orders or self._dirty_fills or self._dirty_positions or self._dirty_cash):
            return None
        symbols = {self.orders[broker_id].record.terms.symbol: None for broker_id in self._dirty_orders}
        symbols |= {symbol: None for _, symbol in self._dirty_positions}
        change = Change(
            at=self.at,
            next_order=self.next_order,
            next_execution=self.next_execution,
            orders=tuple(self.orders[broker_id] for broker_id in self._dirty_orders),
            fills=tuple(self.fills[execution] for execution in self._dirty_fills),
            holdings=tuple(Holding(*key, self.position(*key)) for key in self._dirty_positions),
            money=tuple(Money(account, self.cash[account]) for account in self._dirty_cash),
            marks=tuple(self.marks[symbol] for symbol in symbols if symbol in self.marks),
        )
        self._forget_changes()
        return change

    def whole(self) -> Change:
        """All of it as one line. Closed orders come first, in the order in which they will be forgotten."""
        return Change(
            at=self.at,
            next_order=self.next_order,
            next_execution=self.next_execution,
            whole=True,
            orders=(
                *(self.orders[broker_id] for broker_id in self._closed),
                *(order for order in self.orders.values() if order.is_open),
            ),
            fills=tuple(self.fills.values()),
            holdings=tuple(Holding(*key, position) for key, position in self.positions.items()),
            money=tuple(Money(account, cash) for account, cash in self.cash.items()),
            marks=tuple(self.marks.values()),
            client_ids=tuple(self._client_ids),
        )

    def apply(self, change: Change) -> None:
        """Fold one line in; the result is the book as it was when the line was written."""
        self.at = change.at
        self.next_order = change.next_order
        self.next_execution = change.next_execution
        for account, client_id in change.client_ids:
            self._client_ids.setdefault((account, client_id), [])
        for order in change.orders:
            self.put(order)
        for fill in change.fills:
            self.put_fill(fill)
        for holding in change.holdings:
            self.set_position(holding.account, holding.symbol, holding.position)
        for money in change.money:
            self.cash[money.account] = money.cash
        for mark in change.marks:
            self.marks[mark.symbol] = mark
        self._forget_changes()


def with_record(order: PaperOrder, at: Millis, **fields: object) -> PaperOrder:
    """The order with parts of its record changed and its `updated` moved to `at`."""
    return replace(order, record=replace(order.record, updated=at, **fields))


def is_held(order: PaperOrder) -> bool:
    """Whether the order is a leg that waits for its entry."""
    return order.record.status is BrokerStatus.HELD

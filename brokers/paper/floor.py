"""The trading floor: time passes, trades arrive, orders fill, brackets follow, events are told.

The half of the exchange that nobody asks for; requests and questions are in exchange.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal

from msgspec.structs import replace

from brokers.paper import reports
from brokers.paper.book import Book, Mark, PaperFill, PaperOrder, is_held, with_record
from brokers.paper.book_file import BookFile
from brokers.paper.matching import match_order
from brokers.paper.options import AccountTerms, ExchangeOptions
from engine.domain.broker import (
    AccountEvent,
    Balance,
    BalanceReported,
    BrokerFill,
    BrokerOrder,
    BrokerStatus,
    Capabilities,
    Enforcer,
    FillReported,
    FillsKind,
    OrderReported,
)
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Tick
from engine.domain.orders import ZERO, Terms, TimeInForce
from engine.domain.positions import after_fill

MINUTE_MS = 60_000
EventSink = Callable[[AccountEvent], None]


class Floor:
    """Time, market and fills. Raises DeskUnusable when the book's file is not a book."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        accounts: Iterable[AccountTerms],
        options: ExchangeOptions | None = None,
        book_file: BookFile | None = None,
    ) -> None:
        self.options = options or ExchangeOptions()
        self.instruments = {instrument.symbol: instrument for instrument in instruments}
        self.accounts = {terms.account: terms for terms in accounts}
        self.book = Book(kept_orders=self.options.kept_orders, kept_fills=self.options.kept_fills)
        self.max_fill = self.options.max_fill
        self.refusals: dict[AccountId, list[tuple[str, bool]]] = {}
        self._file = book_file
        self._listeners: dict[AccountId, list[EventSink]] = {account: [] for account in self.accounts}
        self._events: list[tuple[AccountId, AccountEvent]] = []
        self._money_moved: dict[AccountId, None] = {}
        self._minute = -1
        self._dates: dict[Symbol, date] = {}
        self._open: dict[Symbol, bool] = {}
        if book_file is not None:
            book_file.load(self.book)
        for account, terms in self.accounts.items():
            if account not in self.book.cash:
                self.book.add_cash(account, terms.equity)
        self.commit()

    # ---------------------------------------------------------------------------------- time and listeners

    @property
    def last_time(self) -> Millis:
        """The newest moment the exchange has seen; ticks and requests older than it count as this moment."""
        return self.book.at

    def last_price(self, symbol: Symbol) -> Decimal | None:
        """The last trade's price, None before the first one ever."""
        mark = self.book.marks.get(symbol)
        return None if mark is None else mark.price

    def listen(self, account: AccountId, sink: EventSink) -> Callable[[], None]:
        """Call `sink` synchronously for each event of the account; returns what takes it off again."""
        sinks = self._listeners[account]
        sinks.append(sink)
        return lambda: sinks.remove(sink) if sink in sinks else None

    def capabilities(self, account: AccountId) -> Capabilities:
        """How this account behaves."""
        return self.accounts[account].capabilities

    def close(self) -> None:
        """Write the whole book, last prices included."""
        if self._file is not None:
            self._file.rewrite(self.book)

    def advance(self, at: Millis) -> None:
        """Let time pass: day orders of an ended trade date expire."""
        self.roll(at)
        self.commit()

    def roll(self, at: Millis) -> None:
        """Move time without committing; part of every request."""
        self.book.at = max(self.book.at, at)
        minute = self.book.at // MINUTE_MS
        if minute == self._minute:
            return
        self._minute = minute
        for symbol, instrument in self.instruments.items():
            self._open[symbol] = instrument.calendar.is_open(self.book.at)
            today = instrument.calendar.trade_date(self.book.at)
            if self._dates.get(symbol) != today:
                self._dates[symbol] = today
                self._expire(symbol, today)

    def today(self, symbol: Symbol) -> date:
        """The symbol's trade date; of an unknown symbol none that ever was."""
        return self._dates.get(symbol, date.min)

    def _expire(self, symbol: Symbol, today: date) -> None:
        for broker_id in list(self.book.resting.get(symbol, ())):
            order = self.book.orders[broker_id]
            if order.is_open and order.record.terms.tif is TimeInForce.DAY and order.trade_date != today:
                self.close_order(order, BrokerStatus.EXPIRED, "its trade date ended")

    def emit(self, account: AccountId, event: AccountEvent) -> None:
        """Queue an event; it is told once the book is written."""
        self._events.append((account, event))

    def commit(self) -> None:
        """Write the book, then tell the events."""
        if self._file is not None:
            self._file.write(self.book)
        for account in self._money_moved:
            self.emit(account, BalanceReported(self.balance(account)))
        self._money_moved.clear()
        events, self._events = self._events, []
        for account, event in events:
            for sink in tuple(self._listeners[account]):
                sink(event)

    # ------------------------------------------------------------------------------------------- the market

    def on_tick(self, tick: Tick) -> None:
        """A trade at the market: it becomes the mark, and what it reaches fills."""
        if tick.symbol not in self.instruments:
            return
        self.roll(tick.at)
        self.book.marks[tick.symbol] = Mark(tick.symbol, tick.price, self.book.at)
        resting = self.book.resting.get(tick.symbol)
        if resting and self._open[tick.symbol]:
            for broker_id in list(resting):
                self._meet(broker_id, arriving=False)
        self.commit()

    def _meet(self, broker_id: BrokerOrderId, *, arriving: bool) -> None:
        """Match an order with the last trade."""
        order = self.book.orders[broker_id]
        terms = order.record.terms
        mark = self.book.marks.get(terms.symbol)
        if mark is None or not order.is_open or is_held(order) or not self._open[terms.symbol]:
            return
        found = match_order(
            order,
            mark.price,
            self.instruments[terms.symbol],
            self.options.slippage_ticks,
            arriving=arriving,
        )
        if found.triggered != order.triggered:
            order = replace(order, triggered=found.triggered)
            self.book.put(order)
        if found.price is not None:
            size = order.remaining if self.max_fill is None else min(order.remaining, self.max_fill)
            self._fill(order, size, found.price)

    def _fill(self, order: PaperOrder, size: Decimal, price: Decimal) -> None:
        self._fill_spreads(self.execute(order, size, price, BrokerStatus.PARTIALLY_FILLED), size)

    def execute(self, order: PaperOrder, size: Decimal, price: Decimal, unfilled: BrokerStatus) -> PaperOrder:
        """Book and tell an execution, its bracket left alone; `unfilled` is the order's status while some is left."""
        at, account, record = self.book.at, order.account, order.record
        filled = record.filled + size
        average = ((record.average_price or ZERO) * record.filled + price * size) / filled
        order = with_record(
            order,
            at,
            filled=filled,
            average_price=average,
            status=BrokerStatus.FILLED if filled == record.terms.quantity else unfilled,
        )
        self.book.put(order)
        fee = size * self.accounts[account].fee_per_unit
        fill = BrokerFill(
            execution_id=self.book.new_execution_id(),
            broker_id=order.id,
            client_id=record.client_id,
            symbol=record.terms.symbol,
            side=record.terms.side,
            quantity=size,
            price=price,
            at=at,
            fee=fee,
            cumulative=filled,
        )
        self.book.put_fill(PaperFill(account, fill, at))
        self.move(account, fill.symbol, size * fill.side.sign, price, -fee)
        self.tell_fill(account, fill)
        self.tell_order(order)
        return order

    def move(self, account: AccountId, symbol: Symbol, signed: Decimal, price: Decimal, extra: Decimal = ZERO) -> None:
        """Change a position at a price and book the realised profit plus `extra` money."""
        booked = after_fill(self.book.position(account, symbol), signed, price)
        self.book.set_position(account, symbol, booked.position)
        self.book.add_cash(account, booked.realised_points * self.instruments[symbol].point_value + extra)

    def tell_fill(self, account: AccountId, fill: BrokerFill) -> None:
        """Stream an execution, where this account's broker has such things."""
        if self.capabilities(account).fills is FillsKind.EXECUTIONS:
            self.emit(account, FillReported(reports.seen_fill(fill, self.capabilities(account))))
        self._money_moved[account] = None

    def tell_order(self, order: PaperOrder) -> None:
        """Stream an order's record."""
        self.emit(order.account, OrderReported(reports.seen_order(order, self.capabilities(order.account))))

    def _fill_spreads(self, order: PaperOrder, size: Decimal) -> None:
        """What a fill does to the rest of its bracket."""
        woken: list[BrokerOrderId] = []
        for leg in self.book.legs_of(order):
            if not leg.is_open:
                continue
            held = is_held(leg)
            quantity = size if held else leg.record.terms.quantity + size
            leg = with_record(
                leg,
                self.book.at,
                terms=replace(leg.record.terms, quantity=quantity),
                status=BrokerStatus.WORKING if held else leg.record.status,
            )
            self.book.put(leg)
            self.tell_order(leg)
            if held:
                woken.append(leg.id)
        entry = self.book.orders.get(order.record.parent) if order.record.parent else None
        if entry is not None:
            if entry.is_open:
                self.close_order(entry, BrokerStatus.CANCELLED, "its bracket began to exit")
            if self.capabilities(order.account).one_cancels_other is Enforcer.BROKER:
                for other in self.book.legs_of(entry):
                    if other.id != order.id:
                        self._reduce(other, size)
        for leg_id in woken:
            self._meet(leg_id, arriving=True)

    def _reduce(self, order: PaperOrder, size: Decimal) -> None:
        """Take off a leg what its other leg has filled."""
        if not order.is_open or is_held(order):
            return
        quantity = order.record.terms.quantity - size
        if quantity <= order.record.filled:
            self.close_order(order, BrokerStatus.CANCELLED, "the other leg filled")
            return
        order = with_record(order, self.book.at, terms=replace(order.record.terms, quantity=quantity))
        self.book.put(order)
        self.tell_order(order)

    def close_order(self, order: PaperOrder, status: BrokerStatus, reason: str) -> None:
        """End an order and the legs that still wait for it."""
        order = with_record(order, self.book.at, status=status, reason=reason)
        self.book.put(order)
        self.tell_order(order)
        for leg in self.book.legs_of(order):
            if is_held(leg):
                self.close_order(leg, BrokerStatus.CANCELLED, "its entry ended unfilled")

    # -------------------------------------------------------------------------------------- new orders

    def add(
        self,
        account: AccountId,
        client_id: ClientOrderId | None,
        terms: Terms,
        *,
        status: BrokerStatus = BrokerStatus.WORKING,
        parent: BrokerOrderId | None = None,
        replaces: BrokerOrderId | None = None,
        submitted: Millis | None = None,
        reason: str = "",
    ) -> PaperOrder:
        """Enter an order into the book; nothing is told and nothing matched yet."""
        at = self.book.at
        order = PaperOrder(
            account=account,
            record=BrokerOrder(
                broker_id=self.book.new_order_id(),
                client_id=client_id,
                terms=terms,
                status=status,
                submitted=at if submitted is None else submitted,
                updated=at,
                parent=parent,
                replaces=replaces,
                reason=reason,
            ),
            trade_date=self.today(terms.symbol),
        )
        self.book.put(order)
        return order

    def arrive(self, entry: BrokerOrderId, *legs: BrokerOrderId) -> None:
        """Tell a new order and its legs, then let it meet the market."""
        for broker_id in (entry, *legs):
            self.tell_order(self.book.orders[broker_id])
        self._meet(entry, arriving=True)
        order = self.book.orders[entry]
        if order.is_open and order.record.terms.tif is TimeInForce.IOC:
            self.close_order(order, BrokerStatus.CANCELLED, "immediate or cancel: not filled on arrival")

    def balance(self, account: AccountId) -> Balance:
        """Money now: equity at the last trades."""
        return reports.balance(self.book, self.accounts[account], self.instruments)

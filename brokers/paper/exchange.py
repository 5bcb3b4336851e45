"""A pure, synchronous exchange: requests and ticks with their time go in, answers and events come out.

PaperExchange(instruments, accounts, options=ExchangeOptions(), book_file=None)

- Filling (matching.py): on arrival against the last trade if there is one and the market is open, then at each tick.
  `max_fill` caps what an order fills at one tick. IOC cancels what does not fill on arrival.
- Brackets: legs are HELD until the entry's first fill; each fill of the entry adds its quantity to the legs. A fill of
  one leg takes its quantity off the other and ends the entry (what has begun to exit is not entered further).
- Replace: TOTAL counts what has filled, REMAINING does not. A replace that changes the id cancels the old order
  (reason "replaced") and its successor carries only what remains, with its own fills counted from zero.
- Refused orders that were well named leave a REJECTED record, so that a lost refusal can be proven; it is not streamed.
- Cumulative accounts stream no executions and have none to ask for: their order records carry quantity and average.
- Margin is asked for the units by which an order raises the absolute position, working entries included; an order that
  does not raise it is never refused for margin.
- The book is written (book_file.py) before an answer is returned and before events are told. Ticks that change
  nothing write nothing. Time never goes back: an older `at` counts as `last_time`.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from brokers.paper import reports
from brokers.paper.book import PaperOrder, is_held, with_record
from brokers.paper.checks import (
    DUPLICATE,
    legs_refusal,
    margin_refusal,
    opened,
    pending_units,
    terms_refusal,
    unit_margin,
)
from brokers.paper.floor import Floor
from engine.domain.broker import (
    AcceptedOrder,
    BrokerFill,
    BrokerOrder,
    BrokerPosition,
    BrokerStatus,
    IdMode,
    RefusedOrder,
    ReplaceId,
    ReplaceQuantity,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis
from engine.domain.orders import ZERO, OrderType, Terms


class PaperExchange(Floor):
    """The whole exchange: requests and questions over the floor. Raises KeyError for an account it does not keep."""

    # ------------------------------------------------------------------------------------------- requests

    def submit(self, account: AccountId, request: SubmitRequest, at: Millis) -> SubmitAnswer:
        """Take an order, with its legs, or refuse it."""
        self.roll(at)
        answer = self._submit(account, request)
        self.commit()
        return answer

    def _submit(self, account: AccountId, request: SubmitRequest) -> SubmitAnswer:
        if self.capabilities(account).id_mode is IdMode.ENFORCED and any(
            self.book.is_used(account, client_id)
            for client_id in (request.client_id, *(leg.client_id for leg in request.legs))
        ):
            return RefusedOrder(DUPLICATE)
        reason = self._refusal(account, request)
        if reason is not None:
            self.add(account, request.client_id, request.terms, status=BrokerStatus.REJECTED, reason=reason)
            return RefusedOrder(reason)
        entry = self.add(account, request.client_id, request.terms)
        legs = tuple(
            self.add(account, leg.client_id, leg.terms, status=BrokerStatus.HELD, parent=entry.id).id
            for leg in request.legs
        )
        self.book.put(replace(entry, legs=legs))
        self.arrive(entry.id, *legs)
        return AcceptedOrder(
            entry.id, tuple((leg.client_id, leg_id) for leg, leg_id in zip(request.legs, legs, strict=True))
        )

    def _refusal(self, account: AccountId, request: SubmitRequest) -> str | None:
        terms = request.terms
        instrument = self.instruments.get(terms.symbol)
        reason = terms_refusal(terms, instrument, self.accounts[account]) or legs_refusal(
            request, instrument, self.accounts[account]
        )
        if reason is not None:
            return reason
        if not self._open[terms.symbol]:
            return f"market closed for {terms.symbol}"
        for number, (told, stops_only) in enumerate(refusals := self.refusals.get(account, [])):
            if not stops_only or terms.type in (OrderType.STOP, OrderType.STOP_LIMIT):
                del refusals[number]
                return told
        return self._margin_refusal(account, terms, terms.quantity)

    def _margin_refusal(
        self, account: AccountId, terms: Terms, quantity: Decimal, *, leaving_out: BrokerOrderId | None = None
    ) -> str | None:
        added = opened(self.book.position(account, terms.symbol), terms, quantity)
        if not added:
            return None
        price = self.last_price(terms.symbol) or terms.limit or terms.stop
        needed = added * unit_margin(self.accounts[account], self.instruments[terms.symbol], price)
        pending = ZERO
        for symbol, resting in self.book.resting.items():
            orders = [self.book.orders[broker_id] for broker_id in resting if broker_id != leaving_out]
            units = pending_units(
                (order for order in orders if order.account == account), self.book.position(account, symbol)
            )
            if units:
                each = unit_margin(self.accounts[account], self.instruments[symbol], self.last_price(symbol))
                pending += units * each
        money = self.balance(account)
        return margin_refusal(needed, money.margin_used + pending, money.equity)

    def cancel(self, account: AccountId, broker_id: BrokerOrderId, at: Millis) -> SubmitAnswer:
        """Cancel an open order; the record is streamed as an event."""
        self.roll(at)
        order = self._open_order(account, broker_id)
        if isinstance(order, RefusedOrder):
            self.commit()
            return order
        self.close_order(order, BrokerStatus.CANCELLED, "cancelled on request")
        self.commit()
        return AcceptedOrder(broker_id)

    def _open_order(self, account: AccountId, broker_id: BrokerOrderId) -> PaperOrder | RefusedOrder:
        order = self.book.orders.get(broker_id)
        if order is None or order.account != account:
            return RefusedOrder(f"there is no order {broker_id}", not_open=True)
        if not order.is_open:
            return RefusedOrder(f"order {broker_id} is not open: {order.record.status}", not_open=True)
        return order

    def replace(
        self, account: AccountId, broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms, at: Millis
    ) -> SubmitAnswer:
        """Change an open order; `client_id` names the successor where the id changes, else it is not used."""
        self.roll(at)
        answer = self._replace(account, broker_id, client_id, terms)
        self.commit()
        return answer

    def _replace(
        self, account: AccountId, broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms
    ) -> SubmitAnswer:
        order = self._open_order(account, broker_id)
        if isinstance(order, RefusedOrder):
            return order
        manners, old = self.capabilities(account), order.record.terms
        total = terms.quantity
        if manners.replace_quantity is ReplaceQuantity.REMAINING:
            total += order.record.filled
        reason = terms_refusal(terms, self.instruments.get(terms.symbol), self.accounts[account])
        if reason is None and (terms.symbol, terms.side) != (old.symbol, old.side):
            reason = "a replace keeps symbol and side"
        if reason is None and terms.type is not old.type and not manners.replace_may_change_type:
            reason = "a replace keeps the order type"
        if reason is None and total <= order.record.filled:
            reason = f"{order.record.filled} has filled already"
        if reason is None and order.record.parent is None:
            left = total - order.record.filled
            reason = self._margin_refusal(account, terms, left, leaving_out=broker_id)
        if reason is not None:
            return RefusedOrder(reason)
        if manners.replace_id is ReplaceId.CHANGES:
            return self._succeed(order, client_id, replace(terms, quantity=total - order.record.filled))
        same_stop = (terms.type, terms.stop) == (old.type, old.stop)
        self.book.put(
            replace(
                with_record(order, self.book.at, terms=replace(terms, quantity=total)),
                triggered=order.triggered and same_stop,
                # A day order lives for the day on which it became one.
                trade_date=self.today(terms.symbol),
            )
        )
        self.arrive(broker_id)
        return AcceptedOrder(broker_id)

    def _succeed(self, old: PaperOrder, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        """Replace an order by a new one with a new id, which inherits its place in a bracket."""
        account = old.account
        if (
            self.capabilities(account).id_mode is IdMode.ENFORCED
            and client_id != old.record.client_id
            and self.book.is_used(account, client_id)
        ):
            return RefusedOrder(DUPLICATE)
        status = BrokerStatus.HELD if is_held(old) else BrokerStatus.WORKING
        new = self.add(account, client_id, terms, status=status, parent=old.record.parent, replaces=old.id)
        new = replace(new, legs=old.legs)
        self.book.put(new)
        for leg in self.book.legs_of(new):
            self.book.put(with_record(leg, self.book.at, parent=new.id))
        entry = self.book.orders.get(new.record.parent) if new.record.parent else None
        if entry is not None:
            self.book.put(replace(entry, legs=tuple(new.id if leg == old.id else leg for leg in entry.legs)))
        self.close_order(replace(old, legs=()), BrokerStatus.CANCELLED, "replaced")
        self.arrive(new.id, *(leg.id for leg in self.book.legs_of(new) if leg.is_open))
        return AcceptedOrder(new.id)

    # -------------------------------------------------------------------------------------------- queries

    def positions(self, account: AccountId) -> tuple[BrokerPosition, ...]:
        """Open positions, by symbol."""
        return reports.positions(self.book, account)

    def open_orders(self, account: AccountId) -> tuple[BrokerOrder, ...]:
        """Orders that may still fill, held legs included, oldest first."""
        return reports.open_orders(self.book, account, self.capabilities(account))

    def orders_since(self, account: AccountId, since: Millis) -> tuple[BrokerOrder, ...]:
        """Orders submitted or changed at or after `since`, oldest first."""
        return reports.orders_since(self.book, account, self.capabilities(account), since)

    def orders_of(self, account: AccountId, client_id: ClientOrderId) -> tuple[BrokerOrder, ...]:
        """Orders with this client id."""
        found = self.book.by_client_id(account, client_id)
        return tuple(reports.seen_order(order, self.capabilities(account)) for order in found)

    def fills_since(self, account: AccountId, since: Millis) -> tuple[BrokerFill, ...]:
        """Executions made, corrected or busted at or after `since`."""
        return reports.fills_since(self.book, account, self.capabilities(account), since)

"""The working copy of one session: its orders, the fills it has booked, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace as changed

from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import (
    BrokerFill,
    BrokerOrder,
    BrokerStatus,
    Capabilities,
    FillsKind,
    ReplaceId,
    ReplaceQuantity,
)
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, SessionId, Symbol
from engine.domain.incarnations import as_asked, fill_price, grown_by, sized_anew, unbooked, whole
from engine.domain.order_lifecycle import Evidence
from engine.domain.orders import LIVE_AT_BROKER, TERMINAL, ZERO, Order, OrderState, Role, Side
from engine.domain.positions import FLAT, Position, after_fill
from engine.domain.rumours import Rumours

KEEP_RECENT = 200
KEEP_FILLS = 5_000


class Change(Struct, frozen=True):
    """One thing that moved: an order with the event that moved it, and the fill if it was one."""

    order: Order | None
    event: str
    detail: str = ""
    fill: Fill | None = None
    realised_points: Decimal = ZERO


class OrderBook:
    """Orders, booked fills and position of one session; `on_change` hears of every change, in order.

    Applying a fact twice changes nothing. `version` grows with every change, so that a verdict from a query
    can be dropped when our side moved while asking; `last_event` is when it last did.
    """

    def __init__(
        self,
        session: SessionId,
        account: AccountId,
        symbol: Symbol,
        capabilities: Capabilities,
        on_change: Callable[[Change, Millis], None],
    ) -> None:
        self.session = session
        self.account = account
        self.symbol = symbol
        self.position: Position = FLAT
        self.confirmed_at: Millis | None = None
        self.version = 0
        self.last_event: Millis = 0
        self.capabilities = capabilities
        self._on_change = on_change
        self._orders: dict[ClientOrderId, Order] = {}
        # Those of `_orders` that are open or open for fills: the question asked most often, of a book that only grows.
        self._live: dict[ClientOrderId, Order] = {}
        self._open: tuple[Order, ...] = ()
        self._by_broker: dict[BrokerOrderId, ClientOrderId] = {}
        self._fills: dict[str, Fill] = {}
        self._last_words: dict[ClientOrderId, BrokerOrder] = {}
        self._adopted = False
        self.rumours = Rumours(capabilities)
        self.forgotten: dict[OrderState, int] = {}

    # -- reading ------------------------------------------------------------------------------------------

    def get(self, client_id: ClientOrderId) -> Order | None:
        """The order with this client id."""
        return self._orders.get(client_id)

    def by_broker_id(self, broker_id: BrokerOrderId) -> Order | None:
        """The order that ever carried this broker id."""
        return None if (known := self._by_broker.get(broker_id)) is None else self._orders.get(known)

    def owner_of(self, report: BrokerOrder) -> Order | None:
        """The order that a broker's record is about."""
        by_id = self._orders.get(report.client_id) if report.client_id is not None else None
        by_id = by_id or self.by_broker_id(report.broker_id)
        return by_id or (self.by_broker_id(report.replaces) if report.replaces is not None else None)

    def whole(self, order: Order, report: BrokerOrder) -> BrokerOrder:
        """The record in terms of our order: where ids change with a replace, what filled before counts too."""
        if self.capabilities.replace_id is ReplaceId.KEEPS:
            return report
        return whole(report, (f for f in self._fills_of(order) if f.broker_id != report.broker_id))

    def carried(self, order: Order) -> Decimal:
        """What filled under ids that the order no longer carries: no part of what the broker calls its total."""
        if self.capabilities.replace_id is ReplaceId.KEEPS:
            return ZERO
        return sum((f.quantity for f in self._fills_of(order) if f.broker_id != order.broker_id), ZERO)

    def _fills_of(self, order: Order) -> tuple[Fill, ...]:
        return tuple(fill for fill in self._fills.values() if fill.client_id == order.client_id)

    def __iter__(self) -> Iterator[Order]:
        return iter(tuple(self._orders.values()))

    def open(self) -> tuple[Order, ...]:
        """Orders not proven terminal, and those still open for fills."""
        return self._open

    def possible(self) -> tuple[Order, ...]:
        """The open orders as they may be by now: a replace that no query found, and may still arrive, is `wanted`."""
        return tuple(map(self.rumours.possible, self._live.values()))

    def recent(self) -> tuple[Order, ...]:
        """Terminal orders still in memory, newest first."""
        return tuple(reversed([o for o in self._orders.values() if not o.is_open and not o.open_for_fills]))

    def outgrew(self, entry: Order) -> bool:
        """Whether an entry has filled more than a leg of it that had filled whole: the broker may have let it grow."""
        return any(
            leg.parent == entry.client_id and leg.state is OrderState.FILLED and leg.terms.quantity < entry.filled
            for leg in self._orders.values()
        )

    def has_fill(self, key: str, revision: int) -> bool:
        """Whether this execution is booked in this or a newer revision."""
        return (known := self._fills.get(key)) is not None and known.revision >= revision

    # -- our own doings -----------------------------------------------------------------------------------

    def put(self, order: Order, event: str, now: Millis, detail: str = "") -> Order:
        """Take an order in the state that the lifecycle gave it; the same object twice says nothing."""
        if self._orders.get(order.client_id) is order:
            return order
        self._keep(order, now)
        self._on_change(Change(order, event, detail), now)
        self._forget_old()
        return order

    def load(self, order: Order) -> None:
        """Take an order from the audit trail without telling anybody."""
        self._keep(self.rumours.inherited(order))

    def also_had(self, order: Order, ids: Iterable[BrokerOrderId]) -> None:
        """The order carried these ids, too, before the one that it has: executions under them are its own."""
        self._by_broker.update(dict.fromkeys(ids, order.client_id))

    def load_fill(self, fill: Fill) -> None:
        """Know an execution from the audit trail without booking it again."""
        self._fills[fill.key] = fill

    # -- the broker's facts -------------------------------------------------------------------------------

    def report(self, order: Order, report: BrokerOrder, evidence: Evidence, now: Millis) -> Order:
        """Book a record of the broker; where fills come as cumulative quantities, the new interval is a fill.

        A final word that names fills we lack is kept, and ends the order once they are there.
        """
        if self.capabilities.replace_id is ReplaceId.CHANGES and order.broker_id is not None:
            if report.replaces == order.broker_id:
                order = self._succeeded(order, report, now)
            elif report.broker_id != order.broker_id:
                return self.of_the_past(order, report, now)
            elif (unsure := self._replaced_perhaps(order, report, evidence, now)) is not None:
                return self.of_the_past(unsure, report, now)
            report = self.whole(order, report)
        if self.capabilities.fills is FillsKind.CUMULATIVE and report.filled > order.filled:
            fill = self._interval(order, report, report.filled - order.filled, fill_price(order, report), now)
            order = self._book(lifecycle.resized(order, now, report), fill, now)
        after = lifecycle.reported(order, now, report, evidence)
        self.rumours.note(order, after, report)
        if after is not order:
            moved = after.state is not order.state
            self.put(after, f"broker says {report.status}" if moved else "report", now, report.reason)
        if report.status.is_final and after.is_open and report.filled > after.filled:
            self._last_words[after.client_id] = report
        return after

    def _replaced_perhaps(self, order: Order, report: BrokerOrder, evidence: Evidence, now: Millis) -> Order | None:
        """Cancelled, or replaced by what we asked for: the answer says which, a query where none is awaited."""
        if report.status is not BrokerStatus.CANCELLED or evidence is not Evidence.STREAM:
            return None
        if order.wanted is not None:
            return order
        if (other := self.rumours.replaced(order)) is None:
            return None
        return self.put(lifecycle.may_be_other(order, now, other), "replaced perhaps", now, "cancelled by the stream")

    def _may_be(self, order: Order) -> Decimal:
        """How large an order that filled whole as we know it may be at the broker."""
        parent = self._orders.get(order.parent) if order.parent is not None else None
        grown = parent.filled if parent is not None and self.capabilities.brackets else ZERO
        return max(grown, self.rumours.size(order))

    def _interval(self, order: Order, report: BrokerOrder, quantity: Decimal, price: Decimal, now: Millis) -> Fill:
        """A fill where the broker tells cumulative quantities only."""
        upto = order.filled + quantity
        return Fill(
            key=f"{order.client_id}:{order.filled}-{upto}",
            account=self.account,
            session=self.session,
            symbol=self.symbol,
            client_id=order.client_id,
            broker_id=report.broker_id,
            side=order.terms.side,
            quantity=quantity,
            price=price,
            at=report.updated or now,
            since=order.filled,
            upto=upto,
        )

    def _succeeded(self, order: Order, report: BrokerOrder, now: Millis) -> Order:
        """The broker shows the order that took the place of ours: the replace is proven."""
        if order.state in TERMINAL and not report.status.is_final:
            return self.revive(order, report, now)
        grown = self.sized(as_asked(order, self.whole(order, report)), report.broker_id, report.terms.quantity)
        after = lifecycle.replaced(grown, now, report.broker_id)
        after = after if after is not grown else lifecycle.accepted(order, now, report.broker_id)
        return self.put(after, "replaced", now, f"now {report.broker_id}")

    def sized(self, order: Order, broker_id: BrokerOrderId, asked: Decimal) -> Order:
        """The order whose replace was taken under a new id, as large as `asked` makes it where that is what remains."""
        return sized_anew(order, broker_id, asked, self._fills_of(order)) if self.capabilities.counts_anew else order

    def revive(self, order: Order, report: BrokerOrder, now: Millis) -> Order:
        """The broker holds what we took for ended: it is open again, flagged; the same object when it is not."""
        after = lifecycle.lives_after_all(order, now, self.whole(order, report))
        return self.put(after, "lives after all", now, f"{report.broker_id} is {report.status}")

    def of_the_past(self, order: Order, report: BrokerOrder, now: Millis) -> Order:
        """A record under an id that the order has left, or is about to leave, tells of fills, never of its state."""
        if self.capabilities.fills is FillsKind.CUMULATIVE:
            known = (fill for fill in self._fills_of(order) if fill.broker_id == report.broker_id)
            quantity, price = unbooked(report, known)
            if quantity:
                return self._book(order, self._interval(order, report, quantity, price, now), now)
        return order

    def execution(self, order: Order, fill: BrokerFill, now: Millis) -> Order:
        """Book an execution once; a newer revision of a booked one corrects or busts it."""
        known = self._fills.get(fill.execution_id)
        if known is not None and known.revision >= fill.revision:
            return order
        booked = self._fill_of(order, fill, order.filled)
        if known is None:
            return self._book(order, booked, now)
        return self._correct(order, known, booked, now)

    def account_for(self, order: Order, fill: BrokerFill) -> Fill:
        """Know an execution whose effect was adopted with the position: it is kept and never booked again."""
        upto = fill.cumulative if fill.cumulative is not None else fill.quantity
        known = self._fills[fill.execution_id] = self._fill_of(order, fill, upto - fill.quantity)
        return known

    def _fill_of(self, order: Order, fill: BrokerFill, since: Decimal) -> Fill:
        return Fill(
            key=fill.execution_id,
            account=self.account,
            session=self.session,
            symbol=fill.symbol,
            client_id=order.client_id,
            broker_id=fill.broker_id,
            side=fill.side,
            quantity=fill.quantity,
            price=fill.price,
            at=fill.at,
            fee=fill.fee,
            since=since,
            upto=since + fill.quantity,
            revision=fill.revision,
        )

    def _book(self, order: Order, fill: Fill, now: Millis) -> Order:
        self._fills[fill.key] = fill
        booked = after_fill(self.position, fill.signed, fill.price)
        self.position = booked.position
        self._adopted = self._adopted and bool(booked.position.quantity)
        alone = not self.capabilities.counts_anew or self.rumours.unfound(order) is not None
        after = lifecycle.with_fill(order if alone else grown_by(order, fill), now, fill)
        if after.state is OrderState.FILLED and order.state in LIVE_AT_BROKER:
            size = self._may_be(after)
            if size > after.terms.quantity:
                after = lifecycle.may_be_other(after, now, changed(after.terms, quantity=size))
        elif order.wanted is not None and self.capabilities.replace_quantity is ReplaceQuantity.REMAINING:
            self.rumours.crossed(order.client_id, order.wanted)
        self._keep(after, now)
        self._on_change(Change(after, "fill", f"{fill.quantity} at {fill.price}", fill, booked.realised_points), now)
        self._bound_fills()
        return self._ended(after, now)

    def _correct(self, order: Order, old: Fill, new: Fill, now: Millis) -> Order:
        self._fills[new.key] = new
        undone = after_fill(self.position, -old.signed, old.price)
        booked = after_fill(undone.position, new.signed, new.price) if new.quantity else undone
        realised = undone.realised_points + (booked.realised_points if new.quantity else ZERO)
        self.position = booked.position
        after = lifecycle.without_fill(order, now, old, new)
        self._keep(after, now)
        word = "corrected" if new.quantity else "busted"
        self._on_change(Change(after, word, f"{old.quantity} at {old.price}", new, realised), now)
        return self._ended(after, now)

    def _ended(self, order: Order, now: Millis) -> Order:
        """Let a final word take effect whose fills are all there."""
        word = self._last_words.get(order.client_id)
        if word is None or (order.is_open and order.filled < word.filled):
            return order
        del self._last_words[order.client_id]
        if word.broker_id != order.broker_id:
            return order  # the order lives on under another id
        after = lifecycle.reported(order, now, word, Evidence.STREAM)
        return self.put(after, f"broker says {word.status}", now, word.reason)

    def adopt_position(self, quantity: Decimal, average: Decimal | None, cause: str, now: Millis) -> None:
        """Believe the broker's position; the reconciler alone calls this, with its evidence in the audit trail."""
        self.position = Position(quantity, average if quantity else None)
        self._adopted = True
        self.version += 1
        self.last_event = now
        self._on_change(Change(None, "adopted", cause), now)

    @property
    def is_adopted(self) -> bool:
        """Whether a part of the position was adopted since it was last flat: our fills alone do not explain it."""
        return self._adopted and bool(self.position.quantity)

    def restore_position(self, position: Position) -> None:
        """Take the last recorded position at start; the broker is asked before anything trusts it."""
        self.position = position
        self._adopted = True  # an earlier life may have adopted it

    def confirmed(self, now: Millis) -> None:
        """The broker's fresh answer agreed."""
        self.confirmed_at = now

    # -- upkeep -------------------------------------------------------------------------------------------

    def _keep(self, order: Order, now: Millis | None = None) -> None:
        self.last_event = self.last_event if now is None else now
        self._orders[order.client_id] = order
        if order.is_open or order.open_for_fills:
            self._live[order.client_id] = order
        else:
            self._live.pop(order.client_id, None)
        self._open = tuple(self._live.values())
        self.version += 1
        if order.broker_id is not None:
            self._by_broker[order.broker_id] = order.client_id

    def _forget_old(self) -> None:
        if len(self._orders) <= 2 * KEEP_RECENT:
            return
        settled = [o for o in self._orders.values() if o.state in TERMINAL and not o.open_for_fills]
        for order in settled[:-KEEP_RECENT]:
            del self._orders[order.client_id]
            self._last_words.pop(order.client_id, None)
            self.rumours.forget(order.client_id)
            self.forgotten[order.state] = self.forgotten.get(order.state, 0) + 1
        self._by_broker = {id: client_id for id, client_id in self._by_broker.items() if client_id in self._orders}

    def _bound_fills(self) -> None:
        while len(self._fills) > KEEP_FILLS:
            del self._fills[next(iter(self._fills))]


# -- questions that several rooms ask of the same orders ----------------------------------------------------


def reduces(order: Order, position: Position) -> bool:
    """Whether the order's side works against the position (it would close, not add)."""
    return bool(position.quantity) and (order.terms.side is Side.SELL) == (position.quantity > 0)


def entry_pending(orders: tuple[Order, ...]) -> Order | None:
    """The entry whose fate is open: committed, unanswered, in doubt or lost."""
    unproven = (OrderState.SUBMITTING, OrderState.IN_DOUBT_SUBMIT, OrderState.LOST)
    return next((o for o in orders if o.is_entry and o.state in unproven), None)


def parent_unfilled(order: Order, orders: dict[ClientOrderId, Order]) -> bool:
    """Whether this is a leg whose parent has no fill yet: it holds no closable and is no excess."""
    parent = orders.get(order.parent) if order.parent is not None else None
    return parent is not None and parent.is_open and not parent.filled and not parent.reported


def live_exits(orders: tuple[Order, ...], position: Position, role: Role) -> list[Order]:
    """Own orders of a protective role that can act on this position now.

    The legs of an entry that has no fill yet are asleep at the broker: they guard nothing.
    """
    acting = [o for o in orders if o.role is role and o.state in LIVE_AT_BROKER and reduces(o, position)]
    if not acting:
        return acting
    index = {order.client_id: order for order in orders}
    return [order for order in acting if not parent_unfilled(order, index)]


def held_quantity(orders: tuple[Order, ...], position: Position) -> Decimal:
    """What own working, queued and in-doubt exits hold of the position.

    A pair that the broker links (one cancels the other) holds its larger leg once; an order that is being replaced
    holds the larger of its sizes.
    """
    index = {order.client_id: order for order in orders}
    groups: dict[str, Decimal] = {}
    for order in orders:
        if order.is_entry or not order.is_open or not reduces(order, position) or parent_unfilled(order, index):
            continue
        name = f"pair:{order.parent}" if order.linked and order.parent is not None else order.client_id
        groups[name] = max(groups.get(name, ZERO), order.at_most)
    return sum(groups.values(), ZERO)


def still_held(orders: tuple[Order, ...], position: Position) -> Position:
    """The position less what own orders closed of it by the broker's word, though their fills are still fetched."""
    gone = sum((o.reported - o.filled for o in orders if o.open_for_fills and reduces(o, position)), ZERO)
    if not gone:
        return position
    left = max(ZERO, abs(position.quantity) - gone)
    return Position(left if position.quantity > 0 else -left, position.average_price if left else None)


def closable(orders: tuple[Order, ...], position: Position) -> Decimal:
    """|position| minus what own exits already hold; never negative."""
    return max(ZERO, abs(position.quantity) - held_quantity(orders, position))


def book_executions(book: OrderBook, fills: Iterable[BrokerFill], now: Millis) -> int:
    """Book what the broker's executions say of this session's orders; how many were new.

    Executions of orders that are not ours explain nothing here and are left out.
    """
    before = book.version
    for fill in sorted(fills, key=lambda f: f.at):
        if fill.symbol != book.symbol:
            continue
        order = book.get(fill.client_id) if fill.client_id is not None else None
        order = order or book.by_broker_id(fill.broker_id)
        if order is not None:
            book.execution(order, fill, now)
    return book.version - before

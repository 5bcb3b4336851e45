"""Open orders: ours against the broker's complete list, and what is there that is not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Protocol, assert_never

from engine.domain import order_doubt
from engine.domain import order_lifecycle as lifecycle
from engine.domain.answers import book_answer, book_ids_left
from engine.domain.broker import BrokerFill, BrokerOrder, BrokerStatus, Capabilities, Report
from engine.domain.disagreement_ledger import DisagreementLedger
from engine.domain.disagreements import PERHAPS, Disagreement, DisagreementKind, DisagreementState
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, Symbol
from engine.domain.incarnations import record_of
from engine.domain.order_book import book_executions
from engine.domain.order_lifecycle import Evidence
from engine.domain.orders import TERMINAL, Order, OrderState
from engine.domain.settings import Numbers
from engine.errors import StoreError
from engine.ports import Clock, Store
from engine.reconciliation.compare import (
    Absent,
    DuplicateOrder,
    Seen,
    Stranger,
    TermsDiffer,
    compare_orders,
    terms_difference,
)
from engine.session import SessionDesk
from engine.snapshot import ForeignOrder, Phase

LOOK_BACK_MS = 600_000
"""Our clock may have been ahead of the broker's when the order was made: older rows in the answer cost nothing."""
READ_MS = 100
"""How much sooner than its pace a second look may begin: the first is counted from its answer."""


class OrderRoad(Protocol):
    """What an order check asks of the account link; None is "no complete answer"."""

    async def open_orders(self) -> Report[BrokerOrder] | None:
        """All orders that may still fill."""

    @property
    def capabilities(self) -> Capabilities:
        """What the broker can do."""

    async def orders_since(self, since: Millis) -> Report[BrokerOrder] | None:
        """Open and closed orders."""

    async def find(
        self, client_id: ClientOrderId, since: Millis, known: BrokerOrderId | None = None
    ) -> tuple[BrokerOrder, ...] | None:
        """One order, open or closed."""

    async def fills_since(self, since: Millis) -> Report[BrokerFill] | None:
        """Executions."""

    def settled_at(self, symbol: Symbol) -> Millis:
        """From when a read reflects our last event on the contract."""


def repeats(numbers: Numbers, since: Millis, now: Millis) -> bool:
    """Whether a second look stands apart from the first: two at once may see one old picture."""
    return now - since >= numbers.mismatch_reread * 1000 - READ_MS


class OrderCheck:
    """Compares, corrects belief, keeps disagreements; what it cannot prove at once it looks at again."""

    def __init__(
        self,
        account: AccountId,
        road: OrderRoad,
        clock: Clock,
        store: Store,
        ledger: DisagreementLedger,
        desks: Callable[[], Sequence[SessionDesk]],
        on_unowned: Callable[[str, Symbol, Decimal], None],
    ) -> None:
        self._account = account
        self._road = road
        self._clock = clock
        self._store = store
        self._ledger = ledger
        self._desks = desks
        self._on_unowned = on_unowned
        self._foreign: dict[BrokerOrderId, ForeignOrder] = {}
        self._absent: dict[ClientOrderId, Millis] = {}  # since when
        self._differs: dict[ClientOrderId, tuple[str, Millis]] = {}
        self._skipped = False
        self._judged: dict[Symbol, Millis] = {}

    def judged_since(self, symbol: Symbol, begun: Millis) -> bool:
        """Whether orders and executions of a contract were told completely, by questions begun since then."""
        return self._judged.get(symbol, -1) >= begun

    @property
    def foreign(self) -> tuple[ForeignOrder, ...]:
        """Live orders that are not ours."""
        return tuple(self._foreign.values())

    @property
    def wants_second_look(self) -> bool:
        """Whether something was seen once and has to repeat before it is believed, or could not be judged yet."""
        return bool(self._absent or self._differs) or self._skipped

    def forget(self, broker_id: BrokerOrderId) -> None:
        """An order became ours, or is gone."""
        known = self._foreign.pop(broker_id, None)
        if known is not None:
            self._unowned(known.terms.symbol)

    async def check(self) -> bool:
        """One pass; whether the broker answered completely."""
        begun = self._clock.now()
        desks = {d.book.symbol: d for d in self._desks() if d.phase is not Phase.STARTING}
        versions = {symbol: desk.book.version for symbol, desk in desks.items()}
        report = await self._road.open_orders()
        if report is None:
            return False
        told = await self._book_fills(desks.values(), begun)
        for symbol in told or ():
            versions[symbol] = -1
        strangers: list[BrokerOrder] = []
        self._skipped = False
        for symbol, desk in desks.items():
            theirs = [row for row in report.rows if row.terms.symbol == symbol]
            self._note_sizes(desk, theirs)
            if desk.book.version != versions[symbol] or self._road.settled_at(symbol) > begun:
                self._skipped = True
                continue
            strangers += await self._compare(desk, theirs, begun)
            if told is not None:
                self._judged[symbol] = begun
        strangers += [row for row in report.rows if row.terms.symbol not in desks]
        await self._strangers(strangers, {row.broker_id for row in report.rows}, desks, begun)
        return True

    def _note_sizes(self, desk: SessionDesk, theirs: list[BrokerOrder]) -> None:
        """A size that is not believed yet is possible: what we know of the order does not end it before that."""
        for row in theirs:
            order = desk.book.owner_of(row)
            if order is not None and order.is_open:
                desk.book.rumours.note(order, order, desk.book.whole(order, row))

    async def _book_fills(self, desks: Iterable[SessionDesk], begun: Millis) -> tuple[Symbol, ...] | None:
        """Contracts of which the broker told a fill that was not booked; None is "no complete answer"."""
        if self._road.capabilities.leaves_ids:
            orders = await self._road.orders_since(begun - LOOK_BACK_MS)
            if orders is None:
                return None
            return tuple(d.book.symbol for d in desks if book_ids_left(d.book, orders.rows, begun, self._clock.now()))
        fills = await self._road.fills_since(begun - LOOK_BACK_MS)
        if fills is None:
            return None
        return tuple(d.book.symbol for d in desks if book_executions(d.book, fills.rows, self._clock.now()))

    async def _compare(self, desk: SessionDesk, theirs: list[BrokerOrder], begun: Millis) -> list[BrokerOrder]:
        strangers = []
        for verdict in compare_orders(desk.book.open(), theirs):
            match verdict:
                case Seen(order=order, record=record):
                    self._absent.pop(order.client_id, None)
                    self._differs.pop(order.client_id, None)
                    current = desk.current(order)
                    if current.revision == order.revision and current.updated <= begun:
                        desk.book.report(current, record, Evidence.QUERY, self._clock.now())
                case TermsDiffer(order=order, record=record, what=what):
                    if terms_difference(order, desk.book.whole(order, record).terms):
                        self._terms_differ(desk, order, desk.book.whole(order, record), what)
                    else:
                        self._differs.pop(order.client_id, None)
                case Absent(order=order):
                    await self._missing(desk, order)
                case DuplicateOrder(client_id=client_id, records=records):
                    self._duplicate(desk, client_id, records)
                case Stranger(record=record):
                    strangers.append(record)
                case _:
                    assert_never(verdict)
        return strangers

    # -- ours ---------------------------------------------------------------------------------------------

    def _row(
        self, desk: SessionDesk | None, symbol: Symbol, id: str, kind: DisagreementKind, **values: object
    ) -> Disagreement:
        now = self._clock.now()
        known = self._ledger.get(id)
        fields: dict[str, object] = {
            "memory": "-",
            "database": "-",
            "broker": "-",
            "state": DisagreementState.CONFIRMED,
            "read": (now, now, now),
            "query": "open orders",
            "first_seen": known.first_seen if known is not None else now,
            "updated": now,
        }
        fields.update(values)
        if fields["database"] == "-":
            fields["database"] = fields["memory"]
        session = desk.settings.id if desk is not None else None
        return Disagreement(id=id, account=self._account, session=session, symbol=symbol, kind=kind, **fields)  # type: ignore[arg-type]

    def _terms_differ(self, desk: SessionDesk, order: Order, record: BrokerOrder, what: str) -> None:
        """Seen twice, the broker's terms are adopted; entries wait until somebody has looked."""
        now = self._clock.now()
        known, since = self._differs.get(order.client_id, ("", now))
        if known != what or not repeats(desk.numbers, since, now):
            self._differs[order.client_id] = what, since if known == what else now
            return
        del self._differs[order.client_id]
        desk.put(lifecycle.adjusted(desk.current(order), now, record.terms), "terms adopted", what)
        self._ledger.put(
            self._row(
                desk,
                order.terms.symbol,
                f"differs:{order.client_id}:{order.revision}",
                DisagreementKind.ORDER_DIFFERS,
                memory=_terms_text(order),
                broker=what,
                state=DisagreementState.ADOPTED,
                done="the broker's terms were adopted",
                order=record.broker_id,
                blocks_entries=True,
            )
        )

    async def _missing(self, desk: SessionDesk, order: Order) -> None:
        """Not in the open list: its final record explains it, or it is gone after repeated complete absence."""
        rows = await self._road.find(order.client_id, order.created - LOOK_BACK_MS, order.broker_id)
        current = desk.current(order)
        if rows is None or current.revision != order.revision:
            return
        now = self._clock.now()
        mine = record_of(order, rows)
        if mine is not None:
            since = self._absent.pop(order.client_id, now)
            was = current.state
            after = book_answer(desk.book, current, mine, rows, now)
            if after.is_open and mine.status.is_final and desk.book.whole(after, mine).filled < after.filled:
                if not repeats(desk.numbers, since, now):
                    self._absent[order.client_id] = since
                    return
                after = desk.put(lifecycle.ended_short(after, now, desk.book.whole(after, mine)), "ended", mine.reason)
            if mine.status is not BrokerStatus.FILLED and after.state is not was and not current.cancel_wanted:
                self._ledger.put(
                    self._row(
                        desk,
                        order.terms.symbol,
                        f"ended:{order.client_id}",
                        DisagreementKind.ORDER_GONE,
                        memory=str(was),
                        broker=str(mine.status),
                        state=DisagreementState.EXPLAINED,
                        done=f"the broker's record says {mine.status}: {mine.reason or 'no reason given'}",
                        order=mine.broker_id,
                    )
                )
            return
        since = self._absent.get(order.client_id, now)
        if since < current.updated:  # it was heard of since: an absence of before that says nothing
            since = now
        self._absent[order.client_id] = since
        if not repeats(desk.numbers, since, now):
            return
        del self._absent[order.client_id]
        desk.put(lifecycle.gone(current, now, "the broker does not know it any more"), "gone", "twice absent")
        self._ledger.put(
            self._row(
                desk,
                order.terms.symbol,
                f"gone:{order.client_id}",
                DisagreementKind.ORDER_GONE,
                memory=str(order.state),
                broker="absent from open and closed orders, twice",
                state=DisagreementState.ADOPTED,
                done="taken as cancelled; entries wait for you",
                order=order.broker_id,
                blocks_entries=True,
            )
        )

    def _duplicate(self, desk: SessionDesk, client_id: ClientOrderId, records: tuple[BrokerOrder, ...]) -> None:
        self._ledger.put(
            self._row(
                desk,
                records[0].terms.symbol,
                f"duplicate:{client_id}",
                DisagreementKind.DUPLICATE,
                memory="one order",
                broker=f"{len(records)} live orders: " + ", ".join(r.broker_id for r in records),
                state=DisagreementState.NEEDS_YOU,
                done="left alone; entries wait for you",
                blocks_entries=True,
            )
        )

    # -- not ours -----------------------------------------------------------------------------------------

    async def _strangers(
        self,
        records: list[BrokerOrder],
        listed: set[BrokerOrderId],
        desks: dict[Symbol, SessionDesk],
        begun: Millis,
    ) -> None:
        now = self._clock.now()
        for record in records:
            desk = desks.get(record.terms.symbol)
            if desk is not None and await self._is_ours(desk, record, begun):
                continue
            known = self._foreign.get(record.broker_id)
            self._foreign[record.broker_id] = ForeignOrder(
                account=self._account,
                broker_id=record.broker_id,
                terms=record.terms,
                filled=record.filled,
                seen=known.seen if known is not None else now,
            )
            self._report_foreign(desk, record)
        for broker_id, foreign in tuple(self._foreign.items()):
            desk = desks.get(foreign.terms.symbol)
            ours = desk.book.by_broker_id(broker_id) if desk is not None else None
            if ours is not None:
                self._ledger.settle(f"foreign:{broker_id}", DisagreementState.EXPLAINED, f"it is {ours.client_id}", now)
            elif broker_id not in listed:
                if not self._is_said(broker_id):  # a word given stands, should the list only have left it out
                    self._ledger.settle(f"foreign:{broker_id}", DisagreementState.PASSED, "it is no longer open", now)
            else:
                continue
            self.forget(broker_id)

    def _report_foreign(self, desk: SessionDesk | None, record: BrokerOrder) -> None:
        terms, told = record.terms, self._ledger.get(f"foreign:{record.broker_id}")
        prices = " ".join(str(p) for p in (terms.limit, terms.stop) if p is not None)
        book = () if desk is None else desk.book.open()
        doubtful = next((o for o in book if o.doubt and record.broker_id in o.doubt.candidates), None)
        known, done = "not ours", "left alone; adopt it, ignore it or cancel it"
        asked = told is not None and told.state is not DisagreementState.PASSED
        if not asked or (doubtful is not None and told is not None and told.memory != PERHAPS + doubtful.client_id):
            if doubtful is not None:
                known = PERHAPS + doubtful.client_id
                done = "it looks like the order in doubt: adopt it if it is that one, else ignore it"
            self._ledger.put(
                self._row(
                    desk,
                    terms.symbol,
                    f"foreign:{record.broker_id}",
                    DisagreementKind.UNKNOWN_ORDER,
                    memory=known,
                    broker=f"{terms.side} {terms.quantity} {terms.type} {prices}".strip(),
                    done=done,
                    order=record.broker_id,
                    blocks_entries=True,
                )
            )
        self._unowned(terms.symbol)

    def _unowned(self, symbol: Symbol) -> None:
        """Foreign entries count in heat at worst case: the larger sum of one side that could fill."""
        sides: dict[str, Decimal] = {}
        for order in self._foreign.values():
            if order.terms.symbol == symbol:
                sides[order.terms.side] = sides.get(order.terms.side, Decimal(0)) + order.terms.quantity - order.filled
        self._on_unowned("orders", symbol, max(sides.values(), default=Decimal(0)))

    async def _is_ours(self, desk: SessionDesk, record: BrokerOrder, begun: Millis) -> bool:
        """An order of an earlier life, or one of ours that is still waiting for its answer."""
        now = self._clock.now()
        known = desk.book.owner_of(record)
        if known is None and record.client_id is not None:
            try:
                with self._clock.outside():
                    known = await self._store.order(record.client_id)
            except StoreError:
                return True
            if known is not None and known.session == desk.settings.id:
                desk.book.load(known)
        if known is not None and known.session == desk.settings.id:
            current = desk.current(known)
            if current.state in TERMINAL and current.updated <= begun:
                await self._revived(desk, current, record)
            else:
                desk.book.report(current, record, Evidence.QUERY, now)
            return True
        alike = [
            o for o in desk.book.open() if o.broker_id is None and o.is_open and lifecycle.looks_like(o, record.terms)
        ]
        for order in alike:
            if order.doubt is not None and record.broker_id in order.doubt.candidates:
                return False  # one of several: an operator says whether it is ours
            if order.state is OrderState.LOST and not self._is_said(record.broker_id):
                # asked once a minute: now there is a reason to ask
                desk.put(order_doubt.ask_soon(order, now), "ask soon", record.broker_id)
        return bool(alike)

    def _is_said(self, broker_id: BrokerOrderId) -> bool:
        """Whether an operator has said that this order is somebody else's."""
        said = self._ledger.get(f"foreign:{broker_id}")
        return said is not None and said.state is DisagreementState.IGNORED

    async def _revived(self, desk: SessionDesk, order: Order, listed: BrokerOrder) -> None:
        """Taken for ended, and the broker lists it as open: if its own record says so too, it is open again.

        Somebody has to look then. A list may be older than the broker declares; the order's record tells.
        """
        rows = await self._road.find(order.client_id, order.created - LOOK_BACK_MS, listed.broker_id)
        record = next((row for row in rows or () if row.broker_id == listed.broker_id), None)
        if record is None or desk.current(order).revision != order.revision:
            self._skipped = True
            return
        if record.status.is_final:
            return
        after = desk.book.revive(order, record, self._clock.now())
        if after is order:
            return
        self._ledger.put(
            self._row(
                desk,
                order.terms.symbol,
                f"revived:{order.client_id}:{order.revision}",
                DisagreementKind.ORDER_DIFFERS,
                memory=str(order.state),
                broker=str(record.status),
                state=DisagreementState.ADOPTED,
                done="it lives at the broker after all",
                order=record.broker_id,
                blocks_entries=True,
            )
        )


def _terms_text(order: Order) -> str:
    terms = order.terms
    prices = " ".join(str(p) for p in (terms.limit, terms.stop) if p is not None)
    return f"{terms.side} {terms.quantity} {terms.type} {prices}".strip()

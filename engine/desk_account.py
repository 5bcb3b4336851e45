"""One account of the desk: its link, its reconciler, its disagreements, and the sessions that share them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal

from engine.domain.broker import (
    AccountEvent,
    Balance,
    BalanceReported,
    BrokerFill,
    BrokerOrder,
    BrokerPosition,
    FillReported,
    IdMode,
    LinkChanged,
    LinkState,
    OrderReported,
    Report,
)
from engine.domain.disagreement_ledger import DisagreementLedger
from engine.domain.disagreements import Disagreement
from engine.domain.ids import AccountId, BrokerOrderId, Millis, Symbol
from engine.domain.lease import Holder
from engine.domain.order_book import book_executions
from engine.domain.order_lifecycle import Evidence, same_terms
from engine.domain.orders import Order, OrderState
from engine.domain.settings import Numbers
from engine.errors import StoreError
from engine.links import AccountLink
from engine.periodic import Tasks
from engine.persistence.account_lease import AccountLease
from engine.ports import AccountManager, Clock, FaultInjector, Store
from engine.reconciliation.reconciler import Reconciler
from engine.session import NotSent, Reporter, Sent, SessionDesk

log = logging.getLogger(__name__)
FILLS_BACK_MS = 600_000
EARLY_SECONDS = 5.0


def _nameless(desk: SessionDesk) -> bool:
    """Whether a request is on its way whose answer has not yet brought the broker's id."""
    return any(o.broker_id is None and o.state is OrderState.SUBMITTING for o in desk.book.open())


class DeskAccount:
    """Routes the account's stream to the sessions' books, and asks again whatever the stream may have dropped.

    `is_shared`: another engine could command the account too, so its lease is renewed; a recording's own is not.
    """

    def __init__(
        self,
        manager: AccountManager,
        *,
        broker: str,
        live: bool,
        faults: FaultInjector | None,
        clock: Clock,
        store: Store,
        numbers: Numbers,
        reporter: Reporter,
        on_disagreement: Callable[[Disagreement], None],
        on_balance: Callable[[Balance, Millis], None],
        on_unowned: Callable[[Symbol, Decimal], None],
        holder: Holder,
        is_shared: bool,
        on_lost: Callable[[str], None],
    ) -> None:
        self.id: AccountId = manager.account
        self.broker = broker
        self.live = live
        self.faults = faults
        self.lease = AccountLease(
            self.id,
            holder,
            clock,
            store,
            seconds=numbers.lease if is_shared else None,
            renewal=numbers.lease_renewal,
            on_lost=on_lost,
        )
        self.desks: list[SessionDesk] = []
        self._clock = clock
        self._numbers = numbers
        self._store = store
        self._on_unowned = on_unowned
        self._unowned: dict[tuple[str, Symbol], Decimal] = {}
        self._tasks = Tasks(f"account {self.id}", lambda name, error: None)
        self._was_up = False
        self._held: dict[Symbol, list[AccountEvent]] = {}
        self.ledger = DisagreementLedger(on_disagreement)
        self.link = AccountLink(
            manager,
            clock,
            numbers,
            on_event=self._on_event,
            on_positions=self._on_positions,
            on_suspicion=self._on_suspicion,
            on_link=self._on_link,
            lost_to=lambda: self.lease.lost_to,
        )
        self.reconciler = Reconciler(
            account=self.id,
            road=self.link,
            clock=clock,
            store=store,
            numbers=numbers,
            ledger=self.ledger,
            reporter=reporter,
            desks=lambda: self.desks,
            on_unowned=self._sum_unowned,
            on_balance=on_balance,
        )

    async def prepare(self, *, take_over: bool) -> None:
        """Take the lease and load what is not settled from earlier lives. Raises DeskHeld."""
        await self.lease.take(take_over=take_over)
        with self._clock.outside():
            for disagreement in await self._store.disagreements(self.id):
                self.ledger.load(disagreement)
        self._tasks.launch(self.lease.run(), "lease")

    async def run(self) -> None:
        """Connect, then ask for ever; ends only by a failure or cancellation, and may then be called again."""
        await self.link.start()
        orders = self._tasks.spawn(self.reconciler.run_orders(), "orders")
        try:
            await self.reconciler.run_positions()
        finally:
            orders.cancel()

    async def cancel_foreign(self, broker_id: BrokerOrderId) -> Sent:
        """Ask once for the end of an order that is not ours; nothing leaves once another engine has the account."""
        if (lost := await self.lease.why_nothing(self._numbers.exit_commit)) is not None:
            return NotSent(lost)
        return await self.link.cancel(broker_id)

    def disown(self, desk: SessionDesk) -> None:
        """A session was taken out: what appears on its contract from now on is nobody's."""
        self.desks.remove(desk)

    async def stop(self) -> None:
        """Stop asking, disconnect, and give the lease back: nothing leaves after that."""
        await self._tasks.close()
        await self.link.stop()
        try:
            with self._clock.outside():
                await self.lease.release()
        except StoreError as error:
            log.warning("the lease of %s stays until it expires: %s", self.id, error)

    # -- the stream -----------------------------------------------------------------------------------------

    def _on_event(self, event: AccountEvent) -> None:
        if not self._early(event):
            self._take(event)

    def _early(self, event: AccountEvent) -> bool:
        """Whether a report may be about an order whose id the answer still has to bring: it is taken after that.

        Where the broker does not echo our ids, a fill can overtake the acceptance that says whose it is.
        """
        if self.link.capabilities.id_mode is not IdMode.NONE or not isinstance(event, OrderReported | FillReported):
            return False
        about = event.order if isinstance(event, OrderReported) else event.fill
        symbol = about.terms.symbol if isinstance(about, BrokerOrder) else about.symbol
        desk = next((d for d in self.desks if d.book.symbol == symbol), None)
        if desk is None or desk.book.by_broker_id(about.broker_id) is not None or not _nameless(desk):
            return False
        held = self._held.setdefault(symbol, [])
        held.append(event)
        if len(held) == 1:
            self._tasks.launch(self._take_later(desk, symbol), "early reports")
        return True

    async def _take_later(self, desk: SessionDesk, symbol: Symbol) -> None:
        await desk.until(lambda: not _nameless(desk), EARLY_SECONDS)
        for event in self._held.pop(symbol):
            self._take(event)

    def _take(self, event: AccountEvent) -> None:
        match event:
            case OrderReported(order=order):
                self._order(order)
            case FillReported(fill=fill):
                self._fill(fill)
            case BalanceReported():
                pass
            case LinkChanged():
                pass

    def _order(self, record: BrokerOrder) -> None:
        for desk in self.desks:
            if desk.book.symbol == record.terms.symbol:
                owner = desk.book.owner_of(record)
                if owner is not None:
                    after = desk.book.report(owner, record, Evidence.STREAM, self._clock.now())
                    if after.terms.quantity < owner.terms.quantity:  # or an old word about a leg that has grown since
                        self.reconciler.suspect(f"{after.client_id} is smaller by the stream", orders=True)
                    elif _is_another(after, desk.book.whole(after, record)):
                        self.reconciler.suspect(f"{after.client_id} is another by the stream", orders=True)
                    if record.filled > max(after.reported, after.filled):  # fills unheard, or a word of before a bust
                        self.reconciler.suspect(f"{after.client_id} filled more by the stream", orders=True)
                elif not record.status.is_final:
                    self.reconciler.suspect(f"the stream shows an order {record.broker_id} we do not know", orders=True)
                return

    def _fill(self, fill: BrokerFill) -> None:
        for desk in self.desks:
            if desk.book.symbol == fill.symbol:
                if not book_executions(desk.book, (fill,), self._clock.now()) and not desk.book.has_fill(
                    fill.execution_id, fill.revision
                ):
                    self.reconciler.suspect(f"an execution of an order we do not know: {fill.broker_id}", orders=True)
                return

    def _on_positions(self, report: Report[BrokerPosition], begun: Millis) -> None:
        self.reconciler.on_positions(report, begun)

    def _on_suspicion(self, reason: str, orders: bool) -> None:
        self.reconciler.suspect(reason, orders)

    def _on_link(self, state: LinkState, reason: str) -> None:
        """Back up: whatever happened meanwhile is asked for, never assumed to have been streamed."""
        for desk in self.desks:
            desk.moved()
        if state is LinkState.UP:
            if self._was_up:
                self._tasks.launch(self._catch_up(), "catch up")
            self._was_up = True
            self.reconciler.suspect("the account link is up", orders=True)

    async def _catch_up(self) -> None:
        while not await self.reconciler.fetch_fills(self._clock.now() - FILLS_BACK_MS):
            await self._clock.sleep(1.0)

    def _sum_unowned(self, source: str, symbol: Symbol, size: Decimal) -> None:
        self._unowned[(source, symbol)] = abs(size)
        self._on_unowned(symbol, sum((v for (_, s), v in self._unowned.items() if s == symbol), Decimal(0)))


def _is_another(order: Order, record: BrokerOrder) -> bool:
    """Whether the broker works other terms than we know of: by a replace that came late, or by another's hand."""
    if record.broker_id != order.broker_id or record.filled < order.filled or record.status.is_final:
        return False
    if order.state is OrderState.FILLED:
        return record.terms.quantity > order.terms.quantity
    return order.state in (OrderState.WORKING, OrderState.PARTIALLY_FILLED) and not same_terms(
        record.terms, order.terms
    )

"""One account of the desk: its link, its reconciler, its disagreements, and the sessions that share them."""

from __future__ import annotations

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
    LinkChanged,
    LinkState,
    OrderReported,
    Report,
)
from engine.domain.disagreement_ledger import DisagreementLedger
from engine.domain.disagreements import Disagreement
from engine.domain.ids import AccountId, Millis, Symbol
from engine.domain.order_book import book_executions
from engine.domain.order_lifecycle import Evidence
from engine.domain.settings import Numbers
from engine.links import AccountLink
from engine.periodic import Tasks
from engine.ports import AccountManager, Clock, FaultInjector, Store
from engine.reconciliation.reconciler import Reconciler
from engine.session import Reporter, SessionDesk

FILLS_BACK_MS = 600_000


class DeskAccount:
    """Routes the account's stream to the sessions' books, and asks again whatever the stream may have dropped."""

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
    ) -> None:
        self.id: AccountId = manager.account
        self.broker = broker
        self.live = live
        self.faults = faults
        self.epoch = 0
        self.lost_to: str | None = None
        self.desks: list[SessionDesk] = []
        self._clock = clock
        self._store = store
        self._on_unowned = on_unowned
        self._unowned: dict[tuple[str, Symbol], Decimal] = {}
        self._tasks = Tasks(f"account {self.id}", lambda name, error: None)
        self._was_up = False
        self.ledger = DisagreementLedger(on_disagreement)
        self.link = AccountLink(
            manager,
            clock,
            numbers,
            on_event=self._on_event,
            on_positions=self._on_positions,
            on_suspicion=self._on_suspicion,
            on_link=self._on_link,
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

    async def prepare(self, holder: str) -> None:
        """Take the lease's next epoch and load what is not settled from earlier lives."""
        with self._clock.outside():
            self.epoch = await self._store.claim_epoch(self.id, holder)
            for disagreement in await self._store.disagreements(self.id):
                self.ledger.load(disagreement)

    async def run(self) -> None:
        """Connect, then ask for ever; returns only by cancellation."""
        await self.link.start()
        self._tasks.launch(self.reconciler.run_orders(), "orders")
        await self.reconciler.run_positions()

    async def stop(self) -> None:
        """Stop asking and disconnect."""
        await self._tasks.close()
        await self.link.stop()

    # -- the stream -----------------------------------------------------------------------------------------

    def _on_event(self, event: AccountEvent) -> None:
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
                    desk.book.report(owner, record, Evidence.STREAM, self._clock.now())
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

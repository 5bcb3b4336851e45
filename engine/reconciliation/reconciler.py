"""The periodic question to one account: positions every 30 s, orders every 5 min, both at once on suspicion."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace as changed

from engine.domain.broker import Balance, BrokerPosition, Report
from engine.domain.disagreement_ledger import DisagreementLedger
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.ids import AccountId, BrokerOrderId, Millis, Symbol
from engine.domain.order_book import book_executions
from engine.domain.orders import ZERO, OrderState
from engine.domain.records import BalanceChanged
from engine.domain.settings import Numbers
from engine.errors import StoreError
from engine.periodic import Bell
from engine.ports import Clock, Store
from engine.reconciliation.compare import PositionDiffers, compare_position, union_of_symbols
from engine.reconciliation.order_check import OrderCheck, OrderRoad, repeats
from engine.session import Reporter, SessionDesk
from engine.snapshot import ForeignOrder, Phase, Severity

log = logging.getLogger(__name__)
LOOK_BACK_MS = 60_000


class ReconcileRoad(OrderRoad, Protocol):
    """The account link as the reconciler sees it; None is "no complete answer"."""

    async def read_positions(self) -> tuple[Report[BrokerPosition], Millis] | None:
        """All positions, and when the read began."""

    async def balance(self) -> Report[Balance] | None:
        """Money."""


class _Difference(Struct, frozen=True):
    """A mismatch that waits to be seen a second time."""

    id: str
    difference: Decimal
    begun: Millis


class Reconciler:
    """Corrects belief from evidence; it sends no order. One per account, fanning out to its sessions."""

    def __init__(
        self,
        *,
        account: AccountId,
        road: ReconcileRoad,
        clock: Clock,
        store: Store,
        numbers: Numbers,
        ledger: DisagreementLedger,
        reporter: Reporter,
        desks: Callable[[], Sequence[SessionDesk]],
        on_unowned: Callable[[str, Symbol, Decimal], None],
        on_balance: Callable[[Balance, Millis], None],
    ) -> None:
        self.account = account
        self._road = road
        self._clock = clock
        self._store = store
        self._numbers = numbers
        self._ledger = ledger
        self._reporter = reporter
        self._desks = desks
        self._on_unowned = on_unowned
        self._on_balance = on_balance
        self._orders = OrderCheck(account, road, clock, store, ledger, desks, on_unowned)
        self.positions_read: Millis | None = None
        self.positions_next: Millis | None = None
        self.orders_read: Millis | None = None
        self.orders_next: Millis | None = None
        self.failed = 0
        self.balance: Balance | None = None
        self.balance_at: Millis | None = None
        self._balance_kept: Millis = 0
        self._differences: dict[Symbol, _Difference] = {}
        self._unsettled_since: dict[Symbol, Millis] = {}
        self._unowned: set[Symbol] = set()
        self._positions_wanted = Bell()
        self._orders_wanted = Bell()
        self._fills_from: Millis = 0

    # -- loops --------------------------------------------------------------------------------------------

    def suspect(self, reason: str, orders: bool) -> None:
        """Somebody has a reason to doubt: positions are read at once, and with `orders` the orders too."""
        log.info("account %s: %s", self.account, reason)
        self._positions_wanted.ring()
        if orders:
            self._orders_wanted.ring()

    async def run_positions(self) -> None:
        """Every 30 s, sooner on suspicion or while a difference waits for its second look; always re-armed."""
        failed = 0
        while True:
            complete, pause = False, self._numbers.positions_every
            try:
                complete = await self.check_positions()
                await self.check_balance()
            except Exception:
                log.exception("position check of %s failed", self.account)
            finally:
                failed = 0 if complete else failed + 1
                pause = self._sooner(pause, failed)
                if self._differences or self._unsettled_since:
                    pause = self._numbers.mismatch_reread
                self.positions_next = self._clock.now() + round(pause * 1000)
            await self._positions_wanted.wait(self._clock, pause)

    async def run_orders(self) -> None:
        """Every 5 min, and at once on suspicion; re-armed whatever happens."""
        failed = 0
        while True:
            complete, pause = False, self._numbers.orders_every
            try:
                complete = await self.check_orders()
            except Exception:
                log.exception("order check of %s failed", self.account)
            finally:
                failed = 0 if complete else failed + 1
                pause = self._sooner(pause, failed)
                if self._orders.wants_second_look:
                    pause = self._numbers.mismatch_reread
                self.orders_next = self._clock.now() + round(pause * 1000)
            await self._orders_wanted.wait(self._clock, pause)

    def _sooner(self, pause: float, failed: int) -> float:
        """A question that got no complete answer is asked again soon, then at a growing pace up to its usual one."""
        return min(pause, self._numbers.mismatch_reread * 2 ** (failed - 1)) if failed else pause

    async def check_balance(self) -> None:
        """Read the money; the audit trail keeps it only when it changed."""
        report = await self._road.balance()
        if report is None or not report.rows:
            return
        balance, now = report.rows[0], self._clock.now()
        if balance != self.balance:
            # a clock that was set back stands still: the moment is the row's key, and each figure keeps its own row
            self._balance_kept = max(now, self._balance_kept + 1)
            self._store.record(BalanceChanged(account=self.account, balance=balance, at=self._balance_kept))
        self.balance, self.balance_at = balance, now
        self._on_balance(balance, now)

    # -- positions ----------------------------------------------------------------------------------------

    async def check_positions(self) -> bool:
        """One question; whether a complete answer came. `on_positions` judges it."""
        if await self._road.read_positions() is None:
            self.failed += 1
            return False
        for symbol in tuple(self._differences):
            await self._look_for_explanations(symbol)
        return True

    async def _look_for_explanations(self, symbol: Symbol) -> None:
        """A mismatch asks for the executions that would explain it, and for an order check."""
        self._orders_wanted.ring()
        report = await self._road.fills_since(self._fills_from or self._clock.now() - LOOK_BACK_MS)
        if report is None:
            return
        for desk in self._desks():
            if desk.book.symbol == symbol and book_executions(desk.book, report.rows, self._clock.now()):
                self._explained(desk)

    def _explained(self, desk: SessionDesk) -> None:
        known = self._differences.pop(desk.book.symbol, None)
        row = self._ledger.get(known.id) if known is not None else None
        if row is not None:
            self._ledger.put(
                changed(
                    row,
                    kind=DisagreementKind.MISSING_FILL,
                    state=DisagreementState.EXPLAINED,
                    done="the broker's executions explain it; booked as fills",
                    updated=self._clock.now(),
                    blocks_entries=False,
                )
            )
        desk.blocks.clear("position")

    def on_positions(self, report: Report[BrokerPosition], begun: Millis) -> None:
        """Judge a complete answer, whoever asked for it; a verdict is skipped where our side moved meanwhile."""
        self.positions_read = self._clock.now()
        held = {row.symbol: row for row in report.rows}
        desks = {desk.book.symbol: desk for desk in self._desks() if desk.phase is not Phase.STARTING}
        for symbol in union_of_symbols(tuple(desks), tuple(held)):
            row = held.get(symbol)
            desk = desks.get(symbol)
            if desk is None:
                self._unknown_position(symbol, row.quantity if row is not None else ZERO)
            elif self._road.settled_at(symbol) > begun or desk.book.last_event > begun:
                self._unsettled(desk)
            else:
                self._unsettled_since.pop(symbol, None)
                desk.blocks.clear("quiet")
                self._judge(desk, row, begun)
        for symbol in self._unowned - set(held):
            self._unknown_position(symbol, ZERO)

    def _unsettled(self, desk: SessionDesk) -> None:
        since = self._unsettled_since.setdefault(desk.book.symbol, self._clock.now())
        if self._clock.now() - since >= self._numbers.quiet * 1000:
            desk.blocks.set("quiet", f"{desk.book.symbol} was too busy to be checked for {self._numbers.quiet:g} s")

    def _judge(self, desk: SessionDesk, row: BrokerPosition | None, begun: Millis) -> None:
        symbol, now = desk.book.symbol, self._clock.now()
        verdict = compare_position(
            desk.book.position.quantity, row.quantity if row else ZERO, row.average_price if row else None
        )
        known = self._differences.get(symbol)
        match verdict:
            case PositionDiffers():
                if known is None or known.difference != verdict.difference:
                    self._first_sight(desk, verdict, begun)
                elif repeats(self._numbers, known.begun, begun) and self._is_asked(desk, known, begun):
                    self._adopt(desk, verdict, known)
            case _:
                desk.book.confirmed(now)
                self._fills_from = begun - LOOK_BACK_MS
                self._differences.pop(symbol, None)
                self._pass_seen(symbol, "the next read agreed", now)
                desk.blocks.clear("position")
                desk.moved()

    def _is_asked(self, desk: SessionDesk, known: _Difference, begun: Millis) -> bool:
        """Whether our own orders were asked for what explains the difference, or have not told it in good time.

        A fill that is booked after its effect was adopted counts twice until the next read.
        """
        if begun - known.begun >= self._numbers.settling * 1000:
            return True
        doubtful = any(o.is_in_doubt or o.state is OrderState.SUBMITTING for o in desk.book.open())
        if not doubtful and self._orders.judged_since(desk.book.symbol, known.begun):
            return True
        self._orders_wanted.ring()
        return False

    def _first_sight(self, desk: SessionDesk, verdict: PositionDiffers, begun: Millis) -> None:
        symbol, now = desk.book.symbol, self._clock.now()
        self._pass_seen(symbol, "the difference changed", now)
        id = f"position:{self.account}:{symbol}:{begun}"
        self._differences[symbol] = _Difference(id, verdict.difference, begun)
        desk.blocks.set("position", f"broker says {verdict.broker}, memory {verdict.memory}: reading again")
        self._ledger.put(
            Disagreement(
                id=id,
                account=self.account,
                session=desk.settings.id,
                symbol=symbol,
                kind=DisagreementKind.REVERSAL if verdict.reverses else DisagreementKind.POSITION,
                state=DisagreementState.SEEN,
                memory=str(verdict.memory),
                database="reading",
                broker=str(verdict.broker),
                read=(now, now, begun),
                first_seen=now,
                updated=now,
                query=f"positions, begun {begun}",
                done="reading again; executions and orders asked for",
                position_effect=verdict.difference,
                blocks_entries=True,
            )
        )
        desk.tasks.launch(self._read_database(id, symbol), "database value")
        self._positions_wanted.ring()

    def _pass_seen(self, symbol: Symbol, why: str, now: Millis) -> None:
        """What was only seen is over; also what an earlier life saw and did not live to read again."""
        for kind in (DisagreementKind.POSITION, DisagreementKind.REVERSAL):
            for seen in self._ledger.open_of(symbol, kind):
                if seen.state is DisagreementState.SEEN:
                    self._ledger.settle(seen.id, DisagreementState.PASSED, why, now)

    async def _read_database(self, id: str, symbol: Symbol) -> None:
        try:
            with self._clock.outside():
                kept = (await self._store.positions(self.account)).get(symbol)
            value = str(kept.quantity) if kept is not None else "0"
        except StoreError as error:
            value = f"not readable: {error}"
        known = self._ledger.get(id)
        if known is not None:
            self._ledger.put(_with_database(known, value, self._clock.now()))

    def _adopt(self, desk: SessionDesk, verdict: PositionDiffers, known: _Difference) -> None:
        """The same difference, twice, on fresh and complete evidence: the broker wins."""
        symbol, now = desk.book.symbol, self._clock.now()
        mark = desk.mark
        effect = None
        if mark is not None and desk.book.position.average_price is not None and not verdict.broker:
            effect = desk.book.position.open_points(mark) * desk.instrument.point_value
        desk.book.adopt_position(
            verdict.broker, verdict.average, f"broker {verdict.broker}, memory {verdict.memory}", now
        )
        desk.book.confirmed(now)
        del self._differences[symbol]
        row = self._ledger.get(known.id)
        if row is not None:
            closed = " and closed by somebody else" if not verdict.broker else ""
            self._ledger.put(
                _adopted(
                    row, verdict, f"adopted the broker's {verdict.broker}{closed}; entries wait for you", effect, now
                )
            )
        desk.blocks.clear("position")
        self._reporter.alert(
            f"adopted:{known.id}",
            Severity.WARNING,
            f"{desk.id}: position {verdict.memory} was adopted as {verdict.broker} from the broker; acknowledge it",
            lasting=True,
        )

    def _unknown_position(self, symbol: Symbol, quantity: Decimal) -> None:
        """A position that no session owns: shown, counted at worst case, never touched."""
        now = self._clock.now()
        id = f"unknown-position:{self.account}:{symbol}"
        if not quantity:
            if symbol in self._unowned:
                self._unowned.discard(symbol)
                self._ledger.settle(id, DisagreementState.PASSED, "the position is gone", now)
                self._on_unowned("position", symbol, ZERO)
            return
        self._unowned.add(symbol)
        known = self._ledger.get(id)
        if known is None or known.broker != str(quantity):
            self._ledger.put(
                Disagreement(
                    id=id,
                    account=self.account,
                    session=None,
                    symbol=symbol,
                    kind=DisagreementKind.UNKNOWN_POSITION,
                    state=DisagreementState.CONFIRMED,
                    memory="no session owns it",
                    database="no session owns it",
                    broker=str(quantity),
                    read=(now, now, now),
                    first_seen=known.first_seen if known is not None else now,
                    updated=now,
                    query="positions",
                    done="counted in heat at worst case; left alone",
                )
            )
        self._on_unowned("position", symbol, quantity)

    # -- orders -------------------------------------------------------------------------------------------

    @property
    def foreign(self) -> tuple[ForeignOrder, ...]:
        """Live orders at the broker that are not ours."""
        return self._orders.foreign

    def forget_foreign(self, broker_id: BrokerOrderId) -> None:
        """An order was adopted or is gone."""
        self._orders.forget(broker_id)

    async def check_orders(self) -> bool:
        """One question about open orders and recent executions; whether a complete answer came."""
        complete = await self._orders.check()
        if not complete:
            self.failed += 1
            return False
        self.orders_read = self._clock.now()
        return True

    async def fetch_fills(self, since: Millis) -> bool:
        """Book every execution since a moment; after a reconnect streams are not believed to be complete."""
        report = await self._road.fills_since(since)
        if report is None:
            self.failed += 1
            return False
        for desk in self._desks():
            book_executions(desk.book, report.rows, self._clock.now())
        return True


def _with_database(row: Disagreement, value: str, at: Millis) -> Disagreement:
    return changed(row, database=value, read=(row.read[0], at, row.read[2]))


def _adopted(
    row: Disagreement, verdict: PositionDiffers, done: str, pnl_effect: Decimal | None, now: Millis
) -> Disagreement:
    return changed(
        row,
        state=DisagreementState.ADOPTED,
        broker=str(verdict.broker),
        done=done,
        pnl_effect=pnl_effect,
        position_effect=verdict.difference,
        updated=now,
        blocks_entries=True,
    )

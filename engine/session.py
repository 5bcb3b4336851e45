"""What the rooms of one session share: its settings, its working copy, its seams, and its reasons not to enter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Protocol, TypeAlias

from msgspec import Struct

from engine.domain.broker import (
    AcceptedOrder,
    BrokerFill,
    BrokerOrder,
    BrokerPosition,
    Capabilities,
    RefusedOrder,
    Report,
    SubmitRequest,
)
from engine.domain.day_ledger import DayLedger
from engine.domain.disagreement_ledger import DisagreementLedger
from engine.domain.freshness import Freshness, freshness, stale_since
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, DecisionKey, Millis, Symbol, client_order_id
from engine.domain.instruments import Instrument
from engine.domain.order_book import OrderBook
from engine.domain.orders import Order, Terms
from engine.domain.records import Record
from engine.domain.settings import Numbers, SessionSettings
from engine.events import Occurrence
from engine.periodic import Tasks
from engine.ports import Clock, HeatGate, IntentJournal, Store
from engine.snapshot import Block, ChartMark, DecisionLine, Phase, ProtectionState, Severity, StoppedEntry

KEEP_STOPPED = 50


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class NotSent(Struct, frozen=True):
    """The request provably never left."""

    reason: str


class NoAnswer(Struct, frozen=True):
    """The request left and nobody knows what became of it."""

    reason: str


class LockOut(Struct, frozen=True):
    """The broker refused without executing; `until` is when it listens again."""

    reason: str
    until: Millis


Sent: TypeAlias = AcceptedOrder | RefusedOrder | NotSent | NoAnswer | LockOut


class AccountRoad(Protocol):
    """The shared link to one account, as a session's rooms see it: every outcome is a value."""

    @property
    def account(self) -> AccountId:
        """Whose account."""

    @property
    def capabilities(self) -> Capabilities:
        """What the broker can do."""

    @property
    def is_up(self) -> bool:
        """Whether requests can leave now."""

    @property
    def locked_until(self) -> Millis | None:
        """End of a proven lock-out."""

    @property
    def is_mute(self) -> bool:
        """Whether the last request could not leave though the link is up."""

    async def submit(self, request: SubmitRequest) -> Sent:
        """Send once, within the send deadline; nothing is awaited before the request starts to leave."""

    async def replace(self, broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> Sent:
        """Ask once for other terms."""

    async def cancel(self, broker_id: BrokerOrderId) -> Sent:
        """Ask once for a cancel."""

    async def fresh_position(self, symbol: Symbol, seconds: float) -> BrokerPosition | None:
        """The broker's position, read after this call began and after our last event settled; None in time none."""

    async def find(
        self, client_id: ClientOrderId, since: Millis, known: BrokerOrderId | None = None
    ) -> tuple[BrokerOrder, ...] | None:
        """What complete answers say about an order: by client id where possible, else open and closed lists.

        An empty tuple is a complete negative; None means that the broker gave no complete answer.
        """

    async def open_orders(self) -> Report[BrokerOrder] | None:
        """All orders that may still fill; None without a complete answer."""

    async def fills_since(self, since: Millis) -> Report[BrokerFill] | None:
        """Executions; None without a complete answer."""

    async def until_up(self) -> None:
        """Return when requests can leave and no lock-out stands."""

    def touched(self, symbol: Symbol) -> None:
        """Something of ours moved on this contract: reads begun before it settled prove nothing."""

    def suspect(self, reason: str, *, orders: bool = False) -> None:
        """Ask for a reconciliation at once."""


class Lease(Protocol):
    """Our right to command the account."""

    epoch: int
    is_by_word: bool
    """Whether somebody's word stands for the end of the engine that held it before; it may live."""

    def why_no_entry(self) -> str | None:
        """Why no entry may leave in this step; None while the lease is confirmed."""

    def unsure_since(self) -> Millis | None:
        """When the lease stopped being confirmed; None while it is."""

    @property
    def is_unanswered(self) -> bool:
        """Whether we stood still for longer than a lease lives, and nobody has said since who commands."""

    def why_not_on(self, begun: float) -> str | None:
        """Why work that began then, in monotonic seconds, may not go on: it is of before we stood still."""

    async def why_nothing(self, patience: float, begun: float | None = None) -> str | None:
        """Why an exit or a cancel may not leave either; returns in the caller's step unless we stood still."""

    def told_of(self, holder: str) -> None:
        """A refused commit has named another holder."""


class Reporter(Protocol):
    """Where a session tells what happened."""

    def event(self, what: Occurrence) -> None:
        """A numbered event for consoles."""

    def alert(self, key: str, severity: Severity, text: str, *, lasting: bool = False) -> None:
        """Something wants a hand; the same key again only updates it. `lasting`: until cleared."""

    def clear(self, key: str) -> None:
        """The cause of an alert is gone."""


class Blocks:
    """Every standing reason why no entry leaves, by key; entries may go only while there is none."""

    def __init__(self, on_change: Callable[[], None], now: Callable[[], Millis]) -> None:
        self._reasons: dict[str, Block] = {}
        self._on_change = on_change
        self._now = now

    def set(self, key: str, reason: str, *, since: Millis | None = None) -> None:
        """Hold entries for this reason, since now unless told; other words for a key do not make it younger."""
        old = self._reasons.get(key)
        if old is None or old.reason != reason:
            began = since if since is not None else self._now() if old is None else old.since
            self._reasons[key] = Block(reason, began)
            self._on_change()

    def clear(self, key: str) -> None:
        """This reason is gone."""
        if self._reasons.pop(key, None) is not None:
            self._on_change()

    def clear_all(self, prefix: str) -> None:
        """Every reason whose key begins so is gone."""
        for key in [key for key in self._reasons if key.startswith(prefix)]:
            self.clear(key)

    def __contains__(self, key: str) -> bool:
        return key in self._reasons

    def reasons(self, *, but: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """All of them whose key is not in `but`, oldest first."""
        return tuple(block.reason for key, block in self._reasons.items() if key not in but)

    def standing(self) -> tuple[Block, ...]:
        """The same with their beginnings."""
        return tuple(self._reasons.values())


class SessionDesk:
    """One session's shared things. Rooms get this instead of each other; the trader puts them together."""

    def __init__(
        self,
        *,
        settings: SessionSettings,
        instrument: Instrument,
        numbers: Numbers,
        clock: Clock,
        store: Store,
        journal: IntentJournal,
        road: AccountRoad,
        heat: HeatGate,
        reporter: Reporter,
        tasks: Tasks,
        book: OrderBook,
        disagreements: DisagreementLedger,
        lease: Lease,
        equity: Callable[[], Decimal | None],
        killed: Callable[[], str | None],
        risk_of: Callable[[Terms, Decimal | None, Decimal], Decimal],
    ) -> None:
        self.settings = settings
        self.instrument = instrument
        self.numbers = numbers
        self.clock = clock
        self.store = store
        self.journal = journal
        self.road = road
        self.heat = heat
        self.reporter = reporter
        self.tasks = tasks
        self.book = book
        self.disagreements = disagreements
        self.lease = lease
        self.equity = equity
        self.killed = killed
        self.risk_of = risk_of
        self.blocks = Blocks(self._pulse, self.now)
        self.ledger = DayLedger(instrument)
        self.mark: Decimal | None = None
        self.last_tick: Millis | None = None
        self.phase = Phase.STARTING
        self.phase_detail = ""
        self.protection = ProtectionState.FLAT
        self.marks: list[ChartMark] = []
        self.decisions: list[DecisionLine] = []
        self.entry_times: list[Millis] = []
        self.stopped: list[StoppedEntry] = []
        self.stopped_entries = 0
        self.slowest_acceptance_ms = 0
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._attempts: dict[str, int] = {}

    @property
    def id(self) -> str:
        """The session's id."""
        return self.settings.id

    def now(self) -> Millis:
        """The desk's time."""
        return self.clock.now()

    def fresh(self) -> Freshness:
        """How old the feed's last word is."""
        return freshness(self.instrument, self.last_tick, self.now())

    def stale_since(self) -> Millis | None:
        """When the market stopped telling what an entry needs; None while it does, or where nobody can say."""
        return stale_since(self.instrument, self.last_tick, self.now())

    def put(self, order: Order, event: str, detail: str = "") -> Order:
        """Take an order's new state into the working copy, which tells the audit trail and the consoles."""
        return self.book.put(order, event, self.now(), detail)

    def current(self, order: Order) -> Order:
        """The order as the working copy holds it now."""
        return self.book.get(order.client_id) or order

    def record(self, record: Record) -> None:
        """Queue a row of the audit trail."""
        self.store.record(record)

    def entry_stopped(self, order: Order, reason: str, *, by_hand: bool) -> None:
        """Remember an entry that was wanted and does not leave."""
        self.stopped_entries += 1
        self.stopped.append(
            StoppedEntry(
                at=self.now(),
                session=self.settings.id,
                order=order.client_id,
                side=order.terms.side,
                quantity=order.terms.quantity,
                by_hand=by_hand,
                reason=reason,
            )
        )
        del self.stopped[:-KEEP_STOPPED]

    def attempt(self, name: str) -> int:
        """1, 2, 3 … for each procedure that needs a fresh decision key under `name`."""
        self._attempts[name] = self.next_attempt(name)
        return self._attempts[name]

    def next_attempt(self, name: str) -> int:
        """What `attempt` would give, without using it up."""
        return self._attempts.get(name, 0) + 1

    def client_id(self, key: DecisionKey) -> ClientOrderId:
        """Our order id for a decision key."""
        return client_order_id(self.store.salt, key)

    # -- waiting for something to move --------------------------------------------------------------------

    def _pulse(self) -> None:
        """Wake those whose condition has come true; the others sleep on without a turn of the loop."""
        for waiter, predicate in tuple(self._waiting.items()):
            if waiter.done():
                continue
            try:
                came_true = predicate()
            except Exception:  # whoever moved us must not fall over it; it is raised again where it was asked
                came_true = True
            if came_true:
                waiter.set_result(None)

    def moved(self) -> None:
        """An order, the position or a block changed: wake whoever waits."""
        self._pulse()

    async def until(self, predicate: Callable[[], bool], seconds: float) -> bool:
        """Whether `predicate` came true before `seconds` passed; looked at after every move of this session."""
        clock, waiting = self.clock, self._waiting
        deadline = clock.now() + round(seconds * 1000)
        waited = seconds <= 0
        while not predicate():  # again after each wake: it may have changed back before our turn came
            if waited and clock.now() >= deadline:
                return False
            waited = True
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting[waiter] = predicate
            timer = clock.call_at(deadline, partial(_wake, waiter))
            try:
                await waiter
            finally:
                timer.cancel()
                del waiting[waiter]
        return True

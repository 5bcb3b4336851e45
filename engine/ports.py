"""The seams of the engine: Protocols it owns and others implement; each is virtual in simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from msgspec import Struct

from engine.domain.broker import (
    AccountEvent,
    Balance,
    BrokerFill,
    BrokerOrder,
    BrokerPosition,
    Capabilities,
    LinkState,
    Report,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.disagreements import Disagreement
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, DecisionKey, Millis, SessionId, Symbol
from engine.domain.intents import IntentRecord, JournalRecord
from engine.domain.lease import Holder, Lease
from engine.domain.market import Candle, History, Tick, Timeframe
from engine.domain.orders import Order, Terms
from engine.domain.positions import Position
from engine.domain.records import LatchSet, LimitsChanged, Record
from engine.domain.risk import Approved, Denied
from engine.queries import Answer, TrailQuery

T = TypeVar("T")


class Timer(Protocol):
    """A pending call that can be taken back."""

    def cancel(self) -> None:
        """Take the call back; harmless when it already ran."""


class Clock(Protocol):
    """Time. Nothing else in engine or brokers reads a clock or sleeps."""

    def now(self) -> Millis:
        """UTC milliseconds; never goes back."""

    def monotonic(self) -> float:
        """Seconds for measuring durations, time asleep included; on a tape it is the tape's time."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long on this clock; 0 lets others run."""

    def call_at(self, at: Millis, call: Callable[[], None]) -> Timer:
        """Run `call` on the loop once `now() >= at`."""

    def outside(self) -> AbstractContextManager[None]:
        """Hold while waiting for something that is not on this clock (disk, socket, thread); a tape waits, too."""


class TapeDrive(Clock, Protocol):
    """A clock that a recording drives."""

    async def advance(self, to: Millis) -> None:
        """Move to `to`, firing timers on the way in order; after each, and at the end, wait until nothing can run
        except by a later timer: every mailbox empty, nothing outside outstanding. Paced by the tape's speed."""

    async def idle(self, until: asyncio.Event, *, paced: bool) -> None:
        """Keep timers firing while no tick moves the tape, until the event: at once before its start, in real
        time (`paced`) after its end."""


class Ids(Protocol):
    """Fresh names for things that no decision names (a database's salt, a count of fills)."""

    def fresh(self, prefix: str) -> str:
        """A name never given before, starting with `prefix`."""


class Rng(Protocol):
    """Randomness, split by name so that one more draw in one part does not shift another."""

    def random(self) -> float:
        """Uniform in [0, 1)."""

    def uniform(self, a: float, b: float) -> float:
        """Uniform between a and b."""

    def gauss(self, mu: float, sigma: float) -> float:
        """Normal with mean mu and standard deviation sigma."""

    def randint(self, a: int, b: int) -> int:
        """Integer from a to b, both included."""


class Blocking(Protocol):
    """Runs a blocking call off the loop; in simulation it runs inline with a virtual delay."""

    async def run(self, call: Callable[[], T]) -> T:
        """The call's result or its exception."""


class DiskSpace(Struct, frozen=True, kw_only=True):
    """Room on the filesystem that holds `place`, in bytes; `free` is what this user may still fill."""

    place: str
    free: int
    total: int


class Files(Protocol):
    """File calls that durability rests on; replaced in simulation by torn, failing and hanging ones."""

    def append(self, path: Path, data: bytes) -> None:
        """Append and fdatasync; creates the file 0600, and its directory 0700. Raises OSError."""

    def replace(self, path: Path, data: bytes) -> None:
        """Write a new file 0600 beside, fsync, rename over, fsync the directory. Raises OSError."""

    def read(self, path: Path) -> bytes | None:
        """Whole content, None when the file does not exist. Raises OSError."""

    def rename(self, path: Path, to: Path) -> None:
        """Rename and fsync the directory. Raises OSError."""

    def remove(self, path: Path) -> None:
        """Remove if present and fsync the directory. Raises OSError."""


class MarketDataSource(Protocol):
    """A feed. One per desk, shared by sessions; the engine's feed link supervises it."""

    name: str

    async def start(self, on_link: Callable[[LinkState, str], None]) -> None:
        """Connect and keep connected; tell every change of the link. Returns when first up or raises LinkDown."""

    async def stop(self) -> None:
        """Disconnect; afterwards no sink is called."""

    def subscribe(self, symbol: Symbol, sink: Callable[[Tick], None]) -> None:
        """Call `sink` synchronously, in order, for each tick of `symbol` from now on. Raises KeyError if unknown."""

    async def history(self, symbol: Symbol, timeframe: Timeframe, count: int, until: Millis) -> History:
        """The last `count` closed candles with start < `until`, and the forming one. Raises QueryFailed.

        Fewer candles than asked means that the feed has no more.
        """

    async def run(self) -> None:
        """Deliver until the tape ends (a recording) or until stopped (a live feed)."""


@runtime_checkable
class CandleSource(Protocol):
    """A recording: it has no past before its first row, and may hold closed candles instead of ticks."""

    step: Timeframe | None
    """Length of the recording's own candles; None when it holds ticks."""
    ended: asyncio.Event
    """Set when the last row was played; time goes on afterwards, until the source is stopped."""

    def subscribe_candles(self, symbol: Symbol, timeframe: Timeframe, sink: Callable[[Candle], None]) -> None:
        """Call `sink` for each recorded candle once its window is over; a repeated time is a replacement."""


class AccountManager(Protocol):
    """One account at one broker: the seed's own name. Never retries a submit by itself."""

    account: AccountId
    capabilities: Capabilities

    async def start(self, sink: Callable[[AccountEvent], None]) -> None:
        """Connect the account stream and keep it connected; call `sink` synchronously for each event."""

    async def stop(self) -> None:
        """Disconnect; afterwards the sink is not called."""

    async def submit(self, request: SubmitRequest) -> SubmitAnswer:
        """Send once. Raises LinkDown (never left), AnswerLost (in doubt), LockedOut (not executed)."""

    async def replace(self, broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        """Change a working order once; `terms.quantity` obeys `capabilities.replace_quantity`. Raises as submit."""

    async def cancel(self, broker_id: BrokerOrderId) -> SubmitAnswer:
        """Ask for a cancel once; acceptance is not yet a cancelled order. Raises as submit."""

    async def positions(self) -> Report[BrokerPosition]:
        """All open positions; a contract not listed is flat. Raises QueryFailed."""

    async def open_orders(self) -> Report[BrokerOrder]:
        """All orders that may still fill, held legs included. Raises QueryFailed."""

    async def orders_since(self, since: Millis) -> Report[BrokerOrder]:
        """Open and closed orders submitted or changed at or after `since`. Raises QueryFailed."""

    async def order_by_client_id(self, client_id: ClientOrderId) -> Report[BrokerOrder]:
        """The orders with this client id: none or one. Raises QueryFailed; only where the capability says so."""

    async def fills_since(self, since: Millis) -> Report[BrokerFill]:
        """Executions at or after `since`. Raises QueryFailed."""

    async def balance(self) -> Report[Balance]:
        """Exactly one row. Raises QueryFailed."""


class FaultKind(Struct, frozen=True, kw_only=True):
    """A fault that a paper broker can be told to show; `argument` names what the value means, empty if none."""

    name: str
    title: str
    help: str
    argument: str = ""
    default: str = ""


class FaultInjector(Protocol):
    """Faults on demand; exists only for paper accounts."""

    def kinds(self) -> tuple[FaultKind, ...]:
        """What can be asked for."""

    def inject(self, name: str, symbol: Symbol | None, argument: str) -> str:
        """Do it (or arm it for the next occasion) and say in one sentence what was done.

        Raises ValueError with a sentence when it cannot be done now.
        """


class Committed(Struct, frozen=True):
    """The intent is durable; it may be sent."""


class Taken(Struct, frozen=True):
    """The natural key is held by somebody else: an earlier life, another path, or a tombstone."""

    by: str


class NotHolder(Struct, frozen=True):
    """The lease epoch moved on: another engine commands this account."""

    holder: str


class StoreHealth(Struct, frozen=True, kw_only=True):
    """What the PERSIST lamp shows. `waiting` rows are queued; `since` is when trouble began.

    `dead_jobs` are background jobs that used up their attempts, `died_of` what the first one said.
    """

    ok: bool
    detail: str
    waiting: int = 0
    failed: int = 0
    dead_jobs: int = 0
    died_of: str = ""
    since: Millis | None = None


class DayFigures(Struct, frozen=True, kw_only=True):
    """A session's fills of one trade date, straight from the fill rows."""

    fills: tuple[Fill, ...]
    entries: int


class Store(Protocol):
    """The audit trail. One writer beneath; intents go ahead of everything that is merely recorded."""

    async def open(self) -> None:
        """Open, check ownership, migrate. Raises DeskUnusable with a sentence; the file is then untouched."""

    async def close(self) -> None:
        """Write what is queued, then close."""

    @property
    def salt(self) -> str:
        """The database's own salt for client order ids."""

    async def commit(self, intent: IntentRecord) -> Committed | Taken | NotHolder:
        """Make an intent durable. Raises StoreUnavailable, CommitUnknown (settle with `bury`)."""

    async def bury(self, key: DecisionKey) -> Committed | Taken:
        """Settle an unknown commit by a tombstone: Committed, it holds the key; Taken, the intent itself is durable."""

    def record(self, record: Record) -> None:
        """Queue a row; never blocks, never raises; retried until written, natural keys make it once."""

    async def write(self, record: Record) -> None:
        """Write a row and return when it is durable. Raises StoreUnavailable."""

    async def settled(self) -> None:
        """Return when everything recorded before this call is durable."""

    async def lease(self, account: AccountId) -> Lease | None:
        """The account's lease, None when nobody ever took it. Raises StoreUnavailable."""

    async def take_lease(self, account: AccountId, holder: Holder, after: int) -> int | None:
        """Take the lease over from epoch `after` (0: from nobody); the new epoch, None when another was faster.
        Raises StoreUnavailable, CommitUnknown."""

    async def renew_lease(self, account: AccountId, epoch: int) -> bool:
        """Say that the holder of this epoch lives; False when the epoch is not the newest. Raises as take_lease."""

    async def release_lease(self, account: AccountId, epoch: int) -> None:
        """Give the lease back: the next engine needs no proof that this one has ended. Raises as take_lease."""

    def seal(self, reason: str) -> None:
        """Write nothing any more, queued or new: another engine's rows are the newer ones."""

    def trouble(self) -> str:
        """Why rows wait; empty while they do not. `health` has the figures, this is asked at every entry."""

    def health(self) -> StoreHealth:
        """Present state, without touching the database."""

    def probe(self) -> None:
        """Ask the database whether it answers, so that an idle desk learns of an outage; `health` soon knows."""

    async def open_orders(self, account: AccountId) -> tuple[Order, ...]:
        """Orders not proven terminal, and terminal ones still open for fills."""

    async def ended_beside_unknown(self, account: AccountId, session: SessionId) -> tuple[Order, ...]:
        """The session's ended orders from 10 minutes before its oldest live one without a broker's id; oldest first."""

    async def order(self, client_id: ClientOrderId) -> Order | None:
        """One order's newest row."""

    async def fills(self, account: AccountId, symbol: Symbol, since: Millis) -> tuple[Fill, ...]:
        """Executions booked, oldest first; a busted or corrected one only in its newest revision."""

    async def start_fills(self, account: AccountId, symbol: Symbol, since: Millis) -> tuple[Position, tuple[Fill, ...]]:
        """What a start needs of them: those since then, the newest 20, all of live orders and of the orders of those
        20, oldest first; and the position before the first that was made since then."""

    async def positions(self, account: AccountId) -> dict[Symbol, Position]:
        """Newest position record per symbol, flat ones left out."""

    async def evaluated(self, session: SessionId) -> Millis | None:
        """Start of the newest candle the session ever decided on."""

    async def latches(self) -> tuple[LatchSet, ...]:
        """Latches that hold."""

    async def limits(self) -> tuple[LimitsChanged, ...]:
        """Newest live setting per limit name."""

    async def disagreements(self, account: AccountId) -> tuple[Disagreement, ...]:
        """Those not settled and acknowledged."""

    async def day(self, session: SessionId, account: AccountId, symbol: Symbol, since: Millis) -> DayFigures:
        """Fills of the session's contract since `since`, and how many entries the session committed."""

    async def remember(self, name: str, value: str) -> str:
        """Keep a fact about this desk under `name` unless one is kept; return the kept value."""

    async def answer(self, query: TrailQuery) -> Answer:
        """A page of the audit trail, on a read-only connection."""


class StoreConnection(Protocol):
    """The narrow seam beneath the one writer: SQLite, PostgreSQL, and the simulation's."""

    async def transact(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[int]:
        """Run all in one transaction; rows affected per statement. Raises DuplicateKey, StoreUnavailable
        (rolled back), CommitUnknown."""

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows. Raises StoreUnavailable."""

    async def close(self) -> None:
        """Release it."""


class IntentJournal(Protocol):
    """The append-only file that stands in for the database when an exit cannot wait."""

    async def append(self, record: JournalRecord) -> None:
        """Durable on return. Raises OSError."""

    async def pending(self) -> tuple[JournalRecord, ...]:
        """Intact records not yet archived, oldest first; a torn tail is dropped and reported in the log."""

    async def archive(self) -> None:
        """Set the imported records aside; call only after their import committed."""


class KillLatch(Protocol):
    """The synced file half of the kill latch; unreadable means set."""

    def is_set(self) -> bool:
        """Whether the file says kill (or cannot be read)."""

    def set(self, reason: str) -> None:
        """Write and sync. Raises OSError."""

    def release(self) -> None:
        """Remove and sync. Raises OSError."""


class AccountLock(Protocol):
    """Local lock of an account in a per-user path, so that two state directories see each other."""

    def acquire(self, account: AccountId) -> str | None:
        """None when obtained, else a sentence naming the holder. Raises DeskUnusable when it cannot be had at all."""

    def proof(self, account: AccountId) -> str:
        """What identifies a lock that is held; a later holder of the same one knows that this holder has ended."""

    def release_all(self) -> None:
        """Let go of everything held."""


class Watchdog(Protocol):
    """Interrupts a strategy that runs too long on the engine's thread."""

    def run(self, seconds: float, call: Callable[[], T]) -> T:
        """The result of `call`; raises StrategyFailed inside it once it ran longer than `seconds`."""


class HeatGate(Protocol):
    """The portfolio's door: check and reservation are one step."""

    def review(self, session: SessionId, order: ClientOrderId, money: Decimal) -> Approved | Denied:
        """Reserve heat for an entry or say why not."""

    def still_open(self, session: SessionId, order: ClientOrderId) -> Denied | None:
        """Read again in the step that starts the send; None lets it go."""

    def cancel(self, order: ClientOrderId) -> None:
        """Give a reservation back: the order was not sent, or is proven gone."""


class JobRunner(Protocol):
    """Background jobs queued in the transaction of their cause."""

    async def run(self) -> None:
        """Claim and run jobs until cancelled."""

    async def retry_dead(self) -> int:
        """Give dead jobs all their attempts again; how many there were. Raises StoreError."""

"""What an engine is made of; only the bootstrap makes one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from engine.domain.ids import DecisionKey
from engine.domain.instruments import Instrument
from engine.domain.lease import Holder
from engine.domain.risk import PortfolioSettings
from engine.domain.settings import Numbers, SessionSettings, ShutdownPolicy
from engine.ports import (
    AccountLock,
    AccountManager,
    Clock,
    DiskSpace,
    FaultInjector,
    IntentJournal,
    JobRunner,
    KillLatch,
    MarketDataSource,
    Store,
    Watchdog,
)
from engine.strategies.protocol import Strategy


class PlannedAccount(Struct, frozen=True, kw_only=True):
    """An account to run: its adapter, what may be injected (paper only), and how it is shown."""

    manager: AccountManager
    broker: str
    live: bool
    identity: str
    faults: FaultInjector | None = None


class PlannedSession(Struct, frozen=True, kw_only=True):
    """A session to run, with its strategy made."""

    settings: SessionSettings
    strategy: Strategy


class EnginePlan(Struct, frozen=True, kw_only=True):
    """Everything the engine is made of; only the bootstrap makes one."""

    title: str
    live: bool
    clock: Clock
    store: Store
    journal: IntentJournal
    import_journal: Callable[[], Awaitable[int]]
    jobs: Callable[[], JobRunner]
    kill_latch: KillLatch
    account_lock: AccountLock
    watchdog: Watchdog
    source: MarketDataSource
    accounts: tuple[PlannedAccount, ...]
    sessions: tuple[PlannedSession, ...]
    instruments: tuple[Instrument, ...]
    portfolio: PortfolioSettings
    numbers: Numbers
    shutdown: ShutdownPolicy
    holder: Holder
    """How a second engine, and the audit trail, name this one."""
    take_over: bool = False
    """The operator's word that an engine on another machine has ended."""
    viewing: Callable[[], Store] | None = None
    """A store that only reads, for looking on while another engine commands; None: then this one does not run."""
    check_desk: Callable[[], Awaitable[None]] | None = None
    """Asked once the audit trail is open; raises DeskUnusable when this state belongs to something else."""
    settle_journal: Callable[[], Awaitable[tuple[DecisionKey, ...]]] | None = None
    """Brings what this life journalled into the database once it answers; the keys brought in. May raise StoreError
    and OSError: it is called again."""
    disk_space: tuple[Callable[[], Awaitable[DiskSpace]], ...] = ()
    """One question per filesystem that the desk writes to; may raise OSError, may never answer."""

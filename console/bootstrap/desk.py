"""Builds a desk: settings checked, strategies made, and the engine's plan of real parts."""

from __future__ import annotations

import os
import random
import socket
from decimal import Decimal
from pathlib import Path
from typing import assert_never

from msgspec.structs import replace

from brokers.paper.account import PaperAccount
from brokers.paper.book_file import BookFile, UnsyncedFiles
from brokers.paper.exchange import PaperExchange
from brokers.paper.faults import FeedFaults, PaperFaults
from brokers.paper.link import LinkOptions, PaperLink
from brokers.paper.market_data import SyntheticSource
from brokers.paper.options import AccountTerms, ExchangeOptions
from brokers.paper.remote import RemotePaperAccount, RemoteSource
from brokers.paper.synthetic import SyntheticMarket
from brokers.replay.source import ReplaySource
from brokers.replay.tape import Tape, open_tape
from console import config
from console.config_model import DeskSettings, FeedKind, SqliteFile
from console.options import AS_FAST_AS_IT_GOES, RunOptions
from engine.clock import SystemClock, TapeClock
from engine.domain.ids import Symbol
from engine.domain.lease import Holder
from engine.domain.postgres_url import PostgresUrl
from engine.errors import ConfigurationError, DeskUnusable
from engine.host import EngineHost
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.disk import questions
from engine.persistence.files import RealFiles
from engine.persistence.intent_journal import FileIntentJournal
from engine.persistence.kill_latch import FileKillLatch
from engine.persistence.lease import FileAccountLock, lock_directory
from engine.persistence.recovery_import import import_journal, settle_journal
from engine.persistence.store import SqlStore
from engine.plan import EnginePlan, PlannedAccount, PlannedSession
from engine.ports import Blocking, Clock, Files, Ids, JobRunner, MarketDataSource
from engine.strategies.loading import load_strategy
from engine.strategies.protocol import Strategy
from engine.watchdog import ThreadWatchdog

TAPE_LEAD_MS = 60_000
BELONGS_TO = "database"
PAPER_BOOK = "paper-exchange.book"
JOURNAL, KILL = "journal", "KILL"


class FreshIds:
    """Names from the operating system's randomness."""

    def fresh(self, prefix: str) -> str:
        """A name never given before."""
        return f"{prefix}{os.urandom(8).hex()}"


# -- settings ---------------------------------------------------------------------------------------------------


def settings_for(options: RunOptions) -> tuple[DeskSettings, Tape | None, RunOptions]:
    """The desk that these options ask for, and its checked recording. Raises ConfigurationError."""
    facts = None
    tape = None
    if options.replay is not None and config.needs_tape_facts(options):
        tape = open_tape(options.replay, Symbol(options.symbol or ""))
        options = _with_step(options, tape)
        facts = config.TapeFacts(
            tick_size=tape.smallest_price_step,
            price=_first_price(tape),
            stale_after_ms=max(15_000, 2 * tape.step.ms if tape.step is not None else 0),
        )
    settings = config.settle(options, tape=facts)
    if settings.feed is FeedKind.REPLAY and tape is None:
        if settings.replay is None or settings.replay_symbol is None:
            raise ConfigurationError("the desk replays, and no recording is named; give --replay FILE --symbol SYM")
        tape = open_tape(settings.replay, settings.replay_symbol)
    if tape is not None:
        _check_timeframes(settings, tape)
    return settings, tape, options


def _with_step(options: RunOptions, tape: Tape) -> RunOptions:
    """A recording of candles is played in its own step unless another was asked for."""
    if tape.step is None or options.timeframe is not None:
        return options
    return replace(options, timeframe=tape.step)


def _first_price(tape: Tape) -> Decimal:
    if tape.step is None:
        return next(tick.price for tick in tape.ticks())
    return next(candle.close for candle in tape.candles())


def _check_timeframes(settings: DeskSettings, tape: Tape) -> None:
    if tape.step is None:
        return
    for session in settings.sessions:
        if session.timeframe.ms % tape.step.ms:
            raise ConfigurationError(
                f"{tape.path} holds candles of {tape.step}, which cannot make candles of {session.timeframe} "
                f"for session {session.id}; choose a multiple with --timeframe"
            )


def strategies_for(settings: DeskSettings) -> dict[str, Strategy]:
    """One strategy per session, made before anything starts. Raises ConfigurationError."""
    return {s.id: load_strategy(s.strategy, s.arguments) for s in settings.sessions}


def audit_store(
    settings: DeskSettings,
    clock: Clock,
    blocking: ThreadBlocking,
    ids: Ids,
    *,
    read_only: bool = False,
    take_over: bool = False,
) -> SqlStore:
    """The audit trail where the settings put it; journal, latches and locks stay in the state directory."""
    match settings.database:
        case SqliteFile(path=path):
            return SqlStore.sqlite(path, clock, blocking, ids, read_only=read_only)
        case PostgresUrl() as url:
            expired = settings.numbers.lease if take_over else None
            return SqlStore.postgres(
                url,
                clock,
                blocking,
                ids,
                directory=settings.state_dir,
                read_only=read_only,
                take_over_after=expired,
            )
        case _:
            assert_never(settings.database)


# -- building -----------------------------------------------------------------------------------------------------


class Desk:
    """Makes the engine's plan on the engine's loop; keeps what has to be closed and what a summary reads."""

    def __init__(
        self,
        settings: DeskSettings,
        tape: Tape | None,
        strategies: dict[str, Strategy],
        speed: float,
        *,
        take_over: bool = False,
        may_look_on: bool = False,
    ) -> None:
        self.settings = settings
        self.tape = tape
        self._strategies = strategies
        self._speed = speed
        self._take_over = take_over
        self._may_look_on = may_look_on
        self._watchdog: ThreadWatchdog | None = None
        self._blocking: ThreadBlocking | None = None
        self._exchange: PaperExchange | None = None
        self.host = EngineHost(self.plan)

    def plan(self) -> EnginePlan:
        """Everything wired; nothing started."""
        settings = self.settings
        clock = self._clock()
        self._blocking = blocking = ThreadBlocking(clock)
        self._watchdog = ThreadWatchdog()
        files = RealFiles()
        ids = FreshIds()
        store = audit_store(settings, clock, blocking, ids, take_over=self._take_over)
        journal = FileIntentJournal(settings.state_dir / JOURNAL, files, blocking)
        exchange, source, accounts = self._paper(clock) if settings.exchange is None else self._remote(clock)
        self._exchange = exchange
        instruments = {i.symbol: i for i in settings.instruments}

        async def imported() -> int:
            await journal.keep_room()
            return len(await import_journal(store, journal))

        def jobs() -> JobRunner:
            return store.jobs(lambda symbol: instruments[symbol])

        def viewing() -> SqlStore:
            return audit_store(settings, clock, blocking, ids, read_only=True)

        host = socket.gethostname()

        return EnginePlan(
            title=settings.title,
            live=any(account.live for account in settings.accounts),
            clock=clock,
            store=store,
            journal=journal,
            import_journal=imported,
            jobs=jobs,
            kill_latch=FileKillLatch(settings.state_dir / KILL, files),
            account_lock=FileAccountLock(lock_directory(os.environ), str(settings.state_dir)),
            holder=Holder(f"process {os.getpid()} on {host}, desk {settings.state_dir}", host),
            take_over=self._take_over,
            viewing=viewing if self._may_look_on else None,
            watchdog=self._watchdog,
            source=source,
            accounts=accounts,
            sessions=tuple(
                PlannedSession(settings=session, strategy=self._strategies[session.id]) for session in settings.sessions
            ),
            instruments=settings.instruments,
            portfolio=settings.portfolio,
            numbers=settings.numbers,
            shutdown=settings.shutdown,
            check_desk=lambda: self._check_desk(store, exchange, files, blocking),
            settle_journal=lambda: settle_journal(store, journal, clock.now()),
            disk_space=questions(blocking, settings.state_dir, *self._database_folder()),
        )

    def _database_folder(self) -> tuple[Path, ...]:
        database = self.settings.database
        return (database.path.absolute().parent,) if isinstance(database, SqliteFile) else ()

    def _clock(self) -> Clock:
        if self.tape is None:
            return SystemClock()
        speed = None if self._speed == AS_FAST_AS_IT_GOES else self._speed
        return TapeClock(self.tape.first - TAPE_LEAD_MS, speed)

    def _paper(self, clock: Clock) -> tuple[PaperExchange, MarketDataSource, tuple[PlannedAccount, ...]]:
        settings = self.settings
        book_path = settings.state_dir / PAPER_BOOK
        first = settings.accounts[0]
        exchange = PaperExchange(
            settings.instruments,
            tuple(
                AccountTerms(
                    account=a.id,
                    equity=a.equity,
                    currency=a.currency,
                    fee_per_unit=a.fee_per_unit,
                    margin_per_unit=a.margin_per_unit,
                    margin_rate=a.margin_rate,
                    capabilities=a.capabilities,
                )
                for a in settings.accounts
            ),
            ExchangeOptions(slippage_ticks=first.slippage_ticks, max_fill=first.max_fill),
            BookFile(book_path, UnsyncedFiles()),
        )
        source, faults = self._source(clock, exchange)
        accounts = []
        for account in settings.accounts:
            latency = float(account.latency_ms)
            link = PaperLink(
                account.id,
                exchange,
                clock,
                random.Random(f"link {account.id} {settings.seed}"),
                LinkOptions(latency_ms=(latency / 4, latency)),
            )
            accounts.append(
                PlannedAccount(
                    manager=PaperAccount(account.id, exchange, link),
                    broker=account.broker,
                    live=account.live,
                    identity=f"paper:{book_path}:{account.id}",
                    faults=PaperFaults(account.id, exchange, link, clock, faults),
                )
            )
        return exchange, source, tuple(accounts)

    def _remote(self, clock: Clock) -> tuple[None, MarketDataSource, tuple[PlannedAccount, ...]]:
        """Accounts and market of an exchange process."""
        settings, path = self.settings, self.settings.exchange
        assert path is not None
        accounts = tuple(
            PlannedAccount(
                manager=RemotePaperAccount(
                    a.id, a.currency, a.capabilities, settings.instruments, path, clock, random.Random(f"line {a.id}")
                ),
                broker=a.broker,
                live=a.live,
                # Every desk on this socket must see the others, by whatever name it reaches it.
                identity=f"paper:unix:{path.resolve()}:{a.id}",
            )
            for a in settings.accounts
        )
        return None, RemoteSource(settings.instruments, path, clock, random.Random("line of the feed")), accounts

    def _source(self, clock: Clock, exchange: PaperExchange) -> tuple[MarketDataSource, FeedFaults]:
        settings = self.settings
        if self.tape is not None:
            assert isinstance(clock, TapeClock)
            replay = ReplaySource(self.tape, clock, exchange.on_tick)
            return replay, replay
        prices = {i.symbol: price for i in settings.instruments if (price := exchange.last_price(i.symbol)) is not None}
        market = SyntheticMarket(settings.instruments, settings.seed + len(prices), clock.now(), prices)
        synthetic = SyntheticSource(market, settings.instruments, clock, exchange.on_tick)
        return synthetic, synthetic

    async def _check_desk(
        self, store: SqlStore, exchange: PaperExchange | None, files: Files, blocking: Blocking
    ) -> None:
        """A state directory belongs to one database, and to one market: a recording, the live feed, or an exchange."""
        place = self.settings.state_dir / BELONGS_TO
        owner = await blocking.run(lambda: files.read(place))
        if owner is None:
            await blocking.run(lambda: files.replace(place, store.salt.encode() + b"\n"))
        elif owner.decode("utf-8", "replace").strip() != store.salt:
            raise DeskUnusable(
                f"{self.settings.state_dir} belongs to another database, whose intent journal and kill latch it holds; "
                f"name another --state-dir, or remove {place} if this database takes the other one's place"
            )
        mine = "live feed" if self.tape is None else f"tape {self.tape.fingerprint}"
        if exchange is None:
            mine = "exchange process"
        kept = await store.remember("market", mine)
        if kept != mine:
            raise DeskUnusable(
                f"{self.settings.state_dir} was made by another {'recording' if kept.startswith('tape') else 'feed'}; "
                "name another --state-dir"
            )
        if self.tape is not None and exchange is not None and exchange.last_time >= self.tape.last:
            raise DeskUnusable(
                f"{self.settings.state_dir} is already past the end of {self.tape.path}; name another --state-dir"
            )

    def close(self) -> None:
        """End the other threads; the exchange keeps its last prices and time, unless this desk was turned away."""
        started, ended = self.host.started, self.host.ended
        commanded = started.done() and started.exception() is None and self.host.held() is None
        if self._exchange is not None and ended.done() and commanded:
            self._exchange.close()
        if self._watchdog is not None:
            self._watchdog.close()
        if self._blocking is not None:
            self._blocking.close()

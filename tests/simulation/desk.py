"""One life of a desk: the real engine, writer, jobs, journal and overrides, on the world's database and files."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from msgspec import Struct

from brokers.paper.exchange import PaperExchange
from engine import commands as c
from engine.domain.decisions import StrategyContext
from engine.domain.ids import AccountId, ClientOrderId, CommandId, Millis, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.lease import Holder
from engine.domain.risk import Approved, Contribution, Denied, PortfolioSettings, StanceNotice
from engine.domain.settings import Numbers, SessionSettings, ShutdownPolicy
from engine.engine import Engine
from engine.host import PROBE_SECONDS, SUSPEND_SECONDS
from engine.overrides.dispatch import Overrides
from engine.persistence.intent_journal import FileIntentJournal
from engine.persistence.jobs import Jobs
from engine.persistence.kill_latch import FileKillLatch
from engine.persistence.recovery_import import import_journal, settle_journal
from engine.persistence.store import SqlStore
from engine.plan import EnginePlan, PlannedAccount, PlannedSession
from tests.simulation.database import SimConnections, SimDatabase
from tests.simulation.deeds import raises
from tests.simulation.feed import FeedTrouble, SimFeed
from tests.simulation.files import InlineBlocking, SimFiles
from tests.simulation.loop import Life, SimClock, SimLoop, within_life
from tests.simulation.market import Market
from tests.simulation.seams import Seams
from tests.simulation.strategy import Restless, SimWatchdog
from tests.simulation.streams import Streams
from tests.simulation.wire import Wire, WireTrouble, Witness

STATE = Path("/desk")
PROBE_MS = round(PROBE_SECONDS * 1000)
READ_MS = 3_000
"""How long a read of positions takes at most."""


class Locks:
    """What the kernel holds for processes: account locks, dropped with the life that took them."""

    def __init__(self) -> None:
        self.held: dict[AccountId, Life] = {}


class SimAccountLock:
    """AccountLock of one life."""

    def __init__(self, locks: Locks, life: Life, host: str) -> None:
        self._host = host
        self._locks = locks
        self._life = life

    def acquire(self, account: AccountId) -> str | None:
        """None when obtained."""
        holder = self._locks.held.get(account)
        if holder is not None and holder is not self._life and not holder.dead:
            return f"Account {account} is commanded by {holder.name}."
        self._locks.held[account] = self._life
        return None

    def proof(self, account: AccountId) -> str:
        """The one lock of this machine."""
        return f"lock of {account} on {self._host}"

    def release_all(self) -> None:
        """Let go."""
        for account in [a for a, life in self._locks.held.items() if life is self._life]:
            del self._locks.held[account]


class SimIds:
    """Names that no life gave before."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._count = 0

    def fresh(self, prefix: str) -> str:
        """The next one."""
        self._count += 1
        return f"{prefix}{self._life.name}-{self._count}"


class Durable(Struct, kw_only=True):
    """What outlives a process, and the world around it; one for all lives of a desk."""

    loop: SimLoop
    clock: SimClock
    streams: Streams
    exchange: PaperExchange
    market: Market
    database: SimDatabase
    files: SimFiles
    locks: Locks
    wires: dict[AccountId, WireTrouble]
    feed: FeedTrouble
    witness: Witness
    instruments: tuple[Instrument, ...]
    accounts: tuple[AccountId, ...]
    sessions: tuple[SessionSettings, ...]
    portfolio: PortfolioSettings
    numbers: Numbers
    watch: Callable[[Life, SessionId, StrategyContext], None]
    hit: Callable[[str], None]
    host: str = "simulated"


class WatchedEngine(Engine):
    """The engine; somebody hears what the portfolio tells its traders."""

    on_stance: Callable[[StanceNotice], None] | None = None

    def _on_stance(self, session: SessionId, notice: StanceNotice) -> None:
        super()._on_stance(session, notice)
        if self.on_stance is not None:
            self.on_stance(notice)


class Desk:
    """One process. `start` schedules its beginning; nothing of it runs after its life is dead."""

    def __init__(
        self, durable: Durable, name: str, on_death: Callable[[str], None], *, take_over: bool = False
    ) -> None:
        self.life = Life(name)
        self.durable = durable
        self._take_over = take_over
        self.paused_at: Millis = 0
        self.stills: list[tuple[Millis, Millis]] = []
        self.submits: deque[c.SubmitByHand] = deque(maxlen=2)
        """The newest that were asked for by hand."""
        self.steady_since: Millis = durable.loop.at
        self.seams = Seams(self.life, on_death)
        self.clock = SimClock(durable.loop, self.life)
        self.failed: BaseException | None = None
        self.starting: asyncio.Task[None] | None = None
        self._commands = 0
        with within_life(self.life):
            self._build()

    def _build(self) -> None:
        durable, life = self.durable, self.life
        ids = SimIds(life)
        self.blocking = InlineBlocking(durable.files, self.clock, self.seams)
        self.store = SqlStore(
            SimConnections(durable.database, self.clock, self.seams, life.name),
            self.clock,
            self.blocking,
            ids,
            self._writer_died,
        )
        self.journal = FileIntentJournal(STATE / "journal", durable.files, self.blocking)
        self.wires = {
            account: Wire(
                account,
                durable.exchange,
                durable.clock,
                life,
                self.seams,
                durable.wires[account],
                durable.streams.of(f"wire/{account}"),
                durable.witness,
                durable.hit,
            )
            for account in durable.accounts
        }
        self.feed = SimFeed(durable.market, self.clock, life, durable.feed, durable.streams.of("feed"), durable.hit)
        self.strategies = {
            settings.id: Restless(
                settings.id,
                durable.streams.of(f"strategy/{settings.id}"),
                lambda session, context: durable.watch(life, session, context),
                durable.hit,
            )
            for settings in durable.sessions
        }
        self.engine = WatchedEngine(self._plan(ids))
        self.engine.on_stance = lambda notice: durable.witness.stance(life, notice)
        report = self.engine.portfolio.report

        def reported(contribution: Contribution) -> None:
            report(contribution)
            durable.witness.reported(life, contribution)

        self.engine.portfolio.report = reported  # type: ignore[method-assign]
        review = self.engine.portfolio.review

        def reviewed(session: SessionId, order: ClientOrderId, money: Decimal) -> Approved | Denied:
            answer = review(session, order, money)
            if isinstance(answer, Approved):
                durable.witness.reserved(life, order, money)
            return answer

        self.engine.portfolio.review = reviewed  # type: ignore[method-assign]
        self.overrides = Overrides(self.engine, lambda command: None)

    def told_position(self, account: AccountId, symbol: Symbol, until: Millis) -> tuple[Decimal, ...]:
        """What the newest two complete answers about positions by then said of a contract, and those just after.

        "Flat everywhere" names the moment at which the read of all accounts began.
        """
        reads = list(self.wires[account].reads)
        before = [positions for at, positions in reads if at <= until]
        after = [positions for at, positions in reads if until < at <= until + READ_MS]
        return tuple(positions.get(symbol, Decimal(0)) for positions in (*before[-2:], *after))

    def _writer_died(self, name: str, error: BaseException) -> None:
        self.failed = error

    def _plan(self, ids: SimIds) -> EnginePlan:
        durable = self.durable
        store, journal = self.store, self.journal
        instruments = {i.symbol: i for i in durable.instruments}

        async def imported() -> int:
            return len(await import_journal(store, journal))

        def jobs() -> Jobs:
            return store.jobs(lambda symbol: instruments[symbol])

        return EnginePlan(
            title="simulated desk",
            live=False,
            clock=self.clock,
            store=store,
            journal=journal,
            import_journal=imported,
            jobs=jobs,
            kill_latch=FileKillLatch(STATE / "KILL", durable.files),
            account_lock=SimAccountLock(durable.locks, self.life, durable.host),
            holder=Holder(self.life.name, durable.host),
            take_over=self._take_over,
            watchdog=SimWatchdog(),
            source=self.feed,
            accounts=tuple(
                PlannedAccount(manager=self.wires[account], broker="paper", live=False, identity=account)
                for account in durable.accounts
            ),
            sessions=tuple(
                PlannedSession(settings=settings, strategy=self.strategies[settings.id])
                for settings in durable.sessions
            ),
            instruments=durable.instruments,
            portfolio=durable.portfolio,
            numbers=durable.numbers,
            shutdown=ShutdownPolicy.CANCEL_ENTRIES,
            settle_journal=lambda: settle_journal(store, journal, self.clock.now()),
            disk_space=(durable.files.room,),
        )

    def start(self) -> None:
        """Begin this life in the next loop step."""
        durable = self.durable
        durable.market.listeners.append(self.feed.on_trade)
        with within_life(self.life):
            self.starting = durable.loop.create_task(self._start(), name=f"{self.life.name}: start")

    async def _start(self) -> None:
        try:
            await self.engine.start()
        except Exception as error:
            self.failed = error

    @property
    def is_up(self) -> bool:
        """Whether the engine took up its work in this life."""
        return self.starting is not None and self.starting.done() and self.failed is None and not self.life.dead

    def die(self) -> None:
        """The process is gone: nothing of it runs again, the kernel lets go of its locks, its lines are cut."""
        durable = self.durable
        self.life.dead = True
        if self.feed.on_trade in durable.market.listeners:
            durable.market.listeners.remove(self.feed.on_trade)
        for wire in self.wires.values():
            wire.close()

    def pause(self) -> None:
        """The process stands still."""
        self.life.paused = True
        self.paused_at = self.durable.loop.at

    def resume(self) -> None:
        """The stopped process goes on: first what fell due, then what its sockets hold. Its host sees the lateness."""
        at = self.durable.loop.at
        stood = (at - self.paused_at) / 1000
        self.steady_since = at
        self.stills.append((self.paused_at, at))
        if stood > SUSPEND_SECONDS and self.is_up:
            self.durable.loop.add_timer(at + PROBE_MS, lambda: self.engine.resumed(stood), self.life)
        self.durable.loop.resume(self.life)
        with within_life(self.life):
            for wire in self.wires.values():
                wire.resume()
            self.feed.resume()

    def break_session(self, session: SessionId) -> None:
        """One of the session's standing loops raises."""
        with within_life(self.life):
            self.engine.sessions[session].trader.loop_failed(f"session {session}:guard", RuntimeError("broken"))

    def send(self, operator: str, make: Callable[[c.Origin], c.Command]) -> None:
        """Dispatch a command of an operator; its receipt is the operator's to look for."""
        self._commands += 1
        origin = c.Origin(
            id=CommandId(f"{self.life.name}-{operator}-{self._commands}"),
            operator=operator,
            place="simulation",
            at=self.clock.now(),
        )
        self.dispatch(make(origin))

    def dispatch(self, command: c.Command) -> None:
        """The same of a command that may have been given before."""
        if isinstance(command, c.SubmitByHand):
            self.submits.append(command)
        with within_life(self.life):
            self.durable.loop.spawn(self._dispatch(command), f"{command.origin.operator}: command")

    async def _dispatch(self, command: c.Command) -> None:
        self.durable.witness.commanding(self.life, command)
        raised = raises(command, self.engine.portfolio.settings.limits)
        receipt = await self.overrides.dispatch(command)
        self.durable.witness.receipt(self.life, command, receipt, raised)
        again = await self.overrides.dispatch(command)  # a line that broke sends it again
        self.durable.witness.repeated(command, receipt, again)

    def position(self, session: SessionId) -> Decimal:
        """What memory believes."""
        return self.engine.sessions[session].desk.book.position.quantity

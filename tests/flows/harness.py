"""A whole desk under test: the real engine, SQLite, journal and paper exchange on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from msgspec.structs import replace

from brokers.paper.account import PaperAccount
from brokers.paper.book_file import BookFile, UnsyncedFiles
from brokers.paper.exchange import PaperExchange
from brokers.paper.faults import PaperFaults
from brokers.paper.link import LinkOptions, PaperLink
from brokers.paper.options import AccountTerms, ExchangeOptions
from engine import commands as c
from engine.clock import TapeClock
from engine.domain.broker import Capabilities, LinkState
from engine.domain.decisions import Decision, Nothing, StrategyContext
from engine.domain.ids import AccountId, CommandId, DecisionKey, Millis, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.lease import Holder
from engine.domain.market import Candle, History, Tick, Timeframe
from engine.domain.orders import Order, Role
from engine.domain.postgres_url import PostgresUrl
from engine.domain.risk import PortfolioSettings
from engine.domain.settings import FixedSize, Numbers, SessionLimits, SessionSettings, ShutdownPolicy
from engine.engine import Engine
from engine.errors import QueryFailed
from engine.overrides.dispatch import Overrides
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.files import RealFiles
from engine.persistence.intent_journal import FileIntentJournal
from engine.persistence.kill_latch import FileKillLatch
from engine.persistence.lease import FileAccountLock
from engine.persistence.recovery_import import import_journal, settle_journal
from engine.persistence.store import SqlStore
from engine.plan import EnginePlan, PlannedAccount, PlannedSession
from engine.ports import Store
from engine.snapshot import DeskSnapshot, LoopLag, Phase
from engine.trader import RealtimeTrader
from engine.views import take
from engine.watchdog import ThreadWatchdog

PAPER = AccountId("paper")
IDLE = AccountId("idle")
ES = Symbol("ESZ6")
NQ = Symbol("NQZ6")
START: Millis = 1_767_603_600_000  # Monday 2026-01-05 09:00 UTC
MINUTE = 60_000

INSTRUMENTS = (
    Instrument(
        symbol=ES, tick_size=Decimal("0.25"), point_value=Decimal(50), group="us-index", worst_case=Decimal(2500)
    ),
    Instrument(
        symbol=NQ, tick_size=Decimal("0.25"), point_value=Decimal(20), group="us-index", worst_case=Decimal(4000)
    ),
)


class Scripted:
    """A strategy that does what the test put on its list, one decision per closed candle; then nothing."""

    def __init__(self) -> None:
        self.script: list[Callable[[StrategyContext], Decision]] = []
        self.seen: list[tuple[Millis, bool]] = []

    def initial(self) -> int:
        return 0

    def decide(self, context: StrategyContext) -> Decision:
        self.seen.append((context.candles[-1].start, context.warming))
        if context.warming or not self.script:
            return Nothing(state=context.state, reason="nothing on the list")
        return self.script.pop(0)(context)


class ScriptedFeed:
    """A feed whose ticks the test sends; its history is made of what the market did, seen or unseen."""

    name = "scripted"

    def __init__(self, clock: TapeClock, exchange: PaperExchange) -> None:
        self._clock = clock
        self._exchange = exchange
        self._sinks: dict[Symbol, list[Callable[[Tick], None]]] = {}
        self._on_link: Callable[[LinkState, str], None] = lambda state, reason: None
        self.is_up = True
        self.market: dict[Symbol, list[Tick]] = {}
        self.history_delay = 0.0
        self.history_fails = False
        self._stopped = asyncio.Event()

    async def start(self, on_link: Callable[[LinkState, str], None]) -> None:
        self._on_link = on_link
        on_link(LinkState.UP, "")

    async def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> None:
        await self._stopped.wait()

    def subscribe(self, symbol: Symbol, sink: Callable[[Tick], None]) -> None:
        self._sinks.setdefault(symbol, []).append(sink)

    def trade(self, symbol: Symbol, price: str | Decimal, *, size: str = "1", at: Millis | None = None) -> None:
        """The market trades: the exchange sees it, and the desk too while the link is up."""
        tick = Tick(symbol, self._clock.now() if at is None else at, Decimal(price), Decimal(size))
        self.market.setdefault(symbol, []).append(tick)
        self._exchange.on_tick(tick)
        if self.is_up:
            for sink in self._sinks.get(symbol, []):
                sink(tick)

    def late(self, symbol: Symbol, price: str, at: Millis) -> None:
        """A tick that comes after its time: the desk sees it, the exchange has moved on."""
        for sink in self._sinks.get(symbol, []):
            sink(Tick(symbol, at, Decimal(price), Decimal(1)))

    def cut(self) -> None:
        """The link goes down; the market goes on."""
        self.is_up = False
        self._on_link(LinkState.RECONNECTING, "cut by the test")

    def restore(self) -> None:
        """The link comes back."""
        self.is_up = True
        self._on_link(LinkState.UP, "")

    async def history(self, symbol: Symbol, timeframe: Timeframe, count: int, until: Millis) -> History:
        if self.history_fails or not self.is_up:
            raise QueryFailed("no history now")
        now = self._clock.now()
        windows: dict[Millis, list[Tick]] = {}
        for tick in self.market.get(symbol, []):
            windows.setdefault(timeframe.start_of(tick.at), []).append(tick)
        made = [_candle(start, windows[start]) for start in sorted(windows)]
        current = timeframe.start_of(now)
        closed = tuple(c for c in made if c.start < current)[-count:]
        forming = next((c for c in made if c.start == current), None)
        answer = History(closed, forming, now)
        if self.history_delay:
            await self._clock.sleep(self.history_delay)
        return answer


def _candle(start: Millis, ticks: list[Tick]) -> Candle:
    prices = [tick.price for tick in ticks]
    volume = sum((tick.size for tick in ticks), Decimal(0))
    return Candle(start, prices[0], max(prices), min(prices), prices[-1], volume)


class Desk:
    """One life of a desk; `again()` starts the next life on the same state directory and exchange book."""

    def __init__(self, state: Path, *, symbols: tuple[Symbol, ...] = (ES,), **options: Any) -> None:
        self.state = state
        self.symbols = symbols
        self.options = options
        now = options.get("now", START)
        self.clock = TapeClock(now)
        self.clock_running = asyncio.Event()
        files = RealFiles()
        self.blocking = ThreadBlocking(self.clock)
        self.watchdog = ThreadWatchdog()
        self.capabilities: Capabilities = options.get("capabilities", Capabilities())
        self.exchange = PaperExchange(
            INSTRUMENTS,
            (
                AccountTerms(
                    account=PAPER, equity=options.get("equity", Decimal(250_000)), capabilities=self.capabilities
                ),
                AccountTerms(account=IDLE, equity=Decimal(250_000), capabilities=self.capabilities),
            ),
            ExchangeOptions(slippage_ticks=0, max_fill=options.get("max_fill")),
            BookFile(state / "exchange.book", UnsyncedFiles()),
        )
        self.link = PaperLink(PAPER, self.exchange, self.clock, Random(1), LinkOptions(latency_ms=(5.0, 10.0)))
        self.manager = PaperAccount(PAPER, self.exchange, self.link)
        self.feed = ScriptedFeed(self.clock, self.exchange)
        self.faults = PaperFaults(PAPER, self.exchange, self.link, self.clock, None)
        self.strategies = {symbol: Scripted() for symbol in symbols}
        self.ids = _Ids(state)
        self.database: PostgresUrl | None = options.get("database")
        shared = (self.clock, self.blocking, self.ids)
        store: Store = (
            SqlStore.sqlite(state / "desk.sqlite3", *shared)
            if self.database is None
            else SqlStore.postgres(self.database, *shared, directory=state)
        )
        self.real_store = store
        self.store: Store = options["wrap_store"](store) if "wrap_store" in options else store
        self.journal = FileIntentJournal(state / "journal", files, self.blocking)
        self.lock = FileAccountLock(state / options.get("locks", "locks"), str(state))
        self.engine = Engine(self._plan(files))
        self.overrides = Overrides(self.engine, lambda command: None)
        self._commands = 0
        self._driver: asyncio.Task[None] | None = None

    def _plan(self, files: RealFiles) -> EnginePlan:
        async def imported() -> int:
            assert isinstance(self.real_store, SqlStore)
            return len(await import_journal(self.real_store, self.journal))

        async def settled() -> tuple[DecisionKey, ...]:
            assert isinstance(self.real_store, SqlStore)
            if getattr(self.store, "down", False) or getattr(self.store, "silent", False):
                return ()
            return await settle_journal(self.real_store, self.journal, self.clock.now())

        def jobs() -> Any:
            assert isinstance(self.real_store, SqlStore)
            return self.real_store.jobs(lambda symbol: {i.symbol: i for i in INSTRUMENTS}[symbol])

        return EnginePlan(
            title="test desk",
            live=False,
            clock=self.clock,
            store=self.store,
            journal=self.journal,
            import_journal=imported,
            jobs=jobs,
            kill_latch=FileKillLatch(self.state / "KILL", files),
            account_lock=self.lock,
            holder=self.options.get("holder", Holder("desk under test", "here")),
            take_over=self.options.get("take_over", False),
            watchdog=self.watchdog,
            source=self.feed,
            accounts=(
                PlannedAccount(manager=self.manager, broker="paper", live=False, identity="paper", faults=self.faults),
                *((self._idle(),) if self.options.get("idle") else ()),
            ),
            sessions=tuple(
                PlannedSession(settings=self.session_settings(symbol), strategy=self.strategies[symbol])
                for symbol in self.symbols
            ),
            instruments=INSTRUMENTS,
            portfolio=self.options.get("portfolio", PortfolioSettings()),
            numbers=self.options.get("numbers", Numbers()),
            shutdown=ShutdownPolicy.CANCEL_ENTRIES,
            settle_journal=settled,
        )

    def _idle(self) -> PlannedAccount:
        """A second account of the desk, without a session."""
        link = PaperLink(IDLE, self.exchange, self.clock, Random(2), LinkOptions(latency_ms=(5.0, 10.0)))
        manager = PaperAccount(IDLE, self.exchange, link)
        return PlannedAccount(manager=manager, broker="paper", live=False, identity="idle", faults=None)

    def session_settings(self, symbol: Symbol) -> SessionSettings:
        """Generous limits, two contracts, stops demanded; `options["session"]` replaces fields."""
        settings = SessionSettings(
            id=SessionId(f"s-{symbol}"),
            account=PAPER,
            symbol=symbol,
            strategy="scripted",
            timeframe=Timeframe(MINUTE),
            warmup=2,
            sizing=FixedSize(Decimal(2)),
            limits=SessionLimits(
                max_order_size=Decimal(10),
                max_position_size=Decimal(10),
                entries_per_minute=10,
                entries_per_day=100,
                price_collar=Decimal("0.05"),
                max_daily_loss=Decimal(50_000),
                worst_case_per_contract=Decimal(2_500),
            ),
        )
        return replace(settings, **self.options.get("session", {}))

    # -- life ---------------------------------------------------------------------------------------------

    async def start(self, *, trading: bool = True) -> Desk:
        """Start; with `trading` the market has a past and the call returns when every session trades."""
        if trading:
            for symbol in self.symbols:
                base = self.clock.now() - 4 * MINUTE
                for step in range(16):
                    tick = Tick(symbol, base + step * 15_000, Decimal(5000 if symbol == ES else 20000), Decimal(1))
                    self.feed.market.setdefault(symbol, []).append(tick)
                    self.exchange.on_tick(tick)
        starting = asyncio.ensure_future(self.engine.start())
        while not starting.done():
            await self.clock.advance(self.clock.now() + 20)
        await starting
        if trading:
            await self.until(lambda: all(run.desk.phase is Phase.TRADING for run in self.engine.sessions.values()), 30)
            for symbol in self.symbols:
                self.feed.trade(symbol, "5000" if symbol == ES else "20000")
            await self.pass_(1)
        return self

    async def stop(self, policy: ShutdownPolicy = ShutdownPolicy.LEAVE) -> None:
        """End this life in order."""
        stopping = asyncio.ensure_future(self.engine.stop(policy, lambda line: None))
        while not stopping.done():
            await self.clock.advance(self.clock.now() + 50)
        await stopping
        await self.overrides.close()
        self.watchdog.close()
        self.blocking.close()

    async def pass_(self, seconds: float) -> None:
        """Let time pass, everything that is due happening on the way."""
        await self.clock.advance(self.clock.now() + round(seconds * 1000))

    async def until(self, predicate: Callable[[], bool], seconds: float) -> None:
        """Let time pass until `predicate` holds; fails with what stood after that many seconds of desk time."""
        deadline = self.clock.now() + round(seconds * 1000)
        while not predicate():
            assert self.clock.now() < deadline, f"not within {seconds} s: {self.describe()}"
            await self.clock.advance(self.clock.now() + 50)

    async def next_candle(self, symbol: Symbol, price: str | Decimal) -> None:
        """Trade at `price` in the next window, so that the one before closes and the strategy runs on it."""
        window = Timeframe(MINUTE)
        await self.clock.advance(window.start_of(self.clock.now()) + MINUTE)
        self.feed.trade(symbol, price)
        await self.clock.settle()

    async def send(self, make: Callable[[c.Origin], c.Command]) -> c.Receipt:
        """Dispatch a command and return its receipt; time passes while it is worked on."""
        self._commands += 1
        origin = c.Origin(
            id=CommandId(f"test-{id(self)}-{self._commands}"), operator="test", place="test", at=self.clock.now()
        )
        task = asyncio.ensure_future(self.overrides.dispatch(make(origin)))
        while not task.done():
            await self.clock.advance(self.clock.now() + 20)
        return task.result()

    # -- looking ------------------------------------------------------------------------------------------

    def trader(self, symbol: Symbol = ES) -> RealtimeTrader:
        return self.engine.sessions[SessionId(f"s-{symbol}")].trader

    def orders(self, role: Role | None = None, symbol: Symbol = ES) -> list[Order]:
        return [o for o in self.trader(symbol).desk.book if role is None or o.role is role]

    def position(self, symbol: Symbol = ES) -> Decimal:
        return self.trader(symbol).desk.book.position.quantity

    def broker_position(self, symbol: Symbol = ES) -> Decimal:
        rows = {row.symbol: row.quantity for row in self.exchange.positions(PAPER)}
        return rows.get(symbol, Decimal(0))

    def snapshot(self) -> DeskSnapshot:
        return take(self.engine, LoopLag(0, 0, 0))

    def blocks(self, symbol: Symbol = ES) -> tuple[str, ...]:
        view = self.snapshot().session(SessionId(f"s-{symbol}"))
        assert view is not None
        return view.blocks

    def describe(self) -> str:
        lines = [f"at {self.clock.now() - START} ms"]
        for run in self.engine.sessions.values():
            lines.append(f"{run.id}: {run.desk.phase} {run.desk.phase_detail} blocks={run.desk.blocks.reasons()}")
            lines.append(f"  position {run.desk.book.position} decisions {run.desk.decisions[-3:]}")
            lines += [
                f"  {o.role} {o.state} {o.terms.side} {o.filled}/{o.terms.quantity} {o.reason}" for o in run.desk.book
            ]
        lines += [f"alert {a.text}" for a in self.engine.board.alerts()]
        return "\n".join(lines)


class _Ids:
    def __init__(self, state: Path) -> None:
        self._prefix = state.name
        self._count = 0

    def fresh(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._prefix}-{self._count}"

"""One simulated world: a market, an exchange, a database, files, and desks that come and go in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from decimal import Decimal

from brokers.paper.exchange import PaperExchange
from brokers.paper.options import AccountTerms, ExchangeOptions
from engine.domain.broker import BrokerFill
from engine.domain.decisions import StrategyContext
from engine.domain.ids import AccountId, Millis, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Timeframe
from engine.domain.risk import HeatLimits, PortfolioSettings
from engine.domain.settings import FixedSize, Numbers, SessionLimits, SessionSettings
from tests.simulation.database import SimDatabase
from tests.simulation.day_faults import narrowed
from tests.simulation.desk import Durable, Locks
from tests.simulation.feed import FeedTrouble
from tests.simulation.files import SimFiles
from tests.simulation.house_faults import SHORT, TIGHT, TIGHT_GROUP
from tests.simulation.loop import Life, SimClock, SimLoop
from tests.simulation.market import Market
from tests.simulation.options import Options
from tests.simulation.streams import Streams
from tests.simulation.wire import WireTrouble, Witness

START: Millis = 1_767_656_700_000  # Monday 2026-01-05 23:45 UTC: the trade date ends a quarter of an hour later
ES, NQ, CL = Symbol("ESZ6"), Symbol("NQZ6"), Symbol("CLF7")
INSTRUMENTS = (
    Instrument(
        symbol=ES, tick_size=Decimal("0.25"), point_value=Decimal(50), group="us-index", worst_case=Decimal(2_500)
    ),
    Instrument(
        symbol=NQ, tick_size=Decimal("0.25"), point_value=Decimal(20), group="us-index", worst_case=Decimal(4_000)
    ),
    Instrument(
        symbol=CL, tick_size=Decimal("0.01"), point_value=Decimal(1_000), group="energy", worst_case=Decimal(2_000)
    ),
)
FIRST, SECOND = AccountId("first"), AccountId("second")
PLACES = ((FIRST, ES), (SECOND, CL), (FIRST, NQ), (SECOND, ES))
MAX_POSITION = Decimal(8)
WIDE = HeatLimits(warn=Decimal(60), block=Decimal(80), release=Decimal(5))


def session_id(account: AccountId, symbol: Symbol) -> SessionId:
    """The session that trades a contract of an account."""
    return SessionId(f"{account}-{symbol}")


def _settings(account: AccountId, symbol: Symbol) -> SessionSettings:
    return SessionSettings(
        id=session_id(account, symbol),
        account=account,
        symbol=symbol,
        strategy="restless",
        timeframe=Timeframe(60_000),
        warmup=3,
        sizing=FixedSize(Decimal(2)),
        limits=SessionLimits(
            max_order_size=Decimal(5),
            max_position_size=MAX_POSITION,
            entries_per_minute=4,
            entries_per_day=2_000,
            price_collar=Decimal("0.05"),
            max_daily_loss=Decimal(50_000_000),
            worst_case_per_contract=Decimal(2_500),
        ),
    )


class WatchedExchange(PaperExchange):
    """The paper exchange, whose executions somebody watches."""

    on_fill: Callable[[AccountId, BrokerFill], None] | None = None

    def tell_fill(self, account: AccountId, fill: BrokerFill) -> None:
        """Stream it, and let the watcher see it with the position already moved."""
        super().tell_fill(account, fill)
        if self.on_fill is not None:
            self.on_fill(account, fill)


class World:
    """Everything durable of one run, and the desk that lives now."""

    def __init__(
        self, options: Options, witness: Witness, watch: Callable[[Life, SessionId, StrategyContext], None]
    ) -> None:
        self.options = options
        self.counts: Counter[str] = Counter()
        self.trace: list[str] | None = None
        self._digest = hashlib.blake2b(digest_size=12)
        self.streams = Streams(f"{options.seed}/{options.mode}")
        self.loop = SimLoop(START, self.streams.of("loop"))
        self.clock = SimClock(self.loop, None)
        places = PLACES[: options.sessions]
        self.accounts = tuple(dict.fromkeys(account for account, _ in places))
        instruments = tuple(i for i in INSTRUMENTS if any(symbol == i.symbol for _, symbol in places))
        self.exchange = WatchedExchange(
            instruments,
            tuple(
                AccountTerms(
                    account=account,
                    equity=Decimal(50_000_000),
                    fee_per_unit=Decimal(2),
                    margin_rate=Decimal("0.001"),
                    capabilities=options.capabilities[account],
                )
                for account in self.accounts
            ),
            ExchangeOptions(slippage_ticks=1),
        )
        self.market = Market(instruments, self.clock, self.streams.of("market"))
        self.market.listeners.append(self.exchange.on_tick)
        self.database = SimDatabase(self.streams.of("database"), self.hit)
        self.files = SimFiles(self.streams.of("files"), self.clock.now, self.hit)
        self.all_files = [self.files]
        self.durable = Durable(
            loop=self.loop,
            clock=self.clock,
            streams=self.streams,
            exchange=self.exchange,
            market=self.market,
            database=self.database,
            files=self.files,
            locks=Locks(),
            wires={account: WireTrouble() for account in self.accounts},
            feed=FeedTrouble(),
            witness=witness,
            instruments=instruments,
            accounts=self.accounts,
            sessions=narrowed(tuple(_settings(account, symbol) for account, symbol in places), options.faults),
            portfolio=PortfolioSettings(
                limits=TIGHT if "tight heat" in options.faults else WIDE,
                groups=(TIGHT_GROUP,) if "tight heat" in options.faults else (),
            ),
            numbers=SHORT if "short deadline" in options.faults else Numbers(),
            watch=watch,
            hit=self.hit,
        )

    def move(self, durable: Durable) -> None:
        """The desk's home is another machine from now on."""
        self.durable = durable
        if durable.files is not self.files:
            self.files = durable.files
            self.all_files.append(durable.files)

    def hit(self, what: str) -> None:
        """Something worth counting happened now."""
        self.counts[what] += 1
        self.note(what)

    def note(self, line: str) -> None:
        """Part of the trace: two runs of a seed agree on every line."""
        self._digest.update(f"{self.loop.at} {line}\n".encode())
        if self.trace is not None:
            self.trace.append(f"{(self.loop.at - START) / 1000:11.3f} {line}")

    @property
    def digest(self) -> str:
        """Of everything noted, and of how many steps it took."""
        final = self._digest.copy()
        final.update(f"{self.loop.steps} {self.database.commits} {self.market.ticks}".encode())
        return final.hexdigest()

    def close(self) -> None:
        """Let everything go."""
        self.loop.close()
        self.database.close()

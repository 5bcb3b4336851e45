"""A desk as configured: frozen values that bootstrap builds the desk from."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct, field

from console.alerting import AlertSettings
from engine.domain.broker import Capabilities
from engine.domain.ids import AccountId, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import ZERO
from engine.domain.postgres_url import PostgresUrl
from engine.domain.risk import PortfolioSettings
from engine.domain.settings import Numbers, SessionSettings, ShutdownPolicy

DATABASE_FILE = "desk.sqlite3"


class FeedKind(StrEnum):
    """Where prices come from."""

    SYNTHETIC = "synthetic"
    REPLAY = "replay"


class HangUp(StrEnum):
    """What a lost terminal means. Staying needs a console that can attach again, which is not there yet."""

    SHUTDOWN = "shutdown"


class SqliteFile(Struct, frozen=True, tag="sqlite"):
    """The audit trail in a SQLite file."""

    path: Path


Database: TypeAlias = SqliteFile | PostgresUrl


class AccountSettings(Struct, frozen=True, kw_only=True):
    """One account, and how its paper exchange behaves.

    Money in `currency`; `margin_rate` is the fraction of notional value held for a symbol that
    `margin_per_unit` does not list; one way over the wire takes up to `latency_ms`; `max_fill` caps what
    one order fills at one tick (None: whole).
    """

    id: AccountId
    broker: str = "paper"
    live: bool = False
    equity: Decimal = Decimal(100_000)
    currency: str = "USD"
    fee_per_unit: Decimal = ZERO
    margin_rate: Decimal = Decimal("0.05")
    margin_per_unit: dict[Symbol, Decimal] = field(default_factory=dict)
    capabilities: Capabilities = Capabilities()
    latency_ms: int = 20
    slippage_ticks: int = 1
    max_fill: Decimal | None = None


class DeskSettings(Struct, frozen=True, kw_only=True):
    """Everything a desk needs to start; paths are absolute.

    `origin` says in words where the settings come from. `replay` and `replay_symbol` are set when `feed` is a
    recording. `exchange` is the socket of an exchange process, None for an exchange inside this one. `temporary`
    says that `state_dir` was made for this run alone and may be removed after it. `keys` are an operator's own, by the
    action's name, each as Textual names it.
    """

    title: str = "Sextant"
    origin: str = ""
    feed: FeedKind = FeedKind.SYNTHETIC
    exchange: Path | None = None
    replay: Path | None = None
    replay_symbol: Symbol | None = None
    seed: int = 7
    state_dir: Path
    database: Database
    temporary: bool = False
    shutdown: ShutdownPolicy = ShutdownPolicy.CANCEL_ENTRIES
    on_hangup: HangUp = HangUp.SHUTDOWN
    alerts: AlertSettings = AlertSettings()
    keys: dict[str, str] = field(default_factory=dict)
    operator: str = "operator"
    numbers: Numbers = Numbers()
    portfolio: PortfolioSettings = PortfolioSettings()
    accounts: tuple[AccountSettings, ...] = ()
    sessions: tuple[SessionSettings, ...] = ()
    instruments: tuple[Instrument, ...] = ()

    def instrument(self, symbol: Symbol) -> Instrument:
        """The instrument of that symbol. Raises KeyError."""
        for instrument in self.instruments:
            if instrument.symbol == symbol:
                return instrument
        raise KeyError(symbol)

    def session(self, name: SessionId) -> SessionSettings:
        """The session of that name. Raises KeyError."""
        for session in self.sessions:
            if session.id == name:
                return session
        raise KeyError(name)

"""`[desk] [portfolio] [accounts.*] [instruments.*]` become a desk: each key checked, and what holds between them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec import Struct, convert
from msgspec.structs import fields, replace

from console import config_values as read
from console.config_alerts import alert_settings
from console.config_keys import KEYS
from console.config_model import (
    DATABASE_FILE,
    AccountSettings,
    Database,
    DeskSettings,
    FeedKind,
    HangUp,
    SqliteFile,
)
from console.config_own_keys import own_keys
from console.config_session import session_settings
from console.config_source import Section, Source, suggest
from console.config_values import PERCENT, POSITIVE
from console.process_log import hide
from engine.domain.broker import Capabilities, Enforcer, FillsKind, IdMode, ReplaceId, ReplaceQuantity
from engine.domain.calendar import ALWAYS_OPEN, Calendar
from engine.domain.ids import AccountId, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.postgres_url import SCHEMES, postgres_url
from engine.domain.risk import GroupLimits, HeatLimits, PortfolioSettings
from engine.domain.settings import (
    Numbers,
    SessionSettings,
    ShutdownPolicy,
)


class Elsewhere(Struct, frozen=True, kw_only=True):
    """What the command line and the environment say before the file is read; None: nothing.

    `default_state_dir` is used when nobody names one.
    """

    state_dir: Path | None = None
    database: Database | None = None
    default_state_dir: Path
    operator: str


def desk_settings(source: Source, document: dict[str, Any], base: Path, elsewhere: Elsewhere) -> DeskSettings:
    """Check a parsed file and make it a desk; relative paths start at `base`.

    Raises ConfigurationError naming file, line and key of the first thing that cannot be run.
    """
    root = Section(source, (), document, KEYS[""])
    desk = root.section("desk", KEYS["desk"])
    feed = desk.take("feed", read.choice(FeedKind), FeedKind.SYNTHETIC)
    replay = desk.take("replay", read.path_from(base), None)
    if (feed is FeedKind.REPLAY) != (replay is not None):
        raise desk.refuse(
            "feed" if replay is None else "replay",
            'needs replay = "FILE", the recording to play' if replay is None else 'needs feed = "replay" beside it',
        )
    exchange = desk.take("exchange", lambda value: exchange_at(read.text(value), base), None)
    if exchange is not None and feed is FeedKind.REPLAY:
        raise desk.refuse("exchange", 'cannot stand beside feed = "replay": a recording brings its own exchange')
    written = desk.take("state_dir", read.path_from(base), elsewhere.default_state_dir)
    state_dir = elsewhere.state_dir or written
    database = desk.take("db", lambda value: database_at(read.text(value), base), None)
    if elsewhere.state_dir is not None or database is None:  # another state directory is another desk
        database = SqliteFile(state_dir / DATABASE_FILE)
    instruments = tuple(_instrument(name, section) for name, section in _instruments(root))
    accounts = tuple(
        _account(name, section) for name, section in root.named("accounts", KEYS["accounts.NAME"], read.name)
    )
    portfolio = _portfolio(root.section("portfolio", KEYS["portfolio"]), instruments)
    for account in accounts:
        if account.currency != portfolio.currency:
            raise source.refuse(
                ("accounts", account.id, "currency"),
                f"is {account.currency} but the portfolio counts in {portfolio.currency}; "
                "converting is not available yet, so make them the same",
            )
    _one_exchange(source, accounts, instruments)
    settings = DeskSettings(
        title=desk.take("title", read.text, "Sextant"),
        origin=source.name,
        feed=feed,
        exchange=exchange,
        replay=replay,
        replay_symbol=desk.take("replay_symbol", _symbol, None),
        seed=desk.take("seed", read.whole(at_least=0), 7),
        state_dir=state_dir,
        database=elsewhere.database or database,
        shutdown=desk.take("shutdown", read.choice(ShutdownPolicy), ShutdownPolicy.CANCEL_ENTRIES),
        on_hangup=desk.take("on_hangup", _on_hangup, HangUp.SHUTDOWN),
        keys=own_keys(root),
        alerts=alert_settings(root.section("alerts", KEYS["alerts"]), base),
        operator=desk.take("operator", read.name, elsewhere.operator),
        numbers=_numbers(desk.section("numbers", KEYS["desk.numbers"])),
        portfolio=portfolio,
        accounts=accounts,
        instruments=instruments,
    )
    sessions: list[SessionSettings] = []
    for name, section in root.named("sessions", KEYS["sessions.NAME"], read.name):
        sessions.append(session_settings(SessionId(name), section, settings, base, sessions))
    if not sessions:
        raise root.refuse("sessions", "has no session; add a table such as [sessions.first] with account and symbol")
    return replace(settings, sessions=tuple(sessions))


def database_at(written: str, base: Path) -> Database:
    """The database behind `--db` or `db`: a file, `sqlite:///` and a file, or a PostgreSQL URL. Raises ValueError.

    The password of a URL is hidden from the log from here on, and never repeated.
    """
    scheme, separator, rest = written.partition("://")
    if not separator:
        return SqliteFile(read.path_from(base)(written))
    if scheme.partition("+")[0] in SCHEMES:
        url = postgres_url(written)
        hide(url.password)
        return url
    if scheme != "sqlite" or not rest.startswith("/") or len(rest) < 2:
        raise ValueError(
            "must be a file such as desk.sqlite3, sqlite:////absolute/path/desk.sqlite3, or postgresql://USER@HOST/DATABASE"
        )
    return SqliteFile(read.path_from(base)(rest[1:]))


def exchange_at(written: str, base: Path) -> Path:
    """The socket behind `--exchange` or `exchange`: `unix:PATH`, or a path. Raises ValueError."""
    scheme, separator, rest = written.partition(":")
    if separator and scheme != "unix" and "/" not in scheme:
        raise ValueError(f'must be a socket such as "unix:/run/user/1000/exchange.sock", not {read.shown(written)}')
    return read.path_from(base)(rest if scheme == "unix" and separator else written)


def _symbol(value: Any) -> Symbol:
    return Symbol(read.symbol(value))


def _on_hangup(value: Any) -> HangUp:
    if value == "stay":
        raise ValueError('cannot be "stay" until a console can attach to a running desk; write "shutdown"')
    return read.choice(HangUp)(value)


def _numbers(section: Section) -> Numbers:
    count, positive = read.whole(at_least=0, at_most=1_000_000), read.whole(at_least=1, at_most=1_000_000)
    found: dict[str, Any] = {}
    for known in fields(Numbers):
        reader: Callable[[Any], Any]
        if known.type is float:
            reader = read.seconds()
        elif known.type is Decimal:
            reader = read.number(at_least=0)
        else:  # a gap floor of no ticks is one that does not bind; no tries at all would be no procedure
            reader = count if known.name.startswith("gap_floor") else positive
        found[known.name] = section.take(known.name, reader, known.default)
    if found["lease_renewal"] * 3 >= found["lease"]:
        raise section.refuse(
            "lease_renewal" if "lease_renewal" in section else "lease",
            f"makes no sense: lease ({found['lease']:g} s) must outlast three renewals of {found['lease_renewal']:g} s",
        )
    return convert(found, Numbers)


def _portfolio(section: Section, instruments: tuple[Instrument, ...]) -> PortfolioSettings:
    default, heat = PortfolioSettings(), HeatLimits()
    limits = HeatLimits(
        warn=section.take("warn", PERCENT, heat.warn),
        block=section.take("block", PERCENT, heat.block),
        release=section.take("release", read.number(at_least=0, at_most=100), heat.release),
    )
    if limits.warn >= limits.block:
        raise section.refuse(
            "warn" if "warn" in section else "block",
            f"makes no sense: warn ({limits.warn:f} %) must lie below block ({limits.block:f} %)",
        )
    if limits.release >= limits.block:
        raise section.refuse(
            "release" if "release" in section else "block",
            f"makes no sense: release ({limits.release:f}) must be smaller than block ({limits.block:f}), or nothing "
            "would ever open it again; lower release or raise block",
        )
    raw = section.table("groups")
    groups = Section(section.source, (*section.path, "groups"), raw, tuple(raw))
    there = {instrument.group for instrument in instruments if instrument.group}
    for group in raw:
        if group not in there:
            raise groups.refuse(group, f"is the group of no instrument; {suggest(group, there)}")
        block = groups.take(group, PERCENT)
        if block <= limits.release:  # the limits editor would refuse every change beside it, a tighter one too
            raise groups.refuse(
                group,
                f"makes no sense: its block ({block:f} %) must lie above release ({limits.release:f}), or nothing "
                "would ever open it again; raise it or lower release",
            )
    return PortfolioSettings(
        currency=section.take("currency", read.currency, default.currency),
        limits=limits,
        groups=tuple(GroupLimits(name=group, block=groups.take(group, PERCENT)) for group in raw),
        equity_max_age_ms=section.take("equity_max_age", read.milliseconds(), default.equity_max_age_ms),
        dead_after_ms=section.take("dead_after", read.milliseconds(), default.dead_after_ms),
        equity_jump=section.take("equity_jump", read.number(above=0, at_most=1), default.equity_jump),
    )


def _account(name: str, section: Section) -> AccountSettings:
    default, can = AccountSettings(id=AccountId(name)), Capabilities()
    raw = section.table("margin_per_unit")
    margins = Section(section.source, (*section.path, "margin_per_unit"), raw, tuple(raw))
    if section.take("live", read.flag, False):
        raise section.refuse("live", "cannot be true: this release trades paper accounts only; write live = false")
    return AccountSettings(
        id=default.id,
        broker=section.take("broker", _broker, default.broker),
        equity=section.take("equity", POSITIVE, default.equity),
        currency=section.take("currency", read.currency, default.currency),
        fee_per_unit=section.take("fee_per_unit", read.number(at_least=0), default.fee_per_unit),
        margin_rate=section.take("margin_rate", read.number(at_least=0, at_most=1), default.margin_rate),
        margin_per_unit={Symbol(key): margins.take(key, read.number(at_least=0)) for key in raw},
        latency_ms=section.take("latency_ms", read.whole(at_least=0, at_most=60_000), default.latency_ms),
        slippage_ticks=section.take("slippage_ticks", read.whole(at_least=0, at_most=1000), default.slippage_ticks),
        max_fill=section.take("max_fill", POSITIVE, default.max_fill),
        capabilities=Capabilities(
            id_mode=section.take("id_mode", read.choice(IdMode), can.id_mode),
            find_by_client_id=section.take("find_by_client_id", read.flag, can.find_by_client_id),
            fills=section.take("fills", read.choice(FillsKind), can.fills),
            replace_id=section.take("replace_id", read.choice(ReplaceId), can.replace_id),
            replace_quantity=section.take("replace_quantity", read.choice(ReplaceQuantity), can.replace_quantity),
            replace_may_change_type=section.take("replace_may_change_type", read.flag, can.replace_may_change_type),
            one_cancels_other=section.take("one_cancels_other", read.choice(Enforcer), can.one_cancels_other),
            brackets=section.take("brackets", read.flag, can.brackets),
            settle_ms=section.take("settle_ms", read.whole(at_least=0, at_most=1000), can.settle_ms),
        ),
    )


def _one_exchange(source: Source, accounts: tuple[AccountSettings, ...], instruments: tuple[Instrument, ...]) -> None:
    """The paper accounts of a desk trade on one exchange, and margins are for contracts that it lists."""
    listed = {instrument.symbol for instrument in instruments}
    for account in accounts:
        for key in ("slippage_ticks", "max_fill"):
            if getattr(account, key) != getattr(accounts[0], key):
                raise source.refuse(
                    ("accounts", account.id, key),
                    f"differs from that of account {accounts[0].id}; one exchange fills both, so make them the same",
                )
        for symbol in account.margin_per_unit:
            if symbol not in listed:
                raise source.refuse(
                    ("accounts", account.id, "margin_per_unit", symbol),
                    f"is no instrument of this desk; {suggest(symbol, listed)}",
                )


def _broker(value: Any) -> str:
    if value != "paper":
        raise ValueError(f'must be "paper", the only broker of this release, not {read.shown(value)}')
    return "paper"


def _instruments(root: Section) -> list[tuple[str, Section]]:
    return list(root.named("instruments", KEYS["instruments.SYMBOL"], read.symbol))


def _instrument(name: str, section: Section) -> Instrument:
    instrument = Instrument(
        symbol=Symbol(name),
        tick_size=section.take("tick_size", POSITIVE, need="the smallest step of its price"),
        point_value=section.take("point_value", POSITIVE, Decimal(1)),
        currency=section.take("currency", read.currency, "USD"),
        size_step=section.take("size_step", POSITIVE, Decimal(1)),
        calendar=_calendar(section),
        group=section.take("group", read.name, None),
        worst_case=section.take("worst_case", POSITIVE, None),
        stale_after_ms=section.take("stale_after", read.milliseconds(), 15_000),
        silent_after_ms=section.take("silent_after", read.milliseconds(), 60_000),
    )
    if instrument.silent_after_ms <= instrument.stale_after_ms:
        raise section.refuse(
            "silent_after" if "silent_after" in section else "stale_after",
            f"makes no sense: a feed is stale ({instrument.stale_after_ms / 1000:g} s) before it is silent "
            f"({instrument.silent_after_ms / 1000:g} s)",
        )
    return instrument


def _calendar(section: Section) -> Calendar:
    def always(value: Any) -> Calendar | None:
        if isinstance(value, dict):
            return None
        if value != "24/7":
            raise ValueError(f'must be "24/7" or a table with zone and hours, not {read.shown(value)}')
        return ALWAYS_OPEN

    by_default: Calendar | None = ALWAYS_OPEN
    plain = section.take("calendar", always, by_default)
    if plain is not None:
        return plain
    table = section.section("calendar", KEYS["instruments.SYMBOL.calendar"])
    zone = table.take("zone", read.zone, need="the exchange's time zone, such as America/Chicago")
    return Calendar(
        name=table.take("name", read.text, zone),
        zone=zone,
        open_minutes=table.take("hours", read.hours, ()),
        day_rolls_at=table.take("day_rolls_at", read.minutes, 0) % 1440,
        holidays=table.take("holidays", read.holidays, frozenset()),
    )

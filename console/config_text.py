"""A desk's settings as TOML that loads back to the same settings; what `doctor` prints."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_never

from console.alerting import AlertSettings, Channel
from console.config_model import AccountSettings, Database, DeskSettings
from console.config_source import dotted, quoted
from console.config_values import DAYS
from console.formatting import plain
from engine.domain.calendar import ALWAYS_OPEN, WEEK_MINUTES, Calendar
from engine.domain.instruments import Instrument
from engine.domain.market import Timeframe
from engine.domain.postgres_url import PostgresUrl
from engine.domain.settings import EntryWindow, FixedSize, RiskSize, SessionSettings, Sizing


def describe(settings: DeskSettings) -> list[str]:
    """The effective configuration, one line each: defaults written out, paths absolute."""
    lines = [f"# {plain(settings.origin)}"] if settings.origin else []
    for path, table in _tables(settings):
        lines += ["", f"[{dotted(path)}]"] if lines else [f"[{dotted(path)}]"]
        lines += [f"{dotted((key,))} = {_value(value)}" for key, value in table.items() if value is not None]
    return lines


def shown(database: Database) -> str:
    """The database as `db` names it; a password is left out."""
    return database.shown if isinstance(database, PostgresUrl) else str(database.path)


def _tables(settings: DeskSettings) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    yield (
        ("desk",),
        {
            "title": settings.title,
            "feed": settings.feed,
            "exchange": None if settings.exchange is None else f"unix:{settings.exchange}",
            "replay": settings.replay,
            "replay_symbol": settings.replay_symbol,
            "seed": settings.seed,
            "state_dir": settings.state_dir,
            "db": shown(settings.database),
            "shutdown": settings.shutdown,
            "on_hangup": settings.on_hangup,
            "operator": settings.operator,
        },
    )
    yield ("desk", "numbers"), {name: getattr(settings.numbers, name) for name in settings.numbers.__struct_fields__}
    yield ("alerts",), _alerts(settings.alerts)
    for channel in settings.alerts.channels:
        yield ("alerts", "channels", channel.name), _channel(channel)
    if settings.keys:
        yield ("keys",), {name: _key_written(key) for name, key in settings.keys.items()}
    portfolio = settings.portfolio
    yield (
        ("portfolio",),
        {
            "currency": portfolio.currency,
            "warn": portfolio.limits.warn,
            "block": portfolio.limits.block,
            "release": portfolio.limits.release,
            "groups": {group.name: group.block for group in portfolio.groups} or None,
            "equity_max_age": _seconds(portfolio.equity_max_age_ms),
            "dead_after": _seconds(portfolio.dead_after_ms),
            "equity_jump": portfolio.equity_jump,
        },
    )
    for account in settings.accounts:
        yield ("accounts", account.id), _account(account)
    for instrument in settings.instruments:
        yield ("instruments", instrument.symbol), _instrument(instrument)
    for session in settings.sessions:
        yield ("sessions", session.id), _session(session)
        yield (
            ("sessions", session.id, "limits"),
            {name: getattr(session.limits, name) for name in session.limits.__struct_fields__},
        )


def _key_written(key: str) -> str:
    from console.actions.keys import shown

    return key if key.startswith("ctrl+") else shown(key)


def _alerts(alerts: AlertSettings) -> dict[str, Any]:
    return {
        "bell": alerts.bell,
        "desktop": alerts.desktop,
        "desktop_code": alerts.desktop_code,
        "again_after": alerts.again_after,
        "per_minute": alerts.per_minute,
    }


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "form": channel.form,
        "from": channel.least,
        "url_env": channel.url_env,
        "url_file": channel.url_file,
    }


def _account(account: AccountSettings) -> dict[str, Any]:
    can = account.capabilities
    return {
        "broker": account.broker,
        "live": account.live,
        "equity": account.equity,
        "currency": account.currency,
        "fee_per_unit": account.fee_per_unit,
        "margin_rate": account.margin_rate,
        "margin_per_unit": account.margin_per_unit or None,
        "latency_ms": account.latency_ms,
        "slippage_ticks": account.slippage_ticks,
        "max_fill": account.max_fill,
        **{name: getattr(can, name) for name in can.__struct_fields__},
    }


def _instrument(instrument: Instrument) -> dict[str, Any]:
    return {
        "tick_size": instrument.tick_size,
        "point_value": instrument.point_value,
        "currency": instrument.currency,
        "size_step": instrument.size_step,
        "calendar": _calendar(instrument.calendar),
        "group": instrument.group,
        "worst_case": instrument.worst_case,
        "stale_after": _seconds(instrument.stale_after_ms),
        "silent_after": _seconds(instrument.silent_after_ms),
    }


def _session(session: SessionSettings) -> dict[str, Any]:
    return {
        "account": session.account,
        "symbol": session.symbol,
        "strategy": session.strategy,
        "timeframe": session.timeframe,
        "warmup": session.warmup,
        "arguments": session.arguments or None,
        "sizing": _sizing(session.sizing),
        "protection": session.protection,
        "missed_exit": session.missed_exit,
        "naked": session.naked,
        "force_exit_after": session.force_exit_after_s,
    }


def _sizing(sizing: Sizing) -> dict[str, Decimal]:
    match sizing:
        case FixedSize():
            return {"quantity": sizing.quantity}
        case RiskSize():
            return {"risk_percent": sizing.percent}
        case _:
            assert_never(sizing)


def _calendar(calendar: Calendar) -> str | dict[str, Any]:
    if calendar == ALWAYS_OPEN:
        return calendar.name
    return {
        "name": calendar.name,
        "zone": calendar.zone,
        "hours": [f"{_moment(begin)}-{_moment(end)}" for begin, end in calendar.open_minutes] or None,
        "day_rolls_at": _clock(calendar.day_rolls_at),
        "holidays": sorted(calendar.holidays) or None,
    }


def _moment(minutes: int) -> str:
    day, rest = divmod(minutes % WEEK_MINUTES, 1440)
    return f"{DAYS[day]} {_clock(rest)}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _seconds(milliseconds: int) -> Decimal:
    return Decimal(milliseconds) / 1000


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Decimal():
            return f"{value:f}"
        case int():
            return str(value)
        case float():
            # repr() of a float round-trips; through Decimal it never shows an exponent.
            return f"{Decimal(repr(value)):f}"
        case str():
            return quoted(value)
        case Path() | Timeframe():
            return quoted(str(value))
        case time():
            return quoted(f"{value:%H:%M}")
        case EntryWindow():
            return quoted(f"{value.opens:%H:%M}-{value.closes:%H:%M}")
        case date():
            return value.isoformat()
        case dict():
            inner = (f"{dotted((key,))} = {_value(item)}" for key, item in value.items() if item is not None)
            return "{ " + ", ".join(inner) + " }" if value else "{}"
        case list() | tuple():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case _:
            raise TypeError(f"{type(value).__name__} has no place in a configuration")

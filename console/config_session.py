"""`[sessions.NAME]`: a session, its limits and its sizing, and what must hold between them and the desk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from console import config_values as read
from console.config_keys import KEYS
from console.config_model import DeskSettings
from console.config_source import Section, suggest
from console.config_values import PERCENT, POSITIVE
from engine.domain.ids import AccountId, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Timeframe
from engine.domain.orders import ZERO
from engine.domain.risk import PortfolioSettings
from engine.domain.settings import (
    FixedSize,
    Protection,
    Remedy,
    RiskSize,
    SessionLimits,
    SessionSettings,
    Sizing,
)


def _one_of(known: Iterable[str], table: str, noun: str) -> Callable[[Any], str]:
    words = list(known)

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(
                f"names {noun} that is not there, {read.shown(value)}; {suggest(str(value), words)}"
                if words
                else f"names {noun}, but there is no [{table}] table; add one"
            )
        return value

    return check


def session_settings(
    name: SessionId, section: Section, desk: DeskSettings, base: Path, earlier: list[SessionSettings]
) -> SessionSettings:
    accounts = {account.id: account for account in desk.accounts}
    instruments = {instrument.symbol: instrument for instrument in desk.instruments}
    account = AccountId(
        section.take(
            "account", _one_of(accounts, "accounts.NAME", "an account"),
            need="the name of one of [accounts.*]",
        )
    )  # fmt: skip
    symbol = Symbol(
        section.take(
            "symbol", _one_of(instruments, "instruments.SYMBOL", "an instrument"),
            need="the name of one of [instruments.*]",
        )
    )  # fmt: skip
    for other in earlier:
        if (other.account, other.symbol) == (account, symbol):
            raise section.refuse(
                "symbol",
                f"is already traded on account {account} by session {other.id}; "
                "one contract of one account takes one session, so give this one another",
            )
    instrument = instruments[symbol]
    if instrument.currency != accounts[account].currency:
        raise section.refuse(
            "symbol",
            f"is priced in {instrument.currency} but account {account} holds {accounts[account].currency}; "
            "converting is not available yet, so use an account in that currency",
        )
    protection = section.take("protection", read.choice(Protection), Protection.STOP)
    limits = _limits(section.section("limits", KEYS["sessions.NAME.limits"]))
    return SessionSettings(
        id=name,
        account=account,
        symbol=symbol,
        strategy=section.take("strategy", read.strategy_from(base), need="a strategy's name, or path.py:Class"),
        timeframe=section.take("timeframe", read.timeframe, Timeframe(60_000)),
        limits=limits,
        sizing=_sizing(section, limits, protection, instrument, desk.portfolio),
        protection=protection,
        arguments=section.take("arguments", _arguments, {}),
        warmup=section.take("warmup", read.whole(at_least=0, at_most=100_000), 50),
        missed_exit=section.take("missed_exit", read.choice(Remedy), Remedy.EXIT),
        naked=section.take("naked", read.choice(Remedy), Remedy.EXIT),
        force_exit_after_s=section.take("force_exit_after", read.seconds(), None),
    )


def _arguments(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be a table such as { fast = 5, slow = 13 }")
    return read.arguments(value)


def _limits(section: Section) -> SessionLimits:
    size = "how many contracts (every session must set this limit)"
    limits = SessionLimits(
        max_order_size=section.take("max_order_size", POSITIVE, need=size),
        max_position_size=section.take("max_position_size", POSITIVE, need=size),
        entries_per_minute=section.take(
            "entries_per_minute", read.whole(at_least=1), need="how many entries (every session must set this limit)"
        ),
        entries_per_day=section.take(
            "entries_per_day", read.whole(at_least=1), need="how many entries (every session must set this limit)"
        ),
        price_collar=section.take(
            "price_collar",
            read.number(above=0, at_most=1),
            need="a fraction of the mark such as 0.02 (every session must set this limit)",
        ),
        max_daily_loss=section.take("max_daily_loss", POSITIVE, need="money (every session must set this limit)"),
        worst_case_per_contract=section.take(
            "worst_case_per_contract",
            POSITIVE,
            need="the money one unit may lose without a stop (every session must set this limit)",
        ),
        entry_window=section.take("entry_window", read.entry_window, None),
        flat_by=section.take("flat_by", read.clock, None),
    )
    if limits.max_order_size > limits.max_position_size:
        raise section.refuse(
            "max_order_size",
            f"makes no sense: one order ({limits.max_order_size:f}) may not be larger than the whole position "
            f"({limits.max_position_size:f})",
        )
    if limits.entries_per_minute > limits.entries_per_day:
        raise section.refuse(
            "entries_per_minute",
            f"makes no sense: {limits.entries_per_minute} a minute are more than {limits.entries_per_day} a day",
        )
    return limits


def _sizing(
    section: Section,
    limits: SessionLimits,
    protection: Protection,
    instrument: Instrument,
    portfolio: PortfolioSettings,
) -> Sizing:
    table = section.section("sizing", KEYS["sessions.NAME.sizing"])
    if ("quantity" in table) == ("risk_percent" in table):
        raise section.refuse("sizing", "must be { quantity = 1 } or { risk_percent = 1 }, one of the two")
    if "quantity" in table:
        quantity = table.take("quantity", POSITIVE)
        if quantity > limits.max_order_size:
            raise table.refuse(
                "quantity",
                f"({quantity:f}) is above limits.max_order_size ({limits.max_order_size:f}), "
                "so every entry would be denied; lower it or raise the limit",
            )
        if quantity % instrument.size_step != ZERO:
            raise table.refuse(
                "quantity",
                f"({quantity:f}) is no multiple of the size_step of {instrument.symbol} ({instrument.size_step:f})",
            )
        return FixedSize(quantity)
    if protection is Protection.NONE:
        raise table.refuse(
            "risk_percent", 'needs a stop to count the risk to; write protection = "stop", or a quantity instead'
        )
    percent = table.take("risk_percent", PERCENT)
    if percent >= portfolio.limits.block:
        raise table.refuse(
            "risk_percent",
            f"({percent:f}) is not below the portfolio's block ({portfolio.limits.block:f} %), "
            "so every entry would be denied; lower it",
        )
    return RiskSize(percent)

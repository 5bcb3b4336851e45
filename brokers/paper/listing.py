"""What an exchange process lists: contracts, accounts and their terms; the demo desk's, or those of a sextant.toml.

A desk says hello with what it believes is listed. `differs` compares, so that a price step, a point value or a
broker's manners that two files spell differently turn the desk away instead of costing money.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from brokers.paper.options import AccountTerms, ExchangeOptions, demo_accounts, demo_instruments
from brokers.paper.wire import Hello
from engine.domain.broker import Capabilities
from engine.domain.calendar import ALWAYS_OPEN, WEEK_MINUTES, Calendar
from engine.domain.ids import AccountId, Symbol
from engine.domain.instruments import Instrument
from engine.errors import ConfigurationError

T = TypeVar("T")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPAN = re.compile(r"(\w{3}) (\d?\d):(\d\d) ?- ?(?:(\w{3}) )?(\d?\d):(\d\d)")
AGREED = ("tick_size", "point_value", "currency", "size_step", "calendar")
"""What desk and exchange must say alike of a contract; the rest is the desk's own."""


class Listing(Struct, frozen=True, kw_only=True):
    """One exchange; `latency_ms` is the longest one way over each account's wire."""

    instruments: tuple[Instrument, ...]
    accounts: tuple[AccountTerms, ...]
    options: ExchangeOptions = ExchangeOptions()
    latency_ms: dict[AccountId, int]
    seed: int = 7


def demo_listing(seed: int = 7) -> Listing:
    """The embedded paper desk's contracts and account."""
    accounts = demo_accounts()
    return Listing(
        instruments=demo_instruments(),
        accounts=accounts,
        latency_ms={terms.account: 20 for terms in accounts},
        seed=seed,
    )


def differs(listing: Listing, hello: Hello) -> str | None:
    """The first thing that a client believes and the exchange does not, as a sentence; None when they agree."""
    listed = {instrument.symbol: instrument for instrument in listing.instruments}
    for wanted in hello.instruments:
        if (ours := listed.get(wanted.symbol)) is None:
            return f"the exchange does not list {wanted.symbol}"
        for name in AGREED:
            here, there = getattr(ours, name), getattr(wanted, name)
            if here != there:
                return f"the exchange lists {wanted.symbol} with {name} {_said(here)}, the desk believes {_said(there)}"
    if hello.account is None:
        return None
    terms = next((each for each in listing.accounts if each.account == hello.account.account), None)
    if terms is None:
        return f"the exchange keeps no account {hello.account.account}"
    if terms.currency != hello.account.currency:
        return f"the exchange keeps account {terms.account} in {terms.currency}, not in {hello.account.currency}"
    for name in Capabilities.__struct_fields__:
        here, there = getattr(terms.capabilities, name), getattr(hello.account.capabilities, name)
        if here != there:
            manner = f"account {terms.account} with {name} {_said(here)}"
            return f"the exchange keeps {manner}, the desk believes {_said(there)}"
    return None


def _said(value: Any) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else value.name if isinstance(value, Calendar) else str(value)


# ---------------------------------------------------------------------------------------- a desk's own file


def read_listing(file: Path, seed: int | None = None) -> Listing:
    """The accounts and instruments of a desk's configuration. Raises ConfigurationError with one sentence.

    Only what the exchange needs is read: `sextant doctor --config FILE` checks the whole file, line by line.
    """
    try:
        document = tomllib.loads(file.read_bytes().decode("utf-8-sig"), parse_float=Decimal)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror}); correct --config") from None
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise ConfigurationError(f"{file} is not TOML ({error})") from None
    try:
        desk = _table(document, "desk")
        instruments = tuple(_instrument(name, raw) for name, raw in _tables(document, "instruments"))
        accounts = tuple(_account(name, raw) for name, raw in _tables(document, "accounts"))
        first = next(iter(_tables(document, "accounts")), ("", {}))[1]
        listing = Listing(
            instruments=instruments,
            accounts=accounts,
            options=ExchangeOptions(
                slippage_ticks=_take(first, "slippage_ticks", int, 1),
                max_fill=_take(first, "max_fill", Decimal, None),
            ),
            latency_ms={
                AccountId(name): _take(raw, "latency_ms", int, 20) for name, raw in _tables(document, "accounts")
            },
            seed=_take(desk, "seed", int, 7) if seed is None else seed,
        )
    except (ValueError, KeyError, ArithmeticError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{file}: {error}; `sextant doctor --config {file}` names the line") from None
    if not instruments or not accounts:
        missing = "instruments" if not instruments else "accounts"
        raise ConfigurationError(f"{file} has no [{missing}.*], so there is nothing to list")
    return listing


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"{name} must be a table")
    return found


def _tables(document: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
    group = _table(document, name)
    return [(key, _table(group, key)) for key in group]


def _take(raw: Mapping[str, Any], key: str, kind: type[T], default: Any) -> Any:
    """The value as `kind`, numbers also from text, as in the rest of the file."""
    if key not in raw:
        return default
    value = raw[key]
    if kind is Decimal and isinstance(value, int | str | Decimal) and not isinstance(value, bool):
        number = Decimal(str(value).replace("_", ""))
        if not number.is_finite() or number < 0:
            raise ValueError(f"{key} must be a number of zero or more, not {value}")
        return number
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{key}: {error}") from None


def _instrument(name: str, raw: Mapping[str, Any]) -> Instrument:
    instrument = Instrument(
        symbol=Symbol(name),
        tick_size=_take(raw, "tick_size", Decimal, Decimal(0)),
        point_value=_take(raw, "point_value", Decimal, Decimal(1)),
        currency=_take(raw, "currency", str, "USD"),
        size_step=_take(raw, "size_step", Decimal, Decimal(1)),
        calendar=_calendar(raw.get("calendar", "24/7")),
        group=_take(raw, "group", str, None),
    )
    for key in ("tick_size", "point_value", "size_step"):
        if not getattr(instrument, key) > 0:
            raise ValueError(f"instruments.{name}.{key} must be above zero")
    return instrument


def _account(name: str, raw: Mapping[str, Any]) -> AccountTerms:
    default = AccountTerms(account=AccountId(name))
    margins = _table(raw, "margin_per_unit")
    manners = {key: raw[key] for key in Capabilities.__struct_fields__ if key in raw}
    return AccountTerms(
        account=AccountId(name),
        equity=_take(raw, "equity", Decimal, default.equity),
        currency=_take(raw, "currency", str, default.currency),
        fee_per_unit=_take(raw, "fee_per_unit", Decimal, default.fee_per_unit),
        margin_per_unit={Symbol(key): _take(margins, key, Decimal, Decimal(0)) for key in margins},
        margin_rate=_take(raw, "margin_rate", Decimal, default.margin_rate),
        capabilities=msgspec.convert(manners, Capabilities),
    )


def _calendar(raw: Any) -> Calendar:
    if raw == "24/7":
        return ALWAYS_OPEN
    if not isinstance(raw, dict) or not isinstance(raw.get("zone"), str):
        raise ValueError('calendar must be "24/7" or a table with zone and hours')
    hour, minute = str(raw.get("day_rolls_at", "0:00")).split(":")
    return Calendar(
        name=_take(raw, "name", str, raw["zone"]),
        zone=raw["zone"],
        open_minutes=tuple(sorted(_span(str(span)) for span in raw.get("hours", ()))),
        day_rolls_at=(int(hour) * 60 + int(minute)) % 1440,
        holidays=frozenset(
            day if isinstance(day, date) else date.fromisoformat(day) for day in raw.get("holidays", ())
        ),
    )


def _span(text: str) -> tuple[int, int]:
    found = SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f'hours must hold spans such as "Sun 17:00-Mon 16:00", not {text!r}')
    first = DAYS.index(found[1].casefold())
    last = first if found[4] is None else DAYS.index(found[4].casefold())
    begin = first * 1440 + int(found[2]) * 60 + int(found[3])
    end = last * 1440 + int(found[5]) * 60 + int(found[6])
    return begin, end if end > begin else end + WEEK_MINUTES

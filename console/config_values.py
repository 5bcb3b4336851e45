"""Readers of single values: what TOML gave in, a checked value out, or a ValueError that says what must be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from console.config_source import Reader, kind, quoted, suggest
from engine.domain.calendar import WEEK_MINUTES
from engine.domain.market import Timeframe
from engine.domain.settings import EntryWindow

E = TypeVar("E", bound=StrEnum)

LARGEST, SMALLEST = Decimal("1e15"), Decimal("1e-12")
LONGEST_TEXT = 200
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_NUMBER = re.compile(r"[+-]?\d[\d_]*(\.\d[\d_]*)?([eE][+-]?\d+)?")
_CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_SYMBOL = re.compile(r"[A-Za-z0-9@$][A-Za-z0-9._/@$-]{0,31}")


def shown(value: Any) -> str:
    """A value as the operator wrote it, short."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(value if len(value) <= 60 else value[:59] + "…")
        case int() | Decimal():
            number = Decimal(value)
            return str(value) if not number.is_finite() or abs(number) <= LARGEST else f"{number:.6E}"
        case _:
            return kind(value)


def number(
    *, above: Decimal | int | None = None, at_least: Decimal | int | None = None, at_most: Decimal | int | None = None
) -> Reader[Decimal]:
    """A finite number, written as a number or as text; a binary float never touches it."""
    bounds = " and ".join(
        [f"above {above}"] * (above is not None)
        + [f"at least {at_least}"] * (at_least is not None)
        + [f"at most {at_most}"] * (at_most is not None)
    )

    def read(value: Any) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
            raise ValueError(f"must be a number, not {kind(value)}")
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            raise ValueError(f"must be a number such as 2 or 0.25, not {shown(value)}")
        try:
            result = Decimal(value)
        except (InvalidOperation, ValueError):
            raise ValueError(f"must be a number such as 2 or 0.25, not {shown(value)}") from None
        if not result.is_finite():
            raise ValueError(f"must be a finite number, not {shown(value)}")
        too_low = (above is not None and result <= above) or (at_least is not None and result < at_least)
        if too_low or (at_most is not None and result > at_most):
            raise ValueError(f"must be {bounds}, not {shown(value)}")
        if result and not SMALLEST <= abs(result) <= LARGEST:
            raise ValueError(f"must lie between {SMALLEST} and {LARGEST:f}, not {shown(value)}")
        return result

    return read


POSITIVE = number(above=0)
PERCENT = number(above=0, at_most=100)


def whole(*, at_least: int, at_most: int = 1_000_000_000) -> Reader[int]:
    """A whole number between the two."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {shown(value)}")
        if not at_least <= value <= at_most:
            raise ValueError(f"must be from {at_least} to {at_most}, not {shown(value)}")
        return value

    return read


def seconds(*, at_least: Decimal = Decimal("0.001"), at_most: int = 86_400) -> Reader[float]:
    """A span of time in seconds."""
    read_number = number(at_least=at_least, at_most=at_most)
    return lambda value: float(read_number(value))


def milliseconds(*, at_most: int = 86_400) -> Reader[int]:
    """A span of time written in seconds, as whole milliseconds."""
    read_number = number(above=0, at_most=at_most)

    def read(value: Any) -> int:
        scaled = read_number(value) * 1000
        if scaled != scaled.to_integral_value():
            raise ValueError(f"must be whole milliseconds (0.001 is the least), not {shown(value)}")
        return int(scaled)

    return read


def flag(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {shown(value)}")
    return value


def text(value: Any) -> str:
    """Printable text on one line."""
    if not isinstance(value, str):
        raise ValueError(f"must be text in quotes, not {shown(value)}")
    if not value.strip() or not value.isprintable() or len(value) > LONGEST_TEXT:
        raise ValueError(f"must be 1 to {LONGEST_TEXT} printable characters on one line, not {shown(value)}")
    return value


def _matching(pattern: re.Pattern[str], form: str) -> Reader[str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"must be {form}, not {shown(value)}")
        return value

    return read


name = _matching(_NAME, "up to 32 letters, digits, '.', '_' or '-', starting with a letter or digit")
symbol = _matching(_SYMBOL, "a symbol such as ESZ6, EUR/USD or @ES (up to 32 characters)")
currency = _matching(re.compile(r"[A-Z]{3,5}"), "a currency code such as USD")


def choice(labels: type[E]) -> Reader[E]:
    """One of the labels of a StrEnum."""

    def read(value: Any) -> E:
        words = [str(label) for label in labels]
        if not isinstance(value, str) or value not in words:
            listed = " or ".join(f'"{word}"' for word in words)
            hint = suggest(value, words) if isinstance(value, str) else ""
            closest = f"; {hint}" if "did you mean" in hint else ""
            raise ValueError(f"must be {listed}, not {shown(value)}{closest}")
        return labels(value)

    return read


def timeframe(value: Any) -> Timeframe:
    """`1s`, `5m`, `1h`, `1d`."""
    if not isinstance(value, str):
        raise ValueError(f'must be text such as "1m", not {shown(value)}')
    try:
        return Timeframe.parse(value)
    except ValueError:
        raise ValueError(
            f"must be a length from 1s to 1d that divides a day (such as 1s, 1m, 5m, 1h, 1d), not {shown(value)}"
        ) from None


def path_from(base: Path) -> Reader[Path]:
    """A path; `~` is the home directory, and a relative one starts at `base`."""

    def read(value: Any) -> Path:
        written = text(value)
        try:
            return Path(os.path.abspath(base / Path(written).expanduser()))
        except RuntimeError:
            raise ValueError(f"must be a path without an unknown home directory, not {shown(value)}") from None

    return read


def strategy_from(base: Path) -> Reader[str]:
    """A strategy's name, or `path.py:Class` with the path made absolute."""

    def read(value: Any) -> str:
        written = text(value)
        if ".py:" not in written:
            return written
        file, _, attribute = written.rpartition(":")
        return f"{path_from(base)(file)}:{attribute}"

    return read


def minutes(value: Any) -> int:
    """A time of day `HH:MM` as minutes after midnight; `24:00` is the end of the day."""
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None or (total := int(found[1]) * 60 + int(found[2])) > 1440:
        raise ValueError(f'must be a time of day such as "09:30", not {shown(value)}')
    return total


def clock(value: Any) -> time:
    """A time of day `HH:MM` in exchange time."""
    if isinstance(value, time):
        if value.second or value.microsecond:
            raise ValueError('must be a time of day in whole minutes such as "09:30"')
        return value
    total = minutes(value)
    return time(total // 60 % 24, total % 60)


def entry_window(value: Any) -> EntryWindow:
    """`09:30-15:45`, exchange time; may run over midnight."""
    parts = value.split("-") if isinstance(value, str) else []
    try:
        opens, closes = (clock(part.strip()) for part in parts)
    except ValueError:
        raise ValueError(f'must be two times of day such as "09:30-15:45", not {shown(value)}') from None
    if opens == closes:
        raise ValueError(f"must open and close at different times, not {shown(value)}")
    return EntryWindow(opens, closes)


def zone(value: Any) -> str:
    """A time zone of this machine, such as America/Chicago."""
    written = text(value)
    try:
        ZoneInfo(written)
    except (OSError, ValueError, LookupError):
        raise ValueError(
            f"must be a time zone such as America/Chicago, not {shown(value)} (if that is right, install tzdata)"
        ) from None
    return written


def hours(value: Any) -> tuple[tuple[int, int], ...]:
    """A list of spans, `Sun 17:00-Mon 16:00` or `Mon 09:30-16:00`, as minutes since Monday 00:00."""
    if not isinstance(value, list) or not value:
        raise ValueError('must be a list such as ["Mon 09:30-16:00", "Tue 09:30-16:00"]')
    spans = sorted(_span(item) for item in value)
    ends = [*spans[1:], (spans[0][0] + WEEK_MINUTES, 0)]
    if any(end > following for (_, end), (following, _) in zip(spans, ends, strict=True)):
        raise ValueError("must not overlap; correct the spans so that each begins after the one before ends")
    return tuple(spans)


def _span(value: Any) -> tuple[int, int]:
    found = (
        re.fullmatch(r"(\w{3}) (\d?\d:\d\d) ?- ?(?:(\w{3}) )?(\d?\d:\d\d)", value) if isinstance(value, str) else None
    )
    days = [day.casefold() for day in DAYS]
    if found is None or any(day is not None and day.casefold() not in days for day in (found[1], found[3])):
        raise ValueError(f'must hold spans such as "Sun 17:00-Mon 16:00", not {shown(value)}')
    first = days.index(found[1].casefold())
    last = first if found[3] is None else days.index(found[3].casefold())
    begin, end = first * 1440 + minutes(found[2]), last * 1440 + minutes(found[4])
    if begin % WEEK_MINUTES != begin or (found[3] is None and end <= begin):
        raise ValueError(f"must hold spans that end after they begin, not {shown(value)}")
    return begin, end if end > begin else end + WEEK_MINUTES


def holidays(value: Any) -> frozenset[date]:
    """A list of days, as TOML dates or as text `2026-12-25`."""
    if not isinstance(value, list):
        raise ValueError("must be a list of days such as [2026-12-25]")
    return frozenset(_day(item) for item in value)


def _day(value: Any) -> date:
    try:
        if isinstance(value, str):
            return date.fromisoformat(value)
    except ValueError:
        pass
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError(f"must hold days such as 2026-12-25, not {shown(value)}")


def arguments(raw: dict[str, Any]) -> dict[str, Any]:
    """A strategy's own arguments: whatever TOML holds, but no number that is not finite, and no dates."""
    for key, value in raw.items():
        _check_argument(key, value)
    return dict(raw)


def _check_argument(key: str, value: Any) -> None:
    inner: Iterable[Any] = ()
    match value:
        case Decimal():
            if not value.is_finite():
                raise ValueError(f"must be a finite number, not {shown(value)}")
        case list():
            inner = value
        case dict():
            inner = value.values()
        case bool() | int() | str():
            pass
        case _:
            raise ValueError(f"must be a number, text, true or false, a list or a table, not {kind(value)}")
    for item in inner:
        _check_argument(key, item)

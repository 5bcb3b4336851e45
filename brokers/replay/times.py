"""Moments as recordings write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from engine.domain.ids import Millis

_NUMBER = re.compile(r"\d+(\.\d*)?")
_DATE_DIGITS = 8
# A count since 1970 says its unit by its size: seconds stay under this until the year 5138.
_SECONDS_BELOW = 100_000_000_000


def parse_time(text: str) -> Millis | None:
    """UTC milliseconds from ISO 8601 (no zone means UTC) or a count of s, ms, us or ns since 1970; else None.

    What is finer than a millisecond is cut off. Eight digits are a date.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text) and len(text) != _DATE_DIGITS:
        return _from_count(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        seconds = int(moment.replace(microsecond=0).timestamp())
    except (OverflowError, ValueError):
        return None
    at = seconds * 1000 + moment.microsecond // 1000
    return at if at >= 0 else None


def _from_count(text: str) -> Millis | None:
    if len(text) > 40:
        return None
    count = Decimal(text)
    for per_milli in (Decimal("0.001"), Decimal(1), Decimal(1_000), Decimal(1_000_000)):
        if count < _SECONDS_BELOW * 1000 * per_milli:
            return int(count / per_milli)
    return None

"""When an instrument trades, and which day its exchange calls today."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from msgspec import Struct

from engine.domain.ids import Millis

WEEK_MINUTES = 7 * 24 * 60
MINUTE_MS = 60_000


@lru_cache(maxsize=256)
def _wall_clock(zone: str, minute: int) -> datetime:
    """A whole minute since the epoch on a zone's wall clock; asked several times a second for each session."""
    return datetime.fromtimestamp(minute * 60, UTC).astimezone(ZoneInfo(zone))


class Calendar(Struct, frozen=True):
    """Weekly trading hours in the exchange's own time zone.

    `open_minutes` are half-open (from, to) spans in minutes since Monday 00:00 local time; empty means always open.
    The trade date of a moment rolls forward at `day_rolls_at` minutes after local midnight
    (CME: 17:00 Chicago, so an evening belongs to the next day); 0 keeps the local calendar date.
    """

    name: str = "24/7"
    zone: str = "UTC"
    open_minutes: tuple[tuple[int, int], ...] = ()
    day_rolls_at: int = 0
    holidays: frozenset[date] = frozenset()

    def local(self, at: Millis) -> datetime:
        """The moment as the exchange's wall clock shows it."""
        return datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(self.zone))

    def trade_date(self, at: Millis) -> date:
        """The exchange's trade date that `at` belongs to."""
        local = _wall_clock(self.zone, at // MINUTE_MS)
        rolls = self.day_rolls_at and local.hour * 60 + local.minute >= self.day_rolls_at
        return (local + timedelta(days=1)).date() if rolls else local.date()

    def is_open(self, at: Millis) -> bool:
        """Whether the exchange trades at this moment."""
        if not self.open_minutes and not self.holidays:
            return True
        if self.trade_date(at) in self.holidays:
            return False
        if not self.open_minutes:
            return True
        local = _wall_clock(self.zone, at // MINUTE_MS)
        minute = local.weekday() * 1440 + local.hour * 60 + local.minute
        return any(begin <= minute < end or begin <= minute + WEEK_MINUTES < end for begin, end in self.open_minutes)

    def closed_since(self, at: Millis) -> Millis | None:
        """When a market that is closed at `at` closed by its weekly hours; None on a holiday, and while it trades."""
        if self.is_open(at) or not self.open_minutes or self.trade_date(at) in self.holidays:
            return None
        local = _wall_clock(self.zone, at // MINUTE_MS)
        minute = local.weekday() * 1440 + local.hour * 60 + local.minute
        ago = min((minute - end) % WEEK_MINUTES for _, end in self.open_minutes)
        return at - at % MINUTE_MS - ago * MINUTE_MS


ALWAYS_OPEN = Calendar()

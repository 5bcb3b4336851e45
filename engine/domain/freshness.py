"""How old what we know of the market is; age of data, not state of a socket."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from engine.domain.ids import Millis
from engine.domain.instruments import Instrument


class Freshness(StrEnum):
    """Verdict on a feed's last word about one instrument."""

    WAITING = "waiting"
    FRESH = "fresh"
    STALE = "stale"
    SILENT = "silent"
    MARKET_CLOSED = "market closed"

    @property
    def allows_entries(self) -> bool:
        """Entries need fresh data; everything else stops them. Exits do not ask."""
        match self:
            case Freshness.FRESH:
                return True
            case Freshness.WAITING | Freshness.STALE | Freshness.SILENT | Freshness.MARKET_CLOSED:
                return False
            case _:
                assert_never(self)


def freshness(instrument: Instrument, last_tick: Millis | None, now: Millis) -> Freshness:
    """Judge the age of the last tick against the instrument's limits and its calendar."""
    if not instrument.calendar.is_open(now):
        return Freshness.MARKET_CLOSED
    if last_tick is None:
        return Freshness.WAITING
    age = now - last_tick
    if age >= instrument.silent_after_ms:
        return Freshness.SILENT
    return Freshness.STALE if age >= instrument.stale_after_ms else Freshness.FRESH


def stale_since(instrument: Instrument, last_tick: Millis | None, now: Millis) -> Millis | None:
    """When entries lost their fresh data: the close of a closed market, else when the last tick grew stale.

    None while the data is fresh, and where nobody can say: before the first tick, and on a holiday.
    """
    match freshness(instrument, last_tick, now):
        case Freshness.MARKET_CLOSED:
            return instrument.calendar.closed_since(now)
        case Freshness.STALE | Freshness.SILENT:
            return None if last_tick is None else last_tick + instrument.stale_after_ms
        case _:
            return None

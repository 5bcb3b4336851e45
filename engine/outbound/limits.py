"""A session's hard limits against one entry; every denial names its number."""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from engine.domain.instruments import Instrument
from engine.domain.orders import Terms
from engine.domain.settings import EntryWindow, SessionLimits


class Consequence(StrEnum):
    """What a breach does beyond denying the entry."""

    DENY = "deny"
    CLOSE_MINUTE = "close entries for the minute"
    CLOSE_DAY = "close entries for the day"
    PAUSE = "pause the session"
    LATCH_DAY = "latch entries off until the next trade date"


class Breach(Struct, frozen=True):
    """A limit that the entry would break."""

    reason: str
    consequence: Consequence


class Exposure(Struct, frozen=True, kw_only=True):
    """What the limits look at: `position` signed, `pending` the size of live entries, moments of earlier entries."""

    position: Decimal
    pending: Decimal
    mark: Decimal | None
    entries_last_minute: int
    entries_today: int
    day_profit: Decimal
    local_time: time


def breach(limits: SessionLimits, instrument: Instrument, terms: Terms, exposure: Exposure) -> Breach | None:
    """The first limit that an entry with these terms would break, worst consequence first."""
    if exposure.day_profit <= -limits.max_daily_loss:
        return Breach(
            f"the day's result {exposure.day_profit:.2f} {instrument.currency} reached the daily loss limit "
            f"of {limits.max_daily_loss}",
            Consequence.LATCH_DAY,
        )
    if terms.quantity > limits.max_order_size:
        return Breach(f"size {terms.quantity} is over max_order_size {limits.max_order_size}", Consequence.PAUSE)
    reach = abs(exposure.position + terms.side.sign * terms.quantity) + exposure.pending
    if reach > limits.max_position_size:
        return Breach(
            f"the position could reach {reach}, max_position_size is {limits.max_position_size}", Consequence.PAUSE
        )
    if exposure.entries_today >= limits.entries_per_day:
        return Breach(
            f"{exposure.entries_today} entries today, entries_per_day is {limits.entries_per_day}",
            Consequence.CLOSE_DAY,
        )
    if exposure.entries_last_minute >= limits.entries_per_minute:
        return Breach(
            f"{exposure.entries_last_minute} entries in a minute, entries_per_minute is {limits.entries_per_minute}",
            Consequence.CLOSE_MINUTE,
        )
    return collar_breach(limits, terms, exposure.mark) or window_breach(limits, exposure.local_time)


def collar_breach(limits: SessionLimits, terms: Terms, mark: Decimal | None) -> Breach | None:
    """A price too far from the mark; without a mark no entry has a price to be judged by."""
    if mark is None:
        return Breach("there is no price yet to hold the order against", Consequence.DENY)
    for price in (terms.limit, terms.stop):
        if price is not None and abs(price - mark) > abs(mark) * limits.price_collar:
            return Breach(
                f"price {price} is more than {limits.price_collar * 100} % away from the mark {mark}", Consequence.DENY
            )
    return None


def window_breach(limits: SessionLimits, local: time) -> Breach | None:
    """Outside the entry window, or past the time by which the session has to be flat."""
    window = limits.entry_window
    if window is not None and not inside(window, local):
        return Breach(f"outside the entry window {window.opens:%H:%M}-{window.closes:%H:%M}", Consequence.DENY)
    if limits.flat_by is not None and local >= limits.flat_by:
        return Breach(f"past flat_by {limits.flat_by:%H:%M}", Consequence.DENY)
    return None


def inside(window: EntryWindow, local: time) -> bool:
    """Whether the exchange's wall clock lies in the window; one that closes before it opens runs over midnight."""
    if window.opens <= window.closes:
        return window.opens <= local < window.closes
    return local >= window.opens or local < window.closes

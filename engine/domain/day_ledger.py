"""Profit and loss of one contract on the exchange's present trade date, from fills and the mark."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from engine.domain.calendar import MINUTE_MS
from engine.domain.fills import Fill
from engine.domain.ids import Millis
from engine.domain.instruments import Instrument
from engine.domain.orders import ZERO
from engine.domain.positions import FLAT, Position, after_fill


class DayLedger:
    """Realised money and fees since the trade date began; entries committed are counted beside it."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self.day: date | None = None
        self._minute = -1
        self.realised = ZERO
        self.fees = ZERO
        self.entries = 0

    def roll(self, now: Millis) -> None:
        """Begin a new trade date if one has begun."""
        minute = now // MINUTE_MS
        if minute == self._minute:
            return
        self._minute, today = minute, self._instrument.calendar.trade_date(now)
        if today == self.day:
            return
        self.day, self.realised, self.fees, self.entries = today, ZERO, ZERO, 0

    def entered(self, now: Millis) -> None:
        """An entry leaves: it counts for the trade date of this moment."""
        self.roll(now)
        self.entries += 1

    def book(self, realised_points: Decimal, fee: Decimal, now: Millis) -> None:
        """Take what a fill realised (price points times size) and cost."""
        self.roll(now)
        self.realised += realised_points * self._instrument.point_value
        self.fees += fee

    def rebuild(self, fills: tuple[Fill, ...], entries: int, now: Millis, before: Position = FLAT) -> Position:
        """Walk the contract's fills from the position `before` them; only today's realised profit and fees count.

        Returns the position after them.
        """
        self.day, self._minute, position = None, -1, before
        self.roll(now)
        for fill in fills:
            if not fill.quantity:
                continue
            booked = after_fill(position, fill.signed, fill.price)
            position = booked.position
            if self._instrument.calendar.trade_date(fill.at) == self.day:
                self.realised += booked.realised_points * self._instrument.point_value
                self.fees += fill.fee
        self.entries = entries
        return position

    def total(self, position: Position, mark: Decimal | None) -> Decimal:
        """Realised plus open less fees, in money."""
        return self.realised + position.open_points(mark) * self._instrument.point_value - self.fees

"""One line of a recording as a tick or a candle, or why it is neither. Pure."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TypeAlias

from msgspec import Struct

from brokers.replay.columns import Columns, TapeKind
from brokers.replay.times import parse_time
from engine.domain.ids import Millis, Symbol
from engine.domain.market import Candle, Tick

ONE, ZERO, TWO = Decimal(1), Decimal(0), Decimal(2)
# Far beyond any market; keeps a wild exponent from becoming a number with a million digits.
LARGEST_EXPONENT = 15
SMALLEST_EXPONENT = -15
LONGEST_NUMBER = 40


class BadRow(Struct, frozen=True):
    """A line that is left out, and why."""

    reason: str


Row: TypeAlias = Tick | Candle | BadRow


def parse_row(fields: list[str], columns: Columns, symbol: Symbol) -> Row:
    """Read the fields of one line. Without a volume column a tick counts one, a candle zero."""
    if len(fields) != columns.count:
        return BadRow(f"{len(fields)} columns instead of {columns.count}")
    at = parse_time(" ".join(fields[index] for index in columns.time))
    if at is None:
        return BadRow("not a time")
    prices: list[Decimal] = []
    for index in columns.prices:
        price = _number(fields[index])
        if price is None or price <= 0:
            return BadRow("not a price above zero")
        prices.append(price)
    volume: Decimal | None = ONE if columns.kind is TapeKind.TICKS else ZERO
    if columns.volume is not None:
        volume = _number(fields[columns.volume])
        if volume is None or volume < 0:
            return BadRow("not a volume")
    if volume is None:
        return BadRow("not a volume")
    return _row(symbol, at, prices, volume)


def _row(symbol: Symbol, at: Millis, prices: list[Decimal], volume: Decimal) -> Row:
    match prices:
        case [price]:
            return Tick(symbol, at, price, volume)
        case [bid, ask]:
            return Tick(symbol, at, (bid + ask) / TWO, volume)
        case [first, high, low, last]:
            if not low <= min(first, last) <= max(first, last) <= high:
                return BadRow("open, high, low and close contradict each other")
            return Candle(at, first, high, low, last, volume)
        case _:
            raise AssertionError("a row has one, two or four prices")


def _number(text: str) -> Decimal | None:
    if len(text) > LONGEST_NUMBER:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    if value and not SMALLEST_EXPONENT <= value.adjusted() <= LARGEST_EXPONENT:
        return None
    return value

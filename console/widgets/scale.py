"""The price axis: which row a price is on, to an eighth of a cell, when the axis may move, and who gets which label."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

EIGHTHS = 8
HEAD_ROOM = Decimal("0.08")
TOO_LOOSE = Decimal("0.45")
_STEPS = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))


class Scale:
    """Keeps its range while prices stay inside and fill enough of it, so that nothing jumps."""

    def __init__(self) -> None:
        self.low = Decimal(0)
        self.high = Decimal(0)

    def cover(self, low: Decimal, high: Decimal, tick: Decimal) -> bool:
        """Make the range hold [low, high]; returns whether it moved. Head-room is 8 % on each side."""
        span = self.high - self.low
        if span and self.low <= low and high <= self.high and (high - low) >= span * TOO_LOOSE:
            return False
        room = max((high - low) * HEAD_ROOM, tick * 2)
        wanted = (low - room, high + room)
        if wanted == (self.low, self.high):
            return False
        self.low, self.high = wanted
        return True

    def heights(self, rows: int) -> Callable[[Decimal], int]:
        """Price -> its height above the bottom in eighths of a cell of `rows` rows; it may lie outside."""
        low, per_point = self.low, rows * EIGHTHS / float(self.high - self.low)
        return lambda price: round(float(price - low) * per_point)

    def row(self, price: Decimal, rows: int) -> int:
        """The row from the top that shows this price; may lie outside."""
        return rows - 1 - (self.heights(rows)(price) // EIGHTHS)

    def price_at(self, row: int, rows: int, tick: Decimal) -> Decimal:
        """The price in the middle of a row, on the tick grid."""
        price = self.low + (self.high - self.low) * (2 * (rows - row) - 1) / (2 * rows)
        return (price / tick).to_integral_value() * tick

    def steps(self, rows: int, every: int, tick: Decimal) -> list[Decimal]:
        """Round prices for the axis, about `every` rows apart, never finer than a tick."""
        count = max(1, rows // every)
        rough = (self.high - self.low) / count
        if rough <= 0:
            return []
        power = Decimal(1).scaleb(rough.adjusted())
        step = next((power * s for s in _STEPS if power * s >= rough), power * 10)
        step = max(step, tick)
        step = (step / tick).to_integral_value() * tick
        first = (self.low / step).to_integral_value(rounding="ROUND_CEILING") * step
        prices = []
        while first <= self.high:
            prices.append(first)
            first += step
        return prices


@dataclass(frozen=True)
class Tag:
    """A label on the axis beside the row it would like; the smaller `rank`, the more it matters."""

    row: int
    text: str
    ink: str
    name: str = ""
    rank: int = 9
    price: Decimal = Decimal(0)


def place_tags(tags: Iterable[Tag], rows: int) -> dict[int, Tag]:
    """Row -> label. A named one whose row is taken stands on the nearest free row, an unnamed one leaves.

    As near on both sides, the higher price stands above.
    """
    placed: dict[int, Tag] = {}
    for tag in sorted(tags, key=lambda tag: tag.rank):
        wanted = max(0, min(tag.row, rows - 1))
        if not tag.name:
            placed.setdefault(wanted, tag)
            continue
        above = wanted in placed and placed[wanted].price < tag.price
        free = (row for row in range(rows) if row not in placed)
        row = min(free, key=lambda row: (abs(row - wanted), (row > wanted) == above), default=None)
        if row is not None:
            placed[row] = tag
    return placed

"""What is traded, and the grid its prices and sizes live on."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from msgspec import Struct

from engine.domain.calendar import ALWAYS_OPEN, Calendar
from engine.domain.ids import Symbol

ONE = Decimal(1)


class Instrument(Struct, frozen=True, kw_only=True):
    """A dated contract or spot symbol: `point_value` is money per 1.0 of price per unit of size.

    `worst_case` is the money one unit may lose when nothing protects it; used for positions that no session owns.
    """

    symbol: Symbol
    tick_size: Decimal
    point_value: Decimal = ONE
    currency: str = "USD"
    size_step: Decimal = ONE
    calendar: Calendar = ALWAYS_OPEN
    group: str | None = None
    worst_case: Decimal | None = None
    stale_after_ms: int = 15_000
    silent_after_ms: int = 60_000

    def nearest(self, price: Decimal) -> Decimal:
        """The price on the tick grid nearest to `price`."""
        return (price / self.tick_size).to_integral_value(ROUND_HALF_EVEN) * self.tick_size

    def down(self, price: Decimal) -> Decimal:
        """The highest price on the grid that is not above `price`."""
        return (price / self.tick_size).to_integral_value(ROUND_FLOOR) * self.tick_size

    def up(self, price: Decimal) -> Decimal:
        """The lowest price on the grid that is not below `price`."""
        return (price / self.tick_size).to_integral_value(ROUND_CEILING) * self.tick_size

    def on_grid(self, price: Decimal) -> bool:
        """Whether the exchange would take this price."""
        return price % self.tick_size == 0

    def whole_size(self, quantity: Decimal) -> Decimal:
        """The largest tradable size that is not above `quantity`."""
        return (quantity / self.size_step).to_integral_value(ROUND_FLOOR) * self.size_step

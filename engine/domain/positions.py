"""Where we stand in one contract of one account, and what a fill does to it."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from engine.domain.orders import ZERO


class Position(Struct, frozen=True):
    """Signed quantity (long above zero) and the average price of what is open, None when flat."""

    quantity: Decimal = ZERO
    average_price: Decimal | None = None

    @property
    def is_flat(self) -> bool:
        """Whether nothing is open."""
        return not self.quantity

    def open_points(self, mark: Decimal | None) -> Decimal:
        """Open profit in price points times size; multiply by the point value for money."""
        if mark is None or self.average_price is None:
            return ZERO
        return (mark - self.average_price) * self.quantity


FLAT = Position()


class Booked(Struct, frozen=True):
    """A position after a fill, and the profit that the fill realised in price points times size."""

    position: Position
    realised_points: Decimal


def after_fill(position: Position, signed: Decimal, price: Decimal) -> Booked:
    """Apply an execution of `signed` size at `price`; a fill through zero closes, then opens at its price."""
    held, average = position.quantity, position.average_price
    total = held + signed
    if not held or average is None or (held > 0) == (signed > 0):
        if not total:
            return Booked(FLAT, ZERO)
        cost = (average or ZERO) * abs(held) + price * abs(signed)
        return Booked(Position(total, cost / (abs(held) + abs(signed))), ZERO)
    closed = min(abs(held), abs(signed))
    realised = (price - average) * closed * (1 if held > 0 else -1)
    if not total:
        return Booked(FLAT, realised)
    return Booked(Position(total, average if (total > 0) == (held > 0) else price), realised)


def closed_since(before: Position, now: Position, size: Decimal = ZERO) -> str | None:
    """Why what was sized to close a position, `size` of it, has nothing or less to close since; None while it fits."""
    gone = bool(before.quantity) and before.quantity * now.quantity <= 0
    if gone:
        return f"nothing to close: the position went from {before.quantity} to {now.quantity} meanwhile"
    if abs(now.quantity) < min(abs(before.quantity), size):
        return f"not {size} to close: the position went from {before.quantity} to {now.quantity} meanwhile"
    return None

"""What the world knows of a desk in the step in which one of its requests leaves; taken by the run."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from engine.domain.ids import Millis


class Scene(Struct, frozen=True, kw_only=True):
    """`clock` is the desk's own time. Ages are milliseconds, None when there is nothing to have an age."""

    life: str
    began: Millis
    clock: Millis
    tick_age: Millis | None
    """Age of the newest trade that the feed brought this life, by the desk's own clock."""
    renewed_age: Millis | None
    """Since the database took a renewal of the epoch under which the request leaves."""
    read_age: Millis | None
    """Since the broker's newest complete word on the account's positions."""
    read: Decimal
    """The position of the contract in it."""
    reads: tuple[Decimal, ...]
    """What each word of the last seconds said of it."""
    read_most: Decimal
    """The most that any word of the last seconds said of it, or the one before them."""
    told: tuple[tuple[Millis, Decimal], ...]
    """Trades that the feed brought this life, oldest first: when, and their prices."""
    mark: Decimal
    money_age: Millis | None
    """Since the oldest of the newest words on each account's money; None before all have given one."""
    has_gap: bool
    """Whether the feed was cut and nobody has read history since it came back."""
    is_steady: bool
    """Whether the desk's clock is right and the process has not stood still for a while."""
    is_old: bool
    """Whether somebody has taken the account over since this life took it."""
    can_know: bool
    """Whether the database, which knows that, answers at once."""

    def told_lately(self, held: Decimal) -> bool:
        """Whether a word of the last seconds named a position of this side, and of this size at least."""
        return any(read * held > 0 and abs(read) >= abs(held) for read in self.reads)

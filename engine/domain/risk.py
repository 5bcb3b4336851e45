"""Heat: what the open risk is, as a share of equity, and what follows from it."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from engine.domain.ids import ClientOrderId, Millis, SessionId, Symbol
from engine.domain.orders import ZERO


class Stance(StrEnum):
    """What the portfolio lets a trader do; exits are open under each of them."""

    OPEN = "open"
    WARN = "warn"
    BLOCK = "block"


class StanceNotice(Struct, frozen=True, kw_only=True):
    """The portfolio's word to one trader: the stance, why, and the number behind it (percent of equity)."""

    stance: Stance
    reason: str
    percent: Decimal | None
    since: Millis


class Contribution(Struct, frozen=True, kw_only=True):
    """One session's declared risk in portfolio money.

    `entries` names the working, in-doubt and lost entry orders counted in `pending`; a reservation yields
    only to a report that names its order.
    """

    session: SessionId
    symbol: Symbol
    group: str | None
    at: Millis
    position_risk: Decimal = ZERO
    pending: Decimal = ZERO
    unprotected: Decimal = ZERO
    excess: Decimal = ZERO
    unowned: Decimal = ZERO
    entries: frozenset[ClientOrderId] = frozenset()
    worst_case: bool = False

    @property
    def total(self) -> Decimal:
        """Money at risk."""
        return self.position_risk + self.pending + self.unprotected + self.excess + self.unowned


class Reservation(Struct, frozen=True):
    """Heat set aside for an entry between the check and the report that names its order."""

    order: ClientOrderId
    session: SessionId
    group: str | None
    money: Decimal
    at: Millis


class CompleteHeat(Struct, frozen=True, kw_only=True, tag="complete"):
    """Every member reported and equity is good: `percent` of equity is at risk."""

    percent: Decimal
    money: Decimal
    equity: Decimal


class IncompleteHeat(Struct, frozen=True, kw_only=True, tag="incomplete"):
    """Somebody or something is missing: the number is a floor, never a total."""

    at_least: Decimal | None
    money: Decimal
    missing: tuple[str, ...]
    reporting: int
    expected: int


Heat: TypeAlias = CompleteHeat | IncompleteHeat


class HeatLimits(Struct, frozen=True, kw_only=True):
    """Thresholds in percent of equity; a block is released `release` points under it."""

    warn: Decimal = Decimal(6)
    block: Decimal = Decimal(8)
    release: Decimal = Decimal("0.5")


class GroupLimits(Struct, frozen=True, kw_only=True):
    """A group of correlated instruments with a block of its own, in percent of equity."""

    name: str
    block: Decimal


class PortfolioSettings(Struct, frozen=True, kw_only=True):
    """What the portfolio server reads from the settings and the database: limits, never heat."""

    currency: str = "USD"
    limits: HeatLimits = HeatLimits()
    groups: tuple[GroupLimits, ...] = ()
    equity_max_age_ms: int = 120_000
    dead_after_ms: int = 45_000
    equity_jump: Decimal = Decimal("0.20")


class Approved(Struct, frozen=True, kw_only=True):
    """Heat was reserved for this entry in the same step as the check."""

    reservation: Reservation
    before: Decimal
    after: Decimal


class Denied(Struct, frozen=True, kw_only=True):
    """The entry was denied by us; `reason` names the number."""

    reason: str


class HeatOutlook(Struct, frozen=True, kw_only=True):
    """What adding (or taking off) risk would come to; `after` in percent, None without a total to add to."""

    before: Heat
    after: Decimal | None
    refusal: str | None


Review: TypeAlias = Approved | Denied

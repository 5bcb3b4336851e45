"""Heat: what the open risk is, as a share of equity, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

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


GROUP = "group:"
"""Before a group's name where its block is named beside `warn`, `block` and `release`."""


def with_limits(settings: PortfolioSettings, percents: Mapping[str, Decimal]) -> PortfolioSettings:
    """The settings with these limits, in percent of equity, by name (`warn`, `block`, `release`, `group:NAME`).

    A name that the settings do not know is passed over: a group may have left the configuration.
    """
    own = {name: value for name, value in percents.items() if name in HeatLimits.__struct_fields__}
    groups = tuple(replace(group, block=percents.get(GROUP + group.name, group.block)) for group in settings.groups)
    return replace(settings, limits=replace(settings.limits, **own), groups=groups)


def problem_of(settings: PortfolioSettings) -> str | None:
    """Why these limits cannot be, in one sentence."""
    limits = settings.limits
    if not 0 < limits.warn < limits.block or not 0 <= limits.release < limits.block:
        return f"warn {limits.warn} must be above 0 and below block {limits.block}, release below block"
    wrong = next((group for group in settings.groups if group.block <= limits.release), None)
    if wrong is not None:
        return f"block {wrong.block} of group {wrong.name} must be above release {limits.release}"
    return None


def looser(before: PortfolioSettings, after: PortfolioSettings) -> bool:
    """Whether any of it lets more risk in: a higher warning or block, or a block that is released sooner."""
    old, new = before.limits, after.limits
    blocks = {group.name: group.block for group in before.groups}
    return (
        new.warn > old.warn
        or new.block > old.block
        or new.block - new.release > old.block - old.release
        or any(
            group.block > blocks[group.name] or group.block - new.release > blocks[group.name] - old.release
            for group in after.groups
        )
    )


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

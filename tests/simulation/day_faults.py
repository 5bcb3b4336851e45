"""Narrow days and bad news of money: limits that ordinary trading comes to, a balance that is wrong once, or silent.

These kinds stand last in the list of all, so that what a seed expands into besides stays as it was. Each draws from a
stream of its own; the rules of `faults.py` hold here too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import time
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec.structs import replace as changed

from engine.domain.broker import Balance
from engine.domain.settings import EntryWindow, SessionSettings
from tests.simulation.streams import Stream

if TYPE_CHECKING:
    from tests.simulation.run import Run

NARROW, WRONG, SILENT = "narrow day", "wrong balance", "balance silence"
STANDING = (NARROW, WRONG)
SUDDEN = {SILENT: 500.0}
"""Seconds between two of it at full intensity, on average."""
LIES = 0.25
"""Of the answers about money, at full intensity."""
FACTORS = (Decimal("0.4"), Decimal("1.7"), Decimal("0.3"), Decimal("1.9"))
"""Far enough that of two accounts one moves the sum by more than a fifth; two in a row never agree."""

# The run begins at 23:45: entries end two minutes before midnight, and pause again a little after it.
FLAT_BY = time(23, 58)
WINDOW = EntryWindow(time(0, 5), time(0, 2))
FEW_ENTRIES, DAILY_LOSS = 3, Decimal(300)


def narrowed(sessions: tuple[SessionSettings, ...], kinds: Collection[str]) -> tuple[SessionSettings, ...]:
    """One session gets hours, one few entries, one little to lose; the first one stays as it is."""
    if NARROW not in kinds:
        return sessions
    narrow: tuple[dict[str, object], ...] = (
        {},
        {"flat_by": FLAT_BY, "entry_window": WINDOW},
        {"entries_per_day": FEW_ENTRIES, "entries_per_minute": 1},
        {"max_daily_loss": DAILY_LOSS},
    )
    return tuple(
        changed(each, limits=changed(each.limits, **what)) for each, what in zip(sessions, narrow, strict=False)
    )


class Misstated:
    """Now and then one answer about money is far off; the next is right again."""

    def __init__(self, strength: float, rng: Stream, hit: Callable[[str], None]) -> None:
        self._strength = strength
        self._rng = rng
        self._hit = hit
        self._told = 0
        self._lied = False

    def __call__(self, balance: Balance) -> Balance:
        """The balance as it is told."""
        self._lied = not self._lied and self._rng.chance(LIES * self._strength)
        if not self._lied:
            return balance
        self._hit(WRONG)
        self._told += 1
        return changed(balance, equity=balance.equity * FACTORS[self._told % len(FACTORS)])


def _silence(run: Run, rng: Stream) -> None:
    """Everything is answered but the money, for longer than an equity is good."""
    trouble = run.world.durable.wires[rng.one_of(run.world.accounts)]
    trouble.money_silent_until = run.world.clock.now() + round(rng.uniform(60, 300) * 1000)


def arm(run: Run) -> None:
    """Trouble begins."""
    world, kinds = run.world, run.options.faults
    if NARROW in kinds:
        world.hit(NARROW)
    if WRONG in kinds:
        for account, trouble in world.durable.wires.items():
            trouble.misstates = Misstated(kinds[WRONG], world.streams.of(f"money/{account}"), world.hit)


def schedule(run: Run) -> None:
    """Start the clocks of the sudden faults that this seed has."""
    for name, mean in SUDDEN.items():
        if name in run.options.faults:
            _again(run, mean / max(0.1, run.options.faults[name]), run.world.streams.of(f"when/{name}"))


def _again(run: Run, mean: float, rng: Stream) -> None:
    def happen() -> None:
        if run.in_trouble:
            _silence(run, rng)
        _again(run, mean, rng)

    clock = run.world.clock
    clock.call_at(clock.now() + max(1, round(rng.pause(mean) * 1000)), happen)

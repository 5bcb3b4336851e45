"""Which commands add risk and so owe their row before they take effect, and which take some away and owe it after."""

from __future__ import annotations

from engine import commands as c
from engine.domain.risk import HeatLimits

RAISING = (c.Resume, c.ReleaseKill, c.ReleaseLatch, c.AdoptOrder, c.DeclareDead, c.IgnoreForeign)
LOWERING = (c.Pause, c.Kill, c.Flatten, c.CancelOrder, c.CancelEntries, c.ChangeHeatLimits)


def raises(command: c.Command, limits: HeatLimits) -> bool:
    """Whether it adds risk; `limits` are the portfolio's when it reaches the engine."""
    match command:
        case c.SubmitByHand(is_exit=is_exit):
            return not is_exit
        case c.ChangeHeatLimits(warn=warn, block=block, release=release):
            new = (warn or limits.warn, block or limits.block, limits.release if release is None else release)
            return new[0] > limits.warn or new[1] > limits.block or new[1] - new[2] > limits.block - limits.release
        case _:
            return isinstance(command, RAISING)


def lowers(command: c.Command) -> bool:
    """Whether it takes risk away, where it does not add any."""
    return isinstance(command, LOWERING)

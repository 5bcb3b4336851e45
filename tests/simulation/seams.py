"""The seams of one life: every crossing is counted, and any of them may be the last thing the life does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.simulation.loop import Life


class Seams:
    """Where a process may die: before and after each commit, file call, request and answer.

    `die_at` names a crossing by its number, counted from 1, `die_in` the next one by the end of its name; `on_death` is
    told in the loop step of the death.
    """

    def __init__(self, life: Life, on_death: Callable[[str], None]) -> None:
        self.life = life
        self.count = 0
        self.die_at: int | None = None
        self.names: list[str] | None = None
        self._on_death = on_death
        self.die_in: str | None = None
        self._pause_at: str | None = None
        self.on_pause: Callable[[], None] = lambda: None

    def pause_at(self, name: str) -> None:
        """Stand still at the next crossing of that name, before anything else happens."""
        self._pause_at = name

    async def crossing(self, name: str) -> None:
        """Go on, or never return."""
        self.count += 1
        if self.names is not None:
            self.names.append(name)
        if self.die_at is not None and self.count >= self.die_at:
            self.die_at = None
            self._on_death(name)
        elif self.die_in is not None and name.endswith(self.die_in):
            self.die_in = None
            self._on_death(name)
        if name == self._pause_at:
            self._pause_at = None
            self.on_pause()
        if self.life.paused:
            await asyncio.sleep(0)  # the loop holds what is paused
        if self.life.dead:
            await asyncio.get_running_loop().create_future()

"""Keeps one session running: restarts with backoff within a budget, reports, never spreads."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from engine.errors import StartOver
from engine.ports import Clock

log = logging.getLogger(__name__)
BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
BUDGET = 5
BUDGET_SECONDS = 300.0


class Supervisor:
    """Runs `work` again when it fails, at most `budget` times in 5 minutes; then it stays dead until a hand acts.

    `on_failure(reason, final)` is told at once, before any wait. What only has to start over uses no budget up.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        clock: Clock,
        *,
        on_failure: Callable[[str, bool], None],
        on_restart: Callable[[], None],
        budget: int = BUDGET,
    ) -> None:
        self.name = name
        self.restarts = 0
        self._budget = budget
        self._given_up = False
        self._work = work
        self._clock = clock
        self._on_failure = on_failure
        self._on_restart = on_restart
        self._recent: deque[float] = deque()

    async def run(self) -> None:
        """Until cancelled, or until the budget is used up."""
        while True:
            failed = True
            try:
                await self._work()
                reason = "its task ended"
            except StartOver as again:
                failed, reason = False, str(again)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                log.exception("%s: a wait inside it was cancelled", self.name)
                reason = "a wait inside it was cancelled"
            except Exception as error:
                log.exception("%s failed", self.name)
                reason = f"{type(error).__name__}: {error}"
            now = self._clock.monotonic()
            if failed:
                self._recent.append(now)
            while self._recent and now - self._recent[0] > BUDGET_SECONDS:
                self._recent.popleft()
            final = failed and len(self._recent) > self._budget
            self._on_failure(reason, final)
            if final:
                return
            step = max(0, min(len(self._recent), len(BACKOFF_SECONDS)) - 1)
            await self._clock.sleep(BACKOFF_SECONDS[step])
            if self._given_up:
                return
            self.restarts += 1
            self._on_restart()

    def give_up(self) -> None:
        """Do not start a failed work again: a hand took it out."""
        self._given_up = True

"""Blocking calls off the loop; the only file that hands work to threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from engine.ports import Clock

T = TypeVar("T")


class ThreadBlocking:
    """Blocking over a few threads of its own, so that one hung disk call does not hold every other."""

    def __init__(self, clock: Clock, threads: int = 4) -> None:
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sextant-disk")

    async def run(self, call: Callable[[], T]) -> T:
        """The call's result or its exception; a tape stands still meanwhile."""
        with self._clock.outside():
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """Take no more calls; does not wait for one that hangs."""
        self._pool.shutdown(wait=False, cancel_futures=True)

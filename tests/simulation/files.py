"""The desk's files in memory: synced content survives a crash; what was being written may be torn."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from engine.domain.ids import Millis
from engine.ports import Clock, DiskSpace
from tests.simulation.seams import Seams
from tests.simulation.streams import Stream

T = TypeVar("T")
ROOM = 100_000_000_000


class FileTrouble:
    """What the disk suffers now; written by the faults."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nothing is wrong any more."""
        self.full_until: Millis = 0
        self.hung_until: Millis = 0
        self.tear = 0.0
        self.fail_sync = 0.0


class SimFiles:
    """Files over a dictionary; the durable thing, shared by all lives of a desk."""

    def __init__(self, rng: Stream, now: Callable[[], Millis], hit: Callable[[str], None]) -> None:
        self.trouble = FileTrouble()
        self.kept: dict[Path, bytes] = {}
        self.hit = hit
        self._rng = rng
        self._now = now
        self._unconfirmed: tuple[Path, int] | None = None
        self.free_percent = 60
        self.filling_until: Millis = 0
        self.filling_since: Millis = 0

    async def room(self) -> DiskSpace:
        """How much is left now."""
        percent = self.free_percent if self._now() < self.filling_until else 60
        return DiskSpace(place="/desk", free=percent * ROOM // 100, total=ROOM)

    def _check(self) -> None:
        if self._now() < self.trouble.full_until:
            self.hit("disk full")
            raise OSError(errno.ENOSPC, "no space left on device")

    def append(self, path: Path, data: bytes) -> None:
        """Append, or a part of it and an error, or all of it and an error."""
        self._check()
        before = self.kept.get(path, b"")
        if self._rng.chance(self.trouble.tear):
            self.hit("torn write")
            self.kept[path] = before + data[: self._rng.randint(0, len(data) - 1)]
            raise OSError(errno.EIO, "input/output error while writing")
        self.kept[path] = before + data
        if self._rng.chance(self.trouble.fail_sync):
            self.hit("failed sync")
            if self._rng.chance(0.5):
                self.kept[path] = before
            raise OSError(errno.EIO, "input/output error while syncing")
        self._unconfirmed = (path, len(before))

    def replace(self, path: Path, data: bytes) -> None:
        """All or nothing."""
        self._check()
        self.kept[path] = data

    def read(self, path: Path) -> bytes | None:
        """Whole content, None without the file."""
        return self.kept.get(path)

    def rename(self, path: Path, to: Path) -> None:
        """All or nothing."""
        self._check()
        self.kept[to] = self.kept.pop(path)

    def remove(self, path: Path) -> None:
        """Gone, if it was there."""
        self.kept.pop(path, None)

    def confirmed(self) -> None:
        """The last append returned to whoever asked: it is durable."""
        self._unconfirmed = None

    def crash(self) -> None:
        """The process dies: an append that had not returned may have left any part of itself."""
        if self._unconfirmed is not None:
            path, before = self._unconfirmed
            data = self.kept.get(path, b"")
            if len(data) > before and self._rng.chance(0.7):
                self.kept[path] = data[: self._rng.randint(before, len(data))]
            self._unconfirmed = None


class InlineBlocking:
    """Blocking without threads: the call runs inline between two virtual delays, each a seam."""

    def __init__(self, files: SimFiles, clock: Clock, seams: Seams) -> None:
        self._files = files
        self._clock = clock
        self._seams = seams

    async def run(self, call: Callable[[], T]) -> T:
        """The call's result or its exception."""
        await self._seams.crossing("file: before")
        await self._clock.sleep(0.001)
        while (wait := self._files.trouble.hung_until - self._clock.monotonic() * 1000) > 0:
            self._files.hit("disk hung")
            await self._clock.sleep(wait / 1000)
        result = call()
        await self._seams.crossing("file: after")
        self._files.confirmed()
        return result

"""How much room is left where the desk writes."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from engine.ports import Blocking, DiskSpace


def disk_space(path: Path) -> DiskSpace:
    """Room where `path` lies, as df tells it: what is kept for root is not counted. Raises OSError."""
    status = os.statvfs(path)
    used = status.f_blocks - status.f_bfree
    return DiskSpace(
        place=str(path), free=status.f_bavail * status.f_frsize, total=(used + status.f_bavail) * status.f_frsize
    )


def questions(blocking: Blocking, *places: Path) -> tuple[Callable[[], Awaitable[DiskSpace]], ...]:
    """One question for each filesystem among the places; a place that is not there yet lies where the first does."""
    devices: dict[int, Path] = {}
    for place in places:
        if place.exists():
            devices.setdefault(os.stat(place).st_dev, place)
    return tuple(partial(_room, blocking, place) for place in devices.values() or places[:1])


async def _room(blocking: Blocking, place: Path) -> DiskSpace:
    return await blocking.run(lambda: disk_space(place))

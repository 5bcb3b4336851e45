"""What keeps the audit trail whole while the desk runs: the journal brought in, the room on the disk watched."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from engine.board import Board
from engine.errors import StoreError
from engine.periodic import Tasks, done_within, every
from engine.plan import EnginePlan
from engine.ports import DiskSpace
from engine.snapshot import Lamp, LampView, Severity

log = logging.getLogger(__name__)
SETTLE_SECONDS = 1.0
DISK_SECONDS = 10.0
DISK_ANSWER_SECONDS = 5.0
MEGABYTE = 1_000_000
LOW_PERCENT, AMPLE_PERCENT = 10, 12
CRITICAL_PERCENT, CRITICAL_BYTES = 2, 200 * MEGABYTE
RELIEVED = 1.25  # how far above its limit a critical disk must come to be merely low


def level(space: DiskSpace, before: Severity | None) -> Severity | None:
    """How loud the room that is left is; what was said before is only taken back with some distance."""
    percent = 100 * space.free / space.total if space.total else 0.0
    if percent >= (LOW_PERCENT if before is None else AMPLE_PERCENT):
        return None
    factor = RELIEVED if before is Severity.CRITICAL else 1.0
    is_critical = percent < CRITICAL_PERCENT * factor or space.free < CRITICAL_BYTES * factor
    return Severity.CRITICAL if is_critical else Severity.WARNING


class DiskWatch:
    """One filesystem that the desk writes to."""

    def __init__(self, number: int, plan: EnginePlan, board: Board, ask: Callable[[], Awaitable[DiskSpace]]) -> None:
        self._key = f"disk:{number}"
        self._clock = plan.clock
        self._board = board
        self._ask = ask
        self._tasks = Tasks(self._key, lambda name, error: None)
        self._asked: str | None = None
        self.severity: Severity | None = None
        self.percent = 100

    async def look(self) -> None:
        """Read, and raise, change or clear the alert; a disk that hangs is waited for, and told."""
        asking = self._tasks.spawn(self._read(), "room")
        if not await done_within(self._clock, DISK_ANSWER_SECONDS, asking):
            self._board.alert(
                f"{self._key}:silent",
                Severity.CRITICAL,
                f"the disk has not answered for {DISK_ANSWER_SECONDS:g} s when asked for its room",
                lasting=True,
            )
        space = await asking
        self._board.clear(f"{self._key}:silent")
        if isinstance(space, DiskSpace):
            self._heard(space)

    async def _read(self) -> DiskSpace | None:
        try:
            return await self._ask()
        except OSError as error:
            log.error("the room on the disk cannot be read: %s", error)
            return None

    def _heard(self, space: DiskSpace) -> None:
        now = level(space, self.severity)
        percent = 100 * space.free // space.total if space.total else 0
        if now is None:
            if self.severity is not None:
                self._board.clear(self._key)
        elif (now, percent) != (self.severity, self.percent):
            self._board.alert(
                self._key,
                now,
                f"{percent} % of the disk is free: {space.free / MEGABYTE:,.0f} of {space.total / MEGABYTE:,.0f} MB "
                f"where {space.place} lies",
                lasting=True,
            )
        self.severity, self.percent = now, percent


class TrailWatch:
    """The standing work on the audit trail."""

    def __init__(self, plan: EnginePlan, board: Board) -> None:
        self._plan = plan
        self._board = board
        self.disks = tuple(DiskWatch(n, plan, board, ask) for n, ask in enumerate(plan.disk_space))

    def launch(self, tasks: Tasks) -> None:
        """Begin; ends with the tasks."""
        tasks.launch(every(self._plan.clock, SETTLE_SECONDS, self.settle), "journal")
        for disk in self.disks:
            tasks.launch(every(self._plan.clock, DISK_SECONDS, disk.look), "disk")

    async def settle(self) -> None:
        """What was journalled while the database was away goes in as soon as it is back."""
        if self._plan.settle_journal is None:
            return
        try:
            keys = await self._plan.settle_journal()
        except (StoreError, OSError) as error:
            log.warning("the journal is not in the database yet: %s", error)
            return
        for key in keys:
            self._board.clear(f"unrecorded:{key}")
        if keys:
            self._board.happened(f"{len(keys)} journalled intents are in the database")

    def lamp(self) -> LampView | None:
        """The PERSIST lamp while room is short; None while there is enough."""
        short = [disk for disk in self.disks if disk.severity is not None]
        if not short:
            return None
        worst = min(short, key=lambda disk: disk.percent)
        is_critical = any(disk.severity is Severity.CRITICAL for disk in short)
        words = f"{worst.percent}% disk"
        return LampView(Lamp.ALARM if is_critical else Lamp.WARN, words, f"{words} free")

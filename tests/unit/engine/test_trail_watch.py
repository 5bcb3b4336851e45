"""The room on the disk: an alarm at 10 %, a louder one near the end, taken back with some distance."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.board import Board
from engine.clock import SystemClock, TapeClock
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.disk import disk_space, questions
from engine.plan import EnginePlan
from engine.ports import DiskSpace
from engine.snapshot import Lamp, Severity
from engine.trail_watch import DISK_ANSWER_SECONDS, MEGABYTE, TrailWatch, level

GB = 1_000 * MEGABYTE


def space(free: float, total: float = 100 * GB) -> DiskSpace:
    return DiskSpace(place="/desk", free=round(free), total=round(total))


@pytest.mark.parametrize(
    ("free", "total", "before", "after"),
    [
        (10 * GB, 100 * GB, None, None),
        (9.9 * GB, 100 * GB, None, Severity.WARNING),
        (11.9 * GB, 100 * GB, Severity.WARNING, Severity.WARNING),
        (12 * GB, 100 * GB, Severity.WARNING, None),
        (1.9 * GB, 100 * GB, None, Severity.CRITICAL),
        (2.4 * GB, 100 * GB, Severity.CRITICAL, Severity.CRITICAL),
        (2.6 * GB, 100 * GB, Severity.CRITICAL, Severity.WARNING),
        (0.19 * GB, 4 * GB, None, Severity.CRITICAL),
        (0.24 * GB, 4 * GB, Severity.CRITICAL, Severity.CRITICAL),
        (0.26 * GB, 4 * GB, Severity.CRITICAL, Severity.WARNING),
        (0.15 * GB, 1 * GB, None, None),
        (0, 100 * GB, Severity.WARNING, Severity.CRITICAL),
        (50 * GB, 100 * GB, Severity.CRITICAL, None),
        (0, 0, None, Severity.CRITICAL),
    ],
)
def test_how_loud_the_room_is(free: float, total: float, before: Severity | None, after: Severity | None) -> None:
    assert level(space(free, total), before) is after


class Bench:
    """One disk whose reading the test sets."""

    def __init__(self) -> None:
        self.clock = TapeClock(1_000_000)
        self.board = Board(self.clock)
        self.free = 50 * GB
        self.hangs: asyncio.Event | None = None
        self.fails = False
        plan = SimpleNamespace(clock=self.clock, disk_space=(self.ask,), settle_journal=None)
        self.trail = TrailWatch(cast("EnginePlan", plan), self.board)
        (self.disk,) = self.trail.disks

    async def ask(self) -> DiskSpace:
        if self.fails:
            raise OSError(5, "Input/output error")
        if self.hangs is not None:
            await self.hangs.wait()
        return space(self.free)

    async def look(self, free: float) -> list[tuple[Any, str]]:
        self.free = round(free)
        await self.disk.look()
        return [(a.severity, a.text) for a in self.board.alerts()]


async def test_p2_the_alarm_has_figures_and_goes_when_there_is_room() -> None:
    bench = Bench()
    assert await bench.look(50 * GB) == []
    assert bench.trail.lamp() is None
    ((severity, text),) = await bench.look(9.3 * GB)
    assert severity is Severity.WARNING
    assert text == "9 % of the disk is free: 9,300 of 100,000 MB where /desk lies"
    lamp = bench.trail.lamp()
    assert lamp is not None
    assert (lamp.lamp, lamp.text) == (Lamp.WARN, "9% disk free")
    ((severity, text),) = await bench.look(1.2 * GB)
    assert severity is Severity.CRITICAL
    assert "1 % of the disk is free: 1,200 of" in text
    lamp = bench.trail.lamp()
    assert lamp is not None
    assert lamp.lamp is Lamp.ALARM
    assert (await bench.look(11 * GB))[0][0] is Severity.WARNING
    assert await bench.look(12.5 * GB) == []
    assert bench.trail.lamp() is None


async def test_a_figure_that_barely_moves_asks_for_no_second_look() -> None:
    bench = Bench()
    await bench.look(9.3 * GB)
    bench.board.acknowledge("disk:0")
    await bench.look(9.2 * GB)
    assert [a.acknowledged for a in bench.board.alerts()] == [True]
    await bench.look(8.9 * GB)
    assert [a.acknowledged for a in bench.board.alerts()] == [False]


async def test_a_disk_that_hangs_is_told_and_only_asked_once() -> None:
    bench = Bench()
    bench.hangs = asyncio.Event()
    looking = asyncio.ensure_future(bench.disk.look())
    await bench.clock.advance(bench.clock.now() + round(DISK_ANSWER_SECONDS * 1000) + 1)
    assert [(a.severity, a.lasting) for a in bench.board.alerts()] == [(Severity.CRITICAL, True)]
    assert "has not answered for 5 s" in bench.board.alerts()[0].text
    assert not looking.done()
    bench.hangs.set()
    await looking
    assert [a.lasting for a in bench.board.alerts()] == [False], "stays until seen"


async def test_a_reading_that_fails_changes_nothing() -> None:
    bench = Bench()
    before = await bench.look(9.3 * GB)
    bench.fails = True
    assert await bench.look(50 * GB) == before


async def test_the_room_is_what_df_says_once_for_each_filesystem(tmp_path: Path) -> None:
    found = disk_space(tmp_path)
    assert found.place == str(tmp_path)
    assert 0 <= found.free <= found.total
    assert found.total > 0
    (ask,) = questions(ThreadBlocking(SystemClock()), tmp_path, tmp_path / "not yet", tmp_path)
    assert (await ask()).place == str(tmp_path)

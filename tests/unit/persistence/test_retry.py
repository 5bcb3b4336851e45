"""`sextant jobs --retry`: in the desk's place, recorded, and never beside a desk that runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.errors import DeskUnusable
from engine.persistence.upkeep import Kept, Upkeep
from engine.queries import JobsAnswer, JobsPage, JournalAnswer, JournalPage
from tests.unit.persistence.samples import booked, fill, sqlite_store


def upkeep(folder: Path) -> Upkeep:
    return Upkeep(Kept(folder / "desk.db", folder, folder / "journal", folder / "KILL"), SystemClock())


async def with_a_dead_job(path: Path) -> None:
    store = sqlite_store(path)
    await store.open()
    await store.write(booked(fill()))
    await store.apply("die", [("UPDATE jobs SET state = 'dead', attempts = 8, error = 'why'", ())])
    await store.close()


async def kept(path: Path) -> tuple[list[tuple[str, int]], list[str]]:
    store = sqlite_store(path, read_only=True)
    await store.open()
    jobs, journal = await store.answer(JobsPage()), await store.answer(JournalPage(kinds=("override",)))
    await store.close()
    assert isinstance(jobs, JobsAnswer)
    assert isinstance(journal, JournalAnswer)
    return [(job.state, job.attempts) for job in jobs.jobs], [line.text for line in journal.lines]


def test_dead_jobs_get_their_attempts_back_and_the_deed_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "desk.db"
    asyncio.run(with_a_dead_job(path))
    assert upkeep(tmp_path).retry_jobs("ann") == 1
    assert asyncio.run(kept(path)) == ([("pending", 0)], ["retry 1 dead jobs by ann (command line): received"])
    assert upkeep(tmp_path).retry_jobs("ann") == 0
    assert len(asyncio.run(kept(path))[1]) == 1, "nothing was done, so nothing is recorded"


def test_a_running_desk_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "desk.db"
    asyncio.run(with_a_dead_job(path))

    async def beside() -> None:
        store = sqlite_store(path)
        await store.open()
        try:
            with pytest.raises(DeskUnusable):
                await asyncio.to_thread(upkeep(tmp_path).retry_jobs, "ann")
        finally:
            await store.close()

    asyncio.run(beside())
    assert asyncio.run(kept(path)) == ([("dead", 8)], [])


def test_where_no_desk_is_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(DeskUnusable, match="no database"):
        upkeep(tmp_path).retry_jobs("ann")
    assert list(tmp_path.iterdir()) == []

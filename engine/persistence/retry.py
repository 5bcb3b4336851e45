"""`sextant jobs --retry`: dead background jobs get all their attempts again, for a desk that does not run."""

from __future__ import annotations

from engine.domain.ids import CommandId
from engine.domain.records import OverrideRecorded
from engine.errors import DeskUnusable
from engine.persistence.jobs import dead_jobs, retrying
from engine.persistence.kept import Kept, reading, writing
from engine.persistence.migrate import newest_version
from engine.persistence.statements import statements_of
from engine.ports import Blocking, Clock


async def retry_jobs(desk: Kept, by: str, clock: Clock, blocking: Blocking) -> int:
    """How many there were; they run when the desk starts. The deed is recorded with them, in one transaction.

    Raises DeskUnusable: no desk is there, its schema is another, or it runs (then it is done in its console).
    """
    looking = reading(desk.database, clock, blocking)
    try:
        reader = (await looking.open()).reader  # refuses where there is no desk, which opening to write would make
        if looking.before != newest_version():
            raise DeskUnusable(f"{desk.place} has schema {looking.before}; bring it up with: sextant db upgrade")
        count, _ = await dead_jobs(reader)
        if not count:
            return 0
        database = writing(desk, clock, blocking)
        try:
            opened = await database.open()
            assert opened.writer is not None
            now = clock.now()
            deed = OverrideRecorded(
                id=CommandId(f"retry-{now}"),
                step=0,
                what=f"retry {count} dead jobs",
                operator=by,
                origin="command line",
                at=now,
            )
            await opened.writer.transact([*retrying(now), *statements_of(deed)])
        finally:
            await database.close()
        return count
    finally:
        await looking.close()

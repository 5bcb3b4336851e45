"""`sextant db …` and the doctor's line about the database, for a command line that has no loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from engine.domain.findings import Finding
from engine.errors import DeskUnusable
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.check import examine
from engine.persistence.connection import NoDeskYet
from engine.persistence.kept import Kept, reading, writing
from engine.persistence.migrate import newest_version
from engine.persistence.prune import Pruned, prune
from engine.persistence.retry import retry_jobs
from engine.persistence.sqlite_database import SqliteDatabase
from engine.ports import Blocking, Clock

T = TypeVar("T")
__all__ = ["Kept", "Upgraded", "Upkeep", "reachable", "upgrade"]


class Upgraded(Struct, frozen=True):
    """What an upgrade did: from which schema, to which, and the copy set aside before (a server has none)."""

    before: int
    after: int
    copy: Path | None


class Upkeep:
    """What may be done to a desk's audit trail from outside the desk; each call runs to its end."""

    def __init__(self, desk: Kept, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    def check(self) -> list[Finding]:
        """Look at everything, change nothing, beside a running desk or without."""
        return self._run(examine)

    def upgrade(self) -> Upgraded:
        """Migrate to the newest schema under the desk's lock. Raises DeskUnusable."""
        return self._run(upgrade)

    def prune(self, before: date, by: str, *, dry_run: bool) -> Pruned:
        """Remove what is older and may go, under the desk's lock; a dry run only counts. Raises DeskUnusable."""
        return self._run(lambda desk, clock, blocking: prune(desk, before, by, dry_run, clock, blocking))

    def retry_jobs(self, by: str) -> int:
        """Give dead background jobs all their attempts again, under the desk's lock. Raises DeskUnusable."""
        return self._run(lambda desk, clock, blocking: retry_jobs(desk, by, clock, blocking))

    def reachable(self) -> tuple[str, bool, str]:
        """Whether a desk could open its database: what, whether, and a sentence."""
        return self._run(reachable)

    def _run(self, work: Callable[[Kept, Clock, Blocking], Awaitable[T]]) -> T:
        blocking = ThreadBlocking(self._clock)

        async def run() -> T:
            return await work(self._desk, self._clock, blocking)

        try:
            return asyncio.run(run())
        finally:
            blocking.close()


async def reachable(desk: Kept, clock: Clock, blocking: Blocking) -> tuple[str, bool, str]:
    """As `Upkeep.reachable`; changes nothing."""
    kind = "PostgreSQL, fsync, synchronous commit" if desk.file is None else "SQLite, WAL, synchronous=FULL"
    looking = reading(desk.database, clock, blocking)
    try:
        await looking.open()
    except NoDeskYet:
        return "database", True, f"{desk.place} holds no desk yet; one will be made ({kind})"
    except DeskUnusable as error:
        return "database", False, str(error)
    finally:
        await looking.close()
    if (version := looking.before or 0) < newest_version():
        kind += f"; schema {version}, which a start brings to {newest_version()}"
    return "database", True, f"{desk.place} ({kind})"


async def upgrade(desk: Kept, clock: Clock, blocking: Blocking) -> Upgraded:
    """Migrate to the newest schema under the desk's lock; nothing to do leaves everything untouched.

    A SQLite file is copied and the copy verified before. Raises DeskUnusable: no desk there, one is running, no room.
    """
    looking = reading(desk.database, clock, blocking)
    try:
        await looking.open()
    finally:
        await looking.close()
    before = looking.before or 0
    if before == newest_version():
        return Upgraded(before, before, None)
    database = writing(desk, clock, blocking)
    try:
        await database.open()
    finally:
        await database.close()
    copy = database.copy if isinstance(database, SqliteDatabase) else None
    return Upgraded(before, newest_version(), copy)

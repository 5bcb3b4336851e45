"""Background jobs: queued in the transaction of their cause, run beside the hot lanes, never lost, never doubled.

A job is claimed, its body computes an effect, and the effect (its last part, where it is large) and the completion
commit in one transaction. A crash leaves it `running`; the next start makes it pending again, and the effect's own
version makes a second run harmless.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from msgspec import Struct

from engine.domain.ids import Millis
from engine.errors import StoreError
from engine.persistence.connection import RowRefused, Statement
from engine.persistence.writer import Writer
from engine.ports import Clock, StoreConnection

log = logging.getLogger(__name__)

CLAIMED_AT_ONCE = 50
ATTEMPTS = 8
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 300.0
OUTAGE_SECONDS = 5.0

DUE = "SELECT id, kind, subject, attempts FROM jobs WHERE state = 'pending' AND due <= ? ORDER BY due, id LIMIT ?"
CLAIM = "UPDATE jobs SET state = 'running', attempts = attempts + 1 WHERE id = ? AND state = 'pending'"
DONE = "DELETE FROM jobs WHERE id = ?"
# One pending job per subject: a job that goes back to pending gives way to a younger one that waits already.
GIVE_WAY = """
DELETE FROM jobs WHERE state = ? AND EXISTS (
    SELECT 1 FROM jobs AS younger WHERE younger.kind = jobs.kind AND younger.subject = jobs.subject
        AND younger.id > jobs.id AND (younger.state = 'pending' OR younger.state = jobs.state)
)
"""
RETURN_ALL = "UPDATE jobs SET state = 'pending', attempts = ?, due = ? WHERE state = ?"
RETRY_LATER = "UPDATE jobs SET state = 'pending', due = ?, error = ? WHERE id = ?"
BURY = "UPDATE jobs SET state = 'dead', error = ? WHERE id = ?"
DEAD = "SELECT count(*), min(id) FROM jobs WHERE state = 'dead'"
DIED_OF = "SELECT kind || ' ' || subject, error FROM jobs WHERE id = ?"
QUEUE = """
INSERT INTO jobs (kind, subject, state, attempts, due, queued, error) VALUES (?, ?, 'pending', 0, 0, ?, '')
ON CONFLICT (kind, subject) WHERE state = 'pending' DO NOTHING
"""


class Body(Protocol):
    """What one kind of job does: it computes its effect, and changes nothing itself."""

    async def __call__(self, subject: str) -> list[list[Statement]]:
        """The effect as transactions in order, safe to apply twice, wholly or in part; the job ends with the last.

        Raises anything to fail this attempt.
        """


class Job(Struct, frozen=True):
    """A claimed job; `attempt` counts from 1."""

    id: int
    kind: str
    subject: str
    attempt: int


class Jobs:
    """JobRunner over the store's writer (lowest lane) and reader; made by `SqlStore.jobs`."""

    def __init__(
        self,
        writer: Writer,
        reader: StoreConnection,
        clock: Clock,
        bodies: Mapping[str, Body],
        *,
        queued: asyncio.Event,
        on_dead: Callable[[int, str], None],
        outdated: Callable[[], Awaitable[list[tuple[str, str]]]],
        poll_seconds: float,
        rest_seconds: float,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._bodies = bodies
        self._queued = queued
        self._on_dead = on_dead
        self._outdated = outdated
        self._poll_seconds = poll_seconds
        self._rest_seconds = rest_seconds
        self._left_running = True  # by an earlier life, until looked at

    async def run(self) -> None:
        """Claim and run jobs until cancelled; a database that does not answer only makes it wait."""
        while True:
            # cleared before claiming: a job queued while we claim wakes us again instead of being forgotten
            self._queued.clear()
            pause = self._poll_seconds
            try:
                await self.drain()
            except StoreError as error:
                self._left_running, pause = True, min(pause, OUTAGE_SECONDS)
                log.warning("jobs wait: %s", error)
            await self._clock.sleep(self._rest_seconds)  # a burst of fills becomes one job
            poll = self._clock.call_at(self._clock.now() + round(pause * 1000), self._queued.set)
            try:
                await self._queued.wait()
            finally:
                poll.cancel()

    async def drain(self) -> int:
        """Run every job that is due; how many were run. Raises StoreError when the database does not answer."""
        if self._left_running:
            await self._return_to_pending("running", keep_attempts=True)
            await self._queue_outdated()
            self._left_running = False
        ran = 0
        while claimed := await self._claim():
            for job in claimed:
                await self._run_one(job)
                ran += 1
        await self._count_dead()
        return ran

    async def retry_dead(self) -> int:
        """Give dead jobs all their attempts again; how many there were. Raises StoreError."""
        count = await self._return_to_pending("dead", keep_attempts=False)
        await self._count_dead()
        self._queued.set()
        return count

    async def _return_to_pending(self, state: str, *, keep_attempts: bool) -> int:
        now = self._clock.now()
        back = retrying(now)
        if keep_attempts:
            back = [(GIVE_WAY, (state,)), ("UPDATE jobs SET state = 'pending', due = ? WHERE state = ?", (now, state))]
        return sum(await self._writer.background(f"jobs {state} -> pending", back))

    async def _queue_outdated(self) -> None:
        now = self._clock.now()
        queue: list[Statement] = [(QUEUE, (*job, now)) for job in await self._outdated()]
        if queue:
            await self._writer.background("queue outdated", queue)

    async def _claim(self) -> list[Job]:
        rows = await self._reader.query(DUE, (self._clock.now(), CLAIMED_AT_ONCE))
        if not rows:
            return []
        counts = await self._writer.background("claim jobs", [(CLAIM, (row[0],)) for row in rows])
        return [
            Job(identity, kind, subject, attempts + 1)
            for (identity, kind, subject, attempts), count in zip(rows, counts, strict=True)
            if count
        ]

    async def _run_one(self, job: Job) -> None:
        name = f"{job.kind} {job.subject}"
        try:
            body = self._bodies[job.kind]
            *parts, last = await body(job.subject) or [[]]
            for part in parts:
                await self._writer.background(name, part)
            await self._writer.background(name, [*last, (DONE, (job.id,))])
        except StoreError as error:
            if not isinstance(error, RowRefused):
                raise  # not the job's fault: it stays `running` and is returned when the database answers
            await self._fail(job, error)
        except Exception as error:
            await self._fail(job, error)

    async def _fail(self, job: Job, error: Exception) -> None:
        said = f"{type(error).__name__}: {error}"[:500]
        if job.attempt >= ATTEMPTS:
            log.error("job %s %s is dead after %d attempts: %s", job.kind, job.subject, job.attempt, said)
            await self._writer.background("bury job", [(BURY, (said, job.id))])
            await self._count_dead()
            return
        backoff = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (job.attempt - 1))
        log.warning("job %s %s failed, again in %g s: %s", job.kind, job.subject, backoff, said)
        due = self._clock.now() + round(backoff * 1000)
        again: list[Statement] = [(GIVE_WAY, ("running",)), (RETRY_LATER, (due, said, job.id))]
        await self._writer.background("retry job", again)
        self._clock.call_at(due, self._queued.set)

    async def _count_dead(self) -> None:
        self._on_dead(*await dead_jobs(self._reader))


def retrying(now: Millis) -> list[Statement]:
    """Dead jobs become pending with all their attempts before them."""
    return [(GIVE_WAY, ("dead",)), (RETURN_ALL, (0, now, "dead"))]


async def dead_jobs(reader: StoreConnection) -> tuple[int, str]:
    """How many jobs are dead, and of what the first one died. Raises StoreUnavailable."""
    ((count, first),) = await reader.query(DEAD)
    rows = await reader.query(DIED_OF, (first,)) if count else []
    return int(count), ": ".join(rows[0]) if rows else ""

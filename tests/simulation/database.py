"""The desk's database: real SQLite in memory, called inline, with virtual latency and everything a commit can suffer.

What was committed is durable: a crash drops the process and keeps this object. What a life had asked for and not yet
got an answer to may or may not hold, because the life may die on either side of the commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from engine.domain.ids import Millis
from engine.errors import CommitUnknown, StoreUnavailable
from engine.persistence.connection import Connections, Statement
from engine.persistence.migrate import migrations, transaction_of
from engine.persistence.sqlite import as_store_error
from engine.persistence.sqlite_file import FOUNDATION
from engine.persistence.statements import CLAIM_KEY
from engine.persistence.store import FIRST_LEASE, NEXT_LEASE, RENEW_LEASE
from engine.ports import Clock
from tests.simulation.seams import Seams
from tests.simulation.streams import Stream

PAGE_CACHE = 400
LOCK_SECONDS = 1.0
SETTLED_MS = 5_000
LEASES = frozenset((FIRST_LEASE, NEXT_LEASE, RENEW_LEASE))
TAKING = frozenset((CLAIM_KEY, FIRST_LEASE, NEXT_LEASE))


class DatabaseTrouble:
    """What the database suffers now; written by the faults."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nothing is wrong any more."""
        self.down_until: Millis = 0
        self.frozen_until: Millis = 0
        self.refuse = 0.0
        self.unknown = 0.0
        self.slow_ms = 0
        self.lease_until: Millis = 0
        self.cut_off: dict[str, Millis] = {}  # lives that alone have no way to it


@cache
def _empty() -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(FOUNDATION)
    for step in migrations():
        for statement in transaction_of(step, 0):
            connection.execute(*statement)
    image = connection.serialize()
    connection.close()
    return image


class SimDatabase:
    """The durable thing, shared by all lives of a desk; `on_commit` hears of every transaction that holds."""

    def __init__(self, rng: Stream, hit: Callable[[str], None]) -> None:
        self.trouble = DatabaseTrouble()
        self.rng = rng
        self.hit = hit
        self.commits = 0
        self.rows_written = False
        self.on_intent: Callable[[str], None] = lambda key: None
        self.writer = ""
        self.ended: set[str] = set()
        self.renewed: dict[tuple[str, int], float] = {}
        self.taken: dict[tuple[str, int], float] = {}
        self.raw = sqlite3.connect(":memory:", isolation_level=None, cached_statements=PAGE_CACHE)
        self.raw.deserialize(_empty())
        self.raw.execute("PRAGMA foreign_keys = ON")

    def commit(self, statements: Sequence[Statement]) -> list[int]:
        """One transaction, now. Raises as StoreConnection.transact, but never CommitUnknown."""
        raw, counts, claimed, only_renews = self.raw, list[int](), list[str](), True
        raw.execute("BEGIN IMMEDIATE")
        try:
            for sql, parameters in statements:
                touched = raw.execute(sql, parameters).rowcount
                counts.append(touched if touched > 0 else 0)
                if sql is CLAIM_KEY:
                    claimed.append(parameters[0])
                only_renews = only_renews and sql is RENEW_LEASE
            raw.execute("COMMIT")
        except Exception as error:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise as_store_error(error) from error
        self.commits += 1
        for key in claimed:
            self.on_intent(key)
        self.rows_written = self.rows_written or not only_renews
        return counts

    def answers(self, now: Millis, life: str) -> bool:
        """Whether a question of a life has been answered at once for the last moments, and is now."""
        trouble = self.trouble
        last = max(trouble.down_until, trouble.frozen_until, trouble.lease_until, trouble.cut_off.get(life, 0))
        return last < now - SETTLED_MS and trouble.slow_ms < 50

    def close(self) -> None:
        """The simulation is over."""
        self.raw.close()


class SimConnections:
    """Database of one life over the durable one."""

    def __init__(self, database: SimDatabase, clock: Clock, seams: Seams, life: str) -> None:
        self._connection = SimConnection(database, clock, seams, life)

    async def open(self) -> Connections:
        """Always ours, always migrated."""
        await self._connection.query("SELECT 1")
        return Connections(self._connection, self._connection)

    async def close(self) -> None:
        """Nothing to let go of."""


class SimConnection:
    """StoreConnection of one life.

    As on PostgreSQL, whoever takes an account over ends the session of the desk that wrote before; only its intents
    are let through here, because their own epoch has to stop them.
    """

    def __init__(self, database: SimDatabase, clock: Clock, seams: Seams, life: str) -> None:
        self._life = life
        self._database = database
        self._clock = clock
        self._seams = seams

    async def _reach(self) -> None:
        """The way to the database: slow, frozen, or shut."""
        database, clock = self._database, self._clock
        trouble = database.trouble
        if trouble.slow_ms:
            database.hit("slow commit")
        await clock.sleep((trouble.slow_ms + database.rng.randint(1, 3)) / 1000)
        while clock.monotonic() * 1000 < trouble.frozen_until:
            database.hit("database frozen")
            await clock.sleep((trouble.frozen_until - clock.monotonic() * 1000) / 1000)
        if clock.monotonic() * 1000 < trouble.down_until:
            database.hit("database down")
            raise StoreUnavailable("the database is down")
        if clock.monotonic() * 1000 < trouble.cut_off.get(self._life, 0):
            database.hit("cut off from its database alone")
            raise StoreUnavailable("no route to the database")

    async def transact(self, statements: Sequence[Statement]) -> list[int]:
        """As the product's connections. Raises DuplicateKey, RowRefused, StoreUnavailable, CommitUnknown."""
        database = self._database
        kinds = {sql for sql, _ in statements}
        what = "intent" if CLAIM_KEY in kinds else "commit"
        await self._seams.crossing(f"{what}: before")
        await self._reach()
        if self._life in database.ended and kinds.isdisjoint(TAKING):
            raise StoreUnavailable("terminating connection due to administrator command")
        if RENEW_LEASE in kinds and self._clock.monotonic() * 1000 < database.trouble.lease_until:
            database.hit("lease locked")
            await self._clock.sleep(LOCK_SECONDS)
            raise StoreUnavailable("canceling statement due to lock timeout")
        if database.rng.chance(database.trouble.refuse):
            database.hit("commit refused")
            raise StoreUnavailable("disk I/O error")
        unknown = database.rng.chance(database.trouble.unknown)
        if unknown and database.rng.chance(0.5):
            database.hit("commit unknown: lost")
            raise CommitUnknown("the connection broke before the commit")
        counts = database.commit(statements)
        if not kinds.isdisjoint(LEASES):
            self._note_lease(statements, counts)
        await self._seams.crossing(f"{what}: after")
        await self._clock.sleep(0.001)
        if unknown:
            database.hit("commit unknown: holds")
            raise CommitUnknown("the connection broke after the commit")
        return counts

    def _note_lease(self, statements: Sequence[Statement], counts: list[int]) -> None:
        """Remember when the database last took an epoch's word that its holder lives."""
        for (sql, row), count in zip(statements, counts, strict=True):
            if count and sql is RENEW_LEASE:
                self._database.renewed[row[0], row[1]] = self._clock.monotonic() * 1000
            elif count and sql in (FIRST_LEASE, NEXT_LEASE):
                account, epoch = (row[0], 1) if sql is FIRST_LEASE else (row[-2], row[-1] + 1)
                now = self._clock.monotonic() * 1000
                self._database.renewed[account, epoch] = self._database.taken[account, epoch] = now
                if self._database.writer != self._life:
                    self._database.ended.add(self._database.writer)
                    self._database.writer = self._life

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows. Raises StoreUnavailable."""
        await self._reach()
        try:
            return self._database.raw.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise as_store_error(error) from error

    async def close(self) -> None:
        """Nothing to let go of."""

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
from engine.ports import Clock
from tests.simulation.seams import Seams
from tests.simulation.streams import Stream

PAGE_CACHE = 400


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
        self.raw = sqlite3.connect(":memory:", isolation_level=None, cached_statements=PAGE_CACHE)
        self.raw.deserialize(_empty())
        self.raw.execute("PRAGMA foreign_keys = ON")

    def commit(self, statements: Sequence[Statement]) -> list[int]:
        """One transaction, now. Raises as StoreConnection.transact, but never CommitUnknown."""
        raw = self.raw
        raw.execute("BEGIN IMMEDIATE")
        try:
            counts = [max(0, raw.execute(*statement).rowcount) for statement in statements]
            raw.execute("COMMIT")
        except Exception as error:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise as_store_error(error) from error
        self.commits += 1
        return counts

    def close(self) -> None:
        """The simulation is over."""
        self.raw.close()


class SimConnections:
    """Database of one life over the durable one."""

    def __init__(self, database: SimDatabase, clock: Clock, seams: Seams) -> None:
        self._connection = SimConnection(database, clock, seams)

    async def open(self) -> Connections:
        """Always ours, always migrated."""
        await self._connection.query("SELECT 1")
        return Connections(self._connection, self._connection)

    async def close(self) -> None:
        """Nothing to let go of."""


class SimConnection:
    """StoreConnection of one life."""

    def __init__(self, database: SimDatabase, clock: Clock, seams: Seams) -> None:
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

    async def transact(self, statements: Sequence[Statement]) -> list[int]:
        """As the product's connections. Raises DuplicateKey, RowRefused, StoreUnavailable, CommitUnknown."""
        database = self._database
        await self._seams.crossing("commit: before")
        await self._reach()
        if database.rng.chance(database.trouble.refuse):
            database.hit("commit refused")
            raise StoreUnavailable("disk I/O error")
        unknown = database.rng.chance(database.trouble.unknown)
        if unknown and database.rng.chance(0.5):
            database.hit("commit unknown: lost")
            raise CommitUnknown("the connection broke before the commit")
        counts = database.commit(statements)
        await self._seams.crossing("commit: after")
        await self._clock.sleep(0.001)
        if unknown:
            database.hit("commit unknown: holds")
            raise CommitUnknown("the connection broke after the commit")
        return counts

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows. Raises StoreUnavailable."""
        await self._reach()
        try:
            return self._database.raw.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise as_store_error(error) from error

    async def close(self) -> None:
        """Nothing to let go of."""

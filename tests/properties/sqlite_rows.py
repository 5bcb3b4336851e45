"""The schema in memory, spoken to without threads: what a property needs thousands of times."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from engine.persistence.connection import Statement
from engine.persistence.migrate import Migration

T = TypeVar("T")


class OnTheSpot:
    """Blocking that runs a call where it stands."""

    async def run(self, call: Callable[[], T]) -> T:
        return call()


class MemoryDatabase:
    """StoreConnection over SQLite in memory."""

    def __init__(self, steps: Sequence[Migration]) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.execute("CREATE TABLE migrations (version INTEGER PRIMARY KEY, name TEXT, applied BIGINT)")
        for step in steps:
            for statement in step.statements:
                self._connection.execute(statement)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def run(self, statements: Sequence[Statement]) -> list[int]:
        self._connection.execute("BEGIN")
        counts = [self._connection.execute(sql, values).rowcount for sql, values in statements]
        self._connection.execute("COMMIT")
        return counts

    async def transact(self, statements: Sequence[Statement]) -> list[int]:
        return self.run(statements)

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.rows(sql, parameters)

    async def close(self) -> None:
        self._connection.close()

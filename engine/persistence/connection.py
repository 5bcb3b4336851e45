"""The seam's vocabulary: what a database must offer to stand beneath the store.

Statements are constants with `?` for each bound value. SQLite takes them as they are; a PostgreSQL connection
numbers the marks. Nothing here or above knows which database answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from engine.errors import DeskUnusable, StoreError
from engine.ports import StoreConnection

Statement: TypeAlias = tuple[str, Sequence[Any]]


class RowRefused(StoreError):
    """The database answers and refuses this very row (a constraint, a value it cannot hold); retrying is useless."""


class NoDeskYet(DeskUnusable):
    """A database that a desk may be made in was asked for what is kept in it."""


class Connections(Struct, frozen=True):
    """What an opened database gives: `writer` is None when it was opened read-only."""

    writer: StoreConnection | None
    reader: StoreConnection


class Database(Protocol):
    """One desk's database: opened, owned and migrated before anything else touches it."""

    async def open(self) -> Connections:
        """Check ownership, lock, migrate, connect. Raises DeskUnusable with a sentence; nothing is then changed."""

    async def close(self) -> None:
        """Close the connections and let go of the lock; harmless twice."""

"""Where a desk keeps things, opened by who is not the desk: to look, or to change it in the desk's place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from engine.domain.postgres_url import PostgresUrl
from engine.persistence.sqlite_database import SqliteDatabase
from engine.ports import Blocking, Clock

if TYPE_CHECKING:
    from engine.persistence.postgres_database import PostgresDatabase

Where: TypeAlias = Path | PostgresUrl
AnyDatabase: TypeAlias = "SqliteDatabase | PostgresDatabase"
READER_SECONDS = 3600.0  # integrity of a large database takes its time


class Kept(Struct, frozen=True):
    """Where a desk keeps things: its database, and on this machine its state, journal and latch file."""

    database: Where
    state: Path
    journal: Path
    latch: Path

    @property
    def file(self) -> Path | None:
        """The database as a file of this machine."""
        return self.database if isinstance(self.database, Path) else None

    @property
    def place(self) -> str:
        """The database in words; never a password."""
        return str(self.database) if isinstance(self.database, Path) else self.database.place


def reading(where: Where, clock: Clock, blocking: Blocking) -> AnyDatabase:
    """The database for who only looks, whatever its schema; neither makes, nor locks, nor migrates."""
    if isinstance(where, Path):
        return SqliteDatabase(where, clock, blocking, read_only=True, any_version=True)
    from engine.persistence.postgres_database import PostgresDatabase  # a desk on SQLite never loads the driver

    return PostgresDatabase(
        where, clock, blocking, directory=None, read_only=True, any_version=True, reader_seconds=READER_SECONDS
    )


def writing(desk: Kept, clock: Clock, blocking: Blocking) -> AnyDatabase:
    """The desk's database for who changes it in the desk's place: `open` takes the desk's lock or names its holder."""
    if isinstance(desk.database, Path):
        return SqliteDatabase(desk.database, clock, blocking)
    from engine.persistence.postgres_database import PostgresDatabase

    return PostgresDatabase(desk.database, clock, blocking, directory=desk.state)

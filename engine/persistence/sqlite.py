"""SQLite beneath the seam: one aiosqlite connection whose transactions take one hop to its thread."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import aiosqlite

from engine.errors import CommitUnknown, DeskUnusable, DuplicateKey, StoreError, StoreUnavailable
from engine.persistence.connection import RowRefused, Statement
from engine.ports import Clock

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 5000
CLOSE_SECONDS = 2.0
TRANSACT = "-- a whole transaction in one hop --"
PRAGMAS: tuple[tuple[str, str, str, object], ...] = (
    ("journal_mode", "PRAGMA journal_mode = WAL", "PRAGMA journal_mode", "wal"),
    ("synchronous", "PRAGMA synchronous = FULL", "PRAGMA synchronous", 2),
    ("foreign_keys", "PRAGMA foreign_keys = ON", "PRAGMA foreign_keys", 1),
    ("busy_timeout", f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}", "PRAGMA busy_timeout", BUSY_TIMEOUT_MS),
    ("trusted_schema", "PRAGMA trusted_schema = OFF", "PRAGMA trusted_schema", 0),
)
READER_PRAGMAS = (
    *PRAGMAS[2:],
    ("query_only", "PRAGMA query_only = ON", "PRAGMA query_only", 1),
)
# A full disk or a busy lock stops a commit before its last frame: the transaction provably does not hold.
NOT_COMMITTED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL})
# What says something of the disk or of the file, and nothing of the row.
MACHINE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
# After these a connection is made anew: what it holds of the file (its map, its pages, a transaction) may be wrong.
SPOILT = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB})
TAKEN = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})


def primary_code(error: BaseException) -> int:
    """SQLite's primary result code, 0 for what is not SQLite's."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def as_store_error(error: Exception) -> StoreError:
    """What a failed statement means for whoever asked."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, sqlite3.IntegrityError):
        taken = getattr(error, "sqlite_errorcode", None) in TAKEN
        return DuplicateKey(str(error)) if taken else RowRefused(str(error))
    # OverflowError and UnicodeError: a value that SQLite cannot hold, found while binding it.
    definite = (sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError, OverflowError, UnicodeError)
    if isinstance(error, definite):
        return RowRefused(str(error))
    return StoreUnavailable(str(error), machine=primary_code(error) in MACHINE)


class _Counts:
    """Affected rows in the shape in which aiosqlite fetches results."""

    def __init__(self, counts: list[int]) -> None:
        self._counts = counts

    def fetchall(self) -> list[int]:
        return self._counts


class _OneHop(sqlite3.Connection):
    """A connection that also takes a whole transaction where aiosqlite passes one statement.

    Each aiosqlite call costs a hop to its thread and back. A transaction of six statements would pay eight of
    them before its fsync; `factory=` and `execute_fetchall` are aiosqlite's public way to pay one.
    """

    path: Path | None = None
    inode: int | None = None
    is_spoilt = False

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        if sql is TRANSACT:
            return _Counts(self._transact(cast("Sequence[Statement]", parameters)))
        return super().execute(sql, parameters)

    def _check_file(self) -> None:
        """Refuse to commit into a file that was deleted or replaced: SQLite itself would not notice."""
        if self.path is None:
            return
        try:
            inode = os.stat(self.path).st_ino
        except OSError as error:
            raise StoreUnavailable(f"{self.path} is gone: {error.strerror}", machine=True) from error
        if self.inode is None:
            self.inode = inode
        elif inode != self.inode:
            raise StoreUnavailable(f"{self.path} was replaced by another file while the desk ran", machine=True)

    def _transact(self, statements: Sequence[Statement]) -> list[int]:
        self._check_file()
        try:
            super().execute("BEGIN IMMEDIATE")
            counts = [max(0, super(_OneHop, self).execute(*statement).rowcount) for statement in statements]
        except Exception as error:
            self._undo(error)
            raise as_store_error(error) from error
        try:
            super().execute("COMMIT")
        except sqlite3.Error as error:
            self._undo(error)
            if primary_code(error) in NOT_COMMITTED:
                raise StoreUnavailable(str(error), machine=True) from error
            if isinstance(error, sqlite3.IntegrityError):  # a deferred constraint speaks at the commit
                raise as_store_error(error) from error
            raise CommitUnknown(str(error), machine=primary_code(error) in MACHINE) from error
        return counts

    def _undo(self, error: Exception) -> None:
        self.is_spoilt = self.is_spoilt or primary_code(error) in SPOILT
        if self.in_transaction:
            try:
                super().execute("ROLLBACK")
            except sqlite3.Error:
                log.exception("a rollback failed; the connection is made anew")
                self.is_spoilt = True


class SqliteConnection:
    """StoreConnection over aiosqlite; `read_only` opens it so that it can neither write nor create."""

    def __init__(self, path: Path, clock: Clock, *, read_only: bool = False) -> None:
        self._path = path
        self._clock = clock
        self._read_only = read_only
        self._connection: aiosqlite.Connection | None = None
        self._handle: _OneHop | None = None
        self._immutable = False
        self._closed = True
        self._turn = asyncio.Lock()

    async def open(self, *, immutable: bool = False) -> None:
        """Connect, set the pragmas and read them back.

        `immutable`: a file in a directory that cannot be written, which no desk can be using.
        Raises DeskUnusable with a sentence.
        """
        self._closed, self._immutable = False, immutable
        mode = ("ro&immutable=1" if immutable else "ro") if self._read_only else "rw"
        with self._clock.outside():
            try:
                self._connection = await aiosqlite.connect(
                    f"file:{quote(str(self._path.absolute()))}?mode={mode}",
                    uri=True,
                    factory=self._make,
                    isolation_level=None,
                    cached_statements=256,
                    timeout=BUSY_TIMEOUT_MS / 1000,
                )
                for name, setting, question, wanted in READER_PRAGMAS if self._read_only else PRAGMAS:
                    await self._connection.execute_fetchall(setting)
                    rows = list(await self._connection.execute_fetchall(question))
                    if rows[0][0] != wanted:
                        raise DeskUnusable(f"{self._path}: SQLite answers {name} = {rows[0][0]}, not {wanted}.")
            except sqlite3.Error as error:
                await self._release()
                raise DeskUnusable(f"{self._path} cannot be opened: {error}.") from error
            except BaseException:
                await self._release()
                raise

    def _make(self, *arguments: Any, **options: Any) -> _OneHop:
        made = _OneHop(*arguments, **options)
        made.path = None if self._read_only else self._path
        made.inode = self._handle.inode if self._handle is not None else None  # made anew, but of the same file
        self._handle = made
        return made

    async def _open_connection(self) -> aiosqlite.Connection:
        """The connection, made anew if it is spoilt. Raises StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable(f"{self._path} is not open")
        if self._connection is None or (self._handle is not None and self._handle.is_spoilt):
            await self._release()
            try:
                await self.open(immutable=self._immutable)
            except DeskUnusable as error:
                raise StoreUnavailable(str(error).removesuffix("."), machine=True) from error
            log.warning("%s was opened anew", self._path)
        assert self._connection is not None
        return self._connection

    async def transact(self, statements: Sequence[Statement]) -> list[int]:
        """Run all in one transaction; rows affected per statement.

        Raises DuplicateKey, RowRefused, StoreUnavailable (all rolled back), CommitUnknown.
        """
        with self._clock.outside():
            async with self._turn:
                connection = await self._open_connection()
            try:
                counts = await connection.execute_fetchall(TRANSACT, cast("Any", statements))
            except (sqlite3.Error, ValueError) as error:  # ValueError: aiosqlite's "connection closed"
                raise StoreUnavailable(str(error)) from error
        return cast("list[int]", counts)

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows. Raises StoreUnavailable."""
        with self._clock.outside():
            async with self._turn:
                connection = await self._open_connection()
            try:
                return cast("list[tuple[Any, ...]]", await connection.execute_fetchall(sql, parameters))
            except (sqlite3.Error, ValueError, OverflowError) as error:
                if self._handle is not None and primary_code(error) in SPOILT:
                    self._handle.is_spoilt = True
                raise StoreUnavailable(str(error)) from error

    async def close(self) -> None:
        """Release it; harmless twice."""
        self._closed = True
        await self._release()

    async def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with self._clock.outside():
            # `stop` closes too, and unlike `close` leaves whoever waits the choice to give a disk that hangs up
            if (closed := connection.stop()) is not None:
                done, _ = await asyncio.wait({closed}, timeout=CLOSE_SECONDS)
                if not done:
                    log.error("%s could not be closed in %g s", self._path, CLOSE_SECONDS)
                elif (error := closed.exception()) is not None:
                    log.error("%s was not closed in order: %s", self._path, error)

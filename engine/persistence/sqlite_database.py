"""A desk's SQLite database as a whole: checked, locked, created or migrated, then two connections."""

from __future__ import annotations

from pathlib import Path

from engine.errors import DeskUnusable, StoreError
from engine.persistence import sqlite_copy
from engine.persistence import sqlite_file as guard
from engine.persistence.connection import Connections, NoDeskYet, Statement
from engine.persistence.lease import Held, hold_desk
from engine.persistence.migrate import behind, migrations, newest_version, transaction_of
from engine.persistence.sqlite import SqliteConnection
from engine.ports import Blocking, Clock


class SqliteDatabase:
    """Database in one file. Read-only: neither creates, nor locks, nor migrates, beside a running desk or without.

    `any_version`: read-only, an older schema is opened as it is. After `open`, `before` is the schema that was found
    (None: there was no database) and `copy` the file that was set aside before it was migrated.
    """

    def __init__(
        self, path: Path, clock: Clock, blocking: Blocking, *, read_only: bool = False, any_version: bool = False
    ) -> None:
        self._path = path
        self._clock = clock
        self._blocking = blocking
        self._read_only = read_only
        self._any_version = any_version
        self.before: int | None = None
        self.copy: Path | None = None
        self._lock: Held | None = None
        self._open: list[SqliteConnection] = []

    async def open(self) -> Connections:
        """Check, lock, create or migrate, connect. Raises DeskUnusable; a file that is not ours is untouched."""
        try:
            return await (self._open_to_read() if self._read_only else self._open_to_write())
        except StoreError as error:
            await self.close()
            raise DeskUnusable(f"{self._path} cannot be used: {error}.") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connections and let go of the desk's lock; harmless twice."""
        while self._open:
            await self._open.pop().close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def _open_to_write(self) -> Connections:
        existed = await self._blocking.run(self._claim)
        version = await self._check_version(immutable=False)
        self.before = version if existed else None
        writer = await self._connect(read_only=False)
        await self._migrate(writer)
        return Connections(writer, await self._connect(read_only=True))

    async def _open_to_read(self) -> Connections:
        header = await self._blocking.run(lambda: guard.read_header(self._path))
        if header is None:
            raise NoDeskYet(f"There is no database at {self._path}; a desk that runs there makes one.")
        guard.refuse_newer(self._path, header.version, newest_version())
        # a cleanly closed desk in a directory that cannot be written (a backup): SQLite could not make its -shm
        log_file = self._path.with_name(self._path.name + "-wal")
        immutable = not log_file.exists() and not guard.is_writable(self._path.parent)
        self.before = await self._check_version(immutable=immutable)
        if self.before < newest_version() and not self._any_version:
            raise DeskUnusable(behind(str(self._path), self.before))
        return Connections(None, await self._connect(read_only=True, immutable=immutable))

    def _claim(self) -> bool:
        """Everything that can refuse before SQLite opens the file; creates it when there is none (then False)."""
        guard.refuse_network(self._path)
        self._look()
        guard.refuse_read_only(self._path)
        guard.prepare_directory(self._path)
        self._lock = hold_desk(self._path.parent)
        existed = self._look()  # again under the lock: another desk may just have made or upgraded it
        if not existed:
            guard.create(self._path)
        guard.make_private(self._path)
        return existed

    def _look(self) -> bool:
        header = guard.read_header(self._path)
        if header is not None:
            guard.refuse_newer(self._path, header.version, newest_version())
        return header is not None

    async def _connect(self, *, read_only: bool, immutable: bool = False) -> SqliteConnection:
        connection = SqliteConnection(self._path, self._clock, read_only=read_only)
        await connection.open(immutable=immutable)
        self._open.append(connection)
        return connection

    async def _check_version(self, *, immutable: bool) -> int:
        """The schema's version through the write-ahead log, read before anything may write."""
        looking = await self._connect(read_only=True, immutable=immutable)
        try:
            marks = await looking.query("SELECT value FROM sextant WHERE name = ?", ("product",))
            rows = await looking.query("SELECT coalesce(max(version), 0) FROM migrations")
        except StoreError as error:
            raise DeskUnusable(f"{self._path} is damaged or not a Sextant database: {error}.") from error
        finally:
            self._open.remove(looking)
            await looking.close()
        if marks != [("sextant",)]:
            raise DeskUnusable(f"{self._path} does not carry Sextant's mark.")
        version = int(rows[0][0])
        guard.refuse_newer(self._path, version, newest_version())
        return version

    async def _migrate(self, writer: SqliteConnection) -> None:
        at = self._clock.now()
        steps = migrations()[self.before or 0 :]
        if steps and self.before:  # a schema without a step holds no rows
            self.copy = await self._blocking.run(lambda: sqlite_copy.set_aside(self._path, self.before or 0, at))
        statements: list[Statement] = []
        for step in steps:
            # the header's copy of the version lets a later, older program refuse without opening the file
            statements += [*transaction_of(step, at), (f"PRAGMA user_version = {step.version}", ())]
        if statements:
            await writer.transact(statements)  # all steps or none
        # proves at start, not at the first order, that the file can be written and that nobody else holds it
        await writer.transact([("UPDATE sextant SET value = value WHERE name = ?", ("product",))])

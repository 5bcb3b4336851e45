"""A desk's PostgreSQL database as a whole: checked, locked, made or migrated, then a session to write, one to read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from engine.domain.postgres_url import PostgresUrl
from engine.errors import DeskUnusable, StoreUnavailable
from engine.persistence import postgres_guard as guard
from engine.persistence.connection import Connections, NoDeskYet
from engine.persistence.files import make_private_directory
from engine.persistence.lease import Held, hold_desk
from engine.persistence.migrate import behind, newest_version
from engine.persistence.order_rows import PUT_EVENT, PUT_LOG, PUT_ORDER
from engine.persistence.postgres import PostgresConnection
from engine.persistence.postgres_session import READER_SECONDS, Raw, connect
from engine.persistence.sqlite_file import refuse_network
from engine.persistence.statements import BURY, CLAIM_KEY
from engine.ports import Blocking, Clock

_Opener: TypeAlias = Callable[[], Awaitable[Raw]]
# What an intent, and the tombstone of one, is written with: prepared before the first order.
INTENT_STATEMENTS = (CLAIM_KEY, PUT_ORDER, PUT_EVENT, PUT_LOG, BURY)


class PostgresDatabase:
    """Database on a server. Read-only: neither makes, nor locks, nor migrates, beside a running desk or without.

    `directory` is the desk's own on this machine: its journal belongs to one desk, so it is locked too.
    `any_version`: read-only, an older schema is opened as it is. After `open`, `before` is the schema that was found
    (None: no desk was made there). `reader_seconds` is how long the reading session waits for one answer.
    """

    def __init__(
        self,
        url: PostgresUrl,
        clock: Clock,
        blocking: Blocking,
        *,
        directory: Path | None,
        read_only: bool = False,
        take_over_after: float | None = None,
        any_version: bool = False,
        reader_seconds: float = READER_SECONDS,
    ) -> None:
        self._url = url
        self._clock = clock
        self._blocking = blocking
        self._directory = directory
        self._read_only = read_only
        self._take_over_after = take_over_after
        self._any_version = any_version
        self._reader_seconds = reader_seconds
        self.before: int | None = None
        self._lock: Held | None = None
        self._identity: str | None = None
        self._writer = ""
        self._writing_process: int | None = None
        self._open: list[PostgresConnection] = []

    async def open(self) -> Connections:
        """Check, lock, make or migrate, connect. Raises DeskUnusable; a database that is not ours is untouched."""
        try:
            if self._read_only:
                return Connections(None, await self._opened(self._reading_session))
            if self._directory is not None:
                await self._blocking.run(self._hold_directory)
            writer = await self._opened(self._writing_session, INTENT_STATEMENTS)
            return Connections(writer, await self._opened(self._reading_session))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the sessions, and the locks with them; harmless twice."""
        while self._open:
            await self._open.pop().close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _hold_directory(self) -> None:
        assert self._directory is not None
        refuse_network(self._directory)  # the journal's syncs and the locks must hold, wherever the rows are
        try:
            make_private_directory(self._directory)
        except OSError as error:
            raise DeskUnusable(f"The directory {self._directory} cannot be made: {error.strerror}.") from error
        self._lock = hold_desk(self._directory)

    async def _opened(self, session: _Opener, held: tuple[str, ...] = ()) -> PostgresConnection:
        connection = PostgresConnection(self._url.place, session, self._clock, held)
        self._open.append(connection)
        await connection.open()
        return connection

    async def _writing_session(self) -> Raw:
        raw = await connect(self._url, read_only=False)
        try:
            await guard.check_server(raw, self._url, read_only=False)
            await guard.look(raw, self._url)  # before the lock: what is not ours is not even waited for
            await guard.take_lock(raw, self._url, self._writing_process, self._clock, self._take_over_after)
            found = await guard.look(raw, self._url)  # again under the lock: another desk may just have made it
            if self._identity is None:
                self.before = found.version
                await guard.migrate(raw, self._url, found, self._clock.now())
                await raw.execute(guard.NEXT_WRITER)
                found = await guard.look(raw, self._url)
                self._writer = found.writer
                self._take_over_after = None  # the word was given for this start
            self._recognise(found)
            if found.writer != self._writer:
                raise StoreUnavailable(f"another desk has written in the database {self._url.place} meanwhile")
            self._writing_process = raw.get_server_pid()
        except BaseException:
            raw.terminate()
            raise
        return raw

    async def _reading_session(self) -> Raw:
        raw = await connect(self._url, read_only=True, reader_seconds=self._reader_seconds)
        try:
            await guard.check_server(raw, self._url, read_only=True)
            found = await guard.look(raw, self._url)
            if self._identity is None and found.version is None:
                raise NoDeskYet(
                    f"There is no desk in the database {self._url.place} yet; a desk that runs there makes one."
                )
            if self._identity is None and (found.version or 0) < newest_version() and not self._any_version:
                raise DeskUnusable(behind(f"The database {self._url.place}", found.version or 0))
            if self._identity is None and self._read_only:
                self.before = found.version
            self._recognise(found)
        except BaseException:
            raw.terminate()
            raise
        return raw

    def _speaks(self) -> int | None:
        return self.before if self._any_version else newest_version()

    def _recognise(self, found: guard.Found) -> None:
        """Refuse to go on in another database than the one we began with: a restored copy, another server."""
        if self._identity is None:
            self._identity = found.identity
        elif (found.identity, found.version) != (self._identity, self._speaks()):
            raise StoreUnavailable(f"the database {self._url.place} was replaced by another while the desk ran")

"""PostgreSQL beneath the seam: one session at a time, found again when it is lost.

A loss before COMMIT was sent leaves nothing behind, which is certain: a server that reads the end of a connection
inside a transaction rolls it back. From the moment COMMIT is on its way only an answer proves anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from engine.errors import CommitUnknown, DeskUnusable, StoreError, StoreUnavailable
from engine.persistence.connection import Statement
from engine.persistence.postgres_session import (
    Raw,
    affected,
    as_store_error,
    bound,
    is_lost,
    is_the_machine,
    numbered,
    said,
    sqlstate,
    why_unreachable,
)
from engine.ports import Clock

log = logging.getLogger(__name__)

FIRST_REST_SECONDS = 0.1
LONGEST_REST_SECONDS = 1.0  # short: the writer and whoever asks have a growing pace of their own
CLOSE_SECONDS = 1.0
# Server-sent answers to COMMIT that say "rolled back"; 40003 alone of class 40 says "nobody knows".
ROLLED_BACK_CLASSES = ("23", "40")
OUTCOME_UNKNOWN = "40003"


class _Session:
    """A raw session and the statements it holds prepared."""

    __slots__ = ("_prepared", "raw")

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self._prepared: dict[str, Any] = {}

    async def prepare(self, sql: str) -> Any:
        """The statement, held for as long as the session: an order never pays for preparing twice."""
        statement = self._prepared.get(sql)
        if statement is None:
            statement = self._prepared[sql] = await self.raw.prepare(numbered(sql))
        return statement

    async def run(self, sql: str, values: Sequence[Any]) -> int:
        """Rows that the statement changed."""
        statement = await self.prepare(sql)
        await statement.fetch(*bound(values))
        return affected(statement.get_statusmsg())


class PostgresConnection:
    """StoreConnection over asyncpg.

    `connect` opens a session that has proven itself (ours, the newest schema, the desk's lock); it may raise
    DeskUnusable, StoreError and what asyncpg raises. `held` are statements prepared before they are needed.
    """

    def __init__(
        self, place: str, connect: Callable[[], Awaitable[Raw]], clock: Clock, held: Sequence[str] = ()
    ) -> None:
        self._place = place
        self._connect = connect
        self._clock = clock
        self._held = held
        self._session: _Session | None = None
        self._busy = asyncio.Lock()
        self._closed = False
        self._not_before = 0.0
        self._rest = 0.0
        self._why = ""

    async def open(self) -> None:
        """Connect now. Raises DeskUnusable with a sentence."""
        try:
            with self._clock.outside():
                await self._open_session()
        except (DeskUnusable, StoreError):
            raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
            raise DeskUnusable(f"The database {self._place} cannot be used: {why_unreachable(error)}.") from error

    async def transact(self, statements: Sequence[Statement]) -> list[int]:
        """Run all in one transaction; rows affected per statement.

        Raises DuplicateKey, RowRefused, StoreUnavailable (all rolled back), CommitUnknown.
        """
        with self._clock.outside():
            async with self._busy:
                session = await self._begun()
                try:
                    counts = [await session.run(sql, values) for sql, values in statements]
                except Exception as error:
                    await self._undo(session, error)
                    raise as_store_error(error) from error
                except BaseException:
                    self._drop(session)  # cancelled: nobody knows what the session still has to read
                    raise
                await self._commit(session)
                return counts

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows. Raises StoreUnavailable."""
        with self._clock.outside():
            async with self._busy:
                while True:
                    was_open = self._is_open()
                    session = await self._present()
                    try:
                        return [tuple(row) for row in await session.raw.fetch(numbered(sql), *bound(parameters))]
                    except Exception as error:
                        if is_lost(error):
                            self._drop(session)
                            if was_open and not isinstance(error, asyncio.TimeoutError):
                                continue  # it died while nobody looked; asking twice does no harm
                        raise StoreUnavailable(said(error)) from error
                    except BaseException:
                        self._drop(session)
                        raise

    async def close(self) -> None:
        """Release it; harmless twice."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            with self._clock.outside():
                try:
                    await session.raw.close(timeout=CLOSE_SECONDS)
                except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    session.raw.terminate()

    # ------------------------------------------------------------------------------------ transaction

    async def _begun(self) -> _Session:
        """A session inside a new transaction; one that died unnoticed is replaced once."""
        while True:
            was_open = self._is_open()
            session = await self._present()
            try:
                await session.raw.execute("BEGIN")
            except Exception as error:
                self._drop(session)
                if was_open and not isinstance(error, asyncio.TimeoutError):
                    continue
                raise StoreUnavailable(said(error)) from error
            except BaseException:
                self._drop(session)
                raise
            else:
                return session

    async def _commit(self, session: _Session) -> None:
        if session.raw.is_closed():
            self._drop(session)
            raise StoreUnavailable("the connection was lost before the commit was sent")
        try:
            status = await session.raw.execute("COMMIT")
        except Exception as error:
            state = sqlstate(error)
            if state[:2] in ROLLED_BACK_CLASSES and state != OUTCOME_UNKNOWN:
                raise as_store_error(error) from error  # a deferred constraint, a conflict
            self._drop(session)
            raise CommitUnknown(said(error), machine=is_the_machine(error)) from error
        except BaseException:
            self._drop(session)
            raise
        if status != "COMMIT":
            raise StoreUnavailable(f"the server answered COMMIT with {status}")

    async def _undo(self, session: _Session, error: Exception) -> None:
        if not session.raw.is_closed() and not is_lost(error):
            try:
                await session.raw.execute("ROLLBACK")
            except Exception:
                log.warning("a rollback found no server; the server rolls back by itself")
            else:
                return
        self._drop(session)

    # ---------------------------------------------------------------------------------------- session

    def _is_open(self) -> bool:
        return self._session is not None and not self._session.raw.is_closed()

    def _drop(self, session: _Session) -> None:
        session.raw.terminate()
        if self._session is session:
            self._session = None

    async def _present(self) -> _Session:
        """The session, or a new one. Raises StoreUnavailable, at once while it rests after a failure."""
        if self._closed:
            raise StoreUnavailable(f"the database {self._place} is not open")
        if self._session is not None and not self._session.raw.is_closed():
            return self._session
        if self._clock.monotonic() < self._not_before:
            raise StoreUnavailable(self._why, machine=True)
        try:
            session = await self._open_session()
        except Exception as error:
            expected = isinstance(error, DeskUnusable | StoreError)
            self._why = str(error) if expected else f"the database {self._place}: {why_unreachable(error)}"
            self._rest = min(LONGEST_REST_SECONDS, self._rest * 2 or FIRST_REST_SECONDS)
            self._not_before = self._clock.monotonic() + self._rest
            raise StoreUnavailable(self._why, machine=True) from error
        log.warning("the database %s is reached again", self._place)
        return session

    async def _open_session(self) -> _Session:
        raw = await self._connect()
        session = _Session(raw)
        try:
            for sql in self._held:
                await session.prepare(sql)
        except BaseException:
            raw.terminate()
            raise
        self._session, self._rest, self._not_before = session, 0.0, 0.0
        return session

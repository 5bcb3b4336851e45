"""The audit trail: intents made durable before they leave, rows queued behind them, reads beside both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from engine.domain.disagreements import Disagreement
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, ClientOrderId, DecisionKey, Millis, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.intents import IntentRecord
from engine.domain.lease import Holder, Lease
from engine.domain.orders import Order
from engine.domain.positions import Position
from engine.domain.postgres_url import PostgresUrl
from engine.domain.records import FillBooked, LatchSet, LimitsChanged, Record
from engine.errors import CommitUnknown, DeskUnusable, DuplicateKey, StoreError, StoreUnavailable
from engine.persistence import pages, reads
from engine.persistence.connection import Database, RowRefused, Statement
from engine.persistence.jobs import Body, Jobs, dead_jobs
from engine.persistence.sqlite_database import SqliteDatabase
from engine.persistence.statements import bury, claim, statements_of
from engine.persistence.trades_job import TradesBody
from engine.persistence.writer import Writer
from engine.ports import (
    Blocking,
    Clock,
    Committed,
    DayFigures,
    Ids,
    NotHolder,
    StoreConnection,
    StoreHealth,
    Taken,
)
from engine.queries import Answer, TrailQuery

log = logging.getLogger(__name__)

REMEMBER = "INSERT INTO sextant (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
FIRST_LEASE = """
INSERT INTO leases (account, epoch, holder, host, proof, at, renewed, released) VALUES (?, 1, ?, ?, ?, ?, 0, 0)
ON CONFLICT (account) DO NOTHING
"""
NEXT_LEASE = """
UPDATE leases SET epoch = epoch + 1, holder = ?, host = ?, proof = ?, at = ?, renewed = 0, released = 0
WHERE account = ? AND epoch = ?
"""
RENEW_LEASE = "UPDATE leases SET renewed = renewed + 1 WHERE account = ? AND epoch = ?"
RELEASE_LEASE = "UPDATE leases SET released = 1 WHERE account = ? AND epoch = ?"
LOG_LEASE = """
INSERT INTO log (at, kind, subject, version, text) VALUES (?, 'lease', ?, ?, ?)
ON CONFLICT (subject, kind, version) DO NOTHING
"""


def _log_failure(name: str, error: BaseException) -> None:
    log.critical("%s ended: %s; nothing is written any more", name, error)


class SqlStore:
    """Store over any Database. `on_failure` is told when the writer's own task dies, which must never happen."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        blocking: Blocking,
        ids: Ids,
        on_failure: Callable[[str, BaseException], None] = _log_failure,
    ) -> None:
        self._database = database
        self._clock = clock
        self._blocking = blocking
        self._ids = ids
        self._on_failure = on_failure
        self._reader: StoreConnection | None = None
        self._writer: Writer | None = None
        self._salt = ""
        self._job_queued = asyncio.Event()
        self._dead_jobs = (0, "")

    @classmethod
    def sqlite(cls, path: Path, clock: Clock, blocking: Blocking, ids: Ids, *, read_only: bool = False) -> SqlStore:
        """A desk's store in one SQLite file.

        `read_only` neither creates, nor locks, nor migrates: for looking at a database beside a running desk.
        """
        return cls(SqliteDatabase(path, clock, blocking, read_only=read_only), clock, blocking, ids)

    @classmethod
    def postgres(
        cls,
        url: PostgresUrl,
        clock: Clock,
        blocking: Blocking,
        ids: Ids,
        *,
        directory: Path | None = None,
        read_only: bool = False,
        take_over_after: float | None = None,
    ) -> SqlStore:
        """A desk's store in a PostgreSQL database; `directory`, where the desk keeps its journal, is locked with it.

        `take_over_after` ends the session of another desk that has not renewed its leases for so many seconds.
        `read_only` neither makes, nor locks, nor migrates: for looking at a database beside a running desk.
        """
        from engine.persistence.postgres_database import PostgresDatabase  # a desk on SQLite never loads the driver

        database = PostgresDatabase(
            url, clock, blocking, directory=directory, read_only=read_only, take_over_after=take_over_after
        )
        return cls(database, clock, blocking, ids)

    async def open(self) -> None:
        """Open, check ownership, migrate. Raises DeskUnusable with a sentence; the file is then untouched."""
        connections = await self._database.open()
        self._reader = connections.reader
        try:
            if connections.writer is not None:
                self._writer = Writer(connections.writer, self._clock, self._on_failure)
                self._writer.start()
                self._salt = await self.remember("salt", self._ids.fresh("salt-"))
                self._dead_jobs = await dead_jobs(self._reader)
            else:
                rows = await self._reader.query("SELECT value FROM sextant WHERE name = ?", ("salt",))
                self._salt = rows[0][0] if rows else ""
        except StoreError as error:
            await self.close()
            raise DeskUnusable(f"The database cannot be used: {error}.") from error

    async def close(self) -> None:
        """Write what is queued, then close."""
        if self._writer is not None:
            await self._writer.close()
        self._reader = None
        await self._database.close()

    @property
    def salt(self) -> str:
        """The database's own salt for client order ids."""
        return self._salt

    # ------------------------------------------------------------------------------------- writing

    async def commit(self, intent: IntentRecord) -> Committed | Taken | NotHolder:
        """Make an intent durable. Raises StoreUnavailable, CommitUnknown (settle with `bury`)."""
        try:
            await self._written().intent(intent.key, claim(intent))
        except (DuplicateKey, RowRefused) as error:
            return await self._why_refused(intent, error)
        return Committed()

    async def _why_refused(self, intent: IntentRecord, error: StoreError) -> Taken | NotHolder:
        if (holder := await reads.holder_of(self._read(), intent.key)) is not None:
            return Taken(_words(*holder))
        lease = await reads.lease(self._read(), AccountId(intent.account))
        if lease is not None and lease.epoch > intent.epoch:
            return NotHolder(lease.holder.name)
        raise StoreUnavailable(f"the database refuses the row of {intent.key}: {error}") from error

    async def bury(self, key: DecisionKey) -> Committed | Taken:
        """Settle an unknown commit by a tombstone under its key. Raises StoreUnavailable, CommitUnknown (again)."""
        (count,) = await self._written().intent(f"tombstone {key}", bury(key, self._clock.now()))
        if count:
            return Committed()
        holder = await reads.holder_of(self._read(), key)
        if holder is None:
            raise StoreUnavailable(f"nobody knows who holds {key}")
        return Committed() if holder[0] == "tombstone" else Taken(_words(*holder))

    def record(self, record: Record) -> None:
        """Queue a row; never blocks, never raises; retried until written, natural keys make it once."""
        if self._writer is None:
            log.critical("a %s was recorded while the store is not open for writing", type(record).__name__)
            return
        try:
            statements = statements_of(record)
        except Exception:  # a record must never take its trader down with it
            log.exception("a %s cannot be turned into rows", type(record).__name__)
            return
        self._writer.record(type(record).__name__, statements, self._after(record))

    async def write(self, record: Record) -> None:
        """Write a row and return when it is durable. Raises StoreUnavailable."""
        writer, name = self._written(), type(record).__name__
        statements, after = statements_of(record), self._after(record)
        try:
            await writer.write(name, statements, after)
        except CommitUnknown:
            try:  # natural keys: the second time changes nothing if the first one held
                await writer.write(name, statements, after)
            except CommitUnknown as error:
                raise StoreUnavailable(f"nobody knows whether a row was written: {error}") from error
        except (DuplicateKey, RowRefused) as error:
            raise StoreUnavailable(f"the database refuses this row: {error}") from error

    async def settled(self) -> None:
        """Return when everything recorded before this call is durable."""
        await self._written().settled()

    async def apply(self, name: str, statements: Sequence[Statement]) -> list[int]:
        """Run statements of this package ahead of the records; affected rows. Raises as StoreConnection.transact."""
        return await self._written().intent(name, statements)

    async def lease(self, account: AccountId) -> Lease | None:
        """The account's lease, None when nobody ever took it. Raises StoreUnavailable."""
        return await reads.lease(self._read(), account)

    async def take_lease(self, account: AccountId, holder: Holder, after: int) -> int | None:
        """Take the lease over from epoch `after` (0: from nobody); the new epoch, None when another was faster.

        Raises StoreUnavailable, CommitUnknown.
        """
        at = self._clock.now()
        who = (holder.name, holder.host, holder.proof, at)
        taking: Statement = (NEXT_LEASE, (*who, account, after)) if after else (FIRST_LEASE, (account, *who))
        (count,) = await self._written().intent(f"lease {account}", [taking])
        if not count:
            return None
        line = (at, account, str(after + 1), f"epoch {after + 1} taken by {holder.name}")
        self._written().record("lease", [(LOG_LEASE, line)])
        return after + 1

    async def renew_lease(self, account: AccountId, epoch: int) -> bool:
        """Say that the holder of this epoch lives; False when the epoch is not the newest. Raises as take_lease."""
        (count,) = await self._written().intent(f"lease {account}", [(RENEW_LEASE, (account, epoch))])
        return bool(count)

    async def release_lease(self, account: AccountId, epoch: int) -> None:
        """Give the lease back: the next engine needs no proof that this one has ended. Raises as take_lease."""
        await self._written().intent(f"lease {account}", [(RELEASE_LEASE, (account, epoch))])

    def seal(self, reason: str) -> None:
        """Write nothing any more, queued or new: another engine's rows are the newer ones."""
        if self._writer is not None:
            self._writer.seal(reason)

    async def remember(self, name: str, value: str) -> str:
        """Keep a fact about this desk under `name` unless one is kept; return the kept value."""
        question = "SELECT value FROM sextant WHERE name = ?"
        rows = await self._read().query(question, (name,))
        if not rows:
            await self._written().intent(f"fact {name}", [(REMEMBER, (name, value))])
            rows = await self._read().query(question, (name,))
        return str(rows[0][0])

    def _after(self, record: Record) -> Callable[[], None] | None:
        return self._job_queued.set if isinstance(record, FillBooked) else None

    def _written(self) -> Writer:
        if self._writer is None:
            raise StoreUnavailable("the store is not open for writing")
        return self._writer

    def _read(self) -> StoreConnection:
        if self._reader is None:
            raise StoreUnavailable("the store is not open")
        return self._reader

    # -------------------------------------------------------------------------------------- health

    def trouble(self) -> str:
        """Why rows wait; empty while they do not."""
        return "not open for writing" if self._writer is None else self._writer.trouble()

    def health(self) -> StoreHealth:
        """Present state, without touching the database."""
        dead, died_of = self._dead_jobs
        if self._writer is None:
            return StoreHealth(ok=False, detail="not open for writing", dead_jobs=dead, died_of=died_of)
        return msgspec.structs.replace(self._writer.health(), dead_jobs=dead, died_of=died_of)

    def _found_dead(self, count: int, died_of: str) -> None:
        self._dead_jobs = count, died_of

    def probe(self) -> None:
        """Ask the database whether it answers; `health` soon knows."""
        if self._writer is not None:
            self._writer.probe()

    def jobs(
        self,
        instrument: Callable[[Symbol], Instrument],
        *,
        poll_seconds: float = 30.0,
        rest_seconds: float = 0.25,
        more: Mapping[str, Body] | None = None,
    ) -> Jobs:
        """The runner of this store's background jobs; call after `open`, run it as a task of its own.

        What this process queues or puts off wakes it; the poll is for what others did.

        `instrument` gives a contract's terms and may raise KeyError (the job then fails and shows).
        """
        trades = TradesBody(self._read(), self._blocking, instrument, lambda: self._ids.fresh("count-"))
        bodies = {"trades": trades, **(more or {})}
        return Jobs(
            self._written(),
            self._read(),
            self._clock,
            bodies,
            queued=self._job_queued,
            on_dead=self._found_dead,
            outdated=trades.outdated,
            poll_seconds=poll_seconds,
            rest_seconds=rest_seconds,
        )

    # --------------------------------------------------------------------------------------- reads

    async def open_orders(self, account: AccountId) -> tuple[Order, ...]:
        """Orders not proven terminal, and terminal ones still open for fills."""
        return await reads.open_orders(self._read(), account)

    async def ended_beside_unknown(self, account: AccountId, session: SessionId) -> tuple[Order, ...]:
        """The session's ended orders that an order of which nobody knows could be taken for, or they for it."""
        return await reads.ended_beside_unknown(self._read(), account, session)

    async def order(self, client_id: ClientOrderId) -> Order | None:
        """One order's newest row."""
        return await reads.order(self._read(), client_id)

    async def order_of(self, key: DecisionKey) -> Order | None:
        """The order that a submit's natural key stands for, None for any other key."""
        return await reads.order_of(self._read(), key)

    async def fills(self, account: AccountId, symbol: Symbol, since: Millis) -> tuple[Fill, ...]:
        """Executions booked, oldest first; a busted or corrected one only in its newest revision."""
        return await reads.fills(self._read(), account, symbol, since)

    async def start_fills(self, account: AccountId, symbol: Symbol, since: Millis) -> tuple[Position, tuple[Fill, ...]]:
        """What a start needs: the fills that may still be told of or count today, and the position before them."""
        return await reads.start_fills(self._read(), account, symbol, since)

    async def positions(self, account: AccountId) -> dict[Symbol, Position]:
        """Newest position record per symbol, flat ones left out."""
        return await reads.positions(self._read(), account)

    async def evaluated(self, session: SessionId) -> Millis | None:
        """Start of the newest candle the session ever decided on."""
        return await reads.evaluated(self._read(), session)

    async def latches(self) -> tuple[LatchSet, ...]:
        """Latches that hold."""
        return await reads.latches(self._read())

    async def limits(self) -> tuple[LimitsChanged, ...]:
        """Newest live setting per limit name."""
        return await reads.limits(self._read())

    async def disagreements(self, account: AccountId) -> tuple[Disagreement, ...]:
        """Those not settled and acknowledged."""
        return await reads.disagreements(self._read(), account)

    async def day(self, session: SessionId, account: AccountId, symbol: Symbol, since: Millis) -> DayFigures:
        """Fills of the session's contract since `since`, and how many entries the session committed."""
        return await reads.day(self._read(), session, account, symbol, since)

    async def answer(self, query: TrailQuery) -> Answer:
        """A page of the audit trail, on a read-only connection."""
        return await pages.answer(self._read(), query, self._clock.now())


def _words(kind: str, origin: str) -> str:
    return "a tombstone" if kind == "tombstone" else f"a {kind} committed by the {origin}"

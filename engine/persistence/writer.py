"""The one writer: three lanes, group commit, and a memory for what could not be written yet.

Lanes, strictly in this order: **intents** (and writes made while the database is in trouble), **records**, and
background work (jobs). All that waits in a lane goes in one transaction and everybody is woken by its one fsync;
there is no timer, so a lone intent waits for nothing but its own.

A batch that fails is tried again item by item, so that a row the database refuses harms only itself. When the
database does not answer at all, whoever waits is told at once, and what was merely recorded stays queued and is
tried again, for ever, at a growing pace.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from engine.domain.ids import Millis
from engine.errors import CommitUnknown, StoreError, StoreUnavailable
from engine.periodic import Tasks, cancel_and_wait, done_within
from engine.persistence.connection import RowRefused, Statement
from engine.ports import Clock, StoreConnection, StoreHealth, Timer

log = logging.getLogger(__name__)

INTENTS_AT_ONCE = 500
RECORDS_AT_ONCE = 64  # bounds how long an intent can stand behind a transaction of mere records
FIRST_REST_SECONDS = 0.1
LONGEST_REST_SECONDS = 2.0
PATIENCE_SECONDS = 6.0  # above the database's own lock timeout, so that a locked database answers by itself
CLOSE_SECONDS = 4.0  # below what an engine that stops waits for its audit trail
SILENT_SECONDS = 1.0  # a transaction that takes longer shows in the lamp
STRIKES = 3
CANARY: Statement = ("UPDATE sextant SET value = value WHERE name = ?", ("product",))


class Item:
    """Something to write: its statements, and who waits for it (nobody, for a record)."""

    __slots__ = ("after", "name", "statements", "strikes", "waiter")

    def __init__(
        self,
        name: str,
        statements: Sequence[Statement],
        waiter: asyncio.Future[list[int]] | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.statements = statements
        self.waiter = waiter
        self.after = after
        self.strikes = 0

    @property
    def withdrawn(self) -> bool:
        """Whether whoever asked has gone away."""
        return self.waiter is not None and self.waiter.done()

    def done(self, counts: list[int]) -> None:
        """It is durable."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(counts)
        if self.after is not None:
            self.after()

    def failed(self, error: StoreError) -> None:
        """It is not, or nobody knows."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)


class Writer:
    """Owns the writing connection from `start` to `close`."""

    def __init__(
        self,
        connection: StoreConnection,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._patience = patience
        self._tasks = Tasks("writer", on_failure)
        self._intents: deque[Item] = deque()
        self._records: deque[Item] = deque()
        self._background: deque[Item] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._closing = False
        self._sealed = ""
        self._failed = 0
        self._trouble = ""
        self._since: Millis | None = None
        self._rest = 0.0
        self._rest_timer: Timer | None = None
        self._writing: list[Item] = []
        self._writing_since: float | None = None
        self._probe_wanted = False

    # ------------------------------------------------------------------------------------- asking

    def start(self) -> None:
        """Begin to write."""
        self._loop_task = self._tasks.spawn(self._run(), "write")

    async def intent(self, name: str, statements: Sequence[Statement]) -> list[int]:
        """Write ahead of everything; affected rows.

        Raises DuplicateKey, RowRefused, StoreUnavailable (nothing written), CommitUnknown.
        """
        return await self._wait(self._intents, Item(name, statements, self._future()))

    async def write(
        self, name: str, statements: Sequence[Statement], after: Callable[[], None] | None = None
    ) -> list[int]:
        """Write in the order of the records; while the database is in trouble, try at once. Raises as `intent`."""
        lane = self._intents if self._rest_timer is not None else self._records
        return await self._wait(lane, Item(name, statements, self._future(), after))

    async def background(self, name: str, statements: Sequence[Statement]) -> list[int]:
        """Write when nothing else waits, in a transaction of its own. Raises as `intent`."""
        return await self._wait(self._background, Item(name, statements, self._future()))

    def record(self, name: str, statements: Sequence[Statement], after: Callable[[], None] | None = None) -> None:
        """Queue; retried until written or refused for good."""
        if self._sealed:
            return
        self._records.append(Item(name, statements, after=after))
        self._wake.set()

    async def settled(self) -> None:
        """Return when everything recorded before is durable (or was refused for good)."""
        marker = Item("", (), self._future())
        self._records.append(marker)
        self._wake.set()
        assert marker.waiter is not None
        await marker.waiter

    def seal(self, reason: str) -> None:
        """Take nothing any more, and drop what waits: written late, it would overwrite what is newer than it."""
        log.critical("nothing is written any more: %s", reason)
        self._sealed = reason
        for lane in (self._intents, self._records, self._background):
            for item in lane:
                item.failed(StoreUnavailable(reason))
            lane.clear()

    def _future(self) -> asyncio.Future[list[int]]:
        return asyncio.get_running_loop().create_future()

    async def _wait(self, lane: deque[Item], item: Item) -> list[int]:
        if self._closing or self._sealed:
            raise StoreUnavailable(self._sealed or "the store is closed")
        assert item.waiter is not None
        lane.append(item)
        self._wake.set()
        patience = self._clock.call_at(
            self._clock.now() + round(self._patience * 1000), lambda: self._lose_patience(item)
        )
        try:
            return await item.waiter
        finally:
            patience.cancel()

    def _lose_patience(self, item: Item) -> None:
        said = f"the database has not answered for {self._patience:g} s"
        if item in self._writing:
            item.failed(CommitUnknown(said))
        else:
            item.failed(StoreUnavailable(said))

    # -------------------------------------------------------------------------------------- health

    def probe(self) -> None:
        """Ask the database whether it answers, once nothing waits to be written; `health` then knows."""
        self._probe_wanted = not self._sealed
        self._wake.set()

    def trouble(self) -> str:
        """Why rows wait, without counting them; empty while nothing is wrong."""
        if self._sealed or self._trouble:
            return self._sealed or self._trouble
        silent = self._silent()
        return f"no answer for {silent:.0f} s" if silent > SILENT_SECONDS else ""

    def health(self) -> StoreHealth:
        """Present state."""
        waiting = sum(1 for item in (*self._intents, *self._records) if item.name)
        detail, since = self.trouble(), None
        if self._sealed or self._trouble:
            since = self._since
        elif detail:
            since = self._clock.now() - round(self._silent() * 1000)
        return StoreHealth(ok=not detail, detail=detail, waiting=waiting, failed=self._failed, since=since)

    def _silent(self) -> float:
        """Seconds since what is being written was begun."""
        return 0.0 if self._writing_since is None else self._clock.monotonic() - self._writing_since

    def _ill(self, error: StoreError) -> None:
        if not self._trouble:
            log.error("the database does not take rows: %s", error)
            self._since = self._clock.now()
        self._trouble = str(error) or type(error).__name__
        self._rest = min(LONGEST_REST_SECONDS, self._rest * 2 or FIRST_REST_SECONDS)
        if self._rest_timer is not None:
            self._rest_timer.cancel()
        self._rest_timer = self._clock.call_at(self._clock.now() + round(self._rest * 1000), self._rested)

    def _rested(self) -> None:
        self._rest_timer = None
        self._wake.set()

    def _well(self) -> None:
        if self._trouble:
            log.warning("the database takes rows again")
        self._trouble, self._since, self._rest = "", None, 0.0
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    # ------------------------------------------------------------------------------------- writing

    async def close(self) -> None:
        """Write what is queued, then stop; what cannot be written now is named in the log and counted as failed."""
        self._closing = True
        self._wake.set()
        if self._loop_task is not None:
            await done_within(self._clock, min(self._patience, CLOSE_SECONDS), self._loop_task)
        unknown = [item.name for item in self._writing if item.name]
        await self._tasks.close()
        if self._rest_timer is not None:
            self._rest_timer.cancel()
        if unknown:
            log.critical("nobody knows whether %d rows were written: %s", len(unknown), ", ".join(unknown[:20]))
        lost = [item.name for item in self._records if item.name]
        self._failed += len(unknown) + len(lost)
        if lost:
            log.critical("%d rows were never written: %s", len(lost), ", ".join(lost[:20]))
        for lane in (self._intents, self._records, self._background):
            for item in lane:
                item.failed(StoreUnavailable("the store is closed"))
            lane.clear()

    async def abandon(self) -> None:
        """Stop without writing what waits (a crash, in tests)."""
        self._closing = True
        if self._loop_task is not None:
            await cancel_and_wait(self._loop_task)

    async def _run(self) -> None:
        while True:
            resting = self._rest_timer is not None
            if self._intents:
                await self._write_intents()
            elif self._records and (not resting or self._closing):
                await self._write_records()
                if self._closing and self._rest_timer is not None:
                    return
            elif self._background and not resting:
                await self._write_together([self._background.popleft()])
            elif self._closing:
                return
            elif (self._probe_wanted or self._trouble) and not (resting or self._sealed):
                await self._probe()
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _probe(self) -> None:
        """In trouble by a write, for a database may answer and yet take nothing; otherwise at the price of a trip."""
        self._probe_wanted = False
        self._writing_since = self._clock.monotonic()
        try:
            await self._connection.transact([CANARY] if self._trouble else [])
        except StoreError as error:
            self._ill(error)
        except Exception:
            log.exception("an unforeseen failure while asking the database")
            self._ill(StoreUnavailable("it cannot be asked"))
        else:
            self._well()
        finally:
            self._writing_since = None

    async def _write_intents(self) -> None:
        batch = [self._intents.popleft() for _ in range(min(len(self._intents), INTENTS_AT_ONCE))]
        await self._write_together(batch)

    async def _write_records(self) -> None:
        """One batch from the head of the lane; what must be tried again returns to the head in its order."""
        batch = [self._records.popleft() for _ in range(min(len(self._records), RECORDS_AT_ONCE))]
        again = await self._write_together(batch)
        if not self._sealed:
            self._records.extendleft(reversed(again))

    async def _write_together(self, batch: list[Item]) -> list[Item]:
        """Write items in one transaction, or each alone when that fails; return what must be tried again."""
        batch = [item for item in batch if not item.withdrawn]
        if not batch:
            return []
        try:
            await self._attempt(batch)
        except StoreError as error:
            if len(batch) == 1:
                return await self._settle(batch[0], error)
            if isinstance(error, CommitUnknown):
                # rows of unknown fate may be written again under their keys; an intent's fate is its caller's
                return await self._one_by_one([item for item in batch if not self._unknown(item, error)])
            if isinstance(error, StoreUnavailable) and max(item.strikes for item in batch) < STRIKES:
                self._ill(error)
                return self._keep_records(batch, error)
            return await self._one_by_one(batch)
        return []

    def _unknown(self, item: Item, error: StoreError) -> bool:
        if item.waiter is None or not item.name:
            return False
        item.failed(CommitUnknown(str(error)))
        return True

    def _keep_records(self, batch: list[Item], error: StoreError) -> list[Item]:
        again = []
        for item in batch:
            if item.waiter is None or not item.name:
                item.strikes += 1
                again.append(item)
            else:
                item.failed(StoreUnavailable(str(error)))
        return again

    async def _one_by_one(self, batch: list[Item]) -> list[Item]:
        again: list[Item] = []
        went = False
        for index, item in enumerate(batch):
            if item.withdrawn:
                continue
            if self._trouble and not went and index >= STRIKES:  # an outage, not a row: do not try them all
                return again + self._keep_records(batch[index:], StoreUnavailable(self._trouble))
            if again:  # nothing overtakes a row that is to be tried again: the newest of a kind is what is believed
                return again + batch[index:]
            try:
                await self._attempt([item])
                went = True
            except StoreError as error:
                again += await self._settle(item, error)
        return again

    async def _settle(self, item: Item, error: StoreError) -> list[Item]:
        """What a failure of one item alone means; the item itself when it is to be tried again."""
        if isinstance(error, StoreUnavailable | CommitUnknown):
            self._ill(error)
            if item.waiter is None or not item.name:
                item.strikes += 1
                # a full disk takes a harmless row and refuses one that needs another page: no row is given up for it
                is_suspect = item.strikes > STRIKES and not error.machine
                return await self._suspect(item, error) if is_suspect else [item]
        elif item.waiter is None:
            self._give_up(item, str(error))
        item.failed(error)
        return []

    async def _suspect(self, item: Item, error: StoreError) -> list[Item]:
        """Is it the database or the row? Each failure of the row alone is held against a harmless write."""
        for _ in range(STRIKES):
            try:
                await self._connection.transact([CANARY])
            except Exception:
                return [item]
            try:
                await self._attempt([item])
            except StoreError as again:
                error = again
            else:
                return []
        self._well()
        self._give_up(item, f"{error}, time after time, while others are taken")
        return []

    def _give_up(self, item: Item, why: str) -> None:
        self._failed += 1
        log.critical("the database refuses the row %s: %s", item.name, why)

    async def _attempt(self, batch: list[Item]) -> None:
        """One transaction of all statements; every item is told when it holds."""
        statements = [statement for item in batch for statement in item.statements]
        self._writing = batch
        self._writing_since = self._clock.monotonic()
        try:
            counts = await self._connection.transact(statements) if statements else []
        except StoreError:
            raise
        except Exception as error:  # a fault of ours or a driver's; the rows are as refused as can be told
            log.exception("an unforeseen failure while writing")
            raise RowRefused(repr(error)) from error
        finally:
            self._writing = []
            self._writing_since = None
        if statements:
            self._well()
        start = 0
        for item in batch:
            end = start + len(item.statements)
            item.done(counts[start:end])
            start = end

"""An intent is written before it is sent: to the database, or, for what may not wait, to the journal.

An entry without its commit is not sent. An exit or a cancel waits at most 250 ms for its commit, then goes to the
journal; its outcome follows it there.
"""

from __future__ import annotations

import asyncio
import logging
from typing import assert_never

from msgspec import Struct

from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import AcceptedOrder, RefusedOrder
from engine.domain.ids import DecisionKey
from engine.domain.intents import (
    CancelIntent,
    Concluded,
    IntentRecord,
    JournalRecord,
    Outcome,
    Prepared,
    ReplaceIntent,
    SubmitIntent,
)
from engine.domain.orders import TERMINAL, Flag, Order
from engine.errors import CommitUnknown, StoreError
from engine.periodic import done_within
from engine.ports import Committed, NotHolder, Taken
from engine.session import LockOut, NoAnswer, NotSent, Sent, SessionDesk
from engine.snapshot import Severity

log = logging.getLogger(__name__)
_KINDS = {SubmitIntent: "exit", CancelIntent: "cancel", ReplaceIntent: "replace"}


class _Void(Struct, frozen=True):
    """Why an intent is not durable; `stops_exits` only when something definite stands against sending it at all."""

    reason: str
    stops_exits: bool = False


class IntentRecorder:
    """Makes the intents of one session durable."""

    def __init__(self, desk: SessionDesk) -> None:
        self._desk = desk
        self._journalled_keys: set[DecisionKey] = set()
        self._journalling: asyncio.Task[str | None] | None = None

    async def entry(self, intent: SubmitIntent) -> str | None:
        """None when the database has it in time; else why the entry may not be sent, and its key is made void."""
        desk = self._desk
        commit = desk.tasks.spawn(self._outcome_of(intent), f"commit {intent.key}")
        try:
            if not await done_within(desk.clock, desk.numbers.entry_sizing_read, commit):
                desk.tasks.launch(self.bury(intent), f"bury {intent.key}")
                return "the database did not take the order in time"
        except BaseException:
            desk.tasks.launch(self.bury(intent), f"bury {intent.key}")
            raise
        void = commit.result()
        return None if void is None else void.reason

    async def _outcome_of(self, intent: IntentRecord) -> _Void | None:
        """None when durable, else why not."""
        try:
            outcome = await self._desk.store.commit(intent)
        except CommitUnknown:
            return await self._settle_unknown(intent)
        except StoreError as error:
            return _Void(f"the database does not answer: {error}")
        match outcome:
            case Committed():
                return None
            case Taken(by=by):
                return _Void(f"this decision was used before ({by})", stops_exits=True)
            case NotHolder(holder=holder):
                self._desk.lease.told_of(holder)
                return _Void(f"another engine holds the lease: {holder}", stops_exits=True)
            case _:
                assert_never(outcome)

    async def _settle_unknown(self, intent: IntentRecord) -> _Void | None:
        try:
            settled = await self._desk.store.bury(intent.key)
        except StoreError as error:
            return _Void(f"the outcome of the commit is unknown: {error}")
        match settled:
            case Taken():
                return None
            case Committed():
                return _Void("the commit was lost; its key is void")

    async def bury(self, intent: IntentRecord) -> None:
        """Make the key of an intent that was not sent void, so that a late commit cannot bring it back."""
        try:
            await self._desk.store.bury(intent.key)
        except StoreError as error:
            log.warning("the unsent intent %s could not be voided yet: %s", intent.key, error)

    async def durable(self, intent: IntentRecord, order: Order, begun: float | None) -> str | None:
        """An exit's or cancel's record: the database within 250 ms, else the journal, else the loudest alarm.

        Only two things stop it: its decision was used before, or another engine commands the account, or may since
        this work `begun`; the latter is read again last, in the step that starts the send.
        """
        desk = self._desk
        patience = desk.numbers.exit_commit
        if (lost := await desk.lease.why_nothing(patience, begun)) is not None:
            return lost
        commit = desk.tasks.spawn(self._outcome_of(intent), f"commit {intent.key}")
        if await done_within(desk.clock, patience, commit):
            void = commit.result()
            if void is not None and void.stops_exits:
                return void.reason
            if void is None:
                return await desk.lease.why_nothing(patience, begun)
        self._journalled_keys.add(intent.key)
        failure = await self._journalled(Prepared(intent))
        if failure is not None:
            desk.reporter.alert(
                f"unrecorded:{intent.key}",
                Severity.CRITICAL,
                f"{desk.id}: {_KINDS[type(intent)]} sent WITHOUT A RECORD; database and journal both fail ({failure})",
                lasting=True,
            )
        else:
            current = desk.current(order)
            if Flag.JOURNALLED not in current.flags and current.state not in TERMINAL:
                desk.put(
                    lifecycle.flagged(current, desk.now(), Flag.JOURNALLED),
                    "journalled",
                    "the database did not answer in 250 ms",
                )
        return await desk.lease.why_nothing(patience, begun)

    async def conclude(self, key: DecisionKey, order: Order, answer: Sent) -> None:
        """Let the outcome follow an intent that went to the journal; of others the order's own rows tell it."""
        if key not in self._journalled_keys:
            return
        self._journalled_keys.discard(key)
        match answer:
            case AcceptedOrder():
                outcome = Outcome.ACCEPTED
            case RefusedOrder():
                outcome = Outcome.REFUSED
            case NotSent() | LockOut():
                outcome = Outcome.NOT_SENT
            case NoAnswer():
                outcome = Outcome.IN_DOUBT
            case _:
                assert_never(answer)
        record = Concluded(
            key=key,
            outcome=outcome,
            at=self._desk.now(),
            broker_id=order.broker_id,
            detail=order.reason,
        )
        if (failure := await self._journalled(record)) is not None:
            log.critical("the outcome of %s could not be journalled: %s", key, failure)

    async def _journalled(self, record: JournalRecord) -> str | None:
        """None when it is durable in the journal, else why not; a disk that hangs is waited for once."""
        desk = self._desk
        hung = self._journalling
        writing = desk.tasks.spawn(self._append(record), "journal")
        if hung is not None and not hung.done():
            return "the journal does not answer"
        if await done_within(desk.clock, desk.numbers.exit_commit, writing):
            return writing.result()
        self._journalling = writing
        return f"the journal did not answer in {desk.numbers.exit_commit * 1000:g} ms"

    async def _append(self, record: JournalRecord) -> str | None:
        try:
            await self._desk.journal.append(record)
        except OSError as error:
            return str(error)
        return None

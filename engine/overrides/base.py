"""What all overrides share: finding things, recording before or after, and running procedures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, assert_never

from engine import commands as c
from engine.desk_account import DeskAccount
from engine.domain.broker import AcceptedOrder, RefusedOrder
from engine.domain.ids import ClientOrderId, CommandId, DecisionKey, SessionId
from engine.domain.intents import PAUSE_NOTE, Noted
from engine.domain.orders import Order
from engine.domain.records import LatchKind, LatchSet, OverrideRecorded
from engine.engine import Engine
from engine.errors import SextantError, StoreError
from engine.periodic import Tasks, done_within
from engine.session import LockOut, NoAnswer, NotSent
from engine.session_run import SessionRun
from engine.snapshot import Severity

log = logging.getLogger(__name__)


class Refusal(SextantError):
    """A command cannot be taken; the message says why in one sentence."""


class OverrideBase:
    """The engine as overrides see it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks = Tasks("overrides", self._failed)

    def _failed(self, name: str, error: BaseException) -> None:
        self._engine.board.alert(
            f"task:{name}", Severity.CRITICAL, f"{name} failed: {type(error).__name__}: {error}", lasting=True
        )

    async def close(self) -> None:
        """Stop procedures that still run."""
        await self._tasks.close()

    def _run(self, session: SessionId) -> SessionRun:
        try:
            return self._engine.sessions[session]
        except KeyError:
            raise Refusal(f"there is no session {session}") from None

    def _runs(self, session: SessionId | None) -> tuple[SessionRun, ...]:
        return tuple(self._engine.sessions.values()) if session is None else (self._run(session),)

    def _owner(self, order: ClientOrderId) -> tuple[SessionRun, Order]:
        for run in self._engine.sessions.values():
            found = run.desk.book.get(order)
            if found is not None:
                return run, found
        raise Refusal(f"there is no order {order} in memory")

    def _account_of(self, run: SessionRun) -> DeskAccount:
        return self._engine.accounts[run.desk.settings.account]

    def _record(
        self, origin: c.Origin, what: str, session: SessionId | None, reason: str, step: int = 0
    ) -> OverrideRecorded:
        return OverrideRecorded(
            id=origin.id,
            step=step,
            what=what,
            operator=origin.operator,
            origin=origin.place,
            at=origin.at,
            session=session,
            reason=reason,
        )

    async def _committed(self, origin: c.Origin, what: str, session: SessionId | None, reason: str) -> None:
        """What adds risk: durable first, with a reason, or it does not happen."""
        if not reason.strip():
            raise Refusal("this adds risk: it needs a reason")
        try:
            with self._engine.clock.outside():
                await self._engine.store.write(self._record(origin, what, session, reason))
        except StoreError as error:
            raise Refusal(f"not done: it could not be recorded first ({error})") from error

    def _note(self, origin: c.Origin, what: str, session: SessionId | None = None, reason: str = "") -> None:
        """What lowers risk: it happens; the row is queued, and journalled where the database does not take it."""
        self._engine.store.record(self._record(origin, what, session, reason))
        self._secure(self._noted(origin, f"override/{origin.id}", what, session, reason))

    def _hold(self, run: SessionRun, origin: c.Origin, reason: str) -> None:
        """Pause a session's entries until resumed, in this life and the next ones."""
        run.holds += 1
        run.desk.blocks.set("pause", reason)
        self._engine.store.record(self._latch(run.id, LatchKind.PAUSE, True, reason, origin.operator))
        self._secure(self._noted(origin, f"override/{origin.id}/{run.id}", PAUSE_NOTE, run.id, reason))

    def _noted(self, origin: c.Origin, key: str, what: str, session: SessionId | None, detail: str) -> Noted:
        return Noted(
            key=DecisionKey(key),
            at=self._engine.clock.now(),
            what=what,
            operator=origin.operator,
            origin=origin.place,
            session=session,
            detail=detail,
        )

    def _secure(self, noted: Noted) -> None:
        self._tasks.launch(self._journal_unless_written(noted), "journal override")

    async def _journal_unless_written(self, noted: Noted) -> None:
        """Into the journal when the rows queued so far are not durable within an exit's patience."""
        engine = self._engine
        written = self._tasks.spawn(self._written(), "override written")
        if await done_within(engine.clock, engine.plan.numbers.exit_commit, written) and written.result():
            return
        journalled = self._tasks.spawn(self._journalled(noted), "override journalled")
        hung = not await done_within(engine.clock, engine.plan.numbers.exit_commit, journalled)
        failure = "the journal does not answer" if hung else journalled.result()
        if failure is None:
            return
        log.critical("override %s is recorded nowhere yet: %s", noted.what, failure)
        id = f"unwritten:{noted.key}"
        text = f"{noted.what} by {noted.operator} is recorded nowhere yet ({failure}); it dies with this process"
        engine.board.alert(id, Severity.CRITICAL, text, lasting=True)
        if hung:  # whichever of the two answers first
            await asyncio.wait({written, journalled}, return_when=asyncio.FIRST_COMPLETED)
        if (written.done() and written.result()) or await journalled is None or await written:
            engine.board.clear(id)

    async def _journalled(self, noted: Noted) -> str | None:
        """None when it is durable in the journal, else why not."""
        try:
            await self._engine.plan.journal.append(noted)
        except OSError as error:
            return str(error)
        return None

    async def _written(self) -> bool:
        try:
            await self._engine.store.settled()
        except StoreError:
            return False
        return True

    def _start(self, work: Coroutine[Any, Any, None], name: str, id: CommandId | None = None) -> None:
        """Run a procedure; one that fails ends its lines with the failure instead of running on for ever."""
        self._tasks.launch(self._told(work, name, id), name)

    async def _told(self, work: Coroutine[Any, Any, None], name: str, id: CommandId | None) -> None:
        try:
            await work
        except Exception as error:
            if id is not None:
                self._engine.board.end(id, False, f"{name} failed: {type(error).__name__}: {error}")
            raise

    def _latch(self, session: SessionId | None, kind: LatchKind, held: bool, reason: str, by: str) -> LatchSet:
        return LatchSet(session=session, kind=kind, held=held, reason=reason, at=self._engine.clock.now(), by=by)

    async def _flatten_all(self, id: CommandId, say: Callable[[str], None]) -> None:
        flat = await self._engine.flatten_all(str(id), say)
        self._engine.board.end(id, flat, "flat confirmed everywhere" if flat else "NOT flat")


def told(answer: AcceptedOrder | RefusedOrder | NotSent | NoAnswer | LockOut) -> str:
    match answer:
        case AcceptedOrder():
            return "the broker took the cancel"
        case RefusedOrder(reason=reason):
            return f"the broker refused: {reason}"
        case NotSent(reason=reason) | NoAnswer(reason=reason) | LockOut(reason=reason):
            return f"not done: {reason}"
        case _:
            assert_never(answer)

"""Flatten: entries off, entries and targets cancelled, the position closed, and the broker asked whether it is flat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from msgspec import Struct

from engine.domain.ids import SessionId
from engine.domain.orders import TERMINAL, ZERO, Order, Role
from engine.outbound.exit_road import ExitRoad, Failed, Held, Left, ignore_line
from engine.outbound.submission import Submission
from engine.periodic import done_within
from engine.session import SessionDesk
from engine.snapshot import Severity

CANCEL_SECONDS = 5.0
CLOSE_SECONDS = 5.0


class FlattenResult(Struct, frozen=True):
    """Flat means position zero and no unproven own order on the contract, by a fresh read."""

    flat: bool
    text: str


class Flattener:
    """One session's flatten procedure.

    One that ended NOT flat stands until resumed: what its unproven orders still fill is closed under it.
    """

    def __init__(self, desk: SessionDesk, submission: Submission, exits: ExitRoad) -> None:
        self._desk = desk
        self._submission = submission
        self._exits = exits
        self._running = 0
        self._stands = False
        self.binds = False
        """Flattened and not resumed since; a restart closes what appears then."""
        self._left = ZERO
        self._deadline = 0.0

    async def run(self, id: str, say: Callable[[str], None]) -> FlattenResult:
        """Carry it out, one line with the broker's evidence per step, until flat or the deadline."""
        self._running += 1
        self._stands = self.binds = True
        try:
            result = await self._run(id, say)
        finally:
            self._running -= 1
            self._left = self._desk.book.position.quantity
        self._stands = not result.flat
        return result

    def look(self) -> None:
        """Once a second: while a flatten stands, a position that moved since is closed again."""
        held = self._desk.book.position.quantity
        if self._desk.book.confirmed_at is None:
            return  # a life that has not yet asked where it stands
        if not held and not self._running:
            self._left = ZERO  # what comes next is another position, though it may be as large
        if self._stands and not self._running and held and held != self._left:
            self._left = held
            text = f"{self._desk.id}: position {held} under a standing flatten; closing it"
            self._desk.reporter.alert(f"flatten:{self._desk.id}", Severity.CRITICAL, text, lasting=True)
            self._desk.tasks.launch(self._again(), "standing flatten")

    async def _again(self) -> None:
        await self.run(f"standing:{self._desk.now()}", ignore_line)

    async def why_no_longer(self) -> str | None:
        """Asked again after it was flat, while its deadline allows: None, or why nobody may be told that it is flat.

        A position that came meanwhile is closed under the flatten as soon as it is known, unless somebody resumed.
        """
        desk, read = self._desk, None
        while read is None:
            read = await desk.road.fresh_position(desk.book.symbol, desk.numbers.query_timeout)
            if read is None and desk.clock.monotonic() >= self._deadline:
                return "NOT confirmed flat: the broker does not answer any more"
        held, unproven = desk.book.position.quantity, self._unproven()
        if not read.quantity and not held and not unproven:
            return None
        self._stands = self.binds  # whoever resumed meanwhile wants what came
        desk.road.suspect(f"{desk.book.symbol}: broker {read.quantity}, memory {held} after it was flat", orders=True)
        if read.quantity or held:
            return f"NOT flat: position is {read.quantity or held}"
        return f"NOT flat: {unproven[0].role} {unproven[0].client_id} is {unproven[0].state}"

    def stand(self) -> None:
        """An earlier life was flattened and not resumed: what still fills is closed under it."""
        self._stands = self.binds = True

    def lift(self) -> None:
        """Resumed: nothing stands any more."""
        self._stands = self.binds = False

    async def _run(self, id: str, say: Callable[[str], None]) -> FlattenResult:
        desk = self._desk
        deadline = self._deadline = desk.clock.monotonic() + desk.numbers.flatten_deadline
        desk.blocks.set("pause", "paused: flattened by hand until resumed")
        round_number = 0
        last = FlattenResult(False, "nothing was tried")
        while round_number == 0 or desk.clock.monotonic() < deadline:
            round_number += 1
            await self._cancel_entries_and_targets(say)
            if not await self._close(f"{id}:{round_number}", say, deadline):
                held = desk.book.position.quantity
                last = FlattenResult(False, f"NOT flat: position is {held}; its exit goes on by itself")
                break
            last = await self._verify(say)
            if last.flat:
                desk.reporter.clear(f"flatten:{desk.id}")
                return last
            if not await desk.until(self._may_go_on, min(2.0, max(0.1, deadline - desk.clock.monotonic()))):
                continue
        desk.reporter.alert(f"flatten:{desk.id}", Severity.CRITICAL, f"{desk.id}: {last.text}", lasting=True)
        return last

    def _may_go_on(self) -> bool:
        book = self._desk.book
        return book.position.is_flat and not book.open()

    def _unproven(self) -> list[Order]:
        return [o for o in self._desk.book.open() if o.is_open]

    async def _cancel_entries_and_targets(self, say: Callable[[str], None]) -> None:
        desk = self._desk
        linked_pair = desk.road.capabilities.one_cancels_other == "broker"
        targets = [
            o
            for o in desk.book.open()
            if o.role is Role.ENTRY or (o.role is Role.TARGET and not (o.linked and linked_pair))
        ]
        if not targets:
            return
        say("cancelling " + ", ".join(f"{o.role} {o.client_id}" for o in targets))
        await asyncio.gather(*(self._submission.cancel(o, "flatten") for o in targets))
        proven = await desk.until(lambda: all(desk.current(o).state in TERMINAL for o in targets), CANCEL_SECONDS)
        for order in targets:
            order = desk.current(order)
            say(
                f"{order.role} {order.client_id}: {order.state}"
                + ("" if order.state in TERMINAL else ", closing anyway")
            )
        if not proven:
            say(f"not every cancel was confirmed in {CANCEL_SECONDS:g} s")

    async def _close(self, origin: str, say: Callable[[str], None], deadline: float) -> bool:
        """Whether the exit came to an end by the deadline; one that still waits is left to go on by itself."""
        desk = self._desk
        held = desk.book.position.quantity
        if not desk.road.is_up:
            say("the account link is down: the exit leaves when it is up")
        leaving = desk.tasks.spawn(self._exits.leave(origin, None, "flatten", say=say), f"flatten exit {origin}")
        if not await done_within(desk.clock, max(1.0, deadline - desk.clock.monotonic()), leaving):
            return False
        match leaving.result():
            case Left(order=order, text=text):
                say(text + (f" ({order.client_id}, {desk.current(order).state})" if order is not None else ""))
                if order is not None:
                    await desk.until(lambda: desk.book.position.is_flat, CLOSE_SECONDS)
                    say(f"position {held} -> {desk.book.position.quantity}")
            case Held(text=text):
                say(f"{text}; type REVERSE to force, which risks a reversal")
            case Failed(text=text):
                say(text)
        return True

    async def _verify(self, say: Callable[[str], None]) -> FlattenResult:
        desk = self._desk
        if desk.book.position.is_flat:
            for order in self._unproven():
                if order.role.is_protective:
                    await self._submission.cancel(order, "flat")
            await desk.until(lambda: not self._unproven(), CANCEL_SECONDS)
        position = await desk.road.fresh_position(desk.book.symbol, desk.numbers.query_timeout)
        if position is None:
            return FlattenResult(False, "NOT confirmed flat: the broker does not answer")
        unproven = self._unproven()
        say(f"broker says position {position.quantity}, own orders open: {len(unproven)}")
        if position.quantity:
            return FlattenResult(False, f"NOT flat: position is {position.quantity}")
        if unproven:
            first = unproven[0]
            return FlattenResult(False, f"NOT flat: {first.role} {first.client_id} is {first.state}")
        at = desk.instrument.calendar.local(desk.now())
        return FlattenResult(True, f"flat confirmed at {at:%H:%M:%S} {at.tzname()}")


async def flatten_side_by_side(sessions: Mapping[SessionId, Flattener], id: str, say: Callable[[str], None]) -> bool:
    """Flatten each under `id`; whether all are flat in the end."""

    async def one(session: SessionId, flattener: Flattener) -> bool:
        result = await flattener.run(f"{id}:{session}", lambda line: say(f"{session}: {line}"))
        say(f"{session}: {result.text}")
        return result.flat

    flat = await asyncio.gather(*(one(*each) for each in sessions.items()))
    # the word is about all at one time: a stranger's fill or a bust may have opened one that was flat first
    first = [each for each, is_flat in zip(sessions.items(), flat, strict=True) if is_flat]
    reasons = await asyncio.gather(*(flattener.why_no_longer() for _, flattener in first))
    for (session, _), why in zip(first, reasons, strict=True):
        if why is not None:
            say(f"{session}: {why}")
    return all(flat) and not any(reasons)

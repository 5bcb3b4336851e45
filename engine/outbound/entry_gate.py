"""The one door of entries: asked before sizing, and read again in the loop step that starts the send."""

from __future__ import annotations

from collections.abc import Iterator

from engine.domain.ids import Millis
from engine.domain.order_book import entry_pending
from engine.domain.orders import Order
from engine.domain.risk import Denied
from engine.outbound.limits import window_breach
from engine.session import SessionDesk
from engine.snapshot import Phase


class EntryGate:
    """Everything that may hold an entry back, in one place; exits have no door at all."""

    def __init__(self, desk: SessionDesk) -> None:
        self._desk = desk

    def standing(self, *, by_hand: bool = False) -> str | None:
        """Why no entry may leave now, as far as it does not depend on the order; None when one may.

        An order by hand passes an operator's own pause, and nothing else.
        """
        return next(self._reasons(by_hand), None)

    def _reasons(self, by_hand: bool) -> Iterator[str]:
        desk = self._desk
        if (killed := desk.killed()) is not None:
            yield f"kill latch is set: {killed}"
        if desk.phase is not Phase.TRADING:
            yield f"session is {desk.phase}, not trading"
        yield from desk.blocks.reasons(but=frozenset({"pause"}) if by_hand else frozenset())
        fresh = desk.fresh()
        if not fresh.allows_entries:
            yield f"market data is {fresh}"
        if not desk.road.is_up:
            yield "the account link is down"
        if desk.road.locked_until is not None:
            yield "the broker has locked us out for now"
        if trouble := desk.store.trouble():
            yield f"the database does not answer: {trouble}"
        if (unsure := desk.lease.why_no_entry()) is not None:
            yield unsure

    def before(self, *, by_hand: bool = False) -> str | None:
        """Why a new entry may not begin: the standing reasons, or another entry whose fate is open."""
        return next(self._before(by_hand), None)

    def _before(self, by_hand: bool) -> Iterator[str]:
        yield from self._reasons(by_hand)
        pending = entry_pending(self._desk.book.open())
        if pending is not None:
            yield f"entry {pending.client_id} is {pending.state}"

    def everything_before(self, *, by_hand: bool = False) -> tuple[str, ...]:
        """All that `before` would say, for eyes."""
        return tuple(self._before(by_hand))

    def at_send(self, order: Order, *, by_hand: bool = False) -> str | None:
        """Why this committed entry may not leave in this loop step; nothing is awaited in here."""
        desk = self._desk
        now = desk.now()
        reason = self.standing(by_hand=by_hand)
        if reason is not None:
            return reason
        if order.cancel_wanted:
            return "cancelled before it was sent"
        if (held := desk.book.position.quantity) * order.terms.side.sign < 0:
            return f"the position became {held} meanwhile: it would reduce"
        if order.epoch != desk.lease.epoch:
            return "another engine holds the lease"
        if order.deadline is not None and now > order.deadline:
            return f"its deadline passed {_seconds(now - order.deadline)} ago"
        local = desk.instrument.calendar.local(now).time()
        if (late := window_breach(desk.settings.limits, local)) is not None:
            return late.reason
        refusal: Denied | None = desk.heat.still_open(desk.settings.id, order.client_id)
        return None if refusal is None else refusal.reason


def _seconds(ms: Millis) -> str:
    return f"{ms / 1000:.1f} s"

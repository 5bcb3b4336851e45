"""Orders whose fate nobody knows: ask, adopt what is proven, and say LOST only on repeated, complete absence.

Queries at 1, 2, 4, 8 and then every 10 seconds. Not found is only evidence: LOST needs four consecutive complete
negatives, the last at least max(90 s, 3 x the slowest acceptance of the day) after the send, and a position that
the broker confirms unmoved. A LOST order keeps its size in heat and its session's entries shut.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace as changed

from engine.domain import order_doubt
from engine.domain import order_lifecycle as lifecycle
from engine.domain.answers import book_answer
from engine.domain.broker import BrokerOrder, BrokerStatus, IdMode, ReplaceId
from engine.domain.disagreements import PERHAPS, DisagreementState
from engine.domain.families import named_by_leg, named_by_others, stands_without_legs
from engine.domain.ids import BrokerOrderId, ClientOrderId, Millis
from engine.domain.incarnations import record_of
from engine.domain.order_book import book_executions
from engine.domain.orders import Flag, Order, OrderState
from engine.outbound.sleepers import CLOCKS_APART_MS
from engine.session import SessionDesk
from engine.snapshot import Severity

QUERY_BACKOFF_MS = (1_000, 2_000, 4_000, 8_000)
QUERY_EVERY_MS = 10_000
LOST_QUERY_EVERY_MS = 60_000
LOOK_BACK_MS = 5_000
OLD_ID_LOOKS = 3
IDLE_SECONDS = 30.0
_PENDING = (OrderState.PENDING_CANCEL, OrderState.PENDING_REPLACE)
_RESTING = (OrderState.WORKING, OrderState.PARTIALLY_FILLED)


class Recovery:
    """The doubt loop of one session. `cancel` is how a wanted cancel leaves once it can."""

    def __init__(self, desk: SessionDesk, cancel: Callable[[Order, str], Awaitable[Order]]) -> None:
        self._desk = desk
        self._cancel = cancel
        self._cancels: dict[str, tuple[int, Millis]] = {}
        self._fills_asked: dict[str, Millis] = {}
        self._lost: set[str] = set()
        self._told: dict[ClientOrderId, None] = {}

    async def run(self) -> None:
        """Until cancelled: settle what is in doubt, and look after cancels that wait for an id."""
        desk = self._desk
        while True:
            version = desk.book.version
            await self.step()
            if desk.book.version != version:
                continue
            await desk.until(lambda seen=version: desk.book.version != seen, self._pause())  # type: ignore[misc]

    def _pause(self) -> float:
        now = self._desk.now()
        due = [IDLE_SECONDS * 1000.0]
        for order in self._desk.book.open():
            if order.doubt is not None:
                due.append(order.doubt.next_query - now)
            elif order.state in _PENDING and order.sent is not None:
                due.append(order.sent + self._desk.numbers.send_deadline * 1000 - now)
            elif order.open_for_fills:
                due.append(1_000)
            elif order.cancel_wanted and order.state in _RESTING:
                due.append(self._cancels.get(order.client_id, (0, now))[1] - now)
        return max(0.05, min(due) / 1000)

    async def step(self) -> None:
        """One look at every open order."""
        desk = self._desk
        self.mark_doubt()
        for order in desk.book.open():
            order = desk.current(order)
            now = desk.now()
            if order.state in _PENDING and order.sent is not None:
                if now - order.sent >= desk.numbers.send_deadline * 1000:
                    desk.put(lifecycle.doubted(order, now, "accepted, but no final word came"), "in doubt")
            elif order.doubt is not None and order.doubt.next_query <= now:
                await self.ask(order)
            elif order.cancel_wanted and order.state in _RESTING and lifecycle.may_cancel(order):
                await self._cancel_again(order)
            elif order.open_for_fills and now - self._fills_asked.get(order.client_id, 0) >= 1_000:
                self._fills_asked[order.client_id] = now
                await self.fetch_fills(order.created - CLOCKS_APART_MS)
        self.mark_doubt()

    def mark_doubt(self) -> None:
        """Keep the block and the alerts true to what is in doubt or lost."""
        desk = self._desk
        doubtful = [o for o in desk.book.open() if o.is_in_doubt or o.state is OrderState.LOST]
        if doubtful:
            first = doubtful[0]
            desk.blocks.set("doubt", f"order {first.client_id} is {first.state}")
        else:
            desk.blocks.clear("doubt")
        for order in doubtful:
            lost = order.state is OrderState.LOST
            if lost:
                self._lost.add(order.client_id)
            self._told[order.client_id] = None
            desk.reporter.alert(
                f"doubt:{order.client_id}",
                Severity.CRITICAL if lost else Severity.WARNING,
                f"{desk.id}: {order.role} {order.terms.side} {order.terms.quantity} is {order.state}"
                + (": keeps its heat and blocks entries until you declare it dead" if lost else ""),
                lasting=True,
            )
        for client_id in tuple(self._told):
            told = desk.book.get(client_id)
            if told is None or not (told.is_in_doubt or told.state is OrderState.LOST):
                del self._told[client_id]
                desk.reporter.clear(f"doubt:{client_id}")
                if told is not None:
                    self._look_at_revived(told)

    def _look_at_revived(self, order: Order) -> None:
        if order.client_id not in self._lost:
            return
        self._lost.discard(order.client_id)
        if order.state is not OrderState.ABANDONED:
            self._desk.reporter.alert(
                f"revived:{order.client_id}",
                Severity.CRITICAL,
                f"{self._desk.id}: {order.role} {order.client_id} was presumed lost and lives after all: {order.state}",
                lasting=True,
            )

    async def _cancel_again(self, order: Order) -> None:
        """Ask again at a growing pace; after the allowed tries somebody is told, and it goes on once a minute."""
        desk = self._desk
        tries, due = self._cancels.get(order.client_id, (0, 0))
        if not order.is_entry and desk.lease.is_unanswered:
            # its exit began before we stood still and does not go on: what guards the position stays, too
            self._cancels[order.client_id] = (tries, desk.now() + QUERY_BACKOFF_MS[0])
            return
        if not desk.road.is_up or desk.road.locked_until is not None or desk.now() < due:
            return
        wait = QUERY_BACKOFF_MS[tries] if tries < len(QUERY_BACKOFF_MS) else LOST_QUERY_EVERY_MS
        self._cancels[order.client_id] = (tries + 1, desk.now() + wait)
        if tries == desk.numbers.tries:
            desk.reporter.alert(
                f"cancel:{order.client_id}",
                Severity.CRITICAL,
                f"{desk.id}: {tries} cancels of {order.client_id} did not end it; it still works at the broker",
                lasting=True,
            )
        await self._cancel(order, order.reason or "cancel wanted")
        if desk.road.is_mute:  # nothing left: an exit may wait for it
            self._cancels[order.client_id] = (tries + 1, desk.now() + min(wait, QUERY_BACKOFF_MS[-1]))

    # -- asking -------------------------------------------------------------------------------------------

    async def ask(self, order: Order) -> None:
        """One query about one order, and what follows from the answer."""
        desk = self._desk
        doubt = order.doubt
        if doubt is None:
            return
        rows = await desk.road.find(order.client_id, order.created - CLOCKS_APART_MS, order.broker_id)
        now = desk.now()
        current = desk.current(order)
        if current.revision != order.revision or current.doubt is None:
            return
        if rows is None:
            self._again(current, False, "the broker gave no complete answer")
            return
        found = self._match(current, rows)
        current = desk.current(current)
        if isinstance(found, BrokerOrder):
            if doubt.negatives < OLD_ID_LOOKS - 1 and self._may_work_on(current, found):
                self._again(current, True, f"{found.broker_id} is cancelled, what may have replaced it is not listed")
                return
            after = book_answer(desk.book, current, found, rows, now)
            if after.is_in_doubt:
                told = desk.book.whole(after, found)
                self._again(desk.current(after), told.filled < after.filled, f"broker says {found.status}")
                self._consider_ended(desk.current(after), told)
            if desk.current(after).open_for_fills:
                await self.fetch_fills(order.created - CLOCKS_APART_MS)
            return
        if not found:
            self._again(current, True, "not found", ())
            await self._consider_lost(desk.current(current))
            return
        self._again(current, False, f"{', '.join(found)} may be it", found)
        first_look = len(found) == 1 and doubt.tries == 0
        if not first_look and (doubt.candidates != found or doubt.tries == 1):
            desk.road.suspect(f"{order.client_id} cannot be told apart from {len(found)} others", orders=True)

    def _may_work_on(self, order: Order, record: BrokerOrder) -> bool:
        """Whether an id is over by the replace in doubt, and the list forgot the new one: absence has to repeat."""
        changes = self._desk.road.capabilities.replace_id is ReplaceId.CHANGES
        same = order.wanted is not None and record.broker_id == order.broker_id
        return changes and same and record.status is BrokerStatus.CANCELLED

    def _again(
        self, order: Order, negative: bool, evidence: str, candidates: tuple[BrokerOrderId, ...] | None = None
    ) -> None:
        desk = self._desk
        assert order.doubt is not None
        tries = order.doubt.tries
        wait = QUERY_BACKOFF_MS[tries] if tries < len(QUERY_BACKOFF_MS) else QUERY_EVERY_MS
        if order.state is OrderState.LOST and not candidates:
            wait = LOST_QUERY_EVERY_MS
        after = order_doubt.asked_again(
            order,
            desk.now(),
            complete_negative=negative,
            evidence=evidence,
            next_query=desk.now() + wait,
            candidates=candidates,
        )
        desk.put(after, "asked", evidence)

    def _match(self, order: Order, rows: tuple[BrokerOrder, ...]) -> BrokerOrder | tuple[BrokerOrderId, ...]:
        """The broker's record of this order, or the live ones of which an operator has to say which it is."""
        mine = record_of(order, rows)
        if mine is not None:
            return mine
        if self._desk.road.capabilities.id_mode is not IdMode.NONE:
            return ()
        named = named_by_leg(order, self._desk.book, rows)
        if named is not None and self._desk.book.by_broker_id(named.broker_id) is None:
            self._take(order, named, "named by its leg")
            return named
        others = named_by_others(order, self._desk.book, rows)
        alike = [
            row
            for row in rows
            if row.client_id is None
            and row.broker_id not in others
            and lifecycle.looks_like(order, row.terms)
            and not (self._is_early(order, row) and (row.status.is_final or self._seen_before(order, row)))
            and self._desk.book.by_broker_id(row.broker_id) is None
            and not self._has_younger_claim(order, row)
        ]
        replaced = {row.replaces for row in alike}  # one order under two ids
        alike = self._without_the_refused(order, [row for row in alike if row.broker_id not in replaced])
        left = [row for row in alike if not self._said(row.broker_id, PERHAPS + order.client_id)]
        if len(alike) != 1 or not left or self._wants_a_word(order, left[0], rows):
            # several that look like it and have all ended: whichever it was, nothing of it works any more
            return tuple(row.broker_id for row in left if not row.status.is_final)
        assert order.doubt is not None
        if order.is_entry and not alike[0].status.is_final and alike[0].broker_id not in order.doubt.candidates:
            return (alike[0].broker_id,)  # that no other is like it is an absence, too: it has to repeat
        self._take(order, alike[0], "matched by shape")
        # a replace of which the disk kept nothing may have followed: what stands now counts, whatever its terms
        return record_of(changed(order, broker_id=alike[0].broker_id), rows) or alike[0]

    def _take(self, order: Order, row: BrokerOrder, how: str) -> None:
        """The row is the order's: marked, because no name of ours says so. What left with it is there, too."""
        desk, now = self._desk, self._desk.now()
        desk.put(lifecycle.flagged(order, now, Flag.MATCHED_BY_SHAPE), how, row.broker_id)
        if order.doubt is not None and order.doubt.candidates:
            desk.road.suspect(f"{row.broker_id} is {order.client_id}", orders=True)  # it was shown as a stranger's
        for kin in desk.book.open():  # an entry and its legs left in one request
            if kin.broker_id is None and (kin.client_id == order.parent or kin.parent == order.client_id):
                desk.put(order_doubt.ask_soon(kin, now), "ask soon", row.broker_id)

    def _wants_a_word(self, order: Order, row: BrokerOrder, rows: tuple[BrokerOrder, ...]) -> bool:
        """Whether even a single candidate is an operator's to judge."""
        alone = stands_without_legs(order, self._desk.book, row, rows) or self._others_vanished(order, rows)
        return alone or self._said(row.broker_id) or self._is_early(order, row)

    def _others_vanished(self, order: Order, rows: tuple[BrokerOrder, ...]) -> bool:
        """Whether a candidate of the last answer is in this one no more, not even as ended: absence has to repeat."""
        assert order.doubt is not None
        return not {row.broker_id for row in rows}.issuperset(order.doubt.candidates)

    def _is_early(self, order: Order, row: BrokerOrder) -> bool:
        """Whether the broker's clock says before our send: another order, or our clock was ahead of the broker's."""
        assert order.doubt is not None
        return row.submitted < order.doubt.sent - LOOK_BACK_MS

    def _has_younger_claim(self, order: Order, row: BrokerOrder) -> bool:
        """Whether the row followed the send of another order of ours that looks like it, and of which nobody knows."""
        return any(
            other.broker_id is None
            and other.sent is not None
            and (order.sent or 0) < other.sent <= row.submitted + LOOK_BACK_MS
            and lifecycle.looks_like(other, row.terms)
            for other in self._desk.book.open()
        )

    def _seen_before(self, order: Order, row: BrokerOrder) -> bool:
        """Whether the row was shown as a stranger's before the order left."""
        assert order.doubt is not None
        shown = self._desk.disagreements.get(f"foreign:{row.broker_id}")
        return shown is not None and shown.first_seen < order.doubt.sent

    def _said(self, broker_id: BrokerOrderId, asked: str = "") -> bool:
        """Whether an operator has said that this order is somebody else's, when `asked` about it so."""
        said = self._desk.disagreements.get(f"foreign:{broker_id}")
        return said is not None and said.state is DisagreementState.IGNORED and asked in said.memory

    def _without_the_refused(self, order: Order, alike: list[BrokerOrder]) -> list[BrokerOrder]:
        """Leave out the records of like orders of ours that were refused at once, and so never learned their ids."""
        assert order.doubt is not None
        since = order.doubt.sent - LOOK_BACK_MS
        refused = sum(
            o.state is OrderState.REJECTED
            and o.broker_id is None
            and (o.sent or 0) >= since
            and lifecycle.same_terms(o.terms, order.terms)
            for o in self._desk.book
            if o.client_id != order.client_id
        )
        rejected = sorted((r for r in alike if r.status is BrokerStatus.REJECTED), key=lambda r: r.submitted)
        theirs = {row.broker_id for row in rejected[:refused]}
        return [row for row in alike if row.broker_id not in theirs]

    def _consider_ended(self, order: Order, record: BrokerOrder) -> None:
        """A final word that names less than we booked is stale, unless the broker repeats it."""
        if order.doubt is not None and order.doubt.negatives >= self._desk.numbers.lost_negatives:
            after = lifecycle.ended_short(order, self._desk.now(), record)
            self._desk.put(after, f"broker says {record.status}", record.reason)

    async def _consider_lost(self, order: Order) -> None:
        desk, doubt = self._desk, order.doubt
        if order.state is not OrderState.IN_DOUBT_SUBMIT or doubt is None:
            return
        patience = max(desk.numbers.lost_after * 1000, 3 * desk.slowest_acceptance_ms)
        if doubt.negatives < desk.numbers.lost_negatives or desk.now() - doubt.sent < patience:
            return
        position = await desk.road.fresh_position(order.terms.symbol, desk.numbers.query_timeout)
        current = desk.current(order)
        if position is None or position.quantity != desk.book.position.quantity or current.revision != order.revision:
            return
        desk.put(
            lifecycle.presumed_lost(current, desk.now(), f"{doubt.negatives} complete answers did not know it"),
            "lost",
        )

    async def fetch_fills(self, since: Millis) -> bool:
        """Book what the broker's executions say of our orders; whether a complete answer came."""
        desk = self._desk
        report = await desk.road.fills_since(since)
        if report is None:
            return False
        book_executions(desk.book, report.rows, desk.now())
        return True

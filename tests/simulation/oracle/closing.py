"""Exits and protective orders as they leave: never more than there is, sized whole, armed once, and room that is used.

What waits for its fills counts as live, and what was being replaced when a life ended is in doubt in the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from msgspec import Struct

from engine.domain.ids import ClientOrderId, Millis, SessionId
from engine.domain.orders import (
    IN_DOUBT,
    TERMINAL,
    ZERO,
    Flag,
    Order,
    OrderState,
    OrderType,
    Role,
    Terms,
)
from engine.snapshot import Phase, ProtectionState
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.mind import Mind
from tests.simulation.oracle.scene import Scene
from tests.simulation.oracle.truth import Place, Truth

STOOD_MS = 8_000
MOVED_MS = 60_000
USED_MS = 15_000
GOES_ON_MS = 58_000
"""A flatten is tried again for a minute, unless it gets flat."""
WAITS_MS = 8_000
SETTLED_MS = 15_000
BEHIND_MS = 60_000
DURABLE_MS = 700
"""How long before its send an intent was made that the database took: one that it did not take is journalled."""
STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)
UNSURE = (*IN_DOUBT, OrderState.LOST, OrderState.SUBMITTING)
MAKES_ROOM = "making room for a partial exit"
MADE_ROOM = "SELECT 1 FROM order_events WHERE client_id = ? AND event = 'replaced' AND at >= ? AND detail = ?"
DOUBTED = (
    "SELECT 1 FROM order_events AS e JOIN orders AS o ON o.client_id = e.client_id "
    "WHERE o.session = ? AND e.at >= ? AND e.state LIKE 'in doubt%'"
)
WHY = "SELECT reason FROM intents WHERE client_id = ? AND kind = 'replace' AND at >= ? ORDER BY at DESC LIMIT 1"
REPLACING = (
    "SELECT o.client_id, o.revision FROM orders AS o WHERE o.is_live = 1 AND (o.state = 'pending replace' OR "
    "(o.state IN ('working', 'partially filled') AND EXISTS (SELECT 1 FROM intents AS i WHERE "
    "i.client_id = o.client_id AND i.session = o.session AND i.kind = 'replace' AND i.at > o.updated)))"
)
FOUND_AS = "SELECT state, event FROM order_events WHERE client_id = ? AND revision > ? ORDER BY revision LIMIT 1"
WAITS = "SELECT state, filled, reported FROM orders WHERE client_id = ?"
Key = tuple[str, SessionId]


class Room(Struct, frozen=True):
    """A protective order was made smaller while an exit was being carried out."""

    order: ClientOrderId
    at: Millis


class Closing:
    """Judges at the send and, of what was left undone, at intervals."""

    def __init__(self, truth: Truth, findings: Findings, now: Callable[[], Millis]) -> None:
        self._truth = truth
        self._now = now
        self._findings = findings
        self._armed: dict[Key, list[ClientOrderId]] = {}
        self._guarded: set[Key] = set()
        self._at_most: dict[Key, int] = {}
        self._room: dict[Key, Room] = {}
        self._replacing: dict[str, list[tuple[str, int]]] = {}
        self._waits: dict[str, Millis] = {}
        self._ended: set[str] = set()

    # -- as they leave ------------------------------------------------------------------------------------

    def submit(self, mind: Mind, order: Order, scene: Scene) -> None:
        """A submit starts to leave."""
        if order.role is Role.EXIT:
            if self._room.pop((mind.life, mind.session), None) is not None:
                self._findings.check("I19 part", True, "")
            if Flag.FORCED not in order.flags and scene.is_steady:
                self._adds_up(mind, order, scene)
        if order.role is Role.STOP:
            self._once(mind, order)

    def _adds_up(self, mind: Mind, order: Order, scene: Scene) -> None:
        """Closable is what no own exit holds, working, queued or in doubt; a pair that is linked holds once."""
        beside = [
            o
            for o in mind.orders
            if o.terms.side is order.terms.side
            and o.client_id != order.client_id
            and (o.sent is not None or o.updated < order.created)  # a stranger's may be adopted once it was sized
        ]
        total = _held(beside, mind) + order.terms.quantity
        room = max(abs(mind.position), scene.read_most)
        self._findings.check(
            "exits add up", total <= room, f"exit {order.client_id} of {order.terms.quantity} makes {total} of {room}"
        )

    def _once(self, mind: Mind, order: Order) -> None:
        """Armed again once: of a stop that does not last the next look makes an exit, not a third one."""
        if not order.key.split("/")[1].startswith("cover:"):
            return
        key = (mind.life, mind.session)
        before = self._armed.setdefault(key, [])
        known_for = self._now() - self._truth.left.get(before[-1], 0) if before else 0
        if known_for >= STOOD_MS or any(self._lasted(order, name) for name in before):
            before.clear()  # one of which nobody told that it was gone stood in the desk's book as long
        if not before:
            self._at_most[key] = 1 if key in self._guarded else 2  # the first stop of a position is no second one
        since = self._truth.left.get(before[0], 0) - MOVED_MS if before else 0
        moved = self._truth.changed_behind((mind.account, mind.symbol), since)  # it may have been flat between
        if before:
            once = len(before) < self._at_most[key] or moved
            self._findings.check("rule 7 once", once, f"stop {order.client_id} is armed after {before} did not last")
        before.append(order.client_id)

    def _lasted(self, order: Order, name: ClientOrderId) -> bool:
        """Whether it acted, or rested for long enough to have been a stop."""
        records = list(self._truth.exchange.book.by_client_id(order.account, name))
        if not records:
            return False
        ended = max(self._now() if o.is_open else o.record.updated for o in records)
        filled = any(o.record.filled for o in records)
        return filled or ended - min(o.record.submitted for o in records) >= STOOD_MS

    def changes(self, mind: Mind, order: Order) -> None:
        """A replace starts to leave."""
        wanted = order.wanted
        if wanted is None or order.role is Role.ENTRY:
            return
        key = (mind.life, mind.session)
        if wanted.type is OrderType.MARKET and order.terms.type is not OrderType.MARKET:
            self._room.pop(key, None)
            self._whole(mind, order, wanted)
            return
        if wanted.quantity == order.terms.quantity:
            return
        (why,) = self._truth.database.execute(WHY, (order.client_id, (order.sent or 0) - DURABLE_MS)).fetchone() or (
            "",
        )
        if why == MAKES_ROOM and self._truth.position((mind.account, mind.symbol)).quantity == mind.position:
            self._room[key] = Room(order.client_id, self._now())
        elif why == f"position is {mind.position}":
            self._fits(mind, order, wanted)

    def _whole(self, mind: Mind, order: Order, wanted: Terms) -> None:
        """A stop becomes an exit where everything is left: it closes all there is."""
        place, now = (mind.account, mind.symbol), self._now()
        truly = self._truth.position(place).quantity
        unsure = any(o.state in UNSURE or o.reported > o.filled or Flag.BUSTED in o.flags for o in mind.orders)
        since = max(self._truth.filled_at.get(place, 0), mind.began)
        if (
            unsure
            or truly != mind.position
            or now - since < SETTLED_MS
            or self._truth.changed_behind(place, now - BEHIND_MS)
        ):
            return
        if any(o.terms.type is OrderType.MARKET and o.client_id != order.client_id for o in mind.orders):
            return  # what leaves already may have been adopted, and is not closed a second time
        records = self._truth.exchange.book.by_client_id(order.account, order.client_id)
        if any(now - record.record.updated < BEHIND_MS for record in records):
            return  # a replace of before may have made it smaller since this was decided
        total = wanted.quantity - order.filled
        self._findings.check(
            "exit whole",
            total >= abs(truly),
            f"{order.client_id} becomes an exit: {total} leave, the position is {truly}",
        )

    def _fits(self, mind: Mind, order: Order, wanted: Terms) -> None:
        """Protection follows the position, whatever its orders have filled: it is not made smaller than that."""
        if self._now() - self._truth.filled_at.get((mind.account, mind.symbol), 0) < DURABLE_MS:
            return  # it was decided before that fill
        left = max(ZERO, wanted.quantity - max(order.filled, order.reported))
        same = [o for o in mind.orders if o.role is order.role and o.client_id != order.client_id]
        others = _held([o for o in same if (o.terms.type in STOPS) is (order.terms.type in STOPS)], mind)
        truly = self._truth.position((mind.account, mind.symbol)).quantity
        held = min(abs(mind.position), abs(truly)) if truly * mind.position > 0 else ZERO
        shrinks = left < order.remaining
        if order.role is Role.STOP and (shrinks or not others):
            whole = left + others >= held
            self._findings.check(
                "resize", whole, f"{order.client_id} is left with {left} beside {others}; the position is {held}"
            )

    # -- at intervals -------------------------------------------------------------------------------------

    def filled(self, place: Place, role: Role | None) -> None:
        """Something filled there: room was used, or not needed; what is entered anew is another position."""
        held, session = self._truth.position(place).quantity, self._truth.places.get(place)
        for key in [key for key in self._room if key[1] == session]:
            del self._room[key]
        if not held or role is Role.ENTRY:
            for key in [key for key in self._armed if key[1] == session]:
                self._armed[key].clear()
                self._guarded.discard(key)
        if not held:  # also where this life armed none itself: what guarded it was a leg, or of the life before
            self._guarded = {key for key in self._guarded if key[1] != session}

    def look(self, mind: Mind, now: Millis, up_since: Millis | None) -> None:
        """One session; `up_since` is None while its line is down."""
        key = (mind.life, mind.session)
        if not mind.position:
            self._guarded.discard(key)
            self._armed.pop(key, None)
        elif mind.protection is ProtectionState.COVERED:
            self._guarded.add(key)
        room = self._room.get(key)
        if room is not None:
            self._used(mind, room, now, up_since)
        if self._waits:
            self._listed(mind, now)

    def _used(self, mind: Mind, room: Room, now: Millis, up_since: Millis | None) -> None:
        """Room that was made for an exit is used by it."""
        unsure = any(o.state in IN_DOUBT or o.state is OrderState.LOST for o in mind.orders)
        moved = self._truth.changed_behind((mind.account, mind.symbol), room.at - USED_MS)
        works = mind.alive and mind.phase is Phase.TRADING and up_since is not None and up_since < room.at
        if unsure or moved or not works:
            self._room.pop((mind.life, mind.session))
            return
        if mind.exiting or now - room.at < USED_MS:
            return
        self._room.pop((mind.life, mind.session))
        ask = self._truth.database.execute
        made = ask(MADE_ROOM, (room.order, room.at, MAKES_ROOM)).fetchone() is not None
        if made and ask(DOUBTED, (mind.session, room.at)).fetchone() is None:  # one in doubt defers an exit
            self._findings.check(
                "I19 part", False, f"{room.order} made room at {room.at}; no exit of {mind.session} left"
            )

    def waits(self, client_id: str) -> None:
        """An order ended by the broker's word, with more filled than has been told."""
        self._waits.setdefault(client_id, self._now())

    def _listed(self, mind: Mind, now: Millis) -> None:
        """I26: while it waits for fills it counts as live."""
        known = {o.client_id for o in mind.orders}
        for client_id in [
            name for name in self._waits if self._truth.sent[ClientOrderId(name)].session == mind.session
        ]:
            row = self._truth.database.execute(WAITS, (client_id,)).fetchone()
            if row is None or OrderState(row[0]) not in TERMINAL or Decimal(row[1]) >= Decimal(row[2]):
                del self._waits[client_id]
            elif client_id in known:
                self._findings.check("I26 waits", True, "")
            elif now - self._waits[client_id] > WAITS_MS:
                self._findings.check("I26 waits", False, f"{client_id} waits for {row[2]}, has {row[1]}; not live")

    # -- across lives -------------------------------------------------------------------------------------

    def begin(self, life: str, journalled: Callable[[str], bool]) -> None:
        """A life begins: which orders the one before was replacing, with nothing younger in the books."""
        rows = self._truth.database.execute(REPLACING).fetchall()
        self._replacing[life] = [(name, revision) for name, revision in rows if not journalled(name)]

    def quiet(self, life: str) -> None:
        """I26: what was being replaced was found in doubt."""
        for client_id, revision in self._replacing.pop(life, ()):
            row = self._truth.database.execute(FOUND_AS, (client_id, revision)).fetchone()
            if row is not None:
                doubted = row[0] not in ("working", "partially filled") or row[1] == "fill"
                self._findings.check("I26 replace", doubted, f"{client_id} was being replaced, and was found {row}")

    def not_flat(self, mind: Mind, command: str, lasted: Millis) -> None:
        """A flatten goes on until it is flat, or its minute is over."""
        if command not in self._ended:
            self._ended.add(command)
            self._findings.check(
                "flatten goes on", lasted >= GOES_ON_MS, f"{mind.session}: {command} gave up after {lasted} ms"
            )


def _held(orders: Iterable[Order], mind: Mind) -> Decimal:
    """What exits of one side may still close together; legs whose entry has not filled sleep."""
    asleep = {o.client_id for o in mind.orders if o.role is Role.ENTRY and not o.filled and not o.reported}
    asleep &= {o.client_id for o in mind.orders if o.state not in TERMINAL}
    groups: dict[str, Decimal] = {}
    for order in orders:
        if order.role is Role.ENTRY or order.state in TERMINAL or order.parent in asleep:
            continue
        if order.terms.side.sign * mind.position > 0:
            continue
        name = f"pair {order.parent}" if order.linked and order.parent is not None else order.client_id
        groups[name] = max(groups.get(name, ZERO), order.at_most)
    return sum(groups.values(), ZERO)


def excess(mind: Mind) -> Decimal:
    """What own exits would close beyond the position, and what would open."""
    asleep = {o.client_id for o in mind.orders if o.role is Role.ENTRY and not o.filled and not o.reported}
    asleep &= {o.client_id for o in mind.orders if o.state not in TERMINAL}
    groups: dict[str, tuple[bool, Decimal]] = {}
    for order in mind.orders:
        if order.role is Role.ENTRY or order.state in TERMINAL or order.parent in asleep:
            continue
        name = f"pair {order.parent}" if order.linked and order.parent is not None else order.client_id
        wrong = order.terms.side.sign * mind.position >= 0
        groups[name] = (wrong, max(groups.get(name, (wrong, ZERO))[1], order.at_most))
    closing = sum((size for wrong, size in groups.values() if not wrong), ZERO)
    return sum((size for wrong, size in groups.values() if wrong), ZERO) + max(ZERO, closing - abs(mind.position))

"""Exposure at the broker: never over the maximum, no exit that turns a position round, nothing after "flat"."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from msgspec import Struct

from brokers.paper.book import PaperOrder
from engine.domain.broker import BrokerFill
from engine.domain.ids import AccountId, ClientOrderId, Millis, SessionId
from engine.domain.orders import Flag, Order, Role
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.truth import LONGEST_TRIP_MS, Place, Truth

SIZING_MS = 6_000
KNOWN_MS = 15_000
"""How long an exit may still be too large after a position check has shown that somebody else moved the position."""
WAITED_MS = 5_000
"""How long a desk waits for an answer: a request on the wire for longer is in doubt."""
LOST_MS = 90_000
"""How long it looks for it before a position is not left bare for its sake any more."""


class Trip(Struct, frozen=True):
    """One request about an order that arrived."""

    client_id: ClientOrderId
    left: Millis
    arrived: Millis


class Exposure:
    """Judges each fill and each accepted entry."""

    def __init__(self, truth: Truth, findings: Findings, most: dict[Place, Decimal]) -> None:
        self._truth = truth
        self._findings = findings
        self._most = most
        self.flat: dict[SessionId, str] = {}
        self.forced: set[SessionId] = set()
        self.asked: Callable[[SessionId, ClientOrderId], bool] = lambda session, client_id: False
        self.stood: Callable[[AccountId, Millis], Millis] = lambda account, since: 0  # how long nothing could leave
        self._confirmed: dict[SessionId, list[Millis]] = {}
        self.excused = 0
        self._trips: dict[Place, list[Trip]] = {}
        self._entries: dict[ClientOrderId, Trip] = {}

    def travelled(self, account: AccountId, client_id: ClientOrderId, left: Millis) -> None:
        """A submit or a replace arrived that had left then."""
        order = self._truth.sent.get(client_id)
        if order is not None and order.role is Role.ENTRY:
            self._entries[client_id] = Trip(client_id, left, self._truth.now())
        elif order is not None:
            trips = self._trips.setdefault((account, order.terms.symbol), [])
            trips.append(Trip(client_id, left, self._truth.now()))
            del trips[:-50]

    def accepted(self, account: AccountId, client_id: ClientOrderId) -> None:
        """The exchange took an order."""
        order = self._truth.sent.get(client_id)
        if order is None or order.role is not Role.ENTRY:
            return
        place = (account, order.terms.symbol)
        reach = self._truth.reach(place)
        most = self._most[place]
        if reach <= most:
            self._findings.check("I9", True, "")
        elif self._truth.changed_behind(place, order.created - SIZING_MS):
            self.excused += 1
        else:
            self._findings.check("I9", False, f"{place}: {reach} after {client_id} was taken, the most is {most}")

    def filled(self, account: AccountId, fill: BrokerFill, order: PaperOrder | None) -> None:
        """An execution, after the position moved."""
        if fill.revision or not fill.quantity or order is None:
            return
        place: Place = (account, fill.symbol)
        after = self._truth.position(place).quantity
        before = after - fill.quantity * fill.side.sign
        client_id = order.record.client_id
        sent = self._truth.sent.get(client_id) if client_id is not None else None
        if sent is None:
            return
        session = self._truth.places[place]
        if sent.role is not Role.ENTRY:
            turned = abs(after) > abs(before) or after * before < 0
            if not turned:
                self._findings.check("I20", True, "")
            elif self._excuse(place, session, sent):
                self.excused += 1
            else:
                self._findings.check("I20", False, f"{session}: {sent.role} {client_id} moved {before} to {after}")
        promise = self.flat.get(session)
        if promise is not None and not self._truth.is_missed(client_id):
            closes = abs(after) < abs(before)  # what somebody else opened since is closed under it
            closes = closes or (sent.role is not Role.ENTRY and self._was_behind(place, session, sent))  # or by them
            self._findings.check(
                "I43 after", closes, f"{session}: {sent.role} {client_id} filled after {promise} said flat"
            )

    def _entered_just_now(self, sent: Order) -> bool:
        """One trade filled an entry and, in the same moment, the leg that the broker attached to it."""
        if sent.parent is None:
            return False
        parents = self._truth.exchange.book.by_client_id(sent.account, sent.parent)
        return any(parent.record.updated >= self._truth.now() - 1_000 for parent in parents)

    def confirmed(self, session: SessionId, at: Millis) -> None:
        """A position check told the desk where the session stands."""
        times = self._confirmed.setdefault(session, [])
        if not times or at > times[-1]:
            times.append(at)
            del times[:-200]

    def _was_behind(self, place: Place, session: SessionId, sent: Order) -> bool:
        """Somebody else moved the position, and the desk has not known it for long; or it knows, and the request
        that makes the order fit is on the wire.

        What moved while the order itself was on the wire counts from its arrival: nothing can be taken back before.
        An exit that had to be presumed lost and arrives after all moves it as a stranger would.
        """
        now, mine = self._truth.now(), self._trip(place, sent)
        if mine is None and sent.parent is not None:
            mine = self._entries.get(sent.parent)  # a leg travels with its entry
        patience = LONGEST_TRIP_MS if self.asked(session, sent.client_id) else KNOWN_MS
        known = self._confirmed.get(session, [])
        for at in (*self._came_back(place, mine), *(change.at for change in reversed(self._truth.behind[place]))):
            learned = next((each for each in known if each > at), now)
            if mine is not None and mine.left <= at <= mine.arrived:
                learned = max(learned, mine.arrived)
            if now - learned - self.stood(place[0], learned) < patience:
                return True
        return False

    def _came_back(self, place: Place, mine: Trip | None) -> list[Millis]:
        """When requests arrived that had been away for so long that this order went out in their stead."""
        return [
            trip.arrived
            for trip in self._trips.get(place, [])
            if mine is not None and trip.left < mine.left <= trip.arrived and trip.arrived - trip.left > LOST_MS
        ]

    def _trip(self, place: Place, sent: Order) -> Trip | None:
        """The order's newest request that has arrived."""
        return next((trip for trip in reversed(self._trips.get(place, [])) if trip.client_id == sent.client_id), None)

    def _was_late(self, place: Place, sent: Order) -> bool:
        """What nobody can take back: it fitted when it left, and what rested at the broker filled while it was away.

        A desk that sent a second exit meanwhile has no excuse, unless the first was away for so long that it had
        to be presumed lost.
        """
        trips, mine = self._trips.get(place, []), self._trip(place, sent)
        if mine is None or mine.arrived - mine.left <= WAITED_MS:
            return False
        beside = any(t.client_id != mine.client_id and mine.left < t.left <= mine.arrived for t in trips)
        return mine.arrived - mine.left > LOST_MS or not beside

    def _excuse(self, place: Place, session: SessionId, sent: Order) -> bool:
        return (
            self._was_behind(place, session, sent)
            or self._entered_just_now(sent)
            or self._was_late(place, sent)
            or bool(sent.flags & {Flag.SIZED_FROM_MEMORY, Flag.FORCED})
            or session in self.forced
            or self._truth.has_unrecorded(place)
        )

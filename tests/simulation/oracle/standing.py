"""Looked at every few seconds: doubts end, heat adds up, exits fit, positions are covered, promises hold."""

from __future__ import annotations

from decimal import Decimal

from engine.domain.ids import ClientOrderId, Millis, SessionId
from engine.domain.orders import IN_DOUBT, LIVE_AT_BROKER, TERMINAL, ZERO, Flag, Order, OrderState, OrderType, Role
from engine.domain.risk import CompleteHeat
from engine.snapshot import Phase, ProtectionState
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.mind import HeatMind, Mind, Promise
from tests.simulation.oracle.truth import LONGEST_TRIP_MS, Place, Truth

DOUBT_MS = 120_000
LOOK_MS = 30_000
COVER_MS = 12_000
EXCESS_MS = 20_000
KNOWN_MS = 60_000
SIDE_MS = 30_000
ORDERS_MS = 330_000
RESTING = (OrderState.WORKING, OrderState.PARTIALLY_FILLED)


class Standing:
    """Judges beliefs at intervals. `calm_since` is when the last trouble ended, None while there is any."""

    def __init__(self, truth: Truth, findings: Findings) -> None:
        self._truth = truth
        self._findings = findings
        self._filled: dict[tuple[str, ClientOrderId], Decimal] = {}
        self._times: dict[str, Millis] = {}
        self._naked: dict[Place, Millis] = {}
        self._naked_long: dict[Place, bool] = {}
        self._believed: dict[Place, Millis] = {}
        self._excess: dict[Place, Millis] = {}
        self._unsure: dict[Place, Millis] = {}
        self.promised: set[tuple[str, SessionId]] = set()
        self._wanted: dict[tuple[str, ClientOrderId], Millis] = {}
        self._wrong: dict[tuple[str, ClientOrderId], Millis] = {}

    def look(self, mind: Mind, heat: HeatMind, now: Millis, calm_since: Millis | None) -> None:
        """One session's claims against what is."""
        if not mind.alive:
            return
        self._quantities(mind)
        if calm_since is not None:
            self._doubts(mind, now, calm_since)
            self._cancels(mind, now, calm_since)
            self._cover(mind, now, calm_since)
            self._exits(mind, now, calm_since)
        if mind.phase is Phase.TRADING:
            self._counted(mind, heat)

    def _quantities(self, mind: Mind) -> None:
        for order in mind.orders:
            key = (mind.life, order.client_id)
            before = self._filled.get(key, ZERO)
            holds = order.filled >= before or Flag.BUSTED in order.flags
            self._findings.check("I8", holds, lambda o=order, b=before: f"{o.client_id} fell from {b} to {o.filled}")  # type: ignore[misc]
            self._filled[key] = order.filled

    def _doubts(self, mind: Mind, now: Millis, calm_since: Millis) -> None:
        for order in mind.orders:
            if order.state in IN_DOUBT and order.doubt is not None:
                lasted = now - max(order.doubt.since, calm_since)
                at_most = max(DOUBT_MS, 3 * min(mind.slowest, LONGEST_TRIP_MS) + LOOK_MS)
                self._findings.check(
                    "I13", lasted <= at_most, f"{order.role} {order.client_id} is {order.state} for {lasted} ms"
                )

    def _cancels(self, mind: Mind, now: Millis, calm_since: Millis) -> None:
        """A cancel that is wanted is asked for as soon as it can be, and again until the order ends."""
        for order in mind.orders:
            key = (mind.life, order.client_id)
            if not order.cancel_wanted or order.state not in RESTING:
                self._wanted.pop(key, None)
                continue
            lasted = now - max(self._wanted.setdefault(key, now), calm_since)
            self._findings.check(
                "I13 cancel",
                lasted <= DOUBT_MS,
                f"a cancel of {order.role} {order.client_id} is wanted for {lasted} ms, and it works",
            )

    def _cover(self, mind: Mind, now: Millis, calm_since: Millis) -> None:
        place = (mind.account, mind.symbol)
        held = self._truth.position(place).quantity
        stops = sum(
            (
                o.remaining
                for o in self._truth.ours_open(place)
                if self._truth.role(o) in (Role.STOP, Role.EXIT)
                and o.record.terms.side.sign * held < 0
                and (o.record.terms.type in (OrderType.STOP, OrderType.MARKET))
            ),
            ZERO,
        )
        long = held > 0
        if not held or stops >= abs(held) or self._naked_long.get(place, long) is not long:
            self._naked.pop(place, None)  # a position that turned round between two looks is another one
            self._believed.pop(place, None)
        self._naked_long[place] = long
        if not held or stops >= abs(held):
            return
        since = max(self._naked.setdefault(place, now), calm_since)
        # a position that memory does not know yet is the position check's to find: 30 s, and a second look
        # and a stop that the broker ended without a word is the order check's: 5 min, and a second look
        believed = sum((o.remaining for o in mind.orders if o.role is Role.STOP and o.state in LIVE_AT_BROKER), ZERO)
        if mind.position == held:
            since = max(since, self._believed.setdefault(place, now))
        else:
            self._believed.pop(place, None)
        patience = COVER_MS if mind.position == held else KNOWN_MS
        if now - since >= (patience if believed < abs(held) else ORDERS_MS):
            shown = mind.exiting or mind.protection in (ProtectionState.NAKED, ProtectionState.INERT)
            self._findings.check(
                "I42", shown, f"{mind.session}: {held} with stops for {stops} since {now - since} ms, nothing shown"
            )

    def _exits(self, mind: Mind, now: Millis, calm_since: Millis) -> None:
        place = (mind.account, mind.symbol)
        held = abs(self._truth.position(place).quantity)
        groups: dict[str, Decimal] = {}
        for order in self._truth.known_open(place):
            sent = self._truth.sent.get(order.record.client_id) if order.record.client_id is not None else None
            if sent is None or sent.role is Role.ENTRY or order.record.status.value == "held":
                continue
            if order.id in self._truth.claimed and any(o.broker_id == order.id and o.is_entry for o in mind.orders):
                continue  # another engine's of which nobody was told, and an operator took it for an entry, flat
            name = f"pair {sent.parent}" if sent.linked and sent.parent is not None else sent.client_id
            groups[name] = max(groups.get(name, ZERO), order.remaining)
        total = sum(groups.values(), ZERO)
        if total <= held:
            if total:
                self._findings.check("I41", True, "")
            self._excess.pop(place, None)
            return
        since = max(self._excess.setdefault(place, now), calm_since)
        pending = any(o.cancel_wanted or o.state is OrderState.PENDING_REPLACE for o in mind.orders)
        unsure = any(o.state is OrderState.LOST or o.state in IN_DOUBT for o in mind.orders)
        unsure = unsure or abs(mind.position) != held
        if unsure:
            self._unsure[place] = now
        sure_since = max(since, self._unsure.get(place, 0))  # once it knows, it has as long to act as ever
        if now - since >= DOUBT_MS or now - sure_since >= EXCESS_MS:
            self._findings.check(
                "I41", pending, f"{mind.session}: exits for {total} rest, position {held}, since {now - since} ms"
            )

    def sides(self, mind: Mind, now: Millis, up_since: Millis) -> None:
        """While the line is up: what would add as an exit, or reduce as an entry, is asked to go.

        Legs that sleep do nothing.
        """
        held = self._truth.position((mind.account, mind.symbol)).quantity
        asleep = {o.client_id for o in mind.orders if o.role is Role.ENTRY and not o.filled and not o.reported}
        for order in mind.orders:
            key = (mind.life, order.client_id)
            side = order.terms.side.sign * held
            wrong = side < 0 if order.role is Role.ENTRY else side > 0
            stays = order.state in RESTING and not order.cancel_wanted and order.parent not in asleep
            if not wrong or not stays or mind.position != held or mind.exiting or mind.phase is not Phase.TRADING:
                self._wrong.pop(key, None)
                continue
            lasted = now - max(self._wrong.setdefault(key, now), up_since)
            self._findings.check(
                "I41 side", lasted <= SIDE_MS, f"{order.role} {order.client_id} rests beside {held} for {lasted} ms"
            )

    def _counted(self, mind: Mind, heat: HeatMind) -> None:
        counted = {client_id for c in heat.contributions for client_id in c.entries}
        counted |= {r.order for r in heat.reservations}
        for order in mind.orders:
            if order.role is Role.ENTRY and order.state not in TERMINAL and order.sent is not None:
                self._findings.check(
                    "I23", order.client_id in counted, f"entry {order.client_id} ({order.state}) is not in heat"
                )

    def heat(self, heat: HeatMind, minds: tuple[Mind, ...], now: Millis) -> None:
        """The total is the sum of exactly the live sessions and what nobody owns."""
        self.total(heat)
        self._members(heat, minds, now)

    def total(self, heat: HeatMind) -> None:
        """I21: what is set aside for an entry or a change of one belongs to it."""
        parts = sum((c.total for c in (*heat.contributions, *heat.unowned)), ZERO)
        parts += sum((r.money for r in heat.reservations), ZERO)
        self._findings.check("I21", heat.heat.money == parts, f"heat {heat.heat.money}, its parts {parts}")

    def _members(self, heat: HeatMind, minds: tuple[Mind, ...], now: Millis) -> None:
        dead = [m.session for m in minds if not m.alive]
        if dead:
            complete = isinstance(heat.heat, CompleteHeat)
            self._findings.check("I21 dead", not complete, f"heat is complete without {dead}")
        reported = {c.session for c in heat.contributions}
        for mind in minds:
            if mind.phase in (Phase.RECOVERING, Phase.RECONCILING):
                anew = mind.session not in reported
                self._findings.check(
                    "I24 again", anew, f"{mind.session} is {mind.phase}; what it weighed before counts"
                )
        for contribution in heat.contributions:
            silent = now - contribution.at > 60_000
            complete = isinstance(heat.heat, CompleteHeat)
            self._findings.check(
                "I21 silent", not (silent and complete), f"heat is complete, {contribution.session} is silent"
            )

    def time(self, life: str, now: Millis) -> None:
        """The engine's clock never goes back."""
        self._findings.check("I37", now >= self._times.get(life, 0), f"{life}: {now} after {self._times.get(life)}")
        self._times[life] = now

    def promises(
        self,
        promises: tuple[Promise, ...],
        minds: tuple[Mind, ...],
        released: dict[SessionId, Millis],
        commanded: dict[str, Millis],
    ) -> tuple[Promise, ...]:
        """New words of "flat confirmed": true now; returns those that bind from now on."""
        known = sessions_of(minds)
        fresh = tuple(p for p in promises if (p.command, p.session) not in self.promised)
        places = {session: place for place, session in self._truth.places.items()}
        for promise in fresh:
            self.promised.add((promise.command, promise.session))
            if released.get(promise.session, 0) >= commanded.get(promise.command, 0):
                continue
            place = places[promise.session]
            held, resting = self._truth.position(place).quantity, self._truth.known_open(place)
            behind = self._truth.changed_behind(place, promise.at - 10_000)
            self._findings.check(
                "I43",
                (not held and not resting) or behind,
                f"{promise.session} was confirmed flat: {held} at the broker, own orders {[o.id for o in resting]}",
            )
            said = not promise.said or promise.said.startswith("0,")
            self._findings.check("I43 said", said, f"{promise.session} was confirmed flat on: position {promise.said}")
            mind = known.get(promise.session)
            open_then = [] if mind is None else [o.client_id for o in mind.orders if _was_unproven(o, promise.at)]
            self._findings.check(
                "I43 unproven",
                not open_then,
                f"{promise.session} was confirmed flat beside {open_then} of unknown fate",
            )
        return fresh


def _was_unproven(order: Order, at: Millis) -> bool:
    """Whether the order had left by then and nobody knew, nor knows, what became of it."""
    if order.state is OrderState.SUBMITTING:
        return order.sent is not None and order.sent < at
    return (
        order.state in (*IN_DOUBT, OrderState.LOST)
        and order.doubt is not None
        and order.doubt.sent < at
        and order.doubt.since <= at
    )


def sessions_of(minds: tuple[Mind, ...]) -> dict[SessionId, Mind]:
    """By session."""
    return {mind.session: mind for mind in minds}

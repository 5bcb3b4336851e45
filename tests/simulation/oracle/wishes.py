"""What a strategy wants and what comes of it: who wants out of everything leaves, and enters no further.

A flatten stands until somebody resumes.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace as changed

from engine.domain.ids import ClientOrderId, Millis, SessionId
from engine.domain.orders import IN_DOUBT, LIVE_AT_BROKER, Order, OrderState, OrderType, Role
from engine.snapshot import Phase
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.mind import Mind
from tests.simulation.oracle.truth import Place, Truth

LEFT_MS = 25_000
STANDS_MS = 15_000
SEEN_MS = 6_000
"""Between two looks."""
FLATTENED = "SELECT scope FROM latches WHERE held = 1 AND kind = 'pause' AND reason LIKE 'paused: flatten%'"
CALLED_OFF_MS = 12_000
RESTING = (OrderState.WORKING, OrderState.PARTIALLY_FILLED)


class Wanted(Struct, frozen=True):
    """A wish to leave everything: on which candle, since when, and what there was to leave; zero when it is judged.

    `entries` rested then.
    """

    candle: Millis
    since: Millis
    held: Decimal
    entries: frozenset[ClientOrderId] = frozenset()


class Wishes:
    """Judges every few seconds, while everything works."""

    def __init__(self, truth: Truth, findings: Findings) -> None:
        self._truth = truth
        self._findings = findings
        self._wanted: dict[tuple[str, SessionId], Wanted] = {}
        self._acted: dict[Place, Millis] = {}
        self._asked: dict[tuple[str, SessionId], Wanted] = {}
        self._stands: dict[tuple[str, SessionId], Decimal] = {}
        self._came: dict[tuple[str, SessionId], Millis] = {}
        self._failed: set[str] = set()
        self._flat: dict[tuple[str, SessionId], Millis] = {}

    def asked(self, life: str, mind: Mind, candle: Millis) -> None:
        """The strategy is about to decide on a candle."""
        held = self._truth.position((mind.account, mind.symbol)).quantity
        entries = frozenset(o.client_id for o in mind.orders if o.role is Role.ENTRY and o.state in RESTING)
        self._asked[life, mind.session] = Wanted(candle, self._truth.now(), held, entries)

    def begin(self, life: str) -> None:
        """A life begins: what an earlier one was told to flatten is closed by this one, until somebody resumes."""
        for (session,) in self._truth.database.execute(FLATTENED):
            self._stands[life, SessionId(session)] = Decimal(0)

    def lifted(self, sessions: tuple[SessionId, ...]) -> None:
        """Somebody wants to hold something there again."""
        self._stands = {key: held for key, held in self._stands.items() if key[1] not in sessions}

    def flat(self, life: str, session: SessionId) -> None:
        """A flatten ended well: nothing stands of one before it."""
        self._flat[life, session] = self._truth.now()
        self._stands.pop((life, session), None)

    def not_flat(self, mind: Mind, command: str) -> None:
        """A flatten ended without the position being closed: what comes on top of it is closed under it."""
        if command not in self._failed:
            self._failed.add(command)
            if self._truth.now() - self._flat.get((mind.life, mind.session), -SEEN_MS) < SEEN_MS:
                return  # another one ended beside it, and that one well
            self._stands[mind.life, mind.session] = mind.position

    def flattened(self, mind: Mind, now: Millis, began: Millis) -> None:
        """A position that appeared, or grew, while a flatten stands is left; tried once is enough."""
        key, place = (mind.life, mind.session), (mind.account, mind.symbol)
        left = self._stands.get(key)
        if left is None:
            return
        held = mind.position
        if mind.exiting or self._acted.get(place, 0) >= max(began, self._came.get(key, now) - SEEN_MS):
            if abs(held) > abs(left) or held * left < 0:
                self._findings.check("flatten stands", True, "")  # closed, or about to be
            left = self._stands[key] = held
        grew = abs(held) > abs(left) or held * left < 0
        leaving = any(o.role is not Role.ENTRY and o.terms.type is OrderType.MARKET for o in mind.orders)
        works = mind.alive and mind.phase is Phase.TRADING and not leaving
        if not grew or not works or any(o.is_in_doubt or o.state is OrderState.LOST for o in mind.orders):
            self._came.pop(key, None)
            return
        lasted = now - self._came.setdefault(key, now)
        self._findings.check(
            "flatten stands", lasted <= STANDS_MS, f"{mind.session} holds {held} for {lasted} ms under a flatten"
        )

    def acts(self, order: Order) -> None:
        """An exit leaves, or a stop that becomes one."""
        becomes = order.wanted is not None and order.wanted.type is OrderType.MARKET
        if order.role is Role.EXIT or (order.role is Role.STOP and becomes):
            self._acted[order.account, order.terms.symbol] = self._truth.now()

    def look(self, mind: Mind, now: Millis, told: bool) -> None:
        """One session while its line is up; `told` is whether an alarm says why its exit is not done."""
        wish, key = mind.wish, (mind.life, mind.session)
        place: Place = (mind.account, mind.symbol)
        known = self._wanted.get(key)
        if wish is None or not wish.whole or wish.is_past or not mind.alive or mind.phase is not Phase.TRADING:
            self._wanted.pop(key, None)
            return
        if known is None or known.candle != wish.candle:
            asked = self._asked.get(key)
            same = asked is not None and asked.candle == wish.candle
            known = asked if asked is not None and same else Wanted(wish.candle, now, Decimal(0))
            self._wanted[key] = known
        if known.entries and now - known.since >= CALLED_OFF_MS:
            self._entries(mind, known)
            known = self._wanted[key] = changed(known, entries=frozenset())
        if told or self._is_unsure(mind, known):
            self._wanted[key] = changed(known, held=Decimal(0))
            return
        if not known.held or now - known.since < LEFT_MS:
            return
        moved = self._truth.filled_at.get(place, 0) >= known.since or self._truth.changed_behind(place, known.since)
        left = moved or self._acted.get(place, 0) >= known.since
        self._findings.check(
            "I19 leaves", left, f"{mind.session} wanted out of {known.held} on {known.candle}; nothing left"
        )
        self._wanted[key] = changed(known, held=Decimal(0))

    def _is_unsure(self, mind: Mind, known: Wanted) -> bool:
        """Whether another exit, or a doubt, is in its way."""
        held = self._truth.position((mind.account, mind.symbol)).quantity
        doubt = any(o.state in (*IN_DOUBT, OrderState.LOST, OrderState.SUBMITTING) for o in mind.orders)
        leaving = any(o.role is Role.EXIT and o.state in LIVE_AT_BROKER for o in mind.orders)
        return doubt or leaving or mind.exiting or held != mind.position or held * known.held < 0

    def _entries(self, mind: Mind, known: Wanted) -> None:
        """What had left before is gone, or its cancel is wanted."""
        rest = [o.client_id for o in mind.orders if o.state in RESTING and not o.cancel_wanted]
        for entry in known.entries:
            gone = entry not in rest
            self._findings.check("I19 entries", gone, f"{entry} rests, and {mind.session} wanted out")

"""What a session has to weigh in heat at least, reckoned anew from its position and orders."""

from __future__ import annotations

from decimal import Decimal

from engine.domain.ids import AccountId, ClientOrderId, Millis, Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import TERMINAL, ZERO, Order, OrderState, OrderType, Role, Terms
from engine.domain.risk import CompleteHeat, Contribution, IncompleteHeat, Stance
from engine.snapshot import Phase
from tests.simulation.oracle.closing import excess
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.mind import HeatMind, Mind

FLOOR_TICKS = 4
GAP = Decimal("0.0025")
"""Of the mark, or of an entry's own price: no stop is taken to lie nearer."""
FLOOR_FRACTION = Decimal("0.002")
"""Of the average price; the rule says 0.25 % of the mark, which has moved since."""
EQUITY_DRIFT = Decimal("0.2")
ASKED_MS = 60_000
UNKNOWN = (OrderState.IN_DOUBT_SUBMIT, OrderState.LOST)
COVERING = (
    OrderState.WORKING,
    OrderState.PARTIALLY_FILLED,
    OrderState.PENDING_REPLACE,
    OrderState.IN_DOUBT_REPLACE,
)


class Weight:
    """Judges contributions. `worst` is the money that one contract without a stop may lose."""

    def __init__(self, findings: Findings, instruments: tuple[Instrument, ...], worst: Decimal) -> None:
        self._findings = findings
        self._instruments = {each.symbol: each for each in instruments}
        self._worst = worst
        self._blocked: set[str] = set()
        self._reserved: dict[tuple[str, ClientOrderId], tuple[Millis, Decimal]] = {}

    def stance(self, life: str, stance: Stance, heat: HeatMind, now: Millis | None) -> None:
        """The portfolio's word to a trader, in the step in which it is given. `now`: the desk's clock, if it is right.

        An entry is checked with what it adds, so no reservation brings the total to the block; and who was blocked is
        released only well under it.
        """
        if not isinstance(heat.heat, CompleteHeat):
            return
        share, check = heat.heat.percent, self._findings.check
        if share >= heat.block:
            self._blocked.add(life)
            fresh = sum((r.money for r in heat.reservations if r.at == now), ZERO) * 100 / heat.heat.equity
            check("I22 room", share - fresh >= heat.block or not fresh, f"an entry was let in and brought {share} %")
        elif share < heat.block - heat.release:
            self._blocked.discard(life)
        elif life in self._blocked:
            check("I22 release", stance is Stance.BLOCK, f"released at {share} %, blocked from {heat.block} %")

    def equity(self, heat: HeatMind, truly: Decimal) -> None:
        """The share is of the accounts' own equity; it may have moved since it was told."""
        if isinstance(heat.heat, CompleteHeat):
            near = abs(heat.heat.equity - truly) <= truly * EQUITY_DRIFT
            self._findings.check(
                "I21 equity", near, f"heat is a share of {heat.heat.equity}, the accounts hold {truly}"
            )

    def groups(self, heat: HeatMind) -> None:
        """Each group's share is the sum of its members'."""
        if not isinstance(heat.heat, CompleteHeat):
            return
        for name, percent in heat.group_percent:
            parts = [c.total for c in (*heat.contributions, *heat.unowned) if c.group == name]
            parts += [r.money for r in heat.reservations if r.group == name]
            reckoned = sum(parts, ZERO) * 100 / heat.heat.equity
            self._findings.check("I21 group", percent == reckoned, f"{name} is at {percent}, its parts at {reckoned}")

    def reserved(self, life: str, order: ClientOrderId, clock: Millis, money: Decimal) -> None:
        """The portfolio set heat aside for an order."""
        self._reserved[life, order] = (clock, money)

    def moves(self, mind: Mind, order: Order, clock: Millis) -> None:
        """Other terms of an entry start to leave: what they add was reviewed, and set aside, not long ago."""
        wanted, mark = order.wanted, mind.mark
        if wanted is None or mark is None:
            return
        instrument = self._instruments[mind.symbol]
        adds = self._planned(wanted, order, mark, instrument) - self._planned(order.terms, order, mark, instrument)
        if adds > 0:
            at, money = self._reserved.get((mind.life, order.client_id), (-ASKED_MS, ZERO))
            asked = at >= clock - ASKED_MS and money >= adds
            self._findings.check(
                "I22 asked", asked, f"{order.client_id} moves to {adds} more at risk; set aside were {money} at {at}"
            )

    def reckon(self, mind: Mind, share: Contribution | None, clock: Millis) -> None:
        """What was declared in this very step, when a request leaves, by the formula: at the mark of this moment."""
        if share is None or share.at != clock or mind.mark is None:
            return
        least = self._position(mind, mind.mark)
        weighs = share.position_risk + share.unprotected
        self._findings.check(
            "I21 reckoned",
            weighs >= least,
            lambda: f"{mind.session}: {mind.position} at {mind.mark} weighs {weighs}, by its stops {least}",
        )
        instrument = self._instruments[mind.symbol]
        least = sum((self._entry(o, mind.mark, instrument) for o in mind.orders if o.role is Role.ENTRY), ZERO)
        self._findings.check(
            "I23 reckoned",
            share.pending >= least,
            lambda: f"{mind.session}: entries weigh {share.pending}, not {least}",
        )

    def _position(self, mind: Mind, mark: Decimal) -> Decimal:
        """Each contract to the stop that covers it, the farthest first; what no stop covers at worst case."""
        instrument = self._instruments[mind.symbol]
        sign = 1 if mind.position > 0 else -1
        asleep = {o.client_id for o in mind.orders if o.role is Role.ENTRY and not o.filled and not o.reported}
        stops = [
            (mark - o.terms.stop) * sign
            for o in mind.orders
            if o.role is Role.STOP
            and o.state in COVERING
            and o.terms.side.sign == -sign
            and o.parent not in asleep
            and o.terms.type in (OrderType.STOP, OrderType.STOP_LIMIT)
            and o.terms.stop is not None
            for _ in range(int(o.at_least))
        ]
        held = int(abs(mind.position))
        covered = sorted((distance for distance in stops if distance > 0), reverse=True)[:held]
        floor = max(FLOOR_TICKS * instrument.tick_size, mark * GAP)
        risk = sum((max(distance, floor) * instrument.point_value for distance in covered), ZERO)
        return risk + (held - len(covered)) * self._worst

    def _entry(self, entry: Order, mark: Decimal, instrument: Instrument) -> Decimal:
        """The larger of old and new terms while a replace is under way."""
        if entry.state in TERMINAL:
            return (entry.reported - entry.filled) * self._worst
        if entry.state in UNKNOWN:
            return (entry.terms.quantity - entry.filled) * self._worst
        both = [terms for terms in (entry.terms, entry.wanted) if terms is not None]
        return max(self._planned(terms, entry, mark, instrument) for terms in both)

    def _planned(self, terms: Terms, entry: Order, mark: Decimal, instrument: Instrument) -> Decimal:
        price = next((each for each in (terms.limit, terms.stop) if each is not None), mark)
        size = max(ZERO, terms.quantity - entry.filled)
        distance = ZERO if entry.protect_stop is None else (price - entry.protect_stop) * terms.side.sign
        if distance <= 0:
            return size * self._worst
        return size * max(distance, FLOOR_TICKS * instrument.tick_size, price * GAP) * instrument.point_value

    def look(self, mind: Mind, heat: HeatMind) -> None:
        """One session's contribution against its own book."""
        if not mind.alive or mind.phase is not Phase.TRADING:
            return
        share = next((c for c in heat.contributions if c.session == mind.session), None)
        if share is None:
            return
        stops = sum((o.remaining for o in mind.orders if o.role is Role.STOP), ZERO)
        naked = max(ZERO, abs(mind.position) - stops) * self._worst
        self._findings.check(
            "I21 naked",
            share.unprotected >= naked,
            lambda: f"{mind.session}: {mind.position} with stops for {stops} weighs {share.unprotected}",
        )
        beyond = excess(mind) * self._worst
        same = share.excess == beyond
        self._findings.check("I21 excess", same, lambda: f"{mind.session}: {share.excess}, not {beyond}")
        instrument = self._instruments[mind.symbol]
        floor = FLOOR_TICKS * instrument.tick_size * instrument.point_value
        if mind.position and mind.average is not None:
            gap = max(floor, mind.average * FLOOR_FRACTION * instrument.point_value)
            weighs = share.position_risk + share.unprotected
            self._findings.check(
                "I21 floor", weighs >= abs(mind.position) * gap, f"{mind.session}: {mind.position} weighs {weighs}"
            )
        entries = [o for o in mind.orders if o.role is Role.ENTRY and o.sent is not None]
        least = sum((self._least(o, floor) for o in entries), ZERO)
        self._findings.check(
            "I23 weight",
            share.pending >= least,
            lambda: f"{mind.session}: entries {[o.client_id for o in entries]} weigh {share.pending}, at least {least}",
        )
        orders = {o.client_id for o in mind.orders}
        kept = [r.order for r in heat.reservations if r.session == mind.session and r.order not in orders]
        given = not kept
        self._findings.check(
            "I22 given back", given, lambda: f"{mind.session}: {kept} ended and keep their reservations"
        )
        if mind.foreign:
            counted = {each.symbol for each in heat.unowned}
            holds = mind.foreign <= counted or isinstance(heat.heat, IncompleteHeat)
            self._findings.check("I32 counted", holds, f"foreign orders for {mind.foreign}; in heat are {counted}")
        for symbol in mind.foreign:
            self._strange(mind, heat, symbol)

    def unknown(self, account: AccountId, symbol: Symbol, held: Decimal, heat: HeatMind) -> None:
        """A position of a contract that no session of the account trades weighs its worst case, grown or not."""
        worst = self._instruments[symbol].worst_case
        least = held * (self._worst if worst is None else min(self._worst, worst))
        unowned = (each for each in heat.unowned if each.symbol == symbol and each.session == f"unowned on {account}")
        weighs = sum((each.total for each in unowned), ZERO)
        self._findings.check("I32 position", weighs >= least, f"{account} holds {held} {symbol}: weighs {weighs}")

    def _strange(self, mind: Mind, heat: HeatMind, symbol: Symbol) -> None:
        """Strangers' orders weigh as much as the larger of their sides may open."""
        sides = {1: ZERO, -1: ZERO}
        for of, side, left in mind.strange:
            sides[side] += left if of == symbol else ZERO
        weighs = sum((each.total for each in heat.unowned if each.symbol == symbol), ZERO)
        worst = self._instruments[symbol].worst_case
        least = max(sides.values()) * (self._worst if worst is None else min(self._worst, worst))
        holds = weighs >= least or isinstance(heat.heat, IncompleteHeat)
        self._findings.check("I32 weight", holds, f"strangers' {symbol} weighs {weighs}, at least {least}")

    def _least(self, entry: Order, floor: Decimal) -> Decimal:
        """Of one that ended, what it filled by the broker's word and no position counts yet."""
        if entry.state in TERMINAL:
            return max(ZERO, entry.reported - entry.filled) * self._worst
        return entry.remaining * (self._worst if entry.state in UNKNOWN else floor)

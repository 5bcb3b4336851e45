"""What a session has to weigh in heat at least, reckoned anew from its position and orders."""

from __future__ import annotations

from decimal import Decimal

from engine.domain.instruments import Instrument
from engine.domain.orders import TERMINAL, ZERO, Order, OrderState, Role
from engine.domain.risk import CompleteHeat, IncompleteHeat
from engine.snapshot import Phase
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.mind import HeatMind, Mind

FLOOR_TICKS = 4
FLOOR_FRACTION = Decimal("0.002")
"""Of the average price; the rule says 0.25 % of the mark, which has moved since."""
EQUITY_DRIFT = Decimal("0.2")
UNKNOWN = (OrderState.IN_DOUBT_SUBMIT, OrderState.LOST)


class Weight:
    """Judges contributions. `worst` is the money that one contract without a stop may lose."""

    def __init__(self, findings: Findings, instruments: tuple[Instrument, ...], worst: Decimal) -> None:
        self._findings = findings
        self._instruments = {each.symbol: each for each in instruments}
        self._worst = worst

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
        self._findings.check("I22 given back", not kept, f"{mind.session}: {kept} ended and keep their reservations")
        if mind.foreign:
            counted = {each.symbol for each in heat.unowned}
            holds = mind.foreign <= counted or isinstance(heat.heat, IncompleteHeat)
            self._findings.check("I32 counted", holds, f"foreign orders for {mind.foreign}; in heat are {counted}")

    def _least(self, entry: Order, floor: Decimal) -> Decimal:
        """Of one that ended, what it filled by the broker's word and no position counts yet."""
        if entry.state in TERMINAL:
            return max(ZERO, entry.reported - entry.filled) * self._worst
        return entry.remaining * (self._worst if entry.state in UNKNOWN else floor)

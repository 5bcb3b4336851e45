"""The stop that works at the broker and does not act."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.ids import ClientOrderId, Millis
from engine.domain.orders import Order
from engine.session import SessionDesk
from engine.snapshot import ProtectionState, Severity


class InertWatch:
    """Since when the price is through the stop; `found` are the stops that it left standing."""

    def __init__(self, desk: SessionDesk) -> None:
        self._desk = desk
        self._through_since: Millis | None = None
        self.found: set[ClientOrderId] = set()

    def on_tick(self, mark: Decimal, stop: Decimal | None, now: Millis) -> None:
        """Note whether the price has run through the stop; nothing is awaited."""
        held = self._desk.book.position.quantity
        if not held or stop is None or (mark - stop) * held >= 0:
            self._through_since = None
        elif self._through_since is None:
            self._through_since = now

    def is_flat(self) -> None:
        """There is nothing to guard."""
        self._through_since = None

    async def look(self, stops: Sequence[Order]) -> None:
        """Price through a working stop, position unchanged after the grace: ask directly, then raise the alarm."""
        desk = self._desk
        since = self._through_since
        if since is None or desk.now() - since < desk.numbers.inert_stop_grace * 1000:
            return
        for stop in stops:
            if stop.client_id in self.found or stop.updated > since:
                continue
            held = desk.book.position.quantity
            rows = await desk.road.find(stop.client_id, stop.created, stop.broker_id)
            if rows is None or desk.book.position.quantity != held or self._through_since is None:
                return
            alive = next((r for r in rows if r.broker_id == stop.broker_id and not r.status.is_final), None)
            if alive is None:
                desk.road.suspect(f"stop {stop.client_id} is not at the broker", orders=True)
                return
            self.found.add(stop.client_id)
            self._report(stop, since)

    def _report(self, stop: Order, since: Millis) -> None:
        desk = self._desk
        text = f"stop {stop.terms.stop} works at the broker, price {desk.mark}, position {desk.book.position.quantity}"
        desk.protection = ProtectionState.INERT
        desk.reporter.alert(
            f"inert:{desk.id}", Severity.CRITICAL, f"{desk.id}: STOP NOT PROTECTING: {text}; flatten it", lasting=True
        )
        desk.disagreements.put(stop_not_protecting(desk, stop, since))


def stop_not_protecting(desk: SessionDesk, stop: Order, since: Millis) -> Disagreement:
    """Price has been through the stop since then, and the position has not moved."""
    now = desk.now()
    return Disagreement(
        id=f"inert:{stop.client_id}",
        account=desk.settings.account,
        session=desk.settings.id,
        symbol=desk.book.symbol,
        kind=DisagreementKind.STOP_NOT_PROTECTING,
        state=DisagreementState.CONFIRMED,
        memory=f"stop {stop.terms.stop} should have closed {stop.remaining}",
        database=f"{stop.state}",
        broker=f"{stop.state}, price {desk.mark}",
        read=(now, now, now),
        first_seen=since,
        updated=now,
        query=f"direct query of {stop.client_id}",
        done="alarm raised; flatten converts the stop to market",
        order=stop.broker_id,
        blocks_entries=True,
    )

"""The row of a stop that works at the broker and does not act."""

from __future__ import annotations

from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.ids import Millis
from engine.domain.orders import Order
from engine.session import SessionDesk


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

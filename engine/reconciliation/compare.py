"""Belief, database and broker side by side: pure functions from three values to corrections."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeAlias

from msgspec import Struct

from engine.domain.broker import BrokerOrder
from engine.domain.ids import ClientOrderId, Symbol
from engine.domain.orders import LIVE_AT_BROKER, Order, OrderState, Terms


class Agrees(Struct, frozen=True):
    """Memory and broker tell the same position."""

    quantity: Decimal


class PositionDiffers(Struct, frozen=True):
    """Memory is `memory`, the broker says `broker`; `difference` is broker - memory."""

    memory: Decimal
    broker: Decimal
    average: Decimal | None

    @property
    def difference(self) -> Decimal:
        """What has to repeat before it is believed."""
        return self.broker - self.memory

    @property
    def reverses(self) -> bool:
        """Whether both are open on opposite sides."""
        return self.memory * self.broker < 0


PositionVerdict: TypeAlias = Agrees | PositionDiffers


def compare_position(memory: Decimal, broker: Decimal, average: Decimal | None) -> PositionVerdict:
    """Compare one contract; an absent row means that the broker holds nothing (quantity zero)."""
    return Agrees(broker) if memory == broker else PositionDiffers(memory, broker, average)


class Seen(Struct, frozen=True):
    """The broker's record of one of our open orders."""

    order: Order
    record: BrokerOrder


class TermsDiffer(Struct, frozen=True):
    """An order of ours rests at the broker with other terms than we know."""

    order: Order
    record: BrokerOrder
    what: str


class Absent(Struct, frozen=True):
    """An order of ours should rest at the broker, and its complete open list does not show it."""

    order: Order


class Stranger(Struct, frozen=True):
    """A live order at the broker that memory does not know."""

    record: BrokerOrder


class DuplicateOrder(Struct, frozen=True):
    """Two live orders at the broker carry one client order id."""

    client_id: ClientOrderId
    records: tuple[BrokerOrder, ...]


OrderVerdict: TypeAlias = Seen | TermsDiffer | Absent | Stranger | DuplicateOrder
_SETTLED = (OrderState.WORKING, OrderState.PARTIALLY_FILLED)


def compare_orders(ours: Sequence[Order], theirs: Sequence[BrokerOrder]) -> tuple[OrderVerdict, ...]:
    """Compare our open orders with the broker's complete list of open orders (held legs included).

    Orders on their way (submitting, in doubt) are left to the doubt loop; being listed still counts as seen.
    """
    verdicts: list[OrderVerdict] = []
    by_client: dict[ClientOrderId, list[BrokerOrder]] = {}
    for record in theirs:
        if record.client_id is not None:
            by_client.setdefault(record.client_id, []).append(record)
    by_broker = {record.broker_id: record for record in theirs}
    claimed: set[str] = set()
    for order in ours:
        records = by_client.get(order.client_id, [])
        if len(records) > 1:
            verdicts.append(DuplicateOrder(order.client_id, tuple(records)))
            claimed.update(r.broker_id for r in records)
            continue
        record_or_none = records[0] if records else by_broker.get(order.broker_id) if order.broker_id else None
        if record_or_none is None:
            if order.state in LIVE_AT_BROKER:
                verdicts.append(Absent(order))
            continue
        claimed.add(record_or_none.broker_id)
        what = terms_difference(order, record_or_none.terms)
        if what and order.state in _SETTLED and order.wanted is None:
            verdicts.append(TermsDiffer(order, record_or_none, what))
        else:
            verdicts.append(Seen(order, record_or_none))
    verdicts.extend(Stranger(record) for record in theirs if record.broker_id not in claimed)
    return tuple(verdicts)


def terms_difference(order: Order, terms: Terms) -> str:
    """What differs between our terms and the broker's, in words; empty when nothing does.

    The size of an attached leg is the broker's to choose while it follows its parent's fills.
    """
    ours = order.terms
    parts = []
    if ours.quantity != terms.quantity and order.parent is None:
        parts.append(f"quantity {ours.quantity} / {terms.quantity}")
    if ours.type is not terms.type:
        parts.append(f"type {ours.type} / {terms.type}")
    if ours.limit != terms.limit:
        parts.append(f"limit {ours.limit} / {terms.limit}")
    if ours.stop != terms.stop:
        parts.append(f"stop {ours.stop} / {terms.stop}")
    if ours.side is not terms.side:
        parts.append(f"side {ours.side} / {terms.side}")
    return ", ".join(parts)


def union_of_symbols(memory: Sequence[Symbol], broker: Sequence[Symbol]) -> tuple[Symbol, ...]:
    """Every contract that either side names: a vanished position is as much a difference as a new one."""
    return tuple(dict.fromkeys((*memory, *broker)))

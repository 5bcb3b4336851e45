"""Orders, fills and disagreements as rows: the columns an auditor reads are the columns we read back."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypeVar, cast

import msgspec

from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, DecisionKey, SessionId, Symbol
from engine.domain.orders import (
    Doubt,
    Flag,
    Order,
    OrderState,
    OrderType,
    Role,
    Side,
    Terms,
    TimeInForce,
)
from engine.persistence.connection import Statement

T = TypeVar("T")
Row = tuple[Any, ...]


def text_of(value: Decimal) -> str:
    """A decimal as text without exponent, every digit kept."""
    return format(value, "f")


def text_or_none(value: Decimal | None) -> str | None:
    """As `text_of`; None stays None."""
    return None if value is None else format(value, "f")


def decimal_or_none(value: str | None) -> Decimal | None:
    """The decimal that `text_or_none` wrote."""
    return None if value is None else Decimal(value)


def json_of(value: object) -> str:
    """A struct as JSON text."""
    return msgspec.json.encode(value).decode()


def json_or_none(value: object | None) -> str | None:
    """As `json_of`; None stays None."""
    return None if value is None else json_of(value)


def _decoded(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)


ORDER_COLUMNS = (
    "client_id, decision_key, session, account, role, symbol, side, quantity, type, limit_price, stop_price, tif, "
    "state, created, updated, deadline, epoch, sent, broker_id, filled, average_price, reported, fees, parent, "
    "linked, wanted, replaces, replaced_by, cancel_wanted, protect_stop, target, doubt, flags, reason, revision"
)
PUT_ORDER = """
INSERT INTO orders (
    client_id, decision_key, session, account, role, symbol, side, quantity, type, limit_price, stop_price, tif,
    state, created, updated, deadline, epoch, sent, broker_id, filled, average_price, reported, fees, parent,
    linked, wanted, replaces, replaced_by, cancel_wanted, protect_stop, target, doubt, flags, reason, revision,
    is_live
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (client_id) DO UPDATE SET
    decision_key = excluded.decision_key, session = excluded.session, account = excluded.account,
    role = excluded.role, symbol = excluded.symbol, side = excluded.side, quantity = excluded.quantity,
    type = excluded.type, limit_price = excluded.limit_price, stop_price = excluded.stop_price, tif = excluded.tif,
    state = excluded.state, updated = excluded.updated, deadline = excluded.deadline, epoch = excluded.epoch,
    sent = excluded.sent, broker_id = excluded.broker_id, filled = excluded.filled,
    average_price = excluded.average_price, reported = excluded.reported, fees = excluded.fees,
    parent = excluded.parent, linked = excluded.linked, wanted = excluded.wanted, replaces = excluded.replaces,
    replaced_by = excluded.replaced_by, cancel_wanted = excluded.cancel_wanted,
    protect_stop = excluded.protect_stop, target = excluded.target, doubt = excluded.doubt, flags = excluded.flags,
    reason = excluded.reason, revision = excluded.revision, is_live = excluded.is_live
WHERE excluded.revision > orders.revision
"""
PUT_EVENT = """
INSERT INTO order_events (client_id, revision, at, event, state, filled, detail) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (client_id, revision) DO NOTHING
"""
PUT_LOG = """
INSERT INTO log (at, kind, session, subject, version, text) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, kind, version) DO NOTHING
"""


def order_row(order: Order) -> Row:
    """The values for PUT_ORDER."""
    terms = order.terms
    return (
        order.client_id,
        order.key,
        order.session,
        order.account,
        order.role.value,
        terms.symbol,
        terms.side.value,
        text_of(terms.quantity),
        terms.type.value,
        text_or_none(terms.limit),
        text_or_none(terms.stop),
        terms.tif.value,
        order.state.value,
        order.created,
        order.updated,
        order.deadline,
        order.epoch,
        order.sent,
        order.broker_id,
        text_of(order.filled),
        text_or_none(order.average_price),
        text_of(order.reported),
        text_of(order.fees),
        order.parent,
        int(order.linked),
        json_or_none(order.wanted),
        order.replaces,
        order.replaced_by,
        int(order.cancel_wanted),
        text_or_none(order.protect_stop),
        text_or_none(order.target),
        json_or_none(order.doubt),
        json_of(sorted(order.flags)),
        order.reason,
        order.revision,
        int(order.is_open or order.open_for_fills),
    )


def order_from(row: Row) -> Order:
    """The order in a row of ORDER_COLUMNS."""
    (client, key, session, account, role, symbol, side, quantity, kind, limit, stop, tif, *rest) = row
    (state, created, updated, deadline, epoch, sent, broker, filled, average, reported, fees, *rest) = rest
    (parent, linked, wanted, replaces, replaced_by, cancel_wanted, protect, target, *rest) = rest
    (doubt, flags, reason, revision) = rest
    terms = Terms(
        symbol=symbol,
        side=Side(side),
        quantity=Decimal(quantity),
        type=OrderType(kind),
        limit=decimal_or_none(limit),
        stop=decimal_or_none(stop),
        tif=TimeInForce(tif),
    )
    return Order(
        client_id=ClientOrderId(client),
        key=DecisionKey(key),
        session=SessionId(session),
        account=AccountId(account),
        role=Role(role),
        terms=terms,
        state=OrderState(state),
        created=created,
        updated=updated,
        deadline=deadline,
        epoch=epoch,
        sent=sent,
        broker_id=broker,
        filled=Decimal(filled),
        average_price=decimal_or_none(average),
        reported=Decimal(reported),
        fees=Decimal(fees),
        parent=parent,
        linked=bool(linked),
        wanted=_decoded(wanted, Terms),
        replaces=replaces,
        replaced_by=replaced_by,
        cancel_wanted=bool(cancel_wanted),
        protect_stop=decimal_or_none(protect),
        target=decimal_or_none(target),
        doubt=_decoded(doubt, Doubt),
        flags=frozenset(Flag(flag) for flag in cast("list[str]", msgspec.json.decode(flags))),
        reason=reason,
        revision=revision,
    )


def describe(order: Order) -> str:
    """One line about an order, for the log."""
    terms = order.terms
    words = [order.role.value, terms.side.value, text_of(terms.quantity), terms.symbol, terms.type.value]
    words += [text_of(price) for price in (terms.limit, terms.stop) if price is not None]
    line = f"{' '.join(words)}: {order.state.value}"
    if order.filled:
        line += f", filled {text_of(order.filled)}"
        if order.average_price is not None:
            line += f" at {text_of(order.average_price)}"
    return line


def put_order(order: Order, event: str, at: int, detail: str = "") -> Iterator[Statement]:
    """Row, event and log line of an order; an older revision changes nothing."""
    yield PUT_ORDER, order_row(order)
    yield (
        PUT_EVENT,
        (order.client_id, order.revision, at, event, order.state.value, text_of(order.filled), detail),
    )
    why = "; ".join(word for word in (order.reason, detail) if word)
    line = f"{event}: {describe(order)}" + (f" ({why})" if why else "")
    yield PUT_LOG, (at, "order", order.session, order.client_id, str(order.revision), line)


FILL_COLUMNS = (
    "fill_key, account, session, symbol, client_id, broker_id, side, quantity, price, at, fee, since_quantity, "
    "upto_quantity, revision"
)
PUT_FILL = """
INSERT INTO fills (
    fill_key, account, session, symbol, client_id, broker_id, side, quantity, price, at, fee, since_quantity,
    upto_quantity, revision, booked
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (account, fill_key, revision) DO NOTHING
"""


def fill_row(fill: Fill, booked: int) -> Row:
    """The values for PUT_FILL."""
    return (
        fill.key,
        fill.account,
        fill.session,
        fill.symbol,
        fill.client_id,
        fill.broker_id,
        fill.side.value,
        text_of(fill.quantity),
        text_of(fill.price),
        fill.at,
        text_of(fill.fee),
        text_of(fill.since),
        text_of(fill.upto),
        fill.revision,
        booked,
    )


def fill_from(row: Row) -> Fill:
    """The fill in a row of FILL_COLUMNS."""
    key, account, session, symbol, client, broker, side, quantity, price, at, fee, since, upto, revision = row
    return Fill(
        key=key,
        account=AccountId(account),
        session=session,
        symbol=Symbol(symbol),
        client_id=client,
        broker_id=BrokerOrderId(broker),
        side=Side(side),
        quantity=Decimal(quantity),
        price=Decimal(price),
        at=at,
        fee=Decimal(fee),
        since=Decimal(since),
        upto=Decimal(upto),
        revision=revision,
    )


DISAGREEMENT_COLUMNS = (
    "id, account, session, symbol, kind, state, memory, in_database, broker, memory_read, database_read, "
    "broker_read, first_seen, updated, query, done, position_effect, pnl_effect, heat_effect, broker_id, "
    "blocks_entries, acknowledged_by, acknowledged_at, note"
)


def disagreement_row(item: Disagreement) -> Row:
    """The values of DISAGREEMENT_COLUMNS, then whether it is open."""
    return (
        item.id,
        item.account,
        item.session,
        item.symbol,
        item.kind.value,
        item.state.value,
        item.memory,
        item.database,
        item.broker,
        *item.read,
        item.first_seen,
        item.updated,
        item.query,
        item.done,
        text_or_none(item.position_effect),
        text_or_none(item.pnl_effect),
        text_or_none(item.heat_effect),
        item.order,
        int(item.blocks_entries),
        item.acknowledged_by,
        item.acknowledged_at,
        item.note,
        int(item.is_open),
    )


def disagreement_from(row: Row) -> Disagreement:
    """The disagreement in a row of DISAGREEMENT_COLUMNS."""
    (identity, account, session, symbol, kind, state, memory, database, broker, *rest) = row
    (memory_read, database_read, broker_read, first_seen, updated, query, done, *rest) = rest
    (position, pnl, heat, order, blocks, acknowledged_by, acknowledged_at, note) = rest
    return Disagreement(
        id=identity,
        account=AccountId(account),
        session=session,
        symbol=Symbol(symbol),
        kind=DisagreementKind(kind),
        state=DisagreementState(state),
        memory=memory,
        database=database,
        broker=broker,
        read=(memory_read, database_read, broker_read),
        first_seen=first_seen,
        updated=updated,
        query=query,
        done=done,
        position_effect=decimal_or_none(position),
        pnl_effect=decimal_or_none(pnl),
        heat_effect=decimal_or_none(heat),
        order=order,
        blocks_entries=bool(blocks),
        acknowledged_by=acknowledged_by,
        acknowledged_at=acknowledged_at,
        note=note,
    )

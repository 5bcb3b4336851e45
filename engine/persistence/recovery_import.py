"""Reading the intent journal back into the database: what left while the database could not be asked.

Every prepared intent becomes a row under its natural key. With its outcome beside it, the order is in the state
that the outcome proves; prepared alone it is in doubt, and recovery asks the broker. Importing twice changes
nothing: keys, revisions and steps are natural, and the files are set aside only after all of it committed.
"""

from __future__ import annotations

import logging
from typing import assert_never

import msgspec
from msgspec import Struct

from engine.domain import order_lifecycle as lifecycle
from engine.domain.ids import BrokerOrderId, CommandId, DecisionKey, Millis
from engine.domain.intents import (
    LIMIT_NOTE,
    PAUSE_NOTE,
    CancelIntent,
    Concluded,
    IntentRecord,
    Noted,
    Outcome,
    Prepared,
    ReplaceIntent,
    SubmitIntent,
)
from engine.domain.orders import Doubt, Flag, Order, OrderState
from engine.domain.records import LatchKind, LatchSet, LimitsChanged, OverrideRecorded
from engine.persistence.intent_journal import FileIntentJournal
from engine.persistence.order_rows import put_order
from engine.persistence.statements import import_key, statements_of
from engine.persistence.store import SqlStore
from engine.ports import IntentJournal

OUTCOME_MS = 30_000
UNANSWERED = frozenset({OrderState.SUBMITTING, OrderState.IN_DOUBT_SUBMIT})
log = logging.getLogger(__name__)


class Imported(Struct, frozen=True):
    """One thing that the journal told the database; `was_new` when the database had not known its key."""

    key: DecisionKey
    what: str
    outcome: str
    was_new: bool


async def import_journal(store: SqlStore, journal: IntentJournal) -> tuple[Imported, ...]:
    """Import all that is pending, then archive it; what was imported, oldest first.

    Raises StoreUnavailable or CommitUnknown (nothing is archived then: call again), OSError.
    """
    records = await journal.pending()
    outcomes = {record.key: record for record in records if isinstance(record, Concluded)}
    done: list[Imported] = []
    for record in records:
        match record:
            case Prepared(intent=intent):
                done.append(await _intent(store, intent, outcomes.get(intent.key)))
            case Noted():
                done.append(await _note(store, record))
            case Concluded():
                pass  # told together with its intent
            case _:
                assert_never(record)
    prepared = {record.intent.key for record in records if isinstance(record, Prepared)}
    for record in outcomes.values():
        if record.key not in prepared and (alone := await _outcome_alone(store, record)) is not None:
            done.append(alone)
    await journal.archive()
    return tuple(done)


async def _outcome_alone(store: SqlStore, outcome: Concluded) -> Imported | None:
    """What became of a submit whose intent the database has already: a broker id is evidence that nothing else holds.

    A cancel's or replace's outcome is asked of the broker under the order's own id.
    """
    order = await store.order_of(outcome.key)
    if order is None:
        log.error("the journal has an outcome without its intent: %s", outcome)
        return None
    if order.state not in UNANSWERED or order.broker_id is not None:
        return None
    match outcome.outcome:
        case Outcome.ACCEPTED if outcome.broker_id is not None:
            after = lifecycle.accepted(order, outcome.at, BrokerOrderId(outcome.broker_id))
        case Outcome.REFUSED:
            after = lifecycle.refused(order, outcome.at, outcome.detail)
        case _:
            return None
    after = msgspec.structs.replace(after, flags=after.flags | {Flag.JOURNALLED})
    await store.apply(f"journal {outcome.key}", list(put_order(after, "imported", outcome.at, outcome.detail)))
    return Imported(outcome.key, "Concluded", outcome.outcome.value, False)


async def settle_journal(store: SqlStore, journal: FileIntentJournal, now: Millis) -> tuple[DecisionKey, ...]:
    """Bring the keys of journalled intents into the database while the desk runs; the keys, then archived.

    Orders, overrides and latches follow through the writer's queue, which knows more than the journal does: only
    the intents themselves are missing. Does nothing while the database is in trouble, or while an outcome is on
    its way. Raises StoreUnavailable, CommitUnknown, OSError (nothing is archived then: call again).
    """
    if journal.is_settled or not store.health().ok:
        return ()
    records = await journal.pending()
    prepared = [record.intent for record in records if isinstance(record, Prepared)]
    concluded = {record.key for record in records if isinstance(record, Concluded)}
    if any(intent.key not in concluded and now - intent.at < OUTCOME_MS for intent in prepared):
        return ()
    await store.settled()  # the queued rows first: they outrank what the intents tell of their orders
    for intent in prepared:
        await store.apply(f"journal {intent.key}", import_key(intent))
    await journal.archive()
    await journal.keep_room()
    return tuple(intent.key for intent in prepared)


async def _note(store: SqlStore, note: Noted) -> Imported:
    detail = note.detail if note.amount is None else f"{note.detail} amount {note.amount:f}".strip()
    override = OverrideRecorded(
        id=CommandId(note.key),
        step=0,
        what=note.what,
        operator=note.operator,
        origin=note.origin,
        at=note.at,
        session=note.session,
        detail=detail,
        outcome="journalled",
    )
    statements = statements_of(override)
    if note.what == PAUSE_NOTE:
        held = LatchSet(
            session=note.session, kind=LatchKind.PAUSE, held=True, reason=note.detail, at=note.at, by=note.operator
        )
        statements += statements_of(held)
    if note.what.startswith(LIMIT_NOTE) and note.amount is not None:
        name = note.what.removeprefix(LIMIT_NOTE)
        limit = LimitsChanged(name=name, percent=note.amount, at=note.at, by=note.operator, reason=note.detail)
        statements += statements_of(limit)
    counts = await store.apply(note.what, statements)
    return Imported(note.key, note.what, "noted", bool(counts[0]))


async def _intent(store: SqlStore, intent: IntentRecord, outcome: Concluded | None) -> Imported:
    statements = import_key(intent)
    after: list[Order] = []
    match intent:
        case SubmitIntent(order=order, legs=legs):
            after = [_submitted(each, intent, outcome) for each in (order, *legs)]
        case CancelIntent() | ReplaceIntent():
            known = await store.order(intent.client_id)
            if known is not None and (moved := _commanded(known, intent, outcome)) is not None:
                after = [moved]
        case _:
            assert_never(intent)
    for order in after:
        statements += put_order(order, "imported", order.updated, outcome.detail if outcome else "")
    counts = await store.apply(f"journal {intent.key}", statements)
    said = outcome.outcome.value if outcome else "prepared"
    return Imported(intent.key, type(intent).__name__, said, bool(counts[0]))


def _submitted(order: Order, intent: SubmitIntent, outcome: Concluded | None) -> Order:
    """The order one revision after it was prepared: later news in the database outranks this by its revision."""
    at = outcome.at if outcome else intent.at
    is_leg = order is not intent.order
    told = outcome.outcome if outcome else Outcome.IN_DOUBT
    match told:
        case Outcome.ACCEPTED if not is_leg:
            state = OrderState.WORKING
        case Outcome.ACCEPTED | Outcome.IN_DOUBT:  # the broker id of an accepted leg was never journalled
            state = OrderState.IN_DOUBT_SUBMIT
        case Outcome.REFUSED:
            state = OrderState.REJECTED
        case Outcome.NOT_SENT:
            state = OrderState.ABANDONED
        case _:
            assert_never(told)
    in_doubt = state is OrderState.IN_DOUBT_SUBMIT
    broker_id = outcome.broker_id if outcome and not is_leg else None
    return msgspec.structs.replace(
        order,
        state=state,
        updated=at,
        sent=order.sent or (None if state is OrderState.ABANDONED else intent.at),
        broker_id=BrokerOrderId(broker_id) if broker_id else order.broker_id,
        doubt=Doubt(since=at, sent=order.sent or intent.at) if in_doubt else None,
        flags=order.flags | {Flag.JOURNALLED},
        reason=(outcome.detail if outcome else "") or order.reason,
        revision=order.revision + 1,
    )


def _commanded(order: Order, intent: CancelIntent | ReplaceIntent, outcome: Concluded | None) -> Order | None:
    """The order after a cancel or replace that may have reached the broker; None when nothing has to be believed.

    An order whose row is younger than the command already tells more than the journal does.
    """
    if order.state not in (OrderState.WORKING, OrderState.PARTIALLY_FILLED) or order.updated > intent.at:
        return None
    accepted = outcome is not None and outcome.outcome is Outcome.ACCEPTED
    if outcome is not None and outcome.outcome in (Outcome.REFUSED, Outcome.NOT_SENT):
        return None
    at = outcome.at if outcome else intent.at
    doubt = None if accepted else Doubt(since=at, sent=intent.at)
    later = msgspec.structs.replace(
        order,
        updated=max(at, intent.at + 1),  # so that a second import finds the row younger than the command
        doubt=doubt,
        flags=order.flags | {Flag.JOURNALLED},
        revision=order.revision + 1,
    )
    if isinstance(intent, CancelIntent):
        state = OrderState.PENDING_CANCEL if accepted else OrderState.IN_DOUBT_CANCEL
        return msgspec.structs.replace(later, state=state, cancel_wanted=True)
    state = OrderState.PENDING_REPLACE if accepted else OrderState.IN_DOUBT_REPLACE
    return msgspec.structs.replace(later, state=state, wanted=intent.terms)

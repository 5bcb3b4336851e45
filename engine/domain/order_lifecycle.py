"""The table of order states as pure functions: our commands obey it, the broker's facts are always booked.

Commands (raise IllegalCommand where the table forbids them): sent, abandoned, denied, cancel_asked, replace_asked.
Answers to commands: accepted, refused, doubted, cancel_refused, replaced, replace_refused.
Facts: reported, with_fill, without_fill, lives_after_all, presumed_lost, declared_dead.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec.structs import replace as changed

from engine.domain.broker import BrokerOrder, BrokerStatus
from engine.domain.fills import Fill
from engine.domain.ids import BrokerOrderId, Millis
from engine.domain.orders import (
    IN_DOUBT,
    LIVE_AT_BROKER,
    TERMINAL,
    ZERO,
    Doubt,
    Flag,
    Order,
    OrderState,
    Terms,
)
from engine.errors import IllegalCommand

S = OrderState
_FINAL = {
    BrokerStatus.FILLED: S.FILLED,
    BrokerStatus.CANCELLED: S.CANCELLED,
    BrokerStatus.REJECTED: S.REJECTED,
    BrokerStatus.EXPIRED: S.EXPIRED,
}
_RESTING = frozenset({S.WORKING, S.PARTIALLY_FILLED})
_UNPROVEN = frozenset({S.SUBMITTING, S.IN_DOUBT_SUBMIT, S.LOST})


class Evidence(StrEnum):
    """How much a report proves: a stream may lag behind our own last command, a query begun after it does not."""

    STREAM = "stream"
    QUERY = "query"


def moved(order: Order, now: Millis, **changes: object) -> Order:
    """The order one revision later."""
    return changed(order, updated=now, revision=order.revision + 1, **changes)


def _refuse(order: Order, command: str) -> IllegalCommand:
    return IllegalCommand(f"order {order.client_id} is {order.state}; {command} is not possible now")


def resting_state(order: Order) -> OrderState:
    """Where an order that rests at the broker stands by its known fills."""
    if order.filled >= order.terms.quantity:
        return S.FILLED
    return S.PARTIALLY_FILLED if order.filled else S.WORKING


# -- commands ---------------------------------------------------------------------------------------------


def sent(order: Order, now: Millis) -> Order:
    """The request starts to leave."""
    if order.state is not S.SUBMITTING or order.sent is not None:
        raise _refuse(order, "sending")
    return moved(order, now, sent=now)


def abandoned(order: Order, now: Millis, reason: str) -> Order:
    """The row exists, the request provably never left."""
    if order.state is not S.SUBMITTING or order.sent is not None:
        raise _refuse(order, "abandoning")
    return moved(order, now, state=S.ABANDONED, reason=reason)


def not_sent(order: Order, now: Millis, reason: str) -> Order:
    """The link proved that the request never left; what rested before rests still."""
    match order.state:
        case S.SUBMITTING | S.IN_DOUBT_SUBMIT:
            return moved(order, now, state=S.ABANDONED, reason=reason, doubt=None)
        case S.PENDING_CANCEL | S.PENDING_REPLACE:
            return moved(order, now, state=resting_state(order), wanted=None, reason=reason, doubt=None)
        case _:
            return order


def denied(order: Order, now: Millis, reason: str) -> Order:
    """We ourselves said no before anything was committed."""
    if order.state is not S.SUBMITTING or order.sent is not None:
        raise _refuse(order, "denying")
    return moved(order, now, state=S.DENIED, reason=reason)


def cancel_wanted(order: Order, now: Millis, reason: str) -> Order:
    """A cancel is wanted; legal in every open state, sent once a broker id is known."""
    if order.state in TERMINAL:
        raise _refuse(order, "cancelling")
    return order if order.cancel_wanted else moved(order, now, cancel_wanted=True, reason=reason or order.reason)


def may_cancel(order: Order) -> bool:
    """Whether a cancel request may leave now."""
    return order.broker_id is not None and order.state in (*_RESTING, S.IN_DOUBT_CANCEL)


def cancel_asked(order: Order, now: Millis) -> Order:
    """The cancel request starts to leave."""
    if not may_cancel(order):
        raise _refuse(order, "sending a cancel")
    return moved(order, now, state=S.PENDING_CANCEL, cancel_wanted=True, sent=now)


def may_replace(order: Order) -> bool:
    """Whether a replace request may leave now."""
    return order.broker_id is not None and order.state in _RESTING and not order.cancel_wanted


def replace_asked(order: Order, now: Millis, wanted: Terms) -> Order:
    """The replace request starts to leave."""
    if not may_replace(order):
        raise _refuse(order, "sending a replace")
    return moved(order, now, state=S.PENDING_REPLACE, wanted=wanted, sent=now)


def held_back(order: Order, now: Millis, reason: str) -> Order:
    """Our command did not leave and nothing changed; the order says why, one revision on."""
    return moved(order, now, reason=reason)


# -- answers ----------------------------------------------------------------------------------------------


def accepted(order: Order, now: Millis, broker_id: BrokerOrderId) -> Order:
    """The broker took the order (or proves that it holds it)."""
    if order.state not in _UNPROVEN:
        return moved(order, now, broker_id=broker_id)
    return moved(order, now, state=resting_state(order), broker_id=broker_id, doubt=None)


def refused(order: Order, now: Millis, reason: str) -> Order:
    """The broker proved that it did not take the order; a known fill outweighs its word."""
    if order.state not in _UNPROVEN or order.filled:
        return moved(order, now, reason=reason)
    return moved(order, now, state=S.REJECTED, reason=reason, doubt=None)


def doubted(order: Order, now: Millis, reason: str) -> Order:
    """The answer to our last command was lost; what it was about decides which doubt."""
    match order.state:
        case S.SUBMITTING | S.IN_DOUBT_SUBMIT:
            state = S.IN_DOUBT_SUBMIT
        case S.PENDING_CANCEL | S.IN_DOUBT_CANCEL:
            state = S.IN_DOUBT_CANCEL
        case S.PENDING_REPLACE | S.IN_DOUBT_REPLACE:
            state = S.IN_DOUBT_REPLACE
        case _:
            return order
    since = order.sent if order.sent is not None else order.created
    doubt = Doubt(since=now, sent=since, next_query=now + 1_000, last_evidence=reason)
    return moved(order, now, state=state, doubt=doubt, reason=reason)


def cancel_refused(order: Order, now: Millis, reason: str) -> Order:
    """The broker refused a cancel for a reason that leaves the order working."""
    if order.state not in (S.PENDING_CANCEL, S.IN_DOUBT_CANCEL):
        return order
    return moved(order, now, state=resting_state(order), cancel_wanted=False, doubt=None, reason=reason)


def replaced(order: Order, now: Millis, broker_id: BrokerOrderId) -> Order:
    """The broker took the new terms, perhaps under a new id."""
    if order.state not in (S.PENDING_REPLACE, S.IN_DOUBT_REPLACE) or order.wanted is None:
        return order
    grown = changed(order, terms=order.wanted)
    return moved(grown, now, state=resting_state(grown), broker_id=broker_id, wanted=None, doubt=None)


def replace_refused(order: Order, now: Millis, reason: str) -> Order:
    """The old terms stand."""
    if order.state not in (S.PENDING_REPLACE, S.IN_DOUBT_REPLACE):
        return order
    return moved(order, now, state=resting_state(order), wanted=None, doubt=None, reason=reason)


# -- facts ------------------------------------------------------------------------------------------------


def reported(order: Order, now: Millis, report: BrokerOrder, evidence: Evidence) -> Order:
    """Book the broker's record of the order; returns the same object when it teaches nothing.

    A record with less filled than we know is stale. A final word with more filled than we know leaves the
    order open for fills: they are fetched first, the state follows. Once an execution was voided, the stream may bring
    a word of before that: only a query says then that more has filled.
    """
    if report.filled < order.filled:
        return order
    news: dict[str, object] = {}
    if report.filled > order.reported and (evidence is Evidence.QUERY or Flag.BUSTED not in order.flags):
        news["reported"] = report.filled
    if order.broker_id is None or (evidence is Evidence.QUERY and order.broker_id != report.broker_id):
        news["broker_id"] = report.broker_id
    if _follows(order, report):
        news["terms"] = changed(order.terms, quantity=report.terms.quantity)
    if _outgrown(order, report, evidence):
        news["terms"] = report.terms
    if report.reason and report.reason != order.reason:
        news["reason"] = report.reason
    state = _state_after(changed(order, **news), report, evidence)
    if state is not order.state:
        news["state"] = state
        if state not in IN_DOUBT:
            news["doubt"] = None
        if order.state is S.LOST:
            news["flags"] = order.flags | {Flag.LATE_FILL} if report.filled else order.flags
        if order.state is S.IN_DOUBT_CANCEL and state in _RESTING:
            news["cancel_wanted"] = True
    told = state is not order.state or evidence is Evidence.QUERY
    if order.wanted is not None and told and state not in (S.PENDING_REPLACE, *IN_DOUBT):
        news["wanted"] = None
        if same_terms(report.terms, order.wanted):
            news["terms"] = order.wanted
    return moved(order, now, **news) if news else order


def _follows(order: Order, report: BrokerOrder) -> bool:
    """Whether this is a leg that the broker has made larger or smaller: it follows what its parent has filled."""
    resizable = order.parent is not None and not order.wanted and order.state not in TERMINAL
    return resizable and report.terms.quantity != order.terms.quantity


def resized(order: Order, now: Millis, report: BrokerOrder) -> Order:
    """A leg as large as the record says, before what the record says of its fills ends one that is larger by now."""
    if not _follows(order, report):
        return order
    return moved(order, now, terms=changed(order.terms, quantity=report.terms.quantity))


def _outgrown(order: Order, report: BrokerOrder, evidence: Evidence) -> bool:
    """Whether an order that filled whole as we know it is proven to rest on, larger: by a replace that came late."""
    asked = order.state is S.IN_DOUBT_REPLACE and evidence is Evidence.QUERY and not report.status.is_final
    return asked and order.terms.quantity <= order.filled < report.terms.quantity


def _state_after(order: Order, report: BrokerOrder, evidence: Evidence) -> OrderState:
    if report.status is BrokerStatus.UNKNOWN:
        return order.state
    if report.status.is_final:
        if order.state in TERMINAL or report.filled > order.filled:
            return order.state
        return _FINAL[report.status]
    if order.state in _UNPROVEN:
        return resting_state(order)
    if order.state in IN_DOUBT and evidence is Evidence.QUERY:
        if order.state is S.IN_DOUBT_REPLACE and order.wanted is not None and same_terms(report.terms, order.wanted):
            return resting_state(changed(order, terms=order.wanted))
        return resting_state(order)
    return order.state


def same_terms(one: Terms, other: Terms) -> bool:
    """Whether both ask for the same thing; the time in force is left out because brokers rename it."""
    return (one.symbol, one.side, one.quantity, one.type, one.limit, one.stop) == (
        other.symbol,
        other.side,
        other.quantity,
        other.type,
        other.limit,
        other.stop,
    )


def looks_like(order: Order, terms: Terms) -> bool:
    """Whether the broker's terms are those of this order, as we know them or as we last asked.

    A leg that the broker attached may be smaller there: it follows what its parent has filled.
    """
    for ours in (order.terms, order.wanted):
        if ours is None:
            continue
        follows = order.parent is not None and ZERO < terms.quantity <= ours.quantity
        if same_terms(changed(ours, quantity=terms.quantity) if follows else ours, terms):
            return True
    return False


def adjusted(order: Order, now: Millis, terms: Terms) -> Order:
    """Adopt terms that the broker holds and we did not ask for."""
    grown = changed(order, terms=terms)
    state = resting_state(grown) if order.state in _RESTING else order.state
    return moved(grown, now, state=state)


def with_fill(order: Order, now: Millis, fill: Fill) -> Order:
    """Book an execution in any state; what contradicts the table is booked and flagged.

    While a replace is under way the broker may hold either size: only a fill of the larger one ends the order.
    """
    filled = order.filled + fill.quantity
    cost = (order.average_price or ZERO) * order.filled + fill.price * fill.quantity
    flags = order.flags
    if filled > order.largest:
        flags |= {Flag.OVERFILLED}
    if order.state is S.LOST or (order.state in TERMINAL and order.state is not S.FILLED):
        flags |= {Flag.LATE_FILL}
    grown = changed(
        order,
        filled=filled,
        average_price=cost / filled if filled else None,
        # an execution first heard of in its corrected form: what the broker had reported before counts no more
        reported=filled if fill.revision else max(order.reported, filled),
        fees=order.fees + fill.fee,
        broker_id=order.broker_id or fill.broker_id,
        flags=flags,
    )
    if order.state in _UNPROVEN:
        state, doubt = resting_state(grown), None
    elif order.state in TERMINAL:
        state, doubt = order.state, order.doubt
    elif filled >= order.largest:
        state, doubt = S.FILLED, None
    elif order.state in _RESTING:
        state, doubt = resting_state(grown), order.doubt
    else:
        state, doubt = order.state, order.doubt
    wanted = None if state in TERMINAL else order.wanted
    return moved(grown, now, state=state, doubt=doubt, wanted=wanted)


def without_fill(order: Order, now: Millis, old: Fill, new: Fill) -> Order:
    """Book a correction (new values) or a bust (new quantity zero) of an execution booked before."""
    filled = order.filled - old.quantity + new.quantity
    cost = (order.average_price or ZERO) * order.filled - old.price * old.quantity + new.price * new.quantity
    state = resting_state(changed(order, filled=filled)) if order.state in _RESTING else order.state
    return moved(
        order,
        now,
        state=state,
        filled=filled,
        reported=max(filled, order.reported - old.quantity + new.quantity),
        average_price=cost / filled if filled > 0 else None,
        fees=order.fees - old.fee + new.fee,
        flags=order.flags | {Flag.BUSTED},
    )


def may_be_other(order: Order, now: Millis, wanted: Terms) -> Order:
    """The order may have these terms at the broker, or what we know: that is the broker's to say, and asked at once.

    Until then it may still fill that much, and guards nothing. So is a leg that filled whole as we know it while its
    entry had filled more, and an order that filled while it was replaced where the broker reads what remains.
    """
    since = order.sent if order.sent is not None else order.created
    doubt = Doubt(since=now, sent=since, next_query=now, last_evidence=f"it may be {wanted.quantity} large")
    return moved(order, now, state=S.IN_DOUBT_REPLACE, wanted=wanted, doubt=doubt)


def flagged(order: Order, now: Millis, flag: Flag) -> Order:
    """Mark something unusual; the same object when it is marked already."""
    return order if flag in order.flags else moved(order, now, flags=order.flags | {flag})


def presumed_lost(order: Order, now: Millis, reason: str) -> Order:
    """Nobody has seen the order for long enough; it keeps its full size in heat until a typed word."""
    if order.state is not S.IN_DOUBT_SUBMIT:
        raise _refuse(order, "presuming it lost")
    return moved(order, now, state=S.LOST, reason=reason)


def declared_dead(order: Order, now: Millis, reason: str) -> Order:
    """An operator's verdict on a LOST order."""
    if order.state is not S.LOST:
        raise _refuse(order, "declaring it dead")
    return moved(order, now, state=S.ABANDONED, reason=reason, doubt=None)


def commanded(order: Order, at: Millis, wanted: Terms | None, *, is_cancel: bool) -> Order:
    """An order's row of before our last command, read as after it; its revision is the row's.

    A row of before even the acceptance stays in doubt, and knows what was asked of the order since.
    """
    if order.state in (S.SUBMITTING, S.IN_DOUBT_SUBMIT):
        return changed(order, cancel_wanted=True) if is_cancel else changed(order, wanted=wanted)
    if order.state not in (S.WORKING, S.PARTIALLY_FILLED, S.PENDING_CANCEL, S.PENDING_REPLACE):
        return order
    if is_cancel:
        return changed(order, state=S.PENDING_CANCEL, cancel_wanted=True, sent=at)
    return changed(order, state=S.PENDING_REPLACE, wanted=wanted, sent=at)


def as_found_after_restart(order: Order, now: Millis) -> Order:
    """An order as an earlier life left it: what was under way is now in doubt."""
    match order.state:
        case S.SUBMITTING | S.PENDING_CANCEL | S.PENDING_REPLACE:
            return doubted(order, now, "the desk stopped before the answer came")
        case S.IN_DOUBT_SUBMIT | S.IN_DOUBT_CANCEL | S.IN_DOUBT_REPLACE if order.doubt is None:
            return doubted(order, now, "in doubt since an earlier life")
        case _:
            return order


def lives_after_all(order: Order, now: Millis, report: BrokerOrder) -> Order:
    """The broker holds an order that we took for ended: a replace that came late, or a verdict that was wrong.

    Its word outweighs ours: the order is open again under what the broker says, flagged.
    """
    if order.state not in TERMINAL or report.status.is_final:
        return order
    if order.state is S.FILLED and not order.terms.quantity <= order.filled <= report.filled < report.terms.quantity:
        return order  # filled whole, and not larger at the broker than we knew
    held = changed(order, terms=report.terms)
    flags = order.flags | {Flag.REVIVED}
    return moved(held, now, state=resting_state(held), broker_id=report.broker_id, flags=flags, doubt=None, wanted=None)


def ended_short(order: Order, now: Millis, report: BrokerOrder) -> Order:
    """The broker's final word, told repeatedly, names less than we booked: it voided an execution unheard.

    Where fills come as cumulative quantities nothing else tells of a bust; the position is reconciliation's.
    """
    if order.state in TERMINAL or not report.status.is_final or report.filled >= order.filled:
        return order
    flags = order.flags | {Flag.BUSTED}
    return moved(order, now, state=_FINAL[report.status], doubt=None, wanted=None, flags=flags, reason=report.reason)


def gone(order: Order, now: Millis, reason: str) -> Order:
    """Repeated complete answers of the broker do not know a resting order any more."""
    if order.state not in LIVE_AT_BROKER:
        return order
    return moved(order, now, state=S.CANCELLED, doubt=None, wanted=None, reason=reason)

"""The protocol's table: which command is legal where, and what each answer and fact makes of an order."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from msgspec.structs import replace as changed

from engine.domain import order_doubt
from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import BrokerStatus
from engine.domain.ids import BrokerOrderId, ClientOrderId
from engine.domain.incarnations import fill_price
from engine.domain.order_lifecycle import Evidence
from engine.domain.orders import TERMINAL, Doubt, Flag, Order, OrderState
from engine.errors import IllegalCommand
from tests.unit.engine.samples import d, fill, order, report, terms

S, B = OrderState, BrokerStatus
NOW = 1_000
OPEN = [state for state in S if state not in TERMINAL]
ENDED = [state for state in S if state in TERMINAL]
RESTING = {S.WORKING, S.PARTIALLY_FILLED}
DOUBT = Doubt(since=1, sent=0)


def standing(state: OrderState) -> Order:
    """An order that got to `state` the usual way."""
    wanted = terms(3) if state in (S.PENDING_REPLACE, S.IN_DOUBT_REPLACE) else None
    doubt = DOUBT if state in (S.IN_DOUBT_SUBMIT, S.IN_DOUBT_CANCEL, S.IN_DOUBT_REPLACE, S.LOST) else None
    return order(state=state, filled=1 if state is S.PARTIALLY_FILLED else 0, wanted=wanted, doubt=doubt)


COMMANDS: dict[str, tuple[Callable[[Order], Order], set[OrderState]]] = {
    "sent": (lambda o: lifecycle.sent(o, NOW), {S.SUBMITTING}),
    "abandoned": (lambda o: lifecycle.abandoned(o, NOW, "why"), {S.SUBMITTING}),
    "denied": (lambda o: lifecycle.denied(o, NOW, "why"), {S.SUBMITTING}),
    "cancel wanted": (lambda o: lifecycle.cancel_wanted(o, NOW, "why"), set(S) - TERMINAL),
    "cancel asked": (lambda o: lifecycle.cancel_asked(o, NOW), RESTING | {S.IN_DOUBT_CANCEL}),
    "replace asked": (lambda o: lifecycle.replace_asked(o, NOW, terms(3)), RESTING),
    "presumed lost": (lambda o: lifecycle.presumed_lost(o, NOW, "why"), {S.IN_DOUBT_SUBMIT}),
    "declared dead": (lambda o: lifecycle.declared_dead(o, NOW, "why"), {S.LOST}),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("state", S)
def test_our_commands_obey_the_table(command: str, state: OrderState) -> None:
    act, legal = COMMANDS[command]
    before = standing(state)
    if state in legal:
        assert act(before).revision == before.revision + 1
    else:
        with pytest.raises(IllegalCommand, match=str(before.client_id)):
            act(before)


def test_what_was_sent_is_neither_sent_again_nor_abandoned_nor_denied() -> None:
    gone = lifecycle.sent(order(), NOW)
    assert gone.sent == NOW
    for command in ("sent", "abandoned", "denied"):
        with pytest.raises(IllegalCommand):
            COMMANDS[command][0](gone)


@pytest.mark.parametrize("command", ["cancel asked", "replace asked"])
def test_nothing_is_asked_of_the_broker_before_its_id_is_known(command: str) -> None:
    with pytest.raises(IllegalCommand):
        COMMANDS[command][0](order(state=S.WORKING, broker_id=None))


def test_no_replace_leaves_once_a_cancel_is_wanted() -> None:
    doomed = lifecycle.cancel_wanted(order(state=S.WORKING), NOW, "out")
    assert not lifecycle.may_replace(doomed)
    assert lifecycle.may_cancel(doomed)
    assert lifecycle.cancel_wanted(doomed, NOW, "again") is doomed


@pytest.mark.parametrize("state", [S.SUBMITTING, S.IN_DOUBT_SUBMIT, S.LOST])
def test_acceptance_makes_an_unproven_order_work(state: OrderState) -> None:
    after = lifecycle.accepted(standing(state), NOW, BrokerOrderId("B7"))
    assert (after.state, after.broker_id, after.doubt) == (S.WORKING, "B7", None)


def test_an_acceptance_that_comes_after_a_later_command_leaves_its_doubt_standing() -> None:
    """A doubt taken away here would leave the cancel in doubt for ever: nobody asks without one."""
    after = lifecycle.accepted(standing(S.IN_DOUBT_CANCEL), NOW, BrokerOrderId("B7"))
    assert after.state is S.IN_DOUBT_CANCEL
    assert after.doubt == DOUBT


def test_a_proven_refusal_rejects_what_is_unproven_and_nothing_else() -> None:
    assert lifecycle.refused(standing(S.SUBMITTING), NOW, "no").state is S.REJECTED
    assert lifecycle.refused(standing(S.WORKING), NOW, "no").state is S.WORKING
    known = order(state=S.IN_DOUBT_SUBMIT, filled=1, doubt=DOUBT)
    assert lifecycle.refused(known, NOW, "no").state is S.IN_DOUBT_SUBMIT


@pytest.mark.parametrize(
    ("state", "becomes"),
    [
        (S.SUBMITTING, S.IN_DOUBT_SUBMIT),
        (S.PENDING_CANCEL, S.IN_DOUBT_CANCEL),
        (S.PENDING_REPLACE, S.IN_DOUBT_REPLACE),
    ],
)
def test_a_lost_answer_is_a_doubt_about_the_last_command(state: OrderState, becomes: OrderState) -> None:
    after = lifecycle.doubted(changed(standing(state), sent=400), NOW, "reset")
    assert after.state is becomes
    assert after.doubt is not None
    assert (after.doubt.since, after.doubt.sent, after.doubt.next_query) == (NOW, 400, NOW + 1_000)


@pytest.mark.parametrize("state", [S.WORKING, S.PARTIALLY_FILLED, *ENDED, S.LOST])
def test_a_lost_answer_says_nothing_of_an_order_that_waits_for_none(state: OrderState) -> None:
    before = standing(state)
    assert lifecycle.doubted(before, NOW, "reset") is before


def test_not_sent_puts_things_back() -> None:
    assert lifecycle.not_sent(standing(S.SUBMITTING), NOW, "down").state is S.ABANDONED
    assert lifecycle.not_sent(standing(S.PENDING_CANCEL), NOW, "down").state is S.WORKING
    back = lifecycle.not_sent(changed(standing(S.PENDING_REPLACE), filled=Decimal(1)), NOW, "down")
    assert (back.state, back.wanted) == (S.PARTIALLY_FILLED, None)
    assert lifecycle.not_sent(standing(S.FILLED), NOW, "down").state is S.FILLED


def test_a_refused_cancel_or_replace_leaves_the_order_working() -> None:
    after = lifecycle.cancel_refused(changed(standing(S.PENDING_CANCEL), cancel_wanted=True), NOW, "too late")
    assert (after.state, after.cancel_wanted) == (S.WORKING, False)
    kept = lifecycle.replace_refused(standing(S.PENDING_REPLACE), NOW, "no")
    assert (kept.state, kept.wanted, kept.terms) == (S.WORKING, None, terms(5))


def test_replace_then_doubt_then_report() -> None:
    """The broker's record decides: with the new terms the replace happened, with the old ones it did not."""
    asked = lifecycle.replace_asked(order(state=S.WORKING), NOW, terms(3))
    doubtful = lifecycle.doubted(asked, NOW + 1, "reset")
    assert doubtful.state is S.IN_DOUBT_REPLACE
    lagging = lifecycle.reported(doubtful, NOW + 2, report(doubtful, B.WORKING), Evidence.STREAM)
    assert lagging.state is S.IN_DOUBT_REPLACE, "a stream may lag behind our own command"
    took = lifecycle.reported(doubtful, NOW + 2, report(doubtful, B.WORKING, terms=terms(3)), Evidence.QUERY)
    assert (took.state, took.terms, took.wanted, took.doubt) == (S.WORKING, terms(3), None, None)
    kept = lifecycle.reported(doubtful, NOW + 2, report(doubtful, B.WORKING), Evidence.QUERY)
    assert (kept.state, kept.terms, kept.wanted, kept.doubt) == (S.WORKING, terms(5), None, None)


def test_replaced_takes_the_new_terms_and_the_new_id() -> None:
    after = lifecycle.replaced(standing(S.PENDING_REPLACE), NOW, BrokerOrderId("B2"))
    assert (after.state, after.terms, after.wanted, after.broker_id) == (S.WORKING, terms(3), None, "B2")
    late = standing(S.FILLED)
    assert lifecycle.replaced(late, NOW, BrokerOrderId("B2")) is late


def test_a_fill_inside_a_replace_that_makes_the_order_larger_does_not_end_it() -> None:
    """A stop grows from 1 to 2 while 1 fills: the broker may hold 1 more, which must not be forgotten."""
    growing = lifecycle.replace_asked(order(state=S.WORKING, of=terms(1)), NOW, terms(2))
    filled = lifecycle.with_fill(growing, NOW, fill(1))
    assert filled.state is S.PENDING_REPLACE
    assert lifecycle.replaced(filled, NOW, BrokerOrderId("B2")).state is S.PARTIALLY_FILLED
    assert lifecycle.replace_refused(filled, NOW, "gone").state is S.FILLED


def test_a_cancel_in_doubt_that_finds_the_order_working_is_wanted_still() -> None:
    doubtful = changed(standing(S.IN_DOUBT_CANCEL), cancel_wanted=True)
    after = lifecycle.reported(doubtful, NOW, report(doubtful, B.WORKING), Evidence.QUERY)
    assert (after.state, after.cancel_wanted, after.doubt) == (S.WORKING, True, None)


@pytest.mark.parametrize("state", OPEN)
@pytest.mark.parametrize(
    ("status", "becomes"),
    [(B.CANCELLED, S.CANCELLED), (B.REJECTED, S.REJECTED), (B.EXPIRED, S.EXPIRED)],
)
def test_a_final_word_ends_every_open_state(state: OrderState, status: BrokerStatus, becomes: OrderState) -> None:
    before = standing(state)
    after = lifecycle.reported(before, NOW, report(before, status, before.filled), Evidence.STREAM)
    assert after.state is becomes
    assert after.doubt is None


@pytest.mark.parametrize("state", S)
def test_a_word_nobody_knows_moves_no_state(state: OrderState) -> None:
    before = standing(state)
    assert lifecycle.reported(before, NOW, report(before, B.UNKNOWN, before.filled), Evidence.QUERY).state is state


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize("status", B)
def test_no_word_reopens_or_renames_an_end(state: OrderState, status: BrokerStatus) -> None:
    before = standing(state)
    assert lifecycle.reported(before, NOW, report(before, status), Evidence.QUERY).state is state


def test_a_final_word_with_more_filled_than_known_waits_for_the_fills() -> None:
    before = order(state=S.WORKING)
    after = lifecycle.reported(before, NOW, report(before, B.CANCELLED, 2), Evidence.STREAM)
    assert (after.state, after.open_for_fills, after.reported) == (S.WORKING, True, d(2))
    assert after.remaining == 3


def test_a_report_with_less_than_we_know_is_stale() -> None:
    before = order(state=S.PARTIALLY_FILLED, filled=2)
    assert lifecycle.reported(before, NOW, report(before, B.CANCELLED, 1), Evidence.QUERY) is before


def test_the_same_report_twice_says_nothing_twice() -> None:
    before = order(state=S.SUBMITTING, sent=1)
    once = lifecycle.reported(before, NOW, report(before, B.WORKING, reason="ok"), Evidence.STREAM)
    assert once is not before
    assert lifecycle.reported(once, NOW, report(before, B.WORKING, reason="ok"), Evidence.STREAM) is once


def test_only_a_query_moves_the_order_to_another_broker_id() -> None:
    before = order(state=S.WORKING)
    other = report(before, B.WORKING, broker_id=BrokerOrderId("B2"))
    assert lifecycle.reported(before, NOW, other, Evidence.STREAM).broker_id == "B-o"
    assert lifecycle.reported(before, NOW, other, Evidence.QUERY).broker_id == "B2"


def test_a_leg_takes_the_size_that_the_broker_gives_it() -> None:
    leg = order(state=S.WORKING, parent=order("p").client_id)
    assert lifecycle.reported(leg, NOW, report(leg, B.WORKING, terms=terms(2)), Evidence.STREAM).terms.quantity == 2
    alone = order(state=S.WORKING)
    assert lifecycle.reported(alone, NOW, report(alone, B.WORKING, terms=terms(2)), Evidence.STREAM) is alone


# -- fills ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", S)
def test_a_fill_is_booked_in_every_state(state: OrderState) -> None:
    before = standing(state)
    after = lifecycle.with_fill(before, NOW, fill(1, 110, fee=Decimal(2)))
    assert after.filled == before.filled + 1
    assert after.fees == before.fees + 2
    assert after.reported >= after.filled
    if state in TERMINAL:
        assert after.state is state
        assert (Flag.LATE_FILL in after.flags) is (state is not S.FILLED)


def test_fills_carry_an_order_to_its_end_and_past_it() -> None:
    one = lifecycle.with_fill(order(state=S.WORKING, of=terms(2)), NOW, fill(1, 100))
    assert (one.state, one.average_price) == (S.PARTIALLY_FILLED, d(100))
    two = lifecycle.with_fill(one, NOW, fill(1, 102))
    assert (two.state, two.average_price, two.flags) == (S.FILLED, d(101), frozenset())
    three = lifecycle.with_fill(two, NOW, fill(1, 101))
    assert (three.state, three.filled, three.remaining) == (S.FILLED, d(3), d(0))
    assert three.flags == {Flag.OVERFILLED}


@pytest.mark.parametrize("state", [S.SUBMITTING, S.IN_DOUBT_SUBMIT, S.LOST])
def test_a_fill_proves_an_order_that_nobody_had_seen(state: OrderState) -> None:
    after = lifecycle.with_fill(standing(state), NOW, fill(2))
    assert (after.state, after.doubt, after.broker_id) == (S.PARTIALLY_FILLED, None, "B-o")
    assert (Flag.LATE_FILL in after.flags) is (state is S.LOST)


def test_a_lost_order_comes_back_by_report() -> None:
    lost = lifecycle.presumed_lost(standing(S.IN_DOUBT_SUBMIT), NOW, "four negatives")
    assert lost.is_open
    assert lost.doubt is not None, "it is still asked about"
    back = lifecycle.reported(lost, NOW, report(lost, B.WORKING), Evidence.QUERY)
    assert (back.state, back.doubt) == (S.WORKING, None)


def test_a_bust_takes_the_fill_back_and_is_flagged() -> None:
    two = lifecycle.with_fill(order(state=S.WORKING, of=terms(5)), NOW, fill(2, 100, fee=Decimal(1)))
    three = lifecycle.with_fill(two, NOW, fill(1, 103, fee=Decimal(1)))
    after = lifecycle.without_fill(three, NOW, fill(2, 100, fee=Decimal(1)), fill(0, 100))
    assert (after.filled, after.average_price, after.fees) == (d(1), d(103), d(1))
    assert Flag.BUSTED in after.flags


def test_a_bust_of_everything_leaves_the_order_as_it_was_before_the_fill() -> None:
    filled = lifecycle.with_fill(order(state=S.WORKING, of=terms(5)), NOW, fill(2))
    after = lifecycle.without_fill(filled, NOW, fill(2), fill(0))
    assert (after.state, after.filled, after.average_price) == (S.WORKING, d(0), None)


def test_a_correction_to_the_full_size_fills_the_order() -> None:
    filled = lifecycle.with_fill(order(state=S.WORKING, of=terms(2)), NOW, fill(1))
    assert lifecycle.without_fill(filled, NOW, fill(1), fill(2)).state is S.FILLED


def test_a_bust_does_not_forget_fills_that_are_still_to_come() -> None:
    known = lifecycle.with_fill(order(state=S.WORKING), NOW, fill(2))
    told = lifecycle.reported(known, NOW, report(known, B.PARTIALLY_FILLED, 3), Evidence.STREAM)
    after = lifecycle.without_fill(told, NOW, fill(2), fill(1))
    assert (after.filled, after.reported, after.open_for_fills) == (d(1), d(2), True)


def test_a_word_of_the_stream_from_before_a_bust_does_not_bring_the_fill_back() -> None:
    busted = lifecycle.without_fill(lifecycle.with_fill(order(state=S.WORKING), NOW, fill(2)), NOW, fill(2), fill(0))
    late = lifecycle.reported(busted, NOW, report(busted, B.FILLED, 2), Evidence.STREAM)
    assert not late.open_for_fills
    asked = lifecycle.reported(busted, NOW, report(busted, B.PARTIALLY_FILLED, 2), Evidence.QUERY)
    assert asked.open_for_fills


# -- doubt and restart ------------------------------------------------------------------------------------


def test_only_consecutive_complete_negatives_count_towards_lost() -> None:
    doubtful = lifecycle.doubted(lifecycle.sent(order(), NOW), NOW, "reset")
    for _ in range(3):
        doubtful = order_doubt.asked_again(
            doubtful, NOW, complete_negative=True, evidence="not found", next_query=NOW + 1
        )
    assert doubtful.doubt is not None
    assert (doubtful.doubt.negatives, doubtful.doubt.tries) == (3, 3)
    doubtful = order_doubt.asked_again(doubtful, NOW, complete_negative=False, evidence="silence", next_query=NOW + 9)
    assert doubtful.doubt is not None
    assert (doubtful.doubt.negatives, doubtful.doubt.tries, doubtful.doubt.next_query) == (0, 4, NOW + 9)


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (S.SUBMITTING, S.IN_DOUBT_SUBMIT),
        (S.PENDING_CANCEL, S.IN_DOUBT_CANCEL),
        (S.PENDING_REPLACE, S.IN_DOUBT_REPLACE),
        (S.IN_DOUBT_SUBMIT, S.IN_DOUBT_SUBMIT),
    ],
)
def test_a_restart_doubts_what_was_under_way(state: OrderState, found: OrderState) -> None:
    after = lifecycle.as_found_after_restart(changed(standing(state), doubt=None), NOW)
    assert after.state is found
    assert after.doubt is not None


@pytest.mark.parametrize("state", [S.WORKING, S.PARTIALLY_FILLED, *ENDED, S.LOST])
def test_a_restart_leaves_what_stands_alone(state: OrderState) -> None:
    before = standing(state)
    assert lifecycle.as_found_after_restart(before, NOW) is before


@pytest.mark.parametrize("state", S)
def test_gone_ends_only_what_rested_at_the_broker(state: OrderState) -> None:
    after = lifecycle.gone(standing(state), NOW, "twice absent")
    resting = state in RESTING or state in (
        S.PENDING_CANCEL,
        S.PENDING_REPLACE,
        S.IN_DOUBT_CANCEL,
        S.IN_DOUBT_REPLACE,
    )
    assert after.state is (S.CANCELLED if resting else state)


def test_the_price_of_an_interval_comes_from_two_averages() -> None:
    known = changed(order(state=S.PARTIALLY_FILLED, filled=2), average_price=Decimal(100))
    told = report(known, B.PARTIALLY_FILLED, 3, average_price=Decimal(101))
    assert fill_price(known, told) == 103


def test_terms_are_adopted_with_the_state_that_fits_them() -> None:
    assert lifecycle.adjusted(order(state=S.PARTIALLY_FILLED, filled=2), NOW, terms(2)).state is S.FILLED
    assert lifecycle.adjusted(order(state=S.PENDING_CANCEL), NOW, terms(2)).state is S.PENDING_CANCEL


def test_a_flag_is_set_once() -> None:
    flagged = lifecycle.flagged(order(), NOW, Flag.JOURNALLED)
    assert lifecycle.flagged(flagged, NOW, Flag.JOURNALLED) is flagged


def test_a_leg_looks_like_its_record_though_the_broker_made_it_smaller() -> None:
    """It follows what its parent has filled; an order without a parent, another price, or a larger size does not."""
    leg = order(of=terms(3), parent=ClientOrderId("the-entry"))
    smaller, larger = changed(leg.terms, quantity=d(2)), changed(leg.terms, quantity=d(4))
    assert lifecycle.looks_like(leg, leg.terms)
    assert lifecycle.looks_like(leg, smaller)
    assert not lifecycle.looks_like(leg, larger)
    assert not lifecycle.looks_like(leg, changed(smaller, limit=d(1)))
    assert not lifecycle.looks_like(changed(leg, parent=None), smaller)
    assert lifecycle.looks_like(changed(leg, parent=None, wanted=smaller), smaller)


def test_a_command_held_back_uses_its_revision_up_and_changes_nothing_else() -> None:
    before = standing(S.WORKING)
    after = lifecycle.held_back(before, NOW, "its key was used")
    assert after == changed(before, revision=before.revision + 1, updated=NOW, reason="its key was used")

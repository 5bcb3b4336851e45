"""A broker that echoes no ids, and several orders that look like the one in doubt: an operator says which is ours."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import AcceptedOrder, BrokerOrder, Capabilities, IdMode, ReplaceId, Report
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.ids import BrokerOrderId, ClientOrderId, DecisionKey, Millis, SessionId
from engine.domain.orders import Flag, Order, OrderState, OrderType, Role, Side, Terms
from tests.flows.acts import kill, next_life
from tests.flows.harness import ES, PAPER, Desk
from tests.flows.script import enter
from tests.flows.test_outbound_exits import lose_the_next_order

MakeDesk = Callable[..., Desk]
SESSION = SessionId(f"s-{ES}")
TAG_LESS = Capabilities(id_mode=IdMode.NONE, find_by_client_id=False, brackets=False)


async def three_alike(make_desk: MakeDesk) -> tuple[Desk, BrokerOrderId, list[BrokerOrderId]]:
    """The desk's entry whose answer was lost, and two of a stranger's on the same terms, all resting."""
    desk = await make_desk(capabilities=TAG_LESS).start()
    desk.link.armed.lose_answers = 1
    desk.strategies[ES].script.append(enter(limit="4995", quantity="2"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(desk.exchange.open_orders(PAPER)), 5)
    (ours,) = (o.broker_id for o in desk.exchange.open_orders(PAPER))
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(2), type=OrderType.LIMIT, limit=Decimal(4995))
    theirs = [out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now()) for _ in range(2)]
    await desk.until(lambda: len(questions(desk)) == 3, 30)
    return desk, ours, theirs


async def a_bracket_and_two_alike(
    make_desk: MakeDesk, *, leg_too: bool = False, told: bool = True
) -> tuple[Desk, BrokerOrderId]:
    """The desk's entry with its stop in one call, the answer lost, and two of a stranger's like the entry.

    `leg_too`: and one like the stop; `told`: the broker names a leg's parent.
    """
    desk = await make_desk(capabilities=msgspec.structs.replace(TAG_LESS, brackets=True)).start()
    orders_since = desk.manager.orders_since

    async def parentless(since: Millis) -> Report[BrokerOrder]:
        report = await orders_since(since)
        return Report(tuple(msgspec.structs.replace(row, parent=None) for row in report.rows), report.as_of)

    if not told:
        desk.manager.orders_since = parentless  # type: ignore[method-assign]
    desk.link.armed.lose_answers = 1
    desk.strategies[ES].script.append(enter(limit="4995", quantity="2"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(desk.exchange.open_orders(PAPER)), 5)
    ours = next(o for o in desk.exchange.open_orders(PAPER) if o.parent is None)
    stop = next(o for o in desk.exchange.open_orders(PAPER) if o.parent is not None)
    for terms in (ours.terms, ours.terms, stop.terms)[: 3 if leg_too else 2]:
        out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now())
    return desk, ours.broker_id


def questions(desk: Desk) -> list[Disagreement]:
    rows = (row for row in desk.snapshot().disagreements if row.kind is DisagreementKind.UNKNOWN_ORDER)
    return [row for row in rows if row.state is DisagreementState.CONFIRMED]


async def ignore(desk: Desk, id: BrokerOrderId) -> None:
    receipt = await desk.send(lambda o: c.IgnoreForeign(origin=o, disagreement=f"foreign:{id}", reason="theirs"))
    assert receipt.taken, receipt.message


async def enter_by_hand(desk: Desk, *, taken: bool = True) -> None:
    """One more entry, the same each time; it is known here once this returns."""
    known = len(desk.orders(Role.ENTRY))
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(1), type=OrderType.LIMIT, limit=Decimal(4995))
    receipt = await desk.send(
        lambda o: c.SubmitByHand(
            origin=o, session=SESSION, terms=terms, is_exit=False, stop_loss=Decimal(4980), reason="test"
        )
    )
    assert receipt.taken is taken, receipt.message
    await desk.until(lambda: len(desk.orders(Role.ENTRY)) > known, 2)


async def test_each_order_that_may_be_the_one_in_doubt_is_shown_with_its_name(make_desk: MakeDesk) -> None:
    desk, ours, theirs = await three_alike(make_desk)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.IN_DOUBT_SUBMIT
    assert {row.order for row in questions(desk)} == {ours, *theirs}
    assert {row.memory for row in questions(desk)} == {f"perhaps {entry.client_id}"}
    await desk.pass_(300)
    assert desk.orders(Role.ENTRY)[0].state is OrderState.IN_DOUBT_SUBMIT


@pytest.mark.parametrize("filled", [False, True])
async def test_the_one_that_an_operator_adopts_is_the_order_in_doubt(make_desk: MakeDesk, filled: bool) -> None:
    desk, ours, _ = await three_alike(make_desk)
    if filled:
        desk.exchange.max_fill = Decimal(1)
        desk.feed.trade(ES, "4994")
        desk.exchange.max_fill = None
        await desk.until(lambda: desk.position() == desk.broker_position() == 3, 60)
    receipt = await desk.send(lambda o: c.AdoptOrder(origin=o, order=ours, session=SESSION, reason="this one"))
    assert receipt.taken, receipt.message
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.broker_id == ours
    assert Flag.MATCHED_BY_SHAPE in entry.flags
    assert entry.state is (OrderState.PARTIALLY_FILLED if filled else OrderState.WORKING)
    await desk.pass_(60)
    assert desk.position() == desk.broker_position()
    assert desk.orders(Role.ENTRY)[0].filled == entry.filled == record(desk, ours).filled


def record(desk: Desk, id: BrokerOrderId) -> BrokerOrder:
    return desk.exchange.book.orders[id].record


async def test_the_last_of_several_is_not_taken_without_a_word_of_its_own(make_desk: MakeDesk) -> None:
    desk, ours, theirs = await three_alike(make_desk)
    for id in theirs:
        await ignore(desk, id)
    await desk.pass_(60)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.IN_DOUBT_SUBMIT
    assert entry.doubt is not None
    assert entry.doubt.candidates == (ours,)


def leave_out(desk: Desk, what: str, *gone: BrokerOrderId) -> Callable[[], None]:
    """The broker's answers to this question lack some orders until the returned function is called."""
    asked = getattr(desk.manager, what)

    async def told(*arguments: Millis) -> Report[BrokerOrder]:
        report = await asked(*arguments)
        return Report(tuple(row for row in report.rows if row.broker_id not in gone), report.as_of)

    setattr(desk.manager, what, told)
    return lambda: setattr(desk.manager, what, asked)


async def test_one_that_a_list_had_left_out_is_asked_about_again_unless_a_word_was_given(make_desk: MakeDesk) -> None:
    """The order in doubt would wait for ever for a word that nobody is asked for."""
    desk, ours, theirs = await three_alike(make_desk)
    await ignore(desk, theirs[0])
    back = leave_out(desk, "open_orders", ours, theirs[0])
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: [row.order for row in questions(desk)] == [theirs[1]], 20)
    back()
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: {row.order for row in questions(desk)} == {ours, theirs[1]}, 20)
    await desk.pass_(20)
    assert theirs[0] not in {row.order for row in questions(desk)}
    assert desk.orders(Role.ENTRY)[0].state is OrderState.IN_DOUBT_SUBMIT


async def test_the_first_answer_alone_does_not_make_a_live_look_alike_ours(make_desk: MakeDesk) -> None:
    desk = await make_desk(capabilities=TAG_LESS).start()
    desk.link.armed.lose_requests = 1
    desk.strategies[ES].script.append(enter(limit="4995", quantity="2"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(desk.orders(Role.ENTRY)), 5)
    terms = desk.orders(Role.ENTRY)[0].terms
    theirs = [out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now()) for _ in range(2)]
    back = leave_out(desk, "orders_since", theirs[0])
    await desk.until(lambda: tries(desk) == 1, 10)
    back()
    await desk.until(lambda: tries(desk) == 4, 30)
    entry = desk.orders(Role.ENTRY)[0]
    assert entry.broker_id is None
    assert entry.doubt is not None
    assert set(entry.doubt.candidates) == set(theirs) == {row.order for row in questions(desk)}


def tries(desk: Desk) -> int:
    doubt = desk.orders(Role.ENTRY)[0].doubt
    return -1 if doubt is None else doubt.tries


async def test_one_answer_that_lacks_the_others_does_not_make_the_last_one_ours(make_desk: MakeDesk) -> None:
    desk = await make_desk(capabilities=TAG_LESS).start()
    desk.link.armed.lose_requests = 1
    desk.strategies[ES].script.append(enter(limit="4995", quantity="2"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(desk.orders(Role.ENTRY)), 5)
    terms = desk.orders(Role.ENTRY)[0].terms
    theirs = [out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now()) for _ in range(2)]
    await desk.until(lambda: len(questions(desk)) == 2, 30)
    back = leave_out(desk, "orders_since", theirs[0])
    asked = desk.orders(Role.ENTRY)[0].revision
    await desk.until(lambda: desk.orders(Role.ENTRY)[0].revision > asked, 30)
    back()
    await desk.pass_(30)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.broker_id is None
    assert entry.doubt is not None
    assert set(entry.doubt.candidates) == set(theirs)


async def test_when_none_of_them_is_ours_it_is_lost_and_can_be_declared_dead(make_desk: MakeDesk) -> None:
    desk, ours, theirs = await three_alike(make_desk)
    for id in (ours, *theirs):
        await ignore(desk, id)
    await desk.until(lambda: desk.orders(Role.ENTRY)[0].state is OrderState.LOST, 150)


@pytest.mark.parametrize("filled", [False, True])
async def test_an_entry_that_the_broker_calls_the_parent_of_our_leg_needs_no_word(
    make_desk: MakeDesk, filled: bool
) -> None:
    """Its stop would otherwise stand beside a position that memory explains by somebody else's orders."""
    desk, ours = await a_bracket_and_two_alike(make_desk)
    if filled:
        desk.feed.trade(ES, "4994")
    await desk.until(lambda: not desk.orders(Role.ENTRY)[0].is_in_doubt, 60)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.broker_id == ours
    assert Flag.MATCHED_BY_SHAPE in entry.flags
    assert entry.state is (OrderState.FILLED if filled else OrderState.WORKING)
    await desk.until(lambda: desk.position() == desk.broker_position(), 60)
    await desk.until(lambda: not any(row.order == ours for row in questions(desk)), 60)


async def test_a_lone_order_without_the_legs_of_the_one_in_doubt_is_not_taken_for_it(make_desk: MakeDesk) -> None:
    desk = await make_desk(capabilities=msgspec.structs.replace(TAG_LESS, brackets=True)).start()
    desk.link.armed.lose_requests = 1
    desk.strategies[ES].script.append(enter(limit="4995", quantity="2"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(desk.orders(Role.ENTRY)), 5)
    theirs = out_of_band.place_foreign(desk.exchange, PAPER, desk.orders(Role.ENTRY)[0].terms, desk.clock.now())
    await desk.until(lambda: [row.order for row in questions(desk)] == [theirs], 30)
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.state, entry.broker_id) == (OrderState.IN_DOUBT_SUBMIT, None)
    await ignore(desk, theirs)
    await desk.until(lambda: desk.orders(Role.ENTRY)[0].state is OrderState.LOST, 150)


async def test_the_order_that_looks_like_it_was_replaced_meanwhile_and_what_replaced_it_counts(
    make_desk: MakeDesk,
) -> None:
    """Of the replace the disk kept nothing: the old id is over, and the new one has other terms, and filled."""
    desk = await make_desk(capabilities=msgspec.structs.replace(TAG_LESS, replace_id=ReplaceId.CHANGES)).start()
    desk.link.armed.lose_answers = 1
    desk.strategies[ES].script.append(enter(limit="4995", quantity="2"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(desk.exchange.open_orders(PAPER)), 5)
    (old,) = desk.exchange.open_orders(PAPER)
    dearer = msgspec.structs.replace(old.terms, limit=Decimal(5002))
    new = desk.exchange.replace(PAPER, old.broker_id, ClientOrderId(""), dearer, desk.clock.now())
    assert isinstance(new, AcceptedOrder)
    await desk.until(lambda: not desk.orders(Role.ENTRY)[0].is_in_doubt, 60)
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.broker_id, entry.state, entry.filled) == (new.broker_id, OrderState.FILLED, Decimal(2))
    assert desk.position() == desk.broker_position() == 2
    assert Flag.MATCHED_BY_SHAPE in entry.flags


async def test_legs_are_asked_for_as_soon_as_their_entry_is_found(make_desk: MakeDesk) -> None:
    """They left in one request: until it is known, an awake leg can neither guard nor be cancelled."""
    desk = await make_desk(capabilities=msgspec.structs.replace(TAG_LESS, brackets=True)).start()
    desk.link.armed.lose_answers = 1
    desk.strategies[ES].script.append(enter(quantity="2"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(desk.exchange.open_orders(PAPER)), 5)
    back = leave_out(desk, "orders_since", *desk.exchange.book.orders)
    (entry,), (leg,) = desk.orders(Role.ENTRY), desk.orders(Role.STOP)
    await desk.until(lambda: tries(desk) == 4, 60)
    await desk.pass_(1)
    back()
    await desk.send(lambda o: c.AskNow(origin=o, order=entry.client_id))
    await desk.until(lambda: desk.trader().desk.current(leg).state is OrderState.WORKING, 1)
    assert desk.orders(Role.ENTRY)[0].state is OrderState.FILLED


async def test_an_operator_who_names_the_leg_names_the_entry(make_desk: MakeDesk) -> None:
    desk, ours = await a_bracket_and_two_alike(make_desk, leg_too=True)
    await desk.until(lambda: len(questions(desk)) == 5, 60)
    assert desk.orders(Role.ENTRY)[0].is_in_doubt
    (leg,) = (o.broker_id for o in desk.exchange.open_orders(PAPER) if o.parent == ours)
    receipt = await desk.send(lambda o: c.AdoptOrder(origin=o, order=leg, session=SESSION, reason="this one"))
    assert receipt.taken, receipt.message
    await desk.until(lambda: desk.orders(Role.ENTRY)[0].broker_id == ours, 30)
    await desk.until(lambda: ours not in {row.order for row in questions(desk)}, 30)
    assert ours not in {row.broker_id for account in desk.snapshot().accounts for row in account.foreign}


async def test_an_awake_leg_of_an_entry_in_doubt_goes_once_the_broker_holds_nothing(make_desk: MakeDesk) -> None:
    """A broker that names no parents: the entry among its look-alikes has filled, says the leg, and is closed."""
    desk, _ = await a_bracket_and_two_alike(make_desk, told=False)
    await desk.until(lambda: desk.orders(Role.STOP)[0].state is OrderState.WORKING, 60)
    await desk.until(lambda: len(questions(desk)) == 3, 30)
    for row in questions(desk):
        assert row.order is not None
        await ignore(desk, row.order)
    await desk.pass_(30)
    assert desk.orders(Role.STOP)[0].state is OrderState.WORKING, "asleep, it is left alone, whatever was said"
    desk.feed.trade(ES, "4994")
    await desk.until(lambda: desk.position() == desk.broker_position() == 6, 60)
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-6), desk.clock.now())
    await desk.until(lambda: desk.position() == 0, 60)
    await desk.until(lambda: not desk.exchange.open_orders(PAPER), 30)
    assert desk.orders(Role.STOP)[0].state is OrderState.CANCELLED


async def test_an_order_that_was_adopted_is_not_adopted_again(make_desk: MakeDesk) -> None:
    """Two operators do it in the same second: it would be two orders of ours."""
    desk, ours, _ = await three_alike(make_desk)
    receipts = [
        await desk.send(lambda o: c.AdoptOrder(origin=o, order=ours, session=SESSION, reason="this one"))
        for _ in range(2)
    ]
    assert [receipt.taken for receipt in receipts] == [True, False]
    assert [o.broker_id for o in desk.orders(Role.ENTRY)] == [ours]


@pytest.mark.rows_by_hand
async def test_an_order_that_was_ignored_before_it_was_named_is_asked_about_by_name(make_desk: MakeDesk) -> None:
    """What an operator said of a stranger's order does not say that it is not the one in doubt."""
    desk = await make_desk(capabilities=TAG_LESS).start()
    desk.link.armed.lose_answers = 1
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(2), type=OrderType.LIMIT, limit=Decimal(4995))
    theirs = out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now())
    await desk.until(lambda: len(questions(desk)) == 1, 10)
    await ignore(desk, theirs)
    entry = entry_in_doubt(desk, theirs)
    await desk.until(lambda: [row.memory for row in questions(desk)] == [f"perhaps {entry.client_id}"], 30)
    assert desk.trader().desk.current(entry).state is OrderState.IN_DOUBT_SUBMIT
    await ignore(desk, theirs)
    await desk.until(lambda: desk.trader().desk.current(entry).state is OrderState.LOST, 150)
    asked = desk.trader().desk.current(entry).revision
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.pass_(20)
    assert desk.trader().desk.current(entry).revision <= asked + 2, "a lost order is not asked about without end"


@pytest.mark.rows_by_hand
async def test_an_order_of_before_the_send_may_be_ours_by_a_clock_that_was_ahead(make_desk: MakeDesk) -> None:
    desk = await make_desk(capabilities=TAG_LESS).start()
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(2), type=OrderType.LIMIT, limit=Decimal(4995))
    ours = out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now())
    entry = entry_in_doubt(desk, ours, ahead=40_000)
    await desk.until(lambda: [row.order for row in questions(desk)] == [ours], 20)
    assert desk.trader().desk.current(entry).state is OrderState.IN_DOUBT_SUBMIT
    receipt = await desk.send(lambda o: c.AdoptOrder(origin=o, order=ours, session=SESSION, reason="this one"))
    assert receipt.taken, receipt.message
    assert desk.trader().desk.current(entry).state is OrderState.WORKING


def entry_in_doubt(desk: Desk, like: BrokerOrderId, *, ahead: int = 0) -> Order:
    """An entry of ours on the same terms, sent a moment before by a clock that was `ahead` ms, and not answered."""
    session, alike = desk.trader().desk, record(desk, like)
    key = DecisionKey(f"{SESSION}/1/entry/1")
    entry = Order(
        client_id=session.client_id(key),
        key=key,
        session=SESSION,
        account=PAPER,
        role=Role.ENTRY,
        terms=alike.terms,
        state=OrderState.SUBMITTING,
        created=alike.submitted,
        updated=alike.submitted,
        sent=alike.submitted + ahead,
        epoch=session.lease.epoch,
    )
    return session.put(lifecycle.doubted(entry, desk.clock.now(), "reset"), "in doubt")


async def test_another_order_of_ours_that_looks_like_it_is_not_taken(make_desk: MakeDesk) -> None:
    """The first rests under its own row; the second, on the same terms, never arrived."""
    desk = await make_desk(capabilities=TAG_LESS).start()
    for number in range(2):
        if number:
            lose_the_next_order(desk)
        await enter_by_hand(desk)
    first, second = desk.orders(Role.ENTRY)
    await desk.until(lambda: desk.trader().desk.current(second).is_in_doubt, 8)
    await desk.pass_(20)
    session = desk.trader().desk
    assert session.current(first).broker_id == desk.exchange.open_orders(PAPER)[0].broker_id
    assert (session.current(second).is_in_doubt, session.current(second).broker_id) == (True, None)


async def test_a_refusal_whose_answer_is_lost_is_ours_beside_a_like_order_that_works(make_desk: MakeDesk) -> None:
    """Only records of like orders that were refused themselves are left out as theirs."""
    desk = await make_desk(capabilities=TAG_LESS).start()
    for number in range(2):
        if number:
            desk.faults.inject("refuse-next", None, "")
            desk.link.armed.lose_answers = 1
        await enter_by_hand(desk)
    _, second = desk.orders(Role.ENTRY)
    await desk.until(lambda: desk.trader().desk.current(second).is_in_doubt, 8)
    await desk.until(lambda: desk.trader().desk.current(second).state is OrderState.REJECTED, 15)


@pytest.mark.rows_by_hand
async def test_of_two_orders_of_ours_that_nobody_knows_the_younger_has_the_record_that_followed_it(
    make_desk: MakeDesk,
) -> None:
    """A stop that was lost, and the one placed in its stead: the first never arrived, and took the second's record."""
    desk = await make_desk(capabilities=TAG_LESS).start()
    lose_the_next_order(desk)
    await enter_by_hand(desk)
    await desk.until(lambda: any(o.is_in_doubt for o in desk.orders(Role.ENTRY)), 8)
    await desk.pass_(12)
    (first,) = desk.orders(Role.ENTRY)
    session, now = desk.trader().desk, desk.clock.now()
    assert first.doubt is not None
    doubt = msgspec.structs.replace(first.doubt, sent=now, since=now, next_query=now + 25_000)
    younger = msgspec.structs.replace(
        first, client_id=ClientOrderId("younger"), key=DecisionKey("younger"), sent=now, doubt=doubt
    )
    session.put(younger, "in doubt")
    resting = out_of_band.place_foreign(desk.exchange, PAPER, first.terms, now)
    await desk.until(lambda: session.current(younger).broker_id == resting, 60)
    assert session.current(first).broker_id is None
    assert not session.current(younger).is_in_doubt


@pytest.mark.parametrize("end", ["refused", "cancelled"])
async def test_after_a_restart_the_record_of_an_order_that_had_ended_is_not_taken(
    make_desk: MakeDesk, end: str
) -> None:
    """What ended just before a crash is known in the next life, too: the one that never arrived is not it."""
    desk = await make_desk(capabilities=TAG_LESS).start()
    if end == "refused":
        desk.faults.inject("refuse-next", None, "")
    await enter_by_hand(desk, taken=end != "refused")
    await desk.pass_(1)
    (first,) = desk.orders(Role.ENTRY)
    if end == "cancelled":
        await desk.send(lambda o: c.CancelOrder(origin=o, order=first.client_id))
        await desk.until(lambda: desk.orders(Role.ENTRY)[0].state is OrderState.CANCELLED, 5)
    await desk.store.settled()
    lose_the_next_order(desk)
    await enter_by_hand(desk)
    second = next(o for o in desk.orders(Role.ENTRY) if o.client_id != first.client_id)
    await kill(desk)
    again = await next_life(desk, make_desk, later=20)
    session = again.trader().desk
    await again.pass_(30)
    assert (session.current(second).is_in_doubt, session.current(second).broker_id) == (True, None)
    await again.until(lambda: session.current(second).state is OrderState.LOST, 150)

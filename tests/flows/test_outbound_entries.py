"""Flow 2: did this entry make it? Committed before it is sent, sent once, gated at the send, protected when filled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial

import pytest
from msgspec.structs import replace

from engine import commands as c
from engine.domain.broker import Capabilities, FillsKind, IdMode, SubmitAnswer, SubmitRequest
from engine.domain.ids import CommandId, SessionId
from engine.domain.intents import IntentRecord, SubmitIntent
from engine.domain.market import DAY_MS
from engine.domain.orders import Flag, Order, OrderState, OrderType, Role, Side, Terms
from engine.domain.settings import Protection
from engine.errors import AnswerLost
from engine.outbound.entries import EntryWish
from engine.snapshot import ProtectionState
from tests.flows.acts import stored
from tests.flows.harness import ES, MINUTE, PAPER, Desk
from tests.flows.script import StoreAround, enter, in_position, reverse

MakeDesk = Callable[..., Desk]
SESSION = SessionId("s-ESZ6")


def broker_orders(desk: Desk) -> list[tuple[Side, Decimal, OrderType]]:
    """Everything the exchange was ever sent that is not a leg."""
    return [
        (o.terms.side, o.terms.quantity, o.terms.type) for o in desk.exchange.orders_since(PAPER, 0) if o.parent is None
    ]


def in_doubt_seen(desk: Desk) -> list[OrderState]:
    """Watch the entry's states from now on."""
    states: list[OrderState] = []
    book = desk.trader().desk.book
    put = book.put

    def noted(order: Order, event: str, now: int, detail: str = "") -> Order:
        if order.role is Role.ENTRY:
            states.append(order.state)
        return put(order, event, now, detail)

    book.put = noted  # type: ignore[method-assign]
    return states


def origin(desk: Desk, number: int) -> c.Origin:
    return c.Origin(id=CommandId(f"by-test-{number}"), operator="test", place="test", at=desk.clock.now())


# -- durable first ------------------------------------------------------------------------------------------


async def test_write_to_the_database_before_the_network_call(make_desk: MakeDesk) -> None:
    desk = await make_desk(wrap_store=StoreAround.wrap).start()
    store = StoreAround.of(desk)
    on_disk: list[object] = []
    submit = desk.manager.submit

    async def sent(request: SubmitRequest) -> object:
        store.log.append(("sent", request.client_id))
        on_disk.extend(await stored(desk, "SELECT state FROM orders WHERE client_id = ?", request.client_id))
        return await submit(request)

    desk.manager.submit = sent  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 5)
    (entry,) = desk.orders(Role.ENTRY)
    assert store.log == [("committed", entry.key), ("sent", entry.client_id)]
    assert on_disk == [("submitting",)]


async def test_an_entry_whose_commit_fails_is_not_sent(make_desk: MakeDesk) -> None:
    desk = await make_desk(wrap_store=StoreAround.wrap).start()

    async def hang(intent: IntentRecord) -> None:
        await desk.clock.sleep(30)

    StoreAround.of(desk).after_commit = hang
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.pass_(40)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.ABANDONED
    assert "database" in entry.reason
    assert broker_orders(desk) == []
    assert desk.snapshot().heat.reservations == ()


# -- the gate at the send ----------------------------------------------------------------------------------


async def pause(desk: Desk, intent: IntentRecord) -> None:
    await desk.overrides.dispatch(c.Pause(origin=origin(desk, 1), session=SESSION))


async def kill(desk: Desk, intent: IntentRecord) -> None:
    await desk.overrides.dispatch(c.Kill(origin=origin(desk, 1)))


async def go_stale(desk: Desk, intent: IntentRecord) -> None:
    await desk.clock.sleep(2.5)


async def fill_the_portfolio(desk: Desk, intent: IntentRecord) -> None:
    await desk.overrides.dispatch(
        c.ChangeHeatLimits(
            origin=origin(desk, 1), warn=Decimal("0.001"), block=Decimal("0.002"), release=Decimal(0), reason="test"
        )
    )


async def cut_the_account(desk: Desk, intent: IntentRecord) -> None:
    desk.faults.inject("disconnect-account", None, "10")


@pytest.mark.parametrize(
    ("closing", "says"),
    [
        (pause, "paused"),
        (kill, "kill latch"),
        (go_stale, "stale"),
        (fill_the_portfolio, "block"),
        (cut_the_account, "link"),
    ],
)
async def test_an_entry_is_dropped_when_the_gate_closes_between_commit_and_send(
    make_desk: MakeDesk, closing: Callable[[Desk, IntentRecord], Awaitable[None]], says: str
) -> None:
    desk = await make_desk(wrap_store=StoreAround.wrap).start()
    StoreAround.of(desk).after_commit = partial(closing, desk)
    desk.strategies[ES].script.append(enter())
    end = desk.clock.now() - desk.clock.now() % MINUTE + MINUTE
    await desk.clock.advance(end - 13_000)
    desk.feed.trade(ES, "5000")
    await desk.clock.advance(end + 15_000)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.ABANDONED
    assert entry.sent is None
    assert says in entry.reason
    assert broker_orders(desk) == []
    assert desk.snapshot().heat.reservations == ()
    await desk.real_store.settled()
    kept = await desk.real_store.order(entry.client_id)
    assert kept is not None
    assert (kept.state, kept.reason) == (OrderState.ABANDONED, entry.reason)
    assert all(o.state is OrderState.ABANDONED for o in desk.orders())


# -- in doubt ---------------------------------------------------------------------------------------------


MODES = {
    "enforced": Capabilities(),
    "tag": Capabilities(id_mode=IdMode.TAG),
    "tag without search": Capabilities(id_mode=IdMode.TAG, find_by_client_id=False),
    "none": Capabilities(id_mode=IdMode.NONE, find_by_client_id=False),
    "none, cumulative": Capabilities(id_mode=IdMode.NONE, find_by_client_id=False, fills=FillsKind.CUMULATIVE),
    "no brackets": Capabilities(brackets=False),
    "none, no brackets": Capabilities(id_mode=IdMode.NONE, find_by_client_id=False, brackets=False),
    "none, cumulative, no brackets": Capabilities(
        id_mode=IdMode.NONE, find_by_client_id=False, fills=FillsKind.CUMULATIVE, brackets=False
    ),
}


@pytest.mark.parametrize("mode", MODES)
async def test_an_entry_is_filled_and_protected_under_every_mode(make_desk: MakeDesk, mode: str) -> None:
    desk = await make_desk(capabilities=MODES[mode]).start()
    desk.strategies[ES].script.append(enter(target="5050"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 5)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 5)
    await desk.pass_(400)
    stops = [o for o in desk.exchange.open_orders(PAPER) if o.terms.type is OrderType.STOP]
    assert [(o.terms.quantity, o.terms.stop) for o in stops] == [(Decimal(2), Decimal(4990))]
    assert desk.blocks() == () or all("stale" in b or "silent" in b for b in desk.blocks())
    assert desk.snapshot().disagreements == ()
    assert desk.position() == desk.broker_position() == 2


@pytest.mark.parametrize("mode", MODES)
async def test_s1_a_lost_answer_is_in_doubt_until_evidence_and_leaves_one_order(make_desk: MakeDesk, mode: str) -> None:
    desk = await make_desk(capabilities=MODES[mode]).start()
    states = in_doubt_seen(desk)
    desk.faults.inject("lose-answer", None, "")
    desk.strategies[ES].script += [enter(limit="4999"), enter(limit="4998")]
    await desk.next_candle(ES, "5000")
    await desk.pass_(5)
    await desk.next_candle(ES, "5000")
    await desk.pass_(30)
    first, second = desk.orders(Role.ENTRY)
    assert first.state is OrderState.WORKING
    assert first.broker_id is not None
    assert second.broker_id != first.broker_id
    assert OrderState.IN_DOUBT_SUBMIT in states
    entries = [o for o in desk.exchange.open_orders(PAPER) if o.parent is None]
    assert len(entries) == 2
    desk.feed.trade(ES, "4999")
    await desk.until(lambda: desk.position() == 2, 10)
    await desk.until(lambda: sum(o.remaining for o in desk.orders(Role.STOP) if o.terms.quantity) >= 2, 5)


async def test_an_order_found_by_shape_is_marked(make_desk: MakeDesk) -> None:
    desk = await make_desk(capabilities=MODES["none"]).start()
    desk.faults.inject("lose-answer", None, "")
    desk.strategies[ES].script.append(enter(limit="4999"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(20)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.WORKING
    assert Flag.MATCHED_BY_SHAPE in entry.flags


async def test_two_orders_that_look_alike_are_left_to_the_operator(make_desk: MakeDesk) -> None:
    """Nor has the entry a leg at the broker that would name it."""
    desk = await make_desk(capabilities=replace(MODES["none"], brackets=False)).start()
    desk.faults.inject("lose-answer", None, "")
    desk.strategies[ES].script.append(enter(limit="4900", stop="4890", quantity="1"))

    async def foreign(request: SubmitRequest) -> object:
        desk.faults.inject("foreign-order", ES, "1")
        return await submit(request)

    submit = desk.manager.submit
    desk.manager.submit = foreign  # type: ignore[method-assign, assignment]
    await desk.next_candle(ES, "5000")
    await desk.pass_(30)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.IN_DOUBT_SUBMIT
    assert any("in doubt" in block for block in desk.blocks())


@pytest.mark.parametrize("mode", ["enforced", "tag", "tag without search", "none"])
async def test_a_lost_request_becomes_lost_after_ninety_seconds_and_blocks_until_declared_dead(
    make_desk: MakeDesk, mode: str
) -> None:
    desk = await make_desk(capabilities=MODES[mode]).start()
    desk.faults.inject("lose-request", None, "")
    desk.strategies[ES].script += [enter(), *[enter()] * 4]
    await desk.next_candle(ES, "5000")
    await desk.pass_(2)
    entry = desk.orders(Role.ENTRY)[0]
    assert entry.state is OrderState.IN_DOUBT_SUBMIT
    assert entry.sent is not None
    while desk.clock.now() < entry.sent + 89_000:
        desk.feed.trade(ES, "5000")
        await desk.pass_(5 if desk.clock.now() < entry.sent + 84_000 else 0.5)
        assert desk.orders(Role.ENTRY)[0].state is OrderState.IN_DOUBT_SUBMIT
    heat = desk.snapshot().heat
    await desk.until(lambda: desk.orders(Role.ENTRY)[0].state is OrderState.LOST, 15)
    lost = desk.orders(Role.ENTRY)[0]
    assert lost.doubt is not None
    assert lost.doubt.negatives >= 4
    assert desk.clock.now() - entry.sent >= 90_000
    assert desk.snapshot().heat.contributions[0].pending == heat.contributions[0].pending == 5000
    for _ in range(2):
        await desk.next_candle(ES, "5000")
        await desk.pass_(2)
    assert any("lost" in block for block in desk.blocks())
    assert all(o.state is OrderState.DENIED for o in desk.orders(Role.ENTRY)[1:])
    assert broker_orders(desk) == []
    refused = await desk.send(lambda o: c.DeclareDead(origin=o, order=lost.client_id, word="dead", reason="seen"))
    assert not refused.taken
    assert desk.orders(Role.ENTRY)[0].state is OrderState.LOST
    done = await desk.send(lambda o: c.DeclareDead(origin=o, order=lost.client_id, word="DEAD", reason="phoned"))
    assert done.taken, done.message
    desk.feed.trade(ES, "5000")
    await desk.pass_(1)
    assert desk.blocks() == ()
    assert desk.snapshot().heat.contributions[0].pending == 0


async def test_s8_a_lost_order_that_shows_up_later_is_revived_with_an_alarm(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.faults.inject("next-order-slow", None, "150")
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: [o.state for o in desk.orders(Role.ENTRY)] == [OrderState.LOST], 130)
    await desk.until(lambda: desk.position() == 2, 60)
    entry = desk.orders(Role.ENTRY)[0]
    assert entry.state is OrderState.FILLED
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 5)
    assert any(entry.client_id in a.text and "presumed lost" in a.text for a in desk.engine.board.alerts())


async def test_s7_failed_questions_are_no_negative_answers(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.faults.inject("lose-request", None, "")
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: [o.state for o in desk.orders(Role.ENTRY)] == [OrderState.IN_DOUBT_SUBMIT], 3)
    desk.faults.inject("fail-queries", None, "600")
    await desk.pass_(590)
    entry = desk.orders(Role.ENTRY)[0]
    assert entry.state is OrderState.IN_DOUBT_SUBMIT
    assert entry.doubt is not None
    assert entry.doubt.negatives == 0


# -- refused, denied, once --------------------------------------------------------------------------------


async def test_an_entry_the_broker_refuses_is_rejected_and_gives_its_heat_back(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.faults.inject("refuse-next", None, "1")
    desk.strategies[ES].script += [enter(), enter()]
    await desk.next_candle(ES, "5000")
    await desk.pass_(2)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.REJECTED
    assert "risk desk" in entry.reason
    assert all(o.state is OrderState.REJECTED for o in desk.orders())
    heat = desk.snapshot().heat
    assert heat.reservations == ()
    assert heat.contributions[0].total == 0
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 5)


WISHES = {
    "size": (enter(quantity="11"), "11", "10", True),
    "collar": (enter(limit="4700", stop="4690"), "4700", "5.00 %", False),
    "no stop": (enter(stop=None), "stop", "", False),
    "stop on the wrong side": (enter(stop="5010"), "5010", "wrong side", False),
    "wrong step": (enter(quantity="1.5"), "1.5", "multiple", False),
}


@pytest.mark.parametrize("name", WISHES)
async def test_a_breach_denies_the_entry_with_its_number(make_desk: MakeDesk, name: str) -> None:
    wish, number, limit, latches = WISHES[name]
    desk = await make_desk().start()
    desk.strategies[ES].script.append(wish)
    await desk.next_candle(ES, "5000")
    await desk.pass_(2)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state is OrderState.DENIED
    assert number in entry.reason
    assert limit in entry.reason
    assert broker_orders(desk) == []
    assert bool(desk.blocks()) is latches
    await desk.real_store.settled()
    kept = await desk.real_store.order(entry.client_id)
    assert kept is not None
    assert (kept.state, kept.reason) == (OrderState.DENIED, entry.reason)


async def test_s20_prices_off_the_grid_are_rounded_for_a_strategy_and_denied_by_hand(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script.append(enter(limit="4999.13", stop="4990.11"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(2)
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.terms.limit, entry.protect_stop) == (Decimal("4999.25"), Decimal("4990.00"))
    by_hand = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(1), type=OrderType.LIMIT, limit=Decimal("4999.13"))
    receipt = await desk.send(
        lambda o: c.SubmitByHand(
            origin=o, session=SESSION, terms=by_hand, is_exit=False, stop_loss=Decimal(4990), reason="test"
        )
    )
    assert not receipt.taken
    assert "4999.13" in receipt.message


async def test_of_two_entries_at_once_the_second_is_denied(make_desk: MakeDesk) -> None:
    """Both would be sized by the same read, and each against limits that the other uses up."""
    desk = await make_desk().start()
    road, tasks = desk.trader().entries, desk.trader().desk.tasks
    wishes = [
        EntryWish(origin=f"by-test-{n}", side=Side.BUY, quantity=Decimal(1), stop_loss=Decimal(4990)) for n in range(2)
    ]
    made = [tasks.spawn(road.enter(wish), wish.origin) for wish in wishes]
    await desk.until(lambda: all(task.done() for task in made), 5)
    first, second = (task.result() for task in made)
    assert first.broker_id is not None
    assert (second.state, second.reason) == (OrderState.DENIED, "another entry of this session is on its way")


async def test_the_position_limit_counts_resting_entries(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script += [enter(limit="4999", quantity="6"), enter(limit="4998", quantity="6")]
    await desk.next_candle(ES, "5000")
    await desk.next_candle(ES, "5000")
    await desk.pass_(2)
    first, second = desk.orders(Role.ENTRY)
    assert first.broker_id is not None
    assert second.state is OrderState.DENIED
    assert "12" in second.reason
    assert "10" in second.reason


async def test_entries_per_minute_and_per_day_deny_until_their_period_ends(make_desk: MakeDesk) -> None:
    base = Desk.session_settings
    limits = base(make_desk(directory="throw-away"), ES).limits
    desk = await make_desk(session={"limits": replace(limits, entries_per_day=2)}).start()
    desk.strategies[ES].script += [enter(quantity="1")] * 3
    for _ in range(3):
        await desk.next_candle(ES, "5000")
        await desk.pass_(2)
    assert [o.state for o in desk.orders(Role.ENTRY)] == [OrderState.FILLED, OrderState.FILLED, OrderState.DENIED]
    assert "2 entries today" in desk.orders(Role.ENTRY)[2].reason


async def test_the_daily_loss_latches_entries_off_with_its_number(make_desk: MakeDesk) -> None:
    limits = Desk.session_settings(make_desk(directory="throw-away"), ES).limits
    desk = await in_position(make_desk(session={"limits": replace(limits, max_daily_loss=Decimal(800))}))
    desk.strategies[ES].script += [enter(stop="4980"), enter(stop="4980")]
    desk.feed.trade(ES, "4990")  # the stop fills: 2 x 10 points x 50 = 1,000 lost
    await desk.until(lambda: desk.position() == 0, 5)
    await desk.pass_(2)
    assert any("800" in block for block in desk.blocks())
    for _ in range(2):
        await desk.next_candle(ES, "4990")
        await desk.pass_(2)
    denied = desk.orders(Role.ENTRY)[1:]
    assert [o.state for o in denied] == [OrderState.DENIED] * 2
    assert all("loss" in o.reason for o in denied)
    first = desk
    await first.stop()
    again = make_desk(now=first.clock.now(), session={"limits": replace(limits, max_daily_loss=Decimal(800))})
    again.feed.market = first.feed.market
    await again.start()
    assert any("daily loss" in block for block in again.blocks())
    session, tomorrow = again.trader().desk, again.clock.now() + DAY_MS
    session.ledger.book(Decimal(0), Decimal(0), tomorrow)  # a fill is booked before anybody looks at the new date
    again.trader().day.look(tomorrow)
    assert not any("daily loss" in reason for reason in session.blocks.reasons())


async def test_the_first_entry_of_a_trade_date_is_not_judged_by_the_date_before(make_desk: MakeDesk) -> None:
    limits = Desk.session_settings(make_desk(directory="throw-away"), ES).limits
    desk = await make_desk(session={"limits": replace(limits, entries_per_day=1)}).start()
    ledger = desk.trader().desk.ledger
    ledger.entered(desk.clock.now() - DAY_MS)
    desk.trader().day.look = lambda now: None  # type: ignore[method-assign]
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 5)
    assert ledger.entries == 1


async def test_s2_an_entry_is_never_sent_twice(make_desk: MakeDesk) -> None:
    """The same decision again, by whatever way, finds its key taken; a lost answer is never answered by a resend."""
    desk = await make_desk(wrap_store=StoreAround.wrap).start()
    submits: list[str] = []
    submit = desk.manager.submit

    async def counted(request: SubmitRequest) -> object:
        submits.append(request.client_id)
        return await submit(request)

    desk.manager.submit = counted  # type: ignore[method-assign, assignment]
    desk.faults.inject("lose-answer", None, "")
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 10)
    await desk.pass_(120)
    assert len(submits) == 1
    used = desk.orders(Role.ENTRY)[0]
    outcome = await desk.real_store.commit(
        SubmitIntent(key=used.key, order=used, at=desk.clock.now(), epoch=used.epoch)
    )
    assert type(outcome).__name__ == "Taken"


async def test_a_reverse_is_an_exit_and_once_that_is_confirmed_an_entry(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    flat_at: list[Decimal] = []
    submit = desk.manager.submit

    async def noted(request: SubmitRequest) -> object:
        flat_at.append(desk.broker_position())
        return await submit(request)

    desk.manager.submit = noted  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script.append(reverse(Side.SELL, "5010"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == -2, 10)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 5)
    assert flat_at == [0]
    stops = desk.exchange.open_orders(PAPER)
    assert [(o.terms.side, o.terms.quantity, o.terms.stop) for o in stops] == [(Side.BUY, Decimal(2), Decimal(5010))]
    assert desk.broker_position() == -2


async def test_a_reverse_whose_exit_is_not_confirmed_enters_nothing(make_desk: MakeDesk) -> None:
    """The exit goes on until the broker listens again; by then the entry's time is over."""
    desk = await in_position(make_desk())
    replace, asked = desk.manager.replace, 0

    async def lost(*request: object) -> SubmitAnswer:
        nonlocal asked
        asked += 1
        raise AnswerLost("no answer")

    desk.manager.replace = lost  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script.append(reverse(Side.SELL, "5010"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(90)
    assert desk.broker_position() == 2
    assert 3 <= asked <= 8, "ever more slowly"
    desk.manager.replace = replace  # type: ignore[method-assign]
    await desk.until(lambda: desk.broker_position() == 0, 90)
    await desk.pass_(5)
    assert len(desk.orders(Role.ENTRY)) == 1


async def test_without_protection_an_entry_may_carry_no_stop(make_desk: MakeDesk) -> None:
    desk = await make_desk(session={"protection": Protection.NONE}).start()
    desk.strategies[ES].script.append(enter(stop=None))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 5)
    await desk.pass_(20)
    assert desk.trader().desk.protection is ProtectionState.NOT_REQUIRED
    assert desk.orders(Role.STOP) == []


async def test_the_entry_of_a_reverse_keeps_the_deadline_of_its_decision(make_desk: MakeDesk) -> None:
    """The exit took most of the minute: the entry is not given another one."""
    desk = await in_position(make_desk(wrap_store=StoreAround.wrap))

    async def slowly(intent: IntentRecord) -> None:
        if isinstance(intent, SubmitIntent) and intent.order.is_entry:
            await desk.clock.sleep(2.5)

    StoreAround.of(desk).after_commit = slowly
    desk.faults.inject("partial-fills", None, "1")
    desk.strategies[ES].script.append(reverse(Side.SELL, "5010"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(58.5)
    assert desk.position() == 1
    desk.faults.inject("partial-fills", None, "0")
    desk.feed.trade(ES, "5000")
    await desk.pass_(5)
    assert desk.broker_position() == 0
    entry = desk.orders(Role.ENTRY)[-1]
    assert entry.state is OrderState.ABANDONED
    assert "deadline" in entry.reason

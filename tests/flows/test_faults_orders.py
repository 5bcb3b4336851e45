"""Faults that met other people's desks, on the way out: each test bears its row's id (docs/faults.md)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from engine import commands as c
from engine.domain.broker import (
    BrokerOrder,
    BrokerPosition,
    BrokerStatus,
    Capabilities,
    Report,
    SubmitRequest,
)
from engine.domain.disagreements import DisagreementState
from engine.domain.ids import SessionId
from engine.domain.market import Tick
from engine.domain.orders import Flag, OrderState, Role, Side
from engine.errors import AnswerLost, LockedOut
from engine.snapshot import ProtectionState
from tests.flows.acts import rows
from tests.flows.harness import ES, MINUTE, PAPER, Desk
from tests.flows.script import enter, in_position, leave
from tests.flows.test_outbound_entries import MODES
from tests.flows.test_outbound_exits import BROKERS, alerts, stops

MakeDesk = Callable[..., Desk]
SESSION = SessionId("s-ESZ6")
BRACKETED = [name for name, manners in MODES.items() if manners.brackets]


def submits(desk: Desk) -> list[str]:
    """Client ids of all requests for a new order that leave from now on."""
    log: list[str] = []
    submit = desk.manager.submit

    async def counted(request: SubmitRequest) -> object:
        log.append(request.client_id)
        return await submit(request)

    desk.manager.submit = counted  # type: ignore[method-assign, assignment]
    return log


def cancels(desk: Desk) -> list[object]:
    """Broker ids of all cancels that leave from now on."""
    log: list[object] = []
    cancel = desk.manager.cancel

    async def counted(broker_id: object) -> object:
        log.append(broker_id)
        return await cancel(broker_id)  # type: ignore[arg-type]

    desk.manager.cancel = counted  # type: ignore[method-assign, assignment]
    return log


def deaf(desk: Desk) -> None:
    """From now on the broker executes and answers, and streams nothing; its heart goes on beating."""
    desk.exchange._listeners[PAPER].clear()


def roots(desk: Desk) -> tuple[BrokerOrder, ...]:
    """Everything the exchange was ever sent that is not a leg."""
    return tuple(o for o in desk.exchange.orders_since(PAPER, 0) if o.parent is None)


def entry_states(desk: Desk) -> list[OrderState]:
    return [o.state for o in desk.orders(Role.ENTRY)]


async def keep_fresh(desk: Desk, seconds: float, price: str = "5000") -> None:
    """Let time pass with a trade every two seconds."""
    end = desk.clock.now() + round(seconds * 1000)
    while desk.clock.now() < end:
        desk.feed.trade(ES, price)
        await desk.pass_(min(2, (end - desk.clock.now()) / 1000))


async def resting(desk: Desk, limit: str = "4995") -> Desk:
    """A desk whose limit entry of two works at the broker."""
    await desk.start()
    desk.strategies[ES].script.append(enter(limit=limit))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: entry_states(desk) == [OrderState.WORKING], 5)
    return desk


# -- was it taken? -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", BRACKETED)
async def test_s3_an_order_that_filled_and_closed_before_anybody_asked_is_found(make_desk: MakeDesk, mode: str) -> None:
    """Its answer is lost and its stop fills at once: no list of open orders would ever name it."""
    desk = await make_desk(capabilities=MODES[mode]).start()
    log = submits(desk)
    desk.faults.inject("lose-answer", None, "")
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    while not roots(desk):
        await desk.clock.advance(desk.clock.now() + 1)
    deafened = list(desk.exchange._listeners[PAPER])
    deaf(desk)
    desk.exchange.on_tick(Tick(ES, desk.clock.now(), Decimal(4989), Decimal(1)))
    desk.exchange._listeners[PAPER].extend(deafened)
    assert desk.exchange.open_orders(PAPER) == ()
    await desk.until(lambda: not [o for o in desk.orders() if o.is_open], 45)
    await desk.pass_(5)
    assert entry_states(desk) == [OrderState.FILLED]
    assert [o.filled for o in desk.orders(Role.STOP)] == [Decimal(2)]
    assert desk.position() == desk.broker_position() == 0
    bought = await rows(desk, "SELECT side, quantity FROM fills ORDER BY side")
    assert bought == [("buy", "2"), ("sell", "2")]
    assert len(log) == 1


@pytest.mark.parametrize("taken", [True, False])
async def test_s4_an_answer_that_cannot_be_read_is_a_doubt_and_no_refusal(make_desk: MakeDesk, taken: bool) -> None:
    """200 with nothing, half a document, or a web page: the order may be live, and is asked for."""
    desk = await make_desk().start()
    log = submits(desk)
    submit = desk.manager.submit

    async def unreadable(request: SubmitRequest) -> object:
        if taken:
            await submit(request)
        raise ValueError("Expecting value: line 1 column 1 (char 0)")

    desk.manager.submit = unreadable  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script += [enter(limit="4995"), enter(limit="4995")]
    await desk.next_candle(ES, "5000")
    await desk.pass_(5)
    assert entry_states(desk) == [OrderState.WORKING if taken else OrderState.IN_DOUBT_SUBMIT]
    if not taken:
        await desk.next_candle(ES, "5000")
        await desk.pass_(5)
        assert entry_states(desk) == [OrderState.IN_DOUBT_SUBMIT, OrderState.DENIED]
    assert len(log) == int(taken)


@pytest.mark.parametrize("mode", ["enforced", "tag", "none"])
async def test_s6_while_nobody_can_ask_nothing_is_placed_again(make_desk: MakeDesk, mode: str) -> None:
    desk = await make_desk(capabilities=MODES[mode]).start()
    log = submits(desk)
    desk.strategies[ES].script += [enter()] * 3
    end = desk.clock.now() - desk.clock.now() % MINUTE + MINUTE
    await desk.clock.advance(end - 500)
    desk.faults.inject("lose-answer", None, "")
    desk.feed.trade(ES, "5000")
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: bool(log), 3)
    desk.faults.inject("fail-queries", None, "130")
    for _ in range(2):
        await keep_fresh(desk, 55)
        await desk.next_candle(ES, "5000")
        await desk.pass_(1)
    assert entry_states(desk) == [OrderState.IN_DOUBT_SUBMIT, OrderState.DENIED, OrderState.DENIED]
    assert "in doubt" in desk.orders(Role.ENTRY)[1].reason
    await keep_fresh(desk, 40)
    assert desk.position() == desk.broker_position() == 2
    assert len(log) == len(roots(desk)) == 1
    assert stops(desk) == [(Decimal(2), Decimal(4990))]


@pytest.mark.parametrize("seconds", [5, 30])
@pytest.mark.parametrize("mode", ["enforced", "tag", "none"])
async def test_s9_a_fresh_order_that_the_lists_do_not_show_yet_is_not_given_up(
    make_desk: MakeDesk, mode: str, seconds: int
) -> None:
    desk = await make_desk(capabilities=MODES[mode]).start()
    log = submits(desk)
    find, since, opened = desk.manager.order_by_client_id, desk.manager.orders_since, desk.manager.open_orders

    def old(answer: Report[BrokerOrder]) -> Report[BrokerOrder]:
        shown = desk.clock.now() - seconds * 1000
        return replace(answer, rows=tuple(row for row in answer.rows if row.submitted <= shown))

    async def found(client_id: Any) -> Report[BrokerOrder]:
        return old(await find(client_id))

    async def listed(moment: int) -> Report[BrokerOrder]:
        return old(await since(moment))

    async def still_open() -> Report[BrokerOrder]:
        return old(await opened())

    desk.manager.order_by_client_id = found  # type: ignore[method-assign]
    desk.manager.orders_since = listed  # type: ignore[method-assign, assignment]
    desk.manager.open_orders = still_open  # type: ignore[method-assign]
    desk.faults.inject("lose-answer", None, "")
    desk.strategies[ES].script.append(enter(limit="4995"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(1)
    placed = desk.clock.now()
    while entry_states(desk) == [OrderState.IN_DOUBT_SUBMIT] and desk.clock.now() < placed + 60_000:
        await desk.pass_(0.5)
    assert entry_states(desk) == [OrderState.WORKING]
    assert desk.clock.now() - placed >= (seconds - 2) * 1000
    assert len(log) == len(roots(desk)) == 1


@pytest.mark.parametrize("mode", ["enforced", "tag", "none", "none, cumulative"])
async def test_s10_a_broker_id_that_is_given_again_is_not_mistaken_for_the_old_order(
    make_desk: MakeDesk, mode: str
) -> None:
    """The gateway starts over with its counter: the new order has the broker id of one that ended."""
    desk = await resting(make_desk(capabilities=MODES[mode]))
    (first,) = desk.orders(Role.ENTRY)
    await desk.send(lambda o: c.CancelOrder(origin=o, order=first.client_id))
    await desk.until(lambda: entry_states(desk) == [OrderState.CANCELLED], 5)
    book = desk.exchange.book
    book.orders.clear()
    book.next_order = 1
    desk.strategies[ES].script.append(enter(limit="4998"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(2)
    second = desk.orders(Role.ENTRY)[1]
    assert second.broker_id == first.broker_id
    assert entry_states(desk) == [OrderState.CANCELLED, OrderState.WORKING]
    desk.feed.trade(ES, "4998")
    await desk.until(lambda: desk.position() == 2, 8)
    await desk.pass_(2)
    assert [(o.state, o.filled) for o in desk.orders(Role.ENTRY)] == [
        (OrderState.CANCELLED, Decimal(0)),
        (OrderState.FILLED, Decimal(2)),
    ]
    assert stops(desk) == [(Decimal(2), Decimal(4990))]
    await desk.real_store.settled()
    kept = await desk.real_store.order(first.client_id)
    assert kept is not None
    assert (kept.state, kept.filled) == (OrderState.CANCELLED, Decimal(0))


async def test_s11_a_refused_duplicate_is_looked_up_before_it_is_called_a_refusal(make_desk: MakeDesk) -> None:
    """The first copy was taken, the second, sent by something between us and the broker, is what was answered."""
    desk = await make_desk().start()
    submit = desk.manager.submit

    async def twice(request: SubmitRequest) -> object:
        await submit(request)
        return await submit(request)

    desk.manager.submit = twice  # type: ignore[method-assign, assignment]
    listeners = desk.exchange._listeners[PAPER]
    heard, listeners[:] = list(listeners), []
    desk.strategies[ES].script.append(enter(limit="4995"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(1)
    listeners[:] = heard
    await desk.pass_(5)
    assert entry_states(desk) == [OrderState.WORKING]
    assert len(roots(desk)) == 1
    desk.feed.trade(ES, "4995")
    await desk.until(lambda: desk.position() == 2, 5)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 5)


@pytest.mark.parametrize("brackets", [True, False])
async def test_s13_no_client_id_is_ever_used_a_second_time(make_desk: MakeDesk, brackets: bool) -> None:
    """At a broker that never takes an id again, cancelled or not, every attempt has one of its own."""
    desk = await resting(make_desk(capabilities=Capabilities(brackets=brackets)))
    log = submits(desk)
    (first,) = desk.orders(Role.ENTRY)
    await desk.send(lambda o: c.CancelOrder(origin=o, order=first.client_id))
    await desk.pass_(2)
    await in_position(desk)
    await keep_fresh(desk, 15)
    for attempt in range(1, 3):
        desk.faults.inject("cancel-out-of-band", ES, "")
        await desk.until(lambda n=attempt: len(log) >= n + 1 and len(stops(desk)) == 1, 12)  # type: ignore[misc]
        await keep_fresh(desk, 15)
    ids = [o.client_id for o in desk.exchange.orders_since(PAPER, 0)]
    assert len(ids) == len(set(ids))
    assert len(log) == len(set(log)) >= 3
    assert not [o for o in desk.orders() if o.state is OrderState.REJECTED]


@pytest.mark.parametrize("mode", MODES)
async def test_s14_accepted_and_then_not_a_word_is_found_by_asking(make_desk: MakeDesk, mode: str) -> None:
    desk = await make_desk(capabilities=MODES[mode]).start()
    deaf(desk)
    desk.strategies[ES].script.append(enter(target="5050"))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.broker_position() == 2, 5)
    await desk.until(lambda: desk.position() == 2, 45)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 20)
    await keep_fresh(desk, 20)
    assert desk.orders(Role.ENTRY)[0].state is OrderState.FILLED
    assert stops(desk) == [(Decimal(2), Decimal(4990))]
    assert not [row for row in desk.snapshot().disagreements if row.state is DisagreementState.ADOPTED]
    assert desk.blocks() == ()
    desk.strategies[ES].script.append(leave)
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == desk.broker_position() == 0, 60)
    await desk.pass_(10)
    assert desk.exchange.open_orders(PAPER) == ()


@pytest.mark.parametrize("mode", ["enforced", "none", "none, cumulative"])
async def test_s15_an_order_acknowledged_late_whose_fill_is_never_told_is_booked(
    make_desk: MakeDesk, mode: str
) -> None:
    desk = await make_desk(capabilities=MODES[mode]).start()
    log = submits(desk)
    desk.faults.inject("next-order-slow", None, "8")
    desk.faults.inject("drop-fill", None, "")
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await desk.pass_(6)
    assert entry_states(desk) == [OrderState.IN_DOUBT_SUBMIT]
    await desk.until(lambda: desk.broker_position() == 2, 5)
    await desk.until(lambda: desk.position() == 2, 40)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 10)
    await desk.pass_(5)
    assert entry_states(desk) == [OrderState.FILLED]
    assert len(log) == len(roots(desk)) == 1
    assert stops(desk) == [(Decimal(2), Decimal(4990))]


async def test_s16_an_order_that_is_taken_and_rejected_a_moment_later_gives_everything_back(
    make_desk: MakeDesk,
) -> None:
    desk = await resting(make_desk())
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.broker_id is not None
    await desk.pass_(5)
    desk.exchange.close_order(desk.exchange.book.orders[entry.broker_id], BrokerStatus.REJECTED, "no permission")
    desk.exchange.commit()
    await desk.pass_(1)
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.state, entry.reason) == (OrderState.REJECTED, "no permission")
    assert not [o for o in desk.orders() if o.is_open]
    heat = desk.snapshot().heat
    assert heat.reservations == ()
    assert heat.contributions[0].total == 0
    await in_position(desk)


@pytest.mark.parametrize("seconds", [60, 3600])
async def test_s17_s18_s19_a_broker_that_will_not_listen_is_not_hammered_and_the_exit_goes_first(
    make_desk: MakeDesk, seconds: int
) -> None:
    """A penalty, a 429, an hour of silence: proven not executed, so nothing is in doubt and nothing is tried."""
    desk = await in_position(make_desk(capabilities=Capabilities(replace_may_change_type=False)))
    submit, cancel = desk.manager.submit, desk.manager.cancel
    until = desk.clock.now() + (60 + seconds) * 1000
    knocks: list[int] = []

    def knock() -> None:
        knocks.append(desk.clock.now())
        if desk.clock.now() < until:
            raise LockedOut("too many requests", retry_after_seconds=(until - desk.clock.now()) / 1000)

    async def submitted(request: SubmitRequest) -> object:
        knock()
        return await submit(request)

    async def cancelled(broker_id: Any) -> object:
        knock()
        return await cancel(broker_id)

    desk.manager.submit = submitted  # type: ignore[method-assign, assignment]
    desk.manager.cancel = cancelled  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script += [leave, enter()]
    await desk.next_candle(ES, "5000")
    await desk.pass_(3)
    assert any("locked us out" in block for block in desk.blocks())
    assert not [o for o in desk.orders() if o.is_in_doubt]
    await desk.pass_((until - desk.clock.now()) / 1000)
    assert len([at for at in knocks if at < until]) == 1
    assert desk.broker_position() == 2
    await desk.until(lambda: desk.broker_position() == 0, 10)
    await desk.pass_(10)
    assert desk.position() == 0
    assert desk.exchange.open_orders(PAPER) == ()
    assert all(o.state in (OrderState.FILLED, OrderState.DENIED, OrderState.ABANDONED) for o in desk.orders(Role.ENTRY))


async def test_s22_a_position_list_that_lags_never_makes_an_exit_an_opening(make_desk: MakeDesk) -> None:
    """The list is three seconds behind the fills, as the adapter declares: exit and entry in turn never flip."""
    desk = await make_desk(capabilities=Capabilities(settle_ms=3_000)).start()
    past: list[tuple[int, tuple[BrokerPosition, ...]]] = [(0, ())]
    desk.exchange.listen(PAPER, lambda _: past.append((desk.clock.now(), desk.exchange.positions(PAPER))))
    positions = desk.manager.positions

    async def lagging() -> Report[BrokerPosition]:
        answer = await positions()
        shown = desk.clock.now() - 2_900
        return replace(answer, rows=[rows for at, rows in past if at <= shown][-1])

    desk.manager.positions = lagging  # type: ignore[method-assign]
    held: list[Decimal] = []
    desk.exchange.listen(PAPER, lambda _: held.append(desk.broker_position()))
    await in_position(desk)
    for _ in range(2):
        desk.strategies[ES].script += [leave, enter()]
        await desk.next_candle(ES, "5000")
        await desk.until(lambda: desk.broker_position() == 0, 12)
        await desk.next_candle(ES, "5000")
        await desk.until(lambda: desk.broker_position() == 2, 12)
    await desk.send(lambda o: c.Flatten(origin=o, session=SESSION))
    await desk.until(lambda: desk.broker_position() == desk.position() == 0, 20)
    await desk.pass_(20)
    assert min(held) == 0
    assert max(held) == 2
    assert desk.broker_position() == desk.position() == 0
    assert desk.exchange.open_orders(PAPER) == ()


# -- cancels and replaces ----------------------------------------------------------------------------------


async def test_s24_a_cancel_of_what_the_broker_has_forgotten_is_settled_and_harms_nobody(make_desk: MakeDesk) -> None:
    desk = await resting(make_desk())
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.broker_id is not None
    log = cancels(desk)
    book = desk.exchange.book
    for broker_id in list(book.orders):
        del book.orders[broker_id]
        book.resting[ES].pop(broker_id, None)
    await desk.send(lambda o: c.CancelOrder(origin=o, order=entry.client_id))
    await desk.until(lambda: not [o for o in desk.orders() if o.is_open], 60)
    await keep_fresh(desk, 120)
    assert entry_states(desk) == [OrderState.CANCELLED]
    assert len(log) <= 6
    for row in desk.snapshot().disagreements:
        await desk.send(lambda o, row=row: c.Acknowledge(origin=o, disagreement=row.id))  # type: ignore[misc]
    await in_position(desk)


# Where a replace counts what remains, the fill that crosses it makes the order larger by as much. The declared brokers
# count totals; one that does not needs its size put right after the answer before it is traded on.
@pytest.mark.parametrize("broker", [name for name in BROKERS if "remaining" not in name])
async def test_s26_a_fill_inside_a_modify_is_counted_once(make_desk: MakeDesk, broker: str) -> None:
    desk = await resting(make_desk(capabilities=BROKERS[broker]), "4999")
    change = desk.manager.replace

    async def crossed(*arguments: Any) -> object:
        if desk.exchange.max_fill is None:
            desk.exchange.max_fill = Decimal(1)
            desk.exchange.on_tick(Tick(ES, desk.clock.now(), Decimal(4999), Decimal(1)))
        return await change(*arguments)

    desk.manager.replace = crossed  # type: ignore[method-assign, assignment]
    (entry,) = desk.orders(Role.ENTRY)
    await desk.send(lambda o: c.ModifyOrder(origin=o, order=entry.client_id, limit=Decimal(4997), reason="lower"))
    desk.manager.replace = change  # type: ignore[method-assign]
    await desk.until(lambda: desk.position() == 1, 8)
    await desk.pass_(8)
    (entry,) = desk.orders(Role.ENTRY)
    assert (entry.filled, entry.remaining) == (Decimal(1), Decimal(1))
    assert stops(desk) == [(Decimal(1), Decimal(4990))]
    desk.exchange.max_fill = None
    desk.feed.trade(ES, "4997")
    await desk.until(lambda: desk.broker_position() == desk.position(), 10)
    await desk.pass_(8)
    assert desk.position() == desk.broker_position() == 2
    assert stops(desk) == [(Decimal(2), Decimal(4990))]
    assert [o.state for o in desk.orders(Role.ENTRY)] == [OrderState.FILLED]
    assert not [row for row in desk.snapshot().disagreements if row.state is DisagreementState.ADOPTED]


@pytest.mark.parametrize("lost", [1, 1_000])
async def test_s27_after_a_kill_what_still_rests_is_known_and_asked_for_again(make_desk: MakeDesk, lost: int) -> None:
    """The cancel never arrives, once or ever: it is verified, repeated, and whoever cannot end it says so."""
    desk = await resting(make_desk())
    log = submits(desk)
    asked: list[object] = []
    cancel = desk.manager.cancel

    async def dropped(broker_id: Any) -> object:
        asked.append(broker_id)
        if len(asked) <= lost:
            raise AnswerLost("the connection broke")
        return await cancel(broker_id)

    desk.manager.cancel = dropped  # type: ignore[method-assign, assignment]
    desk.strategies[ES].script += [enter()] * 3
    await desk.send(lambda o: c.Kill(origin=o))
    await keep_fresh(desk, 90)
    if lost == 1:
        assert desk.exchange.open_orders(PAPER) == ()
        assert desk.orders(Role.ENTRY)[0].state is OrderState.CANCELLED
    else:
        (entry, *_) = desk.orders(Role.ENTRY)
        assert entry.is_open
        assert entry.client_id in alerts(desk)
        assert 3 <= len(asked) <= 12
    assert log == []


async def test_s28_filled_after_it_was_cancelled_is_booked_flagged_and_protected(make_desk: MakeDesk) -> None:
    desk = await resting(make_desk())
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.broker_id is not None
    await desk.send(lambda o: c.CancelOrder(origin=o, order=entry.client_id))
    await desk.until(lambda: entry_states(desk) == [OrderState.CANCELLED], 5)
    await desk.pass_(10)
    desk.exchange._fill(desk.exchange.book.orders[entry.broker_id], Decimal(2), Decimal(4995))
    desk.exchange.commit()
    await desk.until(lambda: desk.position() == 2, 5)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 10)
    await desk.pass_(5)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.filled == 2
    assert Flag.LATE_FILL in entry.flags
    assert stops(desk) == [(Decimal(2), Decimal(4990))]
    assert entry.client_id in alerts(desk)
    assert desk.broker_position() == 2


# -- the line is down --------------------------------------------------------------------------------------


async def test_s29_what_could_not_leave_in_time_never_leaves(make_desk: MakeDesk) -> None:
    """The entry meets a cut line: when the line is back a minute later, the order is not what it was decided on."""
    desk = await make_desk().start()
    log = submits(desk)
    await desk.clock.advance(desk.clock.now() - desk.clock.now() % MINUTE + MINUTE - 1_000)
    desk.faults.inject("disconnect-account", None, "61")
    desk.strategies[ES].script.append(enter())
    await desk.next_candle(ES, "5000")
    await keep_fresh(desk, 120)
    (entry,) = desk.orders(Role.ENTRY)
    assert entry.state in (OrderState.DENIED, OrderState.ABANDONED)
    assert entry.sent is None
    assert (log, roots(desk)) == ([], ())
    assert desk.snapshot().heat.reservations == ()


@pytest.mark.parametrize("broker", ["default", "no conversion", "no conversion, no brackets"])
async def test_s30_with_the_line_down_entries_are_denied_and_the_exit_goes_when_it_is_up(
    make_desk: MakeDesk, broker: str
) -> None:
    desk = await in_position(make_desk(capabilities=BROKERS[broker]))
    await desk.clock.advance(desk.clock.now() - desk.clock.now() % MINUTE + MINUTE - 1_000)
    desk.faults.inject("disconnect-account", None, "110")
    desk.strategies[ES].script += [enter(stop="4985"), leave]
    await desk.next_candle(ES, "5000")
    await desk.pass_(1)
    entry = desk.orders(Role.ENTRY)[1]
    assert entry.state is OrderState.DENIED
    assert "link" in entry.reason
    await desk.next_candle(ES, "5000")
    await desk.pass_(5)
    assert desk.broker_position() == 2
    await desk.until(lambda: desk.broker_position() == 0, 60)
    await desk.pass_(10)
    sold = [o for o in desk.exchange.orders_since(PAPER, 0) if o.terms.side is Side.SELL and o.filled]
    assert sum(o.filled for o in sold) == 2
    assert desk.position() == 0
    assert desk.exchange.open_orders(PAPER) == ()

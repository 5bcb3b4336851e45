"""Flow 4, positions: the broker wins, on evidence that is fresh, complete and seen twice."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise

import pytest

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import Capabilities, FillsKind, IdMode
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.ids import SessionId
from engine.domain.orders import OrderState, OrderType, Role
from engine.domain.risk import IncompleteHeat
from engine.domain.settings import Numbers
from engine.errors import QueryFailed
from tests.flows.acts import kill, next_life, stored
from tests.flows.harness import ES, NQ, PAPER, Desk
from tests.flows.script import enter, in_position

MakeDesk = Callable[..., Desk]


def rows(desk: Desk) -> tuple[Disagreement, ...]:
    return desk.snapshot().disagreements


async def kept(desk: Desk) -> list[tuple[object, ...]]:
    """Disagreements in the database, read past the engine."""
    return await stored(desk, "SELECT id, kind, state, memory, broker FROM disagreements ORDER BY id")


def sent(desk: Desk) -> list[str]:
    """Every order the engine submits from now on."""
    log: list[str] = []
    submit, replace, cancel = desk.manager.submit, desk.manager.replace, desk.manager.cancel

    async def submitted(request: object) -> object:
        log.append(f"submit {request}")
        return await submit(request)  # type: ignore[arg-type]

    async def replaced(*arguments: object) -> object:
        log.append(f"replace {arguments}")
        return await replace(*arguments)  # type: ignore[arg-type]

    async def cancelled(broker_id: object) -> object:
        log.append(f"cancel {broker_id}")
        return await cancel(broker_id)  # type: ignore[arg-type]

    desk.manager.submit = submitted  # type: ignore[method-assign, assignment]
    desk.manager.replace = replaced  # type: ignore[method-assign, assignment]
    desk.manager.cancel = cancelled  # type: ignore[method-assign, assignment]
    return log


async def keep_fresh(desk: Desk, seconds: float) -> None:
    """Let time pass with a trade every five seconds."""
    end = desk.clock.now() + round(seconds * 1000)
    while desk.clock.now() < end:
        desk.feed.trade(ES, "5000")
        await desk.pass_(min(5, (end - desk.clock.now()) / 1000))


async def test_r7_the_broker_is_the_source_of_truth(make_desk: MakeDesk) -> None:
    """The margin desk takes a contract: shown in 31 s, adopted in 45, entries wait until somebody has seen it."""
    desk = await in_position(make_desk())
    moved = desk.clock.now()
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: len(rows(desk)) == 1, 31)
    (row,) = rows(desk)
    assert row.state is DisagreementState.SEEN
    assert (row.kind, row.memory, row.broker) == (DisagreementKind.POSITION, "2", "1")
    assert (row.account, row.session, row.symbol) == (PAPER, SessionId("s-ESZ6"), ES)
    assert row.position_effect == -1
    assert row.blocks_entries
    assert row.query == f"positions, begun {row.read[2]}"
    assert row.done == "reading again; executions and orders asked for"
    assert row.first_seen <= row.updated == row.read[1]
    assert moved <= row.read[2] <= row.first_seen == row.read[0]
    assert desk.position() == 2
    assert desk.blocks()
    await desk.until(lambda: desk.position() == 1, 45 - (desk.clock.now() - moved) / 1000)
    await desk.pass_(1)
    (row,) = rows(desk)
    assert row.state is DisagreementState.ADOPTED
    assert (row.memory, row.database, row.broker) == ("2", "2", "1")
    assert row.position_effect == -1
    assert all(row.read)
    desk.strategies[ES].script += [enter(quantity="1", stop="4985")] * 3
    await desk.next_candle(ES, "5000")
    await keep_fresh(desk, 70)
    denied = desk.orders(Role.ENTRY)[1:]
    assert denied
    assert all(o.state is OrderState.DENIED for o in denied)
    assert len(rows(desk)) == 1
    receipt = await desk.send(lambda o: c.Acknowledge(origin=o, disagreement=row.id, note="margin call"))
    assert receipt.taken, receipt.message
    desk.feed.trade(ES, "5000")
    await desk.pass_(1)
    assert desk.blocks() == ()
    (row,) = rows(desk)
    assert (row.acknowledged_by, row.note) == ("test", "margin call")
    await desk.real_store.settled()
    assert await kept(desk) == [(row.id, "position", "adopted", "2", "1")]
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 8)


async def test_a_first_mismatch_says_that_the_database_is_being_read(make_desk: MakeDesk) -> None:
    """Until the third value is there, nobody takes its absence for a value."""
    desk = await in_position(make_desk())
    told: list[str] = []
    ledger = desk.engine.accounts[PAPER].ledger
    put = ledger.put

    def noted(disagreement: Disagreement) -> Disagreement:
        told.append(disagreement.database)
        return put(disagreement)

    ledger.put = noted  # type: ignore[method-assign]
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: len(told) >= 2, 31)
    assert told[:2] == ["reading", "2"]


async def test_stop_and_target_follow_an_adopted_position(make_desk: MakeDesk) -> None:
    """Each as large as what is left: more would turn the position round."""
    desk = await in_position(make_desk(), enter(target="5050"))
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: desk.position() == 1, 45)
    await desk.pass_(5)
    left = {o.terms.type: o.terms.quantity for o in desk.exchange.open_orders(PAPER)}
    assert left == {OrderType.STOP: 1, OrderType.LIMIT: 1}


async def test_reconciliation_corrects_belief_and_never_places_an_order(make_desk: MakeDesk) -> None:
    """Flat in memory, long at the broker: believed, shown, alarmed, and nothing is sent."""
    desk = await make_desk().start()
    log = sent(desk)
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(3), desk.clock.now())
    await desk.until(lambda: desk.position() == 3, 45)
    await desk.pass_(30)
    assert log == []
    assert desk.broker_position() == 3
    assert desk.blocks()
    assert any("NAKED 3" in alert.text for alert in desk.engine.board.alerts())
    assert desk.snapshot().heat.contributions[0].unprotected == 7500


async def test_one_different_answer_alone_is_not_adopted(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: len(rows(desk)) == 1, 31)
    desk.faults.inject("margin-desk", ES, "-1")
    await keep_fresh(desk, 40)
    (row,) = rows(desk)
    assert row.state is DisagreementState.PASSED
    assert desk.position() == 2
    assert desk.blocks() == ()


async def test_a_difference_that_changes_starts_anew(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: len(rows(desk)) == 1, 31)
    await desk.pass_(1)
    desk.faults.inject("margin-desk", ES, "1")
    await desk.pass_(1.5)
    assert desk.position() == 2
    await desk.until(lambda: desk.position() == 0, 10)
    states = sorted(row.state for row in rows(desk))
    assert states == [DisagreementState.ADOPTED, DisagreementState.PASSED]


async def test_a_second_compare_is_empty(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: desk.position() == 1, 45)
    await desk.pass_(10)
    await desk.real_store.settled()
    before = await kept(desk), len(rows(desk)), [(o.client_id, o.revision) for o in desk.orders()]
    for _ in range(3):
        await desk.send(lambda o: c.ReconcileNow(origin=o))
        await desk.pass_(4)
    await desk.pass_(320)
    await desk.real_store.settled()
    assert (await kept(desk), len(rows(desk)), [(o.client_id, o.revision) for o in desk.orders()]) == before


async def test_reconcile_now_asks_at_once(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.faults.inject("margin-desk", ES, "1")
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: len(rows(desk)) == 1, 1)
    await desk.until(lambda: desk.position() == 1, 4)


FILLS = {
    "executions": Capabilities(),
    "cumulative": Capabilities(fills=FillsKind.CUMULATIVE),
    "tag-less": Capabilities(id_mode=IdMode.NONE, find_by_client_id=False),
    "tag-less, cumulative": Capabilities(id_mode=IdMode.NONE, find_by_client_id=False, fills=FillsKind.CUMULATIVE),
}


@pytest.mark.parametrize("broker", FILLS)
async def test_e1_a_dropped_fill_is_found_and_booked_as_a_fill_not_adopted(make_desk: MakeDesk, broker: str) -> None:
    desk = await make_desk(capabilities=FILLS[broker]).start()
    desk.strategies[ES].script.append(enter(limit="4998"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(5)
    desk.faults.inject("drop-fill", None, "")
    desk.feed.trade(ES, "4998")
    await desk.pass_(0.5)
    assert desk.broker_position() == 2
    assert desk.position() == 0
    await desk.until(lambda: desk.position() == 2, 45)
    await keep_fresh(desk, 10)
    entry = desk.orders(Role.ENTRY)[0]
    assert (entry.state, entry.filled, entry.average_price) == (OrderState.FILLED, Decimal(2), Decimal(4998))
    told = {(row.kind, row.state) for row in rows(desk)}
    if broker == "executions":
        assert told <= {(DisagreementKind.MISSING_FILL, DisagreementState.EXPLAINED)}
    else:  # or the order's own record told it, and the next read agreed
        explained = (DisagreementKind.MISSING_FILL, DisagreementState.EXPLAINED)
        assert told <= {explained, (DisagreementKind.POSITION, DisagreementState.PASSED)}
    assert desk.trader().counters.fills == 1
    assert desk.blocks() == ()


@pytest.mark.parametrize("broker", FILLS)
async def test_e3_events_lost_in_a_disconnect_are_asked_for_after_it(make_desk: MakeDesk, broker: str) -> None:
    desk = await in_position(make_desk(capabilities=FILLS[broker]))
    desk.faults.inject("disconnect-account", None, "15")
    desk.feed.trade(ES, "4989")
    await desk.pass_(5)
    assert desk.position() == 2
    assert desk.broker_position() == 0
    await desk.until(lambda: desk.position() == 0, 20)
    await desk.pass_(10)
    stop = desk.orders(Role.STOP)[0]
    assert (stop.state, stop.filled) == (OrderState.FILLED, Decimal(2))
    failed = desk.snapshot().accounts[0].failed_queries
    await desk.pass_(20)
    assert desk.snapshot().accounts[0].failed_queries == failed
    assert not [row for row in rows(desk) if row.state is DisagreementState.ADOPTED]


@pytest.mark.parametrize("broker", FILLS)
async def test_a_life_that_ended_with_orders_at_work_starts_again(make_desk: MakeDesk, broker: str) -> None:
    first = await in_position(make_desk(capabilities=FILLS[broker]))
    await first.stop()
    second = make_desk(now=first.clock.now() + 5_000, capabilities=FILLS[broker])
    second.feed.market = first.feed.market
    second.feed.trade(ES, "4989")  # the stop fills between two lives
    await second.start()
    assert second.position() == second.broker_position() == 0
    await second.pass_(5)
    stop = next(o for o in second.orders(Role.STOP))
    assert (stop.state, stop.filled) == (OrderState.FILLED, Decimal(2))


async def test_e11_a_bust_is_taken_back_and_told(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.faults.inject("bust-fill", ES, "")
    await desk.pass_(3)
    assert desk.position() == desk.broker_position() == 0
    assert any("busted" in alert.text for alert in desk.engine.board.alerts())
    await desk.pass_(40)
    assert desk.position() == 0
    assert desk.exchange.open_orders(PAPER) == ()


async def test_r6_an_external_close_to_flat_blocks_a_new_entry_until_acknowledged(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.faults.inject("margin-desk", ES, "2")
    await desk.until(lambda: desk.position() == 0, 45)
    await desk.pass_(5)
    assert desk.exchange.open_orders(PAPER) == ()
    desk.strategies[ES].script += [enter(), enter()]
    await desk.next_candle(ES, "5000")
    await desk.pass_(3)
    assert desk.orders(Role.ENTRY)[-1].state is OrderState.DENIED
    assert desk.broker_position() == 0
    (row,) = [row for row in rows(desk) if row.kind is DisagreementKind.POSITION]
    assert "closed" in row.done
    assert row.pnl_effect is not None
    await desk.send(lambda o: c.Acknowledge(origin=o, disagreement=row.id))
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 8)


async def test_the_wait_for_an_acknowledgement_survives_a_restart(make_desk: MakeDesk) -> None:
    first = await in_position(make_desk())
    first.faults.inject("margin-desk", ES, "2")
    await first.until(lambda: first.position() == 0, 45)
    await first.pass_(5)
    await first.stop()
    second = make_desk(now=first.clock.now())
    second.feed.market = first.feed.market
    await second.start()
    assert any("position" in block for block in second.blocks())
    (row,) = rows(second)
    await second.send(lambda o: c.Acknowledge(origin=o, disagreement=row.id))
    await second.pass_(1)
    assert second.blocks() == ()


async def test_a_reversal_behind_our_back_is_named_so(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(-3), desk.clock.now())
    await desk.until(lambda: any(row.kind is DisagreementKind.REVERSAL for row in rows(desk)), 31)
    await desk.until(lambda: desk.position() == -1, 14)
    await desk.pass_(5)
    sells = [o for o in desk.exchange.open_orders(PAPER) if o.terms.side.sign < 0]
    assert sells == []


async def test_a_position_no_session_owns_counts_in_heat_and_is_left_alone(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.feed.trade(NQ, "20000")
    log = sent(desk)
    before = desk.snapshot().heat
    out_of_band.move_position(desk.exchange, PAPER, NQ, Decimal(2), desk.clock.now())
    await desk.until(lambda: len(rows(desk)) == 1, 31)
    (row,) = rows(desk)
    assert (row.kind, row.symbol, row.session, row.broker) == (DisagreementKind.UNKNOWN_POSITION, NQ, None, "2")
    heat = desk.snapshot().heat
    assert sum(u.total for u in heat.unowned) == 8000
    assert heat.heat != before.heat
    assert not isinstance(heat.heat, IncompleteHeat)
    await desk.pass_(60)
    assert log == []
    out_of_band.move_position(desk.exchange, PAPER, NQ, Decimal(-2), desk.clock.now())
    await desk.until(lambda: desk.snapshot().heat.unowned == (), 31)
    (row,) = rows(desk)
    assert row.state is DisagreementState.PASSED


@pytest.mark.parametrize("fault", ["failed", "truncated", "stale"])
async def test_r5_a_bad_answer_changes_nothing_but_a_counter(make_desk: MakeDesk, fault: str) -> None:
    desk = await in_position(make_desk())
    if fault == "stale":
        desk.faults.inject("margin-desk", ES, "1")
        await desk.until(lambda: desk.position() == 1, 45)
        await desk.pass_(5)
        out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(1), desk.clock.now())
    else:
        desk.faults.inject("margin-desk", ES, "1")
    until = desk.clock.now() + 120_000
    field = {"failed": "fail_queries_until", "truncated": "truncate_queries_until", "stale": "stale_queries_until"}
    setattr(desk.link.armed, field[fault], until)
    position, count = desk.position(), len(rows(desk))
    orders = [(o.client_id, o.revision) for o in desk.orders()]
    failed = desk.snapshot().accounts[0].failed_queries
    confirmed = desk.trader().desk.book.confirmed_at
    await desk.pass_(115)
    assert desk.position() == position
    assert len(rows(desk)) == count
    assert [(o.client_id, o.revision) for o in desk.orders()] == orders
    assert desk.trader().desk.book.confirmed_at == confirmed
    assert desk.snapshot().accounts[0].failed_queries > failed
    await desk.until(lambda: desk.position() == desk.broker_position(), 50)


async def test_r9_a_stale_answer_is_not_believed_against_a_newer_one(make_desk: MakeDesk) -> None:
    """An old picture of the account comes again and again: what was learnt since is not undone."""
    desk = await in_position(make_desk())
    await desk.pass_(40)
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: desk.position() == 1, 45)
    old = desk.link._last_reports["positions"]
    assert old.rows
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(1), desk.clock.now())
    await desk.until(lambda: desk.position() == 2, 45)
    await desk.pass_(5)
    desk.link._last_reports["positions"] = old
    desk.link.armed.stale_queries_until = desk.clock.now() + 60_000
    await desk.pass_(59)
    assert desk.position() == 2


async def test_a_contract_too_busy_to_be_checked_has_its_entries_held(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(numbers=Numbers(quiet=20.0)))
    road = desk.trader().desk.road
    end = desk.clock.now() + 60_000
    while desk.clock.now() < end:
        road.touched(ES)
        desk.feed.trade(ES, "5000")
        await desk.pass_(0.15)
    assert any("too busy" in block for block in desk.blocks())
    await keep_fresh(desk, 5)
    assert desk.blocks() == ()


async def test_a_difference_that_an_earlier_life_only_saw_does_not_hold_the_next_one(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: [row.state for row in rows(desk)] == [DisagreementState.SEEN], 31)
    await desk.real_store.settled()
    await kill(desk)
    desk.faults.inject("margin-desk", ES, "-1")
    again = await next_life(desk, make_desk)
    await again.until(lambda: [row.state for row in rows(again)] == [DisagreementState.PASSED], 60)
    assert again.position() == 2
    assert again.blocks() == ()
    await again.real_store.settled()
    assert [state for _, _, state, _, _ in await kept(again)] == ["passed"]


@pytest.mark.parametrize(("question", "usual"), [("positions", 30), ("open_orders", 300)])
async def test_a_question_without_a_complete_answer_is_asked_again_soon(
    make_desk: MakeDesk, question: str, usual: int
) -> None:
    """Not in half a minute or five: until then nobody knows whether memory is right."""
    desk = await make_desk().start()
    asked: list[int] = []
    ask = getattr(desk.manager, question)

    async def failing() -> object:
        asked.append(desk.clock.now())
        if len(asked) < 4:
            raise QueryFailed("503")
        return await ask()

    setattr(desk.manager, question, failing)
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    await desk.until(lambda: len(asked) == 5, usual + 30)
    waits = [round((at - before) / 1000) for before, at in pairwise(asked)]
    assert waits == [2, 4, 8, usual]


async def test_a_difference_is_adopted_after_ten_seconds_though_no_order_was_told(make_desk: MakeDesk) -> None:
    """What would explain it is asked for first, but a list that never comes holds nothing up for longer."""
    desk = await in_position(make_desk())

    async def failing() -> object:
        raise QueryFailed("503")

    desk.manager.open_orders = failing  # type: ignore[method-assign, assignment]
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: len(rows(desk)) == 1, 31)
    seen = desk.clock.now()
    await desk.until(lambda: desk.position() == 1, 15)
    assert 9_000 <= desk.clock.now() - seen <= 14_000

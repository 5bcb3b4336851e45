"""Who commands an account: taking, renewing, losing, and what still leaves meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace as changed

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import Capabilities, SubmitAnswer
from engine.domain.ids import AccountId, BrokerOrderId, SessionId
from engine.domain.intents import IntentRecord
from engine.domain.lease import Holder
from engine.domain.orders import OrderType, Role, Side, Terms
from engine.domain.records import LatchKind, LatchSet
from engine.domain.settings import ShutdownPolicy
from engine.errors import DeskHeld
from engine.outbound.exit_road import ExitResult, Failed
from engine.persistence.store import SqlStore
from engine.ports import Committed, NotHolder, Taken
from engine.session import NotSent
from engine.snapshot import Phase, ProtectionState
from tests.flows.acts import (
    FailingStore,
    alerts,
    enter,
    failing,
    finished,
    hold,
    kill,
    leave,
    next_life,
    next_window,
    rows,
    working,
)
from tests.flows.harness import ES, IDLE, PAPER, Desk

Make = Callable[..., Desk]
ELSEWHERE = Holder("process 7 on another machine", "far away")
THERE: dict[str, Any] = {"holder": ELSEWHERE, "locks": "locks-there"}  # flock does not reach another machine


def sql_store(desk: Desk) -> SqlStore:
    assert isinstance(desk.real_store, SqlStore)
    return desk.real_store


async def taken_by_another(desk: Desk) -> None:
    """An engine on another machine takes the account over, past every lock of this one."""
    account = desk.engine.accounts[PAPER]
    with desk.clock.outside():
        assert await sql_store(desk).take_lease(PAPER, ELSEWHERE, account.lease.epoch) == account.lease.epoch + 1


async def seen_at_broker(desk: Desk) -> int:
    """How many orders the broker has ever been sent."""
    return len(desk.exchange.orders_since(PAPER, 0))


async def test_another_holder_stops_every_command_and_is_named(make_desk: Make) -> None:
    desk = await make_desk().start()
    await hold(desk)
    stop = working(desk, Role.STOP)
    sent = await seen_at_broker(desk)
    await taken_by_another(desk)
    await desk.until(lambda: desk.engine.lost.done(), 4)
    assert "process 7 on another machine" in alerts(desk)
    assert "process 7 on another machine" in " ".join(desk.blocks())
    for make in (
        lambda o: c.Flatten(origin=o, session=None),
        lambda o: c.Kill(origin=o),
        lambda o: c.CancelEntries(origin=o, session=None),
    ):
        receipt = await desk.send(make)
        assert not receipt.taken
        assert "process 7 on another machine" in receipt.message
    desk.strategies[ES].script.append(leave)
    await next_window(desk)
    await desk.pass_(30)
    assert await seen_at_broker(desk) == sent
    assert desk.exchange.open_orders(PAPER)[0].broker_id == stop[0].broker_id
    await desk.stop(ShutdownPolicy.FLATTEN)
    assert await seen_at_broker(desk) == sent


async def test_what_the_loser_still_had_to_write_is_not_written_over_the_winners_rows(make_desk: Make) -> None:
    desk = await make_desk().start()
    await hold(desk)
    before = await rows(desk, "SELECT count(*) FROM log")
    await taken_by_another(desk)
    store = sql_store(desk)
    store.seal("held by another")
    desk.feed.trade(ES, "4980")  # the stop fills: a fact that the winner books
    await desk.pass_(2)
    assert desk.position() == 0
    with desk.clock.outside():
        assert await store._read().query("SELECT count(*) FROM log") == before


async def test_unable_to_renew_is_not_lost_entries_stop_and_exits_go(make_desk: Make) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    store = failing(desk)
    store.down = True
    await desk.until(lambda: any("lease is not confirmed" in reason for reason in desk.blocks()), 20)
    sent = await seen_at_broker(desk)
    desk.strategies[ES].script.append(enter())
    await next_window(desk)
    assert await seen_at_broker(desk) == sent
    asked = desk.clock.now()
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=None))
    assert receipt.taken
    await desk.until(lambda: desk.broker_position() == 0, 3)
    assert desk.clock.now() - asked < 3_000
    assert (await finished(desk, receipt.id)).ok
    store.back()
    await desk.until(lambda: not any("lease" in reason for reason in desk.blocks()), 10)
    assert not desk.engine.lost.done()


async def test_after_standing_still_an_exit_asks_who_commands_before_it_leaves(make_desk: Make) -> None:
    desk = await make_desk().start()
    await hold(desk)
    sent = await seen_at_broker(desk)
    await taken_by_another(desk)
    desk.clock._now += 60_000  # the process stood still: no timer has fired yet
    exiting = asyncio.ensure_future(desk.trader().exits.leave("test", None, "by test"))
    await desk.pass_(5)
    assert desk.engine.lost.done()
    assert await seen_at_broker(desk) == sent
    exiting.cancel()


async def test_standing_still_over_the_question_who_commands_is_no_silence(make_desk: Make) -> None:
    """The process stops again before the answer comes: what fell due meanwhile says nothing about the database."""

    class Slow(Wrapped):
        async def renew_lease(self, account: AccountId, epoch: int) -> bool:
            if standing and not asked.is_set():
                asked.set()
                await asyncio.Event().wait()
            renewed: bool = await self.real.renew_lease(account, epoch)
            return renewed

    asked = asyncio.Event()
    standing: list[bool] = []
    desk = await make_desk(wrap_store=Slow).start()
    lease = desk.engine.accounts[PAPER].lease
    standing.append(True)
    desk.clock._now += 60_000
    waiting = asyncio.ensure_future(lease.why_nothing(0.25))
    await asked.wait()
    await taken_by_another(desk)
    desk.clock._now += 60_000
    await desk.until(waiting.done, 10)
    assert "process 7 on another machine" in (waiting.result() or "")


async def stand_still_in_an_exit(desk: Desk) -> asyncio.Future[ExitResult]:
    """The exit waits for the proof that its stop is gone; then a minute passes, and the database is away."""
    cancel, asked, proven = desk.manager.cancel, asyncio.Event(), asyncio.Event()

    async def slow(broker_id: BrokerOrderId) -> SubmitAnswer:
        asked.set()
        await proven.wait()
        return await cancel(broker_id)

    desk.manager.cancel = slow  # type: ignore[method-assign]
    exiting = asyncio.ensure_future(desk.trader().exits.leave("test", None, "by test"))
    await desk.until(asked.is_set, 5)
    failing(desk).down = True
    desk.clock._now += 60_000
    desk.manager.cancel = cancel  # type: ignore[method-assign]
    proven.set()
    return exiting


async def test_an_exit_of_before_standing_still_does_not_go_on_while_nobody_says_who_commands(make_desk: Make) -> None:
    """Somebody may have taken over and act on the same position; what is asked for now leaves as ever."""
    desk = await make_desk(wrap_store=FailingStore, capabilities=Capabilities(replace_may_change_type=False)).start()
    await hold(desk)
    exiting = await stand_still_in_an_exit(desk)
    await desk.until(exiting.done, 30)
    result = exiting.result()
    assert isinstance(result, Failed)
    assert "before the process stood still" in result.text
    assert desk.broker_position() == 2
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=None))
    assert receipt.taken
    await desk.until(lambda: desk.broker_position() == 0, 8)


async def test_a_stop_whose_exit_does_not_go_on_is_not_cancelled_either(make_desk: Make) -> None:
    desk = await make_desk(wrap_store=FailingStore, capabilities=Capabilities(replace_may_change_type=False)).start()
    await hold(desk)
    (stop,) = working(desk, Role.STOP)
    session = desk.trader().desk
    session.put(lifecycle.cancel_wanted(stop, desk.clock.now(), "leaving"), "cancel wanted")
    failing(desk).down = True
    desk.clock._now += 60_000
    await desk.pass_(30)
    assert session.lease.is_unanswered
    assert desk.exchange.open_orders(PAPER)[0].broker_id == stop.broker_id
    failing(desk).back()
    await desk.until(lambda: not session.current(stop).is_open, 10)


async def test_a_strategy_wants_nothing_until_somebody_says_who_commands_since_it_stood_still(make_desk: Make) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    failing(desk).down = True
    desk.clock._now += 60_000
    desk.engine.resumed(60)
    desk.strategies[ES].script.append(leave)
    for _ in range(3):
        await next_window(desk)
    assert desk.trader().desk.phase is Phase.SUBSCRIBING
    assert "who commands" in desk.trader().desk.phase_detail
    assert desk.broker_position() == 2
    failing(desk).back()
    await desk.until(lambda: desk.trader().desk.phase is Phase.TRADING, 60)


@pytest.mark.parametrize("another", [True, False])
async def test_while_nobody_says_who_commands_a_bare_position_is_guarded_once(make_desk: Make, another: bool) -> None:
    """Another engine may have the account: its stop is looked for at the broker before one of ours stands beside it."""
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    (stop,) = working(desk, Role.STOP)
    failing(desk).down = True
    await desk.until(lambda: any("lease is not confirmed" in reason for reason in desk.blocks()), 20)
    desk.feed.trade(ES, "5000")
    assert stop.broker_id is not None
    desk.exchange.cancel(PAPER, stop.broker_id, desk.clock.now())
    if another:
        await desk.pass_(1)
        out_of_band.place_foreign(desk.exchange, PAPER, stop.terms, desk.clock.now())
    await desk.until(lambda: len(desk.exchange.open_orders(PAPER)) == 1, 5)
    await desk.until(
        lambda: desk.trader().desk.protection is (ProtectionState.NAKED if another else ProtectionState.COVERED), 10
    )
    await desk.pass_(10)
    assert len(desk.exchange.open_orders(PAPER)) == 1
    assert len(working(desk, Role.STOP)) == (0 if another else 1)
    assert ("of another rests" in alerts(desk)) is another


@pytest.mark.parametrize(("size", "placed"), [(2, []), (1, [1])])
async def test_who_took_over_on_a_word_guards_what_no_stop_of_another_does(
    make_desk: Make, size: int, placed: list[int]
) -> None:
    """The word may be wrong: the engine before may live without its database, and have armed the same position."""
    first = await make_desk().start()
    await hold(first)
    await kill(first)
    desk = await next_life(first, make_desk, take_over=True, **THERE)
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 20)
    (stop,) = working(desk, Role.STOP)
    theirs = changed(stop.terms, quantity=Decimal(size))
    foreign = out_of_band.place_foreign(desk.exchange, PAPER, theirs, desk.clock.now())
    assert stop.broker_id is not None
    desk.exchange.cancel(PAPER, stop.broker_id, desk.clock.now())
    await desk.pass_(12)
    assert [o.terms.quantity for o in working(desk, Role.STOP)] == placed
    assert sum(o.terms.quantity for o in desk.exchange.open_orders(PAPER)) == 2
    assert desk.trader().desk.protection is ProtectionState.NAKED, "what another may take away again is no cover"
    assert f"stop {foreign} of another rests" in alerts(desk)
    out_of_band.cancel_order(desk.exchange, foreign, desk.clock.now(), "by its owner")
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 10)
    assert sum(o.terms.quantity for o in desk.exchange.open_orders(PAPER)) == 2


@pytest.mark.parametrize("another", [True, False])
async def test_while_nobody_says_who_commands_a_stop_does_not_grow_beside_that_of_another(
    make_desk: Make, another: bool
) -> None:
    """Both grown to the whole position, they would close it and then turn it round."""
    desk = make_desk(wrap_store=FailingStore, capabilities=Capabilities(brackets=False), max_fill=Decimal(1))
    await desk.start()
    desk.strategies[ES].script.append(enter(stop="4990", limit="5000"))
    await next_window(desk, ES="5000")
    await desk.until(lambda: desk.trader().desk.protection is ProtectionState.COVERED, 10)
    assert desk.position() == 1
    failing(desk).down = True
    await desk.until(lambda: any("lease is not confirmed" in reason for reason in desk.blocks()), 20)
    (stop,) = working(desk, Role.STOP)
    if another:
        out_of_band.place_foreign(desk.exchange, PAPER, stop.terms, desk.clock.now())
    desk.feed.trade(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 5)
    await desk.pass_(12)
    assert [o.terms.quantity for o in working(desk, Role.STOP)] == [1 if another else 2]
    assert sum(o.terms.quantity for o in desk.exchange.open_orders(PAPER)) == 2
    assert ("of another rests" in alerts(desk)) is another


@pytest.mark.parametrize("by", ["its own key", "flatten"])
async def test_after_standing_still_a_foreign_order_is_not_cancelled_for_another_holder(
    make_desk: Make, by: str
) -> None:
    desk = await make_desk().start()
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(1), type=OrderType.LIMIT, limit=Decimal(4900))
    foreign = out_of_band.place_foreign(desk.exchange, PAPER, terms, desk.clock.now())
    await desk.until(lambda: len(desk.engine.accounts[PAPER].reconciler.foreign) == 1, 10)
    await taken_by_another(desk)
    desk.clock._now += 60_000
    if by == "flatten":
        receipt = await desk.send(lambda o: c.Flatten(origin=o, session=SessionId(f"s-{ES}"), foreign=(foreign,)))
    else:
        receipt = await desk.send(lambda o: c.CancelForeign(origin=o, account=PAPER, order=foreign))
    assert receipt.taken
    await desk.pass_(5)
    assert desk.engine.lost.done()
    assert [o.broker_id for o in desk.exchange.open_orders(PAPER)] == [foreign]


async def test_a_desk_that_lost_one_account_commands_no_other(make_desk: Make) -> None:
    """It only looks on; what left for an account that nobody has taken yet would leave without a record."""
    desk = await make_desk(idle=True).start()
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(1), type=OrderType.LIMIT, limit=Decimal(4900))
    foreign = out_of_band.place_foreign(desk.exchange, IDLE, terms, desk.clock.now())
    await taken_by_another(desk)
    await desk.until(lambda: desk.engine.lost.done(), 4)
    cancelling = asyncio.ensure_future(desk.engine.accounts[IDLE].cancel_foreign(foreign))
    await desk.until(cancelling.done, 5)
    assert isinstance(cancelling.result(), NotSent)
    assert [o.broker_id for o in desk.exchange.open_orders(IDLE)] == [foreign]


async def test_c4_after_standing_still_the_unchallenged_holder_goes_on(make_desk: Make) -> None:
    desk = await make_desk().start()
    await hold(desk)
    desk.clock._now += 60_000
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=None))
    assert receipt.taken
    await desk.until(lambda: desk.broker_position() == 0, 5)
    assert not desk.engine.lost.done()


async def test_a_commit_that_names_another_holder_sends_nothing_from_that_moment(make_desk: Make) -> None:
    class Fenced(Wrapped):
        async def commit(self, intent: IntentRecord) -> Committed | Taken | NotHolder:
            outcome: Committed | Taken | NotHolder = await self.real.commit(intent)
            return NotHolder(ELSEWHERE.name) if self.fenced else outcome

    desk = make_desk(wrap_store=Fenced)
    await desk.start()
    await hold(desk)
    store = desk.engine.store
    assert isinstance(store, Fenced)
    await taken_by_another(desk)
    store.fenced = True
    sent = await seen_at_broker(desk)
    desk.strategies[ES].script.append(leave)
    await next_window(desk)
    await desk.until(lambda: desk.engine.lost.done(), 1)
    assert await seen_at_broker(desk) == sent


class Wrapped:
    """A store of which a test changes one answer."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.fenced = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


# -- taking ----------------------------------------------------------------------------------------------------


async def test_a_dead_engine_of_this_machine_is_followed_at_once_and_its_epoch_is_over(make_desk: Make) -> None:
    first = await make_desk().start()
    await hold(first)
    epoch = first.engine.accounts[PAPER].lease.epoch
    await kill(first)
    second = await next_life(first, make_desk, trading=False)
    assert second.engine.accounts[PAPER].lease.epoch == epoch + 1
    assert second.clock.now() - first.clock.now() < 2_000


async def test_an_engine_that_ended_in_order_leaves_a_lease_that_anybody_may_take(make_desk: Make) -> None:
    first = await make_desk().start()
    await first.stop()
    second = await next_life(first, make_desk, trading=False, **THERE)
    assert second.engine.accounts[PAPER].lease.epoch == 2


async def test_an_engine_of_another_machine_is_taken_over_by_a_typed_word_only(make_desk: Make) -> None:
    first = await make_desk().start()
    await kill(first)
    second = make_desk(symbols=first.symbols, now=first.clock.now(), **THERE)
    with pytest.raises(DeskHeld, match=r"another machine: .*--take-over"):
        await second.start(trading=False)
    await second.stop()
    third = await next_life(first, make_desk, trading=False, take_over=True, **THERE)
    assert third.clock.now() - first.clock.now() >= 10_000  # and only once it had expired
    assert third.engine.accounts[PAPER].lease.epoch == 2


async def waiting_for_a_lease(make_desk: Make, meanwhile: Callable[[Desk], Awaitable[object]]) -> tuple[Desk, Any]:
    """A second engine that waits, with the word, for the lease of a killed one; `meanwhile` happens once, 4 s later."""
    first = await make_desk().start()
    await kill(first)
    other = make_desk(symbols=first.symbols, now=first.clock.now(), take_over=True, **THERE)
    starting = asyncio.ensure_future(other.engine.start())
    happened = False
    while not starting.done():
        await other.clock.advance(other.clock.now() + 100)
        if not happened and other.clock.now() - first.clock.now() > 4_000:
            happened = True
            with other.clock.outside():
                await meanwhile(other)
    return other, starting


async def test_no_word_takes_a_lease_from_an_engine_that_renews_it(make_desk: Make) -> None:
    async def renew(other: Desk) -> None:
        assert await sql_store(other).renew_lease(PAPER, 1)

    _, starting = await waiting_for_a_lease(make_desk, renew)
    with pytest.raises(DeskHeld, match="which is running"):
        await starting


async def test_what_the_holder_before_held_while_the_next_waited_for_its_lease_is_held(make_desk: Make) -> None:
    """A kill and a pause that came after the second engine had started, and before the accounts were its own."""

    async def hold_back(other: Desk) -> None:
        for session, kind in ((None, LatchKind.KILL), (SessionId(f"s-{ES}"), LatchKind.PAUSE)):
            latch = LatchSet(session=session, kind=kind, held=True, reason="by ann", at=other.clock.now(), by="ann")
            await sql_store(other).write(latch)

    other, starting = await waiting_for_a_lease(make_desk, hold_back)
    await starting
    assert other.engine.kill_reason == "by ann"
    assert "pause" in other.trader().desk.blocks


async def test_the_lease_is_renewed_in_place_and_leaves_no_rows(make_desk: Make) -> None:
    desk = await make_desk().start()
    before = await rows(desk, "SELECT count(*) FROM log WHERE kind = 'lease'")
    await desk.pass_(60)
    ((renewed,),) = await rows(desk, "SELECT renewed FROM leases")
    assert renewed >= 15
    assert await rows(desk, "SELECT count(*) FROM log WHERE kind = 'lease'") == before

"""What an operator does by hand: what raises risk is recorded first, what lowers it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import Capabilities, RefusedOrder
from engine.domain.ids import AccountId, CommandId, SessionId
from engine.domain.orders import OrderState, OrderType, Role, Side, Terms
from engine.domain.settings import ShutdownPolicy
from engine.snapshot import Phase
from tests.flows.acts import (
    FailingStore,
    alerts,
    all_agree,
    enter,
    failing,
    finished,
    hold,
    leave,
    next_life,
    next_window,
    procedure,
    rest,
    rows,
    working,
)
from tests.flows.harness import ES, NQ, PAPER, Desk

S_ES, S_NQ = SessionId(f"s-{ES}"), SessionId(f"s-{NQ}")


def market(side: Side, size: str) -> Terms:
    return Terms(symbol=ES, side=side, quantity=Decimal(size), type=OrderType.MARKET)


def inject(desk: Desk, fault: str, argument: str = "") -> None:
    desk.faults.inject(fault, ES, argument)


async def flatten(desk: Desk, session: SessionId | None = S_ES, seconds: float = 70) -> tuple[bool, str, list[str]]:
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=session))
    assert receipt.taken, receipt.message
    done = await finished(desk, receipt.id, seconds)
    return bool(done.ok), done.result, [line for _, line in done.lines]


# -- pause and resume --------------------------------------------------------------------------------------


async def test_pause_cancels_resting_entries_and_keeps_the_stop(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    await rest(desk)
    receipt = await desk.send(lambda o: c.Pause(origin=o, session=S_ES))
    assert receipt.message == "paused; 1 resting entries are being cancelled"
    await desk.until(lambda: working(desk, Role.ENTRY) == [], 5)
    await desk.pass_(8)
    assert [o.terms.quantity for o in working(desk, Role.STOP)] == [2]
    assert [o.terms.type for o in desk.exchange.open_orders(PAPER)] == [OrderType.STOP]
    desk.strategies[ES].script.append(enter())
    await next_window(desk)
    await desk.pass_(2)
    assert desk.orders(Role.ENTRY)[-1].state is OrderState.DENIED
    assert desk.orders(Role.ENTRY)[-1].reason.startswith("paused by test")


async def test_pause_may_keep_resting_entries(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await rest(desk)
    await desk.send(lambda o: c.Pause(origin=o, session=None, keep_resting=True))
    await desk.pass_(5)
    assert len(working(desk, Role.ENTRY)) == 1


async def test_resume_needs_a_reason_and_a_database(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await desk.send(lambda o: c.Pause(origin=o, session=S_ES))
    empty = await desk.send(lambda o: c.Resume(origin=o, session=S_ES, reason="  "))
    assert not empty.taken
    assert "needs a reason" in empty.message
    failing(desk).down = True
    unrecorded = await desk.send(lambda o: c.Resume(origin=o, session=S_ES, reason="fine again"))
    assert not unrecorded.taken
    assert "could not be recorded first" in unrecorded.message
    assert desk.blocks() != ()
    failing(desk).back()
    assert (await desk.send(lambda o: c.Resume(origin=o, session=S_ES, reason="fine again"))).taken
    assert desk.blocks() == ()
    kept = await rows(desk, "SELECT what, operator, reason FROM overrides WHERE what = 'resume'")
    assert kept == [("resume", "test", "fine again")]


# -- commands are idempotent --------------------------------------------------------------------------------


async def test_u7_the_same_id_twice_acts_once(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    origin = c.Origin(id=CommandId("twice"), operator="a", place="b", at=desk.clock.now())
    command = c.SubmitByHand(
        origin=origin, session=S_ES, terms=market(Side.BUY, "1"), is_exit=False, stop_loss=Decimal(4990), reason="more"
    )
    tasks = [asyncio.ensure_future(desk.overrides.dispatch(command)) for _ in range(3)]
    await desk.until(lambda: all(t.done() for t in tasks), 10)
    again = asyncio.ensure_future(desk.overrides.dispatch(command))
    await desk.until(again.done, 5)
    await desk.pass_(3)
    assert desk.broker_position() == 3
    assert again.result() == tasks[0].result()
    assert await rows(desk, "SELECT count(*) FROM overrides WHERE id = 'twice'") == [(1,)]


async def test_the_same_id_in_the_next_life_does_not_enter_twice(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    origin = c.Origin(id=CommandId("once"), operator="a", place="b", at=desk.clock.now())
    command = c.SubmitByHand(
        origin=origin, session=S_ES, terms=market(Side.BUY, "1"), is_exit=False, stop_loss=Decimal(4990), reason="in"
    )
    assert (await desk.send(lambda o: command)).taken
    await desk.until(lambda: desk.position() == 1, 5)
    await desk.stop()
    again = await next_life(desk, make_desk)
    second = await again.send(lambda o: command)
    await again.pass_(5)
    assert again.broker_position() == 1, second.message


# -- orders by hand ------------------------------------------------------------------------------------------


async def test_u5_an_entry_by_hand_obeys_limits_needs_a_stop_a_reason_and_the_grid(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk().start()

    async def submit(size: str, stop: str | None, reason: str, limit: str | None = None) -> c.Receipt:
        terms = Terms(
            symbol=ES,
            side=Side.BUY,
            quantity=Decimal(size),
            type=OrderType.LIMIT if limit else OrderType.MARKET,
            limit=Decimal(limit) if limit else None,
        )
        return await desk.send(
            lambda o: c.SubmitByHand(
                origin=o,
                session=S_ES,
                terms=terms,
                is_exit=False,
                stop_loss=None if stop is None else Decimal(stop),
                reason=reason,
            )
        )

    assert "needs a reason" in (await submit("1", "4990", "")).message
    assert "carries no stop" in (await submit("1", None, "why not")).message
    assert "tick size" in (await submit("1", "4990", "x", limit="4999.10")).message
    assert "away from the mark" in (await submit("1", "4000", "x", limit="4500")).message
    assert "max_order_size" in (await submit("11", "4990", "x")).message
    assert desk.exchange.orders_since(PAPER, 0) == ()


async def test_an_exit_by_hand_closes_a_part_and_never_opens(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk, size="3")
    receipt = await desk.send(
        lambda o: c.SubmitByHand(origin=o, session=S_ES, terms=market(Side.SELL, "1"), is_exit=True)
    )
    await desk.until(lambda: desk.broker_position() == 2, 10)
    await finished(desk, receipt.id)
    await desk.pass_(8)
    assert sum(o.terms.quantity - o.filled for o in working(desk, Role.STOP)) == 2
    await desk.send(lambda o: c.SubmitByHand(origin=o, session=S_ES, terms=market(Side.SELL, "50"), is_exit=True))
    await desk.until(lambda: desk.broker_position() == 0, 10)
    await desk.pass_(10)
    assert desk.broker_position() == 0
    await all_agree(desk)


async def test_modify_moves_a_stop_without_a_reason_and_cancel_takes_one_order(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    (stop,) = working(desk, Role.STOP)
    receipt = await desk.send(lambda o: c.ModifyOrder(origin=o, order=stop.client_id, stop=Decimal(4995)))
    assert receipt.taken, receipt.message
    assert working(desk, Role.STOP)[0].terms.stop == 4995
    await desk.pass_(5)
    assert working(desk, Role.STOP)[0].terms.stop == 4995, "the guard moved it back"
    off = await desk.send(lambda o: c.ModifyOrder(origin=o, order=stop.client_id, stop=Decimal("4995.1")))
    assert "tick size" in off.message
    entry = await rest(desk)
    assert (await desk.send(lambda o: c.CancelOrder(origin=o, order=entry.client_id))).taken
    await desk.until(lambda: working(desk, Role.ENTRY) == [], 5)
    again = await desk.send(lambda o: c.CancelOrder(origin=o, order=entry.client_id))
    assert not again.taken
    assert "cancelled already" in again.message


async def test_cancel_entries_leaves_protection(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    await hold(desk)
    await rest(desk, NQ, "20000", limit="19900", stop="19800")
    await desk.send(lambda o: c.CancelEntries(origin=o, session=None))
    await desk.until(lambda: working(desk, Role.ENTRY, NQ) == [], 5)
    await desk.pass_(3)
    assert len(working(desk, Role.STOP, ES)) == 1
    assert desk.blocks(NQ) == ()


# -- flatten -----------------------------------------------------------------------------------------------------


async def test_flatten_tells_each_step_and_ends_with_the_brokers_word(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    await rest(desk)
    ok, text, lines = await flatten(desk)
    assert ok
    assert text.startswith("flat confirmed at ")
    assert any("cancelling entry" in line for line in lines)
    assert any("position 2 -> 0" in line for line in lines)
    assert any("broker says position 0, own orders open: 0" in line for line in lines)
    assert desk.exchange.open_orders(PAPER) == ()
    await all_agree(desk)
    # Paused until resumed; asked again it is flat at once.
    assert any("paused" in b for b in desk.blocks())
    ok, _, lines = await flatten(desk)
    assert ok
    assert any("nothing to close" in line for line in lines)


async def test_flatten_everything_closes_all_side_by_side_and_leaves_what_is_not_ours(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    await hold(desk, ES)
    await hold(desk, NQ, "20000", stop="19900")
    inject(desk, "foreign-order", "1")
    await desk.send(lambda o: c.ReconcileNow(origin=o))
    account = desk.engine.accounts[PAPER]
    await desk.until(lambda: account.reconciler.foreign != (), 10)
    ok, text, lines = await flatten(desk, None)
    assert ok
    assert text == "flat confirmed everywhere"
    assert any("is left alone" in line for line in lines)
    (left,) = desk.exchange.open_orders(PAPER)
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=None, foreign=(left.broker_id,)))
    assert (await finished(desk, receipt.id)).ok
    assert desk.exchange.open_orders(PAPER) == ()


async def _dead(desk: Desk) -> None:
    def broken() -> None:
        raise RuntimeError("upkeep broke")

    desk.trader().upkeep = broken  # type: ignore[method-assign]
    await desk.until(lambda: desk.engine.sessions[S_ES].supervisor.restarts >= 5, 120)
    await desk.pass_(20)
    assert desk.trader().desk.phase is Phase.DEAD


async def test_flatten_of_a_dead_session_settles_an_answer_that_was_lost(make_desk: Callable[..., Desk]) -> None:
    """Its own loops are gone; the doubt about the exit is settled all the same."""
    desk = await make_desk().start()
    await hold(desk)
    await _dead(desk)
    inject(desk, "lose-answer")
    ok, text, lines = await flatten(desk)
    assert desk.broker_position() == 0
    assert ok, (text, lines)


async def test_flatten_with_the_link_down_says_so_by_its_deadline_and_closes_once_it_is_up(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk().start()
    await hold(desk)
    inject(desk, "disconnect-account", "100")
    ok, text, lines = await flatten(desk, seconds=65)
    assert not ok
    assert text.startswith("NOT flat")
    assert any("link is down" in line for line in lines)
    assert "NOT flat" in alerts(desk)
    await desk.until(lambda: desk.broker_position() == 0, 60)
    await desk.pass_(5)
    await all_agree(desk)


async def test_flatten_with_an_exit_in_doubt_waits_for_evidence_or_a_typed_word(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    inject(desk, "fail-queries", "300")
    await desk.pass_(0.1)
    desk.link.armed.lose_requests = 1
    desk.strategies[ES].script.append(leave)
    await next_window(desk)
    await desk.pass_(3)
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=S_ES))
    await desk.pass_(15)
    before = len(desk.exchange.orders_since(PAPER, 0))
    said = [line for _, line in procedure(desk, receipt.id).lines]
    if desk.broker_position():
        assert any("REVERSE" in line for line in said), said
        wrong = await desk.send(lambda o: c.ForceExit(origin=o, session=S_ES, word="yes"))
        assert not wrong.taken
        assert len(desk.exchange.orders_since(PAPER, 0)) == before
        forced = await desk.send(lambda o: c.ForceExit(origin=o, session=S_ES, word="REVERSE"))
        assert forced.taken
        await desk.until(lambda: desk.broker_position() == 0, 70)
    await desk.pass_(120)
    assert desk.broker_position() == 0


@pytest.mark.parametrize("refusals", ["1", "5000"])
async def test_when_the_close_is_refused_it_is_tried_again_and_the_alarm_is_naked(
    make_desk: Callable[..., Desk], refusals: str
) -> None:
    desk = await make_desk(capabilities=Capabilities(replace_may_change_type=False)).start()
    await hold(desk)
    inject(desk, "refuse-next", refusals)
    ok, text, lines = await flatten(desk, seconds=80)
    if refusals == "1":
        assert ok, lines
        return
    assert not ok
    assert text.startswith("NOT flat: position is 2")
    assert any("refused the exit" in line for line in lines), lines
    assert "NOT flat" in alerts(desk)
    stops = [o for o in desk.exchange.open_orders(PAPER) if o.terms.type is OrderType.STOP]
    assert stops == []
    assert "NAKED" in alerts(desk)


async def test_when_the_close_is_refused_for_a_while_the_stop_is_armed_again(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(capabilities=Capabilities(replace_may_change_type=False)).start()
    await hold(desk)
    refuse = desk.exchange.submit

    def no_market_exit(account: Any, request: Any, at: Any) -> Any:
        if request.terms.type is OrderType.MARKET and request.terms.side is Side.SELL:
            return RefusedOrder("no closing now")
        return refuse(account, request, at)

    desk.exchange.submit = no_market_exit  # type: ignore[method-assign]
    ok, _, lines = await flatten(desk, seconds=80)
    assert not ok, lines
    await desk.pass_(10)
    stops = [o.terms.quantity for o in desk.exchange.open_orders(PAPER) if o.terms.type is OrderType.STOP]
    assert stops == [2] or "NAKED" in alerts(desk)
    await all_agree(desk)


async def test_an_entry_that_proves_live_after_a_flatten_gave_up_is_closed_while_the_flatten_stands(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk().start()
    inject(desk, "next-order-slow", "75")
    desk.strategies[ES].script.append(enter())
    await next_window(desk)
    await desk.pass_(6)
    ok, text, _ = await flatten(desk, seconds=70)
    assert not ok
    assert "NOT flat" in text
    # Now the order arrives and fills.
    seen = False
    for _ in range(60):
        await desk.pass_(1)
        seen = seen or desk.broker_position() != 0
    assert desk.exchange.orders_since(PAPER, 0) != ()
    assert desk.broker_position() == 0
    assert any(o.filled for o in desk.orders(Role.EXIT)) or not seen
    await all_agree(desk)


# -- kill ----------------------------------------------------------------------------------------------------


async def test_kill_cancels_entries_closes_nothing_and_is_released_by_a_word_and_a_reason(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    await hold(desk)
    await rest(desk, NQ, "20000", limit="19900", stop="19800")
    receipt = await desk.send(lambda o: c.Kill(origin=o))
    assert receipt.taken
    assert (await finished(desk, receipt.id)).ok
    await desk.until(lambda: working(desk, Role.ENTRY, NQ) == [], 5)
    await desk.pass_(8)
    assert desk.broker_position() == 2
    assert len(working(desk, Role.STOP)) == 1
    assert (desk.state / "KILL").read_text() == "by test\n"
    await desk.send(lambda o: c.Resume(origin=o, session=None, reason="I insist"))
    desk.strategies[NQ].script.append(enter(stop="19900"))
    await next_window(desk)
    await desk.pass_(2)
    assert desk.orders(Role.ENTRY, NQ)[-1].reason == "kill latch is set: by test"
    for word, reason in (("release", "ok"), ("RELEASE", "")):
        assert not (await desk.send(lambda o, w=word, r=reason: c.ReleaseKill(origin=o, word=w, reason=r))).taken  # type: ignore[misc]
    assert desk.snapshot().killed
    assert (await desk.send(lambda o: c.ReleaseKill(origin=o, word="RELEASE", reason="checked"))).taken
    assert not desk.snapshot().killed
    assert not (desk.state / "KILL").exists()


async def test_no_entry_starts_to_leave_after_the_kill(make_desk: Callable[..., Desk]) -> None:
    """Kill falls between the decision and the send, at every stage of the way."""
    for moment in range(0, 60, 6):
        desk = await make_desk(directory=f"desk-{moment}").start()
        desk.strategies[ES].script.append(enter())
        await next_window(desk)
        await desk.clock.advance(desk.clock.now() + moment)
        sent = {o.client_id for o in desk.orders(Role.ENTRY) if o.sent is not None}
        origin = c.Origin(id=CommandId(f"kill-{moment}"), operator="a", place="b", at=desk.clock.now())
        await asyncio.ensure_future(desk.overrides.dispatch(c.Kill(origin=origin)))
        await desk.pass_(5)
        late = [o for o in desk.orders(Role.ENTRY) if o.sent is not None and o.client_id not in sent]
        assert late == []
        await desk.stop()


async def test_kill_and_flatten_closes_too(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    receipt = await desk.send(lambda o: c.Kill(origin=o, flatten=True))
    assert (await finished(desk, receipt.id)).ok
    assert desk.broker_position() == 0
    assert desk.snapshot().killed


# -- the portfolio ----------------------------------------------------------------------------------------------


async def test_heat_limits_change_live_need_a_reason_and_are_kept(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    for wrong in (
        {"block": Decimal(5), "reason": "below warn"},
        {"warn": Decimal(0), "reason": "zero"},
        {"release": Decimal(9), "reason": "more than block"},
        {"block": Decimal(9), "reason": ""},
    ):
        receipt = await desk.send(lambda o, w=wrong: c.ChangeHeatLimits(origin=o, **w))  # type: ignore[misc]
        assert not receipt.taken, wrong
    await hold(desk, stop="4950", size="6")
    assert desk.snapshot().heat.stance == "warn"
    await desk.send(lambda o: c.ChangeHeatLimits(origin=o, warn=Decimal(2), block=Decimal("5.5"), reason="less"))
    assert desk.snapshot().heat.stance == "block"
    await desk.stop()
    again = await next_life(desk, make_desk)
    limits = again.engine.portfolio.settings.limits
    assert (limits.warn, limits.block) == (Decimal(2), Decimal("5.5"))


async def test_stand_down_takes_a_dead_flat_session_out_for_good(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    alive = await desk.send(lambda o: c.StandDown(origin=o, session=S_ES, reason="why"))
    assert "lives" in alive.message

    def broken() -> None:
        raise RuntimeError("upkeep broke")

    await hold(desk)
    desk.trader().upkeep = broken  # type: ignore[method-assign]
    await desk.pass_(1.2)
    held = await desk.send(lambda o: c.StandDown(origin=o, session=S_ES, reason="why"))
    assert not held.taken
    assert "position 2" in held.message
    ok, _, lines = await flatten(desk)
    assert ok, lines
    await desk.until(lambda: desk.engine.sessions[S_ES].dead is not None, 20)
    done = await desk.send(lambda o: c.StandDown(origin=o, session=S_ES, reason="it is broken"))
    assert done.taken, done.message
    await desk.pass_(60)
    view = desk.snapshot().session(S_ES)
    assert view is not None
    assert view.phase is Phase.STOOD_DOWN, "it was started again behind the operator's back"
    assert desk.snapshot().heat.missing == ()
    desk.strategies[NQ].script.append(enter(stop="19900"))
    await next_window(desk)
    await next_window(desk)
    await desk.until(lambda: desk.position(NQ) == 2, 5)
    # What appears on its contract now is nobody's, and counts.
    out_of_band.move_position(desk.exchange, PAPER, ES, Decimal(1), desk.clock.now())
    await desk.pass_(40)
    assert desk.snapshot().heat.unowned != ()


# -- faults, alerts, shutdown -----------------------------------------------------------------------------------


async def test_faults_exist_only_on_paper_and_alerts_are_acknowledged(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    done = await desk.send(lambda o: c.InjectFault(origin=o, account=PAPER, fault="inert-stop", symbol=ES))
    assert done.taken, done.message
    unknown = await desk.send(lambda o: c.InjectFault(origin=o, account=PAPER, fault="explode", symbol=ES))
    assert not unknown.taken
    none = await desk.send(lambda o: c.InjectFault(origin=o, account=AccountId("x"), fault="inert-stop", symbol=ES))
    assert "only for paper" in none.message
    desk.engine.accounts[PAPER].live = True
    live = await desk.send(lambda o: c.InjectFault(origin=o, account=PAPER, fault="inert-stop", symbol=ES))
    assert not live.taken
    desk.engine.accounts[PAPER].live = False
    desk.feed.trade(ES, "4985")
    for _ in range(8):
        await desk.pass_(1)
        desk.feed.trade(ES, "4985")
    assert "STOP NOT PROTECTING" in alerts(desk)
    alert = next(a for a in desk.engine.board.alerts() if "NOT PROTECTING" in a.text)
    assert (await desk.send(lambda o: c.AcknowledgeAlert(origin=o, alert=alert.id))).taken
    shown = next(a for a in desk.engine.board.alerts() if a.id == alert.id)
    assert shown.acknowledged, "a lasting alert stays on screen, seen"
    ok, text, lines = await flatten(desk)
    assert ok, (text, lines)


@pytest.mark.parametrize("policy", list(ShutdownPolicy))
async def test_shutdown_policies(make_desk: Callable[..., Desk], policy: ShutdownPolicy) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    await hold(desk)
    await rest(desk, NQ, "20000", limit="19900", stop="19800")
    await desk.stop(policy)
    roles = sorted(o.terms.symbol for o in desk.exchange.open_orders(PAPER))
    match policy:
        case ShutdownPolicy.LEAVE:
            assert desk.broker_position() == 2
            assert roles == [ES, NQ, NQ]
        case ShutdownPolicy.CANCEL_ENTRIES:
            assert desk.broker_position() == 2
            assert roles == [ES]
        case ShutdownPolicy.FLATTEN:
            assert desk.broker_position() == 0
            assert roles == []
    again = await next_life(desk, make_desk)
    await again.pass_(5)
    await all_agree(again)


async def test_a_flattening_shutdown_ends_by_its_deadline_though_the_broker_is_gone(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk().start()
    await hold(desk)
    inject(desk, "disconnect-account", "3000")
    begun = desk.clock.now()
    await desk.stop(ShutdownPolicy.FLATTEN)
    assert desk.clock.now() - begun < 100_000


async def test_a_flatten_that_fails_says_so_instead_of_running_for_ever(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("bug")

    desk.trader().exits.leave = broken  # type: ignore[method-assign]
    ok, text, _ = await flatten(desk)
    assert not ok
    assert "RuntimeError: bug" in text
    assert "RuntimeError: bug" in alerts(desk)


async def test_a_kill_takes_effect_though_neither_file_nor_row_can_be_written(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await rest(desk)
    failing(desk).down = True

    def full(reason: str) -> None:
        raise OSError(28, "No space left on device")

    desk.engine.plan.kill_latch.set = full  # type: ignore[method-assign]
    receipt = await desk.send(lambda o: c.Kill(origin=o))
    assert receipt.taken
    assert any("COULD NOT BE WRITTEN" in line for _, line in procedure(desk, receipt.id).lines)
    await desk.until(lambda: desk.exchange.open_orders(PAPER) == (), 5)
    assert desk.snapshot().killed
    failing(desk).back()
    await desk.pass_(1)
    await desk.stop()
    again = await next_life(desk, make_desk)
    assert again.snapshot().killed

"""Lives that follow each other: whatever the last one left, the next one believes the broker and loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from engine import commands as c
from engine.domain.broker import BrokerStatus
from engine.domain.decisions import Cancel, Decision, Modify, Nothing, StrategyContext
from engine.domain.ids import CommandId, SessionId
from engine.domain.orders import Flag, Order, OrderState, OrderType, Role, Side, Terms
from engine.domain.records import LatchKind
from engine.domain.settings import Remedy
from engine.snapshot import Phase, ProtectionState
from tests.flows.acts import (
    FailingStore,
    alerts,
    all_agree,
    enter,
    failing,
    hold,
    kill,
    leave,
    next_life,
    next_window,
    procedure,
    rest,
    rows,
    trades_again,
    working,
)
from tests.flows.harness import ES, MINUTE, NQ, PAPER, Desk

UNDER_WAY = (
    OrderState.SUBMITTING,
    OrderState.IN_DOUBT_SUBMIT,
    OrderState.IN_DOUBT_REPLACE,
    OrderState.IN_DOUBT_CANCEL,
    OrderState.PENDING_CANCEL,
    OrderState.PENDING_REPLACE,
)
S_ES = SessionId(f"s-{ES}")
ENDINGS = ["in order", "killed"]


async def end(desk: Desk, how: str) -> None:
    await (desk.stop() if how == "in order" else kill(desk))


@pytest.mark.parametrize("how", ENDINGS)
async def test_r3_a_restart_finds_position_price_orders_and_stop(make_desk: Callable[..., Desk], how: str) -> None:
    desk = await make_desk().start()
    await hold(desk, price="5000.25", stop="4990")
    await desk.pass_(1)
    await end(desk, how)
    again = await next_life(desk, make_desk, later=20)
    await again.pass_(8)
    await all_agree(again)
    assert again.position() == 2
    assert again.trader().desk.book.position.average_price == Decimal("5000.25")
    assert again.trader().desk.protection is ProtectionState.COVERED
    assert again.trader().guard.stop_price == Decimal(4990)
    assert len(working(again, Role.STOP)) == 1
    assert again.blocks() == ()


@pytest.mark.parametrize("how", ENDINGS)
async def test_what_happened_while_nobody_looked_is_found(make_desk: Callable[..., Desk], how: str) -> None:
    """The stop fills while the desk is down: booked as the broker's execution, not adopted as unexplained."""
    desk = await make_desk().start()
    await hold(desk)
    await desk.pass_(1)
    await end(desk, how)
    again = make_desk(now=desk.clock.now() + 30_000)
    again.feed.market = desk.feed.market
    again.feed.trade(ES, "4989")
    assert again.broker_position() == 0
    await again.start(trading=False)
    await trades_again(again)
    await again.pass_(5)
    await all_agree(again)
    assert [o.state for o in again.orders(Role.STOP)] == [OrderState.FILLED]
    assert again.blocks() == ()
    assert len(await rows(again, "SELECT 1 FROM trades")) == 1


@pytest.mark.parametrize("moment", [0, 5, 12, 30, 120])
async def test_p10_an_entry_cut_off_in_flight_is_what_the_broker_says(
    make_desk: Callable[..., Desk], moment: int
) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script.append(enter())
    await desk.clock.advance(desk.clock.now() // MINUTE * MINUTE + MINUTE)
    desk.feed.trade(ES, "5000")
    await desk.clock.advance(desk.clock.now() + moment)
    sent = [o for o in desk.orders(Role.ENTRY) if o.sent is not None]
    await kill(desk)
    again = await next_life(desk, make_desk, later=2)
    await again.pass_(10)
    theirs = again.exchange.orders_since(PAPER, 0)
    entry = next((o for o in again.orders(Role.ENTRY)), None)
    if theirs:
        await all_agree(again)
        assert entry is not None
        assert entry.state is OrderState.FILLED
        assert again.trader().desk.protection is ProtectionState.COVERED
    elif entry is not None:
        assert entry.state is OrderState.IN_DOUBT_SUBMIT
        assert any("in doubt" in block or entry.client_id in block for block in again.blocks())
        await again.until(lambda: again.orders(Role.ENTRY)[0].state is OrderState.LOST, 150)
    else:
        assert not sent


async def test_an_exit_cut_off_before_it_was_sent_holds_a_second_one_until_evidence(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk().start()
    await hold(desk)
    # Without a convertible stop the exit is an order of its own.
    desk.link.armed.lose_requests = 1
    desk.strategies[ES].script.append(leave)
    await next_window(desk)
    await desk.pass_(0.4)
    await kill(desk)
    again = await next_life(desk, make_desk, later=1)
    await again.pass_(30)
    await all_agree(again)
    assert again.broker_position() == again.position()


@pytest.mark.parametrize("how", ENDINGS)
async def test_latches_pause_kill_and_limits_hold_in_the_next_life(make_desk: Callable[..., Desk], how: str) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()
    await desk.send(lambda o: c.Pause(origin=o, session=S_ES))
    desk.trader(NQ).entries.latch(LatchKind.STRATEGY, "it raised")
    await desk.send(lambda o: c.ChangeHeatLimits(origin=o, block=Decimal(7), reason="less"))
    await desk.send(lambda o: c.Kill(origin=o))
    await desk.pass_(1)
    await end(desk, how)
    again = await next_life(desk, make_desk)
    view = again.snapshot()
    assert view.killed
    assert again.blocks(ES)[0].startswith("paused") or any(b.startswith("paused") for b in again.blocks(ES))
    assert any("it raised" in b for b in again.blocks(NQ))
    assert again.engine.portfolio.settings.limits.block == 7
    again.strategies[NQ].script.append(enter(stop="19900"))
    await next_window(again)
    await again.pass_(2)
    assert again.orders(Role.ENTRY, NQ)[-1].state is OrderState.DENIED


async def test_the_kill_latch_holds_by_its_file_alone_and_by_its_row_alone(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await desk.send(lambda o: c.Kill(origin=o))
    await desk.stop()
    (desk.state / "KILL").unlink()
    second = await next_life(desk, make_desk)
    assert second.snapshot().killed, "the row alone"
    await second.send(lambda o: c.ReleaseKill(origin=o, word="RELEASE", reason="looked at it"))
    assert not second.snapshot().killed
    await second.stop()
    (desk.state / "KILL").write_text("by hand\n")
    third = await next_life(second, make_desk)
    assert third.snapshot().killed, "the file alone"


async def test_a_kill_set_between_two_lives_cancels_what_rests(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await rest(desk)
    await desk.stop()
    (desk.state / "KILL").write_text("by hand\n")
    again = await next_life(desk, make_desk)
    await again.until(lambda: again.exchange.open_orders(PAPER) == (), 10)
    assert working(again, Role.ENTRY) == []


async def test_a_disagreement_waits_for_its_acknowledgement_across_lives(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: desk.position() == 1, 45)
    await desk.pass_(1)
    await kill(desk)
    again = await next_life(desk, make_desk)
    assert any("waits for you" in b for b in again.blocks())
    waiting = again.engine.accounts[PAPER].ledger.blocking(S_ES)
    assert waiting is not None
    await again.send(lambda o: c.Acknowledge(origin=o, disagreement=waiting.id, note="the margin desk called"))
    assert again.blocks() == ()
    await again.pass_(1)
    await kill(again)
    third = await next_life(again, make_desk)
    assert third.blocks() == ()
    kept = await rows(third, "SELECT memory, broker, acknowledged_by FROM disagreements WHERE id = ?", waiting.id)
    assert kept == [("2", "1", "test")]


async def test_day_figures_come_from_the_fills(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    desk.strategies[ES].script.append(leave)
    await next_window(desk, ES="5010")
    await desk.until(lambda: desk.position() == 0, 5)
    await desk.pass_(1)
    ledger = desk.trader().desk.ledger
    before = (ledger.realised, ledger.fees, ledger.entries)
    assert before[0] == 1000
    await kill(desk)
    again = await next_life(desk, make_desk)
    ledger = again.trader().desk.ledger
    assert (ledger.realised, ledger.fees, ledger.entries) == before


async def test_the_daily_loss_latch_holds_across_lives_until_the_next_trade_date(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk()
    limits = replace(desk.session_settings(ES).limits, max_daily_loss=Decimal(400))
    await desk.stop()
    desk = await make_desk(session={"limits": limits}).start()
    resting = await rest(desk, limit="4970", stop="4960")
    await hold(desk, price="5000", stop="4980")
    desk.feed.trade(ES, "4995")
    await desk.until(lambda: any("daily loss" in b for b in desk.blocks()), 3)
    await desk.until(lambda: not desk.trader().desk.current(resting).is_open, 6)
    desk.feed.trade(ES, "5020")
    await desk.pass_(2)
    await desk.stop()
    again = await next_life(desk, make_desk)
    assert any("daily loss" in b for b in again.blocks()), "the day's loss was forgotten although the price is back"
    refused = await again.send(
        lambda o: c.ReleaseLatch(origin=o, session=S_ES, latch="daily loss", reason="I feel lucky")
    )
    assert not refused.taken
    await again.stop()
    tomorrow = await next_life(again, make_desk, later=86_400)
    assert not any("daily loss" in b for b in tomorrow.blocks())


async def test_flat_by_leaves_in_time_though_history_never_comes(make_desk: Callable[..., Desk]) -> None:
    """The upkeep of a session waits for no data: neither daily loss nor flat-by may sleep with the feed."""
    settings = make_desk(directory="other").session_settings(ES)
    limits = replace(settings.limits, flat_by=time(9, 30))  # 09:00 is now
    desk = await make_desk(session={"limits": limits}).start()
    await hold(desk)
    await desk.pass_(1)
    await kill(desk)
    again = make_desk(**{**desk.options, "now": desk.clock.now() + 25 * MINUTE})
    again.feed.history_fails = True
    await again.start(trading=False)
    await again.until(lambda: again.trader().desk.phase is Phase.LOADING_HISTORY, 20)
    await again.until(lambda: again.broker_position() == 0, 6 * 60)
    assert again.trader().desk.phase is Phase.LOADING_HISTORY


# -- decisions are used once --------------------------------------------------------------------------------


async def test_a_candle_evaluated_in_an_earlier_life_is_not_traded_on_again(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script.append(enter())
    await next_window(desk)
    await desk.until(lambda: desk.position() == 2, 5)
    candle = desk.trader().desk.decisions[-1].candle
    await desk.pass_(1)
    await kill(desk)
    again = make_desk(now=desk.clock.now(), session={"warmup": 1})
    again.feed.market = desk.feed.market
    # The same candle comes again by history, and the strategy would enter on it again.
    again.strategies[ES].script += [enter() for _ in range(20)]
    await again.start(trading=False)
    await trades_again(again)
    await again.pass_(3)
    assert candle in {start for start, _ in again.strategies[ES].seen}
    assert again.broker_position() == 2
    assert len(again.exchange.orders_since(PAPER, 0)) == 2


async def _missed(make_desk: Callable[..., Desk], remedy: Remedy) -> Desk:
    """A position, a crash, two candles unseen; on the second the strategy wants out."""
    desk = await make_desk(session={"missed_exit": remedy}).start()
    await hold(desk)
    await next_window(desk)
    await desk.pass_(1)
    await kill(desk)
    start = desk.clock.now() // MINUTE * MINUTE + MINUTE
    for step in range(8):
        desk.feed.market[ES].append(
            desk.feed.market[ES][-1].__class__(ES, start + step * 15_000, Decimal(5001), Decimal(1))
        )
    again = make_desk(**{**desk.options, "now": start + 2 * MINUTE + 5_000})
    again.feed.market = desk.feed.market
    missed = start + MINUTE

    def decide(context: StrategyContext) -> Decision:
        if context.candles[-1].start == missed:
            return leave(context)
        return Nothing(state=context.state, reason="hold")

    again.strategies[ES].decide = decide  # type: ignore[method-assign]
    await again.start(trading=False)
    await trades_again(again)
    return again


async def test_a_missed_exit_is_sent_once_trading_opens_and_marked(make_desk: Callable[..., Desk]) -> None:
    again = await _missed(make_desk, Remedy.EXIT)
    await again.until(lambda: again.broker_position() == 0, 10)
    await again.pass_(3)
    marked = [o for o in again.orders() if Flag.MISSED in o.flags]
    assert len(marked) == 1, again.describe()
    await again.stop()
    third = await next_life(again, make_desk)
    await third.pass_(5)
    assert third.broker_position() == 0
    await all_agree(third)


async def test_a_missed_exit_asks_where_the_session_says_so(make_desk: Callable[..., Desk]) -> None:
    again = await _missed(make_desk, Remedy.ASK)
    await again.pass_(10)
    assert again.broker_position() == 2
    assert "wanted out" in alerts(again)


async def _declare_dead(desk: Desk, order: Order) -> None:
    done = await desk.send(lambda o: c.DeclareDead(origin=o, order=order.client_id, word="DEAD", reason="never came"))
    assert done.taken, done.message


# -- many lives ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_ten_restarts_in_a_row_at_random_moments_end_with_the_exchanges_truth(
    make_desk: Callable[..., Desk], seed: int
) -> None:
    rng = Random(seed)
    desk = await make_desk(symbols=(ES, NQ)).start()
    price = {ES: Decimal(5000), NQ: Decimal(20000)}
    in_flight = 0
    for _ in range(10):
        for symbol in (ES, NQ):
            held = desk.position(symbol)
            stop = price[symbol] - (10 if symbol == ES else 60)
            if held and rng.random() < 0.6:
                desk.strategies[symbol].script.append(leave)
            elif not held and rng.random() < 0.3:
                limit = price[symbol] - (3 if symbol == ES else 20)
                desk.strategies[symbol].script.append(enter(stop=str(stop), limit=str(limit)))
            else:
                desk.strategies[symbol].script.append(enter(stop=str(stop), quantity=str(rng.randint(1, 2))))
        if rng.random() < 0.3:
            desk.link.armed.lose_answers = 1
        await desk.clock.advance(desk.clock.now() // MINUTE * MINUTE + MINUTE)
        for symbol in (ES, NQ):
            price[symbol] += rng.randint(-12, 12)
            desk.feed.trade(symbol, price[symbol])
        await desk.clock.advance(desk.clock.now() + rng.choice((0, 14, 18, 22, 26, 30, 40, 250)))
        in_flight += sum(o.state in UNDER_WAY for s in (ES, NQ) for o in desk.orders(symbol=s))
        await kill(desk)
        desk = await next_life(desk, make_desk, later=rng.choice((0, 1, 5)), trading=False)
        await desk.clock.advance(desk.clock.now() + rng.choice((1_500, 4_000, 20_000)))
        for symbol in (ES, NQ):
            desk.feed.trade(symbol, price[symbol])
        await desk.pass_(1)
    assert in_flight >= 3, "these moments prove little"
    # Quiet: no fault any more, every doubt may end (an order that never arrived ends as lost).
    for _ in range(5):
        for symbol in (ES, NQ):
            desk.feed.trade(symbol, price[symbol])
        await desk.pass_(30)
    lost = [o for s in (ES, NQ) for o in desk.orders(symbol=s) if o.state is OrderState.LOST]
    for order in lost:
        assert desk.exchange.orders_of(PAPER, order.client_id) == ()
        if order.state is OrderState.LOST and desk.trader(order.terms.symbol).desk.current(order).is_open:
            await _declare_dead(desk, order)
    await desk.pass_(10)
    await all_agree(desk)
    for symbol in (ES, NQ):
        run = desk.trader(symbol)
        assert run.desk.phase is Phase.TRADING
        if desk.position(symbol):
            assert run.desk.protection is ProtectionState.COVERED, desk.describe()
    assert [d for d in desk.engine.accounts[PAPER].ledger.all() if d.blocks_entries and d.is_open] == []


class DeafStore(FailingStore):
    """Commits intents, and loses what is recorded once it is deaf: the moment between send and row."""

    deaf = False

    def record(self, record: Any) -> None:
        if not self.deaf:
            super().record(record)


@pytest.mark.parametrize("last_row", ["accepted", "submitting"])
@pytest.mark.parametrize("command", ["replace", "cancel"])
async def test_a_command_that_left_before_its_row_was_written_is_ours_in_the_next_life(
    make_desk: Callable[..., Desk], command: str, last_row: str
) -> None:
    desk = await make_desk(wrap_store=DeafStore).start()
    store = failing(desk)
    assert isinstance(store, DeafStore)
    store.deaf = last_row == "submitting"
    entry = await rest(desk)
    await desk.real_store.settled()
    store.deaf = True
    desk.strategies[ES].script.append(
        lambda context: (
            Modify(state=context.state, order=entry.client_id, limit=Decimal("4985"))
            if command == "replace"
            else Cancel(state=context.state, orders=(entry.client_id,))
        )
    )
    await next_window(desk)
    await desk.pass_(0.5)
    await kill(desk)
    again = await next_life(desk, make_desk, wrap_store=lambda store: store)
    await again.pass_(10)
    await all_agree(again)
    (theirs,) = again.exchange.orders_of(PAPER, entry.client_id)
    assert (theirs.terms.limit, theirs.status) == (
        (Decimal("4985"), BrokerStatus.WORKING) if command == "replace" else (Decimal("4980"), BrokerStatus.CANCELLED)
    )
    assert again.snapshot().disagreements == ()
    assert again.blocks() == ()


async def test_an_entry_by_hand_sent_again_to_the_next_life_leaves_the_order_it_made_alone(
    make_desk: Callable[..., Desk],
) -> None:
    """The second one was denied under the same name, and the order that worked was forgotten."""
    desk = await make_desk().start()
    await next_window(desk, ES="5000")
    terms = Terms(symbol=ES, side=Side.BUY, quantity=Decimal(1), type=OrderType.LIMIT, limit=Decimal(4980))
    origin = c.Origin(id=CommandId("once"), operator="a", place="b", at=desk.clock.now())
    command = c.SubmitByHand(
        origin=origin, session=S_ES, terms=terms, is_exit=False, stop_loss=Decimal(4970), reason="in"
    )
    assert (await desk.send(lambda o: command)).taken
    (entry,) = working(desk, Role.ENTRY)
    await desk.pass_(1)
    await kill(desk)
    again = await next_life(desk, make_desk, later=20)
    await again.send(lambda o: c.Pause(origin=o, session=S_ES, keep_resting=True))
    second = await again.send(lambda o: command)
    assert second.message == f"{entry.client_id} is working"
    assert [o.client_id for o in working(again, Role.ENTRY)] == [entry.client_id]
    assert len(again.exchange.orders_since(PAPER, 0)) == len(desk.exchange.orders_since(PAPER, 0))


@pytest.mark.parametrize("ahead", [0, 60_000])
async def test_an_exit_by_hand_sent_again_to_the_next_life_closes_its_part_once(
    make_desk: Callable[..., Desk], ahead: int
) -> None:
    """Whatever the clock showed by which it was asked for; one that was ahead may have been set right since."""
    desk = await make_desk().start()
    await hold(desk, size="3")
    terms = Terms(symbol=ES, side=Side.SELL, quantity=Decimal(1), type=OrderType.MARKET)
    origin = c.Origin(id=CommandId("part"), operator="a", place="b", at=desk.clock.now() + ahead)
    command = c.SubmitByHand(origin=origin, session=S_ES, terms=terms, is_exit=True)
    assert (await desk.send(lambda o: command)).taken
    await desk.until(lambda: desk.position() == 2, 10)
    await desk.pass_(3)
    await kill(desk)
    again = await next_life(desk, make_desk, later=20)
    assert (await again.send(lambda o: command)).taken
    await again.pass_(5)
    assert again.broker_position() == 2
    assert "it was asked for before" in procedure(again, CommandId("part")).result


async def test_an_exit_by_hand_of_which_nothing_is_known_leaves_in_the_next_life(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk().start()
    await hold(desk, size="3")
    await desk.pass_(1)
    await kill(desk)
    terms = Terms(symbol=ES, side=Side.SELL, quantity=Decimal(1), type=OrderType.MARKET)
    origin = c.Origin(id=CommandId("part"), operator="a", place="b", at=desk.clock.now())
    again = await next_life(desk, make_desk, later=20)
    assert (await again.send(lambda o: c.SubmitByHand(origin=origin, session=S_ES, terms=terms, is_exit=True))).taken
    await again.until(lambda: again.broker_position() == 2, 10)

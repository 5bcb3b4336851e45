"""Flow 1: which candles a strategy sees, when, and what happens to those that change afterwards."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from engine.domain.decisions import Decision, Nothing, StrategyContext
from engine.domain.freshness import Freshness
from engine.domain.market import Candle, CandleOrigin
from engine.domain.orders import OrderState, Role
from engine.snapshot import Phase, SessionView
from tests.flows.acts import rows
from tests.flows.harness import ES, MINUTE, NQ, START, Desk
from tests.flows.script import enter, in_position, nothing

MakeDesk = Callable[..., Desk]


def view(desk: Desk) -> SessionView:
    session = desk.snapshot().session(desk.trader().desk.settings.id)
    assert session is not None
    return session


def live(desk: Desk) -> list[int]:
    """Starts of the candles that the strategy ran on after warm-up."""
    return [start for start, warming in desk.strategies[ES].seen if not warming]


def candle(desk: Desk, start: int) -> Candle:
    return next(c for c in desk.trader().stream.series.as_tuple() if c.start == start)


async def test_strategies_run_only_on_added_candles(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    before = len(live(desk))
    for price in ("5001", "5002"):
        await desk.next_candle(ES, price)
    assert len(live(desk)) == before + 2
    now = desk.clock.now()
    desk.feed.late(ES, "5009", now - MINUTE + 10_000)
    desk.feed.late(ES, "5010", now - MINUTE + 11_000)
    await desk.pass_(0.5)
    assert candle(desk, now - MINUTE).high == Decimal(5010)
    assert view(desk).replaced == {now - MINUTE}
    assert len(live(desk)) == before + 2
    assert len(set(live(desk))) == len(live(desk))


async def test_a_strategy_sees_only_closed_candles(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    ends: list[bool] = []

    def look(context: StrategyContext) -> Decision:
        ends.append(all(c.start + MINUTE <= desk.clock.now() for c in context.candles))
        return Nothing(state=context.state)

    desk.strategies[ES].script += [look, look, look]
    for price in ("5001", "5002", "5003"):
        await desk.next_candle(ES, price)
    assert ends == [True, True, True]
    forming = view(desk).forming
    assert forming is not None
    assert forming.start == desk.clock.now() - desk.clock.now() % MINUTE
    assert forming.start not in [c.start for c in view(desk).candles]


async def test_a_candle_closes_by_the_clock_one_second_after_its_window(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    end = desk.clock.now() - desk.clock.now() % MINUTE + MINUTE
    await desk.clock.advance(end + 999)
    assert end - MINUTE not in live(desk)
    await desk.clock.advance(end + 1_001)
    assert live(desk)[-1] == end - MINUTE


async def test_an_empty_window_makes_no_candle(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await desk.next_candle(ES, "5001")
    first = desk.clock.now()
    await desk.clock.advance(first + 3 * MINUTE)
    desk.feed.trade(ES, "5002")
    await desk.clock.advance(first + 4 * MINUTE + 2_000)
    starts = [c.start for c in view(desk).candles]
    assert first in starts
    assert first + MINUTE not in starts
    assert first + 2 * MINUTE not in starts
    assert starts[-1] == first + 3 * MINUTE
    assert view(desk).gaps == ()


async def test_a_late_tick_inside_the_window_amends_high_low_and_volume_but_not_open_or_close(
    make_desk: MakeDesk,
) -> None:
    desk = await make_desk().start()
    await desk.next_candle(ES, "5001")
    start = desk.clock.now()
    await desk.pass_(40)
    desk.feed.trade(ES, "5003")
    await desk.next_candle(ES, "5002")
    was = candle(desk, start)
    desk.feed.late(ES, "5020", start + 20_000)
    now = candle(desk, start)
    assert (now.open, now.close) == (was.open, was.close) == (Decimal(5001), Decimal(5003))
    assert (now.high, now.volume) == (Decimal(5020), was.volume + 1)
    assert now.revision == was.revision + 1
    desk.feed.late(ES, "5004", start + 50_000)
    assert candle(desk, start).close == Decimal(5004)


async def test_a_tick_older_than_five_candles_is_counted_and_changes_nothing(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await desk.next_candle(ES, "5001")
    old = desk.clock.now()
    for step in range(6):
        await desk.next_candle(ES, f"{5002 + step}")
    was = candle(desk, old)
    before = desk.trader().stream.late_ignored
    desk.feed.late(ES, "6000", old + 10_000)
    assert candle(desk, old) == was
    assert desk.trader().stream.late_ignored == before + 1
    inside = old + 2 * MINUTE
    desk.feed.late(ES, "5015", inside + 10_000)
    assert candle(desk, inside).high == Decimal(5015)


async def test_a_late_tick_moves_neither_the_mark_nor_the_age_of_the_data(make_desk: MakeDesk) -> None:
    """Time never goes back: a late trade is no news of the price, and no reason to call the feed stale."""
    desk = await in_position(make_desk())
    await desk.next_candle(ES, "5001")
    mark, at = view(desk).last_price, view(desk).last_tick
    desk.feed.late(ES, "4980", desk.clock.now() - 30_000)
    assert (view(desk).last_price, view(desk).last_tick) == (mark, at)
    assert view(desk).freshness is Freshness.FRESH
    await desk.pass_(3)
    assert not [a for a in desk.engine.board.alerts() if "STOP NOT PROTECTING" in a.text]
    assert desk.position() == 2


async def test_d8_a_replaced_candle_leaves_a_record_when_a_decision_was_taken_on_it(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script += [nothing, enter()]
    await desk.next_candle(ES, "5001")
    await desk.next_candle(ES, "5002")
    decided = desk.clock.now() - MINUTE
    await desk.until(lambda: desk.position() == 2, 5)
    orders = [(o.client_id, o.terms) for o in desk.orders()]
    ran = len(live(desk))
    desk.feed.late(ES, "5030", decided + 1_000)
    await desk.pass_(2)
    assert len(live(desk)) == ran
    assert [(o.client_id, o.terms) for o in desk.orders()] == orders
    await desk.real_store.settled()
    kept = await rows(desk, "SELECT * FROM replaced_candles WHERE candle = ?", decided)
    assert len(kept) == 1


async def test_d9_a_window_that_was_missing_is_inserted_and_marked_and_not_run(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await desk.next_candle(ES, "5001")
    first = desk.clock.now()
    await desk.clock.advance(first + 2 * MINUTE)
    desk.feed.trade(ES, "5002")
    await desk.pass_(0.1)
    ran = live(desk)
    desk.feed.late(ES, "5003", first + MINUTE + 5_000)
    assert candle(desk, first + MINUTE).origin is CandleOrigin.INSERTED
    assert live(desk) == ran


async def test_equal_timestamps_are_kept_in_order(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await desk.next_candle(ES, "5001")
    start = desk.clock.now()
    await desk.pass_(10)
    for price in ("5005", "5006", "5004"):
        desk.feed.trade(ES, price)
    await desk.next_candle(ES, "5002")
    closed = candle(desk, start)
    assert (closed.high, closed.close, closed.volume) == (Decimal(5006), Decimal(5004), Decimal(4))


async def test_d1_a_stale_feed_blocks_entries_and_a_fresh_tick_lets_them_go(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    end = desk.clock.now() - desk.clock.now() % MINUTE + MINUTE
    desk.strategies[ES].script += [enter(), enter()]
    await desk.clock.advance(end - 20_000)
    desk.feed.trade(ES, "5000")
    await desk.pass_(23)
    assert view(desk).freshness is Freshness.STALE
    assert any("stale" in block for block in desk.blocks())
    (denied,) = desk.orders(Role.ENTRY)
    assert denied.state is OrderState.DENIED
    assert "stale" in denied.reason
    assert desk.exchange.orders_since(denied.account, START) == ()
    await desk.next_candle(ES, "5000")
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 5)


async def test_a_strategy_that_raises_pauses_only_its_own_session(make_desk: MakeDesk) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()

    def fail(context: StrategyContext) -> Decision:
        raise ZeroDivisionError("no volume")

    desk.strategies[ES].script += [fail, enter()]
    desk.strategies[NQ].script += [nothing, enter(stop="19900")]
    for _ in range(3):
        await desk.next_candle(ES, "5000")
        desk.feed.trade(NQ, "20000")
        await desk.pass_(0.5)
    assert any("strategy failed: ZeroDivisionError: no volume" in block for block in desk.blocks(ES))
    assert desk.blocks(NQ) == ()
    assert desk.position(ES) == 0
    assert desk.position(NQ) == 2
    assert {o.state for o in desk.orders(Role.ENTRY, ES)} == {OrderState.DENIED}


async def test_x5_a_strategy_that_runs_away_is_interrupted_and_pauses_only_its_session(make_desk: MakeDesk) -> None:
    desk = await make_desk(symbols=(ES, NQ)).start()

    def run_away(context: StrategyContext) -> Decision:
        while True:
            pass

    desk.strategies[ES].script.append(run_away)
    await desk.next_candle(ES, "5000")
    desk.feed.trade(NQ, "20000")
    await desk.pass_(1)
    assert any("ran longer than 250 ms" in block for block in desk.blocks(ES))
    assert desk.blocks(NQ) == ()
    assert view(desk).phase is Phase.TRADING

"""Flow 1: the seam between history and live feed, gaps, and what was decided while nobody traded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

from msgspec.structs import replace

from engine.domain.broker import LinkState
from engine.domain.decisions import Decision, StrategyContext
from engine.domain.market import Candle, CandleOrigin, History, Timeframe
from engine.domain.orders import Flag, OrderState, Role
from engine.domain.settings import Remedy
from engine.snapshot import Phase, SessionView
from tests.flows.harness import ES, MINUTE, Desk
from tests.flows.script import enter, in_position, leave, nothing

MakeDesk = Callable[..., Desk]


def view(desk: Desk) -> SessionView:
    session = desk.snapshot().session(desk.trader().desk.settings.id)
    assert session is not None
    return session


def live(desk: Desk) -> list[int]:
    return [start for start, warming in desk.strategies[ES].seen if not warming]


async def begin(desk: Desk) -> None:
    """Start without waiting for the data half."""
    starting = asyncio.ensure_future(desk.engine.start())
    while not starting.done():
        await desk.clock.advance(desk.clock.now() + 20)
    await starting


async def cut_for(desk: Desk, windows: int, price: str = "5000") -> int:
    """Cut the feed for whole windows, the market trading on in each of them; the start of the first."""
    first = desk.clock.now() - desk.clock.now() % MINUTE
    desk.feed.cut()
    for step in range(1, windows + 1):
        await desk.clock.advance(first + step * MINUTE)
        desk.feed.trade(ES, price)
    await desk.pass_(5)
    desk.feed.restore()
    return first


async def test_a_strategy_never_sees_past_the_candle_it_decides_on(make_desk: MakeDesk) -> None:
    """Warm-up and backfill hand it the past as it was then, candle by candle."""
    desk = make_desk(session={"warmup": 4})
    seen: list[tuple[int, int]] = []
    decide = desk.strategies[ES].decide

    def look(context: StrategyContext) -> Decision:
        seen.append((context.candles[-1].start, len(context.candles)))
        return decide(context)

    desk.strategies[ES].decide = look  # type: ignore[method-assign]
    await desk.start()
    assert [length for _, length in seen] == [1, 2, 3, 4]
    await desk.next_candle(ES, "5001")
    await cut_for(desk, 3)
    await desk.pass_(5)
    assert [length for _, length in seen] == list(range(1, len(seen) + 1))
    starts = [start for start, _ in seen]
    assert starts == list(range(starts[0], starts[-1] + 1, MINUTE))


async def test_d6_subscribe_before_fetching_history(make_desk: MakeDesk) -> None:
    """Candles that form while history is on its way are neither lost nor doubled, and the overlap is shown."""
    desk = make_desk()
    order: list[str] = []
    subscribe, history = desk.feed.subscribe, desk.feed.history

    def noted_subscribe(symbol: object, sink: object) -> None:
        order.append("subscribed")
        subscribe(symbol, sink)  # type: ignore[arg-type]

    async def noted_history(*arguments: object) -> History:
        order.append("asked for history")
        return await history(*arguments)  # type: ignore[arg-type]

    desk.feed.subscribe = noted_subscribe  # type: ignore[method-assign]
    desk.feed.history = noted_history  # type: ignore[method-assign, assignment]
    for step in range(8):
        desk.feed.trade(ES, f"{5000 + step}", at=desk.clock.now() - 4 * MINUTE + step * 30_000)
    desk.feed.history_delay = 90.0
    await begin(desk)
    began = desk.clock.now()
    await desk.until(lambda: view(desk).phase is Phase.LOADING_HISTORY, 10)
    expected: dict[int, list[Decimal]] = {}
    for tick in desk.feed.market[ES]:
        expected.setdefault(tick.at - tick.at % MINUTE, []).append(tick.price)
    while desk.clock.now() < began + 80_000:
        await desk.pass_(10)
        price = Decimal(5010) + (desk.clock.now() - began) // 10_000
        desk.feed.trade(ES, price)
        expected.setdefault(desk.clock.now() - desk.clock.now() % MINUTE, []).append(price)
    assert view(desk).phase is Phase.LOADING_HISTORY
    assert desk.strategies[ES].seen == []
    assert desk.blocks()
    await desk.until(lambda: view(desk).phase is Phase.TRADING, 30)
    assert order == ["subscribed", "asked for history"]
    seam = view(desk).seam
    assert seam is not None
    assert seam.overlap >= 1
    closed = {c.start: c for c in view(desk).candles}
    forming = view(desk).forming
    current = desk.clock.now() - desk.clock.now() % MINUTE
    assert max(closed) == current - MINUTE
    for start in [c.start for c in view(desk).candles] + [current]:
        prices = expected[start]
        found = forming if start == current else closed[start]
        assert found is not None
        assert found.start == start
        assert (found.open, found.high, found.low, found.close, found.volume) == (
            prices[0], max(prices), min(prices), prices[-1], Decimal(len(prices)),
        )  # fmt: skip
    runs = [start for start, _ in desk.strategies[ES].seen]
    assert runs == sorted(set(runs))


async def test_d7_history_that_ends_before_the_subscription_is_asked_for_again(make_desk: MakeDesk) -> None:
    desk = make_desk()
    asked: list[int] = []
    history = desk.feed.history

    async def behind(symbol: object, timeframe: Timeframe, count: int, until: int) -> History:
        answer = await history(symbol, timeframe, count, until)  # type: ignore[arg-type]
        asked.append(desk.clock.now())
        return answer if len(asked) > 2 else History(answer.candles, answer.forming, answer.as_of - 30_000)

    desk.feed.history = behind  # type: ignore[method-assign]
    await desk.start()
    assert len(asked) == 3
    assert view(desk).phase is Phase.TRADING


async def test_a_feed_that_connects_late_leaves_no_block_behind(make_desk: MakeDesk) -> None:
    desk = make_desk()
    start = desk.feed.start

    async def slow(on_link: Callable[[LinkState, str], None]) -> None:
        await desk.clock.sleep(5)
        await start(on_link)

    desk.feed.start = slow  # type: ignore[method-assign]
    desk.feed.is_up = False
    for step in range(8):
        desk.feed.trade(ES, "5000", at=desk.clock.now() - 4 * MINUTE + step * 30_000)
    await begin(desk)
    await desk.pass_(4)
    assert view(desk).phase is not Phase.TRADING
    desk.feed.is_up = True
    await desk.until(lambda: view(desk).phase is Phase.TRADING, 30)
    desk.feed.trade(ES, "5000")
    await desk.pass_(1)
    assert desk.blocks() == ()


async def test_a_slow_clock_takes_no_old_history_for_one_that_reaches_the_feed(make_desk: MakeDesk) -> None:
    """Our clock is two minutes slow and the first answer a minute old: what traded in between would be lost."""
    desk = await make_desk().start()
    slow, price = 2 * MINUTE, Decimal(5007)
    desk.feed.cut()
    unseen = desk.clock.now() - desk.clock.now() % MINUTE + MINUTE
    desk.feed.trade(ES, price, at=unseen + 30_000)
    asked: list[int] = []

    async def answer(symbol: object, timeframe: Timeframe, count: int, until: int) -> History:
        asked.append(desk.clock.now())
        as_of = desk.clock.now() + (slow if len(asked) > 2 else slow - 110_000)
        known = {c.start: c for c in view(desk).candles}
        known[unseen] = Candle(unseen, price, price, price, price, Decimal(1))
        closed = tuple(known[start] for start in sorted(known) if start + MINUTE <= as_of)
        return History(closed, None, as_of)

    desk.feed.history = answer  # type: ignore[method-assign]
    desk.feed.restore()
    desk.feed.trade(ES, "5000", at=desk.clock.now() + slow)
    await desk.until(lambda: not desk.blocks(), 30)
    assert len(asked) == 3
    assert next(c for c in view(desk).candles if c.start == unseen).high == price


async def test_a_feed_cut_while_history_loads_is_made_good_and_leaves_no_block(make_desk: MakeDesk) -> None:
    desk = make_desk()
    for step in range(8):
        desk.feed.trade(ES, "5000", at=desk.clock.now() - 4 * MINUTE + step * 30_000)
    desk.feed.history_delay = 20.0
    await begin(desk)
    await desk.until(lambda: view(desk).phase is Phase.LOADING_HISTORY, 10)
    await desk.pass_(5)
    desk.feed.cut()
    await desk.pass_(5)
    desk.feed.trade(ES, "5007")
    unseen = desk.clock.now() - desk.clock.now() % MINUTE
    await desk.pass_(2)
    desk.feed.restore()
    await desk.until(lambda: view(desk).phase is Phase.TRADING, 90)
    await desk.pass_(MINUTE / 1000)
    desk.feed.trade(ES, "5000")
    await desk.pass_(1)
    assert next(c for c in view(desk).candles if c.start == unseen).high == Decimal(5007)
    assert desk.blocks() == ()


async def test_d2_a_gap_of_three_candles_is_marked_filled_and_not_entered_on(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await desk.next_candle(ES, "5001")
    desk.feed.history_delay = 90.0
    desk.strategies[ES].script += [enter()] * 6
    first = await cut_for(desk, 3)
    assert any("gap" in block for block in desk.blocks())
    (gap,) = view(desk).gaps
    assert gap.start == first
    assert not gap.closed
    ran = live(desk)
    await desk.pass_(80)
    assert live(desk) == ran
    assert any("gap" in block for block in desk.blocks())
    desk.feed.trade(ES, "5000")
    await desk.until(lambda: view(desk).gaps[0].closed, 20)
    (gap,) = view(desk).gaps
    assert (gap.start, gap.filled) == (first, 3)
    backfilled = [c for c in view(desk).candles if c.origin is CandleOrigin.BACKFILLED]
    assert [c.start for c in backfilled] == [first, first + MINUTE, first + 2 * MINUTE]
    starts = [c.start for c in view(desk).candles]
    assert starts == list(range(starts[0], starts[-1] + 1, MINUTE))
    assert live(desk)[len(ran) :] == [s for s in starts if s >= first]
    await desk.pass_(3)
    assert desk.orders() == []
    assert desk.blocks() == ()
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 2, 5)
    assert len(desk.orders(Role.ENTRY)) == 1


async def test_the_link_that_fails_again_while_the_gap_is_filled_starts_the_fill_anew(make_desk: MakeDesk) -> None:
    desk = await make_desk().start()
    await desk.next_candle(ES, "5001")
    desk.feed.history_delay = 30.0
    first = await cut_for(desk, 1)
    await desk.pass_(10)
    desk.feed.cut()
    await desk.pass_(5)
    desk.feed.trade(ES, "5055")
    await desk.pass_(5)
    desk.feed.restore()
    await desk.until(lambda: all(gap.closed for gap in view(desk).gaps), 120)
    desk.feed.trade(ES, "5000")
    await desk.next_candle(ES, "5000")
    starts = [c.start for c in view(desk).candles]
    assert starts == list(range(starts[0], starts[-1] + 1, MINUTE))
    assert max(c.high for c in view(desk).candles if c.start > first) == Decimal(5055)
    assert desk.blocks() == ()


async def test_a_session_that_starts_again_while_a_gap_is_filled_loses_no_candle_by_the_old_answer(
    make_desk: MakeDesk,
) -> None:
    """Two answers of history under one stream: the second threw away the window that was forming."""
    desk = await make_desk().start()
    await desk.next_candle(ES, "5001")
    desk.feed.history_delay = 30.0
    await cut_for(desk, 1)
    await desk.pass_(20)
    desk.trader().start_over("test")
    await desk.until(lambda: desk.trader().desk.phase is not Phase.TRADING, 5)
    await desk.until(lambda: desk.trader().desk.phase is Phase.TRADING, 60)
    desk.feed.trade(ES, "5055")
    first = desk.clock.now() - desk.clock.now() % MINUTE
    for _ in range(3):
        await desk.pass_(20)
        desk.feed.trade(ES, "5000")
    await desk.next_candle(ES, "5000")
    starts = [c.start for c in view(desk).candles]
    assert starts == list(range(starts[0], starts[-1] + 1, MINUTE))
    assert next(c.high for c in view(desk).candles if c.start == first) == Decimal(5055)
    assert desk.blocks() == ()


async def test_an_exit_decided_on_a_backfilled_candle_is_sent_once(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.strategies[ES].script += [nothing, leave, nothing]
    await cut_for(desk, 3)
    await desk.until(lambda: desk.position() == 0, 20)
    await desk.pass_(20)
    assert desk.broker_position() == 0
    closing = [
        f
        for f in desk.exchange.fills_since(desk.trader().desk.settings.account, 0)
        if f.side is desk.orders(Role.STOP)[0].terms.side
    ]
    assert sum(f.quantity for f in closing) == 2
    assert [o for o in desk.orders() if o.is_open] == []


async def test_an_exit_that_a_later_decision_superseded_is_not_sent(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk())
    desk.strategies[ES].script += [leave, enter(), nothing]
    await cut_for(desk, 3)
    await desk.pass_(30)
    assert desk.position() == desk.broker_position() == 2


async def test_a_missed_exit_is_asked_for_when_the_session_says_so(make_desk: MakeDesk) -> None:
    desk = await in_position(make_desk(session={"missed_exit": Remedy.ASK}))
    desk.strategies[ES].script += [leave, nothing, nothing]
    await cut_for(desk, 3)
    await desk.pass_(10)
    assert desk.position() == 2
    assert any("wanted out" in alert.text for alert in desk.engine.board.alerts())


async def test_warm_up_candles_never_make_an_order_and_a_decision_is_used_once_ever(make_desk: MakeDesk) -> None:
    first = await in_position(make_desk())
    used = [o.key for o in first.orders(Role.ENTRY)]
    await first.stop()
    second = make_desk(now=first.clock.now())
    second.feed.market = first.feed.market
    second.strategies[ES].script += [enter()]
    await begin(second)
    await second.until(lambda: view(second).phase is Phase.TRADING, 30)
    await second.pass_(5)
    assert second.position() == second.broker_position() == 2
    assert [o.key for o in second.orders(Role.ENTRY) if o.state is not OrderState.DENIED] in ([], used)


async def test_an_exit_missed_between_two_lives_is_sent_once_and_marked(make_desk: MakeDesk) -> None:
    first = await in_position(make_desk())
    await first.stop()
    second = make_desk(now=first.clock.now())
    second.feed.market = first.feed.market
    for _ in range(3):
        await second.clock.advance(second.clock.now() - second.clock.now() % MINUTE + MINUTE)
        second.feed.trade(ES, "5000")
    decide = second.strategies[ES].decide
    second.strategies[ES].decide = lambda context: leave(context) if context.warming else decide(context)  # type: ignore[method-assign]
    await begin(second)
    await second.until(lambda: second.position() == 0, 60)
    await second.pass_(10)
    assert second.broker_position() == 0
    exits = [o for o in second.orders() if o.role in (Role.EXIT, Role.STOP) and o.filled]
    assert sum(o.filled for o in exits) == 2
    assert any(Flag.MISSED in o.flags for o in exits)


async def test_a_missed_exit_is_found_again_by_a_session_that_starts_over_before_it_left(make_desk: MakeDesk) -> None:
    """The candle counted as used once it was caught up with, and the wish lived in memory alone."""
    desk = await in_position(make_desk())
    runner, last = desk.trader().runner, desk.trader().stream.series.last
    assert last is not None
    candle = replace(last, start=last.start + MINUTE)
    desk.strategies[ES].decide = leave  # type: ignore[method-assign]
    runner.decide(candle, (candle,), warming=False, catching_up=True)
    await desk.pass_(1)
    await runner.start_again()
    runner.decide(candle, (candle,), warming=True, catching_up=False)
    runner.send_missed()
    await desk.until(lambda: desk.position() == desk.broker_position() == 0, 10)

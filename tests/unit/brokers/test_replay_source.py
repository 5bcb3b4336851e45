"""A tape drives the clock: order, pacing by advance, candles, history, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokers.replay.source import ReplaySource
from brokers.replay.tape import open_tape
from engine.clock import TapeClock
from engine.domain.broker import LinkState
from engine.domain.ids import Symbol
from engine.domain.market import Candle, History, Tick, Timeframe
from engine.errors import ConfigurationError, QueryFailed
from engine.periodic import Tasks

SYMBOL = Symbol("X")
NOON = 1_577_880_000_000
MINUTE = Timeframe(60_000)


class Play:
    """A replay whose every sight is noted with the clock's time."""

    def __init__(self, folder: Path, *lines: str) -> None:
        path = folder / "tape.csv"
        path.write_text("\n".join(lines) + "\n")
        self.clock = TapeClock(NOON - 10_000)
        self.seen: list[tuple[str, int, object]] = []
        self.source = ReplaySource(
            open_tape(path, SYMBOL),
            self.clock,
            lambda tick: self.note("exchange", tick),
            lambda: self.note("end", None),
        )
        self.source.subscribe(SYMBOL, lambda tick: self.note("tick", tick))
        self.running: list[asyncio.Task[None]] = []
        self.tasks = Tasks("test", lambda name, error: None)

    def note(self, what: str, thing: object) -> None:
        self.seen.append((what, self.clock.now() - NOON, thing))

    def candle_sink(self, timeframe: Timeframe) -> None:
        self.source.subscribe_candles(SYMBOL, timeframe, lambda candle: self.note("candle", candle))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it run beside the tape."""
        self.running.append(self.tasks.spawn(work, "beside"))

    async def play(self) -> None:
        await self.source.start(lambda state, reason: self.note("link", state))
        running = self.tasks.spawn(self.source.run(), "run")
        await self.source.ended.wait()
        await self.source.stop()
        await running

    def candles(self) -> list[tuple[int, Candle]]:
        """Candles told, with the moment."""
        return [(at, thing) for at, thing in self.of("candle") if isinstance(thing, Candle)]

    def of(self, what: str) -> list[tuple[int, object]]:
        return [(at, thing) for name, at, thing in self.seen if name == what]


def ticks(*rows: tuple[int, int]) -> list[str]:
    return ["timestamp,price", *(f"{NOON + at},{price}" for at, price in rows)]


def candles(*rows: tuple[int, str]) -> list[str]:
    return ["time,open,high,low,close,volume", *(f"{NOON + minute * 60000},{row}" for minute, row in rows)]


async def test_each_tick_moves_the_clock_and_the_exchange_sees_it_first(tmp_path: Path) -> None:
    play = Play(tmp_path, *ticks((0, 1), (500, 2), (500, 3), (9_000, 4)))
    await play.play()
    assert [(what, at, int(tick.price)) for what, at, tick in play.seen if isinstance(tick, Tick)] == [
        ("exchange", 0, 1), ("tick", 0, 1), ("exchange", 500, 2), ("tick", 500, 2),
        ("exchange", 500, 3), ("tick", 500, 3), ("exchange", 9_000, 4), ("tick", 9_000, 4),
    ]  # fmt: skip
    assert play.of("link") == [(-10_000, LinkState.UP)]
    assert play.of("end") == [(9_000, None)]
    assert play.source.played_rows == 4


async def test_timers_fire_before_the_tape_starts_and_between_its_ticks(tmp_path: Path) -> None:
    play = Play(tmp_path, *ticks((0, 1), (5_000, 2)))
    play.clock.call_at(NOON - 9_000, lambda: play.note("early", None))
    play.clock.call_at(NOON + 2_000, lambda: play.note("between", None))
    await play.source.start(lambda state, reason: None)
    await play.clock.sleep(2)  # start-up waits on the clock, though no tick moves it
    assert play.of("early") == [(-9_000, None)]
    play.spawn(play.source.run())
    await play.source.ended.wait()
    await play.source.stop()
    order = [what for what, _, _ in play.seen]
    assert order.index("between") == order.index("tick") + 1


async def test_after_the_end_time_goes_on_until_the_stop(tmp_path: Path) -> None:
    play = Play(tmp_path, *ticks((0, 1)))
    await play.source.start(lambda state, reason: None)
    running = play.tasks.spawn(play.source.run(), "run")
    await play.source.ended.wait()
    await play.clock.sleep(0.05)
    assert not running.done()
    assert play.clock.now() >= NOON + 50
    await play.source.stop()
    await running


async def test_stopped_in_the_middle_nothing_more_is_delivered_and_no_end_is_told(tmp_path: Path) -> None:
    play = Play(tmp_path, *ticks(*((at * 100, 1) for at in range(100))))
    await play.source.start(lambda state, reason: None)
    running = play.tasks.spawn(play.source.run(), "run")
    play.clock.call_at(NOON + 1_050, lambda: play.spawn(play.source.stop()))
    await running
    assert len(play.of("tick")) == 11
    assert not play.of("end")
    assert not play.source.ended.is_set()


async def test_history_is_empty_before_the_first_tick_and_then_what_was_played(tmp_path: Path) -> None:
    rows = [(at * 7_000, 100 + at % 5) for at in range(40)]
    play = Play(tmp_path, *ticks(*rows))
    asked: list[tuple[int, History]] = []

    async def ask() -> None:
        asked.append((play.clock.now(), await play.source.history(SYMBOL, MINUTE, 10, play.clock.now())))

    await play.source.start(lambda state, reason: None)
    await ask()
    play.clock.call_at(NOON + 150_000, lambda: play.spawn(ask()))
    play.spawn(play.source.run())
    await play.source.ended.wait()
    await play.source.stop()
    (early, before), (later, history) = asked
    assert before == History((), None, early)
    assert history.as_of == later == NOON + 150_000
    inside = [price for at, price in rows if at < 60_000]
    opened, high, low, last, count = (
        Decimal(value) for value in (inside[0], max(inside), min(inside), inside[-1], len(inside))
    )
    assert history.candles[0] == Candle(NOON, opened, high, low, last, count)
    assert [candle.start - NOON for candle in history.candles] == [0, 60_000]
    assert history.forming is not None
    assert history.forming.volume == sum(120_000 <= at <= 150_000 for at, _ in rows)


async def test_history_never_splits_a_millisecond(tmp_path: Path) -> None:
    play = Play(tmp_path, *ticks((0, 1), (1_000, 2), (1_000, 3), (2_000, 4)))
    asked: list[History] = []

    def at_tick(tick: Tick) -> None:
        if tick.at == NOON + 1_000:
            play.spawn(ask())

    async def ask() -> None:
        asked.append(await play.source.history(SYMBOL, MINUTE, 5, play.clock.now() + 1))

    play.source.subscribe(SYMBOL, at_tick)
    await play.play()
    first, second = asked
    assert (first.as_of - NOON, first.forming and first.forming.volume) == (999, Decimal(1))
    assert (second.as_of - NOON, second.forming and second.forming.volume) == (1_000, Decimal(3))


async def test_a_candle_is_delivered_when_its_window_has_passed(tmp_path: Path) -> None:
    play = Play(tmp_path, *candles((0, "1,4,1,2,8"), (1, "4,5,1,2,8"), (3, "2,2,2,2,8")))
    play.candle_sink(MINUTE)
    await play.play()
    assert [at for at, _ in play.of("candle")] == [60_000, 120_000, 240_000]
    exchange = [(at, int(tick.price)) for at, tick in play.of("exchange") if isinstance(tick, Tick)]
    assert exchange[:8] == [
        (0, 1), (19_999, 1), (39_999, 4), (59_999, 2),
        (60_000, 4), (79_999, 5), (99_999, 1), (119_999, 2),
    ]  # fmt: skip
    assert sum(tick.size for _, tick in play.of("exchange")[:4] if isinstance(tick, Tick)) == 8


async def test_a_repeated_candle_is_delivered_again_and_does_not_move_the_exchange(tmp_path: Path) -> None:
    play = Play(
        tmp_path, *candles((0, "1,1,1,1,1"), (1, "2,2,2,2,2"), (0, "9,9,9,9,9"), (1, "8,8,8,8,8"), (2, "3,3,3,3,3"))
    )
    play.candle_sink(MINUTE)
    await play.play()
    told = [
        (at, candle.start - NOON, int(candle.close)) for at, candle in play.of("candle") if isinstance(candle, Candle)
    ]
    assert told == [(60_000, 0, 1), (120_000, 60_000, 2), (120_000, 0, 9), (120_000, 60_000, 8), (180_000, 120_000, 3)]
    assert {int(tick.price) for _, tick in play.of("exchange") if isinstance(tick, Tick)} == {1, 2, 3}
    assert len(play.of("exchange")) == 12


async def test_longer_candles_are_put_together_and_follow_replacements(tmp_path: Path) -> None:
    rows = [(minute, f"{minute + 1},{minute + 2},{minute + 1},{minute + 1},1") for minute in range(5)]
    play = Play(tmp_path, *candles(*rows, (3, "4,50,4,4,1"), (5, "6,6,6,6,1"), (10, "1,1,1,1,1")))
    play.candle_sink(Timeframe(300_000))
    await play.play()
    told = [
        (at, candle.start - NOON, int(candle.high), int(candle.volume))
        for at, candle in play.of("candle")
        if isinstance(candle, Candle)
    ]
    # The second window has one recorded minute: it is given out when a later window opens. The third stays forming.
    assert told == [(300_000, 0, 6, 5), (300_000, 0, 50, 5), (360_000, 300_000, 6, 1)]
    with pytest.raises(ConfigurationError, match="multiple"):
        play.candle_sink(Timeframe(30_000))


async def test_history_of_candles_is_what_has_closed(tmp_path: Path) -> None:
    play = Play(tmp_path, *candles(*((minute, f"{minute + 1},9,1,2,1") for minute in range(6))))
    asked: list[History] = []

    async def ask() -> None:
        asked.append(await play.source.history(SYMBOL, MINUTE, 2, play.clock.now()))
        with pytest.raises(QueryFailed):
            await play.source.history(SYMBOL, Timeframe(30_000), 2, play.clock.now())

    play.clock.call_at(NOON + 200_000, lambda: play.spawn(ask()))
    await play.play()
    (history,) = asked
    # The fourth minute is on the way: its ticks come after `as_of`, so that nobody counts them twice.
    assert [candle.start - NOON for candle in history.candles] == [60_000, 120_000]
    assert (history.forming, history.as_of - NOON) == (None, 179_999)


async def test_a_single_candle_counts_as_a_minute(tmp_path: Path) -> None:
    play = Play(tmp_path, *candles((0, "1,4,1,2,8")))
    play.candle_sink(MINUTE)
    assert play.source.step == MINUTE
    await play.play()
    assert [at for at, _ in play.candles()] == [60_000]


async def test_ticks_have_no_candles_and_other_symbols_are_unknown(tmp_path: Path) -> None:
    play = Play(tmp_path, *ticks((0, 1)))
    assert play.source.step is None
    with pytest.raises(ConfigurationError, match="ticks, not candles"):
        play.candle_sink(MINUTE)
    with pytest.raises(KeyError):
        play.source.subscribe(Symbol("Y"), lambda tick: None)
    with pytest.raises(QueryFailed):
        await play.source.history(Symbol("Y"), MINUTE, 1, NOON)


async def test_a_cut_hides_ticks_from_sinks_and_history_has_them(tmp_path: Path) -> None:
    play = Play(tmp_path, *ticks(*((at * 1_000, at + 1) for at in range(60))))
    play.clock.call_at(NOON + 10_500, lambda: play.source.disconnect(20))
    await play.play()
    hidden = {int(tick.price) - 1 for _, tick in play.of("exchange") if isinstance(tick, Tick)} - {
        int(tick.price) - 1 for _, tick in play.of("tick") if isinstance(tick, Tick)
    }
    assert hidden == set(range(11, 31))
    assert [state for _, state in play.of("link")] == [LinkState.UP, LinkState.RECONNECTING, LinkState.UP]


async def test_a_candle_is_changed_on_demand(tmp_path: Path) -> None:
    play = Play(tmp_path, *candles((0, "1,4,1,2,8"), (1, "4,5,1,2,8")))
    play.candle_sink(MINUTE)
    with pytest.raises(ValueError, match="not connected"):
        play.source.replace_candle(None, MINUTE)

    def change() -> None:
        play.source.replace_candle(None, MINUTE)

    play.clock.call_at(NOON + 70_000, change)
    await play.play()
    told = [
        (at, candle.start - NOON, int(candle.high)) for at, candle in play.of("candle") if isinstance(candle, Candle)
    ]
    assert told == [(60_000, 0, 4), (70_000, 0, 5), (120_000, 60_000, 5)]

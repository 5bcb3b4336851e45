"""A session on a tape: four hours of ticks of the seeded market, the engine's own candles, the strategy's own fills.

Two things go wrong on the way, as they do: the link is down for three windows, which history fills later, and a tick
comes late and changes a candle that had closed.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import msgspec

from brokers.paper.synthetic import SyntheticMarket
from engine.domain.decisions import StrategyContext, Submit
from engine.domain.market import Candle, CandleOrigin, Tick, Timeframe
from engine.domain.positions import FLAT, Position, after_fill
from engine.inbound.candle_assembler import CandleAssembler, amended
from engine.snapshot import ChartMark, DecisionLine, DeskSnapshot, Gap, MarkKind, Seam, SessionView
from engine.strategies.ema_cross import EmaCross
from screenshots.market_story import EURUSD, MINUTE, NOW, eurusd
from screenshots.story import busy_desk

HOURS, SEED = 4, 11
WARMUP = 50
SIZE = Decimal("0.6")
LOST, LATE = range(-30, -27), -20
"""Windows that history brought, and the window in which a tick came late; counted from the newest."""


def windows() -> tuple[list[Candle], Candle]:
    """Closed candles and the forming one, as the assembler makes them of the tape."""
    market = SyntheticMarket([EURUSD], SEED, NOW - HOURS * 60 * MINUTE, {EURUSD.symbol: Decimal("1.11980")})
    assembler = CandleAssembler(Timeframe(MINUTE))
    closed: list[Candle] = []
    while market.next_at <= NOW - 400:
        candle = assembler.add(market.next())
        if candle is not None:
            closed.append(candle)
    forming = assembler.forming()
    assert forming is not None
    closed = [
        msgspec.structs.replace(
            candle, origin=CandleOrigin.WARMUP if index < WARMUP else CandleOrigin.LIVE, volume=candle.volume * 10
        )
        for index, candle in enumerate(closed)
    ]
    for index in LOST:
        closed[index] = msgspec.structs.replace(closed[index], origin=CandleOrigin.BACKFILLED)
    old = closed[LATE]
    late = Tick(EURUSD.symbol, old.start + 30_000, old.high + 3 * EURUSD.tick_size, SIZE)
    closed[LATE] = amended(old, late, old.start, old.start + MINUTE)
    return closed, msgspec.structs.replace(forming, volume=forming.volume * 10)


def traded(candles: list[Candle]) -> tuple[tuple[ChartMark, ...], tuple[DecisionLine, ...], Position, Decimal | None]:
    """What the strategy decides on each candle, filled at the next one's open: marks, log, position, stop."""
    strategy = EmaCross()
    state, held, stop = strategy.initial(), FLAT, None
    marks: list[ChartMark] = []
    log: list[DecisionLine] = []
    for end, (candle, following) in enumerate(pairwise(candles), start=1):
        context = StrategyContext(
            candles=candles[:end], state=state, position=held, orders=(), instrument=EURUSD, warming=end <= WARMUP
        )
        decision = strategy.decide(context)
        state = decision.state
        words = "nothing"
        if isinstance(decision, Submit) and decision.side is not None and end > WARMUP:
            words = f"{decision.intent} {decision.side}"
            price, sign, stop = following.open, decision.side.sign, decision.stop_loss
            if not held.is_flat:
                marks.append(ChartMark(following.start + 200, MarkKind.EXIT, decision.side, price, SIZE))
                held = after_fill(held, sign * SIZE, price).position
            marks.append(ChartMark(following.start + 400, MarkKind.ENTRY, decision.side, price, SIZE))
            held = after_fill(held, sign * SIZE, price).position
        log.append(
            DecisionLine(candle=candle.start, at=candle.start + MINUTE + 40, ran=True, decision=words,
                         reason=decision.reason)
        )  # fmt: skip
    return tuple(marks), tuple(log[-40:]), held, stop


def on_tape() -> SessionView:
    """The session at the end of the tape."""
    closed, forming = windows()
    marks, log, held, stop = traded([*closed, forming])
    gap = Gap(start=closed[LOST.start].start, end=closed[LOST.stop].start, cause="feed link was down", filled=3,
              closed=True)  # fmt: skip
    joined = closed[WARMUP]
    seam = Seam(subscribed=joined.start - 2 * MINUTE + 7_000, history_until=joined.start + 7_000,
                history_candles=WARMUP, overlap=2)  # fmt: skip
    assert held.average_price is not None
    assert stop is not None
    profit = (forming.close - held.average_price) * held.quantity * EURUSD.point_value
    return msgspec.structs.replace(
        eurusd(), candles=tuple(closed), forming=forming, last_price=forming.close, gaps=(gap,), seam=seam, marks=marks,
        replaced=frozenset({closed[LATE].start}), decisions=log, position=held, stop_price=stop,
        target_price=EURUSD.nearest(held.average_price + (held.average_price - stop) * 3),
        open_profit=profit, strategy_runs=len(closed) - WARMUP, day_profit=Decimal("64.20"),
    )  # fmt: skip


def tape_desk() -> DeskSnapshot:
    """The busy desk with the first session on the tape."""
    desk = busy_desk()
    return msgspec.structs.replace(desk, sessions=(on_tape(), *desk.sessions[1:]))

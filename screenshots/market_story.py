"""The four sessions of the story: seeded candles, positions, gaps, marks."""

from __future__ import annotations

import math
from decimal import Decimal
from random import Random

import msgspec

from engine.domain.freshness import Freshness
from engine.domain.ids import AccountId, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Candle, CandleOrigin, Timeframe
from engine.domain.orders import Side
from engine.domain.positions import FLAT, Position
from engine.domain.risk import (
    Stance,
)
from engine.domain.settings import Protection, SessionLimits
from engine.snapshot import (
    Block,
    ChartMark,
    DecisionLine,
    Gap,
    MarkKind,
    Phase,
    ProtectionState,
    Seam,
    SessionView,
)

D = Decimal
NOW = 1_577_973_127_000
"""2020-01-02 13:52:07 UTC."""
MINUTE = 60_000
ACCOUNT = AccountId("paper-1")
EURUSD = Instrument(symbol=Symbol("EURUSD"), tick_size=D("0.00001"), point_value=D(100000), size_step=D("0.01"))
BTCUSD = Instrument(symbol=Symbol("BTCUSD"), tick_size=D("0.01"), size_step=D("0.001"))
ES = Instrument(symbol=Symbol("ESH0"), tick_size=D("0.25"), point_value=D(50), group="us-index")
NQ = Instrument(symbol=Symbol("NQH0"), tick_size=D("0.25"), point_value=D(20), group="us-index")
LIMITS = SessionLimits(
    max_order_size=D(2),
    max_position_size=D(4),
    entries_per_minute=2,
    entries_per_day=20,
    price_collar=D("0.02"),
    max_daily_loss=D(2500),
    worst_case_per_contract=D(1500),
)
FAULTS = (
    ("margin_desk", "margin desk moves a position", "The broker closes part of a position on its own.", "1"),
    ("lose_answer", "lose the answer to the next order", "The order arrives, its answer does not.", ""),
    ("foreign_order", "somebody else places an order", "An order that is not ours appears on the account.", ""),
    ("disconnect_feed", "cut the feed", "Seconds until it is back.", "30"),
)


def candles(instrument: Instrument, start: Decimal, step: Decimal, count: int, seed: int) -> list[Candle]:
    """A seeded walk with a slow swell, on the instrument's grid."""
    dice = Random(seed)
    first = NOW // MINUTE * MINUTE - count * MINUTE
    made = []
    price = start
    for index in range(count):
        drift = D(str(round(math.sin(index / 11) * 0.5, 4)))
        close = price + step * (D(str(round(dice.gauss(0, 1), 4))) + drift)
        high = max(price, close) + step * D(str(round(abs(dice.gauss(0, 0.6)), 4)))
        low = min(price, close) - step * D(str(round(abs(dice.gauss(0, 0.6)), 4)))
        made.append(
            Candle(
                first + index * MINUTE,
                instrument.nearest(price),
                instrument.nearest(high),
                instrument.nearest(low),
                instrument.nearest(close),
                D(round(40 + abs(dice.gauss(0, 1)) * 60)),
                CandleOrigin.WARMUP if index < 50 else CandleOrigin.LIVE,
            )
        )
        price = close
    return made


def forming(instrument: Instrument, after: Candle, step: Decimal) -> Candle:
    """A candle seven seconds old that has already been around."""
    return Candle(
        NOW // MINUTE * MINUTE,
        after.close,
        instrument.nearest(after.close + step * 2),
        instrument.nearest(after.close - step / 2),
        instrument.nearest(after.close + step),
        D(23),
    )


DECISIONS = (
    (4, False, "not run", "the candle replaced one that had been decided on"),
    (2, True, "nothing", "fast average is above slow, the position is held"),
    (1, True, "nothing", "no cross"),
    (0, True, "submit", "EMA 5 crossed above EMA 13; stop at 2×ATR"),
)


def session(
    name: str, instrument: Instrument, start: Decimal, step: Decimal, seed: int, strategy: str = "ema_cross"
) -> SessionView:
    """A quiet, flat session that trades; stories change what they need."""
    series = candles(instrument, start, step, 130, seed)
    now = forming(instrument, series[-1], step)
    return SessionView(
        id=SessionId(name),
        account=ACCOUNT,
        instrument=instrument,
        strategy=strategy,
        timeframe=Timeframe(MINUTE),
        limits=LIMITS,
        protection_wanted=Protection.STOP,
        phase=Phase.TRADING,
        phase_detail="",
        warmed=50,
        warmup=50,
        blocked=(),
        paused=False,
        latches=(),
        freshness=Freshness.FRESH,
        last_price=now.close,
        last_tick=NOW - 400,
        forming=now,
        candles=tuple(series),
        replaced=frozenset(),
        gaps=(),
        seam=Seam(subscribed=NOW - 80 * MINUTE, history_until=NOW - 78 * MINUTE, history_candles=50, overlap=2),
        marks=(),
        decisions=tuple(
            DecisionLine(
                candle=NOW // MINUTE * MINUTE - (back + 1) * MINUTE,
                at=NOW // MINUTE * MINUTE - back * MINUTE + 40,
                ran=ran,
                decision=what,
                reason=why,
            )
            for back, ran, what, why in DECISIONS
        ),
        position=FLAT,
        position_confirmed=NOW - 12_300,
        protection=ProtectionState.FLAT,
        stop_price=None,
        target_price=None,
        open_profit=D(0),
        day_profit=D(0),
        heat_share=D(0),
        stance=Stance.OPEN,
        strategy_runs=80,
        restarts=0,
    )


def eurusd() -> SessionView:
    """Long 0.60 with stop and target at the broker; a gap was filled and a candle replaced."""
    view = session("eurusd-ema", EURUSD, D("1.11980"), D("0.00009"), 7)
    series = list(view.candles)
    for index in (-22, -21, -20):
        series[index] = msgspec.structs.replace(series[index], origin=CandleOrigin.BACKFILLED)
    low = min(candle.low for candle in series[-70:])
    entry = series[-16]
    out = series[-46]
    return msgspec.structs.replace(
        view,
        candles=tuple(series),
        replaced=frozenset({series[-9].start}),
        gaps=(Gap(start=series[-22].start, end=series[-19].start, cause="feed link was down", filled=3, closed=True),),
        marks=(
            ChartMark(series[-60].start + 900, MarkKind.ENTRY, Side.SELL, series[-60].open, D("0.5")),
            ChartMark(out.start + 900, MarkKind.EXIT, Side.BUY, out.open, D("0.5")),
            ChartMark(entry.start + 400, MarkKind.ENTRY, Side.BUY, entry.open, D("0.6")),
        ),
        position=Position(D("0.6"), entry.open),
        protection=ProtectionState.COVERED,
        stop_price=EURUSD.nearest(low - D("0.00018")),
        target_price=EURUSD.nearest(max(c.high for c in series[-70:]) + D("0.00012")),
        open_profit=D("41.40"),
        day_profit=D("128.75"),
        heat_share=D("0.82"),
    )


def btcusd() -> SessionView:
    """An entry nobody has heard of since it was sent."""
    return msgspec.structs.replace(
        session("btc-breakout", BTCUSD, D("7180.00"), D("4.10"), 21, "donchian_breakout"),
        blocked=(Block("an order is in doubt: entries wait for evidence", NOW - 13_000),),
        day_profit=D("-212.40"),
        heat_share=D("1.90"),
        last_tick=NOW - 3_200,
    )


def es() -> SessionView:
    """Short 1 after the margin desk closed one of two; entries wait for a person."""
    view = session("es-range", ES, D("3238.50"), D("0.85"), 3, "opening_range")
    return msgspec.structs.replace(
        view,
        blocked=(Block("position disagreement: adopted, waits for you to acknowledge it", NOW - 128_000),),
        position=Position(D(-1), ES.nearest(view.candles[-30].close)),
        protection=ProtectionState.COVERED,
        stop_price=ES.nearest(max(c.high for c in view.candles[-40:]) + D("1.5")),
        marks=(ChartMark(view.candles[-30].start, MarkKind.ENTRY, Side.SELL, view.candles[-30].close, D(2)),),
        open_profit=D("-187.50"),
        day_profit=D("62.50"),
        heat_share=D("2.60"),
        last_tick=NOW - 900,
    )


def nq() -> SessionView:
    """Still warming up."""
    view = session("nq-ema", NQ, D("8790.25"), D("2.6"), 11)
    return msgspec.structs.replace(
        view,
        candles=view.candles[-31:],
        phase=Phase.WARMING,
        phase_detail="history joined, 31 of 50 candles",
        warmed=31,
        blocked=(Block("warming up: 31 of 50 candles", NOW - 9 * MINUTE),),
        seam=Seam(subscribed=NOW - 20_000, history_until=NOW - 60_000, history_candles=31, overlap=1),
        decisions=(),
        heat_share=D(0),
        strategy_runs=0,
    )

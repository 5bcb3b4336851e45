"""The two desks that need no file: the embedded paper desk, and one session over a recording."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from console.config_model import DATABASE_FILE, AccountSettings, DeskSettings, FeedKind, SqliteFile
from engine.domain.ids import AccountId, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Timeframe
from engine.domain.risk import GroupLimits, PortfolioSettings
from engine.domain.settings import FixedSize, Numbers, RiskSize, SessionLimits, SessionSettings, Sizing

PAPER = AccountId("paper")
MINUTE = Timeframe(60_000)
_WIDE = Decimal(1_000_000_000_000)


def default_desk(state_dir: Path, operator: str = "operator") -> DeskSettings:
    """The embedded paper desk: four sessions on a synthetic market, sized so that heat moves between 0 and 6 %.

    Two of them trade short candles, so that there is an order to see within a minute or two.
    """
    return DeskSettings(
        origin="the embedded paper desk",
        state_dir=state_dir,
        database=SqliteFile(state_dir / DATABASE_FILE),
        operator=operator,
        portfolio=PortfolioSettings(groups=(GroupLimits(name="us-index", block=Decimal(5)),)),
        accounts=(
            AccountSettings(
                id=PAPER,
                equity=Decimal(250_000),
                fee_per_unit=Decimal("1.25"),
                margin_per_unit={
                    Symbol("ESZ6"): Decimal(15_000),
                    Symbol("NQZ6"): Decimal(20_000),
                    Symbol("CLF7"): Decimal(6_000),
                    Symbol("6EZ6"): Decimal(2_800),
                },
            ),
        ),
        instruments=(
            _future("ESZ6", "0.25", 50, "us-index", 2_500),
            _future("NQZ6", "0.25", 20, "us-index", 4_000),
            _future("CLF7", "0.01", 1_000, "energy", 2_000),
            _future("6EZ6", "0.00005", 125_000, "fx", 1_500),
        ),
        sessions=(
            _demo("es-cross", "ESZ6", "ema_cross", {"fast": 3, "slow": 8, "stop_atr": 4}, 3, 2_500, 5),
            _demo("cl-breakout", "CLF7", "donchian_breakout", {"entry": 12, "exit": 6}, 6, 2_000),
            _demo("nq-range", "NQZ6", "opening_range", {"period_minutes": 30, "range_minutes": 5}, 2, 4_000),
            _demo("euro-cross", "6EZ6", "ema_cross", {"fast": 4, "slow": 11, "stop_atr": 4}, 5, 1_500, 10),
        ),
    )


def _future(symbol: str, tick: str, point_value: int, group: str, worst_case: int) -> Instrument:
    return Instrument(
        symbol=Symbol(symbol),
        tick_size=Decimal(tick),
        point_value=Decimal(point_value),
        group=group,
        worst_case=Decimal(worst_case),
    )


def _demo(
    name: str,
    symbol: str,
    strategy: str,
    arguments: dict[str, Any],
    contracts: int,
    worst_case: int,
    seconds: int = 60,
) -> SessionSettings:
    return SessionSettings(
        id=SessionId(name),
        account=PAPER,
        symbol=Symbol(symbol),
        strategy=strategy,
        timeframe=Timeframe(seconds * 1000),
        arguments=arguments,
        warmup=60,
        sizing=FixedSize(Decimal(contracts)),
        limits=SessionLimits(
            max_order_size=Decimal(2 * contracts),
            max_position_size=Decimal(2 * contracts),
            entries_per_minute=6,
            entries_per_day=2_000,
            price_collar=Decimal("0.02"),
            max_daily_loss=Decimal(12_500),
            worst_case_per_contract=Decimal(worst_case),
        ),
    )


def replay_desk(
    state_dir: Path,
    *,
    replay: Path,
    symbol: str,
    tick_size: Decimal,
    timeframe: Timeframe = MINUTE,
    strategy: str = "ema_cross",
    warmup: int = 20,
    stale_after_ms: int = 15_000,
    price: Decimal | None = None,
    operator: str = "operator",
) -> DeskSettings:
    """One paper session over a recording whose smallest price step is `tick_size`.

    Nothing binds but the strategy: no margin, no gap floor beneath the stop (at a size for 1 % of equity between
    entry and stop, a quarter of a percent of a currency pair's price would be several times that), limits far
    away. `price` is any price of the tape, for what an uncovered unit may lose.
    """
    arguments: dict[str, Any] = {"fast": 5, "slow": 13, "stop_atr": Decimal(2)} if strategy == "ema_cross" else {}
    worst_case = price * Decimal("0.01") if price else tick_size * 1_000
    sizing: Sizing = RiskSize(Decimal(1))
    return DeskSettings(
        origin=f"a replay of {replay.name}",
        feed=FeedKind.REPLAY,
        replay=replay,
        replay_symbol=Symbol(symbol),
        state_dir=state_dir,
        database=SqliteFile(state_dir / DATABASE_FILE),
        operator=operator,
        numbers=Numbers(gap_floor_ticks=0, gap_floor_fraction=Decimal(0)),
        accounts=(AccountSettings(id=PAPER, equity=Decimal(100_000), margin_rate=Decimal(0)),),
        instruments=(
            Instrument(
                symbol=Symbol(symbol),
                tick_size=tick_size,
                # Fine enough that 1 % of 100,000 is tradable at 1.12 as at 40,000.
                size_step=Decimal("0.000001"),
                worst_case=worst_case,
                stale_after_ms=stale_after_ms,
                silent_after_ms=4 * stale_after_ms,
            ),
        ),
        sessions=(
            SessionSettings(
                id=SessionId("replay"),
                account=PAPER,
                symbol=Symbol(symbol),
                strategy=strategy,
                timeframe=timeframe,
                arguments=arguments,
                warmup=warmup,
                sizing=sizing,
                limits=SessionLimits(
                    max_order_size=_WIDE,
                    max_position_size=_WIDE,
                    entries_per_minute=1_000_000,
                    entries_per_day=1_000_000,
                    price_collar=Decimal(1),
                    max_daily_loss=_WIDE,
                    worst_case_per_contract=worst_case,
                ),
            ),
        ),
    )

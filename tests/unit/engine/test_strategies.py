"""The built-in strategies on golden sequences, and how a strategy is found, checked and refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.decisions import Decision, Intent, Nothing, StrategyContext, Submit
from engine.domain.market import Candle
from engine.domain.orders import Side
from engine.domain.positions import FLAT, Position
from engine.errors import ConfigurationError
from engine.strategies.donchian_breakout import DonchianBreakout
from engine.strategies.ema_cross import EmaCross
from engine.strategies.indicators import average_true_range, ema_step
from engine.strategies.loading import BUILT_IN, load_strategy
from engine.strategies.opening_range import OpeningRange
from engine.strategies.protocol import Strategy
from tests.unit.engine.samples import ES, candle, d

MINUTE = 60_000


def bars(*closes: float) -> list[Candle]:
    """One candle a minute, a point of range around each close."""
    return [candle(n * MINUTE, str(c), high=str(c + 1), low=str(c - 1)) for n, c in enumerate(closes)]


def decisions(
    strategy: Strategy, candles: Sequence[Candle], position: Position = FLAT, *, follow: bool = False
) -> list[Decision]:
    """What it decides on each candle in turn; with `follow` the position is as the decisions would have it."""
    state, made = strategy.initial(), list[Decision]()
    for number in range(1, len(candles) + 1):
        decision = strategy.decide(
            StrategyContext(candles=tuple(candles[:number]), state=state, position=position, orders=(), instrument=ES)
        )
        state = decision.state
        made.append(decision)
        if follow and isinstance(decision, Submit):
            sign = 0 if decision.side is None or decision.intent is Intent.EXIT else decision.side.sign
            position = Position(Decimal(sign), candles[number - 1].close) if sign else FLAT
    return made


def submits(made: list[Decision]) -> list[tuple[int, Intent, Side | None, Decimal | None]]:
    return [(n, s.intent, s.side, s.stop_loss) for n, s in enumerate(made) if isinstance(s, Submit)]


# -- ema_cross --------------------------------------------------------------------------------------------

UP_AND_DOWN = bars(100, 99, 98, 97, 96, 97, 99, 102, 105, 104, 101, 97, 93)


def test_ema_cross_enters_on_a_cross_and_reverses_on_the_next() -> None:
    strategy = EmaCross(fast=2, slow=4, atr=3, stop_atr=2.0)
    made = submits(decisions(strategy, UP_AND_DOWN, follow=True))
    fast = slow = None
    above: list[bool] = []
    for bar in UP_AND_DOWN:
        fast, slow = ema_step(fast, float(bar.close), 2), ema_step(slow, float(bar.close), 4)
        above.append(fast > slow)
    crosses = [n for n in range(4, len(above)) if above[n] != above[n - 1]]
    assert [n for n, *_ in made] == crosses == [6, 10]
    assert [(intent, side) for _, intent, side, _ in made] == [(Intent.ENTER, Side.BUY), (Intent.REVERSE, Side.SELL)]
    reach = average_true_range(UP_AND_DOWN[:7], 3)
    assert reach is not None
    assert made[0][3] == ES.nearest(d(99) - 2 * reach)


def test_ema_cross_says_why_it_does_nothing() -> None:
    made = decisions(EmaCross(fast=2, slow=4, atr=3), UP_AND_DOWN[:6])
    reasons = [m.reason for m in made if isinstance(m, Nothing)]
    assert reasons[:4] == [f"{n} of 5 candles seen" for n in (1, 2, 3, 4)]
    assert reasons[4:] == ["fast below slow", "fast below slow"]


def test_ema_cross_stays_with_a_position_that_already_goes_its_way() -> None:
    long = Position(d(1), d(90))
    made = decisions(EmaCross(fast=2, slow=4, atr=3), UP_AND_DOWN[:8], long)
    assert submits(made) == []
    assert "already in the direction" in made[6].reason


def test_ema_cross_leaves_a_position_even_where_it_cannot_place_a_stop_for_the_next() -> None:
    """A cross against the position is an exit at least: no range, or a stop below zero, bars the entry only."""
    short = Position(d(-1), d(100))
    no_range = submits(decisions(EmaCross(fast=2, slow=4, atr=50), UP_AND_DOWN[:7], short))
    below_zero = submits(decisions(EmaCross(fast=2, slow=4, atr=3, stop_atr=500), UP_AND_DOWN[:7], short))
    assert [(n, intent) for n, intent, *_ in no_range] == [(6, Intent.EXIT)]
    assert [(n, intent) for n, intent, *_ in below_zero] == [(6, Intent.EXIT)]
    assert submits(decisions(EmaCross(fast=2, slow=4, atr=3, stop_atr=500), UP_AND_DOWN[:7])) == []


# -- donchian ---------------------------------------------------------------------------------------------


def test_donchian_enters_beyond_the_long_channel_and_leaves_beyond_the_short_one() -> None:
    closes = bars(100, 101, 100, 101, 103, 104, 105, 103, 99, 97)
    made = submits(decisions(DonchianBreakout(entry=4, exit=2), closes, follow=True))
    assert made == [
        (4, Intent.ENTER, Side.BUY, d(99)),
        (8, Intent.EXIT, None, None),
        (9, Intent.ENTER, Side.SELL, d(104)),
    ]


def test_donchian_leaves_the_deciding_candle_out_of_its_channel() -> None:
    """Its own high is above its close: with it in the channel no close could ever break out."""
    closes = bars(100, 100, 100, 100, 101.25)
    assert submits(decisions(DonchianBreakout(entry=4, exit=2), closes)) == [(4, Intent.ENTER, Side.BUY, d(99))]
    assert submits(decisions(DonchianBreakout(entry=4, exit=2), bars(100, 100, 100, 100, 101))) == []


def test_donchian_covers_a_short_above_the_exit_channel() -> None:
    made = submits(decisions(DonchianBreakout(entry=4, exit=2), bars(100, 100, 100, 100, 103), Position(d(-1), d(99))))
    assert [(n, intent) for n, intent, *_ in made] == [(4, Intent.EXIT)]


# -- opening range ----------------------------------------------------------------------------------------


def test_opening_range_trades_the_first_close_outside_once_a_period() -> None:
    strategy = OpeningRange(period_minutes=10, range_minutes=3, reward=2.0)
    closes = bars(100, 101, 100, 101, 103, 104, 105, 99, 98, 97, 90, 91, 92, 88)
    made = decisions(strategy, closes)
    assert submits(made) == [(4, Intent.ENTER, Side.BUY, d(99)), (13, Intent.ENTER, Side.SELL, d(93))]
    first, second = made[4], made[13]
    assert isinstance(first, Submit)
    assert isinstance(second, Submit)
    assert (first.take_profit, second.take_profit) == (d(103 + 2 * 4), d(88 - 2 * 5))
    assert made[5].reason == "this period was traded"
    assert made[3].reason == "inside the opening range"


def test_opening_range_trades_no_period_whose_opening_it_did_not_see() -> None:
    strategy = OpeningRange(period_minutes=10, range_minutes=3)
    made = decisions(strategy, bars(100, 101, 100, 101, 150)[3:])
    assert submits(made) == []
    assert made[-1].reason == "the opening of this period was not seen"


# -- all of them ------------------------------------------------------------------------------------------

ALL: list[Strategy] = [
    EmaCross(fast=2, slow=5, atr=3),
    DonchianBreakout(entry=4, exit=2),
    OpeningRange(period_minutes=10, range_minutes=3),
]


@settings(max_examples=40)
@given(
    walk=st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    after=st.lists(st.integers(-50, 50), max_size=5),
    held=st.integers(-1, 1),
)
def test_a_decision_depends_on_nothing_that_comes_later(walk: list[int], after: list[int], held: int) -> None:
    closes = [200 + sum(walk[: n + 1]) for n in range(len(walk))]
    position = Position(Decimal(held), d(200)) if held else FLAT
    for strategy in ALL:
        seen = decisions(strategy, bars(*closes), position)
        longer = decisions(strategy, bars(*closes, *(closes[-1] + step for step in after)), position)
        assert longer[: len(seen)] == seen
        for decision in seen:
            assert decision.reason, "every decision answers why"
            if isinstance(decision, Submit) and decision.intent is not Intent.EXIT:
                assert decision.stop_loss is not None
                assert ES.on_grid(decision.stop_loss)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("ema_cross", {"fast": 5, "slow": 5}, "must be above 0 and below slow"),
        ("ema_cross", {"fast": 0}, "must be above 0"),
        ("ema_cross", {"atr": 0}, "atr must be at least 1"),
        ("ema_cross", {"stop_atr": 0}, "stop_atr above 0"),
        ("ema_cross", {"quick": 3}, "quick"),
        ("donchian_breakout", {"entry": 1}, "at least 2"),
        ("donchian_breakout", {"entry": 5, "exit": 6}, "from 1 to entry"),
        ("opening_range", {"range_minutes": 60}, "below period_minutes"),
        ("opening_range", {"period_minutes": 2_000}, "at most 1440"),
        ("opening_range", {"reward": 0}, "reward above 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_in_one_sentence(
    name: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_strategy(name, arguments)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_true_range_counts_the_gap_from_the_close_before() -> None:
    rows = [candle(0, 100, high=101, low=99), candle(MINUTE, 110, high=111, low=109), candle(2 * MINUTE, 110)]
    assert average_true_range(rows, 2) == (d(11) + d(0)) / 2
    assert average_true_range(rows, 3) is None


# -- loading ----------------------------------------------------------------------------------------------

GOOD = """
from engine.domain.decisions import Nothing
class Mine:
    def __init__(self, size=1):
        self.size = size
    def initial(self):
        return 0
    def decide(self, context):
        return Nothing(state=context.state)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that is ours alone."""
    place = tmp_path / "strategies"
    place.mkdir(mode=0o755)
    return place


def written(folder: Path, text: str | bytes, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o644)
    return path


def refusal(name: str, base: Path | None = None, **arguments: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_strategy(name, arguments, base)
    text = str(caught.value)
    assert "\n" not in text, "one sentence, one line"
    return text


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_strategies_load_by_name(name: str) -> None:
    assert isinstance(load_strategy(name, {}).decide, object)


def test_a_file_of_ours_loads_with_plain_arguments(folder: Path) -> None:
    written(folder, GOOD)
    made: Any = load_strategy("mine.py:Mine", {"size": Decimal("2.5")}, folder)
    assert made.size == 2.5
    assert isinstance(made.size, float)
    absolute: Any = load_strategy(f"{folder}/mine.py:Mine", {})
    assert absolute.size == 1


def test_what_is_not_there_is_named(folder: Path) -> None:
    assert "there is no strategy 'nothing'" in refusal("nothing")
    assert "does not exist" in refusal("gone.py:Mine", folder)
    written(folder, GOOD)
    assert "has no class 'Yours'" in refusal("mine.py:Yours", folder)
    assert "has no class ''" in refusal("mine.py:", folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Mine:\n    def decide(self) return 1\n", "line 2"),
        ("x = 1\n\nraise ValueError('first\\nsecond')\n", "line 3 raised ValueError: first second"),
        ("import no_such_module_at_all\n", "ModuleNotFoundError"),
        ("import sys\nsys.exit('bye')\n", "SystemExit"),
        (b"\xff\xfe\x00binary", "mine.py"),
        ("Mine = 3\n", "does not take these arguments"),
        ("class Mine:\n    def decide(self, context): ...\n", "has no initial"),
        ("class Mine:\n    def __init__(self):\n        raise RuntimeError('no')\n", "no"),
    ],
)
def test_a_broken_file_is_one_sentence(folder: Path, text: str | bytes, words: str) -> None:
    written(folder, text)
    assert words in refusal("mine.py:Mine", folder)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_not_run(folder: Path, mode: int) -> None:
    written(folder, "raise AssertionError('it was run')").chmod(mode)
    assert "strategy file" in refusal("mine.py:Mine", folder)
    assert "writable by others" in refusal("mine.py:Mine", folder)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_file_in_a_directory_that_others_may_write_is_not_run(folder: Path, mode: int) -> None:
    written(folder, "raise AssertionError('it was run')")
    folder.chmod(mode)
    assert "strategy directory" in refusal("mine.py:Mine", folder)


def test_a_file_of_somebody_else_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(folder, "raise AssertionError('it was run')")
    if os.geteuid() == 0:
        os.chown(path, 4_242, -1)
    else:
        me = os.geteuid()
        monkeypatch.setattr("engine.strategies.loading.os.geteuid", lambda: me + 1)
    assert "belongs to somebody else" in refusal("mine.py:Mine", folder)


def test_a_link_is_judged_by_where_it_leads(folder: Path, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    target = written(open_to_all, "raise AssertionError('it was run')")
    open_to_all.chmod(0o777)
    (folder / "mine.py").symlink_to(target)
    assert "strategy directory" in refusal("mine.py:Mine", folder)

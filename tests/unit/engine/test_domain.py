"""Names, grids, calendars, the day's result, timeframes, freshness, disagreements and errors."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import errors
from engine.domain.calendar import ALWAYS_OPEN, Calendar
from engine.domain.day_ledger import DayLedger
from engine.domain.disagreement_ledger import KEEP_SETTLED, DisagreementLedger
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.freshness import Freshness, freshness, stale_since
from engine.domain.ids import CLIENT_ID_LENGTH, DecisionKey, SessionId, client_order_id, decision_key
from engine.domain.instruments import Instrument
from engine.domain.market import Candle, Timeframe
from engine.domain.positions import FLAT, Position
from tests.unit.engine.samples import ACCOUNT, ES, SESSION, SYMBOL, candle, d, fill

CHICAGO = ZoneInfo("America/Chicago")
CME = Calendar(
    name="CME",
    zone="America/Chicago",
    # Sunday to Thursday 17:00 until 16:00 the next day; the last span runs over the week's end.
    open_minutes=tuple((day * 1440 + 17 * 60, (day + 1) * 1440 + 16 * 60) for day in (0, 1, 2, 3, 6)),
    day_rolls_at=17 * 60,
    holidays=frozenset({date(2026, 7, 3)}),
)


def ms(text: str, zone: ZoneInfo | None = None) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=zone or UTC)
    return round(moment.timestamp() * 1000)


# -- ids --------------------------------------------------------------------------------------------------


@given(salt=st.text(max_size=20), session=st.text(max_size=20), origin=st.text(max_size=40), attempt=st.integers(1, 99))
def test_a_client_order_id_is_short_plain_and_the_same_again(
    salt: str, session: str, origin: str, attempt: int
) -> None:
    key = decision_key(SessionId(session), origin, "entry", attempt)
    made = client_order_id(salt, key)
    assert len(made) == CLIENT_ID_LENGTH <= 22
    assert made.isascii()
    assert made.isalnum()
    assert made == client_order_id(salt, key)
    assert made != client_order_id(salt + "x", key)
    assert made != client_order_id(salt, decision_key(SessionId(session), origin, "entry", attempt + 1))


def test_s12_a_client_order_id_is_the_same_in_another_process() -> None:
    """A restart has to find at the broker what an earlier life sent."""
    code = "from engine.domain.ids import *; print(client_order_id('salt', DecisionKey('s/1/entry/1')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == client_order_id("salt", DecisionKey("s/1/entry/1"))


# -- instruments ------------------------------------------------------------------------------------------


@given(
    price=st.decimals(-1_000, 100_000, places=5),
    tick=st.sampled_from(["0.25", "0.01", "0.00001", "0.015625", "5"]).map(Decimal),
)
def test_prices_round_onto_the_grid_in_the_direction_named(price: Decimal, tick: Decimal) -> None:
    grid = Instrument(symbol=SYMBOL, tick_size=tick)
    down, near, up = grid.down(price), grid.nearest(price), grid.up(price)
    assert all(grid.on_grid(p) for p in (down, near, up))
    assert price - tick < down <= price <= up < price + tick
    assert abs(near - price) <= tick / 2
    assert near in (down, up)
    assert grid.on_grid(price) is (down == up)


def test_sizes_round_down() -> None:
    coin = Instrument(symbol=SYMBOL, tick_size=d("0.01"), size_step=d("0.001"))
    assert coin.whole_size(d("0.0129")) == d("0.012")
    assert ES.whole_size(d("2.9")) == 2
    assert ES.whole_size(d("0.9")) == 0


# -- timeframes and candles -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1s", "5s", "1m", "15m", "1h", "4h", "1d", "90s"])
def test_a_timeframe_is_read_and_written(text: str) -> None:
    assert Timeframe.parse(str(Timeframe.parse(text))) == Timeframe.parse(text)
    assert Timeframe.parse(f" {text} ").ms == Timeframe.parse(text).ms


@pytest.mark.parametrize("text", ["", "0s", "7m", "2d", "1w", "m", "1.5m", "-1m", "100000s", "1M", "25h"])
def test_what_is_no_timeframe_is_refused_with_the_accepted_form(text: str) -> None:
    with pytest.raises(ValueError, match="such as 1s, 1m, 5m, 1h, 1d"):
        Timeframe.parse(text)


@given(at=st.integers(0, 4_000_000_000_000), name=st.sampled_from(["1s", "7s", "1m", "15m", "1h", "1d"]))
def test_a_window_holds_its_moment(at: int, name: str) -> None:
    if name == "7s":
        return
    frame = Timeframe.parse(name)
    assert frame.start_of(at) <= at < frame.start_of(at) + frame.ms
    assert frame.start_of(at) % frame.ms == 0


def test_same_values_looks_at_prices_and_volume_only() -> None:
    one = candle(0)
    assert one.same_values(Candle(60_000, one.open, one.high, one.low, one.close, one.volume, revision=3))
    assert not one.same_values(candle(0, volume=2))


# -- calendar ---------------------------------------------------------------------------------------------


def test_always_open() -> None:
    assert ALWAYS_OPEN.is_open(0)
    assert ALWAYS_OPEN.trade_date(ms("2026-03-08T23:59:59")) == date(2026, 3, 8)


@pytest.mark.parametrize(
    ("local", "day"),
    [
        ("2026-03-05T16:59", date(2026, 3, 5)),
        ("2026-03-05T17:00", date(2026, 3, 6)),
        ("2026-03-08T17:00", date(2026, 3, 9)),
        ("2026-10-31T23:59", date(2026, 11, 1)),
        ("2026-11-01T17:00", date(2026, 11, 2)),
        ("2026-12-31T17:00", date(2027, 1, 1)),
    ],
)
def test_c2_the_trade_date_rolls_at_five_in_chicago_in_every_season(local: str, day: date) -> None:
    assert CME.trade_date(ms(local, CHICAGO)) == day


@pytest.mark.parametrize(
    ("utc", "open_"),
    [
        ("2026-03-06T21:59", True),  # Friday 15:59 in winter
        ("2026-03-06T22:00", False),  # Friday 16:00
        ("2026-03-08T21:59", False),  # Sunday 16:59, the clocks went forward that morning
        ("2026-03-08T22:00", True),  # Sunday 17:00 is an hour earlier in UTC from now on
        ("2026-10-30T20:59", True),  # Friday 15:59 in summer
        ("2026-10-30T21:00", False),
        ("2026-11-01T22:59", False),  # Sunday 16:59, the clocks went back that morning
        ("2026-11-01T23:00", True),
        ("2026-11-02T05:30", True),  # Sunday night: the span runs over the week's end
        ("2026-11-02T21:59", True),
        ("2026-11-02T22:30", False),  # the daily pause, Monday 16:30
        ("2026-11-07T12:00", False),  # Saturday
    ],
)
def test_c3_hours_follow_the_exchanges_wall_clock(utc: str, open_: bool) -> None:
    assert CME.is_open(ms(utc)) is open_


def test_a_holiday_closes_its_trade_date_from_the_evening_before() -> None:
    assert CME.is_open(ms("2026-07-02T15:00", CHICAGO))
    assert not CME.is_open(ms("2026-07-02T17:30", CHICAGO))
    assert not CME.is_open(ms("2026-07-03T10:00", CHICAGO))
    round_the_clock = Calendar(holidays=frozenset({date(2026, 12, 25)}))
    assert not round_the_clock.is_open(ms("2026-12-25T12:00"))
    assert round_the_clock.is_open(ms("2026-12-26T00:00"))


# -- the day ----------------------------------------------------------------------------------------------


def test_the_day_counts_in_money_and_begins_anew_at_the_roll() -> None:
    ledger = DayLedger(Instrument(symbol=SYMBOL, tick_size=d("0.25"), point_value=d(50), calendar=CME))
    noon, evening = ms("2026-03-05T12:00", CHICAGO), ms("2026-03-05T17:00", CHICAGO)
    ledger.book(d(4), d("2.5"), noon)
    ledger.entered(noon)
    assert ledger.total(Position(d(2), d(100)), d(101)) == 4 * 50 + 2 * 50 - d("2.5")
    assert ledger.total(FLAT, None) == 4 * 50 - d("2.5")
    ledger.roll(evening - 1)
    assert (ledger.realised, ledger.fees, ledger.entries) == (d(200), d("2.5"), 1)
    ledger.entered(evening)
    assert (ledger.realised, ledger.fees, ledger.entries) == (d(0), d(0), 1), (
        "it counts for the day that begins with it"
    )


def test_the_day_is_rebuilt_from_all_fills_but_counts_todays_only_however_often() -> None:
    ledger = DayLedger(ES)
    yesterday, today = ms("2026-03-05T12:00"), ms("2026-03-06T12:00")
    history = (
        fill(2, 100, at=yesterday, fee=d(1)),
        fill(-1, 110, at=yesterday, fee=d(1)),
        fill(-1, 103, at=today, fee=d(2)),
        fill(0, 999, at=today, fee=d(9)),
    )
    for _ in range(2):
        ledger.rebuild(history, 3, today)
        assert (ledger.realised, ledger.fees, ledger.entries) == (d(150), d(2), 3)
    whole = ledger.rebuild(history, 3, today)
    assert ledger.rebuild(history[2:], 3, today, Position(d(1), d(100))) == whole
    assert (ledger.realised, ledger.fees, ledger.entries) == (d(150), d(2), 3)


# -- freshness --------------------------------------------------------------------------------------------


def test_freshness_is_the_age_of_data_against_the_calendar() -> None:
    now = ms("2026-03-05T12:00", CHICAGO)
    es = Instrument(symbol=SYMBOL, tick_size=d("0.25"), calendar=CME)
    assert freshness(es, None, now) is Freshness.WAITING
    ages = [(0, Freshness.FRESH), (14_999, Freshness.FRESH), (15_000, Freshness.STALE), (60_000, Freshness.SILENT)]
    for age, verdict in ages:
        assert freshness(es, now - age, now) is verdict
        assert verdict.allows_entries is (verdict is Freshness.FRESH)
    saturday = ms("2026-03-07T12:00", CHICAGO)
    assert freshness(es, saturday, saturday) is Freshness.MARKET_CLOSED


def test_what_is_not_fresh_says_since_when() -> None:
    now = ms("2026-03-05T12:00", CHICAGO)
    es = Instrument(symbol=SYMBOL, tick_size=d("0.25"), calendar=CME)
    assert stale_since(es, None, now) is None
    assert stale_since(es, now - 14_999, now) is None
    assert stale_since(es, now - 40_000, now) == now - 25_000
    assert stale_since(es, now - 90_000, now) == now - 75_000
    friday = ms("2026-03-06T16:00", CHICAGO)
    assert stale_since(es, now, ms("2026-03-07T12:00:30", CHICAGO)) == friday
    assert stale_since(es, now, friday) == friday


# -- disagreements ----------------------------------------------------------------------------------------


def difference(name: str = "p1", state: DisagreementState = DisagreementState.CONFIRMED, at: int = 1) -> Disagreement:
    return Disagreement(
        id=name,
        account=ACCOUNT,
        session=SESSION,
        symbol=SYMBOL,
        kind=DisagreementKind.POSITION,
        state=state,
        memory="2",
        database="2",
        broker="1",
        read=(1, 1, 1),
        first_seen=at,
        updated=at,
        blocks_entries=True,
    )


def test_seeing_a_difference_twice_changes_nothing() -> None:
    told: list[Disagreement] = []
    ledger = DisagreementLedger(told.append)
    ledger.put(difference())
    ledger.put(difference())
    assert len(told) == 1
    ledger.settle("p1", DisagreementState.ADOPTED, "done", 5)
    ledger.settle("p1", DisagreementState.ADOPTED, "again", 6)
    ledger.settle("unknown", DisagreementState.ADOPTED, "done", 5)
    assert [d.state for d in told] == [DisagreementState.CONFIRMED, DisagreementState.ADOPTED]


@pytest.mark.parametrize(
    ("state", "blocks"),
    [
        (DisagreementState.ADOPTED, True),
        (DisagreementState.NEEDS_YOU, True),
        (DisagreementState.EXPLAINED, False),
        (DisagreementState.PASSED, False),
        (DisagreementState.IGNORED, False),
    ],
)
def test_entries_wait_until_it_is_explained_or_acknowledged(state: DisagreementState, blocks: bool) -> None:
    ledger = DisagreementLedger(lambda changed: None)
    ledger.put(difference())
    assert ledger.blocking(SESSION) is not None
    assert ledger.blocking(SessionId("other")) is None
    ledger.settle("p1", state, "done", 5)
    assert (ledger.blocking(SESSION) is not None) is blocks
    seen = ledger.acknowledge("p1", "me", "seen", 6)
    assert seen is not None
    assert (seen.acknowledged_by, seen.acknowledged_at, seen.note) == ("me", 6, "seen")
    assert ledger.blocking(SESSION) is None
    assert ledger.open_of(SYMBOL, DisagreementKind.POSITION) == ()


def test_the_oldest_blocks_the_newest_is_shown_first_and_settled_ones_are_bounded() -> None:
    ledger = DisagreementLedger(lambda changed: None)
    ledger.load(difference("old", at=1))
    ledger.put(difference("new", at=2))
    blocking = ledger.blocking(SESSION)
    assert blocking is not None
    assert blocking.id == "old"
    assert [d.id for d in ledger.all()] == ["new", "old"]
    assert ledger.acknowledge("unknown", "me", "", 1) is None
    for number in range(KEEP_SETTLED + 10):
        ledger.put(difference(f"s{number}", at=number))
        ledger.settle(f"s{number}", DisagreementState.PASSED, "", number)
    assert len(ledger.all()) == KEEP_SETTLED + 2
    assert ledger.get("old") is not None


def test_one_that_keeps_entries_waiting_is_not_forgotten_for_newer_ones() -> None:
    ledger = DisagreementLedger(lambda changed: None)
    ledger.put(difference("waits", at=1))
    ledger.settle("waits", DisagreementState.ADOPTED, "done", 1)
    for number in range(KEEP_SETTLED + 10):
        ledger.put(difference(f"s{number}", at=number + 2))
        ledger.settle(f"s{number}", DisagreementState.PASSED, "", number + 2)
    blocking = ledger.blocking(SESSION)
    assert blocking is not None
    assert blocking.id == "waits"
    assert ledger.get("waits") is not None


# -- errors -----------------------------------------------------------------------------------------------


def test_the_tree_of_errors_is_the_one_that_is_drawn() -> None:
    """Each line of the drawing: the class exists, under the class that it hangs from."""
    above: list[str] = []
    drawn = 0
    for line in (errors.__doc__ or "").splitlines():
        if not ("── " in line or line == "SextantError"):
            continue
        depth = line.index("── ") // 4 + 1 if "── " in line else 0
        name = line.split("── ")[-1].split()[0]
        del above[depth:]
        if above:
            assert getattr(errors, name).__bases__ == (getattr(errors, above[-1]),)
        above.append(name)
        drawn += 1
    defined = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert drawn == len(defined) > 10
    assert errors.LockedOut("later", retry_after_seconds=3).retry_after_seconds == 3

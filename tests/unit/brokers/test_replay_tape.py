"""Recordings: what is understood, what is counted, what is refused in one sentence."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.replay.columns import TapeKind
from brokers.replay.tape import Tape, open_tape
from brokers.replay.times import parse_time
from engine.domain.ids import Symbol
from engine.domain.market import Candle, Tick
from engine.errors import ConfigurationError

SYMBOL = Symbol("EURUSD")
NOON = 1_577_880_000_000
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def tape(folder: Path, *lines: str, name: str = "tape.csv") -> Tape:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return open_tape(path, SYMBOL)


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01T12:00:00Z", "2020-01-01 12:00:00", "2020-01-01T12:00:00.000", "2020-01-01T13:00:00+01:00",
        "2020-01-01T12:00:00.000999", "1577880000", "1577880000.0009", "1577880000000", "1577880000000.5",
        "1577880000000000", "1577880000000000000", " 2020-01-01T12:00 ",
    ],
)  # fmt: skip
def test_one_moment_in_many_writings(text: str) -> None:
    assert parse_time(text) == NOON


@pytest.mark.parametrize(
    "text", ["", "noon", "2020-13-01T00:00:00", "NaN", "-5", "1e9", "1" * 39, "2020-01-01T12:00:61"]
)
def test_what_is_not_a_time(text: str) -> None:
    assert parse_time(text) is None


def test_eight_digits_are_a_date() -> None:
    assert parse_time("20200101") == parse_time("2020-01-01") == NOON - 12 * 3_600_000


@given(st.integers(0, 4_000_000_000_000))
def test_milliseconds_survive_their_own_iso_form(at: int) -> None:
    text = datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{at % 1000:03d}Z"
    assert parse_time(text) == at


@pytest.mark.parametrize(
    ("header", "row", "price", "size"),
    [
        ("timestamp,price,volume", "2020-01-01T12:00:00Z,1.5,3", "1.5", "3"),
        ("Time,Trade_ID,Last,Qty", "1577880000,77,1.5,0.25", "1.5", "0.25"),
        ("ts,bid,ask", "1577880000000,1.12120,1.12171", "1.121455", "1"),
        ("DateTime,Close", "2020-01-01 12:00:00,1.5", "1.5", "1"),
        ("date,time,price", "2020-01-01,12:00:00,1.5", "1.5", "1"),
        ("timestamp;price;size", "1577880000;1.5;2", "1.5", "2"),
        ("\ufefftimestamp,price", "1577880000,1.5", "1.5", "1"),
        ('"timestamp", "price"', '"1577880000", "1.5"', "1.5", "1"),
    ],
)
def test_columns_are_found_by_name(tmp_path: Path, header: str, row: str, price: str, size: str) -> None:
    found = tape(tmp_path, header, row)
    assert found.kind is TapeKind.TICKS
    assert list(found.ticks()) == [Tick(SYMBOL, NOON, Decimal(price), Decimal(size))]


def test_candles_are_told_from_ticks_and_a_missing_volume_is_zero(tmp_path: Path) -> None:
    found = tape(tmp_path, "time,open,high,low,close", f"{NOON},1,3,0.5,2", f"{NOON + 60000},2,2,2,2")
    assert (found.kind, found.rows, str(found.step)) == (TapeKind.CANDLES, 2, "1m")
    one, two, three, half = Decimal(1), Decimal(2), Decimal(3), Decimal("0.5")
    assert next(found.candles()) == Candle(NOON, one, three, half, two, Decimal(0))


def test_bad_rows_are_counted_with_the_first_lines_and_left_out(tmp_path: Path) -> None:
    bad = [
        "never,1,1", f"{NOON},NaN,1", f"{NOON},Infinity,1", f"{NOON},-1,1", f"{NOON},0,1", f"{NOON},1,-1", f"{NOON},1",
        f"{NOON},1,1,1", f"{NOON},1e99,1",
    ]  # fmt: skip
    found = tape(tmp_path, "timestamp,price,volume", f"{NOON},1.0,1", *bad, "", f"{NOON},1.5,1")
    assert (found.rows, found.bad_rows) == (2, len(bad))
    assert [line for line, _ in found.bad_lines] == [3, 4, 5, 6, 7]
    assert found.bad_lines[0][1] == "not a time"
    assert [tick.price for tick in found.ticks()] == [Decimal("1.0"), Decimal("1.5")]


@pytest.mark.parametrize("row", ["1,2,3,1", "2,1,0.5,1", "1,2,0.5,0.4", "1,2,1.5,2"])
def test_candles_that_contradict_themselves_are_bad_rows(tmp_path: Path, row: str) -> None:
    found = tape(tmp_path, "time,open,high,low,close", f"{NOON},1,1,1,1", f"{NOON + 60000},{row}")
    assert (found.rows, found.bad_rows) == (1, 1)


def test_equal_times_keep_the_order_of_the_file(tmp_path: Path) -> None:
    found = tape(tmp_path, "timestamp,price", *(f"{NOON},{price}" for price in (3, 1, 2)))
    assert [int(tick.price) for tick in found.ticks()] == [3, 1, 2]


def test_a_repeated_candle_is_a_replacement_and_not_disorder(tmp_path: Path) -> None:
    starts = [0, 1, 2, 1, 2, 3, 4, 5, 6, 2]
    rows = [f"{NOON + start * 60000},1,1,1,1" for start in starts]
    found = tape(tmp_path, "time,open,high,low,close", *rows)
    assert (found.rows, found.replacements) == (10, 3)
    with pytest.raises(ConfigurationError, match=r"line 12: .*'time' goes back"):
        tape(tmp_path, "time,open,high,low,close", *rows, f"{NOON + 60000},1,1,1,1")


@pytest.mark.parametrize(
    ("prices", "step"),
    [(["1.00", "1.25", "2.50"], "0.25"), (["39432.48", "39439.44"], "0.24"), (["100", "300"], "100"), (["7"], "7"),
     (["1.121455", "1.12146"], "0.000005")],
)  # fmt: skip
def test_the_price_step_is_the_widest_grid_that_holds_all(tmp_path: Path, prices: list[str], step: str) -> None:
    found = tape(tmp_path, "timestamp,price", *(f"{NOON},{price}" for price in prices))
    assert str(found.smallest_price_step) == step
    assert all(Decimal(price) % found.smallest_price_step == 0 for price in prices)


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = tape(tmp_path, "timestamp,price", f"{NOON},1", name="a.csv")
    same = tape(tmp_path, "timestamp,price", f"{NOON},1", name="b.csv")
    other = tape(tmp_path, "timestamp,price", f"{NOON},2", name="c.csv")
    assert first.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"timestamp,price\n", "no usable row"),
        (b"timestamp,price\nx,y\n", "line 2: not a time"),
        (b"time,thing\n1,2\n", "line 1: no column 'price'"),
        (b"time,bid\n1,2\n", "line 1: no column 'ask'"),
        (b"time,open,high,close\n1,2,3,4\n", "line 1: no column 'low'"),
        (b"price,volume\n1,2\n", "line 1: no time column"),
        (b"time,price,price\n1,2,3\n", "line 1: the column 'price' appears twice"),
        (b"time,price\n1577880000,2\n1577879999,3\n", "line 3: the time in column 'time' goes back"),
        (b"time,price\n1577880000,2\n\x00\x01\n", "line 3 holds binary"),
        (b"time,price\n1577880000,2\n\xff\xfe\n", "line 3 is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "line 1 is not UTF-8"),
        (b"time,open,high,low,close\n0,1,1,1,1\n7000,1,1,1,1\n", "cannot be replayed"),
    ],
)
def test_a_file_that_cannot_be_played_is_refused_in_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        open_tape(path, SYMBOL)
    message = str(caught.value)
    assert words in message
    assert str(path) in message
    assert "\n" not in message


def test_missing_files_and_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such recording"):
        open_tape(tmp_path / "nothing.csv", SYMBOL)
    with pytest.raises(ConfigurationError, match="is a directory"):
        open_tape(tmp_path, SYMBOL)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_one_may_not_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.csv"
    path.write_text("time,price\n1,2\n")
    path.chmod(0)
    with pytest.raises(ConfigurationError, match="permissions"):
        open_tape(path, SYMBOL)


def test_a_file_that_changes_while_it_plays_is_noticed(tmp_path: Path) -> None:
    found = tape(tmp_path, "timestamp,price", f"{NOON},1", f"{NOON},2")
    found.path.write_text(f"timestamp,price\n{NOON},1\n")
    with pytest.raises(ConfigurationError, match="was changed"):
        list(found.ticks())


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no recordings in {SHARED}")
def test_the_recorded_markets_are_read_wholly() -> None:
    quotes = open_tape(SHARED / "eurusd-quotes-2020-01-01.csv", SYMBOL)
    trades = open_tape(SHARED / "btcusdt-trades-2021-01-08.csv", Symbol("BTCUSDT"))
    assert (quotes.rows, quotes.bad_rows, str(quotes.smallest_price_step)) == (9_500, 0, "0.000005")
    assert (trades.rows, trades.bad_rows, str(trades.smallest_price_step)) == (2_001, 0, "0.01")
    first = next(quotes.ticks())
    assert (first.price, first.size) == (Decimal("1.12146"), Decimal(1))
    assert next(trades.ticks()).size == Decimal("0.000263")

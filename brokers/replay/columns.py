"""Which column of a recording means what, from its header line."""

from __future__ import annotations

import csv
from enum import StrEnum

from msgspec import Struct

from engine.errors import ConfigurationError

TIMES = ("timestamp", "datetime", "ts", "time", "date", "opentime")
PRICES = ("price", "last")
BIDS = ("bid", "bidprice")
ASKS = ("ask", "askprice")
VOLUMES = ("volume", "size", "qty", "quantity")
CANDLE = ("open", "high", "low", "close")
_WANTED = "a time (timestamp, datetime, date, time) and price, bid and ask, or open, high, low and close"


class TapeKind(StrEnum):
    """What a row of the recording is."""

    TICKS = "ticks"
    CANDLES = "candles"


class Columns(Struct, frozen=True, kw_only=True):
    """Where to find things in a row: indices of the columns.

    `time` may be two columns (date, then time of day). `prices`: one (price), two (bid, ask: their middle) or four
    (open, high, low, close). `names` are the header's own words for what is used.
    """

    kind: TapeKind
    count: int
    delimiter: str
    time: tuple[int, ...]
    prices: tuple[int, ...]
    volume: int | None
    names: tuple[str, ...]


def detect(path: str, header: str) -> Columns:
    """Read the header line. Raises ConfigurationError naming what is missing."""
    delimiter = next((each for each in (",", ";", "\t") if each in header), ",")
    fields = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
    words = ["".join(filter(str.isalnum, field.casefold())) for field in fields]
    used = {*TIMES, *PRICES, *BIDS, *ASKS, *VOLUMES, *CANDLE}
    for index, word in enumerate(words):
        if word in used and word in words[:index]:
            raise ConfigurationError(
                f"{path}: line 1: the column {fields[index].strip()!r} appears twice; rename one of them"
            )

    def first(names: tuple[str, ...]) -> int | None:
        return next((words.index(name) for name in names if name in words), None)

    time = first(TIMES)
    if time is None:
        raise ConfigurationError(
            f"{path}: line 1: no time column among {', '.join(fields) or 'nothing'}; the header must name {_WANTED}"
        )
    both = "date" in words and "time" in words and words[time] in ("date", "time")
    times = (words.index("date"), words.index("time")) if both else (time,)
    kind, prices = _prices(path, fields, words)
    volume = first(VOLUMES)
    names = tuple(fields[index].strip() for index in (*times, *prices, *(() if volume is None else (volume,))))
    return Columns(
        kind=kind,
        count=len(fields),
        delimiter=delimiter,
        time=times,
        prices=prices,
        volume=volume,
        names=names,
    )


def _prices(path: str, fields: list[str], words: list[str]) -> tuple[TapeKind, tuple[int, ...]]:
    candle = [name for name in CANDLE if name in words]
    if len(candle) == len(CANDLE):
        return TapeKind.CANDLES, tuple(words.index(name) for name in CANDLE)
    for name in PRICES:
        if name in words:
            return TapeKind.TICKS, (words.index(name),)
    bid = next((words.index(name) for name in BIDS if name in words), None)
    ask = next((words.index(name) for name in ASKS if name in words), None)
    if bid is not None and ask is not None:
        return TapeKind.TICKS, (bid, ask)
    if candle == ["close"]:
        return TapeKind.TICKS, (words.index("close"),)
    if bid is not None or ask is not None:
        missing = "ask" if ask is None else "bid"
    elif candle:
        missing = next(name for name in CANDLE if name not in words)
    else:
        missing = "price"
    raise ConfigurationError(
        f"{path}: line 1: no column {missing!r} among {', '.join(fields)}; the header must name {_WANTED}"
    )

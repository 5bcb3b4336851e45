"""A recording on disk: checked from end to end before anything starts, then read again row by row.

open_tape(path, symbol) -> Tape; tape.ticks() or tape.candles() iterate the good rows in the file's own order.

The file is read twice and never held in memory. Every fault of the file as a whole (missing, binary, unsorted, no
usable row ...) is a ConfigurationError in one sentence; single bad rows are counted and left out.
"""

from __future__ import annotations

import csv
import hashlib
from collections import deque
from collections.abc import Iterator
from decimal import Context, Decimal
from pathlib import Path

from msgspec import Struct

from brokers.replay.columns import Columns, TapeKind, detect
from brokers.replay.rows import BadRow, Row, parse_row
from engine.domain.ids import Millis, Symbol
from engine.domain.market import DAY_MS, Candle, Tick, Timeframe
from engine.errors import ConfigurationError

# Prices from floating point have many digits; the grid of all of them must still be exact.
_WIDE = Context(prec=80)
SHOWN_BAD_ROWS = 5
REPLACE_WINDOW = 5
SHORTEST_STEP_MS = 1_000


class Tape(Struct, frozen=True, kw_only=True):
    """A checked recording. `first` and `last` are times of good rows; for candles, starts of their windows.

    `smallest_price_step` is the widest grid on which every recorded price lies. `step` is the length of recorded
    candles (None for ticks, and for a single candle); `replacements` counts candles recorded again.
    `bad_lines` holds the first few bad rows as (line, reason). `fingerprint` is the SHA-256 of the content.
    """

    path: Path
    symbol: Symbol
    columns: Columns
    rows: int
    first: Millis
    last: Millis
    smallest_price_step: Decimal
    fingerprint: str
    step: Timeframe | None = None
    replacements: int = 0
    bad_rows: int = 0
    bad_lines: tuple[tuple[int, str], ...] = ()

    @property
    def kind(self) -> TapeKind:
        """Ticks or candles."""
        return self.columns.kind

    def ticks(self) -> Iterator[Tick]:
        """The good rows of a recording of ticks. Raises ConfigurationError if the file changed meanwhile."""
        return (row for row in self._good_rows() if isinstance(row, Tick))

    def candles(self) -> Iterator[Candle]:
        """The good rows of a recording of candles, repeated times included. Raises as `ticks`."""
        return (row for row in self._good_rows() if isinstance(row, Candle))

    def _good_rows(self) -> Iterator[Row]:
        count = 0
        for _, row in _rows(self.path, self.symbol, self.columns):
            if not isinstance(row, BadRow):
                count += 1
                yield row
        if count != self.rows:
            raise ConfigurationError(f"{self.path} was changed while it was played; replay it again from its start")


def open_tape(path: Path, symbol: Symbol) -> Tape:
    """Check a recording wholly. Raises ConfigurationError with one sentence naming file, line and column."""
    fingerprint = _fingerprint(path)
    columns = detect(str(path), next(_lines(path), ""))
    survey = _Survey(path, columns)
    for line, row in _rows(path, symbol, columns):
        survey.see(line, row)
    if survey.first is None or survey.last is None:
        raise ConfigurationError(
            f"{path}: no usable row after the header"
            + (f" (line {survey.bad[0][0]}: {survey.bad[0][1]})" if survey.bad else "")
            + "; record some data first"
        )
    return Tape(
        path=path,
        symbol=symbol,
        columns=columns,
        rows=survey.rows,
        first=survey.first,
        last=survey.last,
        smallest_price_step=_plain(survey.grid),
        fingerprint=fingerprint,
        step=survey.timeframe(),
        replacements=survey.replacements,
        bad_rows=survey.bad_count,
        bad_lines=tuple(survey.bad),
    )


class _Survey:
    """What the first pass learns."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._columns = columns
        self._recent: deque[Millis] = deque(maxlen=REPLACE_WINDOW)
        self._step: Millis | None = None
        self.rows = 0
        self.replacements = 0
        self.first: Millis | None = None
        self.last: Millis | None = None
        self.grid = Decimal(0)
        self.bad: list[tuple[int, str]] = []
        self.bad_count = 0

    def see(self, line: int, row: Row) -> None:
        """Take a row in. Raises ConfigurationError when time goes back."""
        match row:
            case BadRow(reason):
                self.bad_count += 1
                if len(self.bad) < SHOWN_BAD_ROWS:
                    self.bad.append((line, reason))
                return
            case Tick():
                if self.last is not None and row.at < self.last:
                    self._unsorted(line)
                self.last = row.at
                self._lie_on_grid(row.price)
            case Candle():
                self._see_candle(line, row)
        self.rows += 1
        if self.first is None:
            self.first = self.last

    def _see_candle(self, line: int, candle: Candle) -> None:
        if candle.start in self._recent:
            self.replacements += 1
        elif self.last is not None and candle.start < self.last:
            self._unsorted(line)
        else:
            if self.last is not None:
                gap = candle.start - self.last
                self._step = gap if self._step is None else min(gap, self._step)
            self.last = candle.start
            self._recent.append(candle.start)
        for price in (candle.open, candle.high, candle.low, candle.close):
            self._lie_on_grid(price)

    def _unsorted(self, line: int) -> None:
        column = self._columns.names[0]
        raise ConfigurationError(
            f"{self._path}: line {line}: the time in column {column!r} goes back; sort the recording by time"
        )

    def _lie_on_grid(self, price: Decimal) -> None:
        if self.grid and not _WIDE.remainder(price, self.grid):
            return
        wider, narrower = price, self.grid
        while narrower:
            wider, narrower = narrower, _WIDE.remainder(wider, narrower)
        self.grid = wider

    def timeframe(self) -> Timeframe | None:
        """The recorded candles' length. Raises ConfigurationError when it is none we can show."""
        if self._columns.kind is TapeKind.TICKS or self._step is None:
            return None
        if self._step < SHORTEST_STEP_MS or DAY_MS % self._step:
            raise ConfigurationError(
                f"{self._path}: candles {self._step / 1000:g} s apart in column {self._columns.names[0]!r} cannot be "
                "replayed; record lengths from 1s to 1d that divide a day"
            )
        return Timeframe(self._step)


def _fingerprint(path: Path) -> str:
    """SHA-256 of the file, and the proof that it can be read at all."""
    try:
        with path.open("rb") as file:
            fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such recording; check the path") from None
    except IsADirectoryError:
        raise ConfigurationError(f"{path} is a directory; name one CSV file in it") from None
    except OSError as error:
        raise ConfigurationError(
            f"{path}: the recording cannot be read ({error.strerror or error}); check its permissions"
        ) from None
    if not size:
        raise ConfigurationError(f"{path}: the recording is empty; it needs a header line and rows")
    return fingerprint


def _lines(path: Path) -> Iterator[str]:
    number = 0
    with path.open("rb") as file:
        for raw in file:
            number += 1
            if b"\0" in raw:
                raise ConfigurationError(
                    f"{path}: line {number} holds binary content; export the recording as CSV text"
                )
            try:
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise ConfigurationError(
                    f"{path}: line {number} is not UTF-8 text; export the recording as CSV in UTF-8"
                ) from None


def _rows(path: Path, symbol: Symbol, columns: Columns) -> Iterator[tuple[int, Row]]:
    """Line number and content of each row after the header; empty lines are skipped."""
    reader = csv.reader(_lines(path), delimiter=columns.delimiter, skipinitialspace=True)
    try:
        next(reader, None)
        for fields in reader:
            if fields:
                yield reader.line_num, parse_row(fields, columns, symbol)
    except csv.Error as error:
        raise ConfigurationError(f"{path}: line {reader.line_num} is not CSV ({error}); export it again") from None


def _plain(step: Decimal) -> Decimal:
    """The step without trailing zeros and without an exponent."""
    step = step.normalize()
    return step.quantize(Decimal(1)) if step == step.to_integral_value() else step

"""Closed candles as CSV."""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from engine.domain.market import Candle
from engine.errors import ConfigurationError

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")


def write(closed: tuple[Candle, ...], out: Path | None) -> int:
    """Write candles to a file or stdout; timestamps are window starts in UTC. Raises ConfigurationError."""
    if out is None:
        _rows(sys.stdout, closed)
        return 0
    try:
        with out.open("w", newline="", encoding="utf-8") as file:
            _rows(file, closed)
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror}; choose another --out") from error
    return 0


def _rows(file: TextIO, candles: tuple[Candle, ...]) -> None:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(COLUMNS)
    for candle in candles:
        at = datetime.fromtimestamp(candle.start / 1000, UTC).isoformat().replace("+00:00", "Z")
        values = (candle.open, candle.high, candle.low, candle.close, candle.volume)
        rows.writerow((at, *(f"{value:f}" for value in values)))

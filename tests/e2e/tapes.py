"""Recordings, and candles computed from them without a line of the product."""

from __future__ import annotations

import csv
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
EURUSD = SHARED / "eurusd-quotes-2020-01-01.csv"
BTCUSDT = SHARED / "btcusdt-trades-2021-01-08.csv"
Row = tuple[str, Decimal, Decimal, Decimal, Decimal, Decimal]
"""Window start (UTC ISO), open, high, low, close, volume."""


def ticks(path: Path, *, count: int = 3_000, seed: int = 11) -> Path:
    """A random walk with equal timestamps, silent minutes, a byte-order mark and a few bad rows."""
    walk, price = random.Random(seed), 50_000
    at = datetime(2024, 3, 4, 9, 30, 7, tzinfo=UTC)
    lines = ["\ufefftimestamp,price,volume"]
    for number in range(count):
        price = max(1_000, price + walk.choice((-40, -15, -5, 0, 5, 15, 40)) + (3 if (number // 400) % 2 else -3))
        at += timedelta(milliseconds=walk.choice((0, 0, 150, 900, 2_500)))
        if number % 700 == 699:
            at += timedelta(minutes=3)
            lines += ["not a time,1,1", f"{at.isoformat()},nan,1", f"{at.isoformat()},-5,1"]
        lines.append(f"{at.isoformat(timespec='milliseconds')},{price / 100:.2f},{walk.randint(1, 9)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def candles(path: Path, *, repeats: bool) -> Path:
    """One-minute candles; with `repeats` every ninth comes again with changed values, some of them a candle late."""
    walk, price = random.Random(5), 10_000
    start = datetime(2024, 3, 4, tzinfo=UTC)
    rows: list[str] = []
    late: str | None = None
    for number in range(91):
        opened, price = price, max(500, price + walk.randint(-90, 90))
        high, low = max(opened, price) + walk.randint(0, 20), min(opened, price) - walk.randint(0, 20)
        at = (start + timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
        rows.append(f"{at},{opened / 100},{high / 100},{low / 100},{price / 100},{number + 1}")
        if late is not None:
            rows.append(late)
            late = None
        if repeats and number % 9 == 8:
            again = f"{at},{opened / 100},{(high + 300) / 100},{low / 100},{price / 100},{number + 7}"
            if number % 2:
                late = again
            else:
                rows.append(again)
    path.write_text("timestamp,open,high,low,close,volume\n" + "\n".join(rows) + "\n")
    return path


def computed(path: Path, seconds: int) -> list[Row]:
    """Closed candles of a recording of ticks: every window with a tick but the last, plainly."""
    windows: dict[datetime, list[tuple[Decimal, Decimal]]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            try:
                at = datetime.fromisoformat(row["timestamp"].replace("Z", "+00:00"))
            except ValueError:
                continue
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            price = Decimal(row["price"]) if "price" in row else (Decimal(row["bid"]) + Decimal(row["ask"])) / 2
            if not price.is_finite() or price <= 0:
                continue
            midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
            start = midnight + timedelta(seconds=(at - midnight) // timedelta(seconds=seconds) * seconds)
            windows.setdefault(start, []).append((price, Decimal(row.get("volume") or 1)))
    return [
        (
            start.strftime("%Y-%m-%dT%H:%M:%SZ"), seen[0][0], max(p for p, _ in seen), min(p for p, _ in seen),
            seen[-1][0], sum((v for _, v in seen), Decimal(0)),
        )
        for start, seen in sorted(windows.items())[:-1]
    ]  # fmt: skip


def read(text: str) -> list[Row]:
    """What `sextant candles` wrote."""
    head, *rows = csv.reader(text.splitlines())
    assert head == ["timestamp", "open", "high", "low", "close", "volume"]
    return [(row[0], *(Decimal(field) for field in row[1:])) for row in rows]  # type: ignore[misc]

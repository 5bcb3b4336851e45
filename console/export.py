"""What is filtered in the journal, whole, into a file: page by page, beside everything else, never over a file.

The file is made for us alone, is complete or not there, and holds nothing that a spreadsheet would run. No Textual.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from msgspec import Struct

from console.formatting import plain
from console.journal import Kind, Row, Wanted, entry_of, page_of, query_of
from console.listing import JOURNAL, ORDERS, Column, csv_head, csv_rows, json_row, utc
from console.listing_books import JOBS, TRADES
from engine.domain.fills import Fill
from engine.domain.ids import Millis
from engine.queries import Answer, Query

ROWS_A_PAGE = 1000
FILLS: tuple[Column[Fill], ...] = (
    Column("at", lambda row: utc(row.at)),
    Column("fill", lambda row: row.key),
    Column("account", lambda row: row.account),
    Column("session", lambda row: row.session),
    Column("symbol", lambda row: row.symbol),
    Column("side", lambda row: row.side),
    Column("quantity", lambda row: row.quantity),
    Column("price", lambda row: row.price),
    Column("fee", lambda row: row.fee),
    Column("client_id", lambda row: row.client_id),
    Column("broker_id", lambda row: row.broker_id),
    Column("revision", lambda row: row.revision),
)
_COLUMNS: dict[Kind, Sequence[Column[Any]]] = {
    Kind.ORDERS: ORDERS,
    Kind.FILLS: FILLS,
    Kind.TRADES: TRADES,
    Kind.JOBS: JOBS,
}
Ask = Callable[[Query], Awaitable[Answer]]


class ExportFailed(Exception):
    """Nothing was exported; the message says why in one sentence."""


class Progress(Struct, frozen=True):
    """How far an export is: lines written, and the moment of the oldest of them."""

    lines: int
    back_to: Millis | None


def default_name(wanted: Wanted, now: Millis, suffix: str) -> str:
    """A file's name that tells what is in it: journal-orders-20260102T030405Z.csv."""
    return f"journal-{wanted.kind}-{datetime.fromtimestamp(now / 1000, UTC):%Y%m%dT%H%M%SZ}.{suffix}"


def target(written: str, folder: Path) -> Path:
    """The file behind what the operator typed; a relative name is in `folder`.

    Raises ExportFailed when its name does not say CSV or JSON, or something has that name.
    """
    path = folder / Path(written.strip()).expanduser()
    if not written.strip() or not written.isprintable():
        raise ExportFailed("give the file a name that ends in .csv or .json")
    if path.suffix.lower() not in (".csv", ".json"):
        raise ExportFailed(f"{plain(path.name, 40)} must end in .csv or .json")
    if os.path.lexists(path):
        raise ExportFailed(f"{plain(path.name, 40)} exists already and is not written over; give another name")
    return path


async def export(ask: Ask, wanted: Wanted, path: Path, tell: Callable[[Progress], None]) -> Progress:
    """Write every row of the filter, newest first, to a new file; `tell` hears of each page.

    Cancelled or failed, the file is removed again. Raises ExportFailed, and what `ask` raises.
    """
    columns = _COLUMNS.get(wanted.kind, JOURNAL)
    is_csv = path.suffix.lower() == ".csv"
    file = await asyncio.to_thread(_create, path)
    progress = Progress(0, None)
    try:
        await asyncio.to_thread(_write, file, csv_head(columns) if is_csv else "[")
        query: Query | None = query_of(wanted, ROWS_A_PAGE)
        while query is not None:
            rows, query = page_of(query, await ask(query))
            if rows:
                text = csv_rows(columns, rows) if is_csv else _json(columns, rows, first=not progress.lines)
                await asyncio.to_thread(_write, file, text)
                progress = Progress(progress.lines + len(rows), entry_of(rows[-1]).at)
            tell(progress)
        await asyncio.to_thread(_finish, file, "" if is_csv else "\n]\n")
    except BaseException:
        _give_up(file, path)
        raise
    return progress


def _json(columns: Sequence[Column[Any]], rows: Sequence[Row], *, first: bool) -> str:
    lines = ",\n".join(json.dumps(json_row(columns, row)) for row in rows)
    return ("\n" if first else ",\n") + lines


def _create(path: Path) -> TextIOWrapper:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise ExportFailed(f"{plain(str(path.parent), 60)} cannot be written: {error.strerror}") from None
    try:
        return open(os.open(path, flags, 0o600), "w", encoding="utf-8", newline="")
    except FileExistsError:
        raise ExportFailed(
            f"{plain(path.name, 40)} exists already and is not written over; give another name"
        ) from None
    except OSError as error:
        raise ExportFailed(f"{plain(str(path), 60)} cannot be written: {error.strerror}") from None


def _write(file: TextIOWrapper, text: str) -> None:
    try:
        file.write(text)
    except OSError as error:
        raise ExportFailed(f"the file cannot be written: {error.strerror}") from None


def _finish(file: TextIOWrapper, text: str) -> None:
    try:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        file.close()
    except OSError as error:
        raise ExportFailed(f"the file cannot be written: {error.strerror}") from None


def _give_up(file: TextIOWrapper, path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        file.close()
    except OSError:
        pass  # a disk that takes no more: what counts is that nothing half done stands there

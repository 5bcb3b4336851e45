"""What `sessions`, `orders` and `journal` print: an aligned table, JSON or CSV, from pages of the audit trail.

Times are UTC ISO; JSON and CSV carry numbers as text, exactly as kept. Text from outside (a broker's reasons,
journal lines) is cleaned before it reaches a terminal, and defused before it reaches a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from console.formatting import plain, size
from engine.domain.ids import Millis, SessionId
from engine.domain.orders import Order
from engine.queries import (
    PAGE,
    Answer,
    JournalAnswer,
    JournalLine,
    JournalPage,
    OrdersAnswer,
    OrdersPage,
    Query,
    SessionLine,
    SessionsAnswer,
    SessionsList,
)

Row = TypeVar("Row")
GAP = "  "
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula; the wide forms too."""


class Form(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class AuditTrail(Protocol):
    """What answers queries; bootstrap opens one."""

    async def answer(self, query: Query) -> Answer:
        """A page of the audit trail."""


class Column(Struct, Generic[Row], frozen=True):
    """One column: its name in JSON and CSV (the table's head has spaces for underscores) and its value."""

    name: str
    value: Callable[[Row], Any]
    in_table: bool = True


SESSIONS: tuple[Column[SessionLine], ...] = (
    Column("session", lambda row: row.session),
    Column("account", lambda row: row.account),
    Column("symbol", lambda row: row.symbol),
    Column("strategy", lambda row: row.strategy),
    Column("timeframe", lambda row: row.timeframe),
    Column("started", lambda row: utc(row.started)),
    Column("evaluated", lambda row: utc(row.evaluated)),
    Column("orders", lambda row: row.orders),
    Column("fills", lambda row: row.fills),
    Column("latches", lambda row: list(row.latches)),
)

ORDERS: tuple[Column[Order], ...] = (
    Column("created", lambda row: utc(row.created)),
    Column("client_id", lambda row: row.client_id),
    Column("session", lambda row: row.session),
    Column("account", lambda row: row.account, in_table=False),
    Column("symbol", lambda row: row.terms.symbol),
    Column("role", lambda row: row.role),
    Column("side", lambda row: row.terms.side),
    Column("type", lambda row: row.terms.type),
    Column("quantity", lambda row: row.terms.quantity),
    Column("limit", lambda row: row.terms.limit),
    Column("stop", lambda row: row.terms.stop),
    Column("tif", lambda row: row.terms.tif, in_table=False),
    Column("state", lambda row: row.state),
    Column("filled", lambda row: row.filled),
    Column("average_price", lambda row: row.average_price),
    Column("fees", lambda row: row.fees, in_table=False),
    Column("broker_id", lambda row: row.broker_id),
    Column("parent", lambda row: row.parent, in_table=False),
    Column("sent", lambda row: utc(row.sent), in_table=False),
    Column("updated", lambda row: utc(row.updated), in_table=False),
    Column("flags", lambda row: sorted(row.flags), in_table=False),
    Column("reason", lambda row: row.reason),
)

JOURNAL: tuple[Column[JournalLine], ...] = (
    Column("number", lambda row: row.number),
    Column("at", lambda row: utc(row.at)),
    Column("kind", lambda row: row.kind),
    Column("session", lambda row: row.session),
    Column("subject", lambda row: row.subject),
    Column("text", lambda row: row.text),
)


async def list_sessions(trail: AuditTrail, form: Form) -> str:
    """Every session that the audit trail knows."""
    answer = await trail.answer(SessionsList())
    assert isinstance(answer, SessionsAnswer)
    return rendered(SESSIONS, answer.sessions, form)


async def list_orders(
    trail: AuditTrail, form: Form, *, session: str | None, open_only: bool, text: str, limit: int
) -> str:
    """Orders, newest first, at most `limit`."""
    found: list[Order] = []
    before: tuple[Millis, str] | None = None
    while len(found) < limit:
        answer = await trail.answer(
            OrdersPage(
                session=SessionId(session) if session else None,
                open_only=open_only,
                text=text,
                before=before,
                limit=min(PAGE, limit - len(found)),
            )
        )
        assert isinstance(answer, OrdersAnswer)
        found += answer.orders
        if not answer.more or not answer.orders:
            break
        before = (answer.orders[-1].created, answer.orders[-1].client_id)
    return rendered(ORDERS, found, form)


async def list_journal(
    trail: AuditTrail, form: Form, *, kinds: Sequence[str], session: str | None, text: str, limit: int
) -> str:
    """Journal lines, newest first, at most `limit`."""
    found: list[JournalLine] = []
    before: int | None = None
    while len(found) < limit:
        answer = await trail.answer(
            JournalPage(
                kinds=tuple(kinds),
                session=SessionId(session) if session else None,
                text=text,
                before=before,
                limit=min(PAGE, limit - len(found)),
            )
        )
        assert isinstance(answer, JournalAnswer)
        found += answer.lines
        if not answer.more or not answer.lines:
            break
        before = answer.lines[-1].number
    return rendered(JOURNAL, found, form)


def rendered(columns: Sequence[Column[Row]], rows: Iterable[Row], form: Form) -> str:
    """Rows as text that ends in a line end."""
    match form:
        case Form.JSON:
            # ASCII only: every control character comes out escaped.
            table = [json_row(columns, row) for row in rows]
            return json.dumps(table, indent=2) + "\n"
        case Form.CSV:
            return csv_head(columns) + csv_rows(columns, rows)
        case Form.TABLE:
            return _table([column for column in columns if column.in_table], list(rows))


def utc(at: Millis | None) -> str | None:
    """A moment as UTC ISO with milliseconds: 2026-01-02T03:04:05.678Z."""
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value


def csv_head(columns: Sequence[Column[Row]]) -> str:
    """The line of names."""
    return _csv_lines([[column.name for column in columns]])


def csv_rows(columns: Sequence[Column[Row]], rows: Iterable[Row]) -> str:
    """Rows as CSV lines, with nothing in them that a spreadsheet would run."""
    return _csv_lines([_cell(column.value(row)) for column in columns] for row in rows)


def json_row(columns: Sequence[Column[Row]], row: Row) -> dict[str, Any]:
    """One row for JSON: numbers as text, exactly as kept."""
    return {column.name: _json(column.value(row)) for column in columns}


def _csv_lines(lines: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case Decimal():
            return f"{value:f}"
        case int():
            return str(value)
        case list():
            return _cell("; ".join(value))
        case _:
            text = plain(str(value))
            # A spreadsheet runs what starts like a formula, and a broker's reason may be anything.
            return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def _table(columns: Sequence[Column[Row]], rows: list[Row]) -> str:
    head = [column.name.replace("_", " ") for column in columns]
    values = [[column.value(row) for column in columns] for row in rows]
    cells = [[_shown(value) for value in row] for row in values]
    widths = [max(_width(row[i]) for row in [head, *cells]) for i in range(len(head))]
    # A column of numbers is read from its right edge, and so is its name.
    right = [bool(values) and all(isinstance(row[i], Decimal | int | None) for row in values) for i in range(len(head))]
    return "".join(
        GAP.join(_padded(*cell) for cell in zip(row, widths, right, strict=True)).rstrip() + "\n"
        for row in [head, *cells]
    )


def _shown(value: Any) -> str:
    match value:
        case None:
            return "-"
        case Decimal():
            return size(value)
        case list():
            return plain(", ".join(value)) or "-"
        case _:
            return plain(str(value)) or "-"


def _padded(text: str, width: int, to_the_right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if to_the_right else text + space


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

"""Keyset pages that look at no more rows than asked: a filter over a million rows is many short questions.

A console's questions share the read-only connection with the engine's own. So a page with filter text looks through a
window of so many rows at a time and says how far it came; whoever asks goes on from there, or does not.
"""
# ruff: noqa: S608 (statements are put together from this package's own constants; values are bound)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from engine.ports import StoreConnection

LONGEST_PAGE = 1000
LONGEST_SCAN = 1_000_000
Row = tuple[Any, ...]


def literal(word: str) -> str:
    """The pattern of what contains a word, whatever the case; `%` and `_` mean themselves."""
    escaped = word.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


class Where:
    """A condition grown from constant clauses, with the values they bind."""

    def __init__(self) -> None:
        self._clauses: list[str] = []
        self.values: list[Any] = []

    def also(self, clause: str, *values: Any) -> None:
        """One more condition, with a value for each of its marks."""
        self._clauses.append(clause)
        self.values += values

    def contains(self, words: str, text: str) -> None:
        """Each word of `text` occurs in `words`, whatever the case; `%` and `_` mean themselves."""
        for word in text.lower().split():
            self.also(f"{words} LIKE ? ESCAPE '\\'", literal(word))

    @property
    def sql(self) -> str:
        """The clause, empty when there is no condition."""
        return f"WHERE {' AND '.join(self._clauses)}" if self._clauses else ""


class Listing(Struct, frozen=True):
    """A table in the order of `key`, newest first; `words` is what filter text is looked for in.

    The key's columns are among `columns`, and an index holds them in this order.
    """

    table: str
    columns: str
    key: tuple[str, ...]
    words: str

    @property
    def order(self) -> str:
        """The order of a page."""
        return ", ".join(f"{column} DESC" for column in self.key)

    def key_of(self, row: Row) -> Row:
        """Where a row stands."""
        names = self.columns.split(", ")
        return tuple(row[names.index(column)] for column in self.key)


class Page(Struct, frozen=True):
    """Rows, and the key from which older ones follow; None when there are none."""

    rows: list[Row]
    reached: Row | None


def bounded(limit: int) -> int:
    """A page's length within reason."""
    return max(1, min(limit, LONGEST_PAGE))


def page_statement(listing: Listing, clauses: Sequence[str]) -> str:
    """A page of rows that one of the clauses lets through; each is walked by itself, and several are merged."""
    table, columns, order = listing.table, listing.columns, listing.order
    each = [f"SELECT {columns} FROM {table} {clause} ORDER BY {order} LIMIT ?" for clause in clauses]
    if len(each) == 1:
        return each[0]
    arms = " UNION ALL ".join(f"SELECT * FROM ({one}) AS arm_{number}" for number, one in enumerate(each))
    return f"SELECT * FROM ({arms}) AS arms ORDER BY {order} LIMIT ?"


def end_statement(listing: Listing, clause: str) -> str:
    """The key so many rows further down."""
    keys, table, order = ", ".join(listing.key), listing.table, listing.order
    return f"SELECT {keys} FROM {table} {clause} ORDER BY {order} LIMIT 1 OFFSET ?"


async def page(
    reader: StoreConnection,
    listing: Listing,
    arms: Sequence[Where],
    *,
    text: str,
    before: Row | None,
    limit: int,
    scan: int | None,
) -> Page:
    """The newest rows older than `before` that one of `arms` and the text let through. Raises StoreUnavailable.

    With `scan`, text is looked for in at most so many rows of each arm; the page may then be short, or empty, while
    older rows follow. Each arm is walked along its own index.
    """
    limit = bounded(limit)
    marks = f"({', '.join('?' for _ in listing.key)})"
    key = f"({', '.join(listing.key)})"
    if before is not None:
        for arm in arms:
            arm.also(f"{key} < {marks}", *before)
    end: Row | None = None
    if scan is not None and text.split():
        ends = [await _end_of_window(reader, listing, arm, min(scan, LONGEST_SCAN)) for arm in arms]
        end = max((found for found in ends if found is not None), default=None)
    for arm in arms:
        if end is not None:
            arm.also(f"{key} >= {marks}", *end)
        arm.contains(listing.words, text)
    sql = page_statement(listing, [arm.sql for arm in arms])
    values = [value for arm in arms for value in (*arm.values, limit + 1)]
    if len(arms) > 1:
        values.append(limit + 1)
    rows = await reader.query(sql, values)
    if len(rows) > limit:
        return Page(rows[:limit], listing.key_of(rows[limit - 1]))
    return Page(rows, end)


async def _end_of_window(reader: StoreConnection, listing: Listing, arm: Where, scan: int) -> Row | None:
    """The key of the last row to look at; None when there are fewer rows than that."""
    sql = end_statement(listing, arm.sql)
    rows = await reader.query(sql, (*arm.values, scan - 1))
    return rows[0] if rows else None

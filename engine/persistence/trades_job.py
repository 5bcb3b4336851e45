"""The job that brings a contract's trades and daily profit up to its newest fill.

The walk over the fills begins at the last mark before everything that changed since the kept version (a late fill,
a correction, a bust, a further fill of an old order), at the beginning when there is no such mark or the contract's
terms are others. What it finds replaces what is kept, if the kept version is still the one that was read; else the
database refuses the whole transaction and the job is tried again. Only when thousands of trades change (the very
first count, a bust of long ago) are they written in several transactions, so that no intent waits behind them.
"""
# ruff: noqa: S608 (statements are put together from this package's own constants; values are bound)

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import date

from msgspec import Struct

from engine.domain.ids import AccountId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.records import DailyPnl, Trade
from engine.persistence.connection import Statement
from engine.persistence.order_rows import FILL_COLUMNS, Row, fill_from, text_of
from engine.persistence.pages import DAILY_COLUMNS, TRADE_COLUMNS, daily_from, trade_from
from engine.persistence.statements import trades_subject
from engine.persistence.trades import Books, Mark, books_of
from engine.ports import Blocking, StoreConnection

WALK = 1
"""How the walk counts and what its marks hold; a new number makes every contract be counted afresh."""
PAGE = 500  # rows at a time: a connection may turn them into values on the engine's loop
TOGETHER = 50  # rows that one statement puts
IN_ONE_GO = 10  # such statements in one transaction: an intent waits no longer than for those
BEFORE_ALL, AFTER_ALL = -(2**62), 2**62
MARKS_OF = ", ".join("?" * TOGETHER)

NEWEST_FILL = "SELECT coalesce(max(number), 0) FROM fills WHERE account = ? AND symbol = ?"
KEPT_VERSION = "SELECT version, basis FROM trade_versions WHERE account = ? AND symbol = ?"
KEPT_VERSIONS = "SELECT account, symbol, basis FROM trade_versions"
CHANGED = """
SELECT broker_id, fill_key, number FROM fills WHERE account = ? AND symbol = ? AND number > ? ORDER BY number LIMIT ?
"""
# No subquery: without statistics PostgreSQL reads the whole table for one.
FIRST_OF_ORDERS = f"SELECT min(at) FROM fills WHERE account = ? AND symbol = ? AND broker_id IN ({MARKS_OF})"
FIRST_OF_KEYS = f"SELECT min(at) FROM fills WHERE account = ? AND fill_key IN ({MARKS_OF})"
NEWER_MARK = "SELECT 1 FROM trade_marks WHERE account = ? AND symbol = ? AND at > ? LIMIT 1"
LAST_MARK = "SELECT at, state FROM trade_marks WHERE account = ? AND symbol = ? AND at < ? ORDER BY at DESC LIMIT 1"
FILLS = f"""
SELECT {FILL_COLUMNS}, at, number FROM fills
WHERE account = ? AND symbol = ? AND (at, number) > (?, ?) AND number <= ? ORDER BY at, number LIMIT ?
"""
TRADES = f"""
SELECT {TRADE_COLUMNS} FROM trades WHERE account = ? AND symbol = ? AND number > ? ORDER BY number LIMIT ?
"""
DAYS = f"SELECT {DAILY_COLUMNS} FROM daily_pnl WHERE account = ? AND symbol = ? AND day >= ?"

# When version and basis are no longer what was read, NULL is stored, which the column refuses: nothing holds then.
STAMP = """
INSERT INTO trade_versions (account, symbol, version, basis) VALUES (?, ?, ?, ?)
ON CONFLICT (account, symbol) DO UPDATE SET
    version = CASE WHEN trade_versions.version = CAST(? AS BIGINT) AND trade_versions.basis = CAST(? AS TEXT)
        THEN excluded.version ELSE NULL END,
    basis = excluded.basis
"""
CUT_TRADES = "DELETE FROM trades WHERE account = ? AND symbol = ? AND number > ?"
CUT_DAY = "DELETE FROM daily_pnl WHERE account = ? AND symbol = ? AND day = ?"
CUT_DAYS = "DELETE FROM daily_pnl WHERE account = ? AND symbol = ?"
CUT_MARKS = "DELETE FROM trade_marks WHERE account = ? AND symbol = ? AND at > ?"


def putting(rows: int, table: str, columns: str, key: str) -> str:
    """The statement that puts so many rows, each in the place of the row that has its key."""
    names = columns.split(", ")
    values = f"({', '.join('?' for _ in names)})"
    news = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key.split(", "))
    return (
        f"INSERT INTO {table} ({columns}) VALUES {', '.join([values] * rows)} ON CONFLICT ({key}) DO UPDATE SET {news}"
    )


PUT_TRADE, PUT_TRADES = (putting(n, "trades", TRADE_COLUMNS, "account, symbol, number") for n in (1, TOGETHER))
PUT_DAY, PUT_DAYS = (putting(n, "daily_pnl", DAILY_COLUMNS, "account, symbol, day") for n in (1, TOGETHER))
MARK_COLUMNS = "account, symbol, at, state"
PUT_MARK, PUT_MARKS = (putting(n, "trade_marks", MARK_COLUMNS, "account, symbol, at") for n in (1, TOGETHER))


class Kept(Struct, frozen=True):
    """What the tables hold of a contract behind the walk's beginning: by number, by day, and whether any mark."""

    trades: dict[int, Trade]
    days: dict[date, DailyPnl]
    marks: bool


NOTHING_KEPT = Kept({}, {}, marks=False)


class TradesBody:
    """Body of the job `trades`; its subject is the JSON pair [account, symbol].

    `instrument` gives a contract's terms and may raise KeyError; `fresh` gives a word never given before.
    """

    def __init__(
        self,
        reader: StoreConnection,
        blocking: Blocking,
        instrument: Callable[[Symbol], Instrument],
        fresh: Callable[[], str],
    ) -> None:
        self._reader = reader
        self._blocking = blocking
        self._instrument = instrument
        self._fresh = fresh

    async def __call__(self, subject: str) -> list[list[Statement]]:
        """Walk off the loop; from a mark on, write only what differs."""
        account, symbol = json.loads(subject)
        contract = (account, symbol)
        instrument = self._known(Symbol(symbol))
        kept = await self._reader.query(KEPT_VERSION, contract)
        base, kept_basis = kept[0] if kept else (-1, "")
        # the version before the fills: those that come in between are left to the job that they queue
        ((version,),) = await self._reader.query(NEWEST_FILL, contract)
        basis = basis_of(instrument)
        if (base, kept_basis) == (version, basis):
            return []
        start = await self._start(contract, base) if kept_basis == basis else None
        fills = await self._fills(contract, BEFORE_ALL if start is None else start.at, version)
        books = await self._blocking.run(
            lambda: books_of(
                AccountId(account), Symbol(symbol), (fill_from(row[:-2]) for row in fills), instrument, start
            )
        )
        rows = await self._kept(contract, start, books) if start is not None else None if kept else NOTHING_KEPT
        stamps = Stamps(contract, (base, kept_basis), (version, basis), self._fresh)
        return await self._blocking.run(lambda: replacement(stamps, start, books, rows))

    async def outdated(self) -> list[tuple[str, str]]:
        """Kind and subject of a job for each contract whose books rest on other terms than it now has.

        Contracts that are unknown now are left out.
        """
        jobs = []
        for account, symbol, basis in await self._reader.query(KEPT_VERSIONS):
            try:
                instrument = self._instrument(Symbol(symbol))
            except KeyError:
                continue
            if basis_of(instrument) != basis:
                jobs.append(("trades", trades_subject(account, symbol)))
        return jobs

    async def _start(self, contract: tuple[str, str], base: int) -> Mark | None:
        touched = await self._first_touched(contract, base)
        found = await self._reader.query(LAST_MARK, (*contract, touched))
        return Mark(*found[0]) if found else None

    async def _first_touched(self, contract: tuple[str, str], base: int) -> int:
        """The first moment of any fill that shares its order or its execution with one that came after `base`."""
        first = AFTER_ALL
        while True:
            changed = await self._reader.query(CHANGED, (*contract, base, PAGE))
            orders, keys = {row[0] for row in changed}, {row[1] for row in changed}
            for sql, whose, names in ((FIRST_OF_ORDERS, contract, orders), (FIRST_OF_KEYS, contract[:1], keys)):
                for some in in_parts(sorted(names)):
                    ((at,),) = await self._reader.query(sql, (*whose, *some))
                    first = min(first, at)
            if len(changed) < PAGE:
                return first
            base = changed[-1][2]

    async def _fills(self, contract: tuple[str, str], cut: int, version: int) -> list[Row]:
        rows: list[Row] = []
        after = (cut, AFTER_ALL)
        while True:
            page = await self._reader.query(FILLS, (*contract, *after, version, PAGE))
            rows += page
            if len(page) < PAGE:
                return rows
            after = page[-1][-2:]

    async def _kept(self, contract: tuple[str, str], start: Mark, books: Books) -> Kept:
        trades: dict[int, Trade] = {}
        number = books.trades_before
        while page := await self._reader.query(TRADES, (*contract, number, PAGE)):
            trades.update((trade.number, trade) for trade in map(trade_from, page))
            number = page[-1][2]
        rows = await self._reader.query(DAYS, (*contract, str(books.first_day)))
        marks = await self._reader.query(NEWER_MARK, (*contract, start.at))
        return Kept(trades, {daily.day: daily for daily in map(daily_from, rows)}, bool(marks))

    def _known(self, symbol: Symbol) -> Instrument:
        try:
            return self._instrument(symbol)
        except KeyError:
            raise LookupError(f"this desk knows no contract {symbol}; name it in the settings, then retry") from None


def in_parts(names: list[str]) -> Iterator[list[str]]:
    """Parts of one length, the last one filled up with its own first name."""
    for start in range(0, len(names), TOGETHER):
        part = names[start : start + TOGETHER]
        yield part + part[:1] * (TOGETHER - len(part))


def basis_of(instrument: Instrument) -> str:
    """What a contract's books rest on besides its fills, as one word."""
    calendar = instrument.calendar
    terms = (
        WALK,
        text_of(instrument.point_value.normalize()),
        instrument.currency,
        calendar.zone,
        calendar.day_rolls_at,
    )
    return hashlib.blake2b(json.dumps(terms).encode(), digest_size=9).hexdigest()


class Stamps(Struct, frozen=True):
    """Version and basis of a contract's books: as they were read, and as they are to be."""

    contract: tuple[str, str]
    was: tuple[int, str]
    becomes: tuple[int, str]
    fresh: Callable[[], str]

    def whole(self, statements: list[Statement]) -> list[list[Statement]]:
        """One transaction."""
        return [[(STAMP, (*self.contract, *self.becomes, *self.was)), *statements]]

    def in_parts(self, first: list[Statement], middle: list[Statement], last: list[Statement]) -> list[list[Statement]]:
        """Transactions that others get in between. From the first to the last the books rest on nothing.

        Each goes through only while none but these has changed the books; a crash between them leaves books that the
        next job counts from the first fill.
        """
        under_way = (max(0, self.was[0]), self.fresh())
        go_on: Statement = (STAMP, (*self.contract, *under_way, *under_way))
        begin: Statement = (STAMP, (*self.contract, *under_way, *self.was))
        end: Statement = (STAMP, (*self.contract, *self.becomes, *under_way))
        parts = [[go_on, *middle[at : at + IN_ONE_GO]] for at in range(0, len(middle), IN_ONE_GO)]
        return [[begin, *first], *parts, [end, *last]]


def replacement(stamps: Stamps, start: Mark | None, books: Books, kept: Kept | None) -> list[list[Statement]]:
    """The transactions that turn what is kept into what the walk found; without `kept`, whatever is kept."""
    contract = stamps.contract
    trades, days = (kept.trades, kept.days) if kept is not None else ({}, {})
    last = books.trades_before + len(books.trades)
    found = {daily.day for daily in books.days}
    cut_marks: list[Statement] = []
    if kept is None or kept.marks:
        cut_marks.append((CUT_MARKS, (*contract, BEFORE_ALL if start is None else start.at)))
    changed = put(PUT_TRADE, PUT_TRADES, (trade_row(t) for t in books.trades if trades.get(t.number) != t))
    rest: list[Statement] = []
    if kept is None or any(number > last for number in trades):
        rest.append((CUT_TRADES, (*contract, last)))
    if kept is None:
        rest.append((CUT_DAYS, contract))
    rest += [(CUT_DAY, (*contract, day.isoformat())) for day in days if day not in found]
    rest += put(PUT_DAY, PUT_DAYS, (daily_row(d) for d in books.days if days.get(d.day) != d))
    rest += put(PUT_MARK, PUT_MARKS, ((*contract, mark.at, mark.state) for mark in books.marks))
    if len(changed) <= IN_ONE_GO:
        return stamps.whole([*changed, *cut_marks, *rest])
    return stamps.in_parts(cut_marks, changed, rest)


def put(one: str, many: str, rows: Iterable[Row]) -> list[Statement]:
    """Rows by as few statements as can be."""
    every = list(rows)
    whole = len(every) - len(every) % TOGETHER
    statements: list[Statement] = [
        (many, [value for row in every[start : start + TOGETHER] for value in row])
        for start in range(0, whole, TOGETHER)
    ]
    return statements + [(one, row) for row in every[whole:]]


def trade_row(trade: Trade) -> Row:
    """The values of TRADE_COLUMNS."""
    return (
        trade.account,
        trade.symbol,
        trade.number,
        text_of(trade.quantity),
        trade.opened,
        trade.closed,
        text_of(trade.entry_price),
        text_of(trade.exit_price),
        text_of(trade.fees),
        text_of(trade.profit),
        json.dumps(trade.sessions),
    )


def daily_row(daily: DailyPnl) -> Row:
    """The values of DAILY_COLUMNS."""
    money = (text_of(daily.realised), text_of(daily.fees))
    return (
        daily.account,
        daily.symbol,
        daily.day.isoformat(),
        daily.currency,
        *money,
        daily.round_trips,
        text_of(daily.quantity),
    )

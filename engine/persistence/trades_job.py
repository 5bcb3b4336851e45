"""The job that brings a contract's trades and daily profit up to its newest fill, in one transaction.

The walk over the fills begins at the last mark before everything that changed since the kept version (a late fill,
a correction, a bust, a further fill of an old order), at the beginning when there is no such mark or the contract's
terms are others. What it finds replaces what is kept, if the kept version is still the one that was read; else the
database refuses the whole transaction and the job is tried again.
"""
# ruff: noqa: S608 (statements are put together from this package's own constants; values are bound)

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable

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
BEFORE_ALL, AFTER_ALL = -(2**62), 2**62

NEWEST_FILL = "SELECT coalesce(max(number), 0) FROM fills WHERE account = ? AND symbol = ?"
KEPT_VERSION = "SELECT version, basis FROM trade_versions WHERE account = ? AND symbol = ?"
KEPT_VERSIONS = "SELECT account, symbol, basis FROM trade_versions"
FIRST_TOUCHED = """
SELECT min(at) FROM (
    SELECT at FROM fills WHERE account = ? AND symbol = ? AND broker_id IN (
        SELECT broker_id FROM fills WHERE account = ? AND symbol = ? AND number > ?
    )
    UNION ALL
    SELECT at FROM fills WHERE account = ? AND fill_key IN (
        SELECT fill_key FROM fills WHERE account = ? AND symbol = ? AND number > ?
    )
) AS touched
"""
LAST_MARK = "SELECT at, state FROM trade_marks WHERE account = ? AND symbol = ? AND at < ? ORDER BY at DESC LIMIT 1"
FILLS = f"""
SELECT {FILL_COLUMNS}, at, number FROM fills
WHERE account = ? AND symbol = ? AND number <= ? AND (at, number) > (?, ?) AND NOT EXISTS (
    SELECT 1 FROM fills AS newer
    WHERE newer.account = fills.account AND newer.fill_key = fills.fill_key
        AND newer.revision > fills.revision AND newer.number <= ?
)
ORDER BY at, number LIMIT ?
"""
TRADES = f"""
SELECT {TRADE_COLUMNS} FROM trades WHERE account = ? AND symbol = ? AND number > ? ORDER BY number LIMIT ?
"""
DAYS = f"SELECT {DAILY_COLUMNS} FROM daily_pnl WHERE account = ? AND symbol = ? AND day >= ?"

# A version that is no longer the one read is stored as NULL, which the column refuses: nothing of the job holds then.
STAMP = """
INSERT INTO trade_versions (account, symbol, version, basis) VALUES (?, ?, ?, ?)
ON CONFLICT (account, symbol) DO UPDATE SET
    version = CASE WHEN trade_versions.version = CAST(? AS BIGINT) THEN excluded.version ELSE NULL END,
    basis = excluded.basis
"""
CUT_TRADES = "DELETE FROM trades WHERE account = ? AND symbol = ? AND number > ?"
CUT_DAY = "DELETE FROM daily_pnl WHERE account = ? AND symbol = ? AND day = ?"
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
    """What the tables hold from the walk's beginning on."""

    trades: list[Row]
    days: list[Row]


class TradesBody:
    """Body of the job `trades`; its subject is the JSON pair [account, symbol].

    `instrument` gives a contract's terms and may raise KeyError.
    """

    def __init__(self, reader: StoreConnection, blocking: Blocking, instrument: Callable[[Symbol], Instrument]) -> None:
        self._reader = reader
        self._blocking = blocking
        self._instrument = instrument

    async def __call__(self, subject: str) -> list[Statement]:
        """Walk off the loop; write only what differs."""
        account, symbol = json.loads(subject)
        contract = (account, symbol)
        instrument = self._known(Symbol(symbol))
        kept = await self._reader.query(KEPT_VERSION, contract)
        base, kept_basis = kept[0] if kept else (None, "")
        # the version before the fills: those that come in between are left to the job that they queue
        ((version,),) = await self._reader.query(NEWEST_FILL, contract)
        basis = basis_of(instrument)
        if (base, kept_basis) == (version, basis):
            return []
        start = await self._start(contract, base) if base is not None and kept_basis == basis else None
        cut = start.at if start is not None else BEFORE_ALL
        fills = await self._fills(contract, cut, version)
        books = await self._blocking.run(
            lambda: books_of(
                AccountId(account), Symbol(symbol), (fill_from(row[:-2]) for row in fills), instrument, start
            )
        )
        rows = Kept(
            await self._trades(contract, books.trades_before),
            await self._reader.query(DAYS, (*contract, "" if start is None else str(books.first_day))),
        )
        stamp: Statement = (STAMP, (*contract, version, basis, base))
        return await self._blocking.run(lambda: [stamp, *replacement(contract, cut, books, rows)])

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
        since = (*contract, base)
        ((touched,),) = await self._reader.query(FIRST_TOUCHED, (*contract, *since, contract[0], *since))
        found = await self._reader.query(LAST_MARK, (*contract, BEFORE_ALL if touched is None else touched))
        return Mark(*found[0]) if found else None

    async def _fills(self, contract: tuple[str, str], cut: int, version: int) -> list[Row]:
        rows: list[Row] = []
        after = (cut, AFTER_ALL)
        while True:
            page = await self._reader.query(FILLS, (*contract, version, *after, version, PAGE))
            rows += page
            if len(page) < PAGE:
                return rows
            after = page[-1][-2:]

    async def _trades(self, contract: tuple[str, str], number: int) -> list[Row]:
        rows: list[Row] = []
        while True:
            page = await self._reader.query(TRADES, (*contract, number, PAGE))
            rows += page
            if len(page) < PAGE:
                return rows
            number = page[-1][2]

    def _known(self, symbol: Symbol) -> Instrument:
        try:
            return self._instrument(symbol)
        except KeyError:
            raise LookupError(f"this desk knows no contract {symbol}; name it in the settings, then retry") from None


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


def replacement(contract: tuple[str, str], cut: int, books: Books, kept: Kept) -> list[Statement]:
    """The statements that turn what is kept into what the walk found."""
    trades = {trade.number: trade for trade in map(trade_from, kept.trades)}
    days = {daily.day: daily for daily in map(daily_from, kept.days)}
    found = {daily.day for daily in books.days}
    last = books.trades_before + len(books.trades)
    statements = [
        *put(PUT_TRADE, PUT_TRADES, (trade_row(t) for t in books.trades if trades.get(t.number) != t)),
        *put(PUT_DAY, PUT_DAYS, (daily_row(d) for d in books.days if days.get(d.day) != d)),
        *((CUT_DAY, (*contract, day.isoformat())) for day in days if day not in found),
        (CUT_MARKS, (*contract, cut)),
        *put(PUT_MARK, PUT_MARKS, ((*contract, mark.at, mark.state) for mark in books.marks)),
    ]
    if any(number > last for number in trades):
        statements.append((CUT_TRADES, (*contract, last)))
    return statements


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

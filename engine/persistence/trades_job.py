"""The job that recomputes a contract's trades and replaces them under the fill sequence."""
# ruff: noqa: S608 (statements are put together from this package's own constants; values are bound)

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

from engine.domain.ids import AccountId, Symbol
from engine.domain.records import Trade
from engine.persistence.connection import Statement
from engine.persistence.order_rows import FILL_COLUMNS, Row, fill_from, text_of
from engine.persistence.pages import TRADE_COLUMNS, trade_from
from engine.persistence.trades import round_trips
from engine.ports import Blocking, StoreConnection

VERSION = "SELECT coalesce(max(number), 0) FROM fills WHERE account = ? AND symbol = ?"
ALL_FILLS = f"SELECT {FILL_COLUMNS} FROM fills WHERE account = ? AND symbol = ? AND number <= ?"
ALL_TRADES = f"SELECT {TRADE_COLUMNS} FROM trades WHERE account = ? AND symbol = ?"
STAMP = """
INSERT INTO trade_versions (account, symbol, version) VALUES (?, ?, ?)
ON CONFLICT (account, symbol) DO UPDATE SET version = excluded.version
WHERE excluded.version > trade_versions.version
"""
IF_NEWEST = "EXISTS (SELECT 1 FROM trade_versions WHERE account = ? AND symbol = ? AND version = ?)"
PUT_TRADE = f"""
INSERT INTO trades (
    account, symbol, number, quantity, opened, closed, entry_price, exit_price, fees, profit, sessions
)
SELECT CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT),
    CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT)
WHERE {IF_NEWEST}
ON CONFLICT (account, symbol, number) DO UPDATE SET
    quantity = excluded.quantity, opened = excluded.opened, closed = excluded.closed,
    entry_price = excluded.entry_price, exit_price = excluded.exit_price, fees = excluded.fees,
    profit = excluded.profit, sessions = excluded.sessions
"""
CUT_TRADES = f"DELETE FROM trades WHERE account = ? AND symbol = ? AND number > ? AND {IF_NEWEST}"


class TradesBody:
    """Body of the job `trades`; its subject is the JSON pair [account, symbol]."""

    def __init__(self, reader: StoreConnection, blocking: Blocking, point_value: Callable[[Symbol], Decimal]) -> None:
        self._reader = reader
        self._blocking = blocking
        self._point_value = point_value

    async def __call__(self, subject: str) -> list[Statement]:
        """Recompute wholly, off the loop; write only the trades that differ, and only as the newest version."""
        account, symbol = json.loads(subject)
        value = self._point_value(Symbol(symbol))
        # the version first: fills that come in between are left to the job that they queue
        ((version,),) = await self._reader.query(VERSION, (account, symbol))
        fills = await self._reader.query(ALL_FILLS, (account, symbol, version))
        kept = await self._reader.query(ALL_TRADES, (account, symbol))
        return await self._blocking.run(
            lambda: replacement(AccountId(account), Symbol(symbol), version, fills, kept, value)
        )


def replacement(
    account: AccountId, symbol: Symbol, version: int, fills: list[Row], kept: list[Row], value: Decimal
) -> list[Statement]:
    """The statements that turn the kept trades into the right ones."""
    trades = round_trips(account, symbol, (fill_from(row) for row in fills), value)
    before = {trade.number: trade for trade in map(trade_from, kept)}
    guard = (account, symbol, version)
    changed = [trade for trade in trades if before.get(trade.number) != trade]
    return [
        (STAMP, guard),
        *((PUT_TRADE, (*trade_row(trade), *guard)) for trade in changed),
        (CUT_TRADES, (account, symbol, len(trades), *guard)),
    ]


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

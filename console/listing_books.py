"""What `trades`, `pnl` and `jobs` print: the desk's books, and the background jobs that keep them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import TypeVar

from msgspec.structs import replace

from console.listing import AuditTrail, Column, Form, rendered, utc
from engine.domain.ids import AccountId, Symbol
from engine.domain.records import DailyPnl, Trade
from engine.queries import (
    PAGE,
    DailyPnlAnswer,
    DailyPnlPage,
    JobLine,
    JobsAnswer,
    JobsPage,
    TradesAnswer,
    TradesPage,
)

Row = TypeVar("Row")

TRADES: tuple[Column[Trade], ...] = (
    Column("account", lambda row: row.account),
    Column("symbol", lambda row: row.symbol),
    Column("number", lambda row: row.number),
    Column("quantity", lambda row: row.quantity),
    Column("opened", lambda row: utc(row.opened)),
    Column("closed", lambda row: utc(row.closed)),
    Column("entry_price", lambda row: row.entry_price),
    Column("exit_price", lambda row: row.exit_price),
    Column("fees", lambda row: row.fees),
    Column("profit", lambda row: row.profit),
    Column("sessions", lambda row: list(row.sessions)),
)

DAYS: tuple[Column[DailyPnl], ...] = (
    Column("day", lambda row: row.day.isoformat()),
    Column("account", lambda row: row.account),
    Column("symbol", lambda row: row.symbol),
    Column("round_trips", lambda row: row.round_trips),
    Column("quantity", lambda row: row.quantity),
    Column("realised", lambda row: row.realised),
    Column("fees", lambda row: row.fees),
    Column("net", lambda row: row.net),
    Column("currency", lambda row: row.currency),
)

JOBS: tuple[Column[JobLine], ...] = (
    Column("state", lambda row: row.state),
    Column("kind", lambda row: row.kind),
    Column("subject", lambda row: row.subject),
    Column("attempts", lambda row: row.attempts),
    Column("queued", lambda row: utc(row.queued)),
    Column("age_s", lambda row: Decimal(row.age_ms) / 1000),
    Column("due", lambda row: utc(row.due) if row.due else None),
    Column("error", lambda row: row.error),
)


async def list_trades(trail: AuditTrail, form: Form, account: str | None, symbol: str | None, limit: int) -> str:
    """Round trips, newest first, at most `limit`."""

    found: list[Trade] = []
    query = TradesPage(account=_account(account), symbol=_symbol(symbol))
    while len(found) < limit:
        answer = await trail.answer(replace(query, limit=min(PAGE, limit - len(found))))
        assert isinstance(answer, TradesAnswer)
        found += answer.trades
        if answer.reached is None:
            break
        query = replace(query, before=answer.reached)
    return rendered(TRADES, found, form)


async def list_pnl(trail: AuditTrail, form: Form, account: str | None, symbol: str | None, limit: int) -> str:
    """Trade dates of contracts, newest day first, at most `limit`."""

    async def page(offset: int, size: int) -> tuple[DailyPnl, ...]:
        answer = await trail.answer(
            DailyPnlPage(account=_account(account), symbol=_symbol(symbol), offset=offset, limit=size)
        )
        assert isinstance(answer, DailyPnlAnswer)
        return answer.days

    return rendered(DAYS, await _collected(page, limit), form)


async def list_jobs(trail: AuditTrail, form: Form, limit: int) -> str:
    """Background jobs not done, the dead first, at most `limit`."""

    async def page(offset: int, size: int) -> tuple[JobLine, ...]:
        answer = await trail.answer(JobsPage(offset=offset, limit=size))
        assert isinstance(answer, JobsAnswer)
        return answer.jobs

    return rendered(JOBS, await _collected(page, limit), form)


async def _collected(page: Callable[[int, int], Awaitable[Sequence[Row]]], limit: int) -> list[Row]:
    found: list[Row] = []
    while len(found) < limit:
        size = min(PAGE, limit - len(found))
        rows = await page(len(found), size)
        found += rows
        if len(rows) < size:
            break
    return found


def _account(name: str | None) -> AccountId | None:
    return None if name is None else AccountId(name)


def _symbol(name: str | None) -> Symbol | None:
    return None if name is None else Symbol(name)

"""The listings of the command line: each prints a page of the audit trail, beside a running desk or without."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from console.command import FINE, ConfigOption, DbOption, StateOption, guarded
from console.options import RunOptions
from engine.errors import ConfigurationError

DEFAULT_LIMIT = 100
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON array.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", help="At most so many lines, newest first.")]
SessionOption = Annotated[str | None, typer.Option("--session", metavar="NAME", help="Only this session.")]
TextOption = Annotated[str, typer.Option("--text", metavar="WORDS", help="Only lines that hold these words.")]
AccountOption = Annotated[str | None, typer.Option("--account", metavar="NAME", help="Only this account.")]
SymbolOption = Annotated[str | None, typer.Option("--symbol", metavar="SYM", help="Only this contract.")]
RetryOption = Annotated[
    bool, typer.Option("--retry", help="Give dead jobs all their attempts again; for a desk that does not run.")
]


def sessions(
    config: ConfigOption = None,
    db: DbOption = None,
    state_dir: StateOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> int:
    """Sessions that this desk has known."""
    from console.listing import list_sessions

    return _list(config, db, state_dir, json, csv, lambda trail, form: list_sessions(trail, form))


def orders(
    config: ConfigOption = None,
    db: DbOption = None,
    state_dir: StateOption = None,
    session: SessionOption = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only orders that may still fill.")] = False,
    text: TextOption = "",
    limit: LimitOption = DEFAULT_LIMIT,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> int:
    """Orders from the audit trail, newest first."""
    from console.listing import list_orders

    return _list(
        config,
        db,
        state_dir,
        json,
        csv,
        lambda trail, form: list_orders(
            trail, form, session=session, open_only=open_only, text=text, limit=_limit(limit)
        ),
    )


def journal(
    config: ConfigOption = None,
    db: DbOption = None,
    state_dir: StateOption = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="Only lines of this kind.")] = None,
    session: SessionOption = None,
    text: TextOption = "",
    limit: LimitOption = DEFAULT_LIMIT,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> int:
    """The journal of everything that happened, newest first."""
    from console.listing import list_journal

    return _list(
        config,
        db,
        state_dir,
        json,
        csv,
        lambda trail, form: list_journal(
            trail, form, kinds=kind or (), session=session, text=text, limit=_limit(limit)
        ),
    )


def trades(
    config: ConfigOption = None,
    db: DbOption = None,
    state_dir: StateOption = None,
    account: AccountOption = None,
    symbol: SymbolOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> int:
    """Round trips, first in first out, with fees and profit, newest first."""
    from console.listing_books import list_trades

    return _list(
        config, db, state_dir, json, csv, lambda trail, form: list_trades(trail, form, account, symbol, _limit(limit))
    )


def pnl(
    config: ConfigOption = None,
    db: DbOption = None,
    state_dir: StateOption = None,
    account: AccountOption = None,
    symbol: SymbolOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> int:
    """Profit and fees of each trade date and contract, newest day first."""
    from console.listing_books import list_pnl

    return _list(
        config, db, state_dir, json, csv, lambda trail, form: list_pnl(trail, form, account, symbol, _limit(limit))
    )


def jobs(
    config: ConfigOption = None,
    db: DbOption = None,
    state_dir: StateOption = None,
    retry: RetryOption = False,
    limit: LimitOption = DEFAULT_LIMIT,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> int:
    """Background jobs not done, the dead first; in a running desk J retries those."""
    from console.listing_books import list_jobs

    if retry:
        return guarded(lambda: _retry(RunOptions(config=config, db=db, state_dir=state_dir), json or csv))
    return _list(config, db, state_dir, json, csv, lambda trail, form: list_jobs(trail, form, _limit(limit)))


def _retry(asked: RunOptions, shaped: bool) -> int:
    import getpass

    from console.process import harden

    if shaped:
        raise ConfigurationError("--retry prints one line; leave out --json and --csv")
    harden()
    from console import bootstrap

    count = bootstrap.upkeep_for(asked).retry_jobs(getpass.getuser())
    words = "1 job runs" if count == 1 else f"{count} jobs run"
    sys.stdout.write(f"{words} again when the desk starts.\n" if count else "No job is dead.\n")
    return FINE


def _list(
    config: Path | None,
    db: str | None,
    state_dir: Path | None,
    json: bool,
    csv: bool,
    listing: Callable[[Any, Any], Awaitable[str]],
) -> int:
    def command() -> int:
        import asyncio

        from console.listing import Form
        from console.process import harden

        if json and csv:
            raise ConfigurationError("--json and --csv exclude each other; choose one")
        harden()
        from console import bootstrap

        async def ask() -> str:
            async with bootstrap.open_audit_trail(RunOptions(config=config, db=db, state_dir=state_dir)) as trail:
                return await listing(trail, Form.JSON if json else Form.CSV if csv else Form.TABLE)

        printed = asyncio.run(ask())
        sys.stdout.write(printed)
        return FINE

    return guarded(command)


def _limit(count: int) -> int:
    if count < 1:
        raise ConfigurationError(f"--limit {count} asks for nothing; give 1 or more")
    return count


LISTINGS = (sessions, orders, journal, trades, pnl, jobs)

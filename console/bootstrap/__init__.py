"""The only package that knows brokers, stores, engine and app at once: it builds desks and runs them."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from brokers.paper.remote import reach
from brokers.paper.wire import Listed
from brokers.replay.tape import Tape, open_tape
from console import config, notify, running
from console.bootstrap.desk import JOURNAL, KILL, Desk, FreshIds, audit_store, settings_for, strategies_for
from console.config_model import DeskSettings, SqliteFile
from console.options import RunOptions
from engine.clock import SystemClock
from engine.domain.ids import Symbol
from engine.domain.market import Timeframe
from engine.errors import ConfigurationError, LinkDown
from engine.inbound.candle_stream import CandleStream
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.store import SqlStore
from engine.persistence.upkeep import Kept, Upkeep

__all__ = [
    "Desk", "candles", "doctor", "hosted", "open_audit_trail", "run_headless", "settings_for", "strategies_for",
    "upkeep_for",
]  # fmt: skip


def run_headless(options: RunOptions) -> int:
    """Run a desk without a screen; the exit code."""
    settings, tape, options = settings_for(options)
    return running.headless(hosted(settings, tape, options), options)


def hosted(settings: DeskSettings, tape: Tape | None, options: RunOptions) -> running.Hosted:
    """The desk of these settings, ready to start. Raises ConfigurationError, DeskUnusable."""
    if any(account.live for account in settings.accounts) and (
        refusal := notify.live_refusal(settings.state_dir, settings.alerts)
    ):
        raise ConfigurationError(refusal)
    desk = Desk(
        settings,
        tape,
        strategies_for(settings),
        options.speed,
        take_over=options.take_over and tape is None,
        may_look_on=not options.headless,
    )
    return running.Hosted(desk.host, settings, desk.close)


def doctor(options: RunOptions, *, alert: bool = False) -> int:
    """Print what is configured, durable and reachable; 0 when a run would start. `alert` sends every channel a test."""
    from console import doctor as checks

    settings, tape, options = settings_for(options)
    if settings.temporary:
        shutil.rmtree(settings.state_dir, ignore_errors=True)
    strategies_for(settings)
    findings = [
        ("settings", True, settings.origin or "read"),
        ("strategies", True, ", ".join(sorted({s.strategy for s in settings.sessions}))),
        checks.state_finding(settings.state_dir),
        upkeep(settings).reachable(),
        asyncio.run(_broker_finding(settings)),
        *checks.alert_findings(settings, alert=alert, now=SystemClock().now()),
    ]
    if tape is not None:
        bad = f", {tape.bad_rows} bad rows left out" if tape.bad_rows else ""
        findings.append(("recording", True, f"{tape.path}: {tape.rows} rows of {tape.kind}{bad}"))
    return checks.examine(settings, findings)


async def _broker_finding(settings: DeskSettings) -> tuple[str, bool, str]:
    if settings.exchange is None:
        return "brokers", True, "paper: in this process, always reachable"
    accounts = [Listed(account=a.id, currency=a.currency, capabilities=a.capabilities) for a in settings.accounts]
    try:
        book = await reach(accounts, settings.instruments, settings.exchange, SystemClock(), random.Random("doctor"))
    except LinkDown as error:
        return "brokers", False, f"paper: {error}"
    return "brokers", True, f"paper: the exchange on {settings.exchange} answers and keeps {book}"


def candles(file: Path, timeframe: Timeframe, symbol: str | None, out: Path | None) -> int:
    """Closed candles of a recording, by the assembler that trades, as CSV."""
    from console import candle_file

    tape = open_tape(file, Symbol(symbol or "TAPE"))
    if tape.step is not None:
        raise ConfigurationError(f"{file} holds candles already; give a recording of ticks")
    if tape.bad_rows:
        line, reason = tape.bad_lines[0]
        sys.stderr.write(f"sextant: {file}: {tape.bad_rows} bad rows left out (the first is line {line}: {reason})\n")
    stream = CandleStream(timeframe, keep=sys.maxsize, replace_window=5, close_grace_ms=1_000)
    for tick in tape.ticks():
        stream.on_tick(tick)
    return candle_file.write(stream.series.as_tuple(), out)


@asynccontextmanager
async def open_audit_trail(options: RunOptions) -> AsyncIterator[SqlStore]:
    """The desk's database, read only; works beside a running desk. Raises DeskUnusable."""
    settings = config.settle(options)
    clock = SystemClock()
    blocking = ThreadBlocking(clock)
    store = audit_store(settings, clock, blocking, FreshIds(), read_only=True)
    try:
        await store.open()
        try:
            yield store
        finally:
            await store.close()
    finally:
        blocking.close()


def upkeep(settings: DeskSettings) -> Upkeep:
    """Looking at, upgrading and pruning what these settings keep."""
    database, state = settings.database, settings.state_dir
    where = database.path if isinstance(database, SqliteFile) else database
    return Upkeep(Kept(where, state, state / JOURNAL, state / KILL), SystemClock())


def upkeep_for(options: RunOptions) -> Upkeep:
    """The same for a command line. Raises ConfigurationError."""
    return upkeep(config.settle(options))

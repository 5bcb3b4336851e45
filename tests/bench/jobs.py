"""Do queued jobs delay a tick? The paper desk under 200 ticks a second, in turns without and with 10,000 queued jobs.

Measured on the engine's own loop, in one process: a tick due on a fixed grid until every session has handled it; the
lateness of a bare timer; the commit of an intent, one every 20 ms. Quiet turns stand around each loaded one; how far
they are from each other is the noise. `python -m tests.bench.jobs [--jobs N] [--pairs N] [--seconds S]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

from msgspec.structs import replace

from brokers.paper.exchange import PaperExchange
from brokers.paper.faults import FeedFaults
from brokers.paper.market_data import SyntheticSource
from brokers.paper.synthetic import SyntheticMarket
from console.bootstrap import Desk, settings_for, strategies_for
from console.options import RunOptions
from console.process import harden
from console.process_log import silence
from engine.domain.ids import Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Timeframe
from engine.domain.orders import Side
from engine.domain.postgres_url import PostgresUrl
from engine.host import real_sleep
from engine.persistence.connection import Statement
from engine.persistence.jobs import QUEUE, Jobs
from engine.persistence.order_rows import FILL_COLUMNS, Row, fill_row
from engine.persistence.statements import trades_subject
from engine.persistence.store import SqlStore
from engine.persistence.trades_job import TOGETHER, put, putting
from engine.plan import EnginePlan
from engine.ports import Clock, JobRunner, MarketDataSource
from tests.postgres import binaries, running_cluster
from tests.unit.persistence.samples import ACCOUNT, AT, contract, fill, submit

TICK_SECONDS, PROBE_SECONDS, INTENT_SECONDS = 0.005, 0.010, 0.020
EXIT_PATIENCE_MS = 250  # an exit waits no longer for its commit
HEAVY = 50_000
HEAVY_SYMBOL = Symbol("HEAVY")
CHUNK = 20
FILL_ROW = f"{FILL_COLUMNS}, booked"
PUT_FILL_ROW, PUT_FILL_ROWS = (putting(n, "fills", FILL_ROW, "account, fill_key, revision") for n in (1, TOGETHER))


@dataclass
class Samples:
    """Milliseconds, as one turn saw them."""

    tick: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)
    intent: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Market(SyntheticSource):
    """The synthetic market on a fixed grid; `samples` takes how late each tick had been handled."""

    samples: Samples | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._stopping.is_set():
            due += TICK_SECONDS
            if due > loop.time():
                await real_sleep(due - loop.time())
            tick = replace(self._market.next(), at=self._clock.now())
            self._deliver(tick)
            if self.samples is not None:
                self.samples.tick.append((loop.time() - due) * 1000)


class Bench(Desk):
    """A desk whose feed keeps to the grid, and whose jobs know every contract and start when told."""

    market: Market
    store: SqlStore

    def plan(self) -> EnginePlan:
        """The product's own plan, but for feed and jobs."""
        plan = super().plan()
        assert isinstance(plan.store, SqlStore)
        self.store = plan.store
        return replace(plan, jobs=self._jobs)

    def _jobs(self) -> JobRunner:
        made: Jobs = self.store.jobs(lambda symbol: contract("50", symbol), poll_seconds=3600)
        return made

    def _source(self, clock: Clock, exchange: PaperExchange) -> tuple[MarketDataSource, FeedFaults]:
        instruments: Sequence[Instrument] = self.settings.instruments
        market = SyntheticMarket(instruments, 7, clock.now(), {})
        self.market = Market(market, instruments, clock, exchange.on_tick)
        return self.market, self.market


class Turns:
    """What is done on the engine's loop while the desk runs."""

    def __init__(self, desk: Bench) -> None:
        self._desk = desk
        self._intents = 0
        self._fills = 0

    async def quiet(self, seconds: float) -> Samples:
        """Nothing but the desk."""
        async with self._measured() as samples:
            await real_sleep(seconds)
        return samples

    async def loaded(self) -> Samples:
        """Until every queued job is done."""
        async with self._measured() as samples:
            self._desk.store._job_queued.set()
            while await self._left():
                await real_sleep(0.25)
        return samples

    async def queue(self, contracts: int, round_trips: int) -> None:
        """Fills of so many contracts, and a job for each."""
        rows: list[Row] = []
        jobs: list[Statement] = []
        for number in range(contracts):
            symbol = Symbol(f"C{number:05d}")
            rows += self._round_trips(symbol, round_trips)
            jobs.append((QUEUE, ("trades", trades_subject(ACCOUNT, symbol), 0)))
        await self._apply(put(PUT_FILL_ROW, PUT_FILL_ROWS, rows))
        await self._apply(jobs)

    async def queue_heavy(self) -> None:
        """One contract to be counted from its very first fill."""
        if not self._desk.store or not await self._desk.store._read().query(
            "SELECT 1 FROM fills WHERE symbol = ? LIMIT 1", (HEAVY_SYMBOL,)
        ):
            await self._apply(put(PUT_FILL_ROW, PUT_FILL_ROWS, self._round_trips(HEAVY_SYMBOL, HEAVY // 2)))
        again: list[Statement] = [
            ("UPDATE trade_versions SET basis = '' WHERE symbol = ?", (HEAVY_SYMBOL,)),
            ("DELETE FROM trades WHERE symbol = ?", (HEAVY_SYMBOL,)),
            (QUEUE, ("trades", trades_subject(ACCOUNT, HEAVY_SYMBOL), 0)),
        ]
        await self._apply(again)

    def _round_trips(self, symbol: Symbol, count: int) -> list[Row]:
        rows: list[Row] = []
        for _ in range(2 * count):
            self._fills += 1
            made = fill(
                f"bench-{self._fills}",
                symbol=symbol,
                side=(Side.BUY, Side.SELL)[self._fills % 2],
                price=Decimal(5000 + self._fills % 7),
                at=AT + self._fills * 1000,
            )
            rows.append(fill_row(made, AT))
        return rows

    async def _apply(self, statements: list[Statement]) -> None:
        for start in range(0, len(statements), CHUNK):
            await self._desk.store.apply("bench", statements[start : start + CHUNK])

    async def _left(self) -> bool:
        rows = await self._desk.store._read().query("SELECT 1 FROM jobs WHERE state <> 'dead' LIMIT 1")
        return bool(rows)

    @contextlib.asynccontextmanager
    async def _measured(self) -> AsyncIterator[Samples]:
        samples, loop = Samples(), asyncio.get_running_loop()
        self._desk.market.samples = samples
        probes = [asyncio.ensure_future(self._probe(samples)), asyncio.ensure_future(self._commit(samples))]
        began = loop.time()
        try:
            yield samples
        finally:
            samples.seconds = loop.time() - began
            self._desk.market.samples = None
            for probe in probes:
                probe.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    async def _probe(self, samples: Samples) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += PROBE_SECONDS
            if due > loop.time():
                await real_sleep(due - loop.time())
            samples.loop.append((loop.time() - due) * 1000)

    async def _commit(self, samples: Samples) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._intents += 1
            intent = submit(f"bench{self._intents}")
            before = loop.time()
            await self._desk.store.commit(intent)
            samples.intent.append((loop.time() - before) * 1000)
            await real_sleep(INTENT_SECONDS)


# ------------------------------------------------------------------------------------------------- figures


def at(values: list[float], share: float) -> float:
    """The value below which that share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figures(turns: list[Samples]) -> dict[str, float]:
    """Medians over the turns of each turn's own quantiles; the worst of all turns."""
    row: dict[str, float] = {"turns": len(turns), "seconds": round(median(turn.seconds for turn in turns), 1)}
    for name in ("tick", "loop", "intent"):
        every: list[list[float]] = [getattr(turn, name) for turn in turns]
        row[f"{name}_p50"] = round(median(at(values, 0.5) for values in every), 3)
        row[f"{name}_p99"] = round(median(at(values, 0.99) for values in every), 3)
        row[f"{name}_max"] = round(max(max(values) for values in every), 1)
    row["intents_late"] = sum(ms > EXIT_PATIENCE_MS for turn in turns for ms in turn.intent)
    return row


HEAD = (
    f"{'':28}{'s':>7}{'tick p50':>10}{'p99':>8}{'max':>8}{'loop p50':>10}{'p99':>8}{'max':>8}"
    f"{'intent p50':>12}{'p99':>8}{'max':>8}{'>250 ms':>9}"
)


def line(name: str, row: dict[str, float]) -> str:
    """One row of the table."""
    return (
        f"{name:28}{row['seconds']:7.1f}{row['tick_p50']:10.3f}{row['tick_p99']:8.2f}{row['tick_max']:8.1f}"
        f"{row['loop_p50']:10.3f}{row['loop_p99']:8.2f}{row['loop_max']:8.1f}"
        f"{row['intent_p50']:12.2f}{row['intent_p99']:8.2f}{row['intent_max']:8.1f}{row['intents_late']:9.0f}"
    )


def run(name: str, url: PostgresUrl | None, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """All turns on one database."""
    options = RunOptions(state_dir=folder, headless=True, timeframe=Timeframe.parse("5s"))
    settings, tape, options = settings_for(options)
    if url is not None:
        settings = replace(settings, database=url)
    desk = Bench(settings, tape, strategies_for(settings), 1.0)
    desk.host.start()
    try:
        desk.host.started.result()
        loop = desk.host._loop
        assert loop is not None
        work = asyncio.run_coroutine_threadsafe(_turns(desk, asked), loop)
        before, loaded, after, heavy = work.result()
    finally:
        desk.host.shut_down()
        desk.host.ended.result()
        desk.close()
    rows = {
        "none": figures(before),
        f"{asked.jobs} jobs": figures(loaded),
        "none again": figures(after),
        "one whole count of 50000": figures(heavy),
    }
    for label, row in rows.items():
        sys.stdout.write(line(f"{name}, {label}", row) + "\n")
    sys.stdout.flush()
    quiet = before + after
    calm = median(at(turn.tick, 0.99) for turn in quiet)
    return {
        "database": name,
        "rows": rows,
        "jobs_a_second": round(asked.jobs / rows[f"{asked.jobs} jobs"]["seconds"]),
        "tick_p99_over_none": round(median(at(turn.tick, 0.99) for turn in loaded) / calm, 2),
        "noise": [round(at(turn.tick, 0.99) / calm, 2) for turn in quiet],
    }


async def _turns(
    desk: Bench, asked: argparse.Namespace
) -> tuple[list[Samples], list[Samples], list[Samples], list[Samples]]:
    turns = Turns(desk)
    before, loaded, after, heavy = [], [], [], []
    await real_sleep(3.0)  # the sessions warm up
    for _ in range(asked.pairs):
        await turns.queue(asked.jobs, round_trips=2)
        before.append(await turns.quiet(asked.seconds))
        loaded.append(await turns.loaded())
        after.append(await turns.quiet(asked.seconds))
        await turns.queue_heavy()
        heavy.append(await turns.loaded())
    return before, loaded, after, heavy


@contextlib.contextmanager
def databases(folder: Path) -> Iterator[list[tuple[str, PostgresUrl | None]]]:
    """SQLite, and PostgreSQL where a server can be started."""
    if binaries() is None:
        yield [("SQLite", None)]
        return
    with contextlib.contextmanager(running_cluster)() as cluster:
        yield [("SQLite", None), ("PostgreSQL", cluster.database())]


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    silence()
    harden()
    sys.stdout.write(HEAD + "\n")
    with tempfile.TemporaryDirectory() as place, databases(Path(place)) as every:
        results = [run(name, db, Path(place) / name, asked) for name, db in every]
    sys.stdout.write(json.dumps({"id": "jobs", "ms": True, "results": results}) + "\n")


if __name__ == "__main__":
    main()

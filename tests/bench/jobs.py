"""Do queued jobs delay a tick? The paper desk under 200 ticks a second, in turns without and with 10,000 queued jobs.

Measured on the engine's own loop, in one process: a tick due on a fixed grid until every session has handled it; the
lateness of a bare timer; the commit of an intent, one every 20 ms. The queue is held and let go in turns, so that each
loaded turn stands between two quiet ones. Its ratio is over their mean; the noise is the ratio of each quiet turn to
the one before. `python -m tests.bench.jobs [--jobs N] [--turns N] [--seconds S] [--counts N]`.
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
from itertools import pairwise
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
from engine.persistence.jobs import QUEUE, Body
from engine.persistence.order_rows import FILL_COLUMNS, Row, fill_row
from engine.persistence.statements import trades_subject
from engine.persistence.store import SqlStore
from engine.persistence.trades_job import TOGETHER, TradesBody, put, putting
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
    jobs: int = 0


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


class Gate:
    """JobRunner that stands still while it is shut, between one job and the next."""

    def __init__(self, store: SqlStore) -> None:
        self.open = asyncio.Event()
        self.done = 0
        self._real: Body = TradesBody(
            store._read(), store._blocking, lambda symbol: contract("50", symbol), lambda: store._ids.fresh("count-")
        )
        # It looks for jobs when told; nothing is told while the queue is filled.
        self.jobs = store.jobs(lambda symbol: contract(), poll_seconds=3600, more={"trades": self._when_open})

    async def _when_open(self, subject: str) -> list[list[Statement]]:
        await self.open.wait()
        self.done += 1
        return await self._real(subject)


class Bench(Desk):
    """A desk whose feed keeps to the grid, and whose jobs know every contract and run when told."""

    market: Market
    store: SqlStore
    gate: Gate

    def plan(self) -> EnginePlan:
        """The product's own plan, but for feed and jobs."""
        plan = super().plan()
        assert isinstance(plan.store, SqlStore)
        self.store = plan.store
        return replace(plan, jobs=self._jobs)

    def _jobs(self) -> JobRunner:
        self.gate = Gate(self.store)
        return self.gate.jobs

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

    async def turn(self, seconds: float, *, loaded: bool) -> Samples:
        """So many seconds with the queue let go, or held."""
        gate = self._desk.gate
        gate.open.set() if loaded else gate.open.clear()
        await real_sleep(0.2)  # the job under way ends
        async with self._measured() as samples:
            before = gate.done
            await real_sleep(seconds)
            samples.jobs = gate.done - before
        return samples

    async def drained(self) -> Samples:
        """Until every queued job is done."""
        self._desk.gate.open.set()
        async with self._measured() as samples:
            before = self._desk.gate.done
            while await self._left():
                await real_sleep(0.25)
            samples.jobs = self._desk.gate.done - before
        return samples

    def ring(self) -> None:
        """Tell the runner that there is work."""
        self._desk.store._job_queued.set()

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
        quiet, loaded, heavy = asyncio.run_coroutine_threadsafe(_turns(desk, asked), loop).result()
    finally:
        desk.host.shut_down()
        desk.host.ended.result()
        desk.close()
    done = sum(turn.jobs for turn in loaded)
    rows = {"none": figures(quiet), "10,000 jobs": figures(loaded), "one count of 50,000": figures(heavy)}
    for label, row in rows.items():
        sys.stdout.write(line(f"{name}, {label.replace('10,000', f'{asked.jobs:,}')}", row) + "\n")
    result: dict[str, Any] = {
        "database": name,
        "rows": rows,
        "jobs_a_second": round(done / sum(turn.seconds for turn in loaded)),
        "over_none": {kind: ratios(quiet, loaded, kind) for kind in ("tick", "loop", "intent")},
        "noise": {kind: noise(quiet, kind) for kind in ("tick", "loop", "intent")},
    }
    for kind in ("tick", "loop", "intent"):
        low, middle, high = result["over_none"][kind]
        least, _, most = result["noise"][kind]
        sys.stdout.write(
            f"  {kind} p99 over none: median {middle:.2f}, {low:.2f} to {high:.2f}; "
            f"noise (none over none): {least:.2f} to {most:.2f}\n"
        )
    sys.stdout.flush()
    return result


def ratios(quiet: list[Samples], loaded: list[Samples], kind: str) -> tuple[float, float, float]:
    """Least, median and most of each loaded turn's p99 over the mean of the quiet turns beside it."""
    calm = [at(getattr(turn, kind), 0.99) for turn in quiet]
    found = [
        at(getattr(turn, kind), 0.99) * 2 / (before + after)
        for turn, (before, after) in zip(loaded, pairwise(calm), strict=False)
    ]
    return round(min(found), 2), round(median(found), 2), round(max(found), 2)


def noise(quiet: list[Samples], kind: str) -> tuple[float, float, float]:
    """Least, median and most of each quiet turn's p99 over that of the one before."""
    calm = [at(getattr(turn, kind), 0.99) for turn in quiet]
    found = [after / before for before, after in pairwise(calm)]
    return round(min(found), 2), round(median(found), 2), round(max(found), 2)


async def _turns(desk: Bench, asked: argparse.Namespace) -> tuple[list[Samples], list[Samples], list[Samples]]:
    turns = Turns(desk)
    await real_sleep(3.0)  # the sessions warm up
    await turns.queue(asked.jobs, round_trips=2)
    quiet = [await turns.turn(asked.seconds, loaded=False)]
    loaded, heavy = [], []
    turns.ring()
    for _ in range(asked.turns):
        loaded.append(await turns.turn(asked.seconds, loaded=True))
        quiet.append(await turns.turn(asked.seconds, loaded=False))
    await turns.drained()
    for _ in range(asked.counts):
        await turns.queue_heavy()
        turns.ring()
        heavy.append(await turns.drained())
    return quiet, [turn for turn in loaded if turn.jobs], heavy


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
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--counts", type=int, default=3, help="whole counts of one contract of 50,000 fills")
    asked = parser.parse_args()
    silence()
    harden()
    sys.stdout.write(HEAD + "\n")
    with tempfile.TemporaryDirectory() as place, databases(Path(place)) as every:
        results = [run(name, db, Path(place) / name, asked) for name, db in every]
    sys.stdout.write(json.dumps({"id": "jobs", "ms": True, "results": results}) + "\n")


if __name__ == "__main__":
    main()

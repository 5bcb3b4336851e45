"""The rounds: start, wait for an order, strike, and at the end come back, fall quiet and compare."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.kill.busy import POINT_VALUES, write_desk
from tests.kill.check import UNSETTLED, Verdict, examine
from tests.kill.facts import Exchange
from tests.kill.processes import DeskProcess, ExchangeProcess, Stalled, wait_for
from tests.kill.trail import Database, Key, PostgresTrail, SqliteTrail, Trail, keys_in, read_trail
from tests.postgres import MISSING, PASSWORD, Cluster, binaries, running_cluster

FIRST_ORDER_S = 120.0
STRIKE_WITHIN_S = 1.5
QUIET_S = 180.0
ENGINE, KILLED, STOPPED, FROZEN, FROZEN_AND_ENGINE = "engine", "server", "server+engine", "frozen", "frozen+engine"
ROTATION = (ENGINE, KILLED, ENGINE, STOPPED, FROZEN, FROZEN_AND_ENGINE)


@dataclass
class Result:
    """What happened, and the verdict."""

    kills: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    refused_starts: int = 0
    seconds: float = 0.0
    killing_seconds: float = 0.0
    integrity: str = ""
    problem: str = ""
    lives: int = 0
    lost_presumed: int = 0
    verdict: Verdict = field(default_factory=Verdict)

    def line(self, db: str) -> dict[str, Any]:
        """The one line."""
        return {
            "db": db,
            "kills": sum(self.kills.values()),
            "acknowledged": sum(self.verdict.acknowledged.values()),
            "lost": len(self.verdict.lost),
            "duplicates": len(self.verdict.duplicates),
            "disagreements_left": len(self.verdict.disagreements),
            "integrity": self.integrity,
            **self.verdict.acknowledged,
            "struck": dict(self.kills),
            "killed_in_flight": self.in_flight,
            "presumed_lost": self.lost_presumed,
            "lives": self.lives,
            "seconds": round(self.seconds, 1),
            "seconds_per_kill": round(self.killing_seconds / max(1, sum(self.kills.values())), 2),
            **({"problem": self.problem} if self.problem else {}),
        }

    @property
    def is_clean(self) -> bool:
        return self.verdict.is_clean and self.integrity.startswith("ok") and not self.problem


class Arena:
    """One run: processes, files, and everything learned on the way."""

    def __init__(self, folder: Path, rng: Random, cluster: Cluster | None, *, say: Callable[[str], None]) -> None:
        self.rng = rng
        self.say = say
        self.cluster = cluster
        self.busy, self.idle = write_desk(folder, seed=rng.randint(0, 1_000_000))
        self.venue = ExchangeProcess(folder, self.busy)
        self.truth = Exchange()
        self.seen: set[Key] = set()
        self.result = Result()
        self.database: Database
        environment: dict[str, str] = {}
        url = None
        if cluster is None:
            self.database = SqliteTrail(folder / "state" / "desk.sqlite3")
        else:
            made = cluster.database()
            self.database = PostgresTrail(cluster.folder, cluster.port, made.user, made.database)
            secret = folder / ".pgpass"
            secret.write_text(f"127.0.0.1:{cluster.port}:*:{made.user}:{PASSWORD}\n")
            secret.chmod(0o600)
            url = made.shown
        self.desk = DeskProcess(folder, self.venue, url, environment)

    def close(self) -> None:
        self.desk.kill()
        self.venue.kill()

    # ----------------------------------------------------------------------------------------------- rounds

    def round(self, strike: str) -> None:
        """One strike at a random moment after an order."""
        self._until_it_trades()
        self._pause(STRIKE_WITHIN_S)
        if self.rng.random() < 0.3:  # often enough a reader competes with the desk for the very moment
            self._look()
        before = self._under_way() if strike == ENGINE else 0
        match strike:
            case "engine":
                self.desk.kill()
            case "server":
                self._end_server(signal.SIGKILL)
                self._pause(2.0)
                self._start_server()
            case "server+engine":
                self._end_server(signal.SIGQUIT)
                self._pause(1.5)
                self.desk.kill()
                self._start_server()
            case "frozen":
                self._freeze(lambda: self._pause(5.0, at_least=2.0))
            case "frozen+engine":
                self._freeze(self._kill_while_frozen)
            case _:
                raise ValueError(strike)
        self.result.kills[strike] += 1
        self.result.in_flight += bool(before or (not self.desk.runs and self._under_way()))
        self._look()
        self.truth.read(self.venue.book)

    def _kill_while_frozen(self) -> None:
        self._pause(3.0)
        self.desk.kill()
        self._pause(1.0)

    def _pause(self, at_most: float, *, at_least: float = 0.0) -> None:
        time.sleep(self.rng.uniform(at_least, at_most))

    def _until_it_trades(self) -> None:
        """A desk that runs, and an order of it at the exchange from now on."""
        if not self.desk.runs:
            self.desk.start(self.busy)
        self.venue.requests.more()

        def traded() -> bool:
            if not self.desk.runs:
                # A predecessor's lock may outlive it by a moment on a server; anything else says so at the end.
                self.result.refused_starts += 1
                if self.result.refused_starts > 20:
                    self.desk.check()
                time.sleep(0.3)
                self.desk.start(self.busy)
            return any(request.kind == "submit" for request in self.venue.requests.more())

        wait_for("an order at the exchange", FIRST_ORDER_S, traded)

    def _under_way(self) -> int:
        with contextlib.suppress(Exception):
            words = ", ".join(f"'{state}'" for state in sorted(UNSETTLED))
            (rows,) = self.database.query(f"SELECT count(*) FROM {{}}orders WHERE state IN ({words})")
            return int(rows[0][0])
        return 0

    def _look(self) -> None:
        """What a reader sees committed must be there for ever."""
        self.seen |= keys_in(self.database)

    # ----------------------------------------------------------------------------------------------- server

    def _end_server(self, how: signal.Signals) -> None:
        assert self.cluster is not None
        if how is signal.SIGKILL:
            for pid in self.cluster.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.cluster.stop(how)

    def _start_server(self) -> None:
        assert self.cluster is not None
        self.cluster.start()

    def _freeze(self, meanwhile: Callable[[], None]) -> None:
        assert self.cluster is not None
        with self.cluster.frozen():
            meanwhile()

    # -------------------------------------------------------------------------------------------------- end

    def settle(self) -> None:
        """A last desk, which decides nothing: until nothing is under way and both sides agree; then stopped."""
        self.desk.kill()
        self.desk.start(self.idle)
        self._until_quiet("nothing is under way while the market moves", lambda trail: not _unsettled(trail))
        self.venue.hold_market(True)
        self._until_quiet("both sides agree", lambda trail: self._verdict(trail).is_clean)
        self.desk.stop()
        self.venue.stop()

    def _until_quiet(self, what: str, is_quiet: Callable[[Trail], bool]) -> None:
        def look() -> bool:
            self.desk.check()
            time.sleep(0.5)
            self.truth.read(self.venue.book)
            return is_quiet(read_trail(self.database))

        # What does not come to rest is told by the verdict, finding by finding.
        try:
            wait_for(what, QUIET_S, look)
        except Stalled as error:
            self.say(str(error))

    def _verdict(self, trail: Trail) -> Verdict:
        self.venue.requests.more()
        return examine(self.truth, self.venue.requests.all, trail, self.seen, POINT_VALUES)

    def write_down(self, folder: Path) -> None:
        """The story of every order as text, for whoever looks into a finding; a server's files go with the server."""
        for table, order in (("orders", "created"), ("order_events", "at, revision"), ("log", "number")):
            (rows,) = self.database.query(f"SELECT * FROM {{}}{table} ORDER BY {order}")
            (folder / f"{table}.txt").write_text("".join(f"{row}\n" for row in rows))

    def judge(self) -> None:
        """The comparison, with everybody stopped."""
        self.truth.read(self.venue.book)
        trail = read_trail(self.database)
        self.result.verdict = self._verdict(trail)
        self.result.lost_presumed = sum(order.state == "lost" for order in trail.orders.values())
        self.result.integrity = self.database.integrity()
        self.result.lives = self.desk.lives


def _unsettled(trail: Trail) -> bool:
    return any(order.state in UNSETTLED for order in trail.orders.values())


def strikes(db: str, kills: int) -> Iterator[str]:
    """What each round strikes at."""
    for number in range(kills):
        yield ENGINE if db == "sqlite" else ROTATION[number % len(ROTATION)]


def run(
    db: str,
    kills: int,
    seed: int,
    *,
    say: Callable[[str], None] = lambda text: None,
    keep: bool = False,
    afterwards: Callable[[Arena], None] = lambda arena: None,
) -> Result:
    """All rounds and the verdict; what stalls ends the rounds, and is told in `problem`.

    `afterwards` is shown everything while its files are still there.
    """
    with contextlib.ExitStack() as stack:
        cluster = None
        if db == "postgres":
            if binaries() is None:
                raise SystemExit(MISSING)
            clusters = running_cluster()
            cluster = next(clusters)
            stack.callback(clusters.close)  # type: ignore[attr-defined]
        folder = Path(tempfile.mkdtemp(prefix="sxk-"))
        arena = Arena(folder, Random(f"kill test {seed}"), cluster, say=say)
        result = arena.result

        def clear() -> None:
            arena.close()
            if keep or not result.is_clean:
                say(f"everything stays in {folder}")
            else:
                shutil.rmtree(folder)

        stack.callback(clear)
        began = time.monotonic()
        try:
            for number, strike in enumerate(strikes(db, kills), start=1):
                arena.round(strike)
                result.killing_seconds = time.monotonic() - began
                if number % 10 == 0 or number == kills:
                    say(f"{number} of {kills} kills, {result.killing_seconds:.0f} s, {len(arena.truth.orders)} orders")
            arena.settle()
        except Exception as error:  # whatever ends the rounds early, what was learned is still judged
            result.problem = f"{type(error).__name__}: {error}"
            arena.close()
        arena.judge()
        result.seconds = time.monotonic() - began
        if keep or not result.is_clean:
            arena.write_down(folder)
        afterwards(arena)
        return result


def tell(result: Result, out: Any = sys.stderr) -> None:
    """The findings, the first of each kind."""
    verdict = result.verdict
    for name, findings in (
        ("lost", verdict.lost),
        ("duplicate", verdict.duplicates),
        ("disagreement", verdict.disagreements),
    ):
        for finding in findings[:25]:
            print(f"{name}: {finding}", file=out)

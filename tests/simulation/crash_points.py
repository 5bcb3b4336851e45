"""A process killed at every seam it crosses, in scenarios that bring an order into every state.

`python -m tests.simulation.crash_points [--every N] [--only NAME] [--jobs N]`. Each scenario is run once to count its
seams, then once for each of them with the process dying there; after a restart and quiet, the oracle judges as ever.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import BrokerStatus, Capabilities, Enforcer, FillsKind, ReplaceId
from engine.domain.decisions import Cancel, Decision, Intent, Modify, StrategyContext, Submit
from engine.domain.ids import Millis
from engine.domain.orders import OrderState, OrderType, Role, Side
from tests.simulation import faults
from tests.simulation.desk import Desk
from tests.simulation.options import ACCOUNTS, MODES, Options
from tests.simulation.run import Result, Run
from tests.simulation.world import START

SCRIPT_MS = 190_000
QUIET_MS = 330_000
END_MS = SCRIPT_MS + QUIET_MS + 60_000
RESTART_SECONDS = 2.0
Step = Callable[["ScriptedRun"], None]


class Scenario(Struct, frozen=True, kw_only=True):
    """What happens: steps at seconds after the start. `dies_in` is the life whose seams are counted.

    With `dies_in` = 2 the first life dies at its crossing `first_death`, and recovery itself is what is cut.
    """

    name: str
    steps: tuple[tuple[float, Step], ...]
    mode: str = "tag"
    changes: dict[str, object] = {}
    dies_in: int = 1
    first_death: int = 60


class ScriptedRun(Run):
    """A run that follows a scenario; `die_at` is the crossing at which the process ends."""

    def __init__(self, scenario: Scenario, die_at: int | None, *, trace: bool = False) -> None:
        self.scenario = scenario
        self.die_at = die_at
        self.crossed = 0
        self.at_death: set[str] = set()
        manners = replace(Capabilities(id_mode=MODES[scenario.mode]), **scenario.changes)
        super().__init__(
            Options(
                seed=0,
                mode=scenario.mode,
                hours=END_MS / 3_600_000,
                sessions=2,
                capabilities=dict.fromkeys(ACCOUNTS, manners),
            ),
            trace=trace,
        )

    def _plan(self, end: Millis) -> None:
        for operator in self._operators:
            operator.start_tidying()
        for seconds, step in self.scenario.steps:
            self._at(START + round(seconds * 1000), lambda step=step: step(self))
        self._at(START + SCRIPT_MS, self._begin_calm)
        self._at(START + SCRIPT_MS, self._begin_quiet)
        self._at(START + SCRIPT_MS, self._count)
        self._at(START + SCRIPT_MS + QUIET_MS, self._judge_quiet)

    def _new_life(self) -> None:
        super()._new_life()
        desk = self._desks[-1]
        for strategy in desk.strategies.values():
            strategy.script = []
        if self._lives == self.scenario.dies_in:
            desk.seams.die_at = self.die_at
            self._counted = desk.seams
        elif self._lives == 1:
            desk.seams.die_at = self.scenario.first_death

    def _died(self, desk: Desk, where: str) -> None:
        for session in desk.engine.sessions.values():
            self.at_death.update(order.state.value for order in session.desk.book)
        super()._died(desk, where)

    def _count(self) -> None:
        self.crossed = self._counted.count

    def _restart_in(self, seconds: float) -> None:
        super()._restart_in(RESTART_SECONDS)

    # -- what steps do ------------------------------------------------------------------------------------

    def decide(self, number: int, make: Callable[[StrategyContext], Decision]) -> None:
        """The session's strategy decides this on its next closed candle."""
        if self.desk is not None:
            script = list(self.desk.strategies.values())[number].script
            assert script is not None
            script.append(make)

    def command(self, make: Callable[[c.Origin], c.Command]) -> None:
        """An operator asks for something."""
        if self.desk is not None and self.desk.is_up:
            self.desk.send("ann", make)

    def all_wires(self, field: str, value: object) -> None:
        """Trouble on every wire."""
        for trouble in self.world.durable.wires.values():
            setattr(trouble, field, value)


def enter(
    side: Side = Side.BUY, kind: OrderType = OrderType.MARKET, away: int = 0, target: int | None = None, size: int = 3
) -> Callable[[StrategyContext], Decision]:
    """An entry `away` ticks better (limit) or worse (stop) than the last price, with a stop 60 ticks off."""

    def decision(context: StrategyContext) -> Decision:
        tick, last = context.instrument.tick_size, context.candles[-1].close
        limit = last - away * tick * side.sign if kind is OrderType.LIMIT else None
        stop = last + away * tick * side.sign if kind is OrderType.STOP else None
        at = limit or stop or last
        return Submit(
            state=0,
            intent=Intent.ENTER,
            side=side,
            quantity=Decimal(size),
            type=kind,
            limit=limit,
            stop=stop,
            stop_loss=at - 60 * tick * side.sign,
            take_profit=None if target is None else at + target * tick * side.sign,
            reason="scenario",
        )

    return decision


def leave(quantity: int | None = None) -> Callable[[StrategyContext], Decision]:
    """An exit of everything, or of a part."""
    size = None if quantity is None else Decimal(quantity)
    return lambda context: Submit(state=0, intent=Intent.EXIT, quantity=size, reason="scenario")


def reverse(context: StrategyContext) -> Decision:
    """Out, and in on the other side."""
    held = context.position.quantity
    made = enter(Side.SELL if held > 0 else Side.BUY)(context)
    assert isinstance(made, Submit)
    return replace(made, intent=Intent.REVERSE)


def _move(role: Role) -> Callable[[StrategyContext], Decision]:
    def decision(context: StrategyContext) -> Decision:
        order = next((o for o in context.orders if o.role is role and o.is_open), None)
        if order is None:
            return Cancel(state=0, orders=(), reason="nothing to move")
        by = 4 * context.instrument.tick_size
        if order.terms.limit is not None:
            return Modify(state=0, order=order.client_id, limit=order.terms.limit - by, reason="scenario")
        assert order.terms.stop is not None
        return Modify(state=0, order=order.client_id, stop=order.terms.stop - by, reason="scenario")

    return decision


def _cancel_entry(context: StrategyContext) -> Decision:
    resting = tuple(o.client_id for o in context.orders if o.role is Role.ENTRY)
    return Cancel(state=0, orders=resting, reason="scenario")


def _both(make: Callable[[StrategyContext], Decision]) -> Step:
    def step(run: ScriptedRun) -> None:
        run.decide(0, make)
        run.decide(1, make)

    return step


def _database_down(seconds: float) -> Step:
    def step(run: ScriptedRun) -> None:
        run.world.database.trouble.down_until = run.world.clock.now() + round(seconds * 1000)

    return step


def _wire(field: str, value: object) -> Step:
    return lambda run: run.all_wires(field, value)


def _flatten(run: ScriptedRun) -> None:
    run.command(lambda o: c.Flatten(origin=o, session=None))


def _kill(run: ScriptedRun) -> None:
    run.command(lambda o: c.Kill(origin=o))


def _kill_and_flatten(run: ScriptedRun) -> None:
    run.command(lambda o: c.Kill(origin=o, flatten=True))


def _pause(run: ScriptedRun) -> None:
    run.command(lambda o: c.Pause(origin=o, session=None))


def _cut(run: ScriptedRun) -> None:
    for account in run.world.accounts:
        faults.cut(run, account, 20.0)


def _no_rows(chance: float) -> Step:
    def step(run: ScriptedRun) -> None:
        run.world.database.trouble.refuse = chance

    return step


def _refuse(run: ScriptedRun) -> None:
    for account in run.world.accounts:
        out_of_band.refuse_next(run.world.exchange, account, "the risk desk says no", stops_only=False)


def _expire(run: ScriptedRun) -> None:
    exchange = run.world.exchange
    for order in [o for o in exchange.book.orders.values() if o.is_open and o.record.parent is None]:
        exchange.close_order(order, BrokerStatus.EXPIRED, "its day is over")
    exchange.commit()


def _slices(run: ScriptedRun) -> None:
    run.world.exchange.max_fill = Decimal(1)


REST = enter(kind=OrderType.LIMIT, away=400)
OURS: dict[str, object] = {"one_cancels_other": Enforcer.OURS, "brackets": False, "replace_may_change_type": False}
CUMULATIVE: dict[str, object] = {"fills": FillsKind.CUMULATIVE, "replace_id": ReplaceId.CHANGES}
LOST_ANSWERS = ((10, _both(enter())), (55, _wire("lose_answer", 1.0)), (64, _wire("lose_answer", 0.0)))
NO_ANSWER = ((115, _wire("lose_answer", 1.0)), (126, _wire("lose_answer", 0.0)))
LOST_REQUESTS = ((10, _both(REST)), (55, _wire("lose_request", 1.0)), (64, _wire("lose_request", 0.0)))

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="a bracket at market", steps=((10, _both(enter(target=60))),)),
    Scenario(name="a bracket, cumulative fills", steps=((10, _both(enter(target=60))),), changes=CUMULATIVE),
    Scenario(name="an entry without brackets", steps=((10, _both(enter())),), changes=OURS),
    Scenario(name="a resting entry", steps=((10, _both(REST)),), mode="enforced"),
    Scenario(name="a resting entry, no ids", steps=((10, _both(REST)),), mode="none"),
    Scenario(name="a resting entry is cancelled", steps=((10, _both(REST)), (70, _both(_cancel_entry)))),
    Scenario(name="a resting entry is moved", steps=((10, _both(REST)), (70, _both(_move(Role.ENTRY))))),
    Scenario(
        name="a moved entry changes its id",
        steps=((10, _both(REST)), (70, _both(_move(Role.ENTRY)))),
        changes={"replace_id": ReplaceId.CHANGES},
    ),
    Scenario(name="an unanswered cancel", steps=((10, _both(REST)), (70, _both(_cancel_entry)), *NO_ANSWER)),
    Scenario(name="an unanswered move", steps=((10, _both(REST)), (70, _both(_move(Role.ENTRY))), *NO_ANSWER)),
    Scenario(name="a row is refused", steps=((10, _both(enter())), (60.1, _no_rows(1.0)), (64, _no_rows(0.0)))),
    Scenario(name="a refused entry", steps=((5, _refuse), (10, _both(REST)))),
    Scenario(name="a resting entry expires", steps=((10, _both(REST)), (75, _expire))),
    Scenario(name="partial fills", steps=((5, _slices), (10, _both(enter(target=60, size=4))))),
    Scenario(name="an exit converts the stop", steps=((10, _both(enter())), (70, _both(leave())))),
    Scenario(name="an exit cancels first", steps=((10, _both(enter())), (70, _both(leave()))), changes=OURS),
    Scenario(name="a part is closed", steps=((10, _both(enter(target=60))), (70, _both(leave(1))))),
    Scenario(name="a reverse", steps=((10, _both(enter())), (70, _both(reverse)))),
    Scenario(name="a stop is moved", steps=((10, _both(enter())), (70, _both(_move(Role.STOP))))),
    Scenario(name="lost answers", steps=LOST_ANSWERS),
    Scenario(name="lost answers, no ids", steps=LOST_ANSWERS, mode="none"),
    Scenario(name="lost requests", steps=LOST_REQUESTS),
    Scenario(name="the line is cut", steps=((10, _both(enter())), (60.02, _cut))),
    Scenario(name="flatten", steps=((10, _both(enter(target=60))), (75, _flatten))),
    Scenario(name="flatten while an entry rests", steps=((10, _both(REST)), (75, _flatten))),
    Scenario(name="kill", steps=((10, _both(REST)), (75, _kill))),
    Scenario(name="kill and flatten", steps=((10, _both(enter())), (75, _kill_and_flatten))),
    Scenario(name="pause", steps=((10, _both(REST)), (75, _pause))),
    Scenario(
        name="exits through the journal",
        steps=((10, _both(enter())), (90, _database_down(50.0)), (95, _flatten)),
    ),
    Scenario(name="recovery", steps=((10, _both(enter(target=60))), (75, _flatten)), dies_in=2, first_death=90),
    Scenario(
        name="recovery of the journal",
        steps=((10, _both(enter())), (90, _database_down(20.0)), (95, _flatten)),
        dies_in=2,
        first_death=150,
    ),
)  # fmt: skip


class Outcome(Struct, frozen=True):
    """One death (crossing 0: none) and what came of it; `crossed` counts the seams of the life that dies.

    `at_death` are the states in which some order stood when a process died.
    """

    scenario: str
    crossing: int
    crossed: int
    result: Result
    at_death: frozenset[str]


def outcome_of(number: int, crossing: int) -> Outcome:
    """Run a scenario with its process dying at a crossing, 0 for never."""
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda unraisable: None
    run = ScriptedRun(SCENARIOS[number], crossing or None)
    result = run.go()
    return Outcome(SCENARIOS[number].name, crossing, run.crossed, result, frozenset(run.at_death))


def _outcome(point: tuple[int, int]) -> Outcome:
    return outcome_of(*point)


def outcomes(every: int, only: str, jobs: int) -> Iterator[Outcome]:
    """Every `every`-th seam of each scenario as a death, after one whole run of each."""
    numbers = [number for number, scenario in enumerate(SCENARIOS) if only in scenario.name]
    if jobs == 1:
        yield from _all(map, numbers, every)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from _all(pool.imap, numbers, every)


def _all(run: Any, numbers: list[int], every: int) -> Iterator[Outcome]:
    whole: list[Outcome] = list(run(_outcome, [(number, 0) for number in numbers]))
    yield from whole
    points = [
        (number, crossing)
        for number, outcome in zip(numbers, whole, strict=True)
        for crossing in range(1, outcome.crossed + 1, every)
    ]
    yield from run(_outcome, points)


def main(arguments: list[str] | None = None) -> int:
    """Run all scenarios and print one JSON line."""
    parser = argparse.ArgumentParser(prog="tests.simulation.crash_points", description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=1)
    wanted = parser.parse_args(arguments)
    began = time.monotonic()
    deaths: Counter[str] = Counter()
    met: set[str] = set()
    states: Counter[str] = Counter()
    failed = 0
    for outcome in outcomes(wanted.every, wanted.only, wanted.jobs):
        deaths[outcome.scenario] += bool(outcome.crossing)
        states.update(outcome.at_death)
        if not outcome.crossing:
            met.update(outcome.result.states)
        if outcome.result.violations:
            failed += 1
            first = outcome.result.violations[0]
            print(f"{outcome.scenario}, crossing {outcome.crossing}: {first.invariant}: {first.text}", flush=True)
    missing = sorted({state.value for state in OrderState} - set(states))
    print(
        json.dumps(
            {
                "scenarios": dict(deaths),
                "crash_points": deaths.total(),
                "not_recovered": failed,
                "states": sorted(met),
                "states_at_death": dict(sorted(states.items())),
                "states_missing": missing,
                "wall_seconds": round(time.monotonic() - began, 1),
            }
        )
    )
    whole = wanted.every == 1 and not wanted.only
    return 1 if failed or (whole and missing) else 0


if __name__ == "__main__":
    sys.exit(main())

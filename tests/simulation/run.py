"""One run of one seed: phases of trouble, calm and quiet; crashes and restarts; and the oracle beside it all.

A cycle: trouble (faults strike), calm (everything works, trading goes on), quiet (strategies do nothing, operators
give verdicts only). At the end of each quiet the three books must agree.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import partial

from msgspec import Struct

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import BrokerFill, FillsKind
from engine.domain.decisions import StrategyContext
from engine.domain.ids import AccountId, ClientOrderId, Millis, SessionId, Symbol
from engine.domain.market import Candle
from engine.domain.orders import OrderState
from engine.errors import DeskHeld
from engine.snapshot import LoopLag
from engine.views import take
from tests.simulation import day_faults, faults, house_faults, probe, scenes
from tests.simulation.desk import Desk
from tests.simulation.loop import Life, no_garbage_collection
from tests.simulation.operators import NAMES, Operator
from tests.simulation.options import Options
from tests.simulation.oracle.findings import Violation
from tests.simulation.oracle.mind import Mind
from tests.simulation.oracle.oracle import Oracle
from tests.simulation.rivals import Rivals
from tests.simulation.testimony import Testimony
from tests.simulation.world import START, World

TROUBLE_MS, CALM_MS, QUIET_MS = 18 * 60_000, 7 * 60_000, 5 * 60_000
CYCLE_MS = TROUBLE_MS + CALM_MS + QUIET_MS
LOOK_MS = 5_000
WATCH_MS = 700
AUDIT_MS = 300_000
RECONCILED_MS = 25_000
RESTART_SECONDS = (0.0, 60.0)


class Result(Struct, kw_only=True):
    """What a run did and what the oracle found."""

    options: Options
    simulated_seconds: float
    wall_seconds: float
    digest: str
    steps: int
    counts: dict[str, int]
    met: dict[str, int]
    transitions: dict[str, int]
    states: dict[str, int]
    violations: list[Violation]
    trace: list[str]


class Run:
    """One seed. `desks()` are the processes that live now."""

    def __init__(self, options: Options, *, trace: bool = False) -> None:
        self.options = options
        self.in_trouble = False
        self.is_quiet = False
        self.calm_since: Millis | None = None
        self._judged: Millis = 0
        self._lives = 0
        self._restarting = False
        self._take_over = False
        self.struck: set[ClientOrderId] = set()
        self._desks: list[Desk] = []
        self._graveyard: list[Desk] = []
        self._down_since: Millis | None = None
        self.testimony = Testimony(self)
        self.world = World(options, self.testimony, self._shown)
        world = self.world
        if trace:
            world.trace = []
        self.faults = world.streams.of("faults")
        self.oracle = Oracle(
            world.exchange,
            world.database.raw,
            {(s.account, s.symbol): s.id for s in world.durable.sessions},
            now=lambda: world.loop.at,
            on_violation=self._violated,
            traded=self._traded,
            whole=self._whole,
            journalled=self._journalled,
            answers=scenes.Answers(self),
            limits={session.id: session.limits for session in world.durable.sessions},
            instruments=world.durable.instruments,
        )
        self.rivals = Rivals(self)
        world.database.on_intent = self.rivals.committed
        self.oracle.exposure.asked = self._asked
        self.oracle.exposure.stood = lambda account, since: scenes.stood(self, account, since)
        self.oracle.requests.remembered = self._remembered  # type: ignore[method-assign]
        world.exchange.on_fill = self._filled
        self._operators = [Operator(self, name, world.streams.of(f"operator/{name}")) for name in NAMES]

    # -- going through it ---------------------------------------------------------------------------------

    def go(self) -> Result:
        """The whole run, or as far as the first violation."""
        world = self.world
        began = time.monotonic()
        end = START + round(self.options.hours * 3_600_000)
        with no_garbage_collection():
            world.market.start()
            self._at(START, self._new_life)
            self._at(START + LOOK_MS, self._look)
            self._at(START + WATCH_MS, self._watch)
            self._at(START + AUDIT_MS, self._audit)
            self._plan(end)
            world.loop.run_until(end)
            for failure in world.loop.failures[:3]:
                self.oracle.findings.check("run", False, failure)
            result = self._result(time.monotonic() - began)
            for desk in (*self._desks, *self._graveyard):
                desk.life.dead = True
            world.close()
        return result

    def _plan(self, end: Millis) -> None:
        """Everything that is to happen on its own."""
        for operator in self._operators:
            operator.start()
        faults.schedule(self)
        self._cycle(START, end)

    def _at(self, at: Millis, call: object) -> None:
        self.world.clock.call_at(at, call)  # type: ignore[arg-type]

    def _cycle(self, start: Millis, end: Millis) -> None:
        """Cycles fill the run; the last one always ends quiet, however short its trouble."""
        length = min(CYCLE_MS, end - start)
        calm = start + max(0, length - CALM_MS - QUIET_MS)
        quiet = start + max(0, length - QUIET_MS)
        self._at(start, self._begin_trouble)
        self._at(calm, self._begin_calm)
        self._at(quiet, self._begin_quiet)
        self._at(start + length - 2 * RECONCILED_MS, self._judge_quiet)
        self._at(start + length - RECONCILED_MS, self._reconcile_again)
        if start + length < end:
            self._at(start + length, lambda: self._cycle(start + length, end))

    def _begin_trouble(self) -> None:
        self.world.note("trouble begins")
        self.is_quiet, self.in_trouble, self.calm_since = False, True, None
        faults.arm(self)

    def _begin_calm(self) -> None:
        self.world.note("calm begins")
        self.in_trouble = False
        faults.disarm(self)
        for desk in self._desks:
            if desk.life.paused:
                desk.resume()
        self.calm_since = self.world.clock.now()

    def _begin_quiet(self) -> None:
        self.world.note("quiet begins")
        self.is_quiet = True
        self.misbehave()

    def _judge_quiet(self) -> None:
        """Not in the moment in which a resting order fills: its news is on the wire."""
        told = scenes.unheard_until(self)
        if told > self.world.clock.now():
            self._at(told, self._judge_quiet)
            return
        if not self.is_quiet:
            return
        self._judged = self.world.clock.now()
        self.world.note("quiet is judged")
        desk = self.desk
        if desk is None or not desk.is_up:
            self.oracle.findings.check("I44 up", False, "two minutes of quiet and no desk is up")
            return
        right_clock = "clock step" not in self.options.faults
        self.oracle.quiet(probe.minds(desk), desk.life.name, right_clock=right_clock)
        self.oracle.closing.quiet(desk.life.name)
        self.oracle.duties.quiet(desk.life.name, settled=desk.journal.is_settled, right_clock=right_clock)
        desk.send("oracle", lambda o: c.ReconcileNow(origin=o))

    def _reconcile_again(self) -> None:
        """Once the first reconciliation, at the judgement, had time to take effect."""
        desk, since = self.desk, self.world.clock.now() - self._judged
        if desk is not None and desk.is_up and RECONCILED_MS // 2 <= since <= RECONCILED_MS:
            self.oracle.audit.reconciled_once()
            desk.send("oracle", lambda o: c.ReconcileNow(origin=o))
            self._at(self.world.clock.now() + RECONCILED_MS - 1_000, self.oracle.audit.reconciled_twice)

    def _look(self) -> None:
        self._at(self.world.clock.now() + LOOK_MS, self._look)
        for desk in tuple(self._desks):
            if desk.engine.lost.done():
                self.world.note(f"{desk.life.name} ends: {desk.engine.lost.result()}")
                self._bury(desk)
        self._look_at_desk()
        self.oracle.verdicts.open_at_broker()
        self._look_for_life()

    def _watch(self) -> None:
        self._at(self.world.clock.now() + WATCH_MS, self._watch)
        database = self.world.database
        if database.rows_written:  # more than leases renewed
            database.rows_written = False
            self.oracle.verdicts.look()

    def look_again(self, after: Millis) -> None:
        """Look at the desk at a moment of a fault's choice too."""
        self._at(self.world.clock.now() + after, self._look_at_desk)

    def _look_at_desk(self) -> None:
        desk = self.desk
        if desk is None:
            return
        now = self.world.clock.now()
        self.oracle.standing.time(desk.life.name, desk.clock.now())
        if not desk.is_up or desk.life.paused:
            return
        minds = probe.minds(desk)
        self.oracle.look(minds, probe.heat(desk), desk.clock.now(), self._calm(desk, now))
        if not scenes.is_taken_over(self, desk):  # what it says then binds nobody
            right_clock = "clock step" not in self.options.faults
            fresh = probe.promises(desk, self.oracle.standing.promised)
            self.oracle.flat_promised(fresh, minds, desk.told_position if right_clock else None)
        self._note_confirmed(desk, minds)
        if desk.clock.now() == now:
            self._look_at_duties(desk, minds, now)
            for mind in minds:
                self.oracle.day.look(mind, now, is_calm=desk.wires[mind.account].up_since is not None)

    def _look_at_duties(self, desk: Desk, minds: tuple[Mind, ...], now: Millis) -> None:
        duties, broken = self.oracle.duties, probe.broken_promises(desk)
        right_clock = "clock step" not in self.options.faults
        for mind in minds:
            wire = desk.wires[mind.account]
            up = None if wire.up_since is None else max(wire.up_since, desk.steady_since, desk.clock.right_since)
            duties.commanded(mind)
            duties.held(mind, now, killed=self.oracle.requests.killed)
            self.oracle.closing.look(mind, now, up)
            self.oracle.sending.priced(mind, now)
            for command, session, lasted in broken:
                if session == mind.session:
                    self.oracle.not_flat(mind, command)
                    if right_clock:
                        self.oracle.closing.not_flat(mind, command, lasted)
            if up is not None and now - up > LOOK_MS:
                self.oracle.wishes.flattened(mind, now, desk.engine.started)
            told = desk.feed.told_at.get(mind.symbol)
            duties.marked(mind, now, None if told is None else (told, desk.feed.price[mind.symbol]))
            is_well = desk.feed.is_up and mind.symbol not in desk.feed.gaps and wire.up_since is not None
            deferred = partial(probe.alert, desk, f"exit:{mind.session}")
            duties.missed(mind, now if is_well else None, self.oracle.sending.used(mind), deferred)
            duties.doubts(mind, now, wire.trouble.asked, up)
            if up is not None:
                self.oracle.standing.sides(mind, now, up)
            duties.recovered(mind, wire.fills_from)
            if wire.capabilities.fills is FillsKind.EXECUTIONS:
                duties.fetched(mind, now, wire.asked_at.get("fills", 0), up)
            if up is not None and self.calm_since is not None and now - max(up, self.calm_since) > LOOK_MS:
                self.oracle.wishes.look(mind, now, deferred() is not None)
        steady = max(desk.steady_since, desk.clock.right_since)
        self.oracle.audit.noted(desk.life.name, now, steady, partial(self._is_told, desk))
        for account, wire in desk.wires.items():
            for symbol, held in scenes.unknown_positions(self, desk, wire):
                self.oracle.weight.unknown(account, symbol, held, probe.heat(desk))
            if wire.up_since is not None and wire.up_since > max(desk.engine.started, desk.steady_since):
                duties.reconnected(desk.life.name, account, wire.up_since, now, wire.asked_at)
        files = desk.durable.files
        if now < files.filling_until and now >= files.trouble.hung_until:
            since = max(files.filling_since, desk.engine.started, desk.steady_since, files.trouble.hung_until)
            duties.room(files.free_percent, since, now, probe.alert(desk, "disk:0"))

    def _calm(self, desk: Desk, now: Millis) -> Millis | None:
        if self.calm_since is None or desk.clock.now() != now:
            return None  # a clock that was set ahead stands still until time has caught up with it
        return max(self.calm_since, desk.engine.started, desk.clock.right_since, desk.steady_since)

    def _look_for_life(self) -> None:
        """A desk that failed to start is started again, as an operator would, who types what it takes."""
        for desk in tuple(self._desks):
            if desk.failed is not None and not desk.life.dead:
                self.world.hit(f"start failed: {type(desk.failed).__name__}")
                self._take_over = isinstance(desk.failed, DeskHeld)
                self._bury(desk)
                self._restart_in(5.0)
        if not (self._desks or self._restarting or self.rivals.is_here):
            self._restart_in(5.0)

    def _audit(self) -> None:
        self._at(self.world.clock.now() + AUDIT_MS, self._audit)
        self.oracle.audit.moves()
        self.oracle.audit.rows(right_clock="clock step" not in self.options.faults)
        if self.desk is not None and self.desk.is_up:
            take(self.desk.engine, LoopLag(0, 0, 0))

    def _violated(self, violation: Violation) -> None:
        self.world.loop.halted = True
        self.world.note(f"VIOLATION {violation.invariant}: {violation.text}")

    # -- lives --------------------------------------------------------------------------------------------

    def desks(self) -> tuple[Desk, ...]:
        """Processes that run now."""
        return tuple(self._desks)

    def in_command(self) -> tuple[Desk, ...]:
        """The process that operators work on."""
        return tuple(self._desks[-1:])

    def promote(self, desk: Desk) -> None:
        """A second engine has taken the accounts: from now on it is the desk, and its machine the desk's."""
        self._desks.append(desk)
        desk.steady_since = self.world.loop.at  # it commands from now on
        elsewhere = desk.durable.files is not self.world.files
        self.world.move(desk.durable)
        if elsewhere:
            scenes.forget_what_is_elsewhere(self)
        self.oracle.duties.held_since.clear()

    @property
    def desk(self) -> Desk | None:
        """The newest process."""
        return self._desks[-1] if self._desks else None

    def _new_life(self) -> None:
        self._restarting = False
        if any(d.is_up and not d.life.paused and not d.engine.lost.done() for d in self._desks):
            return  # a second engine has taken the accounts meanwhile
        self._lives += 1
        world, word = self.world, self._take_over
        desk = Desk(world.durable, f"life-{self._lives}", lambda where: self._died(desk, where), take_over=word)
        self._desks.append(desk)
        self._began(desk)
        world.note(f"life-{self._lives} begins")
        again = self._lives > 1 and self.in_trouble and "crash in recovery" in self.options.faults
        if again and self.faults.chance(0.3):
            desk.seams.die_at = self.faults.randint(1, 30)
        self.misbehave()
        desk.start()
        day_faults.begins(self, desk, tuple(self._graveyard[-1].submits) if self._graveyard else ())

    def _began(self, desk: Desk) -> None:
        self.oracle.duties.held_since.clear()
        self.oracle.duties.begin(desk.life.name, self._journalled)
        self.oracle.sending.begin(desk.life.name)
        self.oracle.closing.begin(desk.life.name, self._journalled)
        self.oracle.wishes.begin(desk.life.name)

    def _died(self, desk: Desk, where: str) -> None:
        """The process ends in this loop step; one that is not in command any more is not started again."""
        if desk is not self.desk:
            self._bury(desk)
            return
        recovering = not desk.is_up
        self.world.hit("crash in recovery" if recovering and self._lives > 1 else "crash")
        self.world.note(f"{desk.life.name} dies at {where}")
        self._bury(desk)
        self._restart_in(self.faults.uniform(*RESTART_SECONDS))

    def move_behind(self, account: AccountId, symbol: Symbol, by: Decimal, why: str) -> None:
        """Somebody changes a position of ours without an order, and no event tells."""
        self.oracle.out_of_band(account, symbol, by, why)
        out_of_band.move_position(self.world.exchange, account, symbol, by, self.world.clock.now())
        for desk in self._desks:
            desk.wires[account].moved_behind()

    def rival_died(self, desk: Desk, where: str) -> None:
        """A second engine ends; as the desk's own life once it is that."""
        if desk in self._desks:
            self._died(desk, where)

    def _bury(self, desk: Desk) -> None:
        desk.die()
        desk.durable.files.crash()
        scenes.forget_what_nothing_took(self, desk)
        if desk.durable.files is not self.world.files:
            scenes.forget_what_is_elsewhere(self)
        self.oracle.truth.dead.add(desk.life.name)
        self._desks.remove(desk)
        self._graveyard.append(desk)

    def _restart_in(self, seconds: float) -> None:
        self._restarting = True
        self._at(self.world.clock.now() + round(seconds * 1000), self._new_life)

    def crash_soon(self) -> None:
        """Within the next few seams, or at this very moment."""
        desk = self.desk
        if desk is None or desk.life.paused:
            return
        if self.faults.chance(0.4):
            self._died(desk, "any moment")
        else:
            desk.seams.die_at = desk.seams.count + self.faults.randint(1, 12)

    def suspend(self, seconds: float) -> None:
        """SIGSTOP, and later SIGCONT."""
        desk = self.desk
        if desk is None or desk.life.paused:
            return
        self.world.hit("suspend")
        desk.pause()

        def resume() -> None:
            if not desk.life.dead and desk.life.paused:
                self.world.note(f"{desk.life.name} goes on")
                desk.resume()

        self._at(self.world.clock.now() + round(seconds * 1000), resume)

    def other(self, operator: Operator) -> Operator:
        """The colleague."""
        return next(each for each in self._operators if each is not operator)

    def urgent_hands(self, seconds: float, then: Callable[[Desk, Operator], None]) -> None:
        """Both operators do what an operator does when something fails; and `then` happens at once."""

        def act() -> None:
            for desk in self.in_command():
                for operator in self._operators:
                    if desk.is_up and not desk.life.paused:
                        operator.urgent(desk)
                        then(desk, operator)

        self._at(self.world.clock.now() + round(seconds * 1000), act)

    def desk_of(self, life: Life) -> Desk | None:
        """The process of this life."""
        return next((desk for desk in self._desks if desk.life is life), self.rivals.of(life))

    def misbehave(self) -> None:
        """Set the strategies to what the phase asks of them."""
        for desk in self._desks:
            for strategy in desk.strategies.values():
                strategy.quiet = self.is_quiet
                for name, (field, most) in (faults.STRATEGY | house_faults.STRATEGY | day_faults.STRATEGY).items():
                    strength = self.options.faults.get(name, 0.0) if self.in_trouble else 0.0
                    setattr(strategy, field, most * strength)

    # -- what the oracle asks ------------------------------------------------------------------------------

    def _filled(self, account: AccountId, fill: BrokerFill) -> None:
        self.world.counts["fills"] += 1
        self.oracle.filled(account, fill)
        day_faults.filled(self, account, fill)

    def _shown(self, life: Life, session: SessionId, context: StrategyContext) -> None:
        candle = context.candles[-1]
        self.world.note(f"{session} decides on {candle.start}")
        desk = self.desk_of(life)
        now = max(self.world.loop.at, desk.clock.now() if desk is not None else 0)
        self.oracle.candles.shown(
            life.name,
            session,
            context.instrument.symbol,
            context.candles,
            now,
            now if desk is None else desk.clock.now(),
            warming=context.warming,
        )
        mind = None if desk is None else probe.mind_of(desk, session)
        if mind is not None:
            self.oracle.wishes.asked(life.name, mind, candle.start)

    def _traded(self, symbol: str, start: Millis) -> bool:
        hidden = self.world.durable.feed.hidden
        return self.world.market.traded(symbol, start) and (symbol, start) not in hidden

    def _whole(self, symbol: Symbol, start: Millis) -> Candle | None:
        """None where trades were told late: history has them, and nobody could tell that they are the same."""
        late = (symbol, start) in self.world.durable.feed.hidden
        return None if late else self.world.market.window(symbol, start)

    def _journalled(self, client_id: str) -> bool:
        word = client_id.encode()
        return any(word in data for files in self.world.all_files for data in files.kept.values())

    def _is_told(self, desk: Desk, key: str) -> bool:
        """Whether a deed stands in the journal, or an alarm says that it is written nowhere."""
        return self._journalled(key) or any(a.id.startswith(f"unwritten:{key}") for a in desk.engine.board.alerts())

    def _note_confirmed(self, desk: Desk, minds: tuple[Mind, ...]) -> None:
        """When position checks told where each session stands, in the world's time."""
        ahead = max(0, desk.clock.now() - self.world.clock.now())
        for mind in minds:
            if mind.confirmed_at is not None:
                self.oracle.exposure.confirmed(mind.session, mind.confirmed_at - ahead)

    def _asked(self, session: SessionId, client_id: str) -> bool:
        """Whether the newest life asked for a change or a cancel of an order and waits, or has no line to do so.

        What one that died had asked for may be on the wire still, and nobody is there to ask for more.
        """
        if self.desk is None or not self.desk.is_up:
            return self.testimony.has_changed(client_id)
        return probe.has_asked(self.desk, session, client_id)

    def _remembered(self, mind: object, client_id: str) -> bool:
        desk = self.desk
        return desk is not None and probe.remembers(desk, mind.session, client_id)  # type: ignore[attr-defined]

    # -- the end ------------------------------------------------------------------------------------------

    def _result(self, wall: float) -> Result:
        world, oracle = self.world, self.oracle
        states: Counter[str] = Counter()
        for state, count in world.database.raw.execute("SELECT state, count(*) FROM order_events GROUP BY state"):
            states[OrderState(state).value] += count
        counts = dict(world.counts)
        counts["orders"] = len(oracle.truth.arrived)
        counts["commands"] = self.testimony.sent
        counts["excused"] = oracle.exposure.excused
        counts["ticks"] = world.market.ticks
        counts["windows"] = len(world.market.symbols) * max(1, (world.loop.at - START) // 60_000)
        return Result(
            options=self.options,
            simulated_seconds=(world.loop.at - START) / 1000,
            wall_seconds=wall,
            digest=world.digest,
            steps=world.loop.steps,
            counts=counts,
            met=dict(oracle.findings.met),
            transitions={f"{one} -> {other}": n for (one, other), n in oracle.audit.transitions.items()},
            states=dict(states),
            violations=oracle.findings.violations,
            trace=world.trace or [],
        )


def simulate(options: Options) -> Result:
    """One run, in this process. Here, and not beside the command: a pool's processes do not import a `__main__`."""
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda unraisable: None  # coroutines of dead lives are dropped, not closed
    return Run(options).go()

"""A second engine that wants the accounts of the first: what I34 is about.

While the first lives, nobody gets them: not on its machine (the lock), not from another (the lease, which is renewed),
and no typed word changes that. Once it has stood still for the length of a lease, an engine on another machine whose
operator typed that the first has certainly ended gets them all; and the first, when it goes on, sends nothing any more.
The same where the first one lives and alone has no way to the database: its entries stop before the lease expires.
Where the first one ends while another waits on its machine, that one gets them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace as changed

from engine.domain.ids import AccountId
from tests.simulation import probe
from tests.simulation.desk import Desk, Locks
from tests.simulation.files import SimFiles
from tests.simulation.house_faults import when_candles_close
from tests.simulation.loop import Life

if TYPE_CHECKING:
    from tests.simulation.run import Run

LOOK_MS = 250
PATIENCE_MS = 60_000
LEASE_MS = 10_000
SEAMS = ("query: answered", "intent: before", "intent: after", "intent: after", "submit: answered")
NEWEST = "SELECT epoch FROM leases WHERE account = ?"
INTENT = (
    "SELECT i.epoch, l.epoch, l.account FROM intents AS i JOIN leases AS l ON l.account = i.account "
    "WHERE i.key = ? AND i.origin = 'desk'"
)


class Rivals:
    """Brings one second engine at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rival: Desk | None = None
        self._came = 0
        self._gone: list[Desk] = []  # kept: what a dead life leaves behind must not be collected in the middle of a run

    @property
    def is_here(self) -> bool:
        """Whether a second engine is trying now."""
        return self._rival is not None

    def of(self, life: Life) -> Desk | None:
        """The second engine whose life this is, while it is not the desk yet."""
        return self._rival if self._rival is not None and self._rival.life is life else None

    def newest_epoch(self, account: AccountId) -> int:
        """Who commands the account, by the database."""
        row = self._run.world.database.raw.execute(NEWEST, (account,)).fetchone()
        return 0 if row is None else int(row[0])

    def committed(self, key: str) -> None:
        """I34: an intent of an epoch that was taken over does not commit. What it reserved is in the total by now."""
        row = self._run.world.database.raw.execute(INTENT, (key,)).fetchone()
        if row is not None:
            mine, newest, account = row
            self._run.oracle.findings.check(
                "I34 commit", mine >= newest, f"{key} committed under epoch {mine}, {account} is at {newest}"
            )
        if (desk := self._run.desk) is not None and desk.is_up:
            self._run.oracle.standing.total(probe.heat(desk))

    def come(self) -> None:
        """One of the ways in which a second engine may appear; not while the first one's own books are unsure."""
        run = self._run
        first, world = run.desk, run.world
        if self._rival is not None or first is None or not first.is_up or first.life.paused or len(run.desks()) > 1:
            return
        answers = world.database.answers(world.loop.at, first.life.name)
        if not answers or not first.journal.is_settled or run.oracle.requests.killed:
            return
        roll = run.faults.random()
        if roll < 0.2:
            self._start(first, "here", take_over=False)
        elif roll < 0.4:
            self._start(first, "elsewhere", take_over=run.faults.chance(0.5))
        elif roll < 0.55 and not self._must_leave():
            self._cut_off(first, run.faults.uniform(14, 60))
        else:
            stands = run.faults.uniform(14, 60)
            if run.faults.chance(0.6):
                where = run.faults.one_of(SEAMS)
                world.clock.call_at(when_candles_close(run), lambda: self._stand_still_at(first, where, stands))
            else:
                self._stand_still(first, stands)

    def _must_leave(self) -> bool:
        """Whether it is late for a session that has to be flat by then: no quiet strategy keeps its desk from it."""
        now = self._run.world.clock.now()
        limits = ((each.symbol, each.limits.flat_by) for each in self._run.world.durable.sessions)
        calendars = {each.symbol: each.calendar for each in self._run.world.durable.instruments}
        soon = [calendars[symbol].local(now + PATIENCE_MS).time() >= by for symbol, by in limits if by is not None]
        return any(soon)

    def _stand_still_at(self, first: Desk, where: str, seconds: float) -> None:
        first.seams.pause_at(where)
        first.seams.on_pause = lambda: self._stand_still(first, seconds)

    def _stand_still(self, first: Desk, seconds: float) -> None:
        if first is not self._run.desk or self._rival is not None:
            return
        self._run.suspend(seconds)
        self._start(first, "elsewhere", take_over=True)

    def _cut_off(self, first: Desk, seconds: float) -> None:
        """The first one loses its way to the database and nothing else, and somebody types that it has ended.

        That word is wrong: exits of both would add up, so the strategies of the first want nothing meanwhile.
        """
        run = self._run
        run.world.database.trouble.cut_off[first.life.name] = run.world.clock.now() + round(seconds * 1000)
        for strategy in first.strategies.values():
            strategy.quiet = True
        run.world.clock.call_at(run.world.clock.now() + round(seconds * 1000), run.misbehave)
        self._start(first, "elsewhere", take_over=True)

    def _start(self, first: Desk, where: str, *, take_over: bool) -> None:
        run, durable = self._run, self._run.world.durable
        self._came += 1
        name = f"life-rival-{self._came}"
        if where == "elsewhere":
            files = SimFiles(run.world.streams.of(f"files/{name}"), run.world.clock.now, run.world.hit)
            durable = changed(durable, files=files, locks=Locks(), host=f"machine of {name}")
        rival = self._rival = Desk(durable, name, lambda where: run.rival_died(rival, where), take_over=take_over)
        run.world.hit("second engine")
        run.world.note(f"{name} starts {where}{', with the word' if take_over else ''}")
        rival.start()
        self._look(rival, lambda: self._may_have_it(first, rival, where, take_over), run.world.loop.at)

    def _may_have_it(self, first: Desk, rival: Desk, where: str, take_over: bool) -> bool:
        """By the world: here once the first one has ended; elsewhere by a word, once it renewed nothing for a lease."""
        if where == "here":
            return first.life.dead
        database = self._run.world.database
        for account, held in rival.engine.accounts.items():
            epoch = held.lease.epoch
            renewed = (at for (of, number), at in database.renewed.items() if of == account and number < epoch)
            if database.taken[account, epoch] - max(renewed, default=0.0) < LEASE_MS:
                return False
        return take_over

    def _look(self, rival: Desk, may_have_it: Callable[[], bool], began: int) -> None:
        run = self._run
        if rival.is_up:
            run.oracle.findings.check("I34 one", may_have_it(), f"{rival.life.name} commands beside a living engine")
            run.world.hit("taken over")
            self._rival = None
            run.promote(rival)
        elif rival.failed is not None or run.world.loop.at - began > PATIENCE_MS:
            run.world.note(f"{rival.life.name} gives up: {rival.failed}")
            run.oracle.findings.check("I34 one", True, "")
            rival.die()
            self._gone.append(rival)
            self._rival = None
        else:
            run.oracle.sending.begin(rival.life.name)  # what it uses itself once it commands is no earlier life's
            again = run.world.clock.now() + LOOK_MS
            run.world.clock.call_at(again, lambda: self._look(rival, may_have_it, began))

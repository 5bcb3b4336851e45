"""Faults in the desk's own house: its lease and a second engine, its sessions, its disk, its limits, its hands.

`faults.py` has what the world outside does; the same rules hold here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from brokers.paper import out_of_band
from engine.domain.broker import IdMode, SubmitRequest
from engine.domain.ids import AccountId, BrokerOrderId, Millis
from engine.domain.orders import OrderType, Role
from engine.domain.risk import GroupLimits, HeatLimits
from engine.domain.settings import Numbers
from tests.simulation.broker_faults import hands_after_a_crash

if TYPE_CHECKING:
    from tests.simulation.desk import Desk
    from tests.simulation.operators import Operator
    from tests.simulation.run import Run

MINUTE_MS = 60_000
TIGHT = HeatLimits(warn=Decimal("0.004"), block=Decimal("0.006"), release=Decimal("0.0005"))
"""So low that ordinary trading comes to it."""
TIGHT_GROUP = GroupLimits(name="us-index", block=Decimal("0.004"))

# Standing faults of strategies: the field, and its probability at full intensity.
STRATEGY: dict[str, tuple[str, float]] = {"oversized entries": ("oversized", 0.08)}
STANDING = ("tight heat", "rate limit", *STRATEGY, "short deadline")
SHORT = Numbers(intent_deadline=1.0)
"""An entry that does not leave within a second is dropped."""
TWINS = 0.5
"""Of the resting entries of a broker that echoes no ids, at full intensity."""
MOST_REQUESTS = 4
"""That a broker under "rate limit" takes from an account in ten seconds."""


def _lease_locked(run: Run) -> None:
    """Somebody holds a lock on the lease's row: everything is written but its renewal."""
    trouble = run.world.database.trouble
    trouble.lease_until = run.world.clock.now() + round(run.faults.uniform(8, 60) * 1000)


def _session_dies(run: Run) -> None:
    """A standing loop of one session raises."""
    desk = run.desk
    if desk is None or not desk.is_up or desk.life.paused:
        return
    session = run.faults.one_of(list(desk.engine.sessions.values()))
    if session.dead is None:
        run.world.hit("session dies")
        desk.break_session(session.id)
        for after in (1, 40, 300):
            run.look_again(after)


def _second_engine(run: Run) -> None:
    run.rivals.come()


def _think_better(run: Run, order: BrokerOrderId, seconds: float) -> None:
    """Whoever placed it takes it back."""
    world = run.world

    def cancel() -> None:
        world.exchange.roll(world.clock.now())
        if world.exchange.book.orders[order].is_open:
            out_of_band.cancel_order(world.exchange, order, world.clock.now(), "its owner cancelled it")

    world.clock.call_at(world.clock.now() + round(seconds * 1000), cancel)


def _twins(run: Run, account: AccountId, strength: float, request: SubmitRequest) -> bool:
    """The same idea just as our own answer is lost: what the broker tells then fits three orders, and names none."""
    world = run.world
    rng = world.streams.of(f"twins/{account}")
    sent = run.oracle.truth.sent.get(request.client_id)
    if (
        sent is None
        or sent.role is not Role.ENTRY
        or request.terms.type is OrderType.MARKET
        or not rng.chance(strength)
    ):
        return False

    def place() -> None:
        world.hit("look-alike order")
        for _ in range(2):
            theirs = out_of_band.place_foreign(world.exchange, account, request.terms, world.clock.now())
            run.oracle.foreign(theirs)
            _think_better(run, theirs, rng.uniform(5, 60))

    world.clock.call_at(world.clock.now() + rng.randint(50, 900), place)
    return True


def _look_alike(run: Run) -> None:
    """Somebody else has the same idea at the same moment, twice: only a broker's echo tells their orders from ours."""
    world = run.world
    for account in world.accounts:
        if world.exchange.capabilities(account).id_mode is not IdMode.NONE:
            continue
        recent = [
            order
            for order in run.oracle.truth.sent.values()
            if order.account == account
            and order.role is Role.ENTRY
            and world.clock.now() - run.oracle.truth.left.get(order.client_id, 0) < 3_000
            and order.terms.limit is not None
        ]
        for order in recent[-1:]:
            world.hit("look-alike order")
            for _ in range(2):
                theirs = out_of_band.place_foreign(world.exchange, account, order.terms, world.clock.now())
                run.oracle.foreign(theirs)
                _think_better(run, theirs, run.faults.uniform(5, 60))


def _hands_in_an_outage(run: Run) -> None:
    """The disk or the database fails, the operator acts at once, and the process may not live to write it down."""
    world, rng = run.world, run.faults
    now = world.clock.now()
    seconds = rng.uniform(10, 60)
    world.hit("hands in an outage")
    short = world.streams.of("short lives")

    def then(desk: Desk, operator: Operator) -> None:
        """As often as not the process dies over it: a few steps on, or with an exit on the wire."""
        if short.chance(0.25):
            desk.seams.die_at = desk.seams.count + short.randint(1, 6)
        elif short.chance(0.4):
            desk.seams.die_in = short.one_of(("submit: sent", ": sent"))
            operator.close(desk)

    if rng.chance(0.5):
        world.database.trouble.down_until = max(world.database.trouble.down_until, now + round(seconds * 1000))
    else:
        world.files.trouble.full_until = max(world.files.trouble.full_until, now + round(seconds * 1000))
    run.urgent_hands(rng.uniform(0.3, 4.0), then)
    if rng.chance(0.6):
        dead = now + round(rng.uniform(0.5, seconds) * 1000)
        world.clock.call_at(dead, run.crash_soon)
        hands_after_a_crash(run, dead)


def _disk_fills(run: Run) -> None:
    run.world.hit("disk fills")
    files = run.world.files
    files.free_percent = run.faults.one_of((1, 5, 8))
    files.filling_since = run.world.clock.now()
    files.filling_until = run.world.clock.now() + round(run.faults.uniform(30, 180) * 1000)


def when_candles_close(run: Run) -> Millis:
    """A moment about the next end of a window: entries are on their way then."""
    now = run.world.clock.now()
    return now - now % MINUTE_MS + MINUTE_MS + run.faults.randint(0, 1_100)


def _stands_still(run: Run) -> None:
    """SIGSTOP between two awaits: what was checked before it says nothing about what is true after it."""
    desk = run.desk
    if desk is None or not desk.is_up or desk.life.paused:
        return
    seconds = run.faults.uniform(2, 40)
    where = run.faults.one_of(("query: answered", "intent: before", "intent: after"))

    def stand() -> None:
        run.world.hit("stands still")
        run.suspend(seconds)

    def wait() -> None:
        desk.seams.pause_at(where)
        desk.seams.on_pause = stand

    run.world.clock.call_at(when_candles_close(run), wait)


SUDDEN: dict[str, tuple[Callable[[Run], None], float]] = {
    "lease locked": (_lease_locked, 300),
    "session dies": (_session_dies, 300),
    "second engine": (_second_engine, 250),
    "look-alike order": (_look_alike, 2),
    "hands in an outage": (_hands_in_an_outage, 300),
    "disk fills": (_disk_fills, 300),
    "stands still": (_stands_still, 150),
}


def arm(run: Run) -> None:
    """Trouble begins."""
    if "tight heat" in run.options.faults:
        run.world.hit("tight heat")
    if "short deadline" in run.options.faults:
        run.world.hit("short deadline")
    strength = TWINS * run.options.faults.get("look-alike order", 0.0)
    for account, trouble in run.world.durable.wires.items():
        if strength and run.world.exchange.capabilities(account).id_mode is IdMode.NONE:
            trouble.twins = partial(_twins, run, account, strength)
    if "rate limit" in run.options.faults:
        for trouble in run.world.durable.wires.values():
            trouble.most_requests = MOST_REQUESTS


def disarm(run: Run) -> None:
    """Trouble ends."""
    run.world.files.filling_until = 0

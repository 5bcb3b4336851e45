"""Narrow days and bad news of money: limits that ordinary trading comes to, a balance that is wrong once, or silent.

These kinds stand last in the list of all, so that what a seed expands into besides stays as it was. Each draws from a
stream of its own; the rules of `faults.py` hold here too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import time
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace as changed

from brokers.paper import out_of_band
from engine import commands as c
from engine.domain.broker import Balance, BrokerFill, BrokerStatus
from engine.domain.ids import AccountId, ClientOrderId, SessionId
from engine.domain.orders import Role
from engine.domain.settings import EntryWindow, SessionSettings
from tests.simulation.operators import NAMES
from tests.simulation.streams import Stream

if TYPE_CHECKING:
    from tests.simulation.desk import Desk
    from tests.simulation.run import Run

NARROW, WRONG, SILENT = "narrow day", "wrong balance", "balance silence"
DELAYED, STALE, HASTY = "delayed feed", "stale history", "hasty hands"
CUT_SHORT, IN_PART = "crash in a flatten", "changed in part"
VANISH, MOVED, AGAIN = "stops vanish", "moved in a flatten", "hands again"
STRATEGY: dict[str, tuple[str, float]] = {"careless strategy": ("careless", 0.1)}
"""The field, and its probability at full intensity."""
STANDING = (NARROW, WRONG, STALE, HASTY, *STRATEGY)
LAST = (CUT_SHORT, IN_PART, VANISH, MOVED, AGAIN)
"""Kinds that came later than the sudden ones; new ones are added at the end."""
CUTS = 1.0
"""Of the flattens in trouble, at full intensity."""
FLATTENS_S = 200.0
MOVES = 1.0
"""Of the limit orders that have filled in part, at full intensity."""
VANISH_S = 300.0
VANISHED = 6
"""Stops that go one after the other, before one lasts."""
LOST_WITH_IT = 0.5
"""Of the submits by hand, at full intensity."""
RESENT = 0.7
"""Of the submits of a life that died, at full intensity."""
HASTE = 0.3
"""Of the entries that are durable and have not left, at full intensity."""
LIES = 0.25
"""Of the answers about money, at full intensity."""
FACTORS = (Decimal("0.4"), Decimal("1.7"), Decimal("0.3"), Decimal("1.9"))
"""Far enough that of two accounts one moves the sum by more than a fifth; two in a row never agree."""

# The run begins at 23:45: entries end two minutes before midnight, and pause again a little after it.
FLAT_BY = time(23, 58)
WINDOW = EntryWindow(time(0, 5), time(0, 2))
FEW_ENTRIES, DAILY_LOSS, SMALL = 2, Decimal(300), Decimal(4)


def narrowed(sessions: tuple[SessionSettings, ...], kinds: Collection[str]) -> tuple[SessionSettings, ...]:
    """One session gets hours, one few entries, one little to lose, and the first one little to hold."""
    if NARROW not in kinds:
        return sessions
    narrow: tuple[dict[str, object], ...] = (
        {"max_position_size": SMALL},
        {"flat_by": FLAT_BY, "entry_window": WINDOW},
        {"entries_per_day": FEW_ENTRIES, "entries_per_minute": 1},
        {"max_daily_loss": DAILY_LOSS},
    )
    return tuple(
        changed(each, limits=changed(each.limits, **what)) for each, what in zip(sessions, narrow, strict=False)
    )


class Misstated:
    """Now and then one answer about money is far off; the next is right again."""

    def __init__(self, strength: float, rng: Stream, hit: Callable[[str], None]) -> None:
        self._strength = strength
        self._rng = rng
        self._hit = hit
        self._told = 0
        self._lied = False

    def __call__(self, balance: Balance) -> Balance:
        """The balance as it is told."""
        self._lied = not self._lied and self._rng.chance(LIES * self._strength)
        if not self._lied:
            return balance
        self._hit(WRONG)
        self._told += 1
        return changed(balance, equity=balance.equity * FACTORS[self._told % len(FACTORS)])


def _silence(run: Run, rng: Stream) -> None:
    """Everything is answered but the money, for longer than an equity is good."""
    trouble = run.world.durable.wires[rng.one_of(run.world.accounts)]
    trouble.money_silent_until = run.world.clock.now() + round(rng.uniform(60, 300) * 1000)


def _delay(run: Run, rng: Stream) -> None:
    """Trades come in their order and late, all of them: the line is fine and the data is old."""
    feed = run.world.durable.feed
    feed.delay_ms = round(rng.uniform(16, 70) * 1000)
    feed.delayed_until = run.world.clock.now() + round(rng.uniform(30, 120) * 1000)


def _call_off(desk: Desk, name: ClientOrderId) -> None:
    desk.send(NAMES[0], lambda o: c.CancelOrder(origin=o, order=name))


def _committed(run: Run, rng: Stream, key: str) -> None:
    """An intent is durable; in the moment before it leaves a hand may call the entry off."""
    run.rivals.committed(key)
    if not (run.in_trouble and key.endswith("/entry/1") and rng.chance(HASTE * run.options.faults[HASTY])):
        return

    def act() -> None:
        for desk in run.in_command():
            books = (session.desk.book for session in desk.engine.sessions.values()) if desk.is_up else ()
            order = next((o for book in books for o in book.open() if o.key == key and o.sent is None), None)
            if order is not None and not desk.life.paused:
                run.world.hit(HASTY)
                _call_off(desk, order.client_id)

    run.world.clock.call_at(run.world.clock.now(), act)


def _flatten_of(session: SessionId, origin: c.Origin) -> c.Command:
    return c.Flatten(origin=origin, session=session)


def _flatten(run: Run, rng: Stream) -> None:
    """A hand flattens a session that holds something."""
    for desk in run.in_command():
        held = [id for id, each in desk.engine.sessions.items() if each.desk.book.position.quantity]
        if held and desk.is_up and not desk.life.paused:
            desk.send(NAMES[0], partial(_flatten_of, rng.one_of(held)))


def _vanish(run: Run, rng: Stream) -> None:
    """The broker takes a stop back by itself, and the next one a few seconds after it was placed, and so on."""
    world = run.world
    place = rng.one_of(tuple(run.oracle.truth.places))

    def strike(left: int) -> None:
        world.exchange.roll(world.clock.now())
        resting = (o for o in run.oracle.truth.ours_open(place) if run.oracle.truth.role(o) is Role.STOP)
        stop = next((o for o in resting if o.record.status is BrokerStatus.WORKING), None)
        if run.in_trouble and stop is not None:
            world.hit(VANISH)
            out_of_band.cancel_order(world.exchange, stop.id, world.clock.now(), "cancelled by the broker")
        if left:
            world.clock.call_at(world.clock.now() + rng.randint(2_000, 7_000), lambda: strike(left - 1))

    strike(VANISHED)


def _move(run: Run, sessions: tuple[SessionId, ...]) -> None:
    """Somebody else trades the account while a session of it is flattened."""
    world, rng = run.world, run.world.streams.of(MOVED)
    strength = run.options.faults.get(MOVED, 0.0)
    if not (strength and run.in_trouble and rng.chance(strength)):
        return
    session = rng.one_of(sessions)
    place = next(place for place, id in run.oracle.truth.places.items() if id == session)
    by = Decimal(rng.one_of((-1, 1)))

    def act() -> None:
        if run.in_trouble:
            world.hit(MOVED)
            run.oracle.out_of_band(*place, by, MOVED)
            out_of_band.move_position(world.exchange, *place, by, world.clock.now())

    world.clock.call_at(world.clock.now() + rng.randint(20, 1_500), act)


def asked(run: Run) -> None:
    """A submit by hand reached the engine: the process may end before it could tell what became of it."""
    rng, strength = run.world.streams.of(f"when/{AGAIN}"), run.options.faults.get(AGAIN, 0.0)
    if strength and run.in_trouble and rng.chance(LOST_WITH_IT * strength):
        run.world.clock.call_at(run.world.clock.now() + rng.randint(5, 1_200), run.crash_soon)


def begins(run: Run, desk: Desk, before: tuple[c.SubmitByHand, ...]) -> None:
    """A life begins: a console whose line broke sends once more what it asked of the one `before`, by the same name."""
    rng, strength = run.world.streams.of(AGAIN), run.options.faults.get(AGAIN, 0.0)
    for command in before:
        if strength and run.in_trouble and rng.chance(RESENT * strength):

            def act(command: c.SubmitByHand = command) -> None:
                if desk in run.in_command() and desk.is_up and not desk.life.paused:
                    run.world.hit(AGAIN)
                    desk.dispatch(command)

            run.world.clock.call_at(run.world.clock.now() + rng.randint(1_000, 30_000), act)


def flattening(run: Run, sessions: tuple[SessionId, ...]) -> None:
    """A flatten was taken: its process may end before it has closed anything, or before it could say so."""
    _move(run, sessions)
    if run.in_trouble and run.world.streams.of(CUT_SHORT).chance(CUTS * run.options.faults.get(CUT_SHORT, 0.0)):
        run.world.hit(CUT_SHORT)
        run.crash_soon()


def filled(run: Run, account: AccountId, fill: BrokerFill) -> None:
    """A limit order of ours has filled in part, and a hand moves what is left of it at once."""
    order = run.world.exchange.book.orders.get(fill.broker_id)
    strength = run.options.faults.get(IN_PART, 0.0)
    if not (strength and run.in_trouble) or order is None or not order.is_open or order.record.terms.limit is None:
        return
    name, rng = order.record.client_id, run.world.streams.of(IN_PART)
    if name is None or fill.revision or not rng.chance(MOVES * strength):
        return
    tick = run.world.exchange.instruments[fill.symbol].tick_size
    limit = order.record.terms.limit - order.record.terms.side.sign * rng.randint(1, 3) * tick

    def act() -> None:
        for desk in run.in_command():
            if desk.is_up and not desk.life.paused:
                run.world.hit(IN_PART)
                desk.send(NAMES[0], lambda o: c.ModifyOrder(origin=o, order=name, limit=limit, reason="moves the rest"))

    run.world.clock.call_at(run.world.clock.now() + rng.randint(20, 400), act)


SUDDEN: dict[str, tuple[Callable[[Run, Stream], None], float]] = {
    SILENT: (_silence, 500.0),
    DELAYED: (_delay, 500.0),
    VANISH: (_vanish, VANISH_S),
}
"""What it does, and how many seconds lie between two of it at full intensity, on average."""


def arm(run: Run) -> None:
    """Trouble begins."""
    world, kinds = run.world, run.options.faults
    if NARROW in kinds:
        world.hit(NARROW)
        if run.oracle.day.traded not in world.market.listeners:
            world.market.listeners.append(run.oracle.day.traded)
    if WRONG in kinds:
        for account, trouble in world.durable.wires.items():
            trouble.misstates = Misstated(kinds[WRONG], world.streams.of(f"money/{account}"), world.hit)
    if STALE in kinds:
        world.durable.feed.history_stale = 0.6 * kinds[STALE]
    if IN_PART in kinds:
        world.exchange.max_fill = Decimal(1)
    if HASTY in kinds:
        rng = world.streams.of("haste")
        world.database.on_intent = lambda key: _committed(run, rng, key)


def schedule(run: Run) -> None:
    """Start the clocks of the sudden faults that this seed has."""
    for name, (act, mean) in SUDDEN.items():
        if name in run.options.faults:
            _again(run, act, mean / max(0.1, run.options.faults[name]), run.world.streams.of(f"when/{name}"))
    for name in (each for each in (CUT_SHORT, MOVED) if each in run.options.faults):
        _again(run, _flatten, FLATTENS_S / run.options.faults[name], run.world.streams.of(f"when/{name}"))


def _again(run: Run, act: Callable[[Run, Stream], None], mean: float, rng: Stream) -> None:
    def happen() -> None:
        if run.in_trouble:
            act(run, rng)
        _again(run, act, mean, rng)

    clock = run.world.clock
    clock.call_at(clock.now() + max(1, round(rng.pause(mean) * 1000)), happen)

"""Faults in the broker's own books: a list that leaves an order out for once, an execution told after the cancel.

Each draws from a stream of its own; the rules of `faults.py` hold here too.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from brokers.paper.book import PaperOrder
from engine.domain.broker import BrokerOrder, BrokerStatus, FillsKind
from engine.domain.ids import BrokerOrderId, Millis
from engine.domain.orders import Role
from tests.simulation.operators import NAMES, Operator
from tests.simulation.oracle.truth import Behind
from tests.simulation.streams import Stream

if TYPE_CHECKING:
    from tests.simulation.run import Run

STANDING = ("forgetful query",)
FORGETS = 0.3
"""Of the answers about open orders, at full intensity."""
QUIET_MS = 3_000
"""An order of which something is news is told of."""
PASSES_MS = 1_500
"""By then every list names the order again: the next look, two seconds later, finds it."""
LATE_MS = 3_000
LATE = 0.25
"""Of the entries cancelled within these three seconds that an execution could still be told of."""


class Forgetful:
    """One answer about open orders lacks one of ours, and so does the next answer that should have proven it."""

    def __init__(self, strength: float, rng: Stream, now: Callable[[], Millis], hit: Callable[[str], None]) -> None:
        self._strength = strength
        self._rng = rng
        self._now = now
        self._hit = hit
        self._once: set[BrokerOrderId] = set()
        self._missing: BrokerOrderId | None = None
        self._since: Millis = 0

    def __call__(self, name: str, rows: tuple[BrokerOrder, ...]) -> tuple[BrokerOrder, ...]:
        """The rows of a complete answer, as they are told."""
        now = self._now()
        if name == "open orders":
            resting = [
                row
                for row in rows
                if row.broker_id not in self._once
                and row.status is BrokerStatus.WORKING
                and now - row.updated > QUIET_MS
            ]
            self._missing = None
            if resting and self._rng.chance(FORGETS * self._strength):
                self._missing = self._rng.one_of(resting).broker_id
                self._once.add(self._missing)
                self._since = now
                return self._without(rows)
        elif name.startswith("order") and now - self._since <= PASSES_MS:
            told = self._without(rows)
            if len(told) < len(rows):
                self._hit("forgetful query")
                self._missing = None
            return told
        return rows

    def _without(self, rows: tuple[BrokerOrder, ...]) -> tuple[BrokerOrder, ...]:
        return tuple(row for row in rows if row.broker_id != self._missing)


def _late_fill(run: Run) -> None:
    """The market had filled an entry before its cancel arrived there, and the broker hears of it only now.

    Not where somebody was told "flat": no desk can take that back. What a life that ends does not hear any more is
    the next one's to adopt.
    """
    world, truth, requests = run.world, run.oracle.truth, run.oracle.requests
    now, desk = world.clock.now(), run.desk
    if desk is None or not desk.is_up or desk.life.paused or requests.killed:
        return
    rng = world.streams.of("late fill")
    for order in tuple(world.exchange.book.orders.values()):
        record = order.record
        known = truth.sent.get(record.client_id) if record.client_id is not None else None
        if (
            known is None
            or known.role is not Role.ENTRY
            or known.session in requests.paused
            or record.status is not BrokerStatus.CANCELLED
            or record.reason != "cancelled on request"
            or now - record.updated > LATE_MS
            or world.exchange.capabilities(order.account).fills is FillsKind.CUMULATIVE
            or desk.wires[order.account].up_since is None
            or not rng.chance(LATE)
        ):
            continue
        world.hit("late fill")
        truth.behind[order.account, record.terms.symbol].append(Behind(now, Decimal(0), "late fill"))
        truth.late[known.client_id] = desk.life.name
        _fill(run, order)


def _fill(run: Run, order: PaperOrder) -> None:
    """One unit more, at the last price; the order stays as it ended."""
    exchange = run.world.exchange
    exchange.roll(run.world.clock.now())
    record = order.record
    price = exchange.last_price(record.terms.symbol) or record.terms.limit or record.terms.stop
    assert price is not None
    exchange.execute(order, Decimal(1), price, record.status)
    exchange.commit()


def hands_in_a_gap(run: Run, back: Millis) -> None:
    """As soon as the feed is `back` an operator enters by hand, while history is still to come."""
    rng = run.world.streams.of("hands in a gap")
    _enter_by_hand(run, back + rng.randint(200, 6_000), rng)


def hands_after_a_crash(run: Run, dead: Millis) -> None:
    """An operator who was told of nothing enters by hand soon after the process died: what held entries holds them."""
    rng = run.world.streams.of("hands after a crash")
    for _ in range(rng.randint(0, 6)):
        _enter_by_hand(run, dead + rng.randint(20_000, 200_000), rng)


def _enter_by_hand(run: Run, at: Millis, rng: Stream) -> None:
    hands = Operator(run, NAMES[0], rng)

    def act() -> None:
        for desk in run.in_command():
            if run.in_trouble and desk.is_up and not desk.life.paused:
                hands.enter(desk, rng.one_of(list(desk.engine.sessions.values())))

    run.world.clock.call_at(at, act)


SUDDEN: dict[str, tuple[Callable[[Run], None], float]] = {"late fill": (_late_fill, 1.5)}


def arm(run: Run) -> None:
    """Trouble begins."""
    world, strength = run.world, run.options.faults.get("forgetful query", 0.0)
    for account, trouble in world.durable.wires.items():
        if strength:
            rng = world.streams.of(f"forgetful/{account}")
            trouble.forgets = Forgetful(strength, rng, world.clock.now, world.hit)


def schedule(run: Run) -> None:
    """Start the clocks of the sudden faults that this seed has, each by its own stream."""
    for name, (act, mean) in SUDDEN.items():
        if name in run.options.faults:
            _again(run, act, mean / max(0.1, run.options.faults[name]), run.world.streams.of(f"when/{name}"))


def _again(run: Run, act: Callable[[Run], None], mean: float, rng: Stream) -> None:
    def happen() -> None:
        if run.in_trouble:
            act(run)
        _again(run, act, mean, rng)

    clock = run.world.clock
    clock.call_at(clock.now() + max(1, round(rng.pause(mean) * 1000)), happen)

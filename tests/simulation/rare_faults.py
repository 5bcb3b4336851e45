"""What others do to positions at the worst moment: while an order is given up, before a stop fits, where nobody trades.

These kinds stand last in the list of all, so that what a seed expands into besides stays as it was. Each draws from a
stream of its own; the rules of `faults.py` hold here too.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from brokers.paper import out_of_band
from engine.domain.ids import AccountId, Millis, Symbol
from engine.domain.orders import Order, OrderState, Role
from tests.simulation.streams import Stream

if TYPE_CHECKING:
    from tests.simulation.run import Run

MOVED, NOBODYS, TURNED, ELSEWHERE = "moved in doubt", "nobody's position", "turned round", "changed elsewhere"
LAST = (MOVED, NOBODYS, TURNED, ELSEWHERE)
RARE = (NOBODYS, TURNED, ELSEWHERE)
GIVEN_UP_MS = (83_000, 90_000)
"""How long an order in doubt has been away when its contract's position moves: soon it is lost."""
NEGATIVES = 3
LOOKS_S, GROWS_S, TURNS_S, CHANGES_S = 2.0, 120.0, 60.0, 120.0
WATCH_MS, WATCHES = 150, 400
BEYOND = 3
"""Ticks beyond the stop to which the market jumps."""


def _strike(run: Run, account: AccountId, symbol: Symbol, by: Decimal, why: str) -> None:
    run.world.hit(why)
    run.move_behind(account, symbol, by, why)


def _moved(run: Run, rng: Stream) -> None:
    """An order that no answer named for long is about to be given up, and the position moves, once for each."""
    now, struck = run.world.clock.now(), run.struck
    for desk in run.in_command():
        if not desk.is_up or desk.life.paused or desk.clock.now() != now:
            continue
        for session in desk.engine.sessions.values():
            for order in session.desk.book.open():
                if _is_given_up(order, now) and order.client_id not in struck:
                    struck.add(order.client_id)
                    held = run.world.exchange.book.position(order.account, order.terms.symbol).quantity
                    by = -1 if held > 0 else 1 if held else order.terms.side.sign
                    _strike(run, order.account, order.terms.symbol, Decimal(by), MOVED)


def _is_given_up(order: Order, now: Millis) -> bool:
    least, most = GIVEN_UP_MS
    doubt = order.doubt if order.state is OrderState.IN_DOUBT_SUBMIT else None
    return doubt is not None and doubt.negatives >= NEGATIVES and least <= now - doubt.sent < most


def _nobodys(run: Run, rng: Stream) -> None:
    """Somebody opens, or adds to, a position of a contract that no session of the account trades."""
    world = run.world
    traded = [symbol for symbol in world.exchange.instruments if world.exchange.last_price(symbol) is not None]
    others = [(a, s) for a in world.accounts for s in traded if (a, s) not in run.oracle.truth.places]
    if others:
        world.hit(NOBODYS)
        out_of_band.move_position(world.exchange, *rng.one_of(others), Decimal(1), world.clock.now())


def _turned(run: Run, rng: Stream) -> None:
    """A part of a position goes, and before the stop fits what is left the market runs through it."""
    places = [place for place in run.oracle.truth.places if _is_guarded(run, place, 2)]
    if places:
        account, symbol = place = rng.one_of(places)
        held = run.world.exchange.book.position(*place).quantity
        _strike(run, account, symbol, Decimal(-1 if held > 0 else 1), TURNED)
        _watch(run, place, WATCHES)


def _is_guarded(run: Run, place: tuple[AccountId, Symbol], least: int) -> bool:
    held = run.world.exchange.book.position(*place).quantity
    return abs(held) >= least and _stop(run, place) is not None


def _stop(run: Run, place: tuple[AccountId, Symbol]) -> Decimal | None:
    """Where a stop rests that is larger than what it guards, or as large."""
    held = run.world.exchange.book.position(*place).quantity
    for order in run.oracle.truth.ours_open(place):
        terms = order.record.terms
        fits = run.oracle.truth.role(order) is Role.STOP and terms.side.sign * held < 0
        if fits and terms.stop is not None and order.remaining >= abs(held):
            return terms.stop
    return None


def _watch(run: Run, place: tuple[AccountId, Symbol], left: int) -> None:
    """As soon as the desk knows what is left, and not before."""
    held, price = run.world.exchange.book.position(*place).quantity, _stop(run, place)
    if not left or not run.in_trouble or not held or price is None:
        return
    known = None
    for desk in run.in_command():
        if desk.is_up and not desk.life.paused:
            known = desk.engine.sessions[run.oracle.truth.places[place]].desk.book.position.quantity
    if known == held:
        market, symbol = run.world.market, place[1]
        tick = run.world.exchange.instruments[symbol].tick_size
        far = int((price - market.last(symbol)) / tick)
        market.jump(symbol, far - BEYOND if held > 0 else far + BEYOND)
        market.trade_now(symbol)
        return
    clock = run.world.clock
    clock.call_at(clock.now() + WATCH_MS, lambda: _watch(run, place, left - 1))


def _elsewhere(run: Run, rng: Stream) -> None:
    """The owner moves the price of an order that rests, at the broker's own screen: no event tells of it."""
    world = run.world
    account, symbol = place = rng.one_of(list(run.oracle.truth.places))
    broker_id = out_of_band.newest_open(world.exchange, account, symbol)
    for desk in run.in_command():
        book = desk.engine.sessions[run.oracle.truth.places[place]].desk.book if desk.is_up else None
        known = None if book is None or broker_id is None else book.by_broker_id(broker_id)
        if broker_id is None or known is None or known.state is not OrderState.WORKING or known.cancel_wanted:
            continue
        by = -known.terms.side.sign * rng.randint(1, 3) * world.exchange.instruments[symbol].tick_size
        if out_of_band.move_price(world.exchange, broker_id, by, world.clock.now()):
            world.hit(ELSEWHERE)


EACH: dict[str, tuple[Callable[[Run, Stream], None], float]] = {
    MOVED: (_moved, LOOKS_S),
    NOBODYS: (_nobodys, GROWS_S),
    TURNED: (_turned, TURNS_S),
    ELSEWHERE: (_elsewhere, CHANGES_S),
}
"""What it does, and how many seconds lie between two of it on average; at full intensity, where that counts."""


def disarm(run: Run) -> None:
    """Trouble ends: whoever held what nobody trades here has sold it."""
    world = run.world
    for account in world.accounts if NOBODYS in run.options.faults else ():
        for row in world.exchange.positions(account):
            if (account, row.symbol) not in run.oracle.truth.places:
                out_of_band.move_position(world.exchange, account, row.symbol, -row.quantity, world.clock.now())


def schedule(run: Run) -> None:
    """Start the clocks of the faults that this seed has."""
    for name, (act, mean) in EACH.items():
        if name in run.options.faults:
            pace = mean if name == MOVED else mean / max(0.1, run.options.faults[name])
            _again(run, act, pace, run.world.streams.of(f"when/{name}"))


def _again(run: Run, act: Callable[[Run, Stream], None], mean: float, rng: Stream) -> None:
    def happen() -> None:
        if run.in_trouble:
            act(run, rng)
        _again(run, act, mean, rng)

    clock = run.world.clock
    clock.call_at(clock.now() + max(1, round(rng.pause(mean) * 1000)), happen)

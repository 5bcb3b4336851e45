"""The faults of a run: which a seed switches on and how hard, and what each does when its time comes.

Standing faults are probabilities that hold while there is trouble; sudden ones happen every so often. A fault is
counted where it bites (`world.hit`), not where it is armed.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from brokers.paper import out_of_band
from brokers.paper.book import is_held
from engine.domain.broker import BrokerStatus
from engine.domain.ids import AccountId, Symbol
from engine.domain.orders import OrderType, Side, Terms, TimeInForce
from tests.simulation import broker_faults, day_faults, house_faults, rare_faults, scenes
from tests.simulation.market import MINUTE_MS

if TYPE_CHECKING:
    from tests.simulation.run import Run

Act = Callable[["Run"], None]

# Standing faults: the field of the trouble, and its probability at full intensity.
WIRE: dict[str, tuple[str, float]] = {
    "lost request": ("lose_request", 0.10),
    "lost answer": ("lose_answer", 0.10),
    "slow request": ("slow", 0.08),
    "slow 60-120 s": ("slow", 0.04),
    "dropped event": ("drop_event", 0.15),
    "duplicate event": ("duplicate_event", 0.20),
    "reordered event": ("reorder_event", 0.15),
    "failed query": ("fail_query", 0.25),
    "frozen query": ("freeze_query", 0.06),
    "truncated query": ("truncate_query", 0.15),
    "stale query": ("stale_query", 0.20),
    "slow query": ("slow_query", 0.20),
    "lagging query": ("lag_query", 0.60),
}
DATABASE: dict[str, tuple[str, float]] = {"commit refused": ("refuse", 0.05), "commit unknown": ("unknown", 0.06)}
FILES: dict[str, tuple[str, float]] = {"torn write": ("tear", 0.5), "failed sync": ("fail_sync", 0.5)}
STRATEGY: dict[str, tuple[str, float]] = {
    "strategy exception": ("failing", 0.04),
    "strategy runaway": ("runaway", 0.04),
}
OTHER_STANDING = ("partial fills", "late tick", "history failed", "slow history", "slow database", "violent market")


def standing() -> tuple[str, ...]:
    """Names of all standing faults."""
    return (*WIRE, *DATABASE, *FILES, *STRATEGY, *OTHER_STANDING)


def arm(run: Run) -> None:
    """Trouble begins: set every standing fault of this seed to its strength."""
    strength = run.options.faults
    world = run.world
    for name, (field, most) in WIRE.items():
        if name in strength:
            for trouble in world.durable.wires.values():
                setattr(trouble, field, most * strength[name])
                if name == "slow 60-120 s":
                    trouble.slow_seconds = (60.0, 120.0)
    for name, (field, most) in DATABASE.items():
        if name in strength:
            setattr(world.database.trouble, field, most * strength[name])
    for name, (field, most) in FILES.items():
        if name in strength:
            setattr(world.files.trouble, field, most * strength[name])
    if "slow database" in strength:
        world.database.trouble.slow_ms = round(300 * strength["slow database"])
    if "partial fills" in strength:
        world.exchange.max_fill = Decimal(1)
        world.hit("partial fills")
    if "late tick" in strength:
        world.durable.feed.late = 0.03 * strength["late tick"]
    if "history failed" in strength:
        world.durable.feed.history_fails = 0.5 * strength["history failed"]
    if "slow history" in strength:
        world.hit("slow history")
        world.durable.feed.history_slow = (1.0, 100.0 * strength["slow history"])
    if "violent market" in strength:
        world.hit("violent market")
        world.market.violence = 1 + 4 * strength["violent market"]
    house_faults.arm(run)
    broker_faults.arm(run)
    day_faults.arm(run)
    run.misbehave()


def disarm(run: Run) -> None:
    """Trouble ends: nothing more is broken; what is under way goes on to its end."""
    world = run.world
    for account, trouble in world.durable.wires.items():
        trouble.clear(world.clock.now())
        for desk in run.desks():
            desk.wires[account].look()
    world.database.trouble.clear()
    world.files.trouble.clear()
    world.durable.feed.clear(world.clock.now())
    for desk in run.desks():
        desk.feed.look()
    for desk in run.desks():
        desk.clock.offset_ms = 0
    world.exchange.max_fill = None
    world.exchange.refusals.clear()
    world.market.violence = 1.0
    world.market.halted_until = 0
    house_faults.disarm(run)
    rare_faults.disarm(run)
    run.misbehave()


# -- sudden faults -------------------------------------------------------------------------------------------


def _an_account(run: Run) -> AccountId:
    return run.faults.one_of(run.world.accounts)


def _a_place(run: Run) -> tuple[AccountId, Symbol]:
    settings = run.faults.one_of(run.world.durable.sessions)
    return settings.account, settings.symbol


def cut(run: Run, account: AccountId, seconds: float) -> None:
    """Break an account's line for that long."""
    trouble = run.world.durable.wires[account]
    trouble.cut_until = max(trouble.cut_until, run.world.clock.now() + round(seconds * 1000))
    for desk in run.desks():
        desk.wires[account].cut()


def _disconnect(run: Run) -> None:
    run.world.hit("disconnect")
    cut(run, _an_account(run), run.faults.uniform(1, 60))


def _outage(run: Run) -> None:
    """Everything at once, for minutes: the office's line, and the database that lives beyond it."""
    seconds = run.faults.uniform(60, 300)
    run.world.hit("correlated outage")
    for account in run.world.accounts:
        cut(run, account, seconds * run.faults.uniform(0.7, 1.0))
    _cut_feed(run, seconds * run.faults.uniform(0.7, 1.0))
    if run.faults.chance(0.5):
        _database_down(run, seconds * run.faults.uniform(0.3, 1.0))


def _cut_feed(run: Run, seconds: float) -> None:
    feed = run.world.durable.feed
    feed.cut_until = max(feed.cut_until, run.world.clock.now() + round(seconds * 1000))
    for desk in run.desks():
        desk.feed.cut()


def _feed_cut(run: Run) -> None:
    run.world.hit("feed cut")
    _cut_feed(run, run.faults.uniform(1, 150))
    if "slow history" in run.options.faults:
        broker_faults.hands_in_a_gap(run, run.world.durable.feed.cut_until)


def _feed_silence(run: Run) -> None:
    run.world.durable.feed.silent_until = run.world.clock.now() + round(run.faults.uniform(10, 100) * 1000)


def _missing_candle(run: Run) -> None:
    """Nobody trades for a whole window and more."""
    run.world.hit("missing candle")
    run.world.market.halted_until = run.world.clock.now() + MINUTE_MS + round(run.faults.uniform(1, 80) * 1000)


def _replaced_candle(run: Run) -> None:
    world = run.world
    symbol = _a_place(run)[1]
    start = world.clock.now() // MINUTE_MS * MINUTE_MS - MINUTE_MS * run.faults.randint(1, 4)
    tick = world.market.amend(symbol, start, run.faults.randint(1, 6))
    if tick is not None:
        world.hit("replaced candle")
        for desk in run.desks():
            scenes.amended(run, desk, tick)
            desk.feed.deliver(tick)


def _lock_out(run: Run) -> None:
    trouble = run.world.durable.wires[_an_account(run)]
    trouble.locked_until = run.world.clock.now() + round(run.faults.uniform(3, 60) * 1000)


def _token(run: Run) -> None:
    trouble = run.world.durable.wires[_an_account(run)]
    trouble.token_until = run.world.clock.now() + round(run.faults.uniform(10, 180) * 1000)


def _margin_desk(run: Run) -> None:
    world = run.world
    places = run.oracle.truth.places
    held = [(a, row) for a in world.accounts for row in world.exchange.positions(a) if (a, row.symbol) in places]
    if not held:
        return
    account, row = run.faults.one_of(held)
    by = Decimal(run.faults.randint(1, 2)) * (-1 if row.quantity > 0 else 1)
    if run.faults.chance(0.15):
        by = -by
    world.hit("margin desk")
    run.move_behind(account, row.symbol, by, "margin desk")
    hands = world.streams.of("nobody looks")
    if "crash" in run.options.faults and hands.chance(0.3):  # before anybody has looked at what was adopted
        world.clock.call_at(world.clock.now() + round(hands.uniform(3, 60) * 1000), run.crash_soon)


def _out_of_band_cancel(run: Run) -> None:
    account, symbol = _a_place(run)
    run.world.exchange.roll(run.world.clock.now())  # what expires in this moment is not open any more
    broker_id = out_of_band.newest_open(run.world.exchange, account, symbol)
    if broker_id is not None:
        run.world.hit("out-of-band cancel")
        out_of_band.cancel_order(run.world.exchange, broker_id, run.world.clock.now(), "cancelled by the broker")


def _refused_later(run: Run) -> None:
    """The broker took an order and thinks better of it."""
    world = run.world
    account, symbol = _a_place(run)
    broker_id = out_of_band.newest_open(world.exchange, account, symbol)
    world.exchange.roll(world.clock.now())  # which may end it: no broker refuses what has expired
    order = world.exchange.book.orders.get(broker_id) if broker_id is not None else None
    if order is not None and not order.record.filled and not order.record.status.is_final:
        world.hit("refused later")
        world.exchange.close_order(order, BrokerStatus.REJECTED, "refused by the risk desk after all")
        world.exchange.commit()


def _refusal(run: Run) -> None:
    run.world.hit("refusal")
    stops_only = run.faults.chance(0.4)
    out_of_band.refuse_next(
        run.world.exchange, _an_account(run), "refused by the risk desk", stops_only=stops_only, count=1
    )


def _inert(run: Run) -> None:
    world = run.world
    account, symbol = _a_place(run)
    if out_of_band.make_stops_inert(world.exchange, account, symbol, world.clock.now()):
        world.hit("inert stop")


def _bust(run: Run) -> None:
    world = run.world
    account, symbol = _a_place(run)
    recent = [
        kept
        for kept in world.exchange.book.fills.values()
        if kept.account == account and kept.fill.symbol == symbol and kept.fill.quantity
    ]
    if not recent or world.clock.now() - recent[-1].fill.at > 10 * MINUTE_MS:
        return
    fill = recent[-1].fill
    world.hit("bust")
    run.oracle.busted(account, symbol, fill)
    out_of_band.bust_last_fill(world.exchange, account, symbol, world.clock.now())


def _foreign(run: Run) -> None:
    world = run.world
    account, symbol = _a_place(run)
    instrument = world.exchange.instruments[symbol]
    side = run.faults.one_of((Side.BUY, Side.SELL))
    away = run.faults.randint(-2, 60)
    limit = world.market.last(symbol) - side.sign * away * instrument.tick_size
    terms = Terms(symbol=symbol, side=side, quantity=Decimal(1), type=OrderType.LIMIT, limit=limit, tif=TimeInForce.GTC)
    world.hit("foreign order")
    run.oracle.foreign(out_of_band.place_foreign(world.exchange, account, terms, world.clock.now()))


def _database_down(run: Run, seconds: float) -> None:
    trouble = run.world.database.trouble
    trouble.down_until = max(trouble.down_until, run.world.clock.now() + round(seconds * 1000))


def _down(run: Run) -> None:
    _database_down(run, run.faults.uniform(2, 120))


def _frozen(run: Run) -> None:
    run.world.database.trouble.frozen_until = run.world.clock.now() + round(run.faults.uniform(1, 40) * 1000)


def _disk_full(run: Run) -> None:
    until = run.world.clock.now() + round(run.faults.uniform(5, 120) * 1000)
    run.world.files.trouble.full_until = until
    run.world.database.trouble.down_until = max(run.world.database.trouble.down_until, until - 1_000)


def _disk_hung(run: Run) -> None:
    until = run.world.clock.now() + round(run.faults.uniform(1, 30) * 1000)
    run.world.files.trouble.hung_until = until
    run.world.database.trouble.frozen_until = max(run.world.database.trouble.frozen_until, until)


def _crash(run: Run) -> None:
    run.crash_soon()


def _clock_step(run: Run) -> None:
    run.world.hit("clock step")
    by = run.faults.one_of((-120_000, -5_000, 3_000, 60_000))
    for desk in run.desks():
        desk.clock.offset_ms = 0 if desk.clock.offset_ms else by


def _suspend(run: Run) -> None:
    run.suspend(run.faults.uniform(5, 400))


def _legs_move(run: Run) -> None:
    """The market jumps through what rests: fills meet replaces and cancels that are on their way."""
    run.world.hit("price jump")
    run.world.market.jump(_a_place(run)[1], run.faults.randint(-40, 40))


SUDDEN: dict[str, tuple[Act, float]] = {
    "disconnect": (_disconnect, 240),
    "correlated outage": (_outage, 1_200),
    "feed cut": (_feed_cut, 400),
    "feed silence": (_feed_silence, 500),
    "missing candle": (_missing_candle, 900),
    "replaced candle": (_replaced_candle, 200),
    "lock-out": (_lock_out, 300),
    "token expired": (_token, 700),
    "margin desk": (_margin_desk, 240),
    "out-of-band cancel": (_out_of_band_cancel, 200),
    "refused later": (_refused_later, 250),
    "refusal": (_refusal, 150),
    "inert stop": (_inert, 500),
    "bust": (_bust, 500),
    "foreign order": (_foreign, 400),
    "database down": (_down, 400),
    "database frozen": (_frozen, 300),
    "disk full": (_disk_full, 500),
    "disk hung": (_disk_hung, 500),
    "crash": (_crash, 400),
    "clock step": (_clock_step, 600),
    "suspend": (_suspend, 1_200),
    "price jump": (_legs_move, 120),
}
"""What it does, and how many seconds lie between two of it at full intensity, on average."""

RARE = 0.3
MODIFIERS = ("crash in recovery", "two operators at once")
"""Kinds that say how others happen."""


def kinds() -> tuple[str, ...]:
    """Every fault kind that a seed may switch on."""
    mine = (*standing(), *SUDDEN, *MODIFIERS)
    theirs = (*broker_faults.STANDING, *broker_faults.SUDDEN, *day_faults.STANDING, *day_faults.SUDDEN)
    every = (*mine, *house_faults.STANDING, *house_faults.SUDDEN, *theirs, *day_faults.LAST, *rare_faults.LAST)
    return tuple(dict.fromkeys(every))


def rarity(kind: str) -> float:
    """How often a seed has it, compared to most kinds."""
    return RARE if kind in (*day_faults.LAST, *rare_faults.RARE) else 1.0


def schedule(run: Run) -> None:
    """Start the clocks of the sudden faults that this seed has."""
    for name, (act, mean) in (SUDDEN | house_faults.SUDDEN).items():
        if name in run.options.faults:
            _again(run, act, mean / max(0.1, run.options.faults[name]))
    broker_faults.schedule(run)
    day_faults.schedule(run)
    rare_faults.schedule(run)


def _again(run: Run, act: Act, mean: float) -> None:
    def happen() -> None:
        if run.faults.chance(0.5):  # as often as not when orders are on their way
            clock.call_at(house_faults.when_candles_close(run), strike)
        else:
            strike()
        _again(run, act, mean)

    def strike() -> None:
        if run.in_trouble:
            act(run)

    clock = run.world.clock
    clock.call_at(clock.now() + max(1, round(run.faults.pause(mean) * 1000)), happen)


def held_legs(run: Run) -> int:
    """How many legs wait for their entry now."""
    return sum(is_held(order) for order in run.world.exchange.book.orders.values() if order.is_open)

"""Whatever is asked of the paper exchange, its books stay right, and a restart at any point changes nothing."""

from __future__ import annotations

import random
import tempfile
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from brokers.paper import out_of_band
from brokers.paper.book_file import BookFile, UnsyncedFiles
from brokers.paper.exchange import PaperExchange
from brokers.paper.options import AccountTerms, ExchangeOptions
from engine.domain.broker import (
    AccountEvent,
    AttachedLeg,
    BrokerFill,
    BrokerStatus,
    Capabilities,
    FillReported,
    OrderReported,
    ReplaceId,
    ReplaceQuantity,
    SubmitRequest,
)
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Tick
from engine.domain.orders import OrderType, Side, Terms, TimeInForce

ACCOUNT = AccountId("a")
START = 1_790_000_000_000
INSTRUMENTS = (
    Instrument(symbol=Symbol("AA"), tick_size=Decimal("0.25"), point_value=Decimal(50)),
    Instrument(symbol=Symbol("BB"), tick_size=Decimal("0.01"), point_value=Decimal(7)),
)
EQUITY, FEE = Decimal(2_500), Decimal("1.25")
THINGS = ("tick", "tick", "tick", "order", "bracket", "cancel", "replace", "advance")
# A replace may size a leg by hand; without it the exchange alone sizes legs.
NO_REPLACE = tuple(thing for thing in THINGS if thing != "replace")


class World:
    """An exchange that is asked random things; what it streamed is kept."""

    def __init__(self, path: Path, capabilities: Capabilities, max_fill: int | None) -> None:
        self.path = path
        self.terms = AccountTerms(account=ACCOUNT, equity=EQUITY, fee_per_unit=FEE, capabilities=capabilities)
        self.options = ExchangeOptions(slippage_ticks=1, max_fill=None if max_fill is None else Decimal(max_fill))
        self.events: list[AccountEvent] = []
        self.now = START
        self.count = 0
        self.open()

    def open(self) -> None:
        """Open the book; called again, it is a restart after a kill."""
        self.exchange = PaperExchange(INSTRUMENTS, [self.terms], self.options, BookFile(self.path, UnsyncedFiles()))
        self.exchange.listen(ACCOUNT, self.events.append)

    def step(self, dice: random.Random, things: tuple[str, ...] = THINGS) -> None:
        """One random thing happens."""
        self.now += dice.choice((0, 1, 250, 40_000, 30_000_000))
        instrument = dice.choice(INSTRUMENTS)
        match dice.choice(things):
            case "tick":
                price = instrument.tick_size * dice.randint(390, 410)
                self.exchange.on_tick(Tick(instrument.symbol, self.now, price, Decimal(1)))
            case "order":
                self.submit(self.random_terms(dice, instrument))
            case "bracket":
                entry = self.random_terms(dice, instrument)
                low, high = (instrument.tick_size * level for level in (dice.randint(380, 399), dice.randint(401, 420)))
                stop, target = (low, high) if entry.side is Side.BUY else (high, low)
                side, size = entry.side.opposite, entry.quantity
                self.submit(
                    entry,
                    Terms(
                        symbol=entry.symbol,
                        side=side,
                        quantity=size,
                        type=OrderType.STOP,
                        stop=stop,
                        tif=TimeInForce.GTC,
                    ),
                    Terms(
                        symbol=entry.symbol,
                        side=side,
                        quantity=size,
                        type=OrderType.LIMIT,
                        limit=target,
                        tif=TimeInForce.GTC,
                    ),
                )
            case "cancel":
                if (broker_id := self.pick(dice)) is not None:
                    self.exchange.cancel(ACCOUNT, broker_id, self.now)
            case "replace":
                if (broker_id := self.pick(dice)) is not None:
                    old = self.exchange.book.orders[broker_id].record.terms
                    own = next(each for each in INSTRUMENTS if each.symbol == old.symbol)
                    new = self.random_terms(dice, own, old.side)
                    self.count += 1
                    self.exchange.replace(ACCOUNT, broker_id, ClientOrderId(f"r{self.count}"), new, self.now)
            case _:
                self.exchange.advance(self.now)

    def random_terms(self, dice: random.Random, instrument: Instrument, side: Side | None = None) -> Terms:
        kind = dice.choice(list(OrderType))
        price = instrument.tick_size * dice.randint(385, 415)
        return Terms(
            symbol=instrument.symbol,
            side=side or dice.choice(list(Side)),
            quantity=Decimal(dice.randint(1, 6)),
            type=kind,
            limit=price if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None,
            stop=price if kind in (OrderType.STOP, OrderType.STOP_LIMIT) else None,
            tif=dice.choice(list(TimeInForce)),
        )

    def submit(self, terms: Terms, *legs: Terms) -> None:
        self.count += 1
        attached = tuple(AttachedLeg(ClientOrderId(f"c{self.count}l{number}"), leg) for number, leg in enumerate(legs))
        self.exchange.submit(ACCOUNT, SubmitRequest(ClientOrderId(f"c{self.count}"), terms, attached), self.now)

    def pick(self, dice: random.Random) -> BrokerOrderId | None:
        orders = self.exchange.open_orders(ACCOUNT)
        return dice.choice(orders).broker_id if orders else None

    def fills(self) -> list[BrokerFill]:
        return [event.fill for event in self.events if isinstance(event, FillReported)]

    def told(self) -> tuple[object, ...]:
        exchange = self.exchange
        return (
            exchange.positions(ACCOUNT),
            exchange.open_orders(ACCOUNT),
            exchange.orders_since(ACCOUNT, 0),
            exchange.fills_since(ACCOUNT, 0),
            exchange.balance(ACCOUNT).cash,
            exchange.book.next_order,
            exchange.book.next_execution,
        )


MANNERS = st.builds(
    Capabilities, replace_id=st.sampled_from(ReplaceId), replace_quantity=st.sampled_from(ReplaceQuantity)
)
RUNS = {"seed": st.integers(0, 2**32), "capabilities": MANNERS, "max_fill": st.sampled_from((None, 1, 2))}


def play(folder: str, seed: int, capabilities: Capabilities, max_fill: int | None, steps: int = 150) -> World:
    world = World(Path(folder) / "book", capabilities, max_fill)
    dice = random.Random(seed)
    for _ in range(steps):
        world.step(dice)
    return world


@settings(max_examples=60)
@given(**RUNS)
def test_positions_and_cash_are_what_the_fills_make_of_them(
    seed: int, capabilities: Capabilities, max_fill: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = play(folder, seed, capabilities, max_fill)
        held = {row.symbol: row.quantity for row in world.exchange.positions(ACCOUNT)}
        paid = EQUITY
        for instrument in INSTRUMENTS:
            own = [fill for fill in world.fills() if fill.symbol == instrument.symbol]
            position = sum((fill.quantity * fill.side.sign for fill in own), Decimal(0))
            assert held.get(instrument.symbol, Decimal(0)) == position
            spent = sum((fill.quantity * fill.side.sign * fill.price for fill in own), Decimal(0))
            mark = world.exchange.last_price(instrument.symbol) or Decimal(0)
            paid += (position * mark - spent) * instrument.point_value
            paid -= sum((fill.quantity for fill in own), Decimal(0)) * FEE
        # Average prices are divided, so the last digits of money may differ.
        assert abs(world.exchange.balance(ACCOUNT).equity - paid) < Decimal("1e-15")


@settings(max_examples=60)
@given(**RUNS)
def test_orders_never_overfill_and_their_fills_add_up(
    seed: int, capabilities: Capabilities, max_fill: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = play(folder, seed, capabilities, max_fill)
        filled: dict[BrokerOrderId, Decimal] = {}
        seen: dict[BrokerOrderId, Decimal] = {}
        final: dict[BrokerOrderId, BrokerStatus] = {}
        for event in world.events:
            match event:
                case FillReported(fill):
                    assert fill.quantity > 0
                    filled[fill.broker_id] = filled.get(fill.broker_id, Decimal(0)) + fill.quantity
                    assert fill.cumulative == filled[fill.broker_id]
                    assert fill.broker_id not in final
                case OrderReported(order):
                    assert order.filled >= seen.get(order.broker_id, Decimal(0))
                    assert order.filled == filled.get(order.broker_id, Decimal(0))
                    assert order.filled <= order.terms.quantity
                    assert order.broker_id not in final
                    seen[order.broker_id] = order.filled
                    if order.status.is_final:
                        final[order.broker_id] = order.status
                case _:
                    pass
        for order in world.exchange.orders_since(ACCOUNT, 0):
            assert order.filled == filled.get(order.broker_id, Decimal(0))
            assert (order.status is BrokerStatus.FILLED) == (order.filled == order.terms.quantity)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), max_fill=st.sampled_from((None, 1, 2)))
def test_legs_together_never_exit_more_than_their_entry_filled(seed: int, max_fill: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "book", Capabilities(), max_fill)
        dice = random.Random(seed)
        for _ in range(150):
            world.step(dice, NO_REPLACE)
            for entry in world.exchange.book.orders.values():
                legs = [world.exchange.book.orders[leg].record for leg in entry.legs]
                exited = sum((leg.filled for leg in legs), Decimal(0))
                assert exited <= entry.record.filled
                for leg in legs:
                    if leg.status in (BrokerStatus.WORKING, BrokerStatus.PARTIALLY_FILLED):
                        assert leg.terms.quantity - leg.filled == entry.record.filled - exited
                    if not entry.record.filled:
                        assert leg.status in (BrokerStatus.HELD, BrokerStatus.CANCELLED, BrokerStatus.REJECTED)


@settings(max_examples=40)
@given(**RUNS, faults=st.booleans())
def test_a_restart_at_any_point_changes_nothing(
    seed: int, capabilities: Capabilities, max_fill: int | None, faults: bool
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        steady = World(Path(one) / "book", capabilities, max_fill)
        killed = World(Path(two) / "book", capabilities, max_fill)
        same, again = random.Random(seed), random.Random(seed)
        kills = random.Random(seed + 1)
        for _ in range(100):
            steady.step(same)
            killed.step(again)
            if faults and steady.fills() and kills.random() < 0.1:
                symbol = INSTRUMENTS[0].symbol
                for world in (steady, killed):
                    out_of_band.make_stops_inert(world.exchange, ACCOUNT, symbol, world.now)
                    if world.exchange.last_price(symbol) is not None:
                        out_of_band.move_position(world.exchange, ACCOUNT, symbol, Decimal(-1), world.now)
            if kills.random() < 0.2:
                # A price that only ticks have moved is not kept; a feed tells it again before anything else happens.
                marks = dict(killed.exchange.book.marks)
                killed.open()
                for mark in marks.values():
                    killed.exchange.book.marks[mark.symbol] = mark
                killed.exchange.book.at = max(killed.exchange.book.at, steady.exchange.last_time)
            assert killed.told() == steady.told()
        assert killed.events == steady.events


def test_the_walk_reaches_every_kind_of_event() -> None:
    """The properties above would be empty if nothing ever filled, was cancelled, expired or was refused."""
    with tempfile.TemporaryDirectory() as folder:
        world = play(folder, 1, Capabilities(), 2, steps=600)
        streamed = [event.order for event in world.events if isinstance(event, OrderReported)]
        kept = world.exchange.orders_since(ACCOUNT, 0)
        reached = {row.status for row in (*streamed, *kept)}
        assert reached == set(BrokerStatus) - {BrokerStatus.UNKNOWN}
        legs = {row.status for row in streamed if row.parent is not None}
        assert legs >= {BrokerStatus.HELD, BrokerStatus.WORKING, BrokerStatus.FILLED, BrokerStatus.CANCELLED}
        assert len(world.fills()) > 100
        assert any(row.reason == "the other leg filled" for row in streamed)
        assert any(row.reason.startswith("margin") for row in kept)

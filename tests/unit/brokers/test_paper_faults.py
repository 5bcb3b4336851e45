"""Every fault that an operator can ask for does what its sentence says."""

from __future__ import annotations

from decimal import Decimal

import pytest

from brokers.paper.faults import FEED_FAULTS, PaperFaults
from engine.domain.broker import BrokerStatus, SubmitRequest
from engine.domain.ids import ClientOrderId, Symbol
from engine.domain.market import Timeframe
from engine.domain.orders import Side
from engine.errors import AnswerLost, QueryFailed
from tests.unit.brokers.paper_desk import ACCOUNT, SYMBOL, terms
from tests.unit.brokers.tape_desk import Wire

NAMES = {
    "cancel-out-of-band", "margin-desk", "foreign-order", "lose-answer", "lose-request", "duplicate-event", "drop-fill",
    "delay-answers", "disconnect-feed", "disconnect-account", "replace-candle", "delay-history", "refuse-next",
    "refuse-stops", "inert-stop", "fail-queries", "bust-fill", "partial-fills", "next-order-slow",
}  # fmt: skip


class Feed:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def disconnect(self, seconds: float) -> None:
        self.told.append(("disconnect", seconds))

    def delay_history(self, seconds: float) -> None:
        self.told.append(("delay", seconds))

    def replace_candle(self, symbol: Symbol | None, timeframe: Timeframe) -> str:
        self.told.append(("replace", symbol, str(timeframe)))
        return "replaced"


class Faulty(Wire):
    """The wire, its faults, and a position of three with a stop under it."""

    def __init__(self) -> None:
        super().__init__()
        self.feed = Feed()
        self.faults = PaperFaults(ACCOUNT, self.exchange, self.link, self.clock, self.feed)
        self.count = 0

    def inject(self, name: str, argument: str = "", symbol: Symbol | None = None) -> str:
        return self.faults.inject(name, symbol, argument)

    def buy(self, side: Side = Side.BUY, quantity: int = 1, **prices: object) -> object:
        self.count += 1
        request = SubmitRequest(ClientOrderId(f"f{self.count}"), terms(side, quantity, **prices))
        return self.exchange.submit(ACCOUNT, request, self.clock.now())

    async def trade(self) -> None:
        await self.start()
        self.tick(100)
        self.buy(quantity=3)
        self.buy(Side.SELL, 3, stop=95)
        await self.wait(1)
        self.events.clear()

    @property
    def position(self) -> Decimal:
        return next((row.quantity for row in self.exchange.positions(ACCOUNT)), Decimal(0))


def test_the_kinds_are_as_agreed_and_each_can_be_called() -> None:
    wire = Faulty()
    assert {kind.name for kind in wire.faults.kinds()} == NAMES
    assert all(kind.title and kind.help for kind in wire.faults.kinds())
    assert all(bool(kind.argument) == bool(kind.default) for kind in wire.faults.kinds())
    without = PaperFaults(ACCOUNT, wire.exchange, wire.link, wire.clock)
    assert {kind.name for kind in without.kinds()} == NAMES - FEED_FAULTS
    with pytest.raises(ValueError, match="no fault"):
        wire.inject("earthquake")


@pytest.mark.parametrize(
    "name", ["cancel-out-of-band", "margin-desk", "foreign-order", "inert-stop", "bust-fill", "disconnect-account"]
)
def test_what_cannot_act_now_says_why(name: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z].+[a-z]$"):
        Faulty().inject(name)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("delay-answers", "soon"),
        ("fail-queries", "-1"),
        ("partial-fills", "NaN"),
        ("refuse-next", "0"),
        ("refuse-stops", "1.5"),
        ("delay-history", "Infinity"),
        ("replace-candle", "7q"),
        ("margin-desk", "0"),
    ],
)
async def test_a_senseless_argument_is_refused(name: str, argument: str) -> None:
    wire = Faulty()
    await wire.trade()
    with pytest.raises(ValueError, match=r"must|between|timeframe"):
        wire.inject(name, argument)


async def test_the_margin_desk_takes_units_off_either_side() -> None:
    wire = Faulty()
    await wire.trade()
    assert "from 3 to 1" in wire.inject("margin-desk", "2")
    assert "from 1 to 2" in wire.inject("margin-desk", "-1", SYMBOL)
    wire.inject("margin-desk", "4")
    assert wire.position == -2
    wire.inject("margin-desk")
    assert wire.position == -1
    await wire.wait(1)
    assert not wire.events


async def test_the_broker_cancels_and_somebody_else_orders() -> None:
    wire = Faulty()
    await wire.trade()
    wire.inject("foreign-order", "2")
    wire.inject("cancel-out-of-band")
    (foreign,) = wire.exchange.open_orders(ACCOUNT)
    assert foreign.client_id is None
    assert (foreign.terms.quantity, foreign.terms.limit) == (Decimal(2), Decimal("98.00"))
    await wire.wait(1)
    assert [event.order.status for event in wire.orders()] == [BrokerStatus.WORKING, BrokerStatus.CANCELLED]


async def test_refusals_and_inert_stops() -> None:
    wire = Faulty()
    await wire.trade()
    wire.inject("refuse-stops")
    wire.inject("refuse-next", "1")
    refusals = [str(wire.buy()), str(wire.buy(Side.SELL, stop=90)), str(wire.buy(quantity=1))]
    assert ["Refused" in answer for answer in refusals] == [True, True, False]
    assert wire.inject("inert-stop").startswith("1 ")
    wire.tick(80)
    assert wire.position == 4


async def test_small_parts_until_lifted() -> None:
    wire = Faulty()
    await wire.trade()
    wire.inject("partial-fills", "2")
    wire.buy(quantity=5)
    assert wire.position == 5
    wire.inject("partial-fills", "0")
    wire.tick(100)
    assert wire.position == 8


async def test_a_bust_is_streamed() -> None:
    wire = Faulty()
    await wire.trade()
    wire.inject("bust-fill")
    await wire.wait(1)
    assert wire.position == 0
    assert [event.fill.revision for event in wire.fills()] == [1]


async def test_the_wire_faults_strike_once() -> None:
    wire = Faulty()
    await wire.trade()
    for name in ("lose-answer", "lose-request"):
        wire.inject(name)
        wire.count += 1
        request = SubmitRequest(ClientOrderId(f"w{wire.count}"), terms(limit=90))
        with pytest.raises(AnswerLost):
            await wire.do(wire.account.submit(request))
    assert sum(row.terms.limit == 90 for row in wire.exchange.open_orders(ACCOUNT)) == 1
    await wire.wait(1)
    wire.events.clear()
    wire.inject("duplicate-event")
    wire.inject("drop-fill")
    wire.tick(90)
    await wire.wait(1)
    # The stop's fill is lost, the limit's, which comes next, is told twice.
    assert [event.fill.quantity for event in wire.fills()] == [1, 1]


async def test_times_are_kept() -> None:
    wire = Faulty()
    await wire.trade()
    wire.inject("fail-queries", "10")
    with pytest.raises(QueryFailed):
        await wire.do(wire.account.positions())
    await wire.wait(10)
    assert (await wire.do(wire.account.positions())).rows
    wire.inject("disconnect-account", "7")
    await wire.wait(8)
    assert wire.links() == ["reconnecting", "up"]
    wire.inject("delay-answers", "2")
    late = wire.spawn(wire.account.balance())
    await wire.wait(1.9)
    assert not late.done()
    await wire.wait(60)
    await wire.do(wire.account.balance(), 0.5)
    wire.inject("next-order-slow", "5")
    slow = wire.spawn(wire.account.submit(SubmitRequest(ClientOrderId("slow"), terms(limit=90))))
    await wire.wait(4.9)
    assert not slow.done()
    await wire.wait(1)
    assert slow.done()


def test_the_feed_is_told() -> None:
    wire = Faulty()
    wire.inject("disconnect-feed")
    wire.inject("delay-history", "45")
    wire.inject("replace-candle", symbol=SYMBOL)
    assert wire.feed.told == [("disconnect", 30.0), ("delay", 45.0), ("replace", SYMBOL, "1m")]

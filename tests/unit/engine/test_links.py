"""The shared link of an account: which answers of a broker are answers, and which are old pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

import pytest

from brokers.paper.account import PaperAccount
from engine.clock import TapeClock
from engine.domain.broker import (
    AccountEvent,
    BrokerPosition,
    Capabilities,
    LinkChanged,
    LinkState,
    Report,
    SubmitAnswer,
)
from engine.domain.ids import AccountId, BrokerOrderId, Millis, Symbol
from engine.domain.settings import Numbers
from engine.errors import LockedOut
from engine.links import AccountLink
from engine.ports import Timer
from engine.session import LockOut

START = 1_767_603_600_123
HELD = (BrokerPosition(Symbol("ESZ6"), Decimal(1), Decimal(5000)),)


class _Broker(PaperAccount):
    """Answers each question about positions with the next of `pictures`, by the time on its books."""

    def __init__(self, pictures: list[Millis]) -> None:
        self.account = AccountId("paper")
        self.capabilities = Capabilities()
        self.pictures = pictures

    async def start(self, sink: Callable[[AccountEvent], None]) -> None:
        sink(LinkChanged(LinkState.UP, ""))

    async def positions(self) -> Report[BrokerPosition]:
        return Report(HELD, self.pictures.pop(0))


def _link(broker: _Broker, clock: TapeClock) -> AccountLink:
    return AccountLink(
        broker,
        clock,
        Numbers(),
        on_event=lambda event: None,
        on_positions=lambda report, begun: None,
        on_suspicion=lambda reason, orders: None,
        on_link=lambda state, reason: None,
        lost_to=lambda: None,
    )


@pytest.mark.parametrize("ours", [0, -120_000])
@pytest.mark.parametrize(
    ("second", "waited", "believed"),
    [(5_010, 5_000, True), (3, 5_000, False), (3, 0, True), (5_000, 5_010, True)],
    ids=["its time has gone on", "the same picture again", "asked in the same moment", "a little behind us"],
)
async def test_a_picture_that_came_before_is_no_answer_whatever_our_clock_says(
    ours: Millis, second: Millis, waited: Millis, believed: bool
) -> None:
    """The machine's time may have been set back: then every picture looks younger than the question."""
    clock = TapeClock(START + ours)
    broker = _Broker([START + 3, START + second])
    link = _link(broker, clock)
    await link.start()
    assert await link.read_positions() is not None
    await clock.advance(START + ours + waited)
    assert (await link.read_positions() is not None) is believed


async def test_the_same_second_again_is_no_answer_once_a_second_has_passed() -> None:
    clock = TapeClock(START - 60_000)
    second = START - START % 1_000
    broker = _Broker([second, second, second])
    link = _link(broker, clock)
    await link.start()
    assert await link.read_positions() is not None
    await clock.advance(clock.now() + 900)
    assert await link.read_positions() is not None
    await clock.advance(clock.now() + 200)
    assert await link.read_positions() is None


class _SetBack(TapeClock):
    """A clock that shows `behind` less than the time that has passed."""

    behind: Millis = 0

    def now(self) -> Millis:
        return super().now() - self.behind

    def call_at(self, at: Millis, call: Callable[[], None]) -> Timer:
        return super().call_at(at + self.behind, call)


class _LocksOut(_Broker):
    """Does not listen for five seconds."""

    async def cancel(self, broker_id: BrokerOrderId) -> SubmitAnswer:
        raise LockedOut("too many requests", retry_after_seconds=5.0)


async def test_a_lock_out_ends_though_the_clock_was_set_back_in_it() -> None:
    """Whoever waited for the line was never woken: an exit stayed until the link broke and came back."""
    clock = _SetBack(START)
    link = AccountLink(
        _LocksOut([]),
        clock,
        Numbers(),
        on_event=lambda event: None,
        on_positions=lambda report, begun: None,
        on_suspicion=lambda reason, orders: None,
        on_link=lambda state, reason: None,
        lost_to=lambda: None,
    )
    await link.start()
    assert isinstance(await link.cancel(BrokerOrderId("B")), LockOut)
    waits = asyncio.ensure_future(link.until_up())
    clock.behind = 2_000
    after = []
    for passed in (5_500, 7_500):
        await clock.advance(START + passed)
        after.append((link.locked_until is None, waits.done()))
    assert after == [(False, False), (True, True)]

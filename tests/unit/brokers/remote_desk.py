"""An exchange process's server and its clients in one loop, over a real socket, on one tape.

The tape moves in small steps; after each a ping goes there and back on every line, behind all that was sent before.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from brokers.paper import wire
from brokers.paper.door import listening
from brokers.paper.exchange import PaperExchange
from brokers.paper.line import Line
from brokers.paper.listing import Listing
from brokers.paper.market_data import SyntheticSource
from brokers.paper.options import AccountTerms, ExchangeOptions
from brokers.paper.remote import RemotePaperAccount
from brokers.paper.server import ExchangeServer
from brokers.paper.synthetic import SyntheticMarket
from engine.clock import TapeClock
from engine.domain.broker import AccountEvent, Capabilities, FillReported, LinkChanged, LinkState, OrderReported
from engine.domain.ids import AccountId
from engine.domain.market import Tick
from engine.periodic import Tasks
from tests.unit.brokers.paper_desk import ACCOUNT, ES, START, SYMBOL

T = TypeVar("T")
STEP_MS = 50


async def barrier(clock: TapeClock, *lines: Line) -> None:
    """Return when everything written so far, either way, was read."""
    await clock.settle()
    for line in lines:
        if line.state is LinkState.UP:
            await line.ask(wire.Ping(), type(None))
    await clock.settle()


class Place:
    """A listening server in a directory of its own; the market stands still unless told."""

    def __init__(self, listing: Listing, clock: TapeClock, source: SyntheticSource, exchange: PaperExchange) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sxt-")
        self.path = Path(self._folder.name) / "exchange.sock"
        self.listing = listing
        self.requests: list[wire.Order] = []
        self.server = ExchangeServer(
            listing, exchange, source, clock, requests=lambda account, call: self.requests.append(call)
        )
        self._parts = (listing, exchange, source, clock)

    async def open(self, *, market: bool) -> None:
        await self.server.start(listening(self.path))
        if not market:
            await self.server.hold_market(True)

    async def open_again(self) -> None:
        """Another life of the exchange at the same place."""
        self.server = ExchangeServer(*self._parts)
        await self.open(market=False)

    async def close(self) -> None:
        await self.server.stop()
        self._folder.cleanup()


class RemoteWire:
    """What tests.unit.brokers.tape_desk.Wire is, with the account behind a socket."""

    def __init__(
        self,
        capabilities: Capabilities | None = None,
        *,
        options: ExchangeOptions | None = None,
        latency_ms: int = 12,
    ) -> None:
        self.clock = TapeClock(START)
        manners = capabilities or Capabilities()
        terms = AccountTerms(account=ACCOUNT, capabilities=manners)
        self.exchange = PaperExchange([ES], [terms], options or ExchangeOptions(slippage_ticks=0))
        listing = Listing(instruments=(ES,), accounts=(terms,), latency_ms={ACCOUNT: latency_ms})
        source = SyntheticSource(
            SyntheticMarket([ES], 1, START), [ES], self.clock, self.exchange.on_tick, past_minutes=1
        )
        self.place = Place(listing, self.clock, source, self.exchange)
        self.account = self.client(ACCOUNT, manners)
        self.link = self.account.line
        self.events: list[AccountEvent] = []
        self.tasks = Tasks("test", lambda name, error: None)

    def client(self, account: AccountId, manners: Capabilities) -> RemotePaperAccount:
        return RemotePaperAccount(account, "USD", manners, [ES], self.place.path, self.clock, Random(5))

    async def start(self) -> None:
        await self.place.open(market=False)
        await self.account.start(self.events.append)

    async def stop(self) -> None:
        await self.account.stop()
        await self.tasks.close()
        await self.place.close()

    def tick(self, price: int | str) -> None:
        self.exchange.on_tick(Tick(SYMBOL, self.clock.now(), Decimal(price), Decimal(1)))

    async def wait(self, seconds: float) -> None:
        end = self.clock.now() + round(seconds * 1000)
        await barrier(self.clock, self.link)
        while self.clock.now() < end:
            await self.clock.advance(min(end, self.clock.now() + STEP_MS))
            await barrier(self.clock, self.link)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self.tasks.spawn(work, "call")

    async def do(self, work: Coroutine[Any, Any, T], seconds: float = 1.0) -> T:
        task = self.spawn(work)
        await self.wait(seconds)
        assert task.done(), "no answer in time"
        return await task

    def links(self) -> list[str]:
        return [str(event.state) for event in self.events if isinstance(event, LinkChanged)]

    def fills(self) -> list[FillReported]:
        return [event for event in self.events if isinstance(event, FillReported)]

    def orders(self) -> list[OrderReported]:
        return [event for event in self.events if isinstance(event, OrderReported)]

"""A paper account behind its link on a tape: time moves only when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from decimal import Decimal
from random import Random
from typing import Any, TypeVar

from brokers.paper.account import PaperAccount
from brokers.paper.exchange import PaperExchange
from brokers.paper.link import LinkOptions, PaperLink
from brokers.paper.options import AccountTerms, ExchangeOptions
from engine.clock import TapeClock
from engine.domain.broker import AccountEvent, Capabilities, FillReported, LinkChanged, OrderReported
from engine.domain.market import Tick
from engine.periodic import Tasks
from tests.unit.brokers.paper_desk import ACCOUNT, ES, START, SYMBOL

T = TypeVar("T")


class Wire:
    """Exchange, link and account on a TapeClock; `do` runs a call while the tape moves."""

    def __init__(
        self,
        capabilities: Capabilities | None = None,
        link: LinkOptions | None = None,
        options: ExchangeOptions | None = None,
    ) -> None:
        self.clock = TapeClock(START)
        account = AccountTerms(account=ACCOUNT, capabilities=capabilities or Capabilities())
        self.exchange = PaperExchange([ES], [account], options or ExchangeOptions(slippage_ticks=0))
        self.link = PaperLink(ACCOUNT, self.exchange, self.clock, Random(7), link)
        self.account = PaperAccount(ACCOUNT, self.exchange, self.link)
        self.events: list[AccountEvent] = []
        self.tasks = Tasks("test", lambda name, error: None)

    async def start(self) -> None:
        await self.account.start(self.events.append)

    def tick(self, price: int | str) -> None:
        self.exchange.on_tick(Tick(SYMBOL, self.clock.now(), Decimal(price), Decimal(1)))

    async def wait(self, seconds: float) -> None:
        """Let the tape move that far."""
        await self.clock.advance(self.clock.now() + round(seconds * 1000))
        await self.clock.settle()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self.tasks.spawn(work, "call")

    async def do(self, work: Coroutine[Any, Any, T], seconds: float = 1.0) -> T:
        """The answer, which must come within that much tape."""
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

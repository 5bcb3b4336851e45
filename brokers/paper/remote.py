"""A paper account and its market in another process: the ports over a Line.

    RemotePaperAccount(account, currency, capabilities, instruments, path, clock, rng)     AccountManager
    RemoteSource(instruments, path, clock, rng)                                            MarketDataSource

What can go wrong on the wire is in line.py; what the exchange can be told to show, its own process does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from brokers.paper import wire
from brokers.paper.checks import proven
from brokers.paper.line import Line
from engine.domain.broker import (
    AccountEvent,
    Balance,
    BrokerFill,
    BrokerOrder,
    BrokerPosition,
    Capabilities,
    FillsKind,
    IdMode,
    LinkChanged,
    LinkState,
    Report,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import History, Tick, Timeframe
from engine.domain.orders import Terms
from engine.errors import AnswerLost, QueryFailed
from engine.ports import Clock, Rng

Row = TypeVar("Row")
TickSink = Callable[[Tick], None]


class RemotePaperAccount:
    """AccountManager over an exchange process; a refusal is its proof, but for a duplicate client id."""

    def __init__(
        self,
        account: AccountId,
        currency: str,
        capabilities: Capabilities,
        instruments: Iterable[Instrument],
        path: Path,
        clock: Clock,
        rng: Rng,
    ) -> None:
        self.account = account
        self.capabilities = capabilities
        self._sink: Callable[[AccountEvent], None] = lambda event: None
        hello = wire.Hello(
            version=wire.VERSION,
            account=wire.Listed(account=account, currency=currency, capabilities=capabilities),
            instruments=tuple(instruments),
        )
        self.line = Line(path, hello, clock, rng, on_link=self._link, on_event=lambda event: self._sink(event))

    def _link(self, state: LinkState, reason: str) -> None:
        self._sink(LinkChanged(state, reason))

    async def start(self, sink: Callable[[AccountEvent], None]) -> None:
        """Connect and stay connected. Raises LinkDown when no exchange answers, or it turned the desk away."""
        self._sink = sink
        await self.line.open()

    async def stop(self) -> None:
        """Disconnect."""
        self._sink = lambda event: None
        await self.line.close()

    async def submit(self, request: SubmitRequest) -> SubmitAnswer:
        """Send once. Raises LinkDown, AnswerLost."""
        return proven(await self._command(wire.Submit(request)))

    async def replace(self, broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        """Change a working order once. Raises LinkDown, AnswerLost."""
        return await self._command(wire.Replace(broker_id, client_id, terms))

    async def cancel(self, broker_id: BrokerOrderId) -> SubmitAnswer:
        """Ask for a cancel once. Raises LinkDown, AnswerLost."""
        return await self._command(wire.Cancel(broker_id))

    async def _command(self, call: wire.Order) -> SubmitAnswer:
        outcome = await self.line.command(call)
        try:
            return outcome.answer()
        except ValueError as error:
            raise AnswerLost(str(error)) from None

    async def positions(self) -> Report[BrokerPosition]:
        """Open positions. Raises QueryFailed."""
        return await self._ask(wire.AskAccount(wire.Question.POSITIONS), Report[BrokerPosition])

    async def open_orders(self) -> Report[BrokerOrder]:
        """Orders that may still fill. Raises QueryFailed."""
        return await self._ask(wire.AskAccount(wire.Question.OPEN_ORDERS), Report[BrokerOrder])

    async def orders_since(self, since: Millis) -> Report[BrokerOrder]:
        """Orders submitted or changed at or after `since`. Raises QueryFailed."""
        return await self._ask(wire.OrdersSince(since), Report[BrokerOrder])

    async def order_by_client_id(self, client_id: ClientOrderId) -> Report[BrokerOrder]:
        """Orders with this client id. Raises QueryFailed, always so where the account cannot be asked this."""
        if not self.capabilities.find_by_client_id or self.capabilities.id_mode is IdMode.NONE:
            raise QueryFailed("this broker does not find orders by client id")
        return await self._ask(wire.OrderByClientId(client_id), Report[BrokerOrder])

    async def fills_since(self, since: Millis) -> Report[BrokerFill]:
        """Executions at or after `since`. Raises QueryFailed, always so where fills are cumulative."""
        if self.capabilities.fills is FillsKind.CUMULATIVE:
            raise QueryFailed("this broker reports cumulative quantities, not executions")
        return await self._ask(wire.FillsSince(since), Report[BrokerFill])

    async def balance(self) -> Report[Balance]:
        """Money now. Raises QueryFailed."""
        return await self._ask(wire.AskAccount(wire.Question.BALANCE), Report[Balance])

    async def _ask(self, call: wire.Call, kind: type[Report[Row]]) -> Report[Row]:
        try:
            return await self.line.ask(call, kind)
        except ValueError as error:
            raise QueryFailed(str(error)) from None


class RemoteSource:
    """MarketDataSource over an exchange process: its ticks as they trade, its record as history."""

    name = "exchange"

    def __init__(self, instruments: Iterable[Instrument], path: Path, clock: Clock, rng: Rng) -> None:
        listed = tuple(instruments)
        self._sinks: dict[Symbol, list[TickSink]] = {instrument.symbol: [] for instrument in listed}
        self._on_link: Callable[[LinkState, str], None] = lambda state, reason: None
        self._stopping = asyncio.Event()
        hello = wire.Hello(version=wire.VERSION, instruments=listed)
        self.line = Line(
            path, hello, clock, rng, on_link=lambda state, reason: self._on_link(state, reason), on_tick=self._traded
        )

    async def start(self, on_link: Callable[[LinkState, str], None]) -> None:
        """Connect and stay connected. Raises LinkDown when no exchange answers, or it turned the desk away."""
        self._on_link = on_link
        self._stopping.clear()
        await self.line.open()

    async def stop(self) -> None:
        """End `run`; no sink is called afterwards."""
        self._stopping.set()
        self._on_link = lambda state, reason: None
        await self.line.close()

    def subscribe(self, symbol: Symbol, sink: TickSink) -> None:
        """Call `sink` for each tick of `symbol`. Raises KeyError if unknown."""
        self._sinks[symbol].append(sink)

    def _traded(self, tick: Tick) -> None:
        for sink in self._sinks.get(tick.symbol, ()):
            sink(tick)

    async def history(self, symbol: Symbol, timeframe: Timeframe, count: int, until: Millis) -> History:
        """The last closed candles and the forming one, as the exchange's record stands. Raises QueryFailed."""
        try:
            return await self.line.ask(wire.AskHistory(symbol, timeframe, count, until), History)
        except ValueError as error:
            raise QueryFailed(str(error)) from None

    async def run(self) -> None:
        """Ticks are delivered as they come; this ends when stopped."""
        await self._stopping.wait()


async def reach(
    accounts: Iterable[wire.Listed], instruments: Iterable[Instrument], path: Path, clock: Clock, rng: Rng
) -> str:
    """Say hello as each account would, and leave; what the exchange says it is. Raises LinkDown with its reason."""
    listed = tuple(instruments)
    said = ""
    for account in accounts:
        hello = wire.Hello(version=wire.VERSION, account=account, instruments=listed)
        line = Line(path, hello, clock, rng, on_link=lambda state, reason: None)
        try:
            await line.open()
            said = line.welcome.book if line.welcome is not None else ""
        finally:
            await line.close()
    return said

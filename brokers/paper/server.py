"""The paper exchange as a process of its own: one exchange, its market, its book, and any number of clients.

ExchangeServer(listing, exchange, market, clock, rng, requests=None)

Each connection with an account gets a PaperLink of its own, so what a wire can do to requests and events is done here,
and the fault commands act here. A client that disappears takes nothing with it: what it had sent is executed.
`requests` is told every request of an account in the order of arrival, before anything is done about it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, assert_never

from msgspec import Raw

from brokers.paper import wire
from brokers.paper.account import PaperAccount
from brokers.paper.exchange import PaperExchange
from brokers.paper.faults import PaperFaults
from brokers.paper.link import LinkOptions, PaperLink
from brokers.paper.listing import Listing, differs
from brokers.paper.market_data import SyntheticSource
from engine.domain.broker import AccountEvent, LinkChanged, LinkState
from engine.domain.ids import AccountId
from engine.domain.market import Tick
from engine.errors import AnswerLost, LinkDown, QueryFailed
from engine.periodic import Tasks, cancel_and_wait
from engine.ports import Clock

log = logging.getLogger(__name__)
Recorder = Callable[[AccountId, wire.Order], None]


class _Client:
    """One connection: who it is, what it may ask, and what is pushed to it."""

    def __init__(self, server: ExchangeServer) -> None:
        self._server = server
        self.wire: wire.Wire[wire.FromClient] = wire.Wire(
            wire.client_frames(), wire.LARGEST_FROM_CLIENT, self._on_frame, self._on_end
        )
        self._account: PaperAccount | None = None
        self._link: PaperLink | None = None
        self._faults: PaperFaults | None = None
        self.symbols: frozenset[str] = frozenset()
        self._greeted = False

    def _on_frame(self, frame: wire.FromClient) -> None:
        match frame:
            case wire.Hello():
                self._greet(frame)
            case wire.Ask(number, call):
                if not self._greeted:
                    self.wire.cut("it did not say hello")
                    return
                if self._account is not None and isinstance(call, wire.Order):
                    self._server.received(self._account.account, call)
                self._server.tasks.launch(self._serve(number, call), "request")
            case _:
                assert_never(frame)

    def _greet(self, hello: wire.Hello) -> None:
        reason = self._server.objection(hello) if not self._greeted else "it said hello twice"
        if reason is not None:
            self.wire.send(wire.TurnedAway(reason))
            self.wire.close()
            return
        self._greeted = True
        self.wire.send(self._server.welcome())
        if hello.account is None:
            self.symbols = frozenset(instrument.symbol for instrument in hello.instruments)
            self._server.feeds.append(self)
            if self._server.feed_said.state is not LinkState.UP:
                self.wire.send(self._server.feed_said)
            return
        account = hello.account.account
        self._link = link = self._server.link(account)
        self._account = PaperAccount(account, self._server.exchange, link)
        self._faults = self._server.faults(account, link)
        opened = False

        def tell(event: AccountEvent) -> None:
            # That the link is up is what the welcome says.
            if opened or not isinstance(event, LinkChanged) or event.state is not LinkState.UP:
                self.wire.send(wire.Told(event))

        link.open(tell)
        opened = True

    def _on_end(self, why: str) -> None:
        if self._link is not None:
            self._link.close()
        self._server.forget(self)
        log.info("a client left: %s", why)

    async def _serve(self, number: int, call: wire.Call) -> None:
        try:
            value = await self._result(call)
        except LinkDown as error:
            self.wire.send(wire.Failure(number, wire.Why.NOT_SENT, str(error)))
        except AnswerLost as error:
            self.wire.send(wire.Failure(number, wire.Why.LOST, str(error)))
        except QueryFailed as error:
            self.wire.send(wire.Failure(number, wire.Why.FAILED, str(error)))
        except ValueError as error:
            self.wire.send(wire.Failure(number, wire.Why.REFUSED, str(error)))
        else:
            self.wire.send(wire.Answer(number, Raw(wire.ENCODER.encode(value))))

    async def _result(self, call: wire.Call) -> Any:
        match call:
            case wire.Ping():
                return None
            case wire.Halt(hold):
                await self._server.hold_market(hold)
                return None
            case wire.AskHistory(symbol, timeframe, count, until):
                return await self._server.market.history(symbol, timeframe, count, until)
            case _:
                pass
        if self._account is None or self._faults is None:
            raise ValueError("this connection names no account")
        account = self._account
        match call:
            case wire.Submit(request):
                return wire.Outcome.of(await account.submit(request))
            case wire.Replace(broker_id, client_id, terms):
                return wire.Outcome.of(await account.replace(broker_id, client_id, terms))
            case wire.Cancel(broker_id):
                return wire.Outcome.of(await account.cancel(broker_id))
            case wire.AskAccount(question):
                return await _question(account, question)
            case wire.OrdersSince(since):
                return await account.orders_since(since)
            case wire.FillsSince(since):
                return await account.fills_since(since)
            case wire.OrderByClientId(client_id):
                return await account.order_by_client_id(client_id)
            case wire.Inject(name, contract, argument):
                return self._faults.inject(name, contract, argument)
            case _:
                assert_never(call)


def _question(account: PaperAccount, question: wire.Question) -> Awaitable[Any]:
    match question:
        case wire.Question.POSITIONS:
            return account.positions()
        case wire.Question.OPEN_ORDERS:
            return account.open_orders()
        case wire.Question.BALANCE:
            return account.balance()
        case _:
            assert_never(question)


class ExchangeServer:
    """Listens, keeps the market going, and serves."""

    def __init__(
        self,
        listing: Listing,
        exchange: PaperExchange,
        market: SyntheticSource,
        clock: Clock,
        *,
        book: str = "",
        requests: Recorder | None = None,
    ) -> None:
        self.exchange = exchange
        self.market = market
        self.tasks = Tasks("paper exchange", lambda name, error: None)
        self.feeds: list[_Client] = []
        self.received: Recorder = requests or (lambda account, call: None)
        self._listing = listing
        self._clock = clock
        self._book = book
        self.clients: list[_Client] = []
        self._door: asyncio.Server | None = None
        self._trading: asyncio.Task[None] | None = None
        self._wires = 0
        self.feed_said = wire.FeedSaid(LinkState.DOWN, "the market has not opened yet")

    # ------------------------------------------------------------------------------------------------ life

    async def start(self, door: socket.socket) -> None:
        """Open the market and serve on this bound socket."""
        for symbol in self.exchange.instruments:
            self.market.subscribe(symbol, self._traded)
        await self.market.start(self._feed_said)
        await self.hold_market(False)
        self._door = await asyncio.get_running_loop().create_unix_server(self._accept, sock=door)

    async def stop(self) -> None:
        """Close the door, end every connection, and write the whole book, last prices included."""
        if self._door is not None:
            self._door.close()
        for client in tuple(self.clients):
            client.wire.close()
        await self.market.stop()
        await self.tasks.close()
        self.exchange.close()

    def _accept(self) -> asyncio.Protocol:
        client = _Client(self)
        self.clients.append(client)
        return client.wire

    def forget(self, client: _Client) -> None:
        """A connection ended."""
        for kept in (self.clients, self.feeds):
            if client in kept:
                kept.remove(client)

    async def hold_market(self, hold: bool) -> None:
        """Stop the trades, or let them come again (those of the time between at once)."""
        trading, self._trading = self._trading, None
        if trading is not None:
            await cancel_and_wait(trading)
        if not hold:
            self._trading = self.tasks.spawn(self.market.run(), "market")

    # --------------------------------------------------------------------------------------------- clients

    def objection(self, hello: wire.Hello) -> str | None:
        """Why this client must not trade here: it speaks otherwise, or believes other terms than those listed."""
        if hello.version != wire.VERSION:
            return f"this exchange speaks version {wire.VERSION}, the desk version {hello.version}"
        return differs(self._listing, hello)

    def welcome(self) -> wire.Welcome:
        """What a client that is let in is told."""
        return wire.Welcome(
            version=wire.VERSION,
            book=self._book,
            accounts=tuple(self.exchange.accounts),
            symbols=tuple(self.exchange.instruments),
        )

    def link(self, account: AccountId) -> PaperLink:
        """A wire of its own for a connection."""
        self._wires += 1
        latency = float(self._listing.latency_ms[account])
        rng = Random(f"wire {self._wires} of {account} {self._listing.seed}")
        return PaperLink(account, self.exchange, self._clock, rng, LinkOptions(latency_ms=(latency / 4, latency)))

    def faults(self, account: AccountId, link: PaperLink) -> PaperFaults:
        """What this connection may ask to suffer."""
        return PaperFaults(account, self.exchange, link, self._clock, self.market)

    # ---------------------------------------------------------------------------------------------- market

    def _traded(self, tick: Tick) -> None:
        self._push(wire.Traded(tick), [feed for feed in self.feeds if tick.symbol in feed.symbols])

    def _feed_said(self, state: LinkState, reason: str) -> None:
        self.feed_said = wire.FeedSaid(state, reason)
        self._push(self.feed_said, self.feeds)

    def _push(self, frame: wire.FromExchange, feeds: Sequence[_Client]) -> None:
        for feed in tuple(feeds):
            feed.wire.send(frame)

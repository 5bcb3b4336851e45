"""A paper account as the engine's AccountManager: requests and questions over its link.

PaperAccount(account, exchange, link); capabilities are those of the account's AccountTerms.
"""

from __future__ import annotations

from collections.abc import Callable

from brokers.paper.checks import proven
from brokers.paper.exchange import PaperExchange
from brokers.paper.link import PaperLink
from engine.domain.broker import (
    AccountEvent,
    Balance,
    BrokerFill,
    BrokerOrder,
    BrokerPosition,
    FillsKind,
    IdMode,
    Report,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis
from engine.domain.orders import Terms
from engine.errors import QueryFailed


class PaperAccount:
    """AccountManager over a paper exchange; a refusal by the exchange is its proof, but for a duplicate client id."""

    def __init__(self, account: AccountId, exchange: PaperExchange, link: PaperLink) -> None:
        self.account = account
        self.capabilities = exchange.capabilities(account)
        self._exchange = exchange
        self._link = link

    async def start(self, sink: Callable[[AccountEvent], None]) -> None:
        """Connect; `sink` is told at once that the link is up."""
        self._link.open(sink)

    async def stop(self) -> None:
        """Disconnect."""
        self._link.close()

    async def submit(self, request: SubmitRequest) -> SubmitAnswer:
        """Send once. Raises LinkDown, AnswerLost."""
        return proven(
            await self._link.request(lambda at: self._exchange.submit(self.account, request, at), is_order=True)
        )

    async def replace(self, broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        """Change a working order once. Raises LinkDown, AnswerLost."""
        return await self._link.request(
            lambda at: self._exchange.replace(self.account, broker_id, client_id, terms, at)
        )

    async def cancel(self, broker_id: BrokerOrderId) -> SubmitAnswer:
        """Ask for a cancel once. Raises LinkDown, AnswerLost."""
        return await self._link.request(lambda at: self._exchange.cancel(self.account, broker_id, at))

    async def positions(self) -> Report[BrokerPosition]:
        """Open positions. Raises QueryFailed."""
        return await self._link.ask("positions", lambda _: self._exchange.positions(self.account))

    async def open_orders(self) -> Report[BrokerOrder]:
        """Orders that may still fill. Raises QueryFailed."""
        return await self._link.ask("open orders", lambda _: self._exchange.open_orders(self.account))

    async def orders_since(self, since: Millis) -> Report[BrokerOrder]:
        """Orders submitted or changed at or after `since`. Raises QueryFailed."""
        return await self._link.ask("orders", lambda _: self._exchange.orders_since(self.account, since))

    async def order_by_client_id(self, client_id: ClientOrderId) -> Report[BrokerOrder]:
        """Orders with this client id: more than one only where the broker enforces nothing.

        Raises QueryFailed, always so where the account cannot be asked this.
        """
        if not self.capabilities.find_by_client_id or self.capabilities.id_mode is IdMode.NONE:
            raise QueryFailed("this broker does not find orders by client id")
        return await self._link.ask(f"order {client_id}", lambda _: self._exchange.orders_of(self.account, client_id))

    async def fills_since(self, since: Millis) -> Report[BrokerFill]:
        """Executions at or after `since`. Raises QueryFailed, always so where fills are cumulative."""
        if self.capabilities.fills is FillsKind.CUMULATIVE:
            raise QueryFailed("this broker reports cumulative quantities, not executions")
        return await self._link.ask("fills", lambda _: self._exchange.fills_since(self.account, since))

    async def balance(self) -> Report[Balance]:
        """Money now. Raises QueryFailed."""
        return await self._link.ask("balance", lambda _: (self._exchange.balance(self.account),))

"""A paper exchange in a box: one instrument, one account, every event kept."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from brokers.paper.book_file import BookFile
from brokers.paper.exchange import PaperExchange
from brokers.paper.options import AccountTerms, ExchangeOptions
from engine.domain.broker import (
    AcceptedOrder,
    AccountEvent,
    AttachedLeg,
    BrokerFill,
    BrokerOrder,
    FillReported,
    OrderReported,
    RefusedOrder,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Tick
from engine.domain.orders import OrderType, Side, Terms, TimeInForce

SYMBOL = Symbol("ESZ6")
ACCOUNT = AccountId("paper-1")
ES = Instrument(symbol=SYMBOL, tick_size=Decimal("0.25"), point_value=Decimal(50))
START = 1_790_000_000_000


def terms(side: Side = Side.BUY, quantity: int | str = 1, **prices: Any) -> Terms:
    """Terms from `limit=`, `stop=` and `tif=`; the type follows from the prices."""
    limit, stop = prices.get("limit"), prices.get("stop")
    kind = {
        (False, False): OrderType.MARKET,
        (True, False): OrderType.LIMIT,
        (False, True): OrderType.STOP,
        (True, True): OrderType.STOP_LIMIT,
    }[limit is not None, stop is not None]
    return Terms(
        symbol=prices.get("symbol", SYMBOL),
        side=side,
        quantity=Decimal(quantity),
        type=kind,
        limit=None if limit is None else Decimal(str(limit)),
        stop=None if stop is None else Decimal(str(stop)),
        tif=prices.get("tif", TimeInForce.GTC),
    )


class Box:
    """The exchange, its time, and shorthand."""

    def __init__(
        self,
        account: AccountTerms | None = None,
        options: ExchangeOptions | None = None,
        book_file: BookFile | None = None,
        instrument: Instrument = ES,
    ) -> None:
        self.terms = account or AccountTerms(account=ACCOUNT)
        self.exchange = PaperExchange(
            [instrument], [self.terms], options or ExchangeOptions(slippage_ticks=0), book_file
        )
        self.now = max(START, self.exchange.last_time)
        self.events: list[AccountEvent] = []
        self.exchange.listen(ACCOUNT, self.events.append)
        self._count = 0

    def tick(self, price: float | str, after_ms: int = 100) -> None:
        """The market trades."""
        self.now += after_ms
        self.exchange.on_tick(Tick(SYMBOL, self.now, Decimal(str(price)), Decimal(1)))

    def send(self, order: Terms, *legs: Terms, client_id: str | None = None) -> SubmitAnswer:
        """Submit under a fresh client id; legs get it with a letter."""
        self._count += 1
        name = client_id or f"c{self._count}"
        attached = tuple(
            AttachedLeg(ClientOrderId(f"{name}{letter}"), leg) for letter, leg in zip("ab", legs, strict=False)
        )
        return self.exchange.submit(ACCOUNT, SubmitRequest(ClientOrderId(name), order, attached), self.now)

    def accepted(self, order: Terms, *legs: Terms, client_id: str | None = None) -> AcceptedOrder:
        """Submit what must be taken."""
        answer = self.send(order, *legs, client_id=client_id)
        assert isinstance(answer, AcceptedOrder), answer
        return answer

    def refused(self, order: Terms, *legs: Terms, client_id: str | None = None) -> RefusedOrder:
        """Submit what must be refused."""
        answer = self.send(order, *legs, client_id=client_id)
        assert isinstance(answer, RefusedOrder), answer
        return answer

    def order(self, broker_id: BrokerOrderId) -> BrokerOrder:
        """The account's view of an order."""
        return next(row for row in self.exchange.orders_since(ACCOUNT, 0) if row.broker_id == broker_id)

    def fills(self) -> list[BrokerFill]:
        """Executions streamed so far."""
        return [event.fill for event in self.events if isinstance(event, FillReported)]

    def reports(self, broker_id: BrokerOrderId) -> list[BrokerOrder]:
        """Records of one order streamed so far."""
        return [
            event.order
            for event in self.events
            if isinstance(event, OrderReported) and event.order.broker_id == broker_id
        ]

    @property
    def position(self) -> Decimal:
        """Signed quantity held."""
        return next((row.quantity for row in self.exchange.positions(ACCOUNT)), Decimal(0))


def values(*each: object) -> tuple[object, ...]:
    """Several figures to compare at once, Decimals with whole numbers too."""
    return each

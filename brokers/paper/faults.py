"""Faults on demand: what an operator can ask a paper account to suffer.

PaperFaults(account, exchange, link, clock, feed=None). `feed` is anything with FeedFaults' three methods
(SyntheticSource, ReplaySource); without one the feed's faults are not offered.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Protocol

from brokers.paper import out_of_band
from brokers.paper.exchange import PaperExchange
from brokers.paper.link import PaperLink
from engine.domain.broker import LinkState
from engine.domain.ids import AccountId, Symbol
from engine.domain.market import Timeframe
from engine.domain.orders import OrderType, Side, Terms, TimeInForce
from engine.ports import Clock, FaultKind

DELAYS_LAST_MS = 60_000


class FeedFaults(Protocol):
    """A feed that can be told to fail."""

    def disconnect(self, seconds: float) -> None:
        """Cut the feed; the market goes on unseen."""

    def delay_history(self, seconds: float) -> None:
        """Answer questions for history that much later for five minutes; 0 ends it."""

    def replace_candle(self, symbol: Symbol | None, timeframe: Timeframe) -> str:
        """Change a closed candle and say how. Raises ValueError when there is none."""


KINDS: tuple[FaultKind, ...] = (
    FaultKind(
        name="cancel-out-of-band",
        title="Broker cancels an order",
        help="The newest working order is cancelled by the broker",
    ),
    FaultKind(
        name="margin-desk",
        title="Margin desk moves the position",
        help="Takes units off the position without an order or a report; a minus sign adds",
        argument="units",
        default="1",
    ),
    FaultKind(
        name="foreign-order",
        title="Somebody else places an order",
        help="A resting buy 2 % under the market that is not ours",
        argument="quantity",
        default="1",
    ),
    FaultKind(name="lose-answer", title="Lose an answer", help="The next command is executed, its answer lost"),
    FaultKind(name="lose-request", title="Lose a request", help="The next command never arrives, no answer comes"),
    FaultKind(name="duplicate-event", title="Duplicate an event", help="The next order or fill report comes twice"),
    FaultKind(
        name="drop-fill",
        title="Drop a fill",
        help="The next fill's report is lost, and the order record that tells of it",
    ),
    FaultKind(
        name="delay-answers",
        title="Delay answers",
        help="For a minute every answer comes late",
        argument="seconds",
        default="3",
    ),
    FaultKind(
        name="disconnect-feed",
        title="Cut the feed",
        help="The market goes on, no tick arrives",
        argument="seconds",
        default="30",
    ),
    FaultKind(
        name="disconnect-account",
        title="Cut the account link",
        help="Nothing can be sent, events meanwhile are lost",
        argument="seconds",
        default="15",
    ),
    FaultKind(
        name="replace-candle",
        title="Change a closed candle",
        help="A late tick raises the last closed candle's high",
        argument="timeframe",
        default="1m",
    ),
    FaultKind(
        name="delay-history",
        title="Delay history",
        help="For five minutes history comes late; 0 ends it",
        argument="seconds",
        default="90",
    ),
    FaultKind(
        name="refuse-next",
        title="Refuse the next orders",
        help="The exchange refuses them",
        argument="count",
        default="1",
    ),
    FaultKind(
        name="refuse-stops",
        title="Refuse the next stop orders",
        help="Other orders are taken",
        argument="count",
        default="1",
    ),
    FaultKind(
        name="inert-stop", title="Make stops inert", help="The present stops stay working and never trigger"
    ),
    FaultKind(
        name="fail-queries",
        title="Fail questions",
        help="Positions, orders, fills and balance get no answer",
        argument="seconds",
        default="60",
    ),
    FaultKind(
        name="bust-fill", title="Bust the last fill", help="The exchange voids the newest execution"
    ),
    FaultKind(
        name="partial-fills",
        title="Fill in small parts",
        help="No order fills more than this at one tick; 0 lifts it",
        argument="quantity",
        default="1",
    ),
    FaultKind(
        name="next-order-slow",
        title="Slow the next order",
        help="The next order arrives that much later",
        argument="seconds",
        default="8",
    ),
)  # fmt: skip
FEED_FAULTS = frozenset({"disconnect-feed", "replace-candle", "delay-history"})
_DEFAULTS = {kind.name: kind.default for kind in KINDS}


class PaperFaults:
    """FaultInjector of one paper account."""

    def __init__(
        self,
        account: AccountId,
        exchange: PaperExchange,
        link: PaperLink,
        clock: Clock,
        feed: FeedFaults | None = None,
    ) -> None:
        self._account = account
        self._exchange = exchange
        self._link = link
        self._clock = clock
        self._feed = feed
        self._actions: dict[str, Callable[[Symbol | None, str], str]] = {
            "cancel-out-of-band": self._cancel,
            "margin-desk": self._margin_desk,
            "foreign-order": self._foreign,
            "lose-answer": self._lose_answer,
            "lose-request": self._lose_request,
            "duplicate-event": self._duplicate,
            "drop-fill": self._drop_fill,
            "delay-answers": self._delay_answers,
            "disconnect-feed": self._disconnect_feed,
            "disconnect-account": self._disconnect_account,
            "replace-candle": self._replace_candle,
            "delay-history": self._delay_history,
            "refuse-next": self._refuse_next,
            "refuse-stops": self._refuse_stops,
            "inert-stop": self._inert_stop,
            "fail-queries": self._fail_queries,
            "bust-fill": self._bust,
            "partial-fills": self._partial_fills,
            "next-order-slow": self._slow,
        }

    def kinds(self) -> tuple[FaultKind, ...]:
        """What can be asked for; the feed's faults only with a feed that can fail."""
        return tuple(kind for kind in KINDS if self._feed is not None or kind.name not in FEED_FAULTS)

    def inject(self, name: str, symbol: Symbol | None, argument: str) -> str:
        """Do it and say what was done. Raises ValueError with a sentence."""
        action = self._actions.get(name)
        if action is None:
            raise ValueError(f"there is no fault {name!r}")
        return action(symbol, argument.strip() or _DEFAULTS[name])

    # ------------------------------------------------------------------------------------ at the exchange

    def _cancel(self, symbol: Symbol | None, _: str) -> str:
        broker_id = out_of_band.newest_open(self._exchange, self._account, symbol)
        if broker_id is None:
            raise ValueError("there is no working order to cancel")
        out_of_band.cancel_order(self._exchange, broker_id, self._clock.now(), "cancelled by the broker")
        return f"the broker cancelled order {broker_id}"

    def _margin_desk(self, symbol: Symbol | None, argument: str) -> str:
        units = _number(argument, "units")
        if not units:
            raise ValueError("units must not be zero")
        for held in self._exchange.positions(self._account):
            if symbol in (None, held.symbol):
                break
        else:
            raise ValueError("there is no position to move")
        step = self._exchange.instruments[held.symbol].size_step
        if units % step:
            raise ValueError(f"units must be a multiple of {step}")
        by = -units if held.quantity > 0 else units
        now = out_of_band.move_position(self._exchange, self._account, held.symbol, by, self._clock.now())
        return f"the margin desk moved {held.symbol} from {held.quantity} to {now.quantity}"

    def _foreign(self, symbol: Symbol | None, argument: str) -> str:
        quantity = _number(argument, "quantity")
        chosen = symbol or next(iter(self._exchange.book.marks), None)
        instrument = None if chosen is None else self._exchange.instruments.get(chosen)
        last = None if chosen is None else self._exchange.last_price(chosen)
        if instrument is None or last is None:
            raise ValueError("nothing has traded yet, so there is no price for an order")
        if quantity <= 0 or quantity % instrument.size_step:
            raise ValueError(f"quantity must be a positive multiple of {instrument.size_step}")
        terms = Terms(
            symbol=instrument.symbol,
            side=Side.BUY,
            quantity=quantity,
            type=OrderType.LIMIT,
            limit=max(instrument.tick_size, instrument.down(last * Decimal("0.98"))),
            tif=TimeInForce.GTC,
        )
        broker_id = out_of_band.place_foreign(self._exchange, self._account, terms, self._clock.now())
        return f"somebody else placed {broker_id}: buy {quantity} {instrument.symbol} at {terms.limit}"

    def _refuse_next(self, _: Symbol | None, argument: str) -> str:
        return self._refuse(argument, stops_only=False)

    def _refuse_stops(self, _: Symbol | None, argument: str) -> str:
        return self._refuse(argument, stops_only=True)

    def _refuse(self, argument: str, *, stops_only: bool) -> str:
        count = _number(argument, "count")
        if count < 1 or count != int(count):
            raise ValueError("count must be a whole number above zero")
        out_of_band.refuse_next(
            self._exchange, self._account, "refused by the risk desk", stops_only=stops_only, count=int(count)
        )
        return f"the exchange will refuse the next {int(count)} {'stop orders' if stops_only else 'orders'}"

    def _inert_stop(self, symbol: Symbol | None, _: str) -> str:
        symbols = self._exchange.instruments if symbol is None else (symbol,)
        now = self._clock.now()
        count = sum(out_of_band.make_stops_inert(self._exchange, self._account, each, now) for each in symbols)
        if not count:
            raise ValueError("there is no stop order to make inert")
        return f"{count} stop orders stay working and will not trigger"

    def _bust(self, symbol: Symbol | None, _: str) -> str:
        fill = out_of_band.bust_last_fill(self._exchange, self._account, symbol, self._clock.now())
        return f"execution {fill.execution_id} of order {fill.broker_id} was busted"

    def _partial_fills(self, _: Symbol | None, argument: str) -> str:
        quantity = _number(argument, "quantity")
        if quantity < 0:
            raise ValueError("quantity must not be negative")
        self._exchange.max_fill = quantity or None
        return f"orders fill at most {quantity} at one tick" if quantity else "orders fill whole again"

    # ------------------------------------------------------------------------------------------ on the wire

    def _lose_answer(self, _: Symbol | None, __: str) -> str:
        self._link.armed.lose_answers += 1
        return "the next command will be executed and its answer lost"

    def _lose_request(self, _: Symbol | None, __: str) -> str:
        self._link.armed.lose_requests += 1
        return "the next command will be lost on its way"

    def _duplicate(self, _: Symbol | None, __: str) -> str:
        self._link.armed.duplicate_events += 1
        return "the next order or fill report will come twice"

    def _drop_fill(self, _: Symbol | None, __: str) -> str:
        self._link.armed.drop_fills += 1
        return "the next fill will not be reported"

    def _delay_answers(self, _: Symbol | None, argument: str) -> str:
        seconds = _seconds(argument)
        self._link.armed.delay_ms = round(seconds * 1000)
        self._link.armed.delay_until = self._clock.now() + DELAYS_LAST_MS
        return f"for a minute answers come {seconds:g} s late"

    def _disconnect_account(self, _: Symbol | None, argument: str) -> str:
        seconds = _seconds(argument)
        if self._link.state is LinkState.DOWN:
            raise ValueError("the account link is not connected")
        self._link.disconnect(seconds)
        return f"the account link is cut for {seconds:g} s"

    def _fail_queries(self, _: Symbol | None, argument: str) -> str:
        seconds = _seconds(argument)
        self._link.armed.fail_queries_until = self._clock.now() + round(seconds * 1000)
        return f"questions fail for {seconds:g} s"

    def _slow(self, _: Symbol | None, argument: str) -> str:
        seconds = _seconds(argument)
        self._link.armed.slow_next_ms = round(seconds * 1000)
        return f"the next order arrives {seconds:g} s late"

    # ------------------------------------------------------------------------------------------ at the feed

    def _the_feed(self) -> FeedFaults:
        if self._feed is None:
            raise ValueError("this feed cannot be told to fail")
        return self._feed

    def _disconnect_feed(self, _: Symbol | None, argument: str) -> str:
        seconds = _seconds(argument)
        self._the_feed().disconnect(seconds)
        return f"the feed is cut for {seconds:g} s"

    def _delay_history(self, _: Symbol | None, argument: str) -> str:
        seconds = _seconds(argument)
        self._the_feed().delay_history(seconds)
        return f"history comes {seconds:g} s late for five minutes" if seconds else "history is in time again"

    def _replace_candle(self, symbol: Symbol | None, argument: str) -> str:
        return self._the_feed().replace_candle(symbol, Timeframe.parse(argument))


def _number(text: str, name: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{name} must be a number, not {text!r}") from None
    if not value.is_finite():
        raise ValueError(f"{name} must be a number, not {text!r}")
    return value


def _seconds(text: str) -> float:
    seconds = float(_number(text, "seconds"))
    if not 0 <= seconds <= 3600:
        raise ValueError("seconds must be between 0 and 3600")
    return seconds

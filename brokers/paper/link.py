"""The wire between the engine and the exchange, and all that a wire can do.

PaperLink(account, exchange, clock, rng, options=LinkOptions())

- A request arrives after a random trip and its answer takes another; whoever stops waiting does not stop it.
- Down at the moment of sending: LinkDown (a question: QueryFailed), nothing left. Cut while under way: the request
  still arrives and AnswerLost is raised (a question: QueryFailed).
- A lost answer takes with it the events that its command caused at once: the connection broke under both.
- Stream events keep their order. Those under way when the link is cut, or made while it is down, are lost for good.
- All waiting is on the Clock's timers, so a tape drives it like any other timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

from msgspec import Struct

from brokers.paper.exchange import PaperExchange
from engine.domain.broker import (
    AccountEvent,
    BalanceReported,
    FillReported,
    FillsKind,
    LinkChanged,
    LinkState,
    OrderReported,
    Report,
)
from engine.domain.ids import AccountId, BrokerOrderId, Millis
from engine.domain.orders import ZERO
from engine.errors import AnswerLost, LinkDown, LinkError, QueryFailed
from engine.ports import Clock, Rng, Timer

T = TypeVar("T")
Row = TypeVar("Row")


class LinkOptions(Struct, frozen=True, kw_only=True):
    """How the wire behaves all the time: one way takes `latency_ms` (from, to); the rest are chances from 0 to 1."""

    latency_ms: tuple[float, float] = (2.0, 12.0)
    lose_request: float = 0.0
    lose_answer: float = 0.0
    duplicate_event: float = 0.0
    drop_event: float = 0.0
    fail_query: float = 0.0


class Armed(Struct):
    """Faults that wait for their next occasion (counts), or hold until a moment."""

    lose_requests: int = 0
    lose_answers: int = 0
    duplicate_events: int = 0
    drop_fills: int = 0
    slow_next_ms: int = 0
    delay_ms: int = 0
    delay_until: Millis = 0
    fail_queries_until: Millis = 0
    truncate_queries_until: Millis = 0
    stale_queries_until: Millis = 0


class PaperLink:
    """One account's wire. `armed` may be written by whoever injects faults."""

    def __init__(
        self,
        account: AccountId,
        exchange: PaperExchange,
        clock: Clock,
        rng: Rng,
        options: LinkOptions | None = None,
    ) -> None:
        self.account = account
        self.armed = Armed()
        self.state = LinkState.DOWN
        self._exchange = exchange
        self._clock = clock
        self._rng = rng
        self._options = options or LinkOptions()
        self._sink: Callable[[AccountEvent], None] | None = None
        self._unlisten: Callable[[], None] = lambda: None
        self._under_way: dict[asyncio.Future[Any], type[LinkError]] = {}
        self._events: deque[tuple[Millis, AccountEvent]] = deque()
        self._flush_timer: Timer | None = None
        self._up_timer: Timer | None = None
        self._cut_until: Millis = 0
        self._mute = False
        self._dropped: BrokerOrderId | None = None
        self._last_reports: dict[str, Report[Any]] = {}
        # Cumulative quantity last streamed of each open order: tells which record reports a fill.
        self._streamed: dict[BrokerOrderId, Decimal] = {}

    # --------------------------------------------------------------------------------------------- the link

    def open(self, sink: Callable[[AccountEvent], None]) -> None:
        """Connect: `sink` gets the account's events from now on, first whether the link is up or still cut."""
        self.close()
        self._sink = sink
        self._unlisten = self._exchange.listen(self.account, self._send)
        if self._clock.now() < self._cut_until:
            self._change(LinkState.RECONNECTING, "connection lost")
            self._up_timer = self._clock.call_at(self._cut_until, self._reconnect)
        else:
            self._change(LinkState.UP, "connected")

    def close(self) -> None:
        """Disconnect for good: nothing under way gets an answer, the sink is not called again."""
        self._sink = None
        self._unlisten()
        self._unlisten = lambda: None
        self.state = LinkState.DOWN
        self._drop_everything("the link was closed")
        if self._up_timer is not None:
            self._up_timer.cancel()

    def disconnect(self, seconds: float) -> None:
        """Cut the link and restore it after that many seconds; a longer cut replaces a running one."""
        if self._sink is None:
            return
        if self._up_timer is not None:
            self._up_timer.cancel()
        self._drop_everything("the link was cut")
        self._change(LinkState.RECONNECTING, "connection lost")
        self._cut_until = self._clock.now() + round(seconds * 1000)
        self._up_timer = self._clock.call_at(self._cut_until, self._reconnect)

    def _reconnect(self) -> None:
        if self._sink is not None:
            self._change(LinkState.UP, "connected again")

    def _change(self, state: LinkState, reason: str) -> None:
        self.state = state
        if self._sink is not None:
            self._sink(LinkChanged(state, reason))

    def _drop_everything(self, why: str) -> None:
        self._events.clear()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        under_way, self._under_way = self._under_way, {}
        for answer, error in under_way.items():
            if not answer.done():
                answer.set_exception(error(why))

    # --------------------------------------------------------------------------------------------- requests

    async def request(self, call: Callable[[Millis], T], *, is_order: bool = False) -> T:
        """Send what changes something: `call` runs at the exchange with its time. Raises LinkDown, AnswerLost."""
        if self.state is not LinkState.UP:
            raise LinkDown(f"the link to {self.account} is {self.state}; nothing was sent")
        lose_request = self._spend("lose_requests", self._options.lose_request)
        lose_answer = self._spend("lose_answers", self._options.lose_answer)
        extra = 0
        if is_order:
            extra, self.armed.slow_next_ms = self.armed.slow_next_ms, 0

        def work() -> T:
            if lose_request:
                raise AnswerLost("the connection broke before an answer came")
            self._mute = lose_answer
            try:
                result = call(self._clock.now())
            finally:
                self._mute = False
            if lose_answer:
                raise AnswerLost("the connection broke before the answer came")
            return result

        return await self._travel(work, AnswerLost, extra)

    async def ask(self, name: str, read: Callable[[Millis], tuple[Row, ...]]) -> Report[Row]:
        """Ask for rows; `name` tells questions apart for stale answers. Raises QueryFailed."""
        if self.state is not LinkState.UP:
            raise QueryFailed(f"the link to {self.account} is {self.state}")
        fail = self._spend("", self._options.fail_query)

        def work() -> Report[Row]:
            now = self._clock.now()
            if fail or now < self.armed.fail_queries_until:
                raise QueryFailed("the broker answered 503")
            if now < self.armed.truncate_queries_until:
                raise QueryFailed("the answer was cut off")
            if now < self.armed.stale_queries_until and name in self._last_reports:
                return self._last_reports[name]
            self._exchange.advance(now)
            report = self._last_reports[name] = Report(read(now), self._exchange.last_time)
            return report

        return await self._travel(work, QueryFailed)

    async def _travel(self, work: Callable[[], T], if_cut: type[LinkError], extra_ms: int = 0) -> T:
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._under_way[answer] = if_cut
        late = self.armed.delay_ms if self._clock.now() < self.armed.delay_until else 0

        def arrive() -> None:
            # The work is done whether or not anybody still waits for its answer.
            try:
                result = work()
            except Exception as error:
                failure = error
                self._later(late, lambda: None if answer.done() else answer.set_exception(failure))
            else:
                self._later(late, lambda: None if answer.done() else answer.set_result(result))

        self._later(extra_ms, arrive)
        try:
            return await answer
        finally:
            self._under_way.pop(answer, None)

    def _later(self, extra_ms: int, call: Callable[[], None]) -> None:
        self._clock.call_at(self._clock.now() + self._trip() + extra_ms, call)

    def _trip(self) -> int:
        return round(self._rng.uniform(*self._options.latency_ms))

    def _spend(self, armed: str, chance: float) -> bool:
        """Whether a fault strikes now: because it was armed, or by chance."""
        if armed and (count := getattr(self.armed, armed)):
            setattr(self.armed, armed, count - 1)
            return True
        return bool(chance) and self._rng.random() < chance

    # ----------------------------------------------------------------------------------------------- stream

    def _send(self, event: AccountEvent) -> None:
        """An event leaves the exchange."""
        if self.state is not LinkState.UP or self._mute or self._is_dropped(event):
            return
        if self._spend("", self._options.drop_event):
            return
        due = self._clock.now() + self._trip()
        # One queue: an event that would arrive earlier waits behind those sent before it.
        self._events.append((due, event))
        if not isinstance(event, BalanceReported) and self._spend("duplicate_events", self._options.duplicate_event):
            self._events.append((due, event))
        if self._flush_timer is None:
            self._flush_timer = self._clock.call_at(due, self._flush)

    def _is_dropped(self, event: AccountEvent) -> bool:
        """Swallow a whole fill when told to: the execution, and the order's record that tells of it."""
        match event:
            case FillReported(fill):
                if self._spend("drop_fills", 0.0):
                    self._dropped = fill.broker_id
                    return True
            case OrderReported(order):
                before = self._streamed.get(order.broker_id, ZERO)
                if order.status.is_final:
                    self._streamed.pop(order.broker_id, None)
                else:
                    self._streamed[order.broker_id] = order.filled
                if self._dropped == order.broker_id:
                    self._dropped = None
                    return True
                cumulative = self._exchange.capabilities(self.account).fills is FillsKind.CUMULATIVE
                return cumulative and order.filled > before and self._spend("drop_fills", 0.0)
            case _:
                pass
        return False

    def _flush(self) -> None:
        self._flush_timer = None
        now = self._clock.now()
        try:
            while self._events and self._events[0][0] <= now and self._sink is not None:
                self._sink(self._events.popleft()[1])
        finally:
            if self._events and self._flush_timer is None:
                self._flush_timer = self._clock.call_at(self._events[0][0], self._flush)

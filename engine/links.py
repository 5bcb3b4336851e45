"""The shared links: one per account, one for the feed; every session rides on them, none owns them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct

from engine.domain.broker import (
    AccountEvent,
    Balance,
    BrokerFill,
    BrokerOrder,
    BrokerPosition,
    Capabilities,
    FillsKind,
    LinkChanged,
    LinkState,
    Report,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, Symbol
from engine.domain.incarnations import is_cut_off
from engine.domain.market import Candle, History, Tick, Timeframe
from engine.domain.orders import ZERO, Terms
from engine.domain.pictures import Picture, is_old_picture
from engine.domain.settings import Numbers
from engine.errors import LinkDown, LinkError, LockedOut
from engine.periodic import Tasks, done_within, within
from engine.ports import AccountManager, CandleSource, Clock, MarketDataSource
from engine.session import LockOut, NoAnswer, NotSent, Sent

log = logging.getLogger(__name__)
Row = TypeVar("Row")
HISTORY_TIMEOUT = 180.0
STALE_MS = 1_000
"""A report whose books were read that long before the question is an old picture, not an answer."""
RECONNECT_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)


class _Waiter(Struct):
    """A session that waits for a position read begun after `asked`."""

    symbol: Symbol
    asked: Millis
    result: asyncio.Future[BrokerPosition]


class AccountLink:
    """One account's road: turns every outcome into a value, and shares position reads among the sessions.

    `on_event` gets what the stream says; `on_positions` every complete position read with the moment it began. Once
    `lost_to` names another engine, nothing but questions leaves.
    """

    def __init__(
        self,
        manager: AccountManager,
        clock: Clock,
        numbers: Numbers,
        *,
        on_event: Callable[[AccountEvent], None],
        on_positions: Callable[[Report[BrokerPosition], Millis], None],
        on_suspicion: Callable[[str, bool], None],
        on_link: Callable[[LinkState, str], None],
        lost_to: Callable[[], str | None],
    ) -> None:
        self._manager = manager
        self._clock = clock
        self._numbers = numbers
        self._on_event = on_event
        self._on_positions = on_positions
        self._on_suspicion = on_suspicion
        self._on_link = on_link
        self._lost_to = lost_to
        self.state = LinkState.DOWN
        self.since: Millis = clock.now()
        self.reason = "not connected yet"
        self.failed_queries = 0
        self._locked_until: Millis | None = None
        self.is_mute = False
        self.locked_since: Millis | None = None
        self._up = asyncio.Event()
        self._last_event: dict[Symbol, Millis] = {}
        self._waiters: list[_Waiter] = []
        self._reading = False
        self._pictures: dict[str, Picture] = {}
        self._tasks = Tasks(f"account {manager.account}", lambda name, error: None)

    # -- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, trying again for as long as it takes; returns when the link was first up."""
        tries = 0
        while True:
            try:
                await self._manager.start(self._stream)
            except LinkError as error:
                self._set(LinkState.DOWN, str(error))
                await self._clock.sleep(RECONNECT_SECONDS[min(tries, len(RECONNECT_SECONDS) - 1)])
                tries += 1
            else:
                if self.state is not LinkState.UP:
                    self._set(LinkState.UP, "")
                return

    async def stop(self) -> None:
        """Disconnect."""
        await self._tasks.close()
        await self._manager.stop()
        self._set(LinkState.DOWN, "stopped")

    def _stream(self, event: AccountEvent) -> None:
        if isinstance(event, LinkChanged):
            self._set(event.state, event.reason)
        else:
            self._on_event(event)

    def _set(self, state: LinkState, reason: str) -> None:
        if state is self.state and reason == self.reason:
            return
        self.state, self.reason, self.since = state, reason, self._clock.now()
        self._refresh_up()
        self._on_link(state, reason)

    def _refresh_up(self) -> None:
        if self.is_up and self.locked_until is None:
            self._up.set()
        else:
            self._up.clear()

    # -- AccountRoad --------------------------------------------------------------------------------------

    @property
    def account(self) -> AccountId:
        """Whose account."""
        return self._manager.account

    @property
    def capabilities(self) -> Capabilities:
        """What the broker can do."""
        return self._manager.capabilities

    @property
    def is_up(self) -> bool:
        """Whether requests can leave now."""
        return self.state is LinkState.UP

    @property
    def locked_until(self) -> Millis | None:
        """End of a proven lock-out, None when the broker listens."""
        if self._locked_until is not None and self._clock.now() >= self._locked_until:
            self._locked_until = None
        return self._locked_until

    async def until_up(self) -> None:
        """Return when requests can leave and no lock-out stands."""
        await self._up.wait()

    async def submit(self, request: SubmitRequest) -> Sent:
        """Send once."""
        return await self._send(lambda: self._manager.submit(request), request.terms.symbol)

    async def replace(self, broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> Sent:
        """Ask once for other terms."""
        return await self._send(lambda: self._manager.replace(broker_id, client_id, terms), terms.symbol)

    async def cancel(self, broker_id: BrokerOrderId) -> Sent:
        """Ask once for a cancel."""
        return await self._send(lambda: self._manager.cancel(broker_id), None)

    async def _send(self, request: Callable[[], Awaitable[SubmitAnswer]], symbol: Symbol | None) -> Sent:
        if not self.is_up:
            return NotSent(f"the account link is {self.state}")
        if (holder := self._lost_to()) is not None:
            return NotSent(f"another engine commands this account: {holder}")
        if (until := self.locked_until) is not None:
            return LockOut("the broker has locked us out for now", until)
        if symbol is not None:
            self.touched(symbol)
        self.is_mute = False
        try:
            return await within(self._clock, self._numbers.send_deadline, request())
        except TimeoutError:
            return NoAnswer(f"no answer within {self._numbers.send_deadline:g} s")
        except LinkDown as error:
            self.is_mute = True
            return NotSent(str(error))
        except LockedOut as error:
            until = self._clock.now() + round(error.retry_after_seconds * 1000)
            self._lock_out(until)
            return LockOut(str(error), until)
        except LinkError as error:
            return NoAnswer(str(error))
        except Exception as error:
            log.exception("an answer of account %s could not be read", self.account)
            return NoAnswer(f"unreadable answer ({type(error).__name__})")

    def _lock_out(self, until: Millis) -> None:
        if self.locked_until is None:
            self.locked_since = self._clock.now()
        self._locked_until = until
        self._watch_lock()

    def _watch_lock(self) -> None:
        """Until the lock-out is over by our clock, which may be set back meanwhile."""
        self._refresh_up()
        if (until := self.locked_until) is not None:
            self._clock.call_at(until, self._watch_lock)

    def touched(self, symbol: Symbol) -> None:
        """Something of ours moved on this contract: reads begun before it settled prove nothing."""
        self._last_event[symbol] = self._clock.now()

    def settled_at(self, symbol: Symbol) -> Millis:
        """The moment from which a read of this contract reflects our last event."""
        return self._last_event.get(symbol, 0) + self.capabilities.settle_ms

    def suspect(self, reason: str, *, orders: bool = False) -> None:
        """Ask for a reconciliation at once."""
        self._on_suspicion(reason, orders)

    # -- shared position reads ----------------------------------------------------------------------------

    async def fresh_position(self, symbol: Symbol, seconds: float) -> BrokerPosition | None:
        """The broker's position by a read begun after this call and after our last event settled."""
        waiter = _Waiter(symbol, self._clock.now(), asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        if not self._reading:
            self._reading = True
            self._tasks.launch(self._read_for_waiters(), "position read")
        try:
            if await done_within(self._clock, seconds, waiter.result):
                return waiter.result.result()
            return None
        finally:
            waiter.result.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def _read_for_waiters(self) -> None:
        try:
            while self._waiters:
                now = self._clock.now()
                settled = max(self.settled_at(w.symbol) for w in self._waiters)
                if settled > now:
                    await self._clock.sleep(min((settled - now) / 1000, self._numbers.settling))
                read = await self.read_positions()
                if read is None:
                    await self._clock.sleep(0.2)
                    continue
                report, begun = read
                held = {row.symbol: row for row in report.rows}
                for waiter in tuple(self._waiters):
                    if waiter.asked <= begun and self.settled_at(waiter.symbol) <= begun and not waiter.result.done():
                        row = held.get(waiter.symbol)
                        flat = BrokerPosition(waiter.symbol, ZERO, None)
                        waiter.result.set_result(row if row is not None else flat)
                        self._waiters.remove(waiter)
        finally:
            self._reading = False

    # -- queries; None is "no complete answer" ------------------------------------------------------------

    async def _ask(self, query: Callable[[], Awaitable[Report[Row]]], what: str) -> Report[Row] | None:
        if not self.is_up:
            return None
        begun, asked, last = self._clock.now(), self._clock.monotonic(), self._pictures.get(what)
        try:
            report = await within(self._clock, self._numbers.query_timeout, query())
            old = last is not None and is_old_picture(report.as_of, last, begun, asked)
            if last is None or report.as_of != last.as_of:
                self._pictures[what] = Picture(report.as_of, self._clock.monotonic())
            if report.as_of >= begun - STALE_MS and not old:
                return report
            self.failed_queries += 1
            log.info("query %s of account %s gave an answer %d ms old", what, self.account, begun - report.as_of)
        except (TimeoutError, LinkError) as error:
            self.failed_queries += 1
            log.info("query %s of account %s failed: %s", what, self.account, error or "no answer in time")
        except Exception:
            self.failed_queries += 1
            log.exception("query %s of account %s gave an unreadable answer", what, self.account)
        return None

    async def read_positions(self) -> tuple[Report[BrokerPosition], Millis] | None:
        """All positions and when the read began; the reconciler hears of each complete one."""
        begun = self._clock.now()
        report = await self._ask(self._manager.positions, "positions")
        if report is None:
            return None
        self._on_positions(report, begun)
        return report, begun

    async def open_orders(self) -> Report[BrokerOrder] | None:
        """All orders that may still fill."""
        return await self._ask(self._manager.open_orders, "open orders")

    async def orders_since(self, since: Millis) -> Report[BrokerOrder] | None:
        """Open and closed orders since a moment."""
        return await self._ask(lambda: self._manager.orders_since(since), "orders")

    async def find(
        self, client_id: ClientOrderId, since: Millis, known: BrokerOrderId | None = None
    ) -> tuple[BrokerOrder, ...] | None:
        """What complete answers say about one order; all its ids where it has left `known` more than once.

        An order that the broker has accepted and does not find by our id was somebody else's before it was adopted.
        """
        if self.capabilities.finds_whole:
            report = await self._ask(lambda: self._manager.order_by_client_id(client_id), "order")
            if report is None:
                return None
            if (report.rows or known is None) and not is_cut_off(known, report.rows):
                return report.rows
        report = await self.orders_since(since)
        return None if report is None else report.rows

    async def fills_since(self, since: Millis) -> Report[BrokerFill] | None:
        """Executions since a moment; none where the broker tells cumulative quantities, in its order records."""
        if self.capabilities.fills is FillsKind.CUMULATIVE:
            return Report((), self._clock.now()) if self.is_up else None
        return await self._ask(lambda: self._manager.fills_since(since), "fills")

    async def balance(self) -> Report[Balance] | None:
        """Money."""
        return await self._ask(self._manager.balance, "balance")


class FeedLink:
    """The feed as sessions see it: sinks stay the same over reconnects and restarts of a session."""

    def __init__(self, source: MarketDataSource, clock: Clock, on_link: Callable[[LinkState, str], None]) -> None:
        self._source = source
        self._clock = clock
        self._on_link = on_link
        self.state = LinkState.DOWN
        self.since: Millis = clock.now()
        self.reason = "not connected yet"
        self.last_tick: Millis | None = None
        self.ended = False
        self.ticks = 0
        self._told: Millis = 0
        self._tasks = Tasks(f"feed {source.name}", lambda name, error: None)

    @property
    def name(self) -> str:
        """What the feed calls itself."""
        return self._source.name

    @property
    def is_up(self) -> bool:
        """Whether ticks may come."""
        return self.state is LinkState.UP

    @property
    def is_tape(self) -> bool:
        """Whether the feed is a recording: it has no past before its first row."""
        return isinstance(self._source, CandleSource)

    @property
    def candle_step(self) -> Timeframe | None:
        """The step of a recording of candles; None for ticks."""
        return self._source.step if isinstance(self._source, CandleSource) else None

    async def start(self) -> None:
        """Connect, trying again for as long as it takes."""
        tries = 0
        while True:
            try:
                await self._source.start(self._changed)
            except LinkError as error:
                self._changed(LinkState.DOWN, str(error))
                await self._clock.sleep(RECONNECT_SECONDS[min(tries, len(RECONNECT_SECONDS) - 1)])
                tries += 1
            else:
                if self.state is not LinkState.UP:
                    self._changed(LinkState.UP, "")
                return

    async def run(self, on_end: Callable[[], None]) -> None:
        """Deliver until stopped; `on_end` is called when a recording was played to its end."""
        source = self._source
        if not isinstance(source, CandleSource):
            await source.run()
            return
        playing = self._tasks.spawn(source.run(), "tape")
        await source.ended.wait()
        self.ended = True
        on_end()
        await playing

    async def stop(self) -> None:
        """Disconnect."""
        await self._source.stop()
        await self._tasks.drained()

    def failed(self, reason: str) -> None:
        """Whoever ran this feed has ended: nothing comes until it is started again."""
        self._changed(LinkState.DOWN, reason)

    def _changed(self, state: LinkState, reason: str) -> None:
        if state is not self.state or reason != self.reason:
            self.state, self.reason, self.since = state, reason, self._clock.now()
            self._on_link(state, reason)

    def subscribe(self, symbol: Symbol, sink: Callable[[Tick], None]) -> None:
        """Deliver a symbol's ticks; raises KeyError when the feed does not know it."""

        def deliver(tick: Tick) -> None:
            self.ticks += 1
            self.last_tick = tick.at
            sink(tick)

        self._source.subscribe(symbol, deliver)

    def subscribe_candles(self, symbol: Symbol, timeframe: Timeframe, sink: Callable[[Candle], None]) -> None:
        """Deliver a recording's closed candles."""
        if not isinstance(self._source, CandleSource):
            raise TypeError(f"feed {self.name} has no candles of its own")
        self._source.subscribe_candles(symbol, timeframe, sink)

    @property
    def time(self) -> Millis:
        """Now as far as candles go: our clock, or what the feed has named beyond it where our clock is slow."""
        return max(self._clock.now(), self.last_tick or 0, self._told)

    async def history(self, symbol: Symbol, timeframe: Timeframe, count: int) -> History | None:
        """The past up to now; None without a complete answer, and where our clock was too slow to ask for all of it."""
        until = self.time
        try:
            history = await within(self._clock, HISTORY_TIMEOUT, self._source.history(symbol, timeframe, count, until))
        except (TimeoutError, LinkError) as error:
            log.info("history of %s failed: %s", symbol, error or "no answer in time")
            return None
        self._told = max(self._told, history.as_of)
        if timeframe.start_of(history.as_of) - timeframe.ms >= until:
            log.warning("our clock is behind the feed's; history is asked for again up to the feed's own time")
            return None
        return history

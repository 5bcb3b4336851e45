"""RealtimeTrader: one session's synchronous tick path, and the tasks of everything that awaits.

Tick path, one call chain without a queue, task or await:
    feed -> on_tick -> candle stream -> (a candle was added) strategy -> decision handler starts a task
Start-up has two halves: the account half waits for no data (recover orders, reconcile, check protection, report
heat); the data half subscribes, buffers, joins history, warms the strategy. Entries are off until both are done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import assert_never

from msgspec.structs import replace as changed

from engine.aggregation.heat import RiskScale, contribution, planned_risk
from engine.change_trail import tell_change
from engine.domain import order_lifecycle as lifecycle
from engine.domain.ids import Millis
from engine.domain.market import Candle, Tick
from engine.domain.order_book import Change
from engine.domain.orders import TERMINAL, Order, Terms
from engine.domain.positions import Position
from engine.domain.risk import Contribution, StanceNotice
from engine.errors import StartOver
from engine.inbound.candle_series import Added, Ignored, Inserted, Placement, Replaced
from engine.inbound.candle_stream import CandleStream, NoOverlap
from engine.links import FeedLink
from engine.outbound.day_watch import DayWatch
from engine.outbound.decision_handler import DecisionHandler
from engine.outbound.entries import EntryRoad
from engine.outbound.entry_gate import EntryGate
from engine.outbound.exit_road import ExitRoad
from engine.outbound.exits import excess_exits
from engine.outbound.flatten import Flattener
from engine.outbound.protection import Guard
from engine.outbound.recovery import Recovery
from engine.outbound.submission import Submission
from engine.periodic import cancel_and_wait
from engine.ports import Timer, Watchdog
from engine.session import SessionDesk
from engine.snapshot import Phase
from engine.strategies.protocol import Strategy
from engine.strategy_runner import Counters, StrategyRunner

log = logging.getLogger(__name__)
KEEP_CANDLES = 600
RETRY_HISTORY_SECONDS = 2.0
LOOPS = (":doubt loop", ":guard", ":data half")
"""Ends of the names of a trader's standing tasks: when one fails, the session starts again."""


class RealtimeTrader:
    """One per session. `run` may be called again after it failed: orders and position stay, data is joined anew."""

    def __init__(
        self,
        desk: SessionDesk,
        strategy: Strategy,
        feed: FeedLink,
        watchdog: Watchdog,
        *,
        report: Callable[[Contribution], None],
    ) -> None:
        self.desk = desk
        self.counters = Counters()
        self._feed = feed
        self._report = report
        numbers = desk.numbers
        self.scale = RiskScale(
            instrument=desk.instrument,
            worst_case=desk.settings.limits.worst_case_per_contract,
            floor_ticks=numbers.gap_floor_ticks,
            floor_fraction=numbers.gap_floor_fraction,
        )
        self.gate = EntryGate(desk)
        self.submission = Submission(desk, self.gate)
        self.exits = ExitRoad(desk, self.submission)
        self.entries = EntryRoad(desk, self.gate, self.submission)
        self.guard = Guard(desk, self.submission, self.exits)
        self.recovery = Recovery(desk, self.submission.cancel)
        self.flattener = Flattener(desk, self.submission, self.exits)
        self.decisions = DecisionHandler(desk, self.gate, self.submission, self.entries, self.exits, self.guard)
        self.day = DayWatch(desk, self.entries, self.decisions)
        self.runner = StrategyRunner(desk, strategy, watchdog, self.entries, self.decisions, self.counters)
        self.stream = self._new_stream()
        self.stance: StanceNotice | None = None
        self.warmed = 0
        self.replaced: set[Millis] = set()
        self.ready = asyncio.Event()
        self._catching_up = False
        self._close_timer: Timer | None = None
        self._armed_for: Millis | None = None
        self._subscribed = False
        self._refilling: CandleStream | None = None
        self._broken: BaseException | None = None
        self._reporting = False
        self._reported: Millis = 0
        self._declared: tuple[tuple[int, Position, Decimal | None], Contribution] | None = None

    def _new_stream(self) -> CandleStream:
        settings, numbers = self.desk.settings, self.desk.numbers
        return CandleStream(
            settings.timeframe,
            keep=max(KEEP_CANDLES, settings.warmup + 50),
            replace_window=numbers.replace_window,
            close_grace_ms=round(numbers.candle_close_grace * 1000),
        )

    # -- the tick path ------------------------------------------------------------------------------------

    def on_tick(self, tick: Tick) -> None:
        """Take one tick; everything up to the strategy's decision happens before this returns."""
        self._take_price(tick)
        placement = self.stream.on_tick(tick)
        if placement is not None:
            self._placed(placement)
        if self.stream.close_due != self._armed_for:
            self._arm_close()

    def on_candle(self, candle: Candle) -> None:
        """Take one closed candle of a recording."""
        self._placed(self.stream.on_candle(candle))

    def on_mark(self, tick: Tick) -> None:
        """Take a price that forms no candle here: a recording of candles moves the mark."""
        self._take_price(tick)

    def _take_price(self, tick: Tick) -> None:
        """Move mark and age of the data; a late tick amends its candle and is no news of the price."""
        desk = self.desk
        if desk.last_tick is not None and tick.at < desk.last_tick:
            return
        desk.mark = tick.price
        desk.last_tick = tick.at
        self.guard.on_tick(tick.price, tick.at)

    def _arm_close(self) -> None:
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        self._armed_for = due = self.stream.close_due
        if due is not None:
            self._close_timer = self.desk.clock.call_at(due, self._close_by_clock)

    def _close_by_clock(self) -> None:
        placement = self.stream.on_clock(self.desk.now())
        if placement is not None:
            self._placed(placement)
        self._arm_close()

    def _placed(self, placement: Placement) -> None:
        match placement:
            case Added(candle=candle):
                self._on_added(candle)
            case Replaced(was=was, now=now):
                self.counters.candles_replaced += 1
                self.replaced.add(now.start)
                self.runner.replaced(was, now)
            case Inserted(candle=candle):
                self.decisions.log(candle, False, "not run", "inserted late: the strategy does not run on it")
            case Ignored(candle=candle, repeated=repeated):
                if not repeated:
                    self.decisions.log(candle, False, "ignored", "older than the replacement window")
            case _:
                assert_never(placement)

    def _on_added(self, candle: Candle) -> None:
        warmup = self.desk.settings.warmup
        warming = self.warmed < warmup
        if warming:
            self.warmed += 1
            self.counters.warmup_candles += 1
        else:
            self.counters.candles_closed += 1
        seen = self.stream.series.until(candle.start)
        self.runner.decide(candle, seen, warming=warming, catching_up=self._catching_up)
        if self.desk.phase is Phase.WARMING:
            self.desk.phase_detail = f"{self.warmed} of {warmup} candles"
            if self.warmed >= warmup:
                self._open_trading()

    def _open_trading(self) -> None:
        self.desk.phase, self.desk.phase_detail = Phase.TRADING, ""
        self.desk.blocks.clear("start")
        self.ready.set()
        self.runner.send_missed()

    # -- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The account half of the start, then the upkeep beside the data half; ends by an exception only."""
        desk = self.desk
        self.ready.clear()
        self._broken = None
        desk.blocks.set("start", "session is starting")
        self._reporting = False
        loops = [
            desk.tasks.spawn(self.recovery.run(), "doubt loop"),
            desk.tasks.spawn(self.guard.run(), "guard"),
        ]
        try:
            await self._account_half()
            self._reporting = True
            self.report_heat()
            loops.append(desk.tasks.spawn(self._data_half(), "data half"))
            while True:
                self.upkeep()
                if await desk.until(lambda: self._broken is not None, 1.0):
                    if isinstance(self._broken, StartOver):
                        raise self._broken
                    raise RuntimeError(f"a standing loop failed: {self._broken}")
        finally:
            await cancel_and_wait(*loops)

    async def _account_half(self) -> None:
        """Wait for no data: orders recovered and position agreed; before that nobody may count with this risk."""
        desk = self.desk
        desk.phase, desk.phase_detail = Phase.RECOVERING, "asking about open orders"
        await self._ask_about_open_orders()
        desk.phase, desk.phase_detail = Phase.RECONCILING, "comparing position and orders"
        desk.road.suspect(f"{desk.id} starts", orders=True)
        since = desk.now()
        while desk.book.confirmed_at is None or desk.book.confirmed_at < since or "position" in desk.blocks:
            if not await desk.until(
                lambda: (desk.book.confirmed_at or 0) >= since and "position" not in desk.blocks, 5.0
            ):
                desk.road.suspect(f"{desk.id} still waits for an agreeing position", orders=False)

    async def _ask_about_open_orders(self) -> None:
        desk = self.desk
        opened = [o for o in desk.book.open() if o.state not in TERMINAL]
        if not opened:
            return
        oldest = min(o.created for o in opened) - 5_000
        while not await self.recovery.fetch_fills(oldest):
            await desk.clock.sleep(1.0)
        for order in opened:
            if order.doubt is not None and desk.current(order).doubt is not None:
                await self.recovery.ask(desk.current(order))

    async def _data_half(self) -> None:
        desk = self.desk
        desk.phase, desk.phase_detail = Phase.SUBSCRIBING, ""
        while desk.lease.is_unanswered:
            desk.phase_detail = "waiting for the database: who commands since the process stood still?"
            await desk.clock.sleep(1.0)
        desk.phase_detail = ""
        await self.runner.start_again()
        self.stream = self._new_stream()
        self.warmed = 0
        self.stream.begin_buffering(desk.now(), "start", named=self._feed.time)
        self._subscribe()
        desk.phase, desk.phase_detail = Phase.LOADING_HISTORY, "from the feed"
        if self._feed.is_tape:
            self.stream.go_live_without_history()
        else:
            await self._join(warmup=True)
        if self.warmed < desk.settings.warmup:
            desk.phase = Phase.WARMING
            desk.phase_detail = f"{self.warmed} of {desk.settings.warmup} candles"
        elif desk.phase is not Phase.TRADING:
            self._open_trading()
        self.ready.set()

    def _subscribe(self) -> None:
        if self._subscribed:
            return
        symbol = self.desk.book.symbol
        if self._feed.candle_step is None:
            self._feed.subscribe(symbol, self.on_tick)
        else:
            self._feed.subscribe(symbol, self.on_mark)
            self._feed.subscribe_candles(symbol, self.desk.settings.timeframe, self.on_candle)
        self._subscribed = True

    async def _join(self, *, warmup: bool) -> None:
        """Ask for history until it overlaps the live feed, or the session starts again; the snapshot has the proof."""
        desk, stream = self.desk, self.stream
        while self.stream is stream:
            if self._feed.is_up:
                wanted = stream.wanted_since(desk.settings.warmup, self._feed.time)
                line = stream.line
                history = await self._feed.history(desk.book.symbol, desk.settings.timeframe, wanted)
                if history is not None and self._held_since(stream, line):
                    if self._feed.candle_step is not None:
                        history = changed(history, forming=None)
                    joined = stream.join(history, warmup=warmup, behind=self._feed.time - desk.now())
                    if not isinstance(joined, NoOverlap):
                        desk.blocks.clear("gap")
                        self._place_all(joined.placements)
                        return
            await desk.clock.sleep(RETRY_HISTORY_SECONDS)

    def _held_since(self, stream: CandleStream, line: int) -> bool:
        """Whether the feed's line has neither broken nor come back since, and the session not started again."""
        return self._feed.is_up and self.stream is stream and stream.line == line

    def _place_all(self, placements: tuple[Placement, ...]) -> None:
        """What history taught, in order; an exit that a later candle supersedes is not sent."""
        self._catching_up = True
        try:
            for placement in placements:
                self._placed(placement)
        finally:
            self._catching_up = False
        self._arm_close()
        if self.desk.phase is Phase.TRADING:
            self.runner.send_missed()

    def on_feed(self, up: bool, reason: str) -> None:
        """The feed's link changed: while it is down nothing closes; once it is back history fills the gap first."""
        desk = self.desk
        if not self._subscribed:
            return
        if not up:
            if not self.stream.is_buffering:
                self.stream.begin_buffering(desk.now(), reason or "the feed's link was down", named=self._feed.time)
                self._arm_close()
            desk.blocks.set("gap", "the feed is down")
        elif self.stream.is_buffering:
            self.stream.link_restored(desk.now(), named=self._feed.time)
            desk.blocks.set("gap", "the gap in the feed is being filled")
            if desk.phase in (Phase.WARMING, Phase.TRADING) and self._refilling is not self.stream:
                self._refilling = self.stream
                desk.tasks.launch(self._refill(), "fill the gap")

    async def _refill(self) -> None:
        stream = self.stream
        try:
            await self._join(warmup=False)
        finally:
            self._refilling = None if self._refilling is stream else self._refilling

    def upkeep(self) -> None:
        """Once a second: the heat report, the day, the daily loss, flat-by, and blocks by disagreements."""
        desk = self.desk
        now = desk.now()
        if now - self._reported >= desk.numbers.heat_report_every * 1000:
            self.report_heat()
        self.day.look(now)
        self.read_disagreements()

    def read_disagreements(self) -> None:
        """Entries wait while a disagreement of this session is neither explained nor acknowledged."""
        blocking = self.desk.disagreements.blocking(self.desk.settings.id)
        if blocking is None:
            self.desk.blocks.clear("disagreement")
        else:
            self.desk.blocks.set("disagreement", f"{blocking.kind} waits for you: {blocking.done or blocking.broker}")

    def cancel_entries(self, reason: str) -> int:
        """Ask for a cancel of every resting entry; how many there were."""
        resting = [o for o in self.desk.book.open() if o.is_entry and o.is_open]
        for order in resting:
            self.desk.tasks.launch(self._cancel(order, reason), f"cancel {order.client_id}")
        return len(resting)

    async def _cancel(self, order: Order, reason: str) -> None:
        await self.submission.cancel(order, reason)

    # -- what moved -----------------------------------------------------------------------------------------

    def on_change(self, change: Change, now: Millis) -> None:
        """Every change of the working copy: audit trail, consoles, heat, and whoever waits."""
        tell_change(self.desk, self.counters, change, now)
        self.report_heat()
        self.desk.moved()

    def planned_risk(self, terms: Terms, stop_loss: Decimal | None, size: Decimal) -> Decimal:
        """Money that an entry with these terms would put at risk."""
        return planned_risk(self.scale, terms, stop_loss, self.desk.mark, size)

    def loop_failed(self, name: str, error: BaseException) -> None:
        """One of this session's standing loops ended: the session has to start again."""
        if name.endswith(LOOPS):
            self._broken = error
            self.desk.moved()

    def start_over(self, reason: str) -> None:
        """Go through both halves of the start again."""
        self._broken = StartOver(reason)
        self.desk.moved()

    def report_heat(self) -> None:
        """Declare this session's risk; nobody else may, and nobody for a trader that does not run any more."""
        if not self._reporting:
            return
        desk, book = self.desk, self.desk.book
        self._reported = now = desk.now()
        moved = (book.version, book.position, desk.mark)
        if self._declared is None or self._declared[0] != moved:
            self._declared = moved, self.declared(book.open())
        self._report(changed(self._declared[1], at=now))

    def declared(self, orders: tuple[Order, ...]) -> Contribution:
        """What this session would declare with these open orders."""
        desk = self.desk
        excess, _ = excess_exits(orders, desk.book.position)
        return contribution(desk.settings.id, self.scale, desk.book.position, desk.mark, orders, excess, desk.now())

    def recovered(self) -> None:
        """Orders loaded from the audit trail: what was under way in an earlier life is in doubt now."""
        desk = self.desk
        for order in desk.book:
            after = lifecycle.as_found_after_restart(order, desk.now())
            if after is not order:
                desk.put(after, "found after restart")

    def day_profit(self) -> Decimal:
        """Today's result in money."""
        return self.desk.ledger.total(self.desk.book.position, self.desk.mark)

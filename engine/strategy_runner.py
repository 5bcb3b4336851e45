"""One session's strategy: run once per added candle, its decision used at most once ever."""

from __future__ import annotations

import logging

from engine.domain.decisions import Cancel, Decision, Intent, Modify, Nothing, StrategyContext, Submit
from engine.domain.ids import Millis
from engine.domain.market import Candle, CandleOrigin
from engine.domain.records import CandleEvaluated, LatchKind
from engine.domain.records import ReplacedAfterDecision as ReplacedRecord
from engine.domain.settings import Remedy
from engine.errors import StoreError, StrategyFailed
from engine.outbound.decision_handler import DecisionHandler
from engine.outbound.entries import EntryRoad
from engine.ports import Watchdog
from engine.session import SessionDesk
from engine.snapshot import Phase, Severity
from engine.strategies.protocol import Strategy

log = logging.getLogger(__name__)
REMEMBERED = 16


class Counters:
    """What a headless run reports at its end."""

    def __init__(self) -> None:
        self.candles_closed = 0
        self.candles_replaced = 0
        self.warmup_candles = 0
        self.strategy_runs = 0
        self.fills = 0
        self.decisions: dict[str, int] = {}


class StrategyRunner:
    """Holds the strategy's state, which is never stored, and what an earlier life had already decided."""

    def __init__(
        self,
        desk: SessionDesk,
        strategy: Strategy,
        watchdog: Watchdog,
        entries: EntryRoad,
        handler: DecisionHandler,
        counters: Counters,
    ) -> None:
        self._desk = desk
        self._strategy = strategy
        self._watchdog = watchdog
        self._entries = entries
        self._handler = handler
        self._counters = counters
        self._state: object = strategy.initial()
        self._evaluated: Millis = -1
        self._decided: dict[Millis, str] = {}
        self._missed: tuple[Candle, str] | None = None

    async def start_again(self) -> None:
        """Forget the state, it is rebuilt by warm-up, and read the newest candle that was ever decided on.

        Without it no candle is safe: a database that is away is waited for, however long.
        """
        evaluated = await self._newest_evaluated()
        self._evaluated = max(self._evaluated, evaluated if evaluated is not None else -1)
        self._state = self._strategy.initial()
        self._missed = None

    async def _newest_evaluated(self) -> Millis | None:
        desk = self._desk
        while True:
            try:
                with desk.clock.outside():
                    return await desk.store.evaluated(desk.settings.id)
            except StoreError as error:
                desk.phase_detail = f"the database does not answer: {error}"
            await desk.clock.sleep(1.0)

    def decide(self, candle: Candle, candles: tuple[Candle, ...], *, warming: bool, catching_up: bool) -> None:
        """Run the strategy on an added candle, and use its decision if this candle may be traded on.

        While warming or catching up nothing is sent; an exit that was missed is kept for `send_missed`.
        """
        decision = self._run(candle, candles, warming)
        if decision is None:
            return
        if warming:
            self._note_missed(candle, decision)
            return
        self._count(kind_of(decision))
        self._remember(candle, decision)
        if candle.start <= self._evaluated:
            self._handler.log(candle, True, kind_of(decision), "evaluated in an earlier life; not used again")
            return
        desk = self._desk
        if catching_up or desk.phase is not Phase.TRADING:
            self._note_missed(candle, decision)
            self._handler.log(candle, True, kind_of(decision), "catching up: only an exit is kept")
            if self._missed is not None:
                return  # used once trading opens: whoever starts over before that has to find it again
        self._use(candle.start)
        if not catching_up and desk.phase is Phase.TRADING:
            self._missed = None
            self._handler.handle(decision, candle, entries_allowed=self._entry_bar(candle))

    def _use(self, start: Millis) -> None:
        """Decisions up to this candle are used, or dropped, for good."""
        self._evaluated = start
        self._desk.record(CandleEvaluated(session=self._desk.settings.id, candle=start, at=self._desk.now()))

    def _run(self, candle: Candle, candles: tuple[Candle, ...], warming: bool) -> Decision | None:
        """One call under the watchdog; a strategy that fails decides nothing, and its entries pause."""
        desk = self._desk
        context = StrategyContext(
            candles=candles,
            state=self._state,
            position=desk.book.position,
            orders=tuple(o for o in desk.book.open() if o.is_open),
            instrument=desk.instrument,
            warming=warming,
        )
        if not warming:
            self._counters.strategy_runs += 1
        try:
            decision = self._watchdog.run(desk.numbers.strategy_budget, lambda: self._strategy.decide(context))
            if not isinstance(decision, Nothing | Submit | Modify | Cancel):
                raise StrategyFailed(f"decide() returned {type(decision).__name__}, not a decision")
        except Exception as error:
            log.exception("strategy of %s failed on the candle of %s", desk.id, candle.start)
            self._failed(candle, error)
            return None
        self._state = decision.state
        return decision

    def _failed(self, candle: Candle, error: Exception) -> None:
        desk = self._desk
        reason = str(error) if isinstance(error, StrategyFailed) else f"{type(error).__name__}: {error}"
        self._count("failed")
        self._handler.log(candle, True, "failed", reason)
        self._entries.latch(LatchKind.STRATEGY, f"the strategy failed: {reason}")
        desk.reporter.alert(f"strategy:{desk.id}", Severity.WARNING, f"{desk.id}: the strategy failed: {reason}")

    def _count(self, kind: str) -> None:
        self._counters.decisions[kind] = self._counters.decisions.get(kind, 0) + 1

    def _remember(self, candle: Candle, decision: Decision) -> None:
        self._decided[candle.start] = kind_of(decision)
        while len(self._decided) > REMEMBERED:
            del self._decided[next(iter(self._decided))]

    def _entry_bar(self, candle: Candle) -> str | None:
        """Why this candle may not lead to an entry, whatever the desk's state."""
        if candle.origin is not CandleOrigin.LIVE:
            return f"the candle is {candle.origin}: no entry on it"
        desk = self._desk
        late = desk.now() - candle.start - desk.settings.timeframe.ms
        allowed = min(desk.settings.timeframe.ms, round(desk.numbers.intent_deadline * 1000))
        return f"the candle ended {late // 1000} s ago" if late > allowed else None

    def replaced(self, was: Candle, now: Candle) -> None:
        """A closed candle changed: the strategy does not run; if it had decided on it, a record is kept."""
        desk = self._desk
        if now.start in self._decided:
            desk.record(
                ReplacedRecord(
                    session=desk.settings.id,
                    candle=now.start,
                    revision=now.revision,
                    was=f"{was.open} {was.high} {was.low} {was.close}",
                    now=f"{now.open} {now.high} {now.low} {now.close}",
                    at=desk.now(),
                )
            )
        self._handler.log(now, False, "replaced", "values changed after the close: the strategy does not run again")

    # -- exits missed while nobody traded -------------------------------------------------------------------

    def _note_missed(self, candle: Candle, decision: Decision) -> None:
        """The newest submit decides: an exit that nobody could send is owed, an entry makes it obsolete."""
        if not isinstance(decision, Submit):
            return
        owed = decision.intent in (Intent.EXIT, Intent.REVERSE) and 0 <= self._evaluated < candle.start
        self._missed = (candle, decision.reason) if owed else None
        if candle.start > self._evaluated >= 0:
            self._handler.superseded(decision)

    def send_missed(self) -> None:
        """Trading is open: send what is owed, marked, or ask."""
        desk = self._desk
        missed, self._missed = self._missed, None
        if missed is None:
            return
        candle, reason = missed
        self._use(max(candle.start, *self._decided, self._evaluated))
        if desk.book.position.is_flat:
            return
        if desk.settings.missed_exit is Remedy.EXIT:
            self._handler.leave(str(candle.start), f"missed: {reason}", candle.start, missed=True)
            return
        text = f"{desk.id}: the strategy wanted out at {candle.start} while nobody traded ({reason}); flatten or keep"
        desk.reporter.alert(f"missed:{desk.id}", Severity.CRITICAL, text, lasting=True)


def kind_of(decision: Decision) -> str:
    """A decision's name in counts and logs."""
    match decision:
        case Nothing():
            return "nothing"
        case Submit(intent=intent):
            return str(intent)
        case Modify():
            return "modify"
        case Cancel():
            return "cancel"

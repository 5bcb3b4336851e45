"""A strategy that trades a lot, on everything a strategy may ask for, and now and then misbehaves."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from engine.domain.decisions import Cancel, Decision, Intent, Modify, Nothing, StrategyContext, Submit
from engine.domain.ids import Millis, SessionId
from engine.domain.market import CandleOrigin
from engine.domain.orders import Order, OrderType, Role, Side
from engine.errors import StrategyFailed
from tests.simulation.oracle.mind import Wish
from tests.simulation.oracle.requests import CARELESS
from tests.simulation.streams import Stream

T = TypeVar("T")
WANTS_OUT = 0.2
FAR = Decimal("0.08")
"""Of the price; the collar is at five in a hundred."""
BEHAVED = Nothing(state=0, reason="waits")


class RanAway(BaseException):
    """A strategy that does not come back; the watchdog ends it."""


class SimWatchdog:
    """Watchdog without a thread: a run-away says so itself."""

    def run(self, seconds: float, call: Callable[[], T]) -> T:
        """The result of `call`. Raises StrategyFailed."""
        try:
            return call()
        except RanAway:
            raise StrategyFailed(f"it ran longer than {seconds * 1000:.0f} ms and was interrupted") from None


class Restless:
    """Decides by its session's own stream; `watch` is told what it was shown before it decides."""

    def __init__(
        self,
        session: SessionId,
        rng: Stream,
        watch: Callable[[SessionId, StrategyContext], None],
        hit: Callable[[str], None],
    ) -> None:
        self._session = session
        self._rng = rng
        self._watch = watch
        self._hit = hit
        self.failing = 0.0
        self.runaway = 0.0
        self.oversized = 0.0
        self.careless = 0.0
        self.decided: set[Millis] = set()
        self.wish: Wish | None = None
        self.quiet = False
        self.script: list[Callable[[StrategyContext], Decision]] | None = None

    def initial(self) -> int:
        """Nothing is remembered."""
        return 0

    def decide(self, context: StrategyContext) -> Decision:
        """Enter, add, move, leave, reverse, cancel; or fail."""
        before = max(self.decided, default=-1)
        decision = self._decide(context)
        if isinstance(decision, Submit):
            is_past = context.warming or context.candles[-1].origin is CandleOrigin.BACKFILLED
            leaves = decision.intent in (Intent.EXIT, Intent.REVERSE)
            all_of_it = decision.quantity is None or decision.intent is Intent.REVERSE
            whole = leaves and all_of_it and not context.position.is_flat
            self.wish = Wish(seen_until(context), before, is_past=is_past, leaves=leaves, whole=whole)
        elif self.wish is not None and self.wish.candle == seen_until(context):
            self.wish = None  # run again by a session that started over, it does not want that any more
        return decision

    def _decide(self, context: StrategyContext) -> Decision:
        self._watch(self._session, context)
        rng = self._rng
        if context.warming:
            if context.position.is_flat or rng.random() > WANTS_OUT:
                return BEHAVED
            self._hit("wants out while warming")
            return Submit(state=0, intent=Intent.EXIT, reason="out, as it would have been")
        if rng.chance(self.failing):
            self._hit("strategy exception")
            raise ZeroDivisionError("the strategy divided by zero")
        if rng.chance(self.runaway):
            self._hit("strategy runaway")
            raise RanAway
        self.decided.add(context.candles[-1].start)
        if self.script is not None:
            return self.script.pop(0)(context) if self.script else BEHAVED
        if self.quiet:
            return BEHAVED
        if context.position.is_flat:
            return self._when_flat(context)
        return self._when_held(context)

    def _when_flat(self, context: StrategyContext) -> Decision:
        resting = [o for o in context.orders if o.role is Role.ENTRY and not o.is_in_doubt]
        if resting:
            return self._about(resting, context)
        if self._rng.random() < 0.55:
            return self._enter(context, Intent.ENTER, self._rng.one_of((Side.BUY, Side.SELL)))
        return BEHAVED

    def _when_held(self, context: StrategyContext) -> Decision:
        stops = tuple(o.client_id for o in context.orders if o.role is Role.STOP)
        if stops and self._rng.chance(self.careless):
            self._hit("careless strategy")
            return Cancel(state=0, orders=stops, reason=CARELESS)
        roll = self._rng.random()
        held = context.position.quantity
        side = Side.BUY if held > 0 else Side.SELL
        if roll < 0.16:
            return Submit(state=0, intent=Intent.EXIT, reason="out")
        if roll < 0.22:
            return Submit(state=0, intent=Intent.EXIT, quantity=Decimal(1), reason="a part out")
        if roll < 0.34:
            self._hit("reverses")
            return self._enter(context, Intent.REVERSE, side.opposite)
        if roll < 0.44:
            return self._enter(context, Intent.ENTER, side)
        if roll < 0.48:
            return self._enter(context, Intent.ENTER, side.opposite)
        if roll < 0.72 and context.orders:
            return self._about(list(context.orders), context)
        return BEHAVED

    def _about(self, orders: list[Order], context: StrategyContext) -> Decision:
        order = self._rng.one_of(sorted(orders, key=lambda o: o.client_id))
        tick = context.instrument.tick_size
        by = self._rng.randint(-6, 6) * tick
        if order.role is Role.ENTRY and self._rng.random() < 0.5:
            return Cancel(state=0, orders=(order.client_id,), reason="changed its mind")
        if order.terms.limit is not None:
            return Modify(state=0, order=order.client_id, limit=order.terms.limit + by, reason="moves")
        if order.terms.stop is not None:
            return Modify(state=0, order=order.client_id, stop=order.terms.stop + by, reason="moves")
        return BEHAVED

    def _enter(self, context: StrategyContext, intent: Intent, side: Side) -> Decision:
        rng, tick = self._rng, context.instrument.tick_size
        last = context.candles[-1].close
        kind = rng.one_of((OrderType.MARKET, OrderType.MARKET, OrderType.LIMIT, OrderType.STOP))
        away = rng.randint(2, 8) * tick * side.sign
        limit = last - away if kind is OrderType.LIMIT else None
        stop = last + away if kind is OrderType.STOP else None
        at = limit or stop or last
        quantity = Decimal(rng.randint(1, 4))
        if rng.chance(self.oversized):
            self._hit("oversized entries")
            quantity = Decimal(rng.randint(6, 12))
        if kind is not OrderType.MARKET and rng.chance(self.oversized):
            self._hit("oversized entries")
            far = _on_grid(last * FAR, tick) * side.sign
            at = last - far if kind is OrderType.LIMIT else last + far
            limit, stop = (at, None) if kind is OrderType.LIMIT else (None, at)
        return Submit(
            state=0,
            intent=intent,
            side=side,
            quantity=quantity,
            type=kind,
            limit=limit,
            stop=stop,
            stop_loss=at - rng.randint(8, 30) * tick * side.sign,
            take_profit=at + rng.randint(8, 40) * tick * side.sign if rng.random() < 0.5 else None,
            reason="in",
        )


def _on_grid(price: Decimal, tick: Decimal) -> Decimal:
    """On the grid."""
    return price // tick * tick


def seen_until(context: StrategyContext) -> Millis:
    """Start of the candle that is decided on."""
    return context.candles[-1].start

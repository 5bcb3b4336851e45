"""The stop that guards the position: sized to it, re-armed when it is gone, and caught when it does not act."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace as changed

from engine.domain import order_lifecycle as lifecycle
from engine.domain.ids import Millis, decision_key
from engine.domain.order_book import parent_unfilled, reduces
from engine.domain.orders import (
    ZERO,
    Flag,
    Order,
    OrderState,
    OrderType,
    Role,
    Terms,
    TimeInForce,
    side_of,
)
from engine.domain.positions import Position
from engine.domain.settings import Protection, Remedy
from engine.outbound.exit_road import ExitRoad, Failed
from engine.outbound.exits import moving_exits
from engine.outbound.fitting import Fit, fit_protection
from engine.outbound.inert import InertWatch
from engine.outbound.leftovers import LOOK_SECONDS, Leftovers
from engine.outbound.resting import Resting, resting
from engine.outbound.rivals import YIELD_SECONDS, Beside, stops_of_others
from engine.outbound.sleepers import unproven_sleepers
from engine.outbound.standing import Standing
from engine.outbound.submission import ExitOrder, Submission
from engine.periodic import Burst
from engine.session import SessionDesk
from engine.snapshot import Phase, ProtectionState, Severity

RESIZE_GRACE_MS = 1_000
BROKER_SIZES_GRACE_MS = 2_500
_READY = (Phase.SUBSCRIBING, Phase.LOADING_HISTORY, Phase.WARMING, Phase.TRADING)
_UNPROVEN = (
    OrderState.SUBMITTING,
    OrderState.IN_DOUBT_SUBMIT,
    OrderState.IN_DOUBT_CANCEL,
    OrderState.IN_DOUBT_REPLACE,
    OrderState.PENDING_CANCEL,
    OrderState.PENDING_REPLACE,
)


class Guard:
    """Protection of one session's position. `stop_price` and `target_price` are what it knows to want."""

    def __init__(self, desk: SessionDesk, submission: Submission, exits: ExitRoad) -> None:
        self._desk = desk
        self._submission = submission
        self._exits = exits
        self.stop_price: Decimal | None = None
        self.target_price: Decimal | None = None
        self._uneven_since: Millis | None = None
        self._uncovered_since: Millis | None = None
        self._over_since: Millis | None = None
        self._rearmed = False
        self._armed = False
        self._asked_for = False
        self._inert = InertWatch(desk)
        self._standing = Standing()
        self._target_hit = False
        self._opening: Order | None = None
        self._opening_seen: tuple[int, Position] | None = None
        self._resting: Resting | None = None
        self._resting_seen: tuple[int, Position] | None = None
        self._leftovers = Leftovers(desk, submission)

    @property
    def is_settled(self) -> bool:
        """Whether what rests at the broker fits the position, as far as the last look saw."""
        return self._uneven_since is None and self._uncovered_since is None

    def ask_for_stop(self, price: Decimal) -> None:
        """The strategy wants out at this price: a stop has to stand there, also where the settings demand none."""
        self.stop_price, self._asked_for = price, True
        self._desk.moved()

    # -- ticks --------------------------------------------------------------------------------------------

    def on_tick(self, mark: Decimal, now: Millis) -> None:
        """Note whether the price has run through the stop, or has reached a target of ours; nothing is awaited."""
        held, target = self._desk.book.position.quantity, self.target_price
        self._inert.on_tick(mark, self.stop_price, now)
        if not held or target is None or self._target_hit or (mark - target) * held < 0 or not self._ours(target):
            return
        self._target_hit = True
        self._desk.moved()

    # -- the loop -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: keep what rests at the broker fitting to the position."""
        desk = self._desk
        burst = Burst(desk.clock)
        while True:
            version = desk.book.version
            if desk.phase in _READY:
                await self.step()
            if desk.book.version != version:
                if burst.goes_on():
                    continue
                version = desk.book.version  # each look changes something and gets nowhere: others want to run, too
            pause = LOOK_SECONDS if desk.book.position.quantity or desk.book.open() else 30.0
            await desk.until(
                lambda seen=version: desk.book.version != seen or self._target_due(),  # type: ignore[misc]
                pause,
            )

    def _target_due(self) -> bool:
        """Whether to leave at a target of ours; a session that starts again first learns where it stands."""
        desk = self._desk
        held = desk.phase in _READY and bool(desk.book.position.quantity)
        return self._target_hit and held and self._ours(self.target_price)

    async def step(self) -> None:
        """One look at position and protective orders."""
        desk = self._desk
        position = desk.book.position
        if position.is_flat:
            await self._when_flat()
            return
        self._learn_prices()
        due, self._target_hit = self._target_due(), False
        if due:
            await self._exits.leave(f"target:{desk.now()}", None, f"target {self.target_price} reached")
            return
        await self._leftovers.cancel_wrong_side()
        if self._leaving():
            self._while_leaving()
            await self._fit_leaving()
            return
        self._over_since = None
        await self._cover()
        await self._inert.look(self._rests().stops)

    def _leaving(self) -> bool:
        """Whether the position is being left: a stop placed or made larger beside an exit would turn it round."""
        return self._exits.busy or bool(self._rests().leaving)

    def _while_leaving(self) -> None:
        """No stop beside an exit that may act any moment; but one that does not act for long is no protection."""
        covered = self._rests().covered
        if covered >= abs(self._desk.book.position.quantity):
            self._uncovered_since = None
            self._show(ProtectionState.COVERING)
            return
        now = self._desk.now()
        self._uncovered_since = self._uncovered_since or now
        if self._desk.protection is not ProtectionState.NAKED:
            self._show(ProtectionState.COVERING)
        acting = min(self._rests().leaving, key=lambda o: not o.is_in_doubt, default=None)
        what = "an exit is under way" if acting is None else f"exit {acting.client_id} is {acting.state}"
        self._naked_alarm(now, f"{what}, and stops for {covered} stand beside it")

    async def _fit_leaving(self) -> None:
        """An exit that waits for the market closes no more than there is, once others' hands took a part of it."""
        desk, position = self._desk, self._desk.book.position
        moving = moving_exits(desk.book.open(), position)
        excess = sum((o.at_most for o in moving), ZERO) - abs(position.quantity)
        settled = not self._exits.busy and all(map(lifecycle.may_replace, moving))
        if excess <= 0 or not settled:
            self._over_since = None
            return
        self._over_since = self._over_since or desk.now()
        if desk.now() - self._over_since < RESIZE_GRACE_MS:
            return
        self._over_since = None
        fresh = await desk.road.fresh_position(desk.book.symbol, desk.numbers.exit_sizing_read)
        if fresh is None or fresh.quantity != position.quantity or desk.book.position != position or self._exits.busy:
            return
        order = desk.current(max(moving, key=lambda o: o.at_most))
        left = order.at_most - excess
        if not lifecycle.may_replace(order):
            return
        if left <= 0:
            await self._submission.cancel(order, f"position is {position.quantity}")
            return
        wanted = changed(order.terms, quantity=order.filled + left)
        await self._submission.replace(order, wanted, f"position is {position.quantity}")

    async def _when_flat(self) -> None:
        desk = self._desk
        self._uneven_since = self._uncovered_since = self._over_since = None
        self._inert.is_flat()
        self._rearmed = self._armed = self._target_hit = self._asked_for = False
        self.target_price = None
        if not any(o.is_entry and o.is_open for o in desk.book.open()):
            self.stop_price = None
        for alert in ("naked", "inert", "exit"):
            desk.reporter.clear(f"{alert}:{desk.id}")
        self._show(ProtectionState.FLAT)
        await self._leftovers.sweep()

    def _learn_prices(self) -> None:
        """The stop we should have: a working one's price, else that of the entry that opened the position."""
        book = self._desk.book
        stops = self._rests().stops
        newest = self._opening_entry()
        if newest is not None and self.target_price is None and self._ours(newest.target):
            sent = any(o.role is Role.TARGET and o.parent == newest.client_id for o in book)
            if not (stops and sent):
                self.target_price = newest.target
        if stops:
            self.stop_price = stops[0].terms.stop
        elif newest is not None and self.stop_price is None:
            self.stop_price = newest.protect_stop

    def _opening_entry(self) -> Order | None:
        """The newest entry with fills on the position's side; the book is gone through once for each of its changes."""
        book = self._desk.book
        seen = (book.version, book.position)
        if seen != self._opening_seen:
            entries = (o for o in book if o.is_entry and o.filled and not reduces(o, book.position))
            self._opening, self._opening_seen = max(entries, key=lambda o: o.updated, default=None), seen
        return self._opening

    def _ours(self, target: Decimal | None) -> bool:
        """Whether a target is ours to watch because no target order stands at the broker."""
        return target is not None and not any(o.role is Role.TARGET and o.is_open for o in self._desk.book.open())

    def _rests(self) -> Resting:
        """What acts against the position; the book is gone through once for each of its changes."""
        book = self._desk.book
        seen = (book.version, book.position)
        if self._resting is None or seen != self._resting_seen:
            self._resting, self._resting_seen = resting(book), seen
        return self._resting

    # -- covering -----------------------------------------------------------------------------------------

    async def _cover(self) -> None:
        desk = self._desk
        now = desk.now()
        size = abs(desk.book.position.quantity)
        rests = self._rests()
        stops, covered, changes = rests.stops, rests.covered, rests.changes
        if covered >= size:
            self._covered(stops)
        if not changes and covered >= size:
            self._uneven_since = None
            return
        if not stops and desk.settings.protection is Protection.NONE and not self._asked_for:
            self._show(ProtectionState.NOT_REQUIRED)
            return
        self._uneven_since = self._uneven_since or now
        if covered < size:
            self._uncovered_since = self._uncovered_since or now
            if desk.protection is not ProtectionState.NAKED:
                self._show(ProtectionState.COVERING)
        unproven = [o for o in desk.book.open() if o.role is Role.STOP and o.state in _UNPROVEN]
        if covered >= size:  # too much rests: a leg that sleeps beside an entry in doubt is no reason to leave it so
            orders = {order.client_id: order for order in desk.book.open()}
            unproven = [o for o in unproven if not parent_unfilled(o, orders)]
        if unproven:
            if covered < size:
                self._naked_alarm(now, f"stop {unproven[0].client_id} is {unproven[0].state}")
            return
        entry_open = any(o.is_entry and o.is_open and o.filled for o in desk.book.open())
        grace = BROKER_SIZES_GRACE_MS if entry_open and desk.road.capabilities.brackets else RESIZE_GRACE_MS
        if stops:
            if now - self._uneven_since >= grace:
                grows = any(fit.remaining > fit.order.remaining for fit in changes)
                beside = await stops_of_others(desk) if grows else Beside()
                if beside is None:
                    return  # it moved while we asked: these sizes are of before
                if beside.quantity:
                    self._naked_alarm(desk.now(), beside.text)
                    wanted = max(covered, size - beside.quantity)
                    changes = fit_protection(stops, rests.targets, wanted, rests.entered)
                flags = await self._still_held("no stop grows") if grows else frozenset()
                if flags is not None:
                    await self._resize(changes, flags)
                elif desk.book.position.quantity:
                    self._naked_alarm(now, "broker and memory hold different positions")
            return
        await self._rearm(size)

    def _covered(self, stops: tuple[Order, ...]) -> None:
        self._uncovered_since = None
        self._armed = True
        if (unseen := self._standing.look(stops, self._desk.now())) is not None:
            self._desk.road.suspect(f"stop {unseen} is new: does it rest at the broker?", orders=True)
        if self._standing.is_proven:
            self._rearmed = False
        self._desk.reporter.clear(f"naked:{self._desk.id}")
        if self._desk.protection is not ProtectionState.INERT or not self._inert.found:
            self._show(ProtectionState.COVERED)

    async def _resize(self, changes: tuple[Fit, ...], flags: frozenset[Flag]) -> None:
        """Ask for the sizes that fit, once per change of the position; what has to go is cancelled."""
        desk = self._desk
        position = desk.book.position
        for fit in changes:
            order = desk.current(fit.order)
            if desk.book.position != position:
                break
            if not fit.remaining:
                if order.role is Role.TARGET and position.quantity:
                    self.target_price = order.terms.limit  # watched here from now on
                await self._submission.cancel(order, f"position is {position.quantity}")
            elif lifecycle.may_replace(order):
                for flag in flags if fit.remaining > order.remaining else ():
                    order = desk.put(lifecycle.flagged(order, desk.now(), flag), "flagged", flag)
                wanted = changed(order.terms, quantity=order.filled + fit.remaining)
                await self._submission.replace(order, wanted, f"position is {position.quantity}")
        self._uneven_since = None

    async def _rearm(self, size: Decimal) -> None:
        """No stop is live, by the broker's own word on each we had: place one, once; else out, or ask."""
        desk = self._desk
        if self.stop_price is None:
            self._naked_alarm(desk.now(), "no stop is known for it", at_once=True)
            return
        beside = await stops_of_others(desk)
        now, position, mark = desk.now(), desk.book.position, desk.mark
        if beside is None or self._rests().stops or self._leaving():
            return
        bare = size - beside.quantity
        if bare <= 0:
            self._naked_alarm(now, beside.text)
            await desk.clock.sleep(YIELD_SECONDS)
            return
        through = mark is not None and (mark - self.stop_price) * position.quantity <= 0
        if not through and not self._rearmed:
            flags = await self._still_held("no stop is placed")
            if flags is None:
                return
            if desk.book.is_adopted and await unproven_sleepers(desk, position.quantity, desk.numbers.exit_sizing_read):
                self._naked_alarm(now, "the entry whose legs may guard it is not told", at_once=True)
                return
            if self._rests().stops or self._leaving() or desk.book.position != position:
                return
            self._rearmed = True
            order = await self._submission.exit(ExitOrder(self._stop_order(bare, flags)))
            if order.state not in (OrderState.REJECTED, OrderState.ABANDONED):
                self._rearmed, self._armed = self._armed, True  # the first stop of a position is no re-arming
                return
            if self._rests().stops:
                return  # one that was given up works after all
            self._naked_alarm(now, f"the broker refused a new stop: {order.reason}", at_once=True)
        elif not through and not desk.road.is_up:
            self._naked_alarm(now, "the account link is down", at_once=True)
            return
        why = f"price is through the stop {self.stop_price}" if through else "it could not be re-armed"
        self._naked_alarm(now, why, at_once=True)
        if desk.settings.naked is Remedy.EXIT:
            part = bare if beside.quantity else None
            result = await self._exits.leave(f"naked:{now}", part, f"unprotected: {why}")
            if isinstance(result, Failed):
                desk.reporter.alert(
                    f"naked:{desk.id}",
                    Severity.CRITICAL,
                    f"{desk.id}: NAKED {position.quantity} {desk.book.symbol}, and the exit failed: {result.text}",
                    lasting=True,
                )
                await desk.clock.sleep(LOOK_SECONDS)

    async def _still_held(self, else_what: str) -> frozenset[Flag] | None:
        """None unless the broker holds what memory holds: a stop for a position that is gone would open one.

        A silent broker does not stop the stop, naked is worse than doubtful; the flags say so.
        """
        desk = self._desk
        held = desk.book.position.quantity
        fresh = await desk.road.fresh_position(desk.book.symbol, desk.numbers.exit_sizing_read)
        if desk.book.position.quantity != held or self._leaving():
            return None
        if fresh is None:
            return frozenset({Flag.SIZED_FROM_MEMORY})
        if fresh.quantity != held:
            desk.road.suspect(f"{desk.book.symbol}: broker {fresh.quantity}, memory {held}; {else_what}")
            await desk.clock.sleep(LOOK_SECONDS)
            return None
        return frozenset()

    def _stop_order(self, size: Decimal, flags: frozenset[Flag]) -> Order:
        desk = self._desk
        origin = f"cover:{desk.now()}"
        key = decision_key(desk.settings.id, origin, "stop", desk.attempt(origin))
        return Order(
            client_id=desk.client_id(key),
            key=key,
            session=desk.settings.id,
            account=desk.settings.account,
            role=Role.STOP,
            terms=Terms(
                symbol=desk.book.symbol,
                side=side_of(desk.book.position.quantity).opposite,
                quantity=size,
                type=OrderType.STOP,
                stop=self.stop_price,
                tif=TimeInForce.GTC,
            ),
            state=OrderState.SUBMITTING,
            created=desk.now(),
            updated=desk.now(),
            epoch=desk.lease.epoch,
            flags=flags,
            reason="re-armed",
        )

    def _naked_alarm(self, now: Millis, why: str, *, at_once: bool = False) -> None:
        desk = self._desk
        waited = self._uncovered_since is not None and now - self._uncovered_since >= desk.numbers.stop_cover * 1000
        if not (waited or at_once):
            return
        self._show(ProtectionState.NAKED)
        desk.reporter.alert(
            f"naked:{desk.id}",
            Severity.CRITICAL,
            f"{desk.id}: NAKED {desk.book.position.quantity} {desk.book.symbol}: {why}",
            lasting=True,
        )
        if waited:
            desk.road.suspect(f"{desk.book.symbol} is not covered by a stop", orders=True)

    def _show(self, state: ProtectionState) -> None:
        if self._desk.protection is not state:
            self._desk.protection = state
            self._desk.moved()

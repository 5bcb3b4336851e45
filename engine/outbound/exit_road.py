"""The road of exits: sized by a fresh read where one comes in a second, never beside another exit, never refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace as changed

from engine.domain import order_lifecycle as lifecycle
from engine.domain.ids import ClientOrderId, Millis, decision_key
from engine.domain.order_book import closable, still_held
from engine.domain.orders import TERMINAL, Flag, Order, OrderState, OrderType, Role, Terms, side_of
from engine.domain.positions import Position
from engine.outbound.exits import (
    CancelFirst,
    Convert,
    NothingToClose,
    Plan,
    Send,
    Shrink,
    Step,
    Wait,
    leaves_at_once,
    less_what_may_be_void,
    not_leaving,
    plan_market_exit,
)
from engine.outbound.missed import still_working
from engine.outbound.sleepers import awake, unproven_sleepers
from engine.outbound.submission import ExitOrder, Submission
from engine.session import SessionDesk

PROOF_SECONDS = 5.0
MUTE_SECONDS = 60.0
"""How long a line that is up and lets no request leave (a token that has expired) costs an exit no try."""
MUTE_PAUSE_SECONDS = 1.0


class Left(Struct, frozen=True):
    """The broker took an exit (or a conversion), or there was nothing to close; `order` is what will fill."""

    order: Order | None
    text: str


class Held(Struct, frozen=True):
    """Another exit is in doubt and holds the position: evidence, or an operator's typed word, comes first."""

    order: Order
    text: str


class Failed(Struct, frozen=True):
    """The broker refused, or the tries are used up."""

    text: str


ExitResult = Left | Held | Failed


def unproven(order: Order) -> bool:
    """Whether nobody knows if this order still acts."""
    return order.is_in_doubt or order.state is OrderState.LOST


def ignore_line(_: str) -> None:
    """Nobody listens to the steps of this exit."""


class ExitRoad:
    """One exit procedure of a session at a time; the next one waits and then finds what the first left."""

    def __init__(self, desk: SessionDesk, submission: Submission) -> None:
        self._desk = desk
        self._submission = submission
        self._turn = asyncio.Lock()
        self._begun = 0.0

    @property
    def busy(self) -> bool:
        """Whether an exit is being carried out: what it cancels on the way is not missing protection."""
        return self._turn.locked()

    def outlook(self, quantity: Decimal | None) -> tuple[Plan, Decimal]:
        """How an exit would be carried out by what memory knows, and the most that it may close."""
        book, capabilities = self._desk.book, self._desk.road.capabilities
        plan = plan_market_exit(book.position, book.possible(), quantity, capabilities)
        return plan, not_leaving(book.open(), book.position)

    async def leave(
        self,
        origin: str,
        quantity: Decimal | None,
        reason: str,
        *,
        missed: bool = False,
        force: bool = False,
        since: Millis | None = None,
        say: Callable[[str], None] = ignore_line,
    ) -> ExitResult:
        """Close `quantity` (None: everything) at market. `force` disregards an exit in doubt: a typed word said so.

        `since` is given where an earlier life may have acted on `origin` from that moment on.
        """
        desk, begun = self._desk, self._desk.clock.monotonic()
        asking_ends = begun + desk.numbers.query_timeout
        async with self._turn:
            self._begun = begun
            nothing_seen = 0
            result: ExitResult = Failed("no try was made")
            tries = desk.numbers.tries
            while tries:
                tries -= 1
                if (stale := desk.lease.why_not_on(begun)) is not None:
                    return Failed(stale)
                other = None if since is None else await still_working(desk, origin, since, asking_ends)
                if other is not None:
                    return Failed(f"{other.broker_id}, an exit of an earlier life without a record, still works")
                position, from_memory = await self._basis(say)
                held = desk.book.position.quantity
                asleep: tuple[ClientOrderId, ...] = ()
                if position.quantity != held or desk.book.is_adopted:
                    asleep = await unproven_sleepers(desk, position.quantity, desk.numbers.exit_sizing_read)
                    if desk.book.position.quantity != held:
                        continue  # it was a fill that memory lacked: sized anew by what is known now
                orders = awake(desk.book.possible(), asleep)
                if abs(position.quantity) > abs(held) or desk.book.is_adopted:
                    position = less_what_may_be_void(position, orders)
                if force:
                    orders = tuple(o for o in orders if o.is_entry or not unproven(o))
                plan = plan_market_exit(position, orders, quantity, desk.road.capabilities)
                if isinstance(plan, NothingToClose):
                    nothing_seen += 1
                    if nothing_seen == 2 or from_memory:
                        return Left(None, "nothing to close" + (" as far as memory knows" if from_memory else ""))
                    continue
                first = None if force or isinstance(plan, Convert | Wait) else self._attempted(origin)
                if first is not None:
                    if not await self._ended(first):
                        return Held(first, f"exit {first.client_id} of the same decision still works")
                    tries += 1
                    continue
                flags = {
                    Flag.SIZED_FROM_MEMORY: from_memory,
                    Flag.MISSED: missed,
                    Flag.FORCED: force,
                }
                carried = await self._carry_out(plan, position, origin, reason, flags, say)
                if carried is None or (isinstance(carried, Failed) and not self._listened_to()):
                    await desk.road.until_up()
                    if desk.road.is_mute and desk.clock.monotonic() - begun < MUTE_SECONDS:
                        tries += 1
                        await desk.clock.sleep(MUTE_PAUSE_SECONDS)
                    continue
                result = carried
                if not isinstance(result, Failed):
                    return result
            return result

    def _attempted(self, origin: str) -> Order | None:
        """An exit under this origin that has not ended: what it does not close waits until it has (rule 7)."""
        prefix = decision_key(self._desk.settings.id, origin, "exit", 1).rpartition("/")[0]
        attempts = (o for o in self._desk.book.open() if o.role is Role.EXIT and o.key.rpartition("/")[0] == prefix)
        return next((o for o in attempts if o.state not in TERMINAL), None)

    async def _ended(self, order: Order) -> bool:
        desk = self._desk
        return await desk.until(lambda: desk.current(order).state in TERMINAL, PROOF_SECONDS)

    def _listened_to(self) -> bool:
        """Whether requests leave and no lock-out stands; what failed meanwhile was not the broker's word."""
        road = self._desk.road
        return road.is_up and road.locked_until is None and not road.is_mute

    async def _basis(self, say: Callable[[str], None]) -> tuple[Position, bool]:
        """The position to size by, and whether it had to come from memory."""
        desk = self._desk
        fresh = await desk.road.fresh_position(desk.book.symbol, desk.numbers.exit_sizing_read)
        known = self._known()
        if fresh is None:
            # adopted, it counts already what was reported and not fetched: nobody is left who could correct that
            known = desk.book.position if desk.book.is_adopted else known
            say(f"broker silent for {desk.numbers.exit_sizing_read:g} s: sized from memory ({known.quantity})")
            return known, True
        if fresh.quantity == known.quantity:
            return known, False
        desk.road.suspect(f"{desk.book.symbol}: broker {fresh.quantity}, memory {known.quantity}")
        say(f"broker says {fresh.quantity}, memory {known.quantity}")
        if fresh.quantity * known.quantity > 0:
            smaller = min(abs(fresh.quantity), abs(known.quantity))
            return Position(smaller if fresh.quantity > 0 else -smaller, known.average_price), False
        for _ in range(desk.numbers.tries):
            await desk.clock.sleep(desk.numbers.mismatch_reread)
            again = await desk.road.fresh_position(desk.book.symbol, desk.numbers.query_timeout)
            known = self._known()
            if again is None or again.quantity == known.quantity:
                return known, again is None
            if again.quantity == fresh.quantity:
                break
            fresh = again  # it moves: what memory says and no read confirms is nothing to size by
        return Position(fresh.quantity, fresh.average_price), False

    def _known(self) -> Position:
        """The position as memory has it, less what the broker says is closed though its fills are still fetched."""
        return still_held(self._desk.book.open(), self._desk.book.position)

    async def _carry_out(
        self,
        plan: Step,
        position: Position,
        origin: str,
        reason: str,
        flags: dict[Flag, bool],
        say: Callable[[str], None],
    ) -> ExitResult | None:
        """None: the link was down or the broker did not listen, and nothing left; try again when it does."""
        desk = self._desk
        match plan:
            case Send(quantity=quantity):
                leaving = self._order(origin, position, quantity, reason, flags)
                order = await self._submission.exit(ExitOrder(leaving, self._begun))
                return self._verdict(order, f"exit {order.terms.side} {order.terms.quantity} at market")
            case Convert(order=stop, quantity=quantity, first_cancel=others):
                if others:
                    begun = desk.now()
                    if not await self._gone(others, reason, say):
                        return Failed("a target could not be proven cancelled")
                    sized = await self._read_again(quantity, flags, begun)
                    if isinstance(sized, Failed):
                        return sized
                    quantity, flags = sized
                stop = desk.current(stop)
                if not lifecycle.may_replace(stop):
                    return Failed(f"stop {stop.client_id} is {stop.state}")
                if others:  # what filled while they were cancelled is not closed again
                    quantity = min(quantity, abs(self._known().quantity))
                    if not quantity:
                        return Left(None, "a protective order closed it")
                wanted = changed(
                    stop.terms,
                    type=OrderType.MARKET,
                    stop=None,
                    limit=None,
                    quantity=self._replace_size(stop, quantity),
                )
                say(f"converting stop {stop.client_id} to market for {quantity}")
                for flag in (flag for flag, on in flags.items() if on):
                    stop = desk.put(lifecycle.flagged(stop, desk.now(), flag), "flagged", flag)
                after = await self._submission.replace(stop, wanted, reason, self._begun)
                if not self._listened_to() and after.terms.type is not OrderType.MARKET and not after.is_in_doubt:
                    return None
                if after.is_in_doubt:
                    return Held(after, f"conversion of {after.client_id} is in doubt")
                if after.terms.type is OrderType.MARKET or after.state in TERMINAL:
                    return Left(after, f"stop {after.client_id} became a market order")
                return Failed(f"the broker refused the conversion: {after.reason}")
            case Shrink(orders=orders, keep=keep, quantity=quantity):
                begun = desk.now()
                for item in orders:
                    wanted = changed(item.terms, quantity=self._replace_size(item, keep))
                    after = await self._submission.replace(item, wanted, "making room for a partial exit", self._begun)
                    if after.terms.quantity != wanted.quantity:
                        return Failed(f"{item.client_id} could not be made smaller: {after.reason}")
                return await self._close_what_is_free(position, origin, quantity, reason, flags, begun)
            case CancelFirst(orders=orders, quantity=quantity):
                begun = desk.now()
                if not await self._gone(orders, reason, say):
                    return Failed("a protective order could not be proven cancelled")
                return await self._close_what_is_free(position, origin, quantity, reason, flags, begun)
            case Wait(order=order, in_doubt=True):
                return Held(order, f"exit {order.client_id} is {order.state}; a second one could reverse the position")
            case Wait(order=order):
                revision = order.revision
                moved = await desk.until(lambda: desk.current(order).revision != revision, PROOF_SECONDS)
                if not moved and leaves_at_once(order):
                    return Left(order, "under way")
                return Failed(f"{order.role} {order.client_id} is {desk.current(order).state}")
            case _:
                assert_never(plan)

    async def _read_again(
        self, quantity: Decimal, flags: dict[Flag, bool], begun: Millis
    ) -> tuple[Decimal, dict[Flag, bool]] | Failed:
        """Size and marks of an exit for which room was made since `begun`: what it closes may be half closed by now."""
        desk = self._desk
        if desk.now() - begun < desk.road.capabilities.settle_ms:
            return quantity, flags
        fresh = await desk.road.fresh_position(desk.book.symbol, desk.numbers.exit_sizing_read)
        held = desk.book.position.quantity
        if fresh is not None and held and fresh.quantity * held <= 0:
            return Failed(f"broker {fresh.quantity}, memory {held} once room was made")
        from_memory = flags[Flag.SIZED_FROM_MEMORY] or fresh is None
        size = quantity if fresh is None else min(quantity, abs(fresh.quantity))
        return size, {**flags, Flag.SIZED_FROM_MEMORY: from_memory}

    async def _close_what_is_free(
        self, was: Position, origin: str, quantity: Decimal, reason: str, flags: dict[Flag, bool], begun: Millis
    ) -> ExitResult | None:
        """After room was made: what filled meanwhile is not closed again, nor what another exit holds now.

        Where nothing of the position that `was` has gone, and orders that rest still hold more than it, there is to be
        room made once more.
        """
        desk = self._desk
        sized = await self._read_again(quantity, flags, begun)
        if isinstance(sized, Failed):
            return sized
        quantity, flags = sized
        orders = desk.book.open()
        if flags[Flag.FORCED]:
            orders = tuple(o for o in orders if o.is_entry or not unproven(o))
        left = min(quantity, closable(orders, self._known()))
        if not left and quantity and abs(self._known().quantity) >= abs(was.quantity):
            return Failed("orders that rest still hold all of it")
        if not left:
            return Left(None, "the protective order closed it")
        leaving = self._order(origin, desk.book.position, left, reason, flags)
        order = await self._submission.exit(ExitOrder(leaving, self._begun))
        return self._verdict(order, f"exit {order.terms.side} {order.terms.quantity} at market")

    def _replace_size(self, order: Order, remaining: Decimal) -> Decimal:
        """The total of an order of which `remaining` is left to fill."""
        return order.filled + remaining

    def _verdict(self, order: Order, text: str) -> ExitResult | None:
        if order.state is OrderState.REJECTED:
            return Failed(f"the broker refused the exit: {order.reason}")
        if order.state is OrderState.ABANDONED:
            return None if order.sent is not None else Failed(order.reason)
        if order.is_in_doubt:
            return Held(order, f"exit {order.client_id} is in doubt")
        return Left(order, text)

    async def _gone(self, orders: tuple[Order, ...], reason: str, say: Callable[[str], None]) -> bool:
        """Cancel and wait for the broker's proof."""
        desk = self._desk
        for order in orders:
            say(f"cancelling {order.role} {order.client_id}")
            await self._submission.cancel(order, reason, self._begun)
        return await desk.until(lambda: all(desk.current(o).state in TERMINAL for o in orders), PROOF_SECONDS)

    def _order(self, origin: str, position: Position, quantity: Decimal, reason: str, flags: dict[Flag, bool]) -> Order:
        desk = self._desk
        key = decision_key(desk.settings.id, origin, "exit", desk.attempt(f"{origin}/exit"))
        return Order(
            client_id=desk.client_id(key),
            key=key,
            session=desk.settings.id,
            account=desk.settings.account,
            role=Role.EXIT,
            terms=Terms(
                symbol=desk.book.symbol,
                side=side_of(position.quantity).opposite,
                quantity=quantity,
                type=OrderType.MARKET,
            ),
            state=OrderState.SUBMITTING,
            created=desk.now(),
            updated=desk.now(),
            epoch=desk.lease.epoch,
            flags=frozenset(flag for flag, on in flags.items() if on),
            reason=reason,
        )

"""The road of entries: limits, a fresh position, size, heat reserved, and only then a submission."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from msgspec import Struct

from engine.domain import order_lifecycle as lifecycle
from engine.domain.broker import Enforcer
from engine.domain.ids import DecisionKey, Millis, decision_key
from engine.domain.orders import ZERO, Order, OrderState, OrderType, Role, Side, Terms, TimeInForce
from engine.domain.records import LatchKind, LatchSet
from engine.domain.risk import Approved, Denied
from engine.domain.settings import FixedSize, Protection, RiskSize
from engine.outbound.entry_gate import EntryGate
from engine.outbound.limits import Breach, Consequence, Exposure, breach
from engine.outbound.submission import ApprovedEntry, Submission
from engine.session import SessionDesk
from engine.snapshot import Severity

MINUTE_MS = 60_000


class EntryWish(Struct, frozen=True, kw_only=True):
    """An entry that somebody wants. `origin` names the candle or the command; `quantity` None: the session's sizing.

    Prices of a strategy are rounded to the tick grid; an order by hand off the grid is denied.
    """

    origin: str
    side: Side
    quantity: Decimal | None
    type: OrderType = OrderType.MARKET
    limit: Decimal | None = None
    stop: Decimal | None = None
    tif: TimeInForce = TimeInForce.DAY
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    reason: str = ""
    by_hand: bool = False
    deadline: Millis | None = None


class EntryOutlook(Struct, frozen=True, kw_only=True):
    """What a wish would meet now: all refusals, what a refusal would bring about, and the order as far as it goes."""

    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    terms: Terms | None
    risk: Decimal


class EntryRoad:
    """Takes wishes one at a time; every wish ends as an order row that says what became of it."""

    def __init__(self, desk: SessionDesk, gate: EntryGate, submission: Submission) -> None:
        self._desk = desk
        self._gate = gate
        self._submission = submission
        self._busy = False

    async def enter(self, wish: EntryWish) -> Order:
        """Carry a wish as far as it goes; the order returned is denied, abandoned, accepted, rejected or in doubt."""
        desk = self._desk
        key = decision_key(desk.settings.id, wish.origin, "entry", 1)
        deadline = desk.now() + round(min(desk.settings.timeframe.ms, desk.numbers.intent_deadline * 1000))
        deadline = deadline if wish.deadline is None else min(deadline, wish.deadline)
        if self._busy:
            return self._denied(key, wish, "another entry of this session is on its way")
        self._busy = True
        try:
            return await self._enter(key, wish, deadline)
        finally:
            self._busy = False

    async def _enter(self, key: DecisionKey, wish: EntryWish, deadline: Millis) -> Order:
        desk = self._desk
        reason = self._gate.before(by_hand=wish.by_hand) or self._crosses(wish) or self._shape_problem(wish)
        if reason is not None:
            return self._denied(key, wish, reason)
        position = await desk.road.fresh_position(desk.book.symbol, desk.numbers.entry_sizing_read)
        if position is None:
            return self._denied(
                key, wish, f"the broker did not tell the position within {desk.numbers.entry_sizing_read:g} s"
            )
        if position.quantity != desk.book.position.quantity:
            desk.road.suspect(f"{desk.book.symbol}: broker {position.quantity}, memory {desk.book.position.quantity}")
            return self._denied(
                key, wish, f"broker says {position.quantity}, memory {desk.book.position.quantity}; entries wait"
            )
        if position.quantity * wish.side.sign < 0:
            return self._denied(key, wish, _reduces(position.quantity))
        quantity = self._size(wish)
        if isinstance(quantity, str):
            return self._denied(key, wish, quantity)
        terms = self._terms(wish, quantity)
        broken = breach(desk.settings.limits, desk.instrument, terms, self._exposure(position.quantity))
        if broken is not None:
            self._consequence(broken)
            return self._denied(key, wish, broken.reason, quantity)
        order = self._order(key, wish, terms, deadline)
        match desk.heat.review(desk.settings.id, order.client_id, desk.risk_of(terms, wish.stop_loss, quantity)):
            case Denied(reason=why):
                desk.reporter.alert(f"heat:{desk.id}", Severity.WARNING, f"{desk.id}: entry denied: {why}")
                return self._denied(key, wish, why, quantity)
            case Approved() as approved:
                entry = ApprovedEntry(order=order, legs=self._legs(order), approved=approved, by_hand=wish.by_hand)
                return await self._submission.entry(entry)

    def outlook(self, wish: EntryWish) -> EntryOutlook:
        """Every check but heat's, by memory's position; nothing is asked, reserved or kept."""
        desk = self._desk
        position = desk.book.position.quantity
        refusals = ["another entry of this session is on its way"] if self._busy else []
        refusals += self._gate.everything_before(by_hand=wish.by_hand)
        refusals += [problem for problem in (self._crosses(wish), self._shape_problem(wish)) if problem is not None]
        if position * wish.side.sign < 0:
            refusals.append(_reduces(position))
        quantity = self._size(wish)
        if isinstance(quantity, str):
            return EntryOutlook(refusals=(*refusals, quantity), warnings=(), terms=None, risk=ZERO)
        warnings = []
        terms = self._terms(wish, quantity)
        broken = breach(desk.settings.limits, desk.instrument, terms, self._exposure(position))
        if broken is not None:
            refusals.append(broken.reason)
            if broken.consequence in (Consequence.PAUSE, Consequence.LATCH_DAY):
                warnings.append(f"sending it all the same would {broken.consequence}")
        return EntryOutlook(
            refusals=tuple(refusals),
            warnings=tuple(warnings),
            terms=terms,
            risk=desk.risk_of(terms, wish.stop_loss, quantity),
        )

    # -- checks -------------------------------------------------------------------------------------------

    def _crosses(self, wish: EntryWish) -> str | None:
        """Why not beside an open entry of the other side.

        When both fill, one takes off what the other brought, and its stop and target, sized for all of it, may turn
        the position round at the broker before anybody hears of it.
        """
        opened = self._desk.book.open()
        other = next((o for o in opened if o.is_entry and o.is_open and o.terms.side is not wish.side), None)
        if other is None:
            return None
        side, left = other.terms.side, other.remaining
        return f"entry {other.client_id} may still {side} {left}: cancel it first, both could fill"

    def _shape_problem(self, wish: EntryWish) -> str | None:
        desk = self._desk
        if desk.settings.protection is Protection.STOP and wish.stop_loss is None:
            return "protection = stop, and this entry carries no stop"
        if (wish.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)) != (wish.limit is not None):
            return f"a {wish.type} order and its limit price do not fit together"
        if (wish.type in (OrderType.STOP, OrderType.STOP_LIMIT)) != (wish.stop is not None):
            return f"a {wish.type} order and its stop price do not fit together"
        for price in (wish.limit, wish.stop, wish.stop_loss, wish.take_profit):
            if price is not None and (price <= 0 or (wish.by_hand and not desk.instrument.on_grid(price))):
                return f"price {price} is not a positive multiple of the tick size {desk.instrument.tick_size}"
        reference = wish.limit or wish.stop or desk.mark
        if reference is None:
            return "there is no price yet"
        if wish.stop_loss is not None and (reference - wish.stop_loss) * wish.side.sign <= 0:
            return f"the stop {wish.stop_loss} lies on the wrong side of {reference}"
        if wish.take_profit is not None and (wish.take_profit - reference) * wish.side.sign <= 0:
            return f"the target {wish.take_profit} lies on the wrong side of {reference}"
        return None

    def _size(self, wish: EntryWish) -> Decimal | str:
        desk = self._desk
        if wish.quantity is not None:
            quantity = wish.quantity
            if quantity <= 0 or quantity % desk.instrument.size_step:
                return f"size {quantity} is not a positive multiple of {desk.instrument.size_step}"
            return quantity
        match desk.settings.sizing:
            case FixedSize(quantity=fixed):
                return fixed
            case RiskSize(percent=share):
                equity = desk.equity()
                if equity is None or equity <= 0:
                    return "equity is not known, so there is no size"
                one = self._terms(wish, Decimal(1))
                per_unit = desk.risk_of(one, wish.stop_loss, Decimal(1))
                quantity = desk.instrument.whole_size(equity * share / 100 / per_unit)
                quantity = min(quantity, desk.instrument.whole_size(desk.settings.limits.max_order_size))
                if quantity <= 0:
                    return f"{share} % of equity does not pay for one unit at risk {per_unit:.2f}"
                return quantity

    def _exposure(self, position: Decimal) -> Exposure:
        desk = self._desk
        now = desk.now()
        desk.ledger.roll(now)
        desk.entry_times = [at for at in desk.entry_times if at > now - MINUTE_MS]
        pending = sum((o.remaining for o in desk.book.open() if o.is_entry), ZERO)
        return Exposure(
            position=position,
            pending=pending,
            mark=desk.mark,
            entries_last_minute=len(desk.entry_times),
            entries_today=desk.ledger.entries,
            day_profit=desk.ledger.total(desk.book.position, desk.mark),
            local_time=desk.instrument.calendar.local(now).time(),
        )

    def _consequence(self, broken: Breach) -> None:
        desk = self._desk
        match broken.consequence:
            case Consequence.DENY | Consequence.CLOSE_MINUTE | Consequence.CLOSE_DAY:
                pass
            case Consequence.PAUSE:
                self.latch(LatchKind.SIZE, broken.reason)
            case Consequence.LATCH_DAY:
                self.latch(LatchKind.DAILY_LOSS, broken.reason, until=desk.instrument.calendar.trade_date(desk.now()))

    def latch(self, kind: LatchKind, reason: str, *, until: date | None = None, by: str = "sextant") -> None:
        """Hold this session's entries until somebody opens the latch (a daily one: until the next trade date).

        Entries that rest at the broker are cancelled, as by any pause.
        """
        desk = self._desk
        if f"latch:{kind}" in desk.blocks:
            return
        desk.blocks.set(f"latch:{kind}", f"{kind}: {reason}")
        desk.record(
            LatchSet(session=desk.settings.id, kind=kind, held=True, reason=reason, at=desk.now(), by=by, until=until)
        )
        for order in desk.book.open():
            if order.is_entry and order.is_open:
                desk.tasks.launch(self._cancel(order, f"{kind}: {reason}"), f"cancel {order.client_id}")

    async def _cancel(self, order: Order, reason: str) -> None:
        await self._submission.cancel(order, reason)

    # -- making orders ------------------------------------------------------------------------------------

    def _terms(self, wish: EntryWish, quantity: Decimal) -> Terms:
        near = self._desk.instrument.nearest
        return Terms(
            symbol=self._desk.book.symbol,
            side=wish.side,
            quantity=quantity,
            type=wish.type,
            limit=None if wish.limit is None else near(wish.limit),
            stop=None if wish.stop is None else near(wish.stop),
            tif=wish.tif,
        )

    def _order(self, key: DecisionKey, wish: EntryWish, terms: Terms, deadline: Millis | None) -> Order:
        desk = self._desk
        near = desk.instrument.nearest
        return Order(
            client_id=desk.client_id(key),
            key=key,
            session=desk.settings.id,
            account=desk.settings.account,
            role=Role.ENTRY,
            terms=terms,
            state=OrderState.SUBMITTING,
            created=desk.now(),
            updated=desk.now(),
            deadline=deadline,
            epoch=desk.lease.epoch,
            protect_stop=None if wish.stop_loss is None else near(wish.stop_loss),
            target=None if wish.take_profit is None else near(wish.take_profit),
            reason=wish.reason,
        )

    def _legs(self, entry: Order) -> tuple[Order, ...]:
        desk = self._desk
        if not desk.road.capabilities.brackets:
            return ()
        linked = desk.road.capabilities.one_cancels_other is Enforcer.BROKER
        legs = []
        wanted = ((Role.STOP, OrderType.STOP, entry.protect_stop), (Role.TARGET, OrderType.LIMIT, entry.target))
        for role, kind, price in wanted:
            if price is None or (role is Role.TARGET and not linked):
                continue
            key = DecisionKey(f"{entry.key}/{role}")
            terms = Terms(
                symbol=entry.terms.symbol,
                side=entry.terms.side.opposite,
                quantity=entry.terms.quantity,
                type=kind,
                stop=price if role is Role.STOP else None,
                limit=price if role is Role.TARGET else None,
                tif=TimeInForce.GTC,
            )
            legs.append(
                Order(
                    client_id=desk.client_id(key),
                    key=key,
                    session=entry.session,
                    account=entry.account,
                    role=role,
                    terms=terms,
                    state=OrderState.SUBMITTING,
                    created=entry.created,
                    updated=entry.created,
                    epoch=entry.epoch,
                    parent=entry.client_id,
                    linked=linked,
                )
            )
        return tuple(legs)

    def _denied(self, key: DecisionKey, wish: EntryWish, reason: str, quantity: Decimal | None = None) -> Order:
        desk = self._desk
        order = self._order(key, wish, self._terms(wish, quantity or wish.quantity or ZERO), None)
        if desk.book.get(order.client_id) is not None:
            return order
        desk.entry_stopped(order, reason, by_hand=wish.by_hand)
        return desk.put(lifecycle.denied(order, desk.now(), reason), "denied", reason)


def _reduces(position: Decimal) -> str:
    return f"it would reduce the position of {position}; use exit or reverse"

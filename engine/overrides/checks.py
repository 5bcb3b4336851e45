"""What an order by hand would meet, told by whoever would refuse it; nothing is sent, reserved or kept.

The position is memory's: the broker's is read when an order is really sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import assert_never

from msgspec.structs import replace as changed

from engine import commands as c
from engine import queries as q
from engine.domain import order_lifecycle as lifecycle
from engine.domain.ids import Millis
from engine.domain.orders import ZERO, Order, OrderType, Role, Terms
from engine.outbound.entries import EntryWish
from engine.outbound.exits import CancelFirst, Convert, NothingToClose, Plan, Send, Shrink, Wait
from engine.overrides.base import OverrideBase
from engine.session_run import SessionRun

LIMITED = (OrderType.LIMIT, OrderType.STOP_LIMIT)
STOPPED = (OrderType.STOP, OrderType.STOP_LIMIT)


def entry_wish(asked: c.SubmitByHand | q.TicketCheck, origin: str, reason: str = "") -> EntryWish:
    """The wish of an operator, as the entry road takes it."""
    terms = asked.terms
    return EntryWish(
        origin=origin,
        side=terms.side,
        quantity=terms.quantity,
        type=terms.type,
        limit=terms.limit,
        stop=terms.stop,
        tif=terms.tif,
        stop_loss=asked.stop_loss,
        take_profit=asked.take_profit,
        reason=reason,
        by_hand=True,
    )


def exit_problems(run: SessionRun, terms: Terms) -> Iterator[str]:
    """Why this is no exit by hand at all; everything else is capped and carried out."""
    if terms.type is not OrderType.MARKET:
        yield "an exit by hand is a market order; move the stop or the target to exit at a price"
    if (step := _size_problem(run, terms.quantity)) is not None:
        yield step


def wanted_terms(order: Order, asked: c.ModifyOrder | q.ModifyCheck) -> Terms:
    """The order's terms with what was asked in their place."""
    terms = order.terms
    return changed(
        terms,
        quantity=asked.quantity if asked.quantity is not None else terms.quantity,
        limit=asked.limit if asked.limit is not None else terms.limit,
        stop=asked.stop if asked.stop is not None else terms.stop,
    )


def modify_problems(run: SessionRun, order: Order, wanted: Terms) -> Iterator[str]:
    """Why these terms may not be asked for, heat left out."""
    if not lifecycle.may_replace(order):
        yield f"{order.client_id} is {order.state}; it cannot be changed now"
    if (wanted.limit is not None and wanted.type not in LIMITED) or (
        wanted.stop is not None and wanted.type not in STOPPED
    ):
        yield f"a {wanted.type} order has no such price"
    if (step := _size_problem(run, wanted.quantity)) is not None:
        yield step
    elif wanted.quantity <= order.filled:
        yield f"{order.filled} of it are filled already; cancel it instead"
    for price in (wanted.limit, wanted.stop):
        if price is not None and (price <= 0 or not run.desk.instrument.on_grid(price)):
            yield f"price {price} is not a positive multiple of the tick size {run.desk.instrument.tick_size}"
    if (barred := run.trader.decisions.modify_barred(order, wanted)) is not None:
        yield barred


def added_risk(run: SessionRun, order: Order, wanted: Terms) -> Decimal:
    """Money by which what can be lost would grow with these terms: an entry's own, else the session's contribution."""
    if order.is_entry:
        return run.trader.decisions.added_risk(order, wanted)
    opened = run.desk.book.open()
    after = tuple(changed(o, terms=wanted) if o.client_id == order.client_id else o for o in opened)
    return run.trader.declared(after).total - run.trader.declared(opened).total


def _size_problem(run: SessionRun, quantity: Decimal) -> str | None:
    step = run.desk.instrument.size_step
    if quantity > 0 and quantity % step == 0:
        return None
    return f"size {quantity} is not a positive multiple of {step}"


def _words(plan: Plan) -> tuple[str, Decimal | None]:
    """How an exit would be carried out, and how much of it closes."""
    match plan:
        case NothingToClose():
            return "there is nothing to close", None
        case Send(quantity=quantity):
            return "sent at market", quantity
        case Convert(order=stop, quantity=quantity):
            return f"the stop {stop.client_id} becomes a market order", quantity
        case Shrink(orders=orders, quantity=quantity):
            return (
                f"{len(orders)} resting {_orders(len(orders))} made smaller with proof, then sent at market",
                quantity,
            )
        case CancelFirst(orders=orders, quantity=quantity):
            return f"{len(orders)} resting {_orders(len(orders))} cancelled with proof, then sent at market", quantity
        case Wait(order=order, in_doubt=True):
            return f"held back: {order.client_id} is {order.state}; a second exit could reverse the position", None
        case Wait(order=order):
            return f"held back: {order.role} {order.client_id} is {order.state} and closes it already", None
        case _:
            assert_never(plan)


def _orders(count: int) -> str:
    return "order" if count == 1 else "orders"


def _price(run: SessionRun, terms: Terms) -> Decimal | None:
    """The price that the order names, else the mark."""
    return terms.limit or terms.stop or run.desk.mark


def _worth(run: SessionRun, terms: Terms) -> Decimal | None:
    price = _price(run, terms)
    return None if price is None else abs(terms.quantity) * price * run.desk.instrument.point_value


class OrderChecks(OverrideBase):
    """Answers while an operator still types."""

    async def check(self, query: q.Check) -> q.CheckAnswer:
        """Everything that the order would meet in this loop step. Raises Refusal where there is no such thing."""
        match query:
            case q.TicketCheck():
                run = self._run(query.session)
                return self._exit_check(run, query) if query.is_exit else self._entry_check(run, query)
            case q.ModifyCheck():
                return self._modify_check(query)
            case _:
                assert_never(query)

    def _entry_check(self, run: SessionRun, query: q.TicketCheck) -> q.CheckAnswer:
        seen = run.trader.entries.outlook(entry_wish(query, "check"))
        heat = self._engine.portfolio.outlook(run.id, seen.risk)
        refusals, warnings = seen.refusals, seen.warnings
        if heat.refusal is not None:
            refusals = (*refusals, heat.refusal)
        if run.trader.flattener.binds:
            warnings = (*warnings, "it was flattened: with this entry its own entries are paused until you resume them")
        return q.CheckAnswer(
            at=self._now,
            refusals=refusals,
            warnings=warnings,
            quantity=None if seen.terms is None else seen.terms.quantity,
            risk=None if seen.terms is None else seen.risk,
            before=heat.before,
            after=None if seen.terms is None else heat.after,
            price=_price(run, query.terms),
            notional=_worth(run, seen.terms or query.terms),
        )

    def _exit_check(self, run: SessionRun, query: q.TicketCheck) -> q.CheckAnswer:
        problems = tuple(exit_problems(run, query.terms))
        plan, most = run.trader.exits.outlook(None if problems else query.terms.quantity)
        words, quantity = _words(plan)
        warnings = () if most >= query.terms.quantity or not most else (f"capped: {most} can be closed",)
        return q.CheckAnswer(
            at=self._now,
            refusals=problems,
            warnings=warnings,
            plan=words,
            quantity=None if problems else quantity,
            closable=most,
            before=self._engine.portfolio.heat(),
            price=_price(run, query.terms),
            notional=_worth(run, changed(query.terms, quantity=quantity or ZERO)),
        )

    def _modify_check(self, query: q.ModifyCheck) -> q.CheckAnswer:
        run, order = self._owner(query.order)
        wanted = wanted_terms(order, query)
        problems = tuple(modify_problems(run, order, wanted))
        risk = added_risk(run, order, wanted)
        heat = self._engine.portfolio.outlook(run.id, risk, asks=order.is_entry and risk > 0)
        if heat.refusal is not None:
            problems = (*problems, heat.refusal)
        return q.CheckAnswer(
            at=self._now,
            refusals=problems,
            warnings=self._acts_at_once(run, order, wanted),
            quantity=wanted.quantity,
            risk=risk,
            before=heat.before,
            after=heat.after,
            price=_price(run, wanted),
            notional=_worth(run, wanted),
        )

    def _acts_at_once(self, run: SessionRun, order: Order, wanted: Terms) -> tuple[str, ...]:
        mark = run.desk.mark
        if order.role is not Role.STOP or wanted.stop is None or mark is None:
            return ()
        if (mark - wanted.stop) * wanted.side.sign < 0:
            return ()
        return (f"the price is at {mark}: a stop at {wanted.stop} acts at once",)

    @property
    def _now(self) -> Millis:
        return self._engine.clock.now()

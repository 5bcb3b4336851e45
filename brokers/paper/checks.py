"""Why the exchange refuses an order: its terms, and the money behind it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from brokers.paper.book import PaperOrder
from brokers.paper.options import AccountTerms
from engine.domain.broker import AttachedLeg, RefusedOrder, SubmitAnswer, SubmitRequest
from engine.domain.instruments import Instrument
from engine.domain.orders import ZERO, OrderType, Terms
from engine.domain.positions import Position
from engine.errors import AnswerLost

DUPLICATE = "duplicate client id"


def proven(answer: SubmitAnswer) -> SubmitAnswer:
    """The answer, where it proves what became of the order. Raises AnswerLost for a refused duplicate.

    That an id is taken says that an order with it was accepted once, and it may be this very one.
    """
    if isinstance(answer, RefusedOrder) and answer.reason == DUPLICATE:
        raise AnswerLost(DUPLICATE)
    return answer


def terms_refusal(terms: Terms, instrument: Instrument | None, account: AccountTerms) -> str | None:
    """Why these terms can never be an order here, None when they can."""
    if instrument is None:
        return f"unknown symbol {terms.symbol}"
    if instrument.currency != account.currency:
        return f"{terms.symbol} settles in {instrument.currency}, the account is in {account.currency}"
    if not terms.quantity.is_finite() or terms.quantity <= 0:
        return f"size must be above zero, not {terms.quantity}"
    if terms.quantity % instrument.size_step:
        return f"size {terms.quantity} is not a multiple of {instrument.size_step}"
    needed: list[tuple[str, Decimal | None]] = []
    if terms.type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
        needed.append(("limit", terms.limit))
    if terms.type in (OrderType.STOP, OrderType.STOP_LIMIT):
        needed.append(("stop", terms.stop))
    for name, price in needed:
        if price is None:
            return f"a {terms.type} order needs a {name} price"
        if not price.is_finite() or price <= 0:
            return f"{name} price must be above zero, not {price}"
        if not instrument.on_grid(price):
            return f"{name} price {price} is off the grid of {instrument.tick_size}"
    return None


def legs_refusal(request: SubmitRequest, instrument: Instrument | None, account: AccountTerms) -> str | None:
    """Why the attached legs cannot go with their entry, None when they can."""
    if not request.legs:
        return None
    if not account.capabilities.brackets:
        return "this broker takes no brackets"
    ids = [request.client_id, *(leg.client_id for leg in request.legs)]
    if len(set(ids)) != len(ids):
        return "two orders of one request carry the same client id"
    for leg in request.legs:
        if (reason := _leg_refusal(leg, request.terms, instrument, account)) is not None:
            return f"leg refused: {reason}"
    return None


def _leg_refusal(leg: AttachedLeg, entry: Terms, instrument: Instrument | None, account: AccountTerms) -> str | None:
    if leg.terms.symbol != entry.symbol or leg.terms.side is entry.side:
        return "a leg closes what its entry opens: same symbol, other side"
    if leg.terms.type is OrderType.MARKET:
        return "a leg needs a price"
    return terms_refusal(leg.terms, instrument, account)


def opened(position: Position, terms: Terms, quantity: Decimal) -> Decimal:
    """How many units the order would add to the absolute position; zero for one that reduces it."""
    held = position.quantity
    return max(ZERO, abs(held + terms.side.sign * quantity) - abs(held))


def unit_margin(account: AccountTerms, instrument: Instrument, price: Decimal | None) -> Decimal:
    """Money held per unit; zero while no price is known and none is set."""
    fixed = account.margin_per_unit.get(instrument.symbol)
    if fixed is not None:
        return fixed
    return (price or ZERO) * instrument.point_value * account.margin_rate


def pending_units(orders: Iterable[PaperOrder], position: Position) -> Decimal:
    """Units that working entries would open; legs close, so they are left out."""
    return sum(
        (opened(position, order.record.terms, order.remaining) for order in orders if order.record.parent is None),
        ZERO,
    )


def margin_refusal(needed: Decimal, used: Decimal, equity: Decimal) -> str | None:
    """Why the account cannot carry `needed` more margin, None when it can."""
    if used + needed <= equity:
        return None
    return f"margin: the order needs {needed:.2f}, {max(ZERO, equity - used):.2f} is free"

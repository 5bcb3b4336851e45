"""When an order meets the last trade, and at which price. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import assert_never

from msgspec import Struct

from brokers.paper.book import PaperOrder
from engine.domain.instruments import Instrument
from engine.domain.orders import OrderType, Side


class Match(Struct, frozen=True, gc=False):
    """What a trade does to an order: fill at `price` (None: nothing), and whether its stop is hit by now."""

    price: Decimal | None
    triggered: bool = False


NO_MATCH = Match(None)


def match_order(
    order: PaperOrder, last: Decimal, instrument: Instrument, slippage_ticks: int, *, arriving: bool
) -> Match:
    """Match an open order with the last trade at price `last`.

    Market orders and hit stops pay `last` plus slippage. A limit that is marketable as it arrives (or as its stop is
    hit) fills at `last`, never worse than its limit; a resting one fills at its limit once the market trades there.
    """
    terms = order.record.terms
    triggered = order.triggered
    taking = arriving
    if terms.type in (OrderType.STOP, OrderType.STOP_LIMIT) and not triggered:
        if order.inert or terms.stop is None or not _reached(terms.side, last, terms.stop):
            return NO_MATCH
        triggered = taking = True
    match terms.type:
        case OrderType.MARKET | OrderType.STOP:
            return Match(slipped(terms.side, last, instrument, slippage_ticks), triggered)
        case OrderType.LIMIT | OrderType.STOP_LIMIT:
            limit = terms.limit
            if limit is None or not _reached(terms.side.opposite, last, limit):
                return Match(None, triggered)
            return Match(last if taking else limit, triggered)
        case _:
            assert_never(terms.type)


def _reached(side: Side, last: Decimal, price: Decimal) -> bool:
    """Whether the market has risen to a buyer's price, or fallen to a seller's."""
    return last >= price if side is Side.BUY else last <= price


def slipped(side: Side, last: Decimal, instrument: Instrument, ticks: int) -> Decimal:
    """The price a taker gets: `ticks` worse than the last trade, never below one tick."""
    return max(last + side.sign * ticks * instrument.tick_size, instrument.tick_size)

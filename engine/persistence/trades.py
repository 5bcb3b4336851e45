"""FIFO round trips and daily profit of one contract of one account, from its fills; pure.

A trade pairs an entry order with an exit order: the oldest open quantity is closed first, and partial fills of one
order do not split a trade. A fill through zero closes, then opens. Fills count in the order of their moments, not
of their arrival, and only in their newest revision; a bust has quantity zero and so leaves nothing behind.

Every so many fills the walk leaves a mark: what it held there. A later walk may begin at a mark as long as nothing
that has changed since lies at or before it, and comes to the same books as a walk from the beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Context, Decimal, localcontext
from itertools import groupby
from operator import attrgetter

import msgspec
from msgspec import Struct

from engine.domain.fills import Fill
from engine.domain.ids import AccountId, BrokerOrderId, Millis, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import ZERO, Side
from engine.domain.records import DailyPnl, Trade

# Only average prices need more digits than their sources; what is summed is never rounded.
PRECISION = Context(prec=34)
_at = attrgetter("at")
SPACING = 50  # fills between two marks, at least


class Lot(Struct, array_like=True, gc=False):
    """What is left of a fill: quantity still open, and the part of its fee that no trade has taken yet."""

    side: Side
    order: BrokerOrderId
    session: SessionId | None
    at: Millis
    price: Decimal
    quantity: Decimal
    fee: Decimal
    grain: Decimal
    """Shares of the fee are cut here, eight digits below its own, so that adding them up never rounds."""

    @classmethod
    def of(cls, fill: Fill) -> Lot:
        """A whole fill."""
        exponent = fill.fee.as_tuple().exponent
        grain = Decimal(1).scaleb((exponent if isinstance(exponent, int) else 0) - 8)
        return cls(fill.side, fill.broker_id, fill.session, fill.at, fill.price, fill.quantity, fill.fee, grain)

    def take(self, quantity: Decimal) -> Decimal:
        """Use up a part; its share of the fee. The last part takes what is left, so that shares sum to the fee."""
        share = self.fee
        if quantity != self.quantity:
            share = (self.fee * quantity / self.quantity).quantize(self.grain)
        self.quantity -= quantity
        self.fee -= share
        return share


class Mark(Struct, frozen=True):
    """Where a walk may begin again: after every fill of a moment up to `at`. `state` is the walk's own."""

    at: Millis
    state: str


class _State(Struct, frozen=True):
    trades: int
    lots: list[Lot]
    days: list[DailyPnl]


class Books(Struct, frozen=True):
    """What a walk came to: all trades and days, or those from its mark on; `trades_before` are not among them.

    Days at or after `first_day` (None: every day) are complete.
    """

    trades_before: int
    trades: tuple[Trade, ...]
    first_day: date | None
    days: tuple[DailyPnl, ...]
    marks: tuple[Mark, ...]


class _Pairing:
    """A trade while it grows."""

    __slots__ = ("closed", "entry_value", "exit_value", "fees", "opened", "points", "quantity", "sessions")

    def __init__(self) -> None:
        self.quantity = self.entry_value = self.exit_value = self.points = self.fees = ZERO
        self.opened: int | None = None
        self.closed = 0
        self.sessions: set[SessionId] = set()

    def add(self, entry: Lot, out: Lot, quantity: Decimal, points: Decimal, fees: Decimal) -> None:
        """One closed piece of `entry` by `out`."""
        self.quantity += quantity * entry.side.sign
        self.entry_value += entry.price * quantity
        self.exit_value += out.price * quantity
        self.points += points
        self.fees += fees
        self.opened = entry.at if self.opened is None else min(self.opened, entry.at)
        self.closed = max(self.closed, out.at)
        self.sessions.update(lot.session for lot in (entry, out) if lot.session is not None)


class _Day:
    """A trade date while it grows."""

    __slots__ = ("fees", "quantity", "realised", "round_trips")

    def __init__(self) -> None:
        self.realised = self.fees = self.quantity = ZERO
        self.round_trips = 0


def newest(fills: Iterable[Fill]) -> list[Fill]:
    """Each execution once, in its newest revision, in the order in which the exchange made them."""
    best: dict[tuple[str, str], Fill] = {}
    for fill in fills:
        known = best.get((fill.account, fill.key))
        if known is None or fill.revision > known.revision:
            best[fill.account, fill.key] = fill
    ordered: list[Fill] = []
    # the long sort compares whole numbers, the short ones the rest: a thread that compares tuples lets nobody else in
    for _, moment in groupby(sorted(best.values(), key=_at), key=_at):
        same = list(moment)
        ordered += same if len(same) == 1 else sorted(same, key=lambda fill: (fill.broker_id, fill.since, fill.key))
    return ordered


def moved(fills: Sequence[Fill]) -> deque[tuple[Millis, Millis]]:
    """First and last moment of each execution whose revisions disagree about it, in the order of the first."""
    spans: dict[tuple[str, str], tuple[Millis, Millis]] = {}
    changed = {fill.key for fill in fills if fill.revision}
    for fill in fills:
        if fill.key not in changed:
            continue
        first, last = spans.get((fill.account, fill.key), (fill.at, fill.at))
        spans[fill.account, fill.key] = min(first, fill.at), max(last, fill.at)
    return deque(sorted(span for span in spans.values() if span[0] < span[1]))


def books_of(
    account: AccountId, symbol: Symbol, fills: Iterable[Fill], instrument: Instrument, start: Mark | None = None
) -> Books:
    """The contract's books from all its fills in all revisions, or from those after `start`, of a later moment each.

    Trades are numbered from 1 in the order in which they began to close; `profit` is money after `fees`. A day is
    the exchange's trade date: what was realised by closing on it, and the fees of its fills.
    """
    with localcontext(PRECISION):
        walk = _Walk(account, symbol, instrument, start)
        every = list(fills)
        walk.run(newest(every), moved(every))
        return walk.books()


class _Walk:
    def __init__(self, account: AccountId, symbol: Symbol, instrument: Instrument, start: Mark | None) -> None:
        self._account = account
        self._symbol = symbol
        self._instrument = instrument
        state = msgspec.json.decode(start.state, type=_State) if start is not None else _State(0, [], [])
        self._before = state.trades
        self._lots: deque[Lot] = deque(state.lots)
        # the entry's side is part of the key: one order can close a long and open a short that another then closes
        self._pairings: dict[tuple[str, str, Side], _Pairing] = {}
        self._trades: list[Trade] = []
        self._first_day = min((kept.day for kept in state.days), default=None)
        self._days: dict[date, _Day] = {}
        for kept in state.days:
            day = self._day(kept.day)
            day.realised, day.fees, day.quantity = kept.realised, kept.fees, kept.quantity
            day.round_trips = kept.round_trips
        self._marks: list[Mark] = []

    def run(self, fills: list[Fill], moves: deque[tuple[Millis, Millis]]) -> None:
        """Book them, and leave marks where no order has fills on both sides, so that no trade grows across one.

        Nor may an execution have revisions on both sides: a later walk could read one that is no longer its newest.
        """
        last_of = {fill.broker_id: index for index, fill in enumerate(fills)}
        reach = since = until = 0
        for index, fill in enumerate(fills):
            if fill.quantity:
                self._book(fill)
            reach = max(reach, last_of[fill.broker_id])
            while moves and moves[0][0] <= fill.at:
                until = max(until, moves.popleft()[1])
            since += 1
            if until > fill.at:
                continue
            if since < max(SPACING, len(self._lots)) or reach > index or index + 1 == len(fills):
                continue
            if fills[index + 1].at > fill.at and self._days:
                since = 0
                self._settle()
                self._mark(fill.at)
        self._settle()

    def books(self) -> Books:
        """What it came to."""
        days = tuple(self._daily(day) for day in sorted(self._days))
        return Books(self._before, tuple(self._trades), self._first_day, days, tuple(self._marks))

    def _day(self, day: date) -> _Day:
        return self._days.setdefault(day, _Day())

    def _daily(self, day: date) -> DailyPnl:
        kept = self._days[day]
        return DailyPnl(
            account=self._account,
            symbol=self._symbol,
            day=day,
            currency=self._instrument.currency,
            realised=kept.realised,
            fees=kept.fees,
            round_trips=kept.round_trips,
            quantity=kept.quantity,
        )

    def _book(self, fill: Fill) -> None:
        coming, lots = Lot.of(fill), self._lots
        day = self._day(self._instrument.calendar.trade_date(fill.at))
        day.fees += fill.fee
        day.quantity += fill.quantity
        while coming.quantity and lots and lots[0].side is not fill.side:
            lot = lots[0]
            quantity = min(lot.quantity, coming.quantity)
            points = (fill.price - lot.price) * quantity * lot.side.sign
            fees = lot.take(quantity) + coming.take(quantity)
            pairing = self._pairings.setdefault((lot.order, fill.broker_id, lot.side), _Pairing())
            pairing.add(lot, coming, quantity, points, fees)
            day.realised += points * self._instrument.point_value
            if not lot.quantity:
                lots.popleft()
        if coming.quantity:
            lots.append(coming)

    def _settle(self) -> None:
        """The trades that have grown so far are whole."""
        for pairing in self._pairings.values():
            self._day(self._instrument.calendar.trade_date(pairing.closed)).round_trips += 1
            trade = Trade(
                account=self._account,
                symbol=self._symbol,
                number=self._before + len(self._trades) + 1,
                quantity=pairing.quantity,
                opened=pairing.opened or 0,
                closed=pairing.closed,
                entry_price=pairing.entry_value / abs(pairing.quantity),
                exit_price=pairing.exit_value / abs(pairing.quantity),
                fees=pairing.fees,
                profit=pairing.points * self._instrument.point_value - pairing.fees,
                sessions=tuple(sorted(pairing.sessions)),
            )
            self._trades.append(trade)
        self._pairings.clear()

    def _mark(self, at: Millis) -> None:
        # two days: where clocks are put back at midnight, a moment may belong to the day before its predecessor's
        newest_day = max(self._days)
        days = [self._daily(day) for day in (newest_day - timedelta(days=1), newest_day) if day in self._days]
        state = _State(self._before + len(self._trades), list(self._lots), days)
        self._marks.append(Mark(at, msgspec.json.encode(state).decode()))

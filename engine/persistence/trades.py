"""FIFO round trips with fees and profit, from the fills of one contract of one account; pure.

A trade pairs an entry order with an exit order: the oldest open quantity is closed first, and partial fills of one
order do not split a trade. A fill through zero closes, then opens. Fills count in the order of their moments, not
of their arrival, and only in their newest revision; a bust has quantity zero and so leaves nothing behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from decimal import Context, Decimal, localcontext

from engine.domain.fills import Fill
from engine.domain.ids import AccountId, Symbol
from engine.domain.orders import ZERO
from engine.domain.records import Trade

# Only average prices need more digits than their sources; what is summed is never rounded.
PRECISION = Context(prec=34)


class _Lot:
    """What is left of a fill: quantity still open, and the part of its fee that no trade has taken yet."""

    __slots__ = ("fee", "fill", "grain", "quantity")

    def __init__(self, fill: Fill) -> None:
        self.fill = fill
        self.quantity = fill.quantity
        self.fee = fill.fee
        # shares are cut at eight digits below the fee's own, so that adding them up never rounds
        exponent = fill.fee.as_tuple().exponent
        self.grain = Decimal(1).scaleb((exponent if isinstance(exponent, int) else 0) - 8)

    def take(self, quantity: Decimal) -> Decimal:
        """Use up a part; its share of the fee. The last part takes what is left, so that shares sum to the fee."""
        share = self.fee
        if quantity != self.quantity:
            share = (self.fee * quantity / self.quantity).quantize(self.grain)
        self.quantity -= quantity
        self.fee -= share
        return share


class _Pairing:
    """A trade while it grows."""

    __slots__ = ("closed", "entry_value", "exit_value", "fees", "opened", "points", "quantity", "sessions")

    def __init__(self) -> None:
        self.quantity = self.entry_value = self.exit_value = self.points = self.fees = ZERO
        self.opened: int | None = None
        self.closed = 0
        self.sessions: set[str] = set()

    def add(self, entry: Fill, out: Fill, quantity: Decimal, fees: Decimal) -> None:
        """One closed piece of `entry` by `out`."""
        signed = quantity * entry.side.sign
        self.quantity += signed
        self.entry_value += entry.price * quantity
        self.exit_value += out.price * quantity
        self.points += (out.price - entry.price) * signed
        self.fees += fees
        self.opened = entry.at if self.opened is None else min(self.opened, entry.at)
        self.closed = max(self.closed, out.at)
        self.sessions.update(str(fill.session) for fill in (entry, out) if fill.session is not None)


def newest(fills: Iterable[Fill]) -> list[Fill]:
    """Each execution once, in its newest revision, in the order in which the exchange made them."""
    best: dict[tuple[str, str], Fill] = {}
    for fill in fills:
        known = best.get((fill.account, fill.key))
        if known is None or fill.revision > known.revision:
            best[fill.account, fill.key] = fill
    return sorted(best.values(), key=lambda fill: (fill.at, fill.broker_id, fill.since, fill.key))


def round_trips(account: AccountId, symbol: Symbol, fills: Iterable[Fill], point_value: Decimal) -> tuple[Trade, ...]:
    """Every closed trade of a contract, numbered from 1 in the order in which they began to close.

    `profit` is in the account's currency, after `fees`; `point_value` is money per point of one contract.
    """
    with localcontext(PRECISION):
        pairings = _pair(newest(fills))
        return tuple(
            Trade(
                account=account,
                symbol=symbol,
                number=number,
                quantity=pairing.quantity,
                opened=pairing.opened or 0,
                closed=pairing.closed,
                entry_price=pairing.entry_value / abs(pairing.quantity),
                exit_price=pairing.exit_value / abs(pairing.quantity),
                fees=pairing.fees,
                profit=pairing.points * point_value - pairing.fees,
                sessions=tuple(sorted(pairing.sessions)),  # type: ignore[arg-type]
            )
            for number, pairing in enumerate(pairings, start=1)
        )


def _pair(fills: list[Fill]) -> list[_Pairing]:
    lots: deque[_Lot] = deque()
    # the entry's side is part of the key: one order can close a long and open a short that another then closes
    pairings: dict[tuple[str, str, str], _Pairing] = {}
    for fill in fills:
        coming = _Lot(fill)
        while coming.quantity and lots and lots[0].fill.side is not fill.side:
            lot = lots[0]
            quantity = min(lot.quantity, coming.quantity)
            key = (lot.fill.broker_id, fill.broker_id, lot.fill.side.value)
            fees = lot.take(quantity) + coming.take(quantity)
            pairings.setdefault(key, _Pairing()).add(lot.fill, fill, quantity, fees)
            if not lot.quantity:
                lots.popleft()
        if coming.quantity:
            lots.append(coming)
    return list(pairings.values())

"""What an engine believes and claims at one moment, as values."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from msgspec import Struct

from engine.domain.ids import AccountId, ClientOrderId, Millis, SessionId, Symbol
from engine.domain.orders import Order
from engine.domain.risk import Contribution, Heat, Reservation
from engine.snapshot import Phase, ProtectionState


class Wish(Struct, frozen=True):
    """The newest submit of a session's strategy: on which candle, and on which it had decided `before` (-1: none).

    `is_past`: the candle was one of a warm-up, or of a gap. It `leaves` by exit or reverse, `whole` if of everything.
    """

    candle: Millis
    before: Millis
    is_past: bool
    leaves: bool
    whole: bool = False


class Mind(Struct, frozen=True, kw_only=True):
    """One session of one life. `closed` is why no entry may leave now, None when one may."""

    life: str
    session: SessionId
    account: AccountId
    symbol: Symbol
    position: Decimal
    average: Decimal | None
    orders: tuple[Order, ...]
    doubt_blocks: bool
    killed: bool
    phase: Phase
    confirmed_at: Millis | None
    began: Millis
    protection: ProtectionState
    exiting: bool
    closed: str | None
    alive: bool
    moved: Millis
    """When its book last changed by something that the broker said."""
    foreign: frozenset[Symbol]
    strange: tuple[tuple[Symbol, int, Decimal], ...]
    """Orders of strangers at the account, as far as the engine knows: contract, side and what is left to fill."""
    slowest: Millis
    """How long the slowest acceptance took, as far as the engine knows: a lost order is waited for three times that."""
    mark: Decimal | None
    wish: Wish | None
    day_result: Decimal
    """What its day has won, by its own ledger."""
    day: date | None
    gap: bool
    stored: bool
    """Whether the database answered when last asked, as far as the engine knows."""


class HeatMind(Struct, frozen=True, kw_only=True):
    """The aggregate of one life and what it is made of."""

    heat: Heat
    block: Decimal
    release: Decimal
    """How far under it the total has to fall before entries go again."""
    contributions: tuple[Contribution, ...]
    reservations: tuple[Reservation, ...]
    unowned: tuple[Contribution, ...]
    group_percent: tuple[tuple[str, Decimal], ...] = ()
    group_block: dict[str, Decimal] = {}


class Promise(Struct, frozen=True):
    """The engine said that a session is flat, and under which command; `said` is its newest line of the position."""

    command: str
    session: SessionId
    began: Millis
    at: Millis
    said: str = ""


def own(order: Order) -> ClientOrderId:
    """The name under which both sides know it."""
    return order.client_id

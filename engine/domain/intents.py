"""What must be durable before a request leaves for the broker."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from engine.domain.ids import AccountId, ClientOrderId, DecisionKey, Millis, SessionId
from engine.domain.orders import Order, Terms


class SubmitIntent(Struct, frozen=True, kw_only=True, tag="submit"):
    """An order about to be sent, with its attached legs, all in SUBMITTING; `key` is the natural key."""

    key: DecisionKey
    order: Order
    legs: tuple[Order, ...] = ()
    at: Millis
    epoch: int

    @property
    def account(self) -> AccountId:
        """The account that the request is for."""
        return self.order.account


class CancelIntent(Struct, frozen=True, kw_only=True, tag="cancel"):
    """A cancel about to be sent."""

    key: DecisionKey
    account: AccountId
    session: SessionId
    client_id: ClientOrderId
    at: Millis
    epoch: int
    reason: str = ""


class ReplaceIntent(Struct, frozen=True, kw_only=True, tag="replace"):
    """A replace about to be sent, with the terms wanted."""

    key: DecisionKey
    account: AccountId
    session: SessionId
    client_id: ClientOrderId
    terms: Terms
    at: Millis
    epoch: int
    reason: str = ""


IntentRecord: TypeAlias = SubmitIntent | CancelIntent | ReplaceIntent


class Outcome(StrEnum):
    """What is known after a journalled intent was sent."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    IN_DOUBT = "in doubt"
    NOT_SENT = "not sent"


class Prepared(Struct, frozen=True, tag="prepared"):
    """Journal: this is about to be sent although the database did not take it in time."""

    intent: IntentRecord


class Concluded(Struct, frozen=True, kw_only=True, tag="outcome"):
    """Journal: what became of a prepared intent. Prepared alone imports as in doubt."""

    key: DecisionKey
    outcome: Outcome
    at: Millis
    broker_id: str | None = None
    detail: str = ""


PAUSE_NOTE = "pause held"
"""A note by which an import restores a session's pause."""
LIMIT_NOTE = "heat limit "
"""Begins a note by which an import restores a tightened limit: its name follows, its percent is the amount."""
FLATTENED = "paused: flatten"
"""Begins the reason of a pause under which a position that still appears is closed, in this life and the next."""


class Noted(Struct, frozen=True, kw_only=True, tag="noted"):
    """Journal: a risk-lowering override that took effect while nothing else could record it."""

    key: DecisionKey
    at: Millis
    what: str
    operator: str
    origin: str
    session: SessionId | None = None
    detail: str = ""
    amount: Decimal | None = None


JournalRecord: TypeAlias = Prepared | Concluded | Noted

"""Names of things, and how our own order ids are derived."""

from __future__ import annotations

import hashlib
from typing import NewType, TypeAlias

Millis: TypeAlias = int
"""A moment as integer UTC milliseconds since 1970."""

SessionId = NewType("SessionId", str)
AccountId = NewType("AccountId", str)
Symbol = NewType("Symbol", str)
ClientOrderId = NewType("ClientOrderId", str)
BrokerOrderId = NewType("BrokerOrderId", str)
CommandId = NewType("CommandId", str)
DecisionKey = NewType("DecisionKey", str)

CLIENT_ID_LENGTH = 22
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def decision_key(session: SessionId, origin: str, leg: str, attempt: int) -> DecisionKey:
    """Natural key of one attempt at one leg of one decision; unique in database and journal.

    `origin` is the candle's start in milliseconds for a strategy, the command's id for an override,
    or a word of the procedure that acts (protection, flatten) with what it acts on.
    """
    return DecisionKey(f"{session}/{origin}/{leg}/{attempt}")


def client_order_id(salt: str, key: DecisionKey) -> ClientOrderId:
    """Derive the client order id: letters and digits, 22 characters, the same for the same key.

    Deterministic so that a restart finds at the broker what an earlier life sent; salted per database
    so that two desks on one account never claim each other's orders.
    """
    number = int.from_bytes(hashlib.blake2b(f"{salt}|{key}".encode(), digest_size=16).digest())
    digits = []
    for _ in range(CLIENT_ID_LENGTH - 2):
        number, digit = divmod(number, 36)
        digits.append(_ALPHABET[digit])
    return ClientOrderId("sx" + "".join(digits))

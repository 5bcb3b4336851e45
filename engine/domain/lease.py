"""Who commands an account: one engine at a time, by epoch."""

from __future__ import annotations

from msgspec import Struct

from engine.domain.ids import AccountId, Millis


class Holder(Struct, frozen=True):
    """An engine that may command accounts.

    `name` is how people find it. `proof` identifies the account's lock file as this machine's kernel knows it:
    whoever holds that very lock later knows that this engine has ended. Empty when nothing can be proven.
    """

    name: str
    host: str
    proof: str = ""


class Lease(Struct, frozen=True, kw_only=True):
    """An account's lease as it is kept. `renewed` is the holder's own time and only ever compared with itself."""

    account: AccountId
    epoch: int
    holder: Holder
    taken: Millis
    renewed: Millis
    released: bool


def has_ended(lease: Lease, mine: Holder) -> bool:
    """Whether its holder provably commands nothing any more, without waiting: given back, or we hold its lock."""
    return lease.released or bool(lease.holder.proof and lease.holder.proof == mine.proof)

"""What an operator settles before a session runs: limits, sizing, protection, shutdown."""

from __future__ import annotations

import re
from datetime import time
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from engine.domain.ids import AccountId, SessionId, Symbol
from engine.domain.market import Timeframe

SECRET = re.compile(r"(?i)token|secret|passw|passphrase|credential|api[_-]?key|private[_-]?key|^pwd$|^key$")
HIDDEN = "***"


def _without_secrets(value: Any, name: str = "") -> Any:
    if SECRET.search(name):
        return HIDDEN
    if isinstance(value, dict):
        return {inner: _without_secrets(each, str(inner)) for inner, each in value.items()}
    return [_without_secrets(each) for each in value] if isinstance(value, list) else value


class Protection(StrEnum):
    """Whether every position must be covered by a broker-confirmed stop."""

    STOP = "stop"
    NONE = "none"


class Remedy(StrEnum):
    """What to do without being told: act, or ask the operator."""

    EXIT = "exit"
    ASK = "ask"


class ShutdownPolicy(StrEnum):
    """What a stopping desk does with its orders and positions."""

    LEAVE = "leave"
    CANCEL_ENTRIES = "cancel entries"
    FLATTEN = "flatten"


class FixedSize(Struct, frozen=True, tag="fixed"):
    """Every entry asks for the same quantity."""

    quantity: Decimal


class RiskSize(Struct, frozen=True, tag="risk"):
    """An entry risks `percent` of equity between its price and its stop."""

    percent: Decimal


Sizing: TypeAlias = FixedSize | RiskSize


class EntryWindow(Struct, frozen=True):
    """Entries are allowed from `opens` to `closes`, exchange time; a window may run over midnight."""

    opens: time
    closes: time


class SessionLimits(Struct, frozen=True, kw_only=True):
    """Hard limits every session must set. Sizes in contracts, `price_collar` as a fraction of the mark
    (0.02 = 2 %), money in the account's currency."""

    max_order_size: Decimal
    max_position_size: Decimal
    entries_per_minute: int
    entries_per_day: int
    price_collar: Decimal
    max_daily_loss: Decimal
    worst_case_per_contract: Decimal
    entry_window: EntryWindow | None = None
    flat_by: time | None = None


class SessionSettings(Struct, frozen=True, kw_only=True):
    """One strategy on one contract of one account."""

    id: SessionId
    account: AccountId
    symbol: Symbol
    strategy: str
    timeframe: Timeframe
    limits: SessionLimits
    sizing: Sizing
    protection: Protection = Protection.STOP
    arguments: dict[str, Any] = field(default_factory=dict)
    warmup: int = 50
    missed_exit: Remedy = Remedy.EXIT
    naked: Remedy = Remedy.EXIT
    force_exit_after_s: float | None = None

    @property
    def kept(self) -> str:
        """As the audit trail keeps it: every setting, but no value of an argument that is named like a secret."""
        return repr(replace(self, arguments=_without_secrets(self.arguments)))


class Numbers(Struct, frozen=True, kw_only=True):
    """The desk's numbers; every default is a setting. Seconds unless the name says otherwise."""

    positions_every: float = 30.0
    orders_every: float = 300.0
    mismatch_reread: float = 2.0
    settling: float = 10.0
    quiet: float = 60.0
    heat_report_every: float = 5.0
    send_deadline: float = 5.0
    exit_commit: float = 0.25
    exit_sizing_read: float = 1.0
    entry_sizing_read: float = 3.0
    intent_deadline: float = 60.0
    tries: int = 5
    inert_stop_grace: float = 5.0
    stop_cover: float = 5.0
    gap_floor_ticks: int = 4
    gap_floor_fraction: Decimal = Decimal("0.0025")
    candle_close_grace: float = 1.0
    replace_window: int = 5
    lost_negatives: int = 4
    lost_after: float = 90.0
    strategy_budget: float = 0.25
    query_timeout: float = 5.0
    flatten_deadline: float = 60.0
    lease: float = 10.0
    lease_renewal: float = 3.0

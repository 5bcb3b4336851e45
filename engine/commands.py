"""What an operator asks of the engine; each command is answered by a receipt."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

from msgspec import Struct

from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, CommandId, Millis, SessionId, Symbol
from engine.domain.orders import Terms
from engine.domain.settings import ShutdownPolicy


class Origin(Struct, frozen=True, kw_only=True):
    """Who asks, from where and when; `id` makes a command idempotent."""

    id: CommandId
    operator: str
    place: str
    at: Millis


class Pause(Struct, frozen=True, kw_only=True, tag=True):
    """Hold entries of one session (None: all); resting entries are cancelled unless kept."""

    origin: Origin
    session: SessionId | None
    keep_resting: bool = False


class Resume(Struct, frozen=True, kw_only=True, tag=True):
    """Release a pause; raises risk, needs a reason."""

    origin: Origin
    session: SessionId | None
    reason: str


class SubmitByHand(Struct, frozen=True, kw_only=True, tag=True):
    """An order by hand. An exit is capped at what can be closed; an entry obeys every limit and needs a reason."""

    origin: Origin
    session: SessionId
    terms: Terms
    is_exit: bool
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    reason: str = ""


class ModifyOrder(Struct, frozen=True, kw_only=True, tag=True):
    """Change a working order's prices or total quantity."""

    origin: Origin
    order: ClientOrderId
    quantity: Decimal | None = None
    limit: Decimal | None = None
    stop: Decimal | None = None
    reason: str = ""


class CancelOrder(Struct, frozen=True, kw_only=True, tag=True):
    """Cancel one order of ours."""

    origin: Origin
    order: ClientOrderId


class CancelEntries(Struct, frozen=True, kw_only=True, tag=True):
    """Cancel resting entries of one session (None: all); protective orders stay."""

    origin: Origin
    session: SessionId | None


class Flatten(Struct, frozen=True, kw_only=True, tag=True):
    """Pause, cancel entries and targets, close, verify; None means every session.

    `foreign` are orders that are not ours and that the operator ticked.
    """

    origin: Origin
    session: SessionId | None
    foreign: tuple[BrokerOrderId, ...] = ()


class ForceExit(Struct, frozen=True, kw_only=True, tag=True):
    """Send a second exit beside one in doubt; `word` must be REVERSE, which names the risk."""

    origin: Origin
    session: SessionId
    word: str


class Kill(Struct, frozen=True, kw_only=True, tag=True):
    """Latch entries off everywhere and cancel entry orders; nothing is closed unless `flatten`."""

    origin: Origin
    flatten: bool = False


class ReleaseKill(Struct, frozen=True, kw_only=True, tag=True):
    """Open the kill latch again; `word` must be RELEASE, and a reason."""

    origin: Origin
    word: str
    reason: str


class ReleaseLatch(Struct, frozen=True, kw_only=True, tag=True):
    """Open a session's size, strategy or external-close latch; needs a reason."""

    origin: Origin
    session: SessionId
    latch: str
    reason: str


class Acknowledge(Struct, frozen=True, kw_only=True, tag=True):
    """An operator has seen a disagreement; where it blocked entries they may go on."""

    origin: Origin
    disagreement: str
    note: str = ""


class AcknowledgeAlert(Struct, frozen=True, kw_only=True, tag=True):
    """An operator has seen an alert; its cause goes on being shown while it lasts."""

    origin: Origin
    alert: str


class AdoptOrder(Struct, frozen=True, kw_only=True, tag=True):
    """Take a foreign order as a session's own; needs a reason."""

    origin: Origin
    order: BrokerOrderId
    session: SessionId
    reason: str


class IgnoreForeign(Struct, frozen=True, kw_only=True, tag=True):
    """Leave a foreign order or position alone for good; it stops blocking, it still counts in heat."""

    origin: Origin
    disagreement: str
    reason: str


class CancelForeign(Struct, frozen=True, kw_only=True, tag=True):
    """Cancel an order that is not ours."""

    origin: Origin
    account: AccountId
    order: BrokerOrderId


class DeclareDead(Struct, frozen=True, kw_only=True, tag=True):
    """An operator's verdict that a LOST order never existed; `word` must be DEAD, and a reason."""

    origin: Origin
    order: ClientOrderId
    word: str
    reason: str


class AskNow(Struct, frozen=True, kw_only=True, tag=True):
    """Ask the broker about an in-doubt order at once."""

    origin: Origin
    order: ClientOrderId


class ReconcileNow(Struct, frozen=True, kw_only=True, tag=True):
    """Compare positions and orders of one account (None: all) at once."""

    origin: Origin
    account: AccountId | None = None


class RetryJobs(Struct, frozen=True, kw_only=True, tag=True):
    """Give every dead background job all its attempts again."""

    origin: Origin


class StandDown(Struct, frozen=True, kw_only=True, tag=True):
    """Take a dead session out of the portfolio; only when its contract is confirmed flat without orders."""

    origin: Origin
    session: SessionId
    reason: str


class ChangeHeatLimits(Struct, frozen=True, kw_only=True, tag=True):
    """Set portfolio limits live, in percent of equity; None leaves one alone. What loosens any needs a reason.

    `groups` gives groups of correlated instruments their block, by name.
    """

    origin: Origin
    warn: Decimal | None = None
    block: Decimal | None = None
    release: Decimal | None = None
    groups: dict[str, Decimal] = {}
    reason: str = ""


class InjectFault(Struct, frozen=True, kw_only=True, tag=True):
    """Show a fault on a paper account."""

    origin: Origin
    account: AccountId
    fault: str
    symbol: Symbol | None = None
    argument: str = ""


class Shutdown(Struct, frozen=True, kw_only=True, tag=True):
    """Carry out a shutdown policy and stop the engine."""

    origin: Origin
    policy: ShutdownPolicy


Command: TypeAlias = (
    Pause
    | Resume
    | SubmitByHand
    | ModifyOrder
    | CancelOrder
    | CancelEntries
    | Flatten
    | ForceExit
    | Kill
    | ReleaseKill
    | ReleaseLatch
    | Acknowledge
    | AcknowledgeAlert
    | AdoptOrder
    | IgnoreForeign
    | CancelForeign
    | DeclareDead
    | AskNow
    | ReconcileNow
    | RetryJobs
    | StandDown
    | ChangeHeatLimits
    | InjectFault
    | Shutdown
)


class Receipt(Struct, frozen=True, kw_only=True):
    """The engine took the command, or says in one sentence why not. Progress follows as events."""

    id: CommandId
    taken: bool
    message: str
    at: Millis

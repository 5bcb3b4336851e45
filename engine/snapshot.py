"""One immutable picture of the desk; what a console reads instead of live objects."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from engine.domain.broker import Balance, LinkState
from engine.domain.disagreements import Disagreement
from engine.domain.freshness import Freshness
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, CommandId, Millis, SessionId
from engine.domain.instruments import Instrument
from engine.domain.market import Candle, Timeframe
from engine.domain.orders import Order, Side, Terms
from engine.domain.positions import Position
from engine.domain.risk import Contribution, GroupLimits, Heat, HeatLimits, Reservation, Stance
from engine.domain.settings import Protection, SessionLimits, ShutdownPolicy


class Phase(StrEnum):
    """Where a session stands between its start and its end."""

    STARTING = "starting"
    RECOVERING = "recovering"
    RECONCILING = "reconciling"
    SUBSCRIBING = "subscribing"
    LOADING_HISTORY = "loading history"
    WARMING = "warming"
    TRADING = "trading"
    DEAD = "dead"
    STOOD_DOWN = "stood down"
    STOPPED = "stopped"
    VIEW_ONLY = "view only"


class MarkKind(StrEnum):
    """Things worth a mark on the chart."""

    ENTRY = "entry"
    EXIT = "exit"


class ChartMark(Struct, frozen=True):
    """A fill on the chart."""

    at: Millis
    kind: MarkKind
    side: Side
    price: Decimal
    quantity: Decimal


class Gap(Struct, frozen=True, kw_only=True):
    """Windows that the feed did not cover: [start, end); `filled` counts candles fetched for them."""

    start: Millis
    end: Millis
    cause: str
    filled: int = 0
    closed: bool = False


class Seam(Struct, frozen=True, kw_only=True):
    """Proof that history and live feed join: `overlap` windows were seen by both."""

    subscribed: Millis
    history_until: Millis
    history_candles: int
    overlap: int


class DecisionLine(Struct, frozen=True, kw_only=True):
    """One line of the decision log: what the strategy did with a candle, and why no trade."""

    candle: Millis
    at: Millis
    ran: bool
    decision: str
    reason: str


class ProtectionState(StrEnum):
    """How a position is guarded at the broker."""

    FLAT = "flat"
    NOT_REQUIRED = "not required"
    COVERED = "covered"
    COVERING = "covering"
    NAKED = "naked"
    INERT = "stop not protecting"


class Block(Struct, frozen=True):
    """A reason why a session makes no entry now, and since when; None where nobody saw it begin."""

    reason: str
    since: Millis | None


class StoppedEntry(Struct, frozen=True, kw_only=True):
    """An entry that was wanted and did not leave: denied before its commit, or given up at the send."""

    at: Millis
    session: SessionId
    order: ClientOrderId
    side: Side
    quantity: Decimal
    by_hand: bool
    reason: str


class SessionView(Struct, frozen=True, kw_only=True):
    """One session. `blocked` lists every reason why no entry leaves now, empty when entries may go.

    `stopped` are its newest entries that did not leave, oldest first and bounded; `stopped_entries` counts all of them.

    `candles` are closed, oldest first, bounded; the same tuple object until a candle changes.
    Money figures are in the account's currency.
    """

    id: SessionId
    account: AccountId
    instrument: Instrument
    strategy: str
    timeframe: Timeframe
    limits: SessionLimits
    protection_wanted: Protection
    phase: Phase
    phase_detail: str
    warmed: int
    warmup: int
    blocked: tuple[Block, ...]
    paused: bool
    latches: tuple[str, ...]
    freshness: Freshness
    last_price: Decimal | None
    last_tick: Millis | None
    forming: Candle | None
    candles: tuple[Candle, ...]
    replaced: frozenset[Millis]
    gaps: tuple[Gap, ...]
    seam: Seam | None
    marks: tuple[ChartMark, ...]
    decisions: tuple[DecisionLine, ...]
    position: Position
    position_confirmed: Millis | None
    protection: ProtectionState
    stop_price: Decimal | None
    target_price: Decimal | None
    open_profit: Decimal
    day_profit: Decimal
    heat_share: Decimal | None
    stance: Stance
    strategy_runs: int
    restarts: int
    stopped: tuple[StoppedEntry, ...] = ()
    stopped_entries: int = 0

    @property
    def blocks(self) -> tuple[str, ...]:
        """The reasons alone."""
        return tuple(block.reason for block in self.blocked)


class ForeignOrder(Struct, frozen=True, kw_only=True):
    """A live order at the broker that is not ours."""

    account: AccountId
    broker_id: BrokerOrderId
    terms: Terms
    filled: Decimal
    seen: Millis


class AccountView(Struct, frozen=True, kw_only=True):
    """One account: link, money, what was read when, and when it is read next."""

    id: AccountId
    broker: str
    live: bool
    link: LinkState
    link_since: Millis
    link_reason: str
    balance: Balance | None
    balance_at: Millis | None
    positions_read: Millis | None
    positions_next: Millis | None
    orders_read: Millis | None
    orders_next: Millis | None
    failed_queries: int
    locked_out_until: Millis | None
    foreign: tuple[ForeignOrder, ...]
    faults: tuple[tuple[str, str, str, str], ...] = ()


class FeedView(Struct, frozen=True, kw_only=True):
    """The feed: its link and its last word."""

    name: str
    link: LinkState
    since: Millis
    reason: str
    last_tick: Millis | None
    tape_ended: bool = False


class HeatView(Struct, frozen=True, kw_only=True):
    """The aggregate and everything it is made of."""

    heat: Heat | None
    stance: Stance
    reason: str
    since: Millis | None
    stopped_entries: int
    resting_entries: int
    limits: HeatLimits
    groups: tuple[GroupLimits, ...]
    group_percent: tuple[tuple[str, Decimal], ...]
    contributions: tuple[Contribution, ...]
    reservations: tuple[Reservation, ...]
    unowned: tuple[Contribution, ...]
    missing: tuple[str, ...]
    equity: Decimal | None
    equity_at: Millis | None
    currency: str
    history: tuple[Decimal, ...] = ()


class Lamp(StrEnum):
    """Colour of a flow's lamp, always beside a word and a figure."""

    WAITING = "waiting"
    OK = "ok"
    WARN = "warn"
    ALARM = "alarm"


class LampView(Struct, frozen=True):
    """One of the five lamps: short text for narrow screens, full text for wide ones."""

    lamp: Lamp
    short: str
    text: str


class Lamps(Struct, frozen=True, kw_only=True):
    """The five flows at a glance."""

    inbound: LampView
    outbound: LampView
    persistence: LampView
    reconciliation: LampView
    aggregation: LampView


class Severity(StrEnum):
    """How loud an alert is; the alert bar shows the worst first."""

    NOTE = "note"
    WARNING = "warning"
    CRITICAL = "critical"


class Alert(Struct, frozen=True, kw_only=True):
    """Something that wants a hand; stays until its cause is gone and somebody acknowledged it."""

    id: str
    severity: Severity
    text: str
    since: Millis
    session: SessionId | None = None
    lasting: bool = False
    acknowledged: bool = False


class Procedure(Struct, frozen=True, kw_only=True):
    """A running or finished command with its lines (flatten, kill, shutdown …); `ok` None while it runs."""

    id: CommandId
    title: str
    session: SessionId | None
    started: Millis
    lines: tuple[tuple[Millis, str], ...]
    ok: bool | None
    result: str


class LoopLag(Struct, frozen=True):
    """How late the engine's loop wakes up, in milliseconds."""

    p50: float
    p99: float
    max: float


class RunFigures(Struct, frozen=True, kw_only=True):
    """What a run did, for its closing summary; counts are of this life, `heat_percent` a floor while incomplete.

    `unwritten` rows never reached the audit trail, or nobody knows whether they did.
    """

    ticks: int
    candles_closed: int
    candles_replaced: int
    warmup_candles: int
    strategy_runs: int
    decisions: dict[str, int]
    orders: dict[str, int]
    fills: int
    disagreements: int
    heat_complete: bool
    heat_percent: Decimal | None
    loop_lag: LoopLag
    unwritten: int


class DeskSnapshot(Struct, frozen=True, kw_only=True):
    """The whole desk at one moment; `number` is that of the last event it includes.

    `view_only` says who commands instead of this engine; then everything here is read from the audit trail.
    """

    number: int
    at: Millis
    live: bool
    started: Millis
    title: str
    killed: bool
    kill_reason: str
    stopping: bool
    shutdown_policy: ShutdownPolicy
    lamps: Lamps
    sessions: tuple[SessionView, ...]
    orders: tuple[Order, ...]
    recent_orders: tuple[Order, ...]
    disagreements: tuple[Disagreement, ...]
    accounts: tuple[AccountView, ...]
    feed: FeedView
    heat: HeatView
    alerts: tuple[Alert, ...]
    procedures: tuple[Procedure, ...]
    loop_lag: LoopLag
    persistence_detail: str
    dead_jobs: int = 0
    view_only: str = ""

    def session(self, id: SessionId) -> SessionView | None:
        """The session with this id."""
        return next((view for view in self.sessions if view.id == id), None)

    def order(self, client_id: ClientOrderId) -> Order | None:
        """An open or recent order."""
        return next((o for o in (*self.orders, *self.recent_orders) if o.client_id == client_id), None)

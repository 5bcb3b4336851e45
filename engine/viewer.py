"""A desk that another engine commands, as the audit trail tells it: looked at, never touched.

No broker is asked, no feed is heard and nothing is written; what is shown is as old as the other engine's last row.
"""

from __future__ import annotations

from decimal import Decimal

from engine.domain.broker import LinkState
from engine.domain.disagreements import Disagreement
from engine.domain.freshness import Freshness
from engine.domain.ids import AccountId, Millis, Symbol
from engine.domain.instruments import Instrument
from engine.domain.lease import Lease
from engine.domain.orders import Order, OrderState, Role
from engine.domain.positions import Position
from engine.domain.records import LatchKind, LatchSet
from engine.domain.risk import Stance
from engine.domain.settings import SessionSettings
from engine.errors import DeskHeld, StoreError
from engine.plan import EnginePlan
from engine.ports import Store
from engine.snapshot import (
    AccountView,
    Alert,
    Block,
    DeskSnapshot,
    FeedView,
    HeatView,
    Lamp,
    Lamps,
    LampView,
    LoopLag,
    Phase,
    ProtectionState,
    SessionView,
    Severity,
)

NOT_SEEN = LampView(Lamp.WAITING, "view", "view only")


class Viewer:
    """Reads the audit trail into snapshots; made when a desk turns out to be held, or was lost."""

    def __init__(self, plan: EnginePlan, store: Store, held: DeskHeld) -> None:
        self._plan = plan
        self.store = store
        self._started: Millis = plan.clock.now()
        self._instruments = {each.symbol: each for each in plan.instruments}
        self.reason = str(held).rstrip(".")

    @property
    def now(self) -> Millis:
        """The engine's clock, which nothing moves here but time."""
        return self._plan.clock.now()

    def refusal(self) -> str:
        """The answer to every command."""
        return f"view only: {self.reason}"

    async def take(self, number: int, lag: LoopLag) -> DeskSnapshot:
        """The desk as its rows stand now; what cannot be read is missing, and said to be."""
        orders: list[Order] = []
        disagreements: list[Disagreement] = []
        positions: dict[tuple[AccountId, Symbol], Position] = {}
        leases: list[Lease] = []
        latches: tuple[LatchSet, ...] = ()
        failure = ""
        try:
            latches = await self.store.latches()
            for account in self._accounts():
                orders += await self.store.open_orders(account)
                disagreements += await self.store.disagreements(account)
                held = await self.store.positions(account)
                positions |= {(account, symbol): position for symbol, position in held.items()}
                if (lease := await self.store.lease(account)) is not None:
                    leases.append(lease)
        except StoreError as error:
            failure = str(error)
        now = self._plan.clock.now()
        kill = next((latch for latch in latches if latch.session is None and latch.kind is LatchKind.KILL), None)
        return DeskSnapshot(
            number=number,
            at=now,
            live=self._plan.live,
            started=self._started,
            title=self._plan.title,
            killed=kill is not None,
            kill_reason="" if kill is None else kill.reason,
            stopping=False,
            shutdown_policy=self._plan.shutdown,
            lamps=_lamps(orders, disagreements, failure),
            sessions=tuple(
                self._session(
                    planned.settings,
                    [order for order in orders if order.session == planned.settings.id],
                    positions.get((planned.settings.account, planned.settings.symbol), Position()),
                    latches,
                )
                for planned in self._plan.sessions
            ),
            orders=tuple(sorted(orders, key=lambda order: -order.created)),
            recent_orders=(),
            disagreements=tuple(disagreements),
            accounts=tuple(
                self._account(account.manager.account, account.broker, account.live) for account in self._plan.accounts
            ),
            feed=FeedView(
                name=self._plan.source.name,
                link=LinkState.DOWN,
                since=self._started,
                reason="view only",
                last_tick=None,
            ),
            heat=self._heat(),
            alerts=self._alerts(leases, failure),
            procedures=(),
            loop_lag=lag,
            persistence_detail=failure,
            view_only=self.reason,
        )

    def _accounts(self) -> tuple[AccountId, ...]:
        return tuple(planned.manager.account for planned in self._plan.accounts)

    def _alerts(self, leases: list[Lease], failure: str) -> tuple[Alert, ...]:
        holders = sorted({f"{lease.holder.name}, epoch {lease.epoch}" for lease in leases if not lease.released})
        who = f" Lease: {'; '.join(holders)}." if holders else " No lease is held now."
        said = [("view", f"VIEW ONLY: {self.reason}.{who} Nothing is sent from here.")]
        if failure:
            said.append(("rows", f"The audit trail cannot be read: {failure}"))
        return tuple(
            Alert(id=id, severity=Severity.CRITICAL, text=text, since=self._started, lasting=True) for id, text in said
        )

    def _session(
        self, settings: SessionSettings, orders: list[Order], position: Position, latches: tuple[LatchSet, ...]
    ) -> SessionView:
        stop = next((o for o in orders if o.role is Role.STOP and o.is_open), None)
        target = next((o for o in orders if o.role is Role.TARGET and o.is_open), None)
        mine = [latch for latch in latches if latch.session == settings.id]
        instrument: Instrument = self._instruments[settings.symbol]
        return SessionView(
            id=settings.id,
            account=settings.account,
            instrument=instrument,
            strategy=settings.strategy,
            timeframe=settings.timeframe,
            limits=settings.limits,
            protection_wanted=settings.protection,
            phase=Phase.VIEW_ONLY,
            phase_detail=self.reason,
            warmed=0,
            warmup=settings.warmup,
            blocked=(Block(self.refusal(), self._started),),
            paused=any(latch.kind is LatchKind.PAUSE for latch in mine),
            latches=tuple(f"{latch.kind}: {latch.reason}" for latch in mine),
            freshness=Freshness.WAITING,
            last_price=None,
            last_tick=None,
            forming=None,
            candles=(),
            replaced=frozenset(),
            gaps=(),
            seam=None,
            marks=(),
            decisions=(),
            position=position,
            position_confirmed=None,
            protection=_protection(position, stop),
            stop_price=None if stop is None else stop.terms.stop,
            target_price=None if target is None else target.terms.limit,
            open_profit=Decimal(0),
            day_profit=Decimal(0),
            heat_share=None,
            stance=Stance.BLOCK,
            strategy_runs=0,
            restarts=0,
        )

    def _account(self, account: AccountId, broker: str, live: bool) -> AccountView:
        return AccountView(
            id=account,
            broker=broker,
            live=live,
            link=LinkState.DOWN,
            link_since=self._started,
            link_reason="view only",
            balance=None,
            balance_at=None,
            positions_read=None,
            positions_next=None,
            orders_read=None,
            orders_next=None,
            failed_queries=0,
            locked_out_until=None,
            foreign=(),
        )

    def _heat(self) -> HeatView:
        settings = self._plan.portfolio
        return HeatView(
            heat=None,
            stance=Stance.BLOCK,
            reason=self.refusal(),
            since=self._started,
            stopped_entries=0,
            resting_entries=0,
            limits=settings.limits,
            groups=settings.groups,
            group_percent=(),
            contributions=(),
            reservations=(),
            unowned=(),
            missing=tuple(planned.settings.id for planned in self._plan.sessions),
            equity=None,
            equity_at=None,
            currency=settings.currency,
        )


def _protection(position: Position, stop: Order | None) -> ProtectionState:
    if position.is_flat:
        return ProtectionState.FLAT
    return ProtectionState.NAKED if stop is None else ProtectionState.COVERED


def _lamps(orders: list[Order], disagreements: list[Disagreement], failure: str) -> Lamps:
    doubt = sum(order.is_in_doubt or order.state is OrderState.LOST for order in orders)
    outbound = LampView(Lamp.OK, f"{len(orders)}", f"{len(orders)} open in the rows")
    if doubt:
        outbound = LampView(Lamp.WARN, f"{doubt}?", f"{doubt} in doubt")
    waiting = sum(each.is_open for each in disagreements)
    reconciliation = LampView(Lamp.WARN, f"{waiting}", f"{waiting} open") if waiting else NOT_SEEN
    persistence = LampView(Lamp.WARN, "view", "view only")
    if failure:
        persistence = LampView(Lamp.ALARM, "FAIL", f"not readable: {failure}")
    return Lamps(
        inbound=NOT_SEEN,
        outbound=outbound,
        persistence=persistence,
        reconciliation=reconciliation,
        aggregation=NOT_SEEN,
    )

"""From live objects to one immutable snapshot; the only place that reads across all parts, and it changes none."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from engine.aggregation.portfolio_server import percent
from engine.desk_account import DeskAccount
from engine.domain.broker import LinkState
from engine.domain.freshness import Freshness
from engine.domain.ids import Millis
from engine.domain.orders import Order, OrderState, Role
from engine.domain.risk import CompleteHeat, Heat, IncompleteHeat, Stance
from engine.engine import Engine
from engine.session_run import SessionRun
from engine.snapshot import (
    AccountView,
    Block,
    DeskSnapshot,
    FeedView,
    HeatView,
    Lamp,
    Lamps,
    LampView,
    LoopLag,
    Phase,
    RunFigures,
    SessionView,
)

RECENT_ORDERS = 60


def take(engine: Engine, lag: LoopLag) -> DeskSnapshot:
    """The desk as it stands in this loop step."""
    equity = _equity(engine)
    sessions = tuple(_session(engine, run, equity) for run in engine.sessions.values())
    books = [run.desk.book for run in engine.sessions.values()]
    orders = sorted((o for book in books for o in book.open()), key=_urgency)
    recent = sorted((o for book in books for o in book.recent()), key=lambda o: -o.updated)[:RECENT_ORDERS]
    heat = engine.portfolio.view(sum(o.is_entry and o.state is not OrderState.LOST for o in orders))
    accounts = tuple(_account(account) for account in engine.accounts.values())
    return DeskSnapshot(
        number=engine.board.number,
        at=engine.clock.now(),
        live=engine.plan.live,
        started=engine.started,
        title=engine.plan.title,
        killed=engine.kill_reason is not None,
        kill_reason=engine.kill_reason or "",
        stopping=engine.stopping,
        shutdown_policy=engine.plan.shutdown,
        lamps=_lamps(engine, sessions, orders, accounts, heat),
        sessions=sessions,
        orders=tuple(orders),
        recent_orders=tuple(recent),
        disagreements=tuple(d for account in engine.accounts.values() for d in account.ledger.all()),
        accounts=accounts,
        feed=FeedView(
            name=engine.feed.name,
            link=engine.feed.state,
            since=engine.feed.since,
            reason=engine.feed.reason,
            last_tick=engine.feed.last_tick,
            tape_ended=engine.feed.ended,
        ),
        heat=heat,
        alerts=engine.board.alerts(),
        procedures=engine.board.procedures(),
        loop_lag=lag,
        persistence_detail=engine.store.health().detail,
        dead_jobs=engine.store.health().dead_jobs,
    )


def figures(engine: Engine, heat: Heat, lag: LoopLag) -> RunFigures:
    """What the run did; `heat` as it stood before the desk was stopped."""
    traders = [run.trader for run in engine.sessions.values()]
    orders: Counter[str] = Counter()
    decisions: Counter[str] = Counter()
    for trader in traders:
        orders.update(str(order.state) for order in trader.desk.book)
        orders.update({str(state): count for state, count in trader.desk.book.forgotten.items()})
        decisions.update(trader.counters.decisions)
    complete = isinstance(heat, CompleteHeat)
    return RunFigures(
        ticks=engine.feed.ticks,
        candles_closed=sum(t.counters.candles_closed for t in traders),
        candles_replaced=sum(t.counters.candles_replaced for t in traders),
        warmup_candles=sum(t.counters.warmup_candles for t in traders),
        strategy_runs=sum(t.counters.strategy_runs for t in traders),
        decisions=dict(sorted(decisions.items())),
        orders=dict(sorted(orders.items())),
        fills=sum(t.counters.fills for t in traders),
        disagreements=sum(len(account.ledger.all()) for account in engine.accounts.values()),
        heat_complete=complete,
        heat_percent=heat.percent if isinstance(heat, CompleteHeat) else heat.at_least,
        loop_lag=lag,
        unwritten=0 if engine.lost.done() else engine.store.health().failed,  # who lost the account writes nothing
    )


def _urgency(order: Order) -> tuple[int, int]:
    if order.is_in_doubt or order.state is OrderState.LOST:
        return (0, -order.created)
    return (1, -order.created)


def _equity(engine: Engine) -> Decimal | None:
    """What shares of heat are taken of; None while heat is incomplete."""
    heat = engine.portfolio.heat()
    return heat.equity if isinstance(heat, CompleteHeat) else None


def _session(engine: Engine, run: SessionRun, equity: Decimal | None) -> SessionView:
    trader, desk = run.trader, run.desk
    settings = desk.settings
    orders = desk.book.open()
    stops = [o for o in orders if o.role is Role.STOP and o.is_open]
    targets = [o for o in orders if o.role is Role.TARGET and o.is_open]
    share = engine.portfolio.contribution(settings.id)
    stance = engine.portfolio.stance(settings.id)
    held = not desk.book.position.is_flat
    return SessionView(
        id=settings.id,
        account=settings.account,
        instrument=desk.instrument,
        strategy=settings.strategy,
        timeframe=settings.timeframe,
        limits=settings.limits,
        protection_wanted=settings.protection,
        phase=desk.phase,
        phase_detail=desk.phase_detail,
        warmed=trader.warmed,
        warmup=settings.warmup,
        blocked=entry_blocks(engine, run),
        paused="pause" in desk.blocks,
        latches=tuple(reason for reason in desk.blocks.reasons() if ": " in reason),
        freshness=desk.fresh(),
        last_price=desk.mark,
        last_tick=desk.last_tick,
        forming=trader.stream.forming(),
        candles=trader.stream.series.as_tuple(),
        replaced=frozenset(trader.replaced),
        gaps=trader.stream.gaps.all(),
        seam=trader.stream.seam,
        marks=tuple(desk.marks),
        decisions=tuple(desk.decisions),
        position=desk.book.position,
        position_confirmed=desk.book.confirmed_at,
        protection=desk.protection,
        stop_price=(stops[0].terms.stop if stops else trader.guard.stop_price) if held or stops else None,
        target_price=(targets[0].terms.limit if targets else trader.guard.target_price) if held or targets else None,
        open_profit=desk.book.position.open_points(desk.mark) * desk.instrument.point_value,
        day_profit=trader.day_profit(),
        heat_share=None if share is None or not equity else share.total * 100 / equity,
        stance=stance.stance if stance is not None else Stance.BLOCK,
        strategy_runs=trader.counters.strategy_runs,
        restarts=run.supervisor.restarts,
        stopped=tuple(desk.stopped),
        stopped_entries=desk.stopped_entries,
    )


def entry_blocks(engine: Engine, run: SessionRun) -> tuple[Block, ...]:
    """Every reason why this session makes no entry now, the desk's own before the portfolio's."""
    account = engine.accounts[run.desk.settings.account]
    blocks = []
    if engine.kill_reason is not None:
        blocks.append(Block(f"KILL: {engine.kill_reason}", engine.kill_since))
    blocks += run.desk.blocks.standing()
    fresh = run.desk.fresh()
    if run.desk.phase is Phase.TRADING and not fresh.allows_entries and fresh is not Freshness.WAITING:
        blocks.append(Block(f"market data is {fresh}", run.desk.stale_since()))
    if not account.link.is_up:
        blocks.append(Block("the account link is down", account.link.since))
    elif account.link.locked_until is not None:
        blocks.append(Block("the broker has locked us out for now", account.link.locked_since))
    health = engine.store.health()
    if not health.ok:
        blocks.append(Block(f"database: {health.detail}", health.since))
    if (unsure := account.lease.why_no_entry()) is not None:
        blocks.append(Block(unsure, account.lease.unsure_since()))
    stance = engine.portfolio.stance(run.id)
    if stance is not None and stance.stance is Stance.BLOCK:
        blocks.append(Block(stance.reason, stance.since))
    return tuple(blocks)


def _account(account: DeskAccount) -> AccountView:
    reconciler, link = account.reconciler, account.link
    kinds = account.faults.kinds() if account.faults is not None and not account.live else ()
    return AccountView(
        id=account.id,
        broker=account.broker,
        live=account.live,
        link=link.state,
        link_since=link.since,
        link_reason=link.reason,
        balance=reconciler.balance,
        balance_at=reconciler.balance_at,
        positions_read=reconciler.positions_read,
        positions_next=reconciler.positions_next,
        orders_read=reconciler.orders_read,
        orders_next=reconciler.orders_next,
        failed_queries=link.failed_queries,
        locked_out_until=link.locked_until,
        foreign=reconciler.foreign,
        faults=tuple((kind.name, kind.title, kind.help, kind.default) for kind in kinds),
    )


# -- lamps ----------------------------------------------------------------------------------------------------


def seconds(ms: Millis) -> str:
    """An age as the lamps write it."""
    if ms < 10_000:
        return f"{max(0, ms) / 1000:.1f}s"
    if ms < 120_000:
        return f"{ms // 1000}s"
    return f"{ms // 60_000}m"


def _lamps(
    engine: Engine,
    sessions: tuple[SessionView, ...],
    orders: list[Order],
    accounts: tuple[AccountView, ...],
    heat: HeatView,
) -> Lamps:
    return Lamps(
        inbound=_inbound(engine, sessions),
        outbound=_outbound(orders),
        persistence=_persistence(engine),
        reconciliation=_reconciliation(engine, accounts),
        aggregation=_aggregation(heat),
    )


def _inbound(engine: Engine, sessions: tuple[SessionView, ...]) -> LampView:
    if engine.feed.ended:
        return LampView(Lamp.WARN, "end", "tape ended")
    if engine.feed.state is not LinkState.UP:
        return LampView(Lamp.ALARM, "down", f"feed {engine.feed.state}")
    now = engine.clock.now()
    seen = [view for view in sessions if view.last_tick is not None]
    if not seen:
        return LampView(Lamp.WAITING, "wait", "waiting")
    oldest = min(seen, key=lambda view: view.last_tick or 0)
    age = seconds(now - (oldest.last_tick or now))
    gaps = sum(any(not gap.closed for gap in view.gaps) for view in sessions)
    if gaps:
        return LampView(Lamp.WARN, f"gap {gaps}", f"{gaps} gaps filling")
    match oldest.freshness:
        case Freshness.SILENT:
            return LampView(Lamp.ALARM, f"{age}!", f"{oldest.instrument.symbol} silent {age}")
        case Freshness.STALE:
            return LampView(Lamp.WARN, f"{age}?", f"{oldest.instrument.symbol} stale {age}")
        case _:
            return LampView(Lamp.OK, age, age)


def _outbound(orders: list[Order]) -> LampView:
    lost = sum(o.state is OrderState.LOST for o in orders)
    doubt = sum(o.is_in_doubt for o in orders)
    if lost:
        return LampView(Lamp.ALARM, f"{lost} lost", f"{lost} lost, {doubt} in doubt")
    if doubt:
        return LampView(Lamp.WARN, f"{doubt}?", f"{doubt} in doubt")
    working = len(orders)
    return LampView(Lamp.OK, f"{working}", f"{working} working" if working else "no open orders")


def _persistence(engine: Engine) -> LampView:
    health = engine.store.health()
    if not health.ok:
        return LampView(Lamp.ALARM, "FAIL", f"not writing: {health.detail}")
    if (short := engine.trail.lamp()) is not None:
        return short
    if health.failed or health.dead_jobs:
        bad = health.failed + health.dead_jobs
        return LampView(Lamp.WARN, f"{bad} bad", f"{health.failed} rows, {health.dead_jobs} jobs failed")
    if health.waiting > 100:
        return LampView(Lamp.WARN, f"+{health.waiting}", f"{health.waiting} rows waiting")
    return LampView(Lamp.OK, "ok", "ok")


def _reconciliation(engine: Engine, accounts: tuple[AccountView, ...]) -> LampView:
    waiting = [d for account in engine.accounts.values() for d in account.ledger.all() if d.is_open]
    if waiting:
        return LampView(Lamp.ALARM if len(waiting) > 2 else Lamp.WARN, f"{len(waiting)}", f"{len(waiting)} open")
    if any(account.link is not LinkState.UP for account in accounts):
        return LampView(Lamp.ALARM, "down", "account link down")
    reads = [account.positions_read for account in accounts]
    if not reads or any(read is None for read in reads):
        return LampView(Lamp.WAITING, "wait", "waiting")
    age = engine.clock.now() - min(read for read in reads if read is not None)
    if age > engine.plan.numbers.positions_every * 2000:
        return LampView(Lamp.WARN, f"{seconds(age)}?", f"last check {seconds(age)} ago")
    return LampView(Lamp.OK, "ok", f"agrees {seconds(age)}")


def _aggregation(heat: HeatView) -> LampView:
    match heat.heat:
        case None:
            return LampView(Lamp.WAITING, "wait", "waiting")
        case IncompleteHeat(at_least=floor, reporting=reporting, expected=expected):
            number = f"≥{percent(floor)}" if floor is not None else "?"
            return LampView(Lamp.ALARM, f"{number.replace(' ', '')}!", f"{number}, {reporting} of {expected} reporting")
        case CompleteHeat(percent=value):
            number = f"{value.quantize(Decimal('0.1'))}%"
            match heat.stance:
                case Stance.BLOCK:
                    return LampView(Lamp.ALARM, f"{number}!", f"{number} block")
                case Stance.WARN:
                    return LampView(Lamp.WARN, f"{number}!", f"{number} warn")
                case Stance.OPEN:
                    return LampView(Lamp.OK, number, f"{number} open")

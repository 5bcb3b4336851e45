"""One session as the engine holds it, and what earlier lives left of it in the audit trail."""

from __future__ import annotations

import asyncio

from engine.domain.ids import ClientOrderId, Millis, SessionId
from engine.domain.instruments import Instrument
from engine.domain.intents import FLATTENED
from engine.domain.positions import FLAT
from engine.domain.records import LatchKind, LatchSet, SessionRegistered
from engine.ports import Store
from engine.session import SessionDesk
from engine.supervisor import Supervisor
from engine.trader import RealtimeTrader

HISTORY_MS = 14 * 86_400_000  # longer than any trade date with its holidays, and than a broker looks back


class SessionRun:
    """One session as the engine holds it: its trader, its supervisor, and whether it lives."""

    def __init__(self, trader: RealtimeTrader, supervisor: Supervisor, instrument: Instrument) -> None:
        self.trader = trader
        self.supervisor = supervisor
        self.instrument = instrument
        self.running: asyncio.Task[None] | None = None
        self.dead: str | None = None
        self.stood_down = False
        self.holds = 0
        """How often entries were held by hand: what was asked before the newest hold does not undo it."""

    @property
    def id(self) -> SessionId:
        """The session's id."""
        return self.trader.desk.settings.id

    @property
    def desk(self) -> SessionDesk:
        """What its rooms share."""
        return self.trader.desk


async def load(run: SessionRun, store: Store, latches: tuple[LatchSet, ...], now: Millis) -> None:
    """Take orders, fills, position, the day's figures and latches from the audit trail; nothing is sent."""
    desk, settings = run.desk, run.desk.settings
    store.record(
        SessionRegistered(
            session=settings.id,
            account=settings.account,
            symbol=settings.symbol,
            strategy=settings.strategy,
            timeframe=str(settings.timeframe),
            settings=settings.kept,
            at=now,
        )
    )
    for order in await store.ended_beside_unknown(settings.account, settings.id):
        desk.book.load(order)  # whose records the broker shows, too: none of them is the unknown one's
    for order in await store.open_orders(settings.account):
        if order.session == settings.id:
            desk.book.load(order)
    since = now - HISTORY_MS
    before, fills = await store.start_fills(settings.account, settings.symbol, since)
    for fill in fills:
        desk.book.load_fill(fill)
    await _load_entries(desk, store, {fill.client_id for fill in fills[-20:]})
    kept = (await store.positions(settings.account)).get(settings.symbol)
    if kept is not None:
        desk.book.restore_position(kept)
    day = await store.day(settings.id, settings.account, settings.symbol, now - 86_400_000)
    counted = tuple(fill for fill in fills if fill.at >= since)
    after = desk.ledger.rebuild(counted, day.entries, now, before)
    if counted and (after != (kept or FLAT) or any(fill.revision for fill in counted)):
        # adopted or corrected meanwhile: only the whole history tells what today's closes were worth
        history = await store.fills(settings.account, settings.symbol, 0)
        desk.ledger.rebuild(history, day.entries, now)
    for latch in latches:
        if latch.session == settings.id:
            _restore(run, latch, now)
    run.trader.recovered()


async def _load_entries(desk: SessionDesk, store: Store, recent: set[ClientOrderId | None]) -> None:
    """Legs need their entry, and the guard needs the stop price of the entry that opened the position."""
    wanted = recent | {order.parent for order in desk.book}
    for client_id in wanted:
        if client_id is not None and desk.book.get(client_id) is None:
            order = await store.order(client_id)
            if order is not None and order.session == desk.settings.id:
                desk.book.load(order)


def _restore(run: SessionRun, latch: LatchSet, now: Millis) -> None:
    desk = run.desk
    if latch.kind is LatchKind.PAUSE:
        if latch.reason.startswith(FLATTENED):
            run.trader.flattener.stand()
        desk.blocks.set("pause", f"paused: {latch.reason}", since=latch.at)
    elif latch.until is None or latch.until >= desk.instrument.calendar.trade_date(now):
        desk.blocks.set(f"latch:{latch.kind}", f"{latch.kind}: {latch.reason}", since=latch.at)

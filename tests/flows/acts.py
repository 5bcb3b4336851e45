"""What several flow tests do to a desk: decisions for its scripted strategy, ends of a life, a store that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from engine.domain.decisions import Decision, Intent, StrategyContext, Submit
from engine.domain.ids import CommandId, Symbol
from engine.domain.orders import Order, OrderType, Role, Side
from engine.errors import CommitUnknown, StoreUnavailable
from engine.persistence.store import SqlStore
from engine.ports import Store, StoreHealth
from engine.snapshot import Procedure, ProtectionState
from tests.flows.harness import ES, MINUTE, PAPER, Desk

Script = Callable[[StrategyContext], Decision]


def enter(side: Side = Side.BUY, stop: str = "4990", quantity: str | None = None, limit: str | None = None) -> Script:
    """A scripted entry with a protective stop, at market or at a limit."""
    return lambda context: Submit(
        state=context.state,
        intent=Intent.ENTER,
        side=side,
        quantity=None if quantity is None else Decimal(quantity),
        type=OrderType.MARKET if limit is None else OrderType.LIMIT,
        limit=None if limit is None else Decimal(limit),
        stop_loss=Decimal(stop),
        reason="scripted",
    )


def leave(context: StrategyContext) -> Decision:
    """A scripted exit of everything."""
    return Submit(state=context.state, intent=Intent.EXIT, reason="scripted")


def reverse(side: Side, stop: str) -> Script:
    """A scripted exit followed by an entry the other way."""
    return lambda context: Submit(
        state=context.state, intent=Intent.REVERSE, side=side, stop_loss=Decimal(stop), reason="scripted"
    )


async def next_window(desk: Desk, **prices: str) -> None:
    """Every market trades in the next window, at the price given or at its last one: all candles before it close."""
    await desk.clock.advance(desk.clock.now() // MINUTE * MINUTE + MINUTE)
    for symbol in desk.symbols:
        desk.feed.trade(symbol, prices.get(symbol[:2], desk.feed.market[symbol][-1].price))
    await desk.clock.settle()


async def hold(desk: Desk, symbol: Symbol = ES, price: str = "5000", *, stop: str = "4990", size: str = "2") -> None:
    """Let the strategy buy at market; return once the position is covered by a stop."""
    desk.strategies[symbol].script.append(enter(stop=stop, quantity=size))
    await next_window(desk, **{symbol[:2]: price})
    await desk.until(lambda: desk.position(symbol) == Decimal(size), 5)
    await desk.until(lambda: desk.trader(symbol).desk.protection is ProtectionState.COVERED, 5)


async def rest(
    desk: Desk, symbol: Symbol = ES, price: str = "5000", *, limit: str = "4980", stop: str = "4970"
) -> Order:
    """Let the strategy place a limit entry under the market; return it once it works."""
    desk.strategies[symbol].script.append(enter(stop=stop, limit=limit))
    await next_window(desk, **{symbol[:2]: price})
    await desk.until(lambda: any(o.broker_id is not None for o in working(desk, Role.ENTRY, symbol)), 5)
    return working(desk, Role.ENTRY, symbol)[-1]


def working(desk: Desk, role: Role, symbol: Symbol = ES) -> list[Order]:
    """Own orders of a role that are not proven ended."""
    return [o for o in desk.orders(role, symbol) if o.is_open]


def alerts(desk: Desk) -> str:
    """All alerts as one text."""
    return "\n".join(f"{a.severity}: {a.text}" for a in desk.engine.board.alerts())


def procedure(desk: Desk, id: CommandId) -> Procedure:
    """The lines and the result of a command."""
    return next(p for p in desk.engine.board.procedures() if p.id == id)


async def finished(desk: Desk, id: CommandId, seconds: float = 70) -> Procedure:
    """The command's procedure once it has a result."""
    await desk.until(lambda: procedure(desk, id).ok is not None, seconds)
    return procedure(desk, id)


# -- ends and beginnings of a life ------------------------------------------------------------------------


async def kill(desk: Desk) -> None:
    """End this life as a crash does: no cancel, no farewell, nothing written that was not yet written."""
    store = desk.real_store
    assert isinstance(store, SqlStore)
    await store._written().abandon()
    me = asyncio.current_task()
    while others := {t for t in asyncio.all_tasks() if t is not me and "aiosqlite" not in t.get_name()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=1)
    store._written()._records.clear()
    store._written()._intents.clear()
    desk.link.close()
    await store._database.close()
    desk.lock.release_all()
    desk.watchdog.close()
    desk.blocking.close()
    desk.engine.stopped.set()


async def next_life(
    desk: Desk, make_desk: Callable[..., Desk], *, later: float = 0, trading: bool = True, **options: Any
) -> Desk:
    """A new desk on the same directory and exchange book, started; `later` seconds of silence lie between."""
    now = desk.clock.now() + round(later * 1000)
    again = make_desk(**{"symbols": desk.symbols, **desk.options, **options, "now": now})
    again.feed.market = desk.feed.market
    await again.start(trading=False)
    if trading:
        await trades_again(again)
    return again


async def trades_again(desk: Desk) -> None:
    """Wait until every session trades, and let each market trade once where it last did."""
    await desk.until(lambda: all(run.trader.ready.is_set() for run in desk.engine.sessions.values()), 60)
    for symbol in desk.symbols:
        desk.feed.trade(symbol, desk.feed.market[symbol][-1].price)
    await desk.pass_(1)


# -- a store that fails ------------------------------------------------------------------------------------


class FailingStore:
    """A store that can be told to fail; rows recorded meanwhile wait, as the real writer's do."""

    def __init__(self, real: Store) -> None:
        self.real = real
        self.down = False
        self.silent = False
        self.lose_next_answer = False
        self.lose_next_commit = False
        self.waiting: list[Any] = []
        self.never = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def _may(self) -> None:
        if self.silent:
            await self.never.wait()
        if self.down:
            raise StoreUnavailable("disk I/O error")

    def back(self) -> None:
        """The database answers again, and what waited is written."""
        self.down = self.silent = False
        waiting, self.waiting = self.waiting, []
        for record in waiting:
            self.real.record(record)

    def trouble(self) -> str:
        """The reason in `health`."""
        return self.health().detail

    def health(self) -> StoreHealth:
        """In trouble as soon as a row could not be written; a silent one is not noticed here."""
        if self.down and self.waiting:
            return StoreHealth(ok=False, detail="disk I/O error", waiting=len(self.waiting))
        return self.real.health()

    def record(self, record: Any) -> None:
        """Queued while the database is away."""
        if self.down or self.silent:
            self.waiting.append(record)
        else:
            self.real.record(record)

    async def settled(self) -> None:
        """As the real one, unless told to fail."""
        await self._may()
        await self.real.settled()

    async def commit(self, intent: Any) -> Any:
        """As the real one, unless told to fail; `lose_next_*` say CommitUnknown with and without the row."""
        await self._may()
        if self.lose_next_commit:
            self.lose_next_commit = False
            raise CommitUnknown("the connection broke before the commit")
        outcome = await self.real.commit(intent)
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise CommitUnknown("the connection broke after the commit")
        return outcome

    async def bury(self, key: Any) -> Any:
        """As the real one, unless told to fail."""
        await self._may()
        return await self.real.bury(key)

    async def evaluated(self, session: Any) -> Any:
        """As the real one, unless told to fail."""
        await self._may()
        return await self.real.evaluated(session)

    async def lease(self, account: Any) -> Any:
        """As the real one, unless told to fail."""
        await self._may()
        return await self.real.lease(account)

    async def renew_lease(self, account: Any, epoch: int) -> bool:
        """As the real one, unless told to fail."""
        await self._may()
        return await self.real.renew_lease(account, epoch)

    async def write(self, record: Any) -> None:
        """As the real one, unless told to fail."""
        await self._may()
        await self.real.write(record)


def failing(desk: Desk) -> FailingStore:
    """The failing store of a desk made with `wrap_store=FailingStore`."""
    assert isinstance(desk.store, FailingStore)
    return desk.store


# -- memory, database and broker ---------------------------------------------------------------------------


async def rows(desk: Desk, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of the desk's database, read by its own reader once what is queued is written."""
    store = desk.real_store
    assert isinstance(store, SqlStore)
    await store.settled()
    return await stored(desk, sql, *values)


async def stored(desk: Desk, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows that are durable now, whatever is still queued."""
    store = desk.real_store
    assert isinstance(store, SqlStore)
    return await store._read().query(sql, values)


async def all_agree(desk: Desk) -> None:
    """Memory, database and broker tell the same positions, average prices, fills and open orders."""
    store = desk.real_store
    assert isinstance(store, SqlStore)
    await store.settled()
    kept = await store.positions(PAPER)
    at_broker = {row.symbol: row for row in desk.exchange.positions(PAPER)}
    open_at_broker = {
        (o.client_id, o.broker_id, o.terms.side, o.terms.quantity - o.filled, o.terms.limit, o.terms.stop)
        for o in desk.exchange.open_orders(PAPER)
    }
    in_memory: set[tuple[Any, ...]] = set()
    for symbol in desk.symbols:
        book = desk.trader(symbol).desk.book
        theirs = at_broker.get(symbol)
        assert book.position.quantity == (theirs.quantity if theirs else 0), desk.describe()
        if theirs is not None:
            assert book.position.average_price == theirs.average_price, desk.describe()
            assert kept[symbol].quantity == theirs.quantity
            assert kept[symbol].average_price == theirs.average_price
        else:
            assert symbol not in kept
        in_memory |= {_told(o) for o in book.open()}
    in_database = {_told(o) for o in await store.open_orders(PAPER)}
    assert in_memory == open_at_broker, desk.describe()
    assert in_database == open_at_broker, desk.describe()
    filled = {
        o.client_id: o.filled for o in desk.exchange.orders_since(PAPER, 0) if o.client_id is not None and o.filled
    }
    booked: dict[str, Decimal] = {}
    for client_id, quantity in await rows(desk, "SELECT client_id, quantity FROM fills"):
        booked[client_id] = booked.get(client_id, Decimal(0)) + Decimal(quantity)
    assert booked == filled


def _told(order: Order) -> tuple[Any, ...]:
    terms = order.terms
    return (order.client_id, order.broker_id, terms.side, order.remaining, terms.limit, terms.stop)

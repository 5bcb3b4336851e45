"""How the audit trail grows, and what a long history costs at a start; prints figures, asserts nothing.

    python -m tests.bench.growth            bytes for each order and day, SQLite and PostgreSQL
    python -m tests.bench.growth --long     start, recovery, check and prune on 200,000 orders (SQLite)

The profile of a day: 20 sessions; 100 entries, each with a stop and a target (300 orders); half of the entries fill in
two parts; then the stop or the target fills and the other leg is cancelled, or (one in five) the stop is moved twice
first; every entry is a decision; equity moves every 30 s for 23 hours. Rows come through the real store, as a desk
writes them.
"""

from __future__ import annotations

import asyncio
import platform
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

from msgspec.structs import replace

from engine.clock import SystemClock
from engine.domain.broker import Balance
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, BrokerOrderId, DecisionKey, SessionId, Symbol, client_order_id
from engine.domain.intents import ReplaceIntent, SubmitIntent
from engine.domain.orders import Order, OrderState, OrderType, Role, Side, Terms, TimeInForce
from engine.domain.positions import Position
from engine.domain.records import (
    BalanceChanged,
    CandleEvaluated,
    DecisionMade,
    FillBooked,
    OrderChanged,
    Record,
    SessionRegistered,
)
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.check import examine
from engine.persistence.kept import Kept
from engine.persistence.prune import prune
from engine.persistence.sqlite_database import SqliteDatabase
from engine.persistence.statements import claim, statements_of
from engine.persistence.store import SqlStore
from tests.postgres import Cluster, binaries
from tests.unit.persistence.samples import CountedIds

SESSIONS, ENTRIES, DAYS = 20, 100, 10
DAY_MS, HALF_MINUTE_MS = 86_400_000, 30_000
BEGIN = 1_700_006_400_000  # midnight, UTC
ACCOUNT = AccountId("U1234567")
ONE, TWO = Decimal(1), Decimal(2)
Step = SubmitIntent | ReplaceIntent | Record


def session_of(number: int) -> tuple[SessionId, Symbol]:
    return SessionId(f"session-{number % SESSIONS:02d}"), Symbol(f"S{number % SESSIONS:02d}Z6")


class Story:
    """One entry with its legs, from the decision to flat, in the order in which a desk writes it."""

    def __init__(self, number: int, at: int) -> None:
        self.number, self.at = number, at
        self.session, self.symbol = session_of(number)
        self.position = Decimal(0)
        self.fills = 0

    def order(self, role: Role, side: Side, kind: OrderType, parent: Order | None = None) -> Order:
        suffix = "" if parent is None else f"/{role}"
        key = DecisionKey(f"{self.session}/{self.at}/entry/1{suffix}")
        terms = Terms(
            symbol=self.symbol,
            side=side,
            quantity=TWO,
            type=kind,
            limit=Decimal("5012.25") if kind is OrderType.LIMIT else None,
            stop=Decimal("4990.75") if kind is OrderType.STOP else None,
            tif=TimeInForce.DAY if parent is None else TimeInForce.GTC,
        )
        return Order(
            client_id=client_order_id("salt", key),
            key=key,
            session=self.session,
            account=ACCOUNT,
            role=role,
            terms=terms,
            state=OrderState.SUBMITTING,
            created=self.at,
            updated=self.at,
            deadline=self.at + 60_000,
            epoch=3,
            parent=None if parent is None else parent.client_id,
            linked=parent is not None,
            protect_stop=Decimal("4990.75") if parent is None else None,
            reason="fast 5012.1250 crossed above slow 5010.8750" if parent is None else "",
        )

    def moved(self, order: Order, event: str, **changes: object) -> tuple[Order, OrderChanged]:
        self.at += 40
        after = replace(order, revision=order.revision + 1, updated=self.at, **changes)
        return after, OrderChanged(order=after, event=event, at=self.at)

    def filled(self, order: Order, quantity: Decimal) -> tuple[Order, Iterator[Record]]:
        self.fills += 1
        total = order.filled + quantity
        state = OrderState.FILLED if total == order.terms.quantity else OrderState.PARTIALLY_FILLED
        price, fee = Decimal("5001.25"), Decimal("2.10") * quantity
        after, change = self.moved(
            order, "fill", filled=total, reported=total, state=state, average_price=price, fees=order.fees + fee
        )
        self.position += quantity * order.terms.side.sign
        fill = Fill(
            key=f"X{self.number:07d}{self.fills}",
            account=ACCOUNT,
            session=self.session,
            symbol=self.symbol,
            client_id=order.client_id,
            broker_id=order.broker_id or BrokerOrderId("?"),
            side=order.terms.side,
            quantity=quantity,
            price=price,
            at=self.at,
            fee=fee,
            since=order.filled,
            upto=total,
        )
        position = Position(self.position, price if self.position else None)
        return after, iter((FillBooked(fill=fill, order=after, position=position, at=self.at), change))

    def steps(self) -> Iterator[Step]:
        entry = self.order(Role.ENTRY, Side.BUY, OrderType.MARKET)
        stop = self.order(Role.STOP, Side.SELL, OrderType.STOP, entry)
        target = self.order(Role.TARGET, Side.SELL, OrderType.LIMIT, entry)
        candle, started = self.at, self.at
        yield SubmitIntent(key=entry.key, order=entry, legs=(stop, target), at=self.at, epoch=3)
        yield DecisionMade(
            session=self.session, candle=candle, key=entry.key, kind="enter", order=entry.client_id,
            reason=entry.reason, at=started,
        )  # fmt: skip
        orders = [entry, stop, target]
        for place, order in enumerate(orders):
            sent, change = self.moved(order, "sent", sent=self.at)
            yield change
            broker = BrokerOrderId(f"P{self.number * 3 + place:08d}")
            orders[place], change = self.moved(sent, "accepted", state=OrderState.WORKING, broker_id=broker)
            yield change
        entry, stop, target = orders
        for part in (ONE, ONE) if self.number % 2 else (TWO,):
            entry, news = self.filled(entry, part)
            yield from news
        for turn in range(2 if self.number % 5 == 0 else 0):
            key = DecisionKey(f"{self.session}/replace:{stop.client_id}/r/{turn + 2}")
            yield ReplaceIntent(
                key=key, account=ACCOUNT, session=self.session, client_id=stop.client_id, terms=stop.terms,
                at=self.at, epoch=3, reason="the stop follows the position",
            )  # fmt: skip
            stop, change = self.moved(stop, "replace asked", state=OrderState.PENDING_REPLACE, wanted=stop.terms)
            yield change
            stop, change = self.moved(stop, "replaced", state=OrderState.WORKING, wanted=None)
            yield change
        hit, other = (stop, target) if self.number % 3 else (target, stop)
        hit, news = self.filled(hit, TWO)
        yield from news
        yield self.moved(other, "broker says cancelled", state=OrderState.CANCELLED, reason="the other leg filled")[1]
        yield CandleEvaluated(session=self.session, candle=candle, at=self.at)


def sessions() -> Iterator[Record]:
    for number in range(SESSIONS):
        session, symbol = session_of(number)
        yield SessionRegistered(
            session=session, account=ACCOUNT, symbol=symbol, strategy="ema_cross", timeframe="1m",
            settings="SessionSettings(" + "x" * 700 + ")", at=BEGIN,
        )  # fmt: skip


def money(day: int) -> Iterator[Record]:
    for turn in range(23 * 120):
        at = BEGIN + day * DAY_MS + turn * HALF_MINUTE_MS
        equity = Decimal(100_000) + Decimal(at % 99_991) / 100
        yield BalanceChanged(
            account=ACCOUNT, balance=Balance(equity=equity, cash=Decimal("81234.50"), margin_used=Decimal(5)), at=at
        )


def stories(day: int) -> Iterator[Story]:
    for number in range(ENTRIES):
        yield Story(day * ENTRIES + number, BEGIN + day * DAY_MS + number * (DAY_MS // ENTRIES))


# ------------------------------------------------------------------------------------------- bytes a day


async def live(store: SqlStore, days: range, *, orders: bool, balances: bool) -> None:
    """So many days of the profile, through the store."""
    if days.start == 0 and orders:
        for record in sessions():
            store.record(record)
    for day in days:
        for record in money(day) if balances else ():
            store.record(record)
        for story in stories(day) if orders else ():
            for step in story.steps():
                if isinstance(step, SubmitIntent | ReplaceIntent):
                    await store.commit(step)
                else:
                    store.record(step)
        await store.settled()


def spent(before: int, after: int, count: int) -> str:
    return f"{(after - before) / count:,.0f}"


async def on_sqlite(folder: Path) -> None:
    path = folder / "desk.db"

    async def part(days: range, *, orders: bool, balances: bool) -> int:
        clock = SystemClock()
        blocking = ThreadBlocking(clock)
        store = SqlStore.sqlite(path, clock, blocking, CountedIds())
        await store.open()
        await live(store, days, orders=orders, balances=balances)
        await store.close()
        blocking.close()
        raw = sqlite3.connect(path)
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.close()
        return path.stat().st_size

    empty = await part(range(1), orders=True, balances=True)
    with_orders = await part(range(1, DAYS + 1), orders=True, balances=False)
    with_money = await part(range(1, DAYS + 1), orders=False, balances=True)
    orders, days = DAYS * ENTRIES * 3, DAYS
    say("SQLite", f"{spent(empty, with_orders, orders)} bytes an order, {spent(empty, with_orders, days)} a day of "
        f"{ENTRIES * 3} orders; balances {spent(with_orders, with_money, days)} a day; "
        f"together {spent(empty, with_money, days)} a day")  # fmt: skip
    raw = sqlite3.connect(path)
    lines = raw.execute("SELECT count(*) FROM log").fetchone()[0]
    try:
        sizes = raw.execute(
            "SELECT coalesce(m.tbl_name, s.name), sum(s.pgsize) FROM dbstat AS s LEFT JOIN sqlite_master AS m "
            "ON m.name = s.name GROUP BY 1 ORDER BY 2 DESC LIMIT 8"
        ).fetchall()
        total = path.stat().st_size
        say("SQLite", ", ".join(f"{name} {size * 100 / total:.0f} %" for name, size in sizes) + f"; {lines} log lines")
    except sqlite3.OperationalError:
        pass  # an SQLite that was built without dbstat
    raw.close()
    clock = SystemClock()
    blocking = ThreadBlocking(clock)
    desk = Kept(path, folder, folder / "journal", folder / "KILL")
    did = await prune(desk, date(2023, 12, 1), "bench", False, clock, blocking)
    blocking.close()
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("VACUUM")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    stays = path.stat().st_size
    say("SQLite", f"pruned of {did.lines} lines and {did.balances} balances, and vacuumed: "
        f"{stays / ((DAYS + 1) * ENTRIES * 3):,.0f} bytes an order stay, {stays / (DAYS + 1):,.0f} a day")  # fmt: skip


async def on_postgres(cluster: Cluster) -> None:
    url = cluster.database()

    async def part(days: range, *, orders: bool, balances: bool) -> tuple[int, int]:
        clock = SystemClock()
        blocking = ThreadBlocking(clock)
        store = SqlStore.postgres(url, clock, blocking, CountedIds())
        await store.open()
        await live(store, days, orders=orders, balances=balances)
        await store.close()
        blocking.close()
        ((size, log),) = cluster.sql(
            "SELECT sum(pg_total_relation_size(c.oid))::bigint, "
            "pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint FROM pg_class AS c "
            "WHERE c.relnamespace = 'sextant'::regnamespace AND c.relkind = 'r'",
            url.database,
        )
        return size, log

    empty = await part(range(1), orders=True, balances=True)
    with_orders = await part(range(1, DAYS + 1), orders=True, balances=False)
    with_money = await part(range(1, DAYS + 1), orders=False, balances=True)
    orders = DAYS * ENTRIES * 3
    for name, place in (("tables and indexes", 0), ("write-ahead log written (recycled by the server)", 1)):
        a, b, c = empty[place], with_orders[place], with_money[place]
        each = f"{spent(a, b, orders)} bytes an order, {spent(a, b, DAYS)} a day of {ENTRIES * 3} orders"
        money_alone, both = spent(b, c, DAYS), spent(a, c, DAYS)
        say(f"PostgreSQL {cluster.version}", f"{name}: {each}; balances {money_alone} a day; together {both} a day")


# ---------------------------------------------------------------------------------------- a long history


async def made_long(path: Path, orders: int) -> None:
    """A history written past the store (no sync), with the store's own statements."""
    clock = SystemClock()
    database = SqliteDatabase(path, clock, ThreadBlocking(clock))
    await database.open()
    await database.close()
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA synchronous = OFF")
    raw.execute("BEGIN")
    for record in sessions():
        for sql, values in statements_of(record):
            raw.execute(sql, values)
    days = -(-orders // (ENTRIES * 3))
    for day in range(days):
        for story in stories(day):
            story.at -= 1
            for step in story.steps():
                is_intent = isinstance(step, SubmitIntent | ReplaceIntent)
                for sql, values in claim(step) if is_intent else statements_of(step):  # type: ignore[arg-type]
                    raw.execute(sql, values)
        if day % 50 == 0:
            raw.execute("COMMIT")
            raw.execute("BEGIN")
    raw.execute("COMMIT")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()


async def long_history(folder: Path, orders: int) -> None:
    path = folder / "desk.db"
    began = time.perf_counter()
    await made_long(path, orders)
    raw = sqlite3.connect(path)
    counts = {table: raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("orders", "log", "fills")}
    raw.close()
    say("SQLite", f"a history of {counts['orders']} orders, {counts['log']} log lines, {counts['fills']} fills, "
        f"{path.stat().st_size / 1e6:.0f} MB (made in {time.perf_counter() - began:.0f} s)")  # fmt: skip
    clock = SystemClock()
    blocking = ThreadBlocking(clock)
    began = time.perf_counter()
    store = SqlStore.sqlite(path, clock, blocking, CountedIds())
    await store.open()
    say("SQLite", f"open: {(time.perf_counter() - began) * 1e3:.0f} ms")
    now = BEGIN + (orders // (ENTRIES * 3)) * DAY_MS
    read: dict[str, float] = {}
    for number in range(SESSIONS):
        session, symbol = session_of(number)
        for name, reading in (
            ("open_orders", store.open_orders(ACCOUNT)),
            ("positions", store.positions(ACCOUNT)),
            ("day", store.day(session, ACCOUNT, symbol, now - DAY_MS)),
            ("start_fills", store.start_fills(ACCOUNT, symbol, now - 14 * DAY_MS)),
            ("(the whole history of fills)", store.fills(ACCOUNT, symbol, 0)),
            ("evaluated", store.evaluated(session)),
            ("disagreements", store.disagreements(ACCOUNT)),
        ):
            began = time.perf_counter()
            await reading
            read[name] = read.get(name, 0.0) + (time.perf_counter() - began) * 1e3
    each = ", ".join(f"{name} {spent_ms:.0f} ms" for name, spent_ms in read.items())
    say("SQLite", f"reads of {SESSIONS} sessions: {each}")
    await store.close()
    desk = Kept(path, folder, folder / "journal", folder / "KILL")
    began = time.perf_counter()
    found = await examine(desk, clock, blocking)
    wrong = [f"{each.check}: {each.detail}" for each in found if not each.ok]
    say("SQLite", f"db check: {time.perf_counter() - began:.1f} s, wrong: {wrong}")
    began, size = time.perf_counter(), path.stat().st_size
    did = await prune(desk, date(2025, 1, 1), "bench", False, clock, blocking)
    took = time.perf_counter() - began
    raw = sqlite3.connect(path)
    free = raw.execute("PRAGMA freelist_count").fetchone()[0] * 4096
    raw.close()
    say(
        "SQLite", f"db prune: {did.lines} lines in {took:.1f} s; {free / 1e6:.0f} of {size / 1e6:.0f} MB free for reuse"
    )
    blocking.close()


def say(where: str, what: str) -> None:
    sys.stdout.write(f"{where}: {what}\n")
    sys.stdout.flush()


def main() -> None:
    say("machine", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        if "--long" in sys.argv:
            asyncio.run(long_history(Path(folder), 200_000))
            say("machine", f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
            return
        asyncio.run(on_sqlite(Path(folder)))
        directory = binaries()
        if directory is None:
            say("PostgreSQL", "no server on this machine")
            return
        cluster = Cluster(directory)
        try:
            asyncio.run(on_postgres(cluster))
        finally:
            cluster.remove()


if __name__ == "__main__":
    main()

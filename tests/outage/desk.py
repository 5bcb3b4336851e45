"""A real desk on its own thread while its audit trail is in trouble, with every request to the broker timed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from brokers.paper.exchange import PaperExchange
from console.bootstrap import Desk, settings_for, strategies_for
from console.options import RunOptions
from console.process import state_directory
from engine import commands as c
from engine.clock import SystemClock
from engine.domain.broker import SubmitAnswer, SubmitRequest
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, CommandId, SessionId
from engine.domain.order_book import OrderBook
from engine.domain.orders import Order, OrderType, Role, Side, Terms
from engine.domain.postgres_url import PostgresUrl
from engine.domain.settings import ShutdownPolicy
from engine.engine import Engine
from engine.host import EngineHost
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.store import SqlStore
from engine.plan import EnginePlan
from engine.ports import AccountManager
from engine.snapshot import DeskSnapshot, Phase, Procedure, ProtectionState, SessionView

T = TypeVar("T")
PAPER = AccountId("paper")
HOLDER, SECOND, RESTER = SessionId("holder"), SessionId("second"), SessionId("rester")
PATIENCE = 90.0
STRATEGIES = '''
from decimal import Decimal

from engine.domain.decisions import Cancel, Intent, Nothing, Submit
from engine.domain.orders import OrderType, Side


class Holder:
    """Buys, with a stop, until it holds; then never again."""

    stop = Decimal("0.99")

    def initial(self):
        return False

    def decide(self, context):
        held = context.state or bool(context.position.quantity)
        if context.warming or held or context.orders:
            return Nothing(state=held, reason="holds")
        near, price = context.instrument.nearest, context.candles[-1].close
        stop = None if self.stop is None else near(price * self.stop)
        return Submit(state=False, intent=Intent.ENTER, side=Side.BUY, stop_loss=stop, reason="once")


class Naked(Holder):
    """The same without a stop: its exit is an order of its own."""

    stop = None


class Rester:
    """Rests a limit entry far below the market and takes it back, for ever."""

    def initial(self):
        return None

    def decide(self, context):
        entries = [order for order in context.orders if order.role == "entry"]
        if context.warming or entries:
            if entries and not context.warming and entries[0].broker_id is not None:
                return Cancel(state=None, orders=(entries[0].client_id,), reason="another price")
            return Nothing(state=None, reason="waits")
        price = context.candles[-1].close
        near = context.instrument.nearest
        return Submit(
            state=None, intent=Intent.ENTER, side=Side.BUY, type=OrderType.LIMIT,
            limit=near(price * Decimal("0.985")), stop_loss=near(price * Decimal("0.98")), reason="rests",
        )
'''
SETTINGS = """
[desk]
seed = 7
shutdown = "leave"
[portfolio]
warn = 90
block = 95
[accounts.paper]
equity = 2_500_000
latency_ms = 40
[instruments.ESZ6]
tick_size = 0.25
point_value = 50
worst_case = 2500
[instruments.NQZ6]
tick_size = 0.25
point_value = 20
worst_case = 4000
[instruments.YMZ6]
tick_size = 1
point_value = 5
worst_case = 2500
"""
SESSION = """
[sessions.{name}]
account = "paper"
symbol = "{symbol}"
strategy = "{file}:{cls}"
protection = "{protection}"
timeframe = "1s"
warmup = 3
sizing = {{ quantity = 2 }}
[sessions.{name}.limits]
max_order_size = 10
max_position_size = 10
entries_per_minute = 1000
entries_per_day = 100000
price_collar = 0.03
max_daily_loss = 200_000
worst_case_per_contract = 2500
"""


def eventually(look: Callable[[], T | None], what: Callable[[], str] | str, seconds: float = PATIENCE) -> T:
    """The first true answer; an AssertionError with what stood instead."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.01)
    return answer


class Turns:
    """A thread that wants its turn every hundredth of a second, and knows how long it has had to wait for them.

    What a loaded machine keeps from this process it keeps from the desk as well: a limit that is the desk's own is
    held against the time that it had.
    """

    def __init__(self) -> None:
        self._late, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Turns:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(0.01):
            now = time.monotonic()
            self._late += max(0.0, now - before - 0.015)
            before = now

    def had(self, began: float) -> float:
        """Seconds since then that this process was not kept from its turn."""
        return time.monotonic() - began - self._late


class Wire:
    """An account's manager that notes when each request began to leave."""

    def __init__(self, manager: AccountManager) -> None:
        self._manager = manager
        self.sent: list[tuple[float, str, Terms | None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    async def submit(self, request: SubmitRequest) -> SubmitAnswer:
        """As the broker's own."""
        self.sent.append((time.monotonic(), "submit", request.terms))
        return await self._manager.submit(request)

    async def replace(self, broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        """As the broker's own."""
        self.sent.append((time.monotonic(), "replace", terms))
        return await self._manager.replace(broker_id, client_id, terms)

    async def cancel(self, broker_id: BrokerOrderId) -> SubmitAnswer:
        """As the broker's own."""
        self.sent.append((time.monotonic(), "cancel", None))
        return await self._manager.cancel(broker_id)

    def first_exit(self, since: float) -> float | None:
        """When the first market order that closes left."""
        return next(
            (
                at
                for at, kind, terms in list(self.sent)
                if at >= since and terms is not None and kind != "cancel"
                and terms.type is OrderType.MARKET and terms.side is Side.SELL
            ),
            None,
        )  # fmt: skip


class RunningDesk:
    """Holds a covered position in one market and rests entries in another; `edit` may change the plan."""

    def __init__(
        self,
        directory: Path,
        database: PostgresUrl | Path,
        edit: Callable[[EnginePlan], EnginePlan] = lambda plan: plan,
    ) -> None:
        file = directory / "outage.py"
        file.write_text(STRATEGIES)
        file.chmod(0o600)
        config = directory / "sextant.toml"
        sessions = (
            (HOLDER, "ESZ6", "Holder", "stop"),
            (SECOND, "YMZ6", "Naked", "none"),
            (RESTER, "NQZ6", "Rester", "stop"),
        )
        config.write_text(
            SETTINGS
            + "".join(SESSION.format(name=n, symbol=s, file=file, cls=cls, protection=p) for n, s, cls, p in sessions)
        )
        self.database = database
        place = str(database) if isinstance(database, Path) else database.shown
        options = RunOptions(config=config, db=place, state_dir=directory / "state", headless=True)
        settings, tape, options = settings_for(options)
        settings = replace(settings, database=database) if isinstance(database, PostgresUrl) else settings
        self.desk = Desk(settings, tape, strategies_for(settings), options.speed)
        self.state = state_directory(settings.state_dir)
        self.host = EngineHost(lambda: self._plan(edit), manage_gc=False)
        self._commands = 0

    def _plan(self, edit: Callable[[EnginePlan], EnginePlan]) -> EnginePlan:
        plan = edit(self.desk.plan())
        (account,) = plan.accounts
        self.wire = Wire(account.manager)
        self.plan = replace(plan, accounts=(replace(account, manager=self.wire),))
        return self.plan

    # -- life -------------------------------------------------------------------------------------------

    def start(self) -> RunningDesk:
        """Return once one session holds a position under a stop and the other's entry rests."""
        self.host.start()
        self.host.started.result(PATIENCE)
        eventually(lambda: all(s.phase is Phase.TRADING for s in self.picture().sessions), "trading")
        eventually(lambda: self.view(HOLDER).protection is ProtectionState.COVERED, lambda: self.told(HOLDER))
        eventually(lambda: self.view(SECOND).position.quantity == 2, lambda: self.told(SECOND))
        eventually(lambda: any(o.role is Role.ENTRY and o.broker_id for o in self.picture().orders), "a resting entry")
        return self

    def stop(self) -> None:
        """End in order; harmless twice."""
        if self.host.ended.done():
            return
        self.host.shut_down(ShutdownPolicy.LEAVE)
        self.host.ended.result(PATIENCE)
        self.desk.host = self.host
        self.desk.close()

    # -- from outside -----------------------------------------------------------------------------------

    def picture(self) -> DeskSnapshot:
        """What a console sees."""
        return eventually(self.host.snapshot, "a snapshot")

    def view(self, session: SessionId) -> SessionView:
        """One session as a console sees it."""
        view = self.picture().session(session)
        assert view is not None
        return view

    def told(self, session: SessionId) -> str:
        """Where a session stands, in few words."""
        view = self.view(session)
        return f"{session}: {view.position} {view.blocks} {[(d.decision, d.reason) for d in view.decisions[-3:]]}"

    def alerts(self) -> str:
        """All alerts as one text."""
        return "\n".join(f"{a.severity}: {a.text}" for a in self.picture().alerts)

    def procedure(self, id: CommandId) -> Procedure:
        """A command's lines."""
        return eventually(lambda: next((p for p in self.picture().procedures if p.id == id), None), f"{id}")

    def send(self, make: Callable[[c.Origin], c.Command]) -> c.Receipt:
        """Dispatch a command and wait for its receipt."""
        self._commands += 1
        at = time.time_ns() // 1_000_000
        origin = c.Origin(id=CommandId(f"outage-{at}-{self._commands}"), operator="test", place="test", at=at)
        return self.host.dispatch(make(origin)).result(PATIENCE)

    @property
    def path(self) -> Path:
        """The SQLite file."""
        assert isinstance(self.database, Path)
        return self.database

    @property
    def store(self) -> SqlStore:
        """The audit trail, for what is done to it on its own loop."""
        store = self.plan.store
        assert isinstance(store, SqlStore)
        return store

    @property
    def engine(self) -> Engine:
        """The engine, for questions asked on its own loop."""
        assert self.host._engine is not None
        return self.host._engine

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the engine's loop."""
        assert self.host._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self.host._loop).result(PATIENCE)

    # -- memory, database, broker -----------------------------------------------------------------------

    def differences(self) -> list[str]:
        """Where memory, database and broker do not tell the same; empty when they agree."""

        async def look() -> tuple[dict[str, Any], dict[str, Any]]:
            exchange = self.desk._exchange
            assert exchange is not None
            return _at_broker(exchange), _in_memory([run.desk.book for run in self.engine.sessions.values()])

        for _ in range(20):  # a desk that trades moves between two looks
            before = self.on_loop(look())
            kept = asyncio.run(_in_database(self.database))
            if before == self.on_loop(look()):
                break
        else:
            return ["the desk was never quiet for as long as it takes to look"]
        theirs, ours = before
        found = []
        for name, value in theirs.items():
            for where, others in (("memory", ours), ("database", kept)):
                if name in others and others[name] != value:
                    found.append(f"{name}: broker {value}, {where} {others[name]}")
        if missing := theirs["submits"] - kept["intents"]:
            found.append(f"sent without an intent in the database: {missing}")
        for kind in ("submit", "cancel", "replace"):
            sent = sum(what == kind for _, what, _ in list(self.wire.sent))
            if kept["kinds"].get(kind, 0) < sent:
                found.append(f"{sent} {kind} requests were sent, {kept['kinds'].get(kind, 0)} intents are kept")
        if kept["tombstones"] & theirs["submits"]:
            found.append("a tombstone stands on an order that was sent")
        return found


Told = tuple[Any, ...]


def _told(order: Order) -> Told:
    terms = order.terms
    return (order.client_id, order.broker_id, terms.side, order.remaining, terms.limit, terms.stop)


def _at_broker(exchange: PaperExchange) -> dict[str, Any]:
    orders = exchange.orders_since(PAPER, 0)
    return {
        "positions": {p.symbol: (p.quantity, p.average_price) for p in exchange.positions(PAPER)},
        "open orders": {
            (o.client_id, o.broker_id, o.terms.side, o.terms.quantity - o.filled, o.terms.limit, o.terms.stop)
            for o in exchange.open_orders(PAPER)
        },
        "fills": {o.client_id: o.filled for o in orders if o.filled},
        "submits": {o.client_id for o in orders},
    }


def _in_memory(books: list[OrderBook]) -> dict[str, Any]:
    return {
        "positions": {
            b.symbol: (b.position.quantity, b.position.average_price) for b in books if not b.position.is_flat
        },
        "open orders": {_told(o) for book in books for o in book.open()},
    }


async def _in_database(database: PostgresUrl | Path) -> dict[str, Any]:
    """Read beside the running desk, as the listings do."""
    clock = SystemClock()
    blocking = ThreadBlocking(clock)
    store = (
        SqlStore.sqlite(database, clock, blocking, _NoIds(), read_only=True)
        if isinstance(database, Path)
        else SqlStore.postgres(database, clock, blocking, _NoIds(), read_only=True)
    )
    await store.open()
    try:
        read = store._read().query
        fills: dict[str, Decimal] = {}
        for client_id, quantity in await read("SELECT client_id, quantity FROM fills"):
            fills[client_id] = fills.get(client_id, Decimal(0)) + Decimal(quantity)
        kept = (await store.positions(PAPER)).items()
        return {
            "positions": {symbol: (p.quantity, p.average_price) for symbol, p in kept},
            "open orders": {_told(o) for o in await store.open_orders(PAPER)},
            "fills": fills,
            "intents": {
                i for (i,) in await read("SELECT client_id FROM intents WHERE kind = 'submit'")
            } | {i for (i,) in await read("SELECT client_id FROM orders WHERE parent IS NOT NULL")},
            "kinds": dict(await read("SELECT kind, count(*) FROM intents GROUP BY kind")),
            "tombstones": {
                i
                for (i,) in await read(
                    "SELECT o.client_id FROM intents AS i JOIN orders AS o ON o.decision_key = i.key "
                    "WHERE i.kind = 'tombstone' AND o.parent IS NULL"
                )
            },
        }  # fmt: skip
    finally:
        await store.close()
        blocking.close()


class _NoIds:
    def fresh(self, prefix: str) -> str:
        raise AssertionError("nothing is made by looking")

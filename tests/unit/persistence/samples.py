"""What tests of the audit trail share: one of every record, and stand-ins for a database that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from engine.clock import SystemClock
from engine.domain.broker import Balance
from engine.domain.calendar import ALWAYS_OPEN, Calendar
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.fills import Fill
from engine.domain.ids import (
    AccountId,
    BrokerOrderId,
    ClientOrderId,
    CommandId,
    DecisionKey,
    SessionId,
    Symbol,
    client_order_id,
)
from engine.domain.instruments import Instrument
from engine.domain.intents import CancelIntent, ReplaceIntent, SubmitIntent
from engine.domain.orders import Doubt, Flag, Order, OrderState, OrderType, Role, Side, Terms, TimeInForce
from engine.domain.positions import Position
from engine.domain.postgres_url import PostgresUrl
from engine.domain.records import (
    BalanceChanged,
    CandleEvaluated,
    DecisionMade,
    DisagreementRecorded,
    FillBooked,
    LatchKind,
    LatchSet,
    LimitsChanged,
    OrderChanged,
    OverrideRecorded,
    PositionRecorded,
    Record,
    ReplacedAfterDecision,
    SessionRegistered,
)
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.store import SqlStore
from engine.ports import StoreConnection

ACCOUNT = AccountId("SIM-1")
SESSION = SessionId("es-ema")
SYMBOL = Symbol("ESZ5")
AT = 1_700_000_000_000


def contract(point_value: str = "1", symbol: Symbol = SYMBOL, calendar: Calendar = ALWAYS_OPEN) -> Instrument:
    return Instrument(symbol=symbol, tick_size=Decimal("0.25"), point_value=Decimal(point_value), calendar=calendar)


class CountedIds:
    """Ids that count."""

    def __init__(self, life: str = "life") -> None:
        self._life = life
        self._count = 0

    def fresh(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._life}-{self._count}"


def sqlite_store(path: Path, *, read_only: bool = False, life: str = "life") -> SqlStore:
    clock = SystemClock()
    return SqlStore.sqlite(path, clock, ThreadBlocking(clock), CountedIds(life), read_only=read_only)


def postgres_store(
    url: PostgresUrl, *, directory: Path | None = None, read_only: bool = False, life: str = "life"
) -> SqlStore:
    clock = SystemClock()
    blocking = ThreadBlocking(clock)
    return SqlStore.postgres(url, clock, blocking, CountedIds(life), directory=directory, read_only=read_only)


def terms(quantity: str = "2", side: Side = Side.BUY, symbol: Symbol = SYMBOL) -> Terms:
    return Terms(symbol=symbol, side=side, quantity=Decimal(quantity), type=OrderType.MARKET)


def order(name: str = "a", *, created: int = AT, **changes: Any) -> Order:
    key = DecisionKey(f"{SESSION}/{name}/entry/0")
    made = Order(
        client_id=client_order_id("salt", key),
        key=key,
        session=SESSION,
        account=ACCOUNT,
        role=Role.ENTRY,
        terms=terms(),
        state=OrderState.SUBMITTING,
        created=created,
        updated=created,
        epoch=1,
    )
    return msgspec.structs.replace(made, **changes)


def full_order(name: str = "full") -> Order:
    """An order in which no field has its default."""
    wanted = Terms(
        symbol=SYMBOL,
        side=Side.SELL,
        quantity=Decimal("3.5"),
        type=OrderType.STOP_LIMIT,
        limit=Decimal("4999.25"),
        stop=Decimal("5000.50"),
        tif=TimeInForce.GTC,
    )
    return order(
        name,
        terms=msgspec.structs.replace(wanted, quantity=Decimal("7")),
        state=OrderState.IN_DOUBT_REPLACE,
        deadline=AT + 60_000,
        sent=AT + 5,
        broker_id=BrokerOrderId("B-1"),
        filled=Decimal("1.25"),
        average_price=Decimal("5000.1250"),
        reported=Decimal("2.5"),
        fees=Decimal("4.20"),
        parent=ClientOrderId("parent"),
        linked=True,
        wanted=wanted,
        replaces=ClientOrderId("before"),
        replaced_by=ClientOrderId("after"),
        cancel_wanted=True,
        protect_stop=Decimal("4990"),
        target=Decimal("5100"),
        doubt=Doubt(since=AT, sent=AT, tries=2, negatives=1, next_query=AT + 9, last_evidence="none"),
        flags=frozenset({Flag.MISSED, Flag.FORCED}),
        reason="because",
        revision=7,
    )


def submit(name: str = "a", *, epoch: int = 1, **changes: Any) -> SubmitIntent:
    made = order(name, epoch=epoch, **changes)
    return SubmitIntent(key=made.key, order=made, at=AT, epoch=epoch)


def cancel(of: Order, *, at: int = AT + 50) -> CancelIntent:
    key = DecisionKey(f"{of.key}/cancel")
    return CancelIntent(key=key, account=ACCOUNT, session=SESSION, client_id=of.client_id, at=at, epoch=1)


def replace(of: Order, quantity: str, *, at: int = AT + 50) -> ReplaceIntent:
    return ReplaceIntent(
        key=DecisionKey(f"{of.key}/replace"),
        account=ACCOUNT,
        session=SESSION,
        client_id=of.client_id,
        terms=terms(quantity),
        at=at,
        epoch=1,
    )


def fill(key: str = "x1", *, of: Order | None = None, **changes: Any) -> Fill:
    made = Fill(
        key=key,
        account=ACCOUNT,
        session=SESSION,
        symbol=SYMBOL,
        client_id=of.client_id if of else None,
        broker_id=BrokerOrderId(of.broker_id if of and of.broker_id else f"B-{key}"),
        side=Side.BUY,
        quantity=Decimal(1),
        price=Decimal(5000),
        at=AT,
        fee=Decimal("2.10"),
        upto=Decimal(1),
    )
    return msgspec.structs.replace(made, **changes)


def booked(made: Fill, position: str = "1", changed: Order | None = None) -> FillBooked:
    size = Decimal(position)
    return FillBooked(fill=made, order=changed, position=Position(size, made.price if size else None), at=made.at + 1)


def disagreement(name: str = "d1", **changes: Any) -> Disagreement:
    made = Disagreement(
        id=name,
        account=ACCOUNT,
        session=SESSION,
        symbol=SYMBOL,
        kind=DisagreementKind.POSITION,
        state=DisagreementState.CONFIRMED,
        memory="2",
        database="2",
        broker="1",
        read=(AT, AT + 1, AT + 2),
        first_seen=AT,
        updated=AT + 2,
        blocks_entries=True,
        position_effect=Decimal("-1"),
    )
    return msgspec.structs.replace(made, **changes)


def override(name: str = "c1", step: int = 0) -> OverrideRecorded:
    return OverrideRecorded(
        id=CommandId(name), step=step, what="pause", operator="ann", origin="console", at=AT, session=SESSION
    )


def latch(*, held: bool = True, at: int = AT, session: SessionId | None = SESSION) -> LatchSet:
    return LatchSet(
        session=session, kind=LatchKind.DAILY_LOSS, held=held, reason="r", at=at, by="ann", until=date(2025, 1, 2)
    )


def balance(equity: str, at: int = AT) -> BalanceChanged:
    return BalanceChanged(account=ACCOUNT, balance=Balance(equity=Decimal(equity), cash=Decimal(1)), at=at)


def one_of_each() -> list[Record]:
    """Every kind of record once."""
    made = full_order()
    return [
        SessionRegistered(
            session=SESSION, account=ACCOUNT, symbol=SYMBOL, strategy="ema_cross", timeframe="1m", settings="{}", at=AT
        ),
        OrderChanged(order=made, event="accepted", at=AT),
        booked(fill(of=made), changed=msgspec.structs.replace(made, revision=8, filled=Decimal("2.25"))),
        DecisionMade(
            session=SESSION, candle=AT, key=made.key, kind="enter", order=made.client_id, reason="cross", at=AT
        ),
        CandleEvaluated(session=SESSION, candle=AT, at=AT + 60_000),
        ReplacedAfterDecision(session=SESSION, candle=AT, revision=1, was="5000", now="5001", at=AT),
        PositionRecorded(
            account=ACCOUNT,
            symbol=SYMBOL,
            session=SESSION,
            position=Position(Decimal(1), Decimal(5000)),
            cause="adopted",
            at=AT,
        ),
        balance("100000"),
        DisagreementRecorded(disagreement=disagreement()),
        override(),
        latch(),
        LimitsChanged(name="block", percent=Decimal("8.5"), at=AT, by="ann", reason="calm"),
    ]


class Moody:
    """A StoreConnection in front of a real one that fails when told to.

    `fault` is asked with the statements before they run (raise to fail before anything is written);
    `lose_answers` lets a transaction commit and then says that nobody knows.
    """

    def __init__(self, real: StoreConnection) -> None:
        self.real = real
        self.fault: Exception | None = None
        self.poison: str | None = None
        self.poison_error: Exception = RuntimeError("poison")
        self.lose_answers = False
        self.lose_requests = False
        self.sizes: list[int] = []
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def transact(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[int]:
        from engine.errors import CommitUnknown

        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        if self.poison is not None and any(self.poison in values for _, values in statements):
            raise self.poison_error
        if self.lose_requests:
            raise CommitUnknown("the answer was lost")
        counts = await self.real.transact(statements)
        self.sizes.append(len(statements))
        if self.lose_answers:
            raise CommitUnknown("the answer was lost")
        return counts

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return await self.real.query(sql, parameters)

    async def close(self) -> None:
        await self.real.close()


class MoodyDatabase:
    """Database whose writing connection is Moody."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.writer: Moody

    async def open(self) -> Any:
        opened = await self._real.open()
        self.writer = Moody(opened.writer)
        return msgspec.structs.replace(opened, writer=self.writer)

    async def close(self) -> None:
        await self._real.close()

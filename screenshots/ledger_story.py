"""Orders, fills, disagreements, heat and alerts of the story."""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec

from engine.domain.broker import Balance, LinkState
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.fills import Fill
from engine.domain.ids import BrokerOrderId, ClientOrderId, DecisionKey, SessionId
from engine.domain.orders import Doubt, Flag, Order, OrderState, OrderType, Role, Side, Terms, TimeInForce
from engine.domain.risk import (
    CompleteHeat,
    Contribution,
    GroupLimits,
    HeatLimits,
    Reservation,
    Stance,
)
from engine.snapshot import (
    AccountView,
    Alert,
    ForeignOrder,
    HeatView,
    SessionView,
    Severity,
    StoppedEntry,
)
from screenshots.market_story import ACCOUNT, BTCUSD, ES, EURUSD, FAULTS, MINUTE, NOW, NQ, D


def order(
    id: str,
    view: SessionView,
    role: Role,
    side: Side,
    quantity: str,
    kind: OrderType,
    state: OrderState,
    *,
    minutes: float,
    limit: Decimal | None = None,
    stop: Decimal | None = None,
) -> Order:
    """An order of a session, `minutes` old."""
    created = NOW - round(minutes * MINUTE)
    return Order(
        client_id=ClientOrderId(id),
        key=DecisionKey(f"{view.id}/{created}/{role}/1"),
        session=view.id,
        account=view.account,
        role=role,
        terms=Terms(
            symbol=view.instrument.symbol,
            side=side,
            quantity=D(quantity),
            type=kind,
            limit=limit,
            stop=stop,
            tif=TimeInForce.GTC if role.is_protective else TimeInForce.DAY,
        ),
        state=state,
        created=created,
        updated=created + 240,
        sent=created + 12,
        broker_id=BrokerOrderId(f"P-{1000 + round(minutes * 10)}"),
    )


def orders(views: dict[str, SessionView]) -> tuple[Order, ...]:
    """One in doubt, the guards, and a resting entry."""
    euro, btc, index = views["eurusd-ema"], views["btc-breakout"], views["es-range"]
    doubtful = order(
        "sx4k1p9w7c2m5v8b3n6q0t",
        btc,
        Role.ENTRY,
        Side.BUY,
        "0.25",
        OrderType.STOP,
        OrderState.IN_DOUBT_SUBMIT,
        minutes=0.3,
        stop=btc.candles[-1].high + D(6),
    )
    return (
        order(
            "sx0a1b2c3d4e5f6g7h8j9k",
            euro,
            Role.STOP,
            Side.SELL,
            "0.6",
            OrderType.STOP,
            OrderState.WORKING,
            minutes=16,
            stop=euro.stop_price,
        ),
        order(
            "sx1a1b2c3d4e5f6g7h8j9k",
            euro,
            Role.TARGET,
            Side.SELL,
            "0.6",
            OrderType.LIMIT,
            OrderState.WORKING,
            minutes=16.1,
            limit=euro.target_price,
        ),
        msgspec.structs.replace(
            doubtful,
            broker_id=None,
            protect_stop=btc.candles[-1].low - D(30),
            doubt=Doubt(
                since=NOW - 13_000,
                sent=NOW - 18_000,
                tries=3,
                negatives=2,
                next_query=NOW + 4_000,
                last_evidence="open orders read 13:52:05: complete, without it; executions: none",
            ),
        ),
        order(
            "sx2a1b2c3d4e5f6g7h8j9k",
            index,
            Role.STOP,
            Side.BUY,
            "1",
            OrderType.STOP,
            OrderState.WORKING,
            minutes=30,
            stop=index.stop_price,
        ),
        msgspec.structs.replace(
            order(
                "sx3a1b2c3d4e5f6g7h8j9k",
                euro,
                Role.ENTRY,
                Side.BUY,
                "0.4",
                OrderType.LIMIT,
                OrderState.PARTIALLY_FILLED,
                minutes=4,
                limit=EURUSD.nearest(euro.candles[-1].low),
            ),
            filled=D("0.1"),
            reported=D("0.1"),
            average_price=EURUSD.nearest(euro.candles[-1].low),
        ),
    )


def recent(views: dict[str, SessionView]) -> tuple[Order, ...]:
    """What has ended lately, one of each kind."""
    euro, btc, index = views["eurusd-ema"], views["btc-breakout"], views["es-range"]
    filled = order(
        "sx5a1b2c3d4e5f6g7h8j9k", euro, Role.ENTRY, Side.BUY, "0.6", OrderType.MARKET, OrderState.FILLED, minutes=16.2
    )
    denied = order(
        "sx6a1b2c3d4e5f6g7h8j9k",
        btc,
        Role.ENTRY,
        Side.BUY,
        "0.5",
        OrderType.STOP,
        OrderState.DENIED,
        minutes=9,
        stop=btc.candles[-9].high,
    )
    expired = order(
        "sx7a1b2c3d4e5f6g7h8j9k",
        index,
        Role.ENTRY,
        Side.SELL,
        "1",
        OrderType.LIMIT,
        OrderState.CANCELLED,
        minutes=41,
        limit=index.candles[-41].high,
    )
    return (
        msgspec.structs.replace(
            filled, filled=D("0.6"), reported=D("0.6"), average_price=euro.position.average_price, fees=D("1.80")
        ),
        msgspec.structs.replace(
            denied,
            broker_id=None,
            sent=None,
            reason="heat would be 8.3 %, block is 8.0 %",
            flags=frozenset({Flag.MISSED}),
        ),
        msgspec.structs.replace(expired, reason="cancelled with the other leg"),
    )


def fills(views: dict[str, SessionView]) -> tuple[Fill, ...]:
    """The executions behind the positions, oldest first."""
    euro, index = views["eurusd-ema"], views["es-range"]
    assert euro.position.average_price is not None
    assert index.position.average_price is not None
    rows = (
        ("X-101", index, Side.SELL, "2", index.position.average_price, 30.0, "4.24"),
        ("X-102", euro, Side.BUY, "0.4", euro.position.average_price, 16.1, "1.20"),
        ("X-103", euro, Side.BUY, "0.2", euro.position.average_price, 16.0, "0.60"),
        ("X-104", euro, Side.BUY, "0.1", EURUSD.nearest(euro.candles[-1].low), 3.6, "0.30"),
    )
    return tuple(
        Fill(
            key=key,
            account=ACCOUNT,
            session=view.id,
            symbol=view.instrument.symbol,
            client_id=None,
            broker_id=BrokerOrderId("P-1161"),
            side=side,
            quantity=D(quantity),
            price=price,
            at=NOW - round(minutes * MINUTE),
            fee=D(fee),
        )
        for key, view, side, quantity, price, minutes, fee in rows
    )


def disagreements() -> tuple[Disagreement, ...]:
    """One that waits for a person, one foreign order, one that explained itself."""
    return (
        Disagreement(
            id="position/paper-1/ESH0/1",
            account=ACCOUNT,
            session=SessionId("es-range"),
            symbol=ES.symbol,
            kind=DisagreementKind.POSITION,
            state=DisagreementState.ADOPTED,
            memory="SHORT 2",
            database="SHORT 2",
            broker="SHORT 1",
            read=(NOW - 131_000, NOW - 130_400, NOW - 128_000),
            first_seen=NOW - 133_000,
            updated=NOW - 128_000,
            query="positions, read twice 2.1 s apart, same difference",
            done="adopted the broker's SHORT 1; stop resized to 1; no execution explains it",
            position_effect=D(1),
            pnl_effect=D("37.50"),
            heat_effect=D("-1300"),
            blocks_entries=True,
        ),
        Disagreement(
            id="unknown-order/paper-1/F-77",
            account=ACCOUNT,
            session=None,
            symbol=BTCUSD.symbol,
            kind=DisagreementKind.UNKNOWN_ORDER,
            state=DisagreementState.NEEDS_YOU,
            memory="no such order",
            database="no such order",
            broker="SELL 0.5 limit 7260.00",
            read=(NOW - 42_000, NOW - 42_000, NOW - 41_000),
            first_seen=NOW - 44_000,
            updated=NOW - 41_000,
            query="open orders",
            done="left alone: adopt, ignore or cancel",
            order=BrokerOrderId("F-77"),
            blocks_entries=True,
        ),
        Disagreement(
            id="missing-fill/paper-1/X-104",
            account=ACCOUNT,
            session=SessionId("eurusd-ema"),
            symbol=EURUSD.symbol,
            kind=DisagreementKind.MISSING_FILL,
            state=DisagreementState.EXPLAINED,
            memory="filled 0",
            database="filled 0",
            broker="filled 0.1",
            read=(NOW - 215_000, NOW - 215_000, NOW - 214_000),
            first_seen=NOW - 216_000,
            updated=NOW - 214_000,
            query="executions of P-1040",
            done="booked X-104 from the broker's executions",
            position_effect=D("0.1"),
            acknowledged_by="operator",
            acknowledged_at=NOW - 90_000,
            note="dropped event, seen",
        ),
    )


def stopped(view: SessionView) -> tuple[StoppedEntry, ...]:
    """Entries that the block held back, of one session."""
    rows = {
        "eurusd-ema": ((34_000, Side.BUY, "0.4", "8.61"),),
        "btc-breakout": ((80_000, Side.BUY, "0.25", "9.10"), (20_000, Side.BUY, "0.25", "9.12")),
    }
    return tuple(
        StoppedEntry(
            at=NOW - ago,
            session=view.id,
            order=ClientOrderId(f"sx9{ago}k1p9w7c2m5v8b3n6q"),
            side=side,
            quantity=D(quantity),
            by_hand=False,
            reason=f"heat 8.42 % would become {after} %, entries are blocked from 8.00 %",
        )
        for ago, side, quantity, after in rows.get(view.id, ())
    )


def account() -> AccountView:
    """The paper account, up, with one order that is not ours."""
    return AccountView(
        id=ACCOUNT,
        broker="paper",
        live=False,
        link=LinkState.UP,
        link_since=NOW - 80 * MINUTE,
        link_reason="",
        balance=Balance(equity=D("99979.00"), cash=D("100125.10"), margin_used=D("8200")),
        balance_at=NOW - 2_400,
        positions_read=NOW - 12_300,
        positions_next=NOW + 17_700,
        orders_read=NOW - 71_000,
        orders_next=NOW + 229_000,
        failed_queries=0,
        locked_out_until=None,
        foreign=(
            ForeignOrder(
                account=ACCOUNT,
                broker_id=BrokerOrderId("F-77"),
                filled=D(0),
                seen=NOW - 44_000,
                terms=Terms(
                    symbol=BTCUSD.symbol, side=Side.SELL, quantity=D("0.5"), type=OrderType.LIMIT, limit=D("7260.00")
                ),
            ),
        ),
        faults=FAULTS,
    )


def heat(*, percent: str, stance: Stance, reason: str = "", since: int | None = None) -> HeatView:
    """Contributions that add up to about `percent`."""
    rows = (
        ("eurusd-ema", EURUSD, "821.40", "0", False),
        ("btc-breakout", BTCUSD, "0", "1899.00", True),
        ("es-range", ES, "2600.00", "0", False),
        ("nq-ema", NQ, "0", "0", False),
    )
    made = tuple(
        Contribution(
            session=SessionId(name),
            symbol=instrument.symbol,
            group=instrument.group,
            at=NOW - 1_800,
            position_risk=D(position),
            pending=D(pending),
            worst_case=worst,
        )
        for name, instrument, position, pending, worst in rows
    )
    equity = D("99979.00")
    return HeatView(
        heat=CompleteHeat(percent=D(percent), money=equity * D(percent) / 100, equity=equity),
        stance=stance,
        reason=reason,
        since=since,
        stopped_entries=3 if stance is Stance.BLOCK else 0,
        resting_entries=1,
        limits=HeatLimits(),
        groups=(GroupLimits(name="us-index", block=D(4)),),
        group_percent=(("us-index", D("2.60")),),
        contributions=made,
        reservations=(
            Reservation(
                ClientOrderId("sx4k1p9w7c2m5v8b3n6q0t"), SessionId("btc-breakout"), None, D("1899.00"), NOW - 18_000
            ),
        ),
        unowned=(
            Contribution(
                session=SessionId("paper-1"),
                symbol=BTCUSD.symbol,
                group=None,
                at=NOW - 41_000,
                unowned=D("310.00"),
                worst_case=True,
            ),
        ),
        missing=(),
        equity=equity,
        equity_at=NOW - 2_400,
        currency="USD",
        history=tuple(D(str(round(3 + 2.4 * abs(math.sin(n / 17)) + n / 60, 2))) for n in range(120)),
    )


ALERTS = (
    Alert(
        id="doubt/sx4k",
        severity=Severity.CRITICAL,
        since=NOW - 13_000,
        session=SessionId("btc-breakout"),
        lasting=True,
        text="btc-breakout: entry in doubt, BUY 0.25 stop; 3 tries without an answer",
    ),
    Alert(
        id="adopted/es",
        severity=Severity.WARNING,
        since=NOW - 128_000,
        session=SessionId("es-range"),
        lasting=True,
        text="es-range: the broker closed 1 of 2, no execution explains it",
    ),
    Alert(
        id="foreign/F-77",
        severity=Severity.WARNING,
        since=NOW - 44_000,
        text="paper-1: an order that is not ours, SELL 0.5 BTCUSD",
    ),
)

"""The verdict: what the exchange did against what the audit trail says. Pure; knows nothing of engine or brokers."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

from tests.kill.facts import Exchange, Placed, Request
from tests.kill.trail import FillRow, Key, Trail

ZERO = Decimal(0)
NEVER_THERE = frozenset({"abandoned", "denied", "lost"})
UNSETTLED = frozenset(
    {
        "submitting",
        "in doubt: submit",
        "in doubt: cancel",
        "in doubt: replace",
        "pending cancel",
        "pending replace",
    }
)
LIVE = frozenset({"working", "partially filled"}) | UNSETTLED - {"submitting", "in doubt: submit"}
SETTLED = {"filled": "filled", "cancelled": "cancelled", "rejected": "rejected", "expired": "expired"}
# session/origin/leg/attempt, and behind it the protective leg that went with an entry
ATTEMPT = re.compile(r"/\d+(?=(?:/\w+)?$)()")


@dataclass
class Verdict:
    """Each finding as a sentence."""

    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicates or self.disagreements)


def examine(
    exchange: Exchange,
    requests: Collection[Request],
    trail: Trail,
    seen: Collection[Key],
    point_values: Mapping[str, Decimal],
) -> Verdict:
    """Everything that is missing, doubled or different."""
    verdict = Verdict()
    verdict.acknowledged = {"requests": len(requests), "executions": len(exchange.executions), "rows": len(seen)}
    verdict.lost += [f"a row that was committed is gone: {key}" for key in seen if key not in trail.keys]
    _requests(verdict, exchange, requests, trail)
    _orders(verdict, exchange, trail)
    _attempts(verdict, exchange, trail)
    _fills(verdict, exchange, trail)
    _positions(verdict, exchange, trail)
    _cover(verdict, exchange)
    _trades(verdict, trail, point_values)
    for kind, state, account, symbol, values, is_open in trail.disagreements:
        if is_open:
            verdict.disagreements.append(f"open disagreement: {kind} {symbol} of {account} is {state}: {values}")
        elif kind == "position" and state == "adopted":
            verdict.disagreements.append(
                f"a fill of ours was taken for somebody else's: {symbol} of {account}: {values}"
            )
    if trail.jobs:
        verdict.disagreements.append(f"{trail.jobs} jobs are not done")
    return verdict


def _requests(verdict: Verdict, exchange: Exchange, requests: Iterable[Request], trail: Trail) -> None:
    """Nothing leaves before it is durable, and nothing leaves twice."""
    durable = Counter(trail.intents)
    sent: Counter[tuple[str, str | None]] = Counter()
    for request in requests:
        match request.kind:
            case "submit":
                sent["submit", request.client_ids[0]] += 1
                verdict.lost += [
                    f"the exchange was sent {named} and no order row has it"
                    for named in request.client_ids
                    if named not in trail.orders
                ]
            case kind:
                order = exchange.orders.get(request.broker_id or "")
                if order is None:
                    verdict.lost.append(f"a {kind} was sent for {request.broker_id}, which never was")
                    continue
                sent[kind, order.client_id] += 1
    for (kind, client_id), count in sent.items():
        known = durable[kind, client_id]
        if known < count and not (kind == "submit" and known):
            verdict.lost.append(f"{count} times {kind} was sent for {client_id}, {known} intents are durable")
        if kind == "submit" and count > 1:
            verdict.duplicates.append(f"{client_id} was sent {count} times")


def _orders(verdict: Verdict, exchange: Exchange, trail: Trail) -> None:
    """The same orders, with the same terms and ends."""
    by_client: dict[str, list[Placed]] = defaultdict(list)
    for order in exchange.orders.values():
        if order.client_id is None:
            verdict.disagreements.append(f"the exchange has {order.broker_id}, which nobody names")
        else:
            by_client[order.client_id].append(order)
    for client_id, placed in by_client.items():
        if len(placed) > 1:
            verdict.duplicates.append(f"{client_id} is at the exchange as {[order.broker_id for order in placed]}")
        ours, theirs = trail.orders.get(client_id), placed[-1]
        if ours is None:
            continue  # told under requests
        if ours.state in NEVER_THERE or (ours.state == "rejected") != (theirs.status == "rejected"):
            verdict.lost.append(f"{client_id} is {theirs.status} at the exchange and {ours.state} in the database")
            continue
        if ours.state in UNSETTLED:
            verdict.disagreements.append(f"{client_id} is still {ours.state}; the exchange says {theirs.status}")
        elif theirs.is_open != (ours.state in LIVE) or SETTLED.get(theirs.status, ours.state) != ours.state:
            verdict.disagreements.append(f"{client_id}: {theirs.status} at the exchange, {ours.state} in the database")
        pairs = [
            ("broker id", theirs.broker_id, ours.broker_id),
            ("filled", theirs.filled, ours.filled),
            ("average price", theirs.average_price, ours.average_price),
        ]
        if theirs.is_open:
            pairs += [
                ("account", theirs.account, ours.account),
                ("symbol", theirs.symbol, ours.symbol),
                ("side", theirs.side, ours.side),
                ("type", theirs.type, ours.type),
                ("limit", theirs.limit, ours.limit),
                ("stop", theirs.stop, ours.stop),
            ]
            if theirs.status != "held":  # a leg gets its size with its entry's first fill
                pairs.append(("quantity", theirs.quantity, ours.quantity))
        verdict.disagreements += [
            f"{client_id}: {name} is {there} at the exchange, {here} in the database"
            for name, there, here in pairs
            if there != here
        ]
    for client_id, row in trail.orders.items():
        if client_id in by_client:
            continue
        if row.state in LIVE:
            verdict.lost.append(f"{client_id} is {row.state} in the database; the exchange does not have it")
        elif row.state in UNSETTLED:
            verdict.disagreements.append(f"{client_id} is still {row.state}; the exchange never had it")


def _attempts(verdict: Verdict, exchange: Exchange, trail: Trail) -> None:
    """Per (session, candle or procedure, leg) at most one order at a time: the next attempt only after its end."""
    legs: dict[str, list[Placed]] = defaultdict(list)
    for order in exchange.orders.values():
        row = trail.orders.get(order.client_id or "")
        if row is not None and order.status != "rejected":
            legs[ATTEMPT.sub(r"\1", row.key)].append(order)
    for leg, orders in legs.items():
        orders.sort(key=lambda order: (order.submitted, order.broker_id))
        for earlier, later in pairwise(orders):
            if earlier.client_id != later.client_id and (earlier.is_open or earlier.updated > later.submitted):
                verdict.duplicates.append(f"{leg}: {earlier.broker_id} and {later.broker_id} were alive at once")


def _fills(verdict: Verdict, exchange: Exchange, trail: Trail) -> None:
    """Every execution is booked once, for what it was."""
    booked = {(fill.account, fill.key): fill for fill in trail.fills}
    executed: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for execution in exchange.executions.values():
        executed[execution.broker_id] += execution.quantity
    kept: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for fill in trail.fills:
        kept[fill.broker_id] += fill.quantity
        if fill.broker_id not in exchange.orders:
            verdict.duplicates.append(f"fill {fill.key} is booked for {fill.broker_id}, which never was")
    for broker_id, quantity in executed.items():
        if kept[broker_id] < quantity:
            verdict.lost.append(f"{broker_id}: {quantity} executed, {kept[broker_id]} booked")
        elif kept[broker_id] > quantity:
            verdict.duplicates.append(f"{broker_id}: {quantity} executed, {kept[broker_id]} booked")
    for execution in exchange.executions.values():
        found = booked.get((execution.account, execution.id))
        if found is None:
            verdict.lost.append(f"execution {execution.id} of {execution.broker_id} is not booked under its name")
        elif (found.quantity, found.price, found.side) != (execution.quantity, execution.price, execution.side):
            verdict.disagreements.append(f"execution {execution.id}: {execution} is booked as {found}")


def _positions(verdict: Verdict, exchange: Exchange, trail: Trail) -> None:
    """The same position at the same average price."""
    flat: tuple[Decimal, Decimal | None] = (ZERO, None)
    for where in sorted(exchange.holdings.keys() | trail.positions.keys()):
        there, here = exchange.holdings.get(where, flat), trail.positions.get(where, flat)
        if there[0] != here[0] or (there[0] and there[1] != here[1]):
            verdict.disagreements.append(
                f"{where}: {there[0]} at {there[1]} at the exchange, {here[0]} at {here[1]} in the database"
            )


def _cover(verdict: Verdict, exchange: Exchange) -> None:
    """Working stops close at least what is held."""
    for (account, symbol), (held, _) in exchange.holdings.items():
        closing = "sell" if held > 0 else "buy"
        stops = sum(
            (
                order.quantity - order.filled
                for order in exchange.orders.values()
                if (order.account, order.symbol, order.side) == (account, symbol, closing)
                and order.type in ("stop", "stop-limit")
                and order.status in ("working", "partially filled")
            ),
            ZERO,
        )
        if stops < abs(held):
            verdict.disagreements.append(f"{symbol} of {account}: {held} is held, stops cover {stops}")


def _trades(verdict: Verdict, trail: Trail, point_values: Mapping[str, Decimal]) -> None:
    """Round trips: the closed quantity, and gross profit by first in, first out over the booked fills."""
    contracts: dict[tuple[str, str], list[FillRow]] = defaultdict(list)
    for fill in trail.fills:
        contracts[fill.account, fill.symbol].append(fill)
    for where in sorted(contracts.keys() | trail.trades.keys()):
        fills = sorted(contracts[where], key=lambda fill: (fill.at, fill.broker_id, fill.since, fill.key))
        expected = _closed(fills, point_values[where[1]])
        if expected != trail.trades.get(where, (ZERO, ZERO)):
            verdict.duplicates.append(f"{where}: round trips say {trail.trades.get(where)}, the fills {expected}")


def _closed(fills: Iterable[FillRow], point_value: Decimal) -> tuple[Decimal, Decimal]:
    lots: deque[list[Decimal]] = deque()
    closed = profit = ZERO
    for fill in fills:
        sign = 1 if fill.side == "buy" else -1
        rest = fill.quantity
        while rest and lots and lots[0][0] * sign < 0:
            size = min(rest, abs(lots[0][0]))
            profit += (fill.price - lots[0][1]) * -sign * size
            closed += size
            rest -= size
            lots[0][0] += sign * size
            if not lots[0][0]:
                lots.popleft()
        if rest:
            lots.append([sign * rest, fill.price])
    return closed, profit * point_value

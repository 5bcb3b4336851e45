"""What the exchange knows, read from its two files with nothing but a JSON parser: its book, and what reached it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

FINAL = frozenset({"filled", "cancelled", "rejected", "expired"})


@dataclass(frozen=True)
class Placed:
    """An order as the exchange has it."""

    broker_id: str
    client_id: str | None
    account: str
    symbol: str
    side: str
    type: str
    quantity: Decimal
    limit: Decimal | None
    stop: Decimal | None
    status: str
    filled: Decimal
    average_price: Decimal | None
    submitted: int
    updated: int

    @property
    def is_open(self) -> bool:
        return self.status not in FINAL


@dataclass(frozen=True)
class Execution:
    """One execution in its newest revision."""

    id: str
    account: str
    broker_id: str
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    at: int


@dataclass
class Exchange:
    """The book as it grew: what the file later forgets stays here, so `read` it after every round."""

    orders: dict[str, Placed] = field(default_factory=dict)
    executions: dict[tuple[str, str], Execution] = field(default_factory=dict)
    holdings: dict[tuple[str, str], tuple[Decimal, Decimal | None]] = field(default_factory=dict)

    def read(self, book: Path) -> None:
        """Fold the file in; a last line that is still being written is left for the next time."""
        lines = book.read_bytes().split(b"\n")
        for line in lines[1:-1]:
            change = json.loads(line)
            if change.get("whole"):
                self.holdings.clear()
            for order in change.get("orders", ()):
                placed = _placed(order["account"], order["record"])
                self.orders[placed.broker_id] = placed
            for kept in change.get("fills", ()):
                execution = _execution(kept["account"], kept["fill"])
                self.executions[execution.account, execution.id] = execution
            for holding in change.get("holdings", ()):
                position = holding["position"]
                average = position["average_price"]
                self.holdings[holding["account"], holding["symbol"]] = (
                    Decimal(position["quantity"]),
                    None if average is None else Decimal(average),
                )


def _number(raw: str | None) -> Decimal | None:
    return None if raw is None else Decimal(raw)


def _placed(account: str, record: dict[str, Any]) -> Placed:
    terms = record["terms"]
    return Placed(
        broker_id=record["broker_id"],
        client_id=record["client_id"],
        account=account,
        symbol=terms["symbol"],
        side=terms["side"],
        type=terms["type"],
        quantity=Decimal(terms["quantity"]),
        limit=_number(terms["limit"]),
        stop=_number(terms["stop"]),
        status=record["status"],
        filled=Decimal(record["filled"]),
        average_price=_number(record["average_price"]),
        submitted=record["submitted"],
        updated=record["updated"],
    )


def _execution(account: str, fill: dict[str, Any]) -> Execution:
    return Execution(
        id=fill["execution_id"],
        account=account,
        broker_id=fill["broker_id"],
        symbol=fill["symbol"],
        side=fill["side"],
        quantity=Decimal(fill["quantity"]),
        price=Decimal(fill["price"]),
        at=fill["at"],
    )


@dataclass(frozen=True)
class Request:
    """A request that reached the exchange: `client_ids` are those of the order and its legs."""

    kind: str
    account: str
    at: int
    client_ids: tuple[str, ...] = ()
    broker_id: str | None = None


class RequestLog:
    """The exchange's file of requests, read on from where the last look ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.all: list[Request] = []

    def more(self) -> list[Request]:
        """What came since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data.rpartition(b"\n")[0]
        if not whole:
            return []
        self._read += len(whole) + 1
        fresh = [request_of(json.loads(line)) for line in whole.split(b"\n")]
        self.all += fresh
        return fresh


def request_of(line: dict[str, Any]) -> Request:
    """One line of the file."""
    call, account, at = line["call"], line["account"], line["at"]
    match call["type"]:
        case "Submit":
            request = call["request"]
            ids = (request["client_id"], *(leg["client_id"] for leg in request["legs"]))
            return Request("submit", account, at, ids)
        case "Replace":
            return Request("replace", account, at, (call["client_id"],), call["broker_id"])
        case "Cancel":
            return Request("cancel", account, at, (), call["broker_id"])
        case other:
            raise ValueError(f"a request of an unknown kind: {other}")

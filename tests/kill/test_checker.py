"""The verdict of the kill test over a small honest world, and over the same world doctored in every way it must see."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.kill.check import Verdict, examine
from tests.kill.facts import Exchange, Execution, Placed, Request, RequestLog
from tests.kill.trail import FillRow, OrderRow, Trail

D = Decimal


class World:
    """An entry of 3 with two legs, 2 of it filled and bought at 100; an older round trip; a replace and a cancel."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.trail = Trail()
        self.requests: list[Request] = []
        self.old = self.order("old", "es/1000/entry/1", "filled", quantity=1, filled=1, average="90")
        self.out = self.order("out", "es/2000/exit/1", "filled", side="sell", quantity=1, filled=1, average="95")
        self.entry = self.order("in", "es/3000/entry/1", "partially filled", quantity=3, filled=2, average="100")
        self.stop = self.order("st", "es/3000/entry/1/stop", "working", side="sell", quantity=2, type="stop", stop="90")
        self.dead = self.order("no", "es/4000/entry/1", "cancelled", quantity=1)
        self.fill("X1", self.old, 1, "90", 1)
        self.fill("X2", self.out, 1, "95", 2)
        self.fill("X3", self.entry, 2, "100", 3)
        self.exchange.holdings["a", "ES"] = self.trail.positions["a", "ES"] = (D(2), D(100))
        self.trail.trades["a", "ES"] = (D(1), D(250))
        for placed in (self.old, self.out, self.dead):
            self.sent(placed)
        self.requests.append(Request("submit", "a", 3, ("in", "st")))
        self.trail.intents.append(("submit", "in"))
        for kind, name, broker_id in (("replace", "in", self.entry), ("cancel", "no", self.dead)):
            self.requests.append(Request(kind, "a", 5, (name,), broker_id.broker_id))
            self.trail.intents.append((kind, name))
        self.seen = {(0, "es/1000/entry/1"), (1, "old", 3)}
        self.trail.keys = frozenset({*self.seen, (2, "a", "X1", 0)})

    def order(
        self,
        client_id: str,
        key: str,
        status: str,
        *,
        side: str = "buy",
        quantity: int = 1,
        filled: int = 0,
        average: str | None = None,
        type: str = "market",
        stop: str | None = None,
    ) -> Placed:
        number = len(self.exchange.orders) + 1
        price, at = None if average is None else D(average), None if stop is None else D(stop)
        placed = Placed(
            f"P{number}", client_id, "a", "ES", side, type, D(quantity), None, at, status, D(filled), price,
            number * 10, number * 10 + 5,
        )  # fmt: skip
        row = OrderRow(
            client_id, key, "a", "es", "entry", "ES", side, D(quantity), type, None, at, status, placed.broker_id,
            D(filled), price,
        )  # fmt: skip
        self.exchange.orders[placed.broker_id] = placed
        self.trail.orders[client_id] = row
        return placed

    def fill(self, name: str, order: Placed, quantity: int, price: str, at: int) -> None:
        execution = Execution(name, "a", order.broker_id, "ES", order.side, D(quantity), D(price), at)
        self.exchange.executions["a", name] = execution
        self.trail.fills.append(
            FillRow("a", name, "ES", order.client_id, order.broker_id, order.side, D(quantity), D(price), at, D(0))
        )

    def sent(self, placed: Placed) -> None:
        assert placed.client_id is not None
        self.requests.append(Request("submit", "a", placed.submitted, (placed.client_id,)))
        self.trail.intents.append(("submit", placed.client_id))

    def row(self, client_id: str, **changes: object) -> None:
        self.trail.orders[client_id] = replace(self.trail.orders[client_id], **changes)  # type: ignore[arg-type]

    def placed(self, broker_id: str, **changes: object) -> None:
        self.exchange.orders[broker_id] = replace(
            self.exchange.orders[broker_id],
            **changes,  # type: ignore[arg-type]
        )

    def verdict(self) -> Verdict:
        return examine(self.exchange, self.requests, self.trail, self.seen, {"ES": D(50)})


def test_an_honest_world_has_no_findings() -> None:
    verdict = World().verdict()
    assert verdict == Verdict(acknowledged={"requests": 6, "executions": 3, "rows": 2})
    assert verdict.is_clean


def _gone(client_id: str) -> Callable[[World], object]:
    return lambda world: world.trail.orders.pop(client_id)


def _twice(world: World) -> None:
    world.exchange.orders["P9"] = replace(world.entry, broker_id="P9")


def _two_attempts(world: World) -> None:
    second = world.order("in2", "es/3000/entry/2", "working", quantity=1)
    world.sent(second)


def _one_after_the_other(world: World) -> None:
    world.sent(world.order("out2", "es/4000/entry/2", "cancelled"))


@pytest.mark.parametrize(
    ("doctor", "kind", "says"),
    [
        (_gone("in"), "lost", "no order row has it"),
        (_gone("st"), "lost", "no order row has it"),
        (lambda w: w.trail.intents.remove(("submit", "old")), "lost", "1 times submit was sent for old, 0 intents"),
        (lambda w: w.trail.intents.remove(("cancel", "no")), "lost", "cancel was sent for no, 0 intents"),
        (lambda w: w.trail.intents.remove(("replace", "in")), "lost", "replace was sent for in, 0 intents"),
        (lambda w: w.requests.append(w.requests[-1]), "lost", "2 times cancel was sent for no, 1 intents"),
        (lambda w: w.seen.add((2, "a", "X9", 0)), "lost", "a row that was committed is gone"),
        (lambda w: w.trail.fills.pop(0), "lost", "execution X1 of P1 is not booked"),
        (lambda w: w.row("in", state="lost"), "lost", "in is partially filled at the exchange and lost"),
        (lambda w: w.row("no", state="abandoned"), "lost", "no is cancelled at the exchange and abandoned"),
        (lambda w: w.row("st", state="rejected"), "lost", "st is working at the exchange and rejected"),
        (lambda w: w.exchange.orders.pop("P4"), "lost", "st is working in the database; the exchange does not"),
        (lambda w: w.requests.append(w.requests[0]), "duplicates", "old was sent 2 times"),
        (_twice, "duplicates", "in is at the exchange as ['P3', 'P9']"),
        (_two_attempts, "duplicates", "es/3000/entry: P3 and P6 were alive at once"),
        (
            lambda w: w.trail.fills.append(replace(w.trail.fills[0], key="X1 again")),
            "duplicates", "P1: 1 executed, 2 booked",
        ),
        (lambda w: w.trail.trades.update({("a", "ES"): (D(2), D(500))}), "duplicates", "round trips say"),
        (lambda w: w.trail.trades.clear(), "duplicates", "round trips say None"),
        (lambda w: w.trail.positions.update({("a", "ES"): (D(4), D(100))}), "disagreements", "4 at 100 in the data"),
        (lambda w: w.trail.positions.update({("a", "ES"): (D(2), D(99))}), "disagreements", "2 at 99 in the database"),
        (lambda w: w.trail.positions.clear(), "disagreements", "0 at None in the database"),
        (lambda w: w.row("st", stop=D(91)), "disagreements", "st: stop is 90 at the exchange, 91"),
        (lambda w: w.row("in", quantity=D(4)), "disagreements", "in: quantity is 3 at the exchange, 4"),
        (lambda w: w.row("in", filled=D(1)), "disagreements", "in: filled is 2 at the exchange, 1"),
        (lambda w: w.row("in", average_price=D(1)), "disagreements", "in: average price is 100 at the exchange, 1"),
        (lambda w: w.row("in", broker_id=None), "disagreements", "in: broker id is P3 at the exchange, None"),
        (lambda w: w.row("no", state="working"), "disagreements", "no: cancelled at the exchange, working"),
        (lambda w: w.row("in", state="in doubt: cancel"), "disagreements", "in is still in doubt: cancel"),
        (lambda w: w.placed("P4", quantity=D(1)), "disagreements", "2 is held, stops cover 1"),
        (lambda w: w.placed("P4", status="held"), "disagreements", "2 is held, stops cover 0"),
        (lambda w: w.placed("P5", client_id=None), "disagreements", "the exchange has P5, which nobody names"),
        (lambda w: setattr(w.trail, "jobs", 1), "disagreements", "1 jobs are not done"),
        (
            lambda w: w.trail.disagreements.append(("position", "adopted", "a", "ES", "1 | 1 | 2", 0)),
            "disagreements", "taken for somebody else's",
        ),
        (
            lambda w: w.trail.disagreements.append(("order gone", "needs you", "a", "ES", "", 1)),
            "disagreements", "open disagreement: order gone",
        ),
    ],
)  # fmt: skip
def test_what_was_doctored_is_found(doctor: Callable[[World], object], kind: str, says: str) -> None:
    world = World()
    doctor(world)
    findings: list[str] = getattr(world.verdict(), kind)
    assert any(says in finding for finding in findings), world.verdict()


def test_an_attempt_after_the_end_of_the_one_before_is_no_duplicate() -> None:
    world = World()
    _one_after_the_other(world)
    assert world.verdict().duplicates == []


def test_the_book_is_read_as_it_grows_and_what_it_forgets_is_kept(tmp_path: Path) -> None:
    def order(name: str, status: str) -> dict[str, object]:
        terms = {"symbol": "ES", "side": "buy", "quantity": "1", "type": "limit", "limit": "9", "stop": None}
        record = {
            "broker_id": name, "client_id": None, "terms": terms, "status": status, "filled": "0",
            "average_price": None, "submitted": 1, "updated": 2,
        }  # fmt: skip
        return {"account": "a", "record": record}

    book, exchange = tmp_path / "book", Exchange()
    holding = {"account": "a", "symbol": "ES", "position": {"quantity": "2", "average_price": "9"}}
    lines: list[object] = [{"format": "x"}, {"orders": [order("P1", "working"), order("P2", "working")]}]
    lines += [{"orders": [order("P1", "cancelled")], "holdings": [holding]}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    book.write_text(text + '{"orders": [{"acc')
    exchange.read(book)
    assert {name: placed.status for name, placed in exchange.orders.items()} == {"P1": "cancelled", "P2": "working"}
    assert exchange.holdings == {("a", "ES"): (D(2), D(9))}
    book.write_text("\n".join(json.dumps(line) for line in (lines[0], {"whole": True, "orders": []})) + "\n")
    exchange.read(book)
    assert set(exchange.orders) == {"P1", "P2"}
    assert exchange.holdings == {}


def test_requests_are_read_on_from_where_the_last_look_ended(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "requests")
    assert log.more() == []
    cancel = json.dumps({"at": 1, "account": "a", "call": {"type": "Cancel", "broker_id": "P1"}})
    legs = [{"client_id": "s"}]
    submit = json.dumps(
        {"at": 2, "account": "a", "call": {"type": "Submit", "request": {"client_id": "c", "legs": legs}}}
    )
    (tmp_path / "requests").write_text(f"{cancel}\n{submit[:10]}")
    assert log.more() == [Request("cancel", "a", 1, (), "P1")]
    (tmp_path / "requests").write_text(f"{cancel}\n{submit}\n")
    assert log.more() == [Request("submit", "a", 2, ("c", "s"))]
    assert len(log.all) == 2

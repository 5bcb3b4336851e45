"""The audit trail of the eventful afternoon, as the journal asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.domain.disagreements import Disagreement
from engine.domain.fills import Fill
from engine.domain.ids import AccountId, ClientOrderId, SessionId, Symbol
from engine.domain.orders import Order
from engine.domain.records import Trade
from engine.queries import (
    Answer,
    FillsAnswer,
    FillsPage,
    JobLine,
    JobsAnswer,
    JobsPage,
    JournalAnswer,
    JournalLine,
    JournalPage,
    OrderLife,
    OrderLifeAnswer,
    OrdersAnswer,
    OrdersPage,
    Query,
    SessionsAnswer,
    TradesAnswer,
    TradesPage,
)
from screenshots.market_story import MINUTE, NOW, D


def lines(orders: Sequence[Order], fills: Sequence[Fill], extra: int = 60) -> list[JournalLine]:
    """What happened, newest first: about the orders and fills that the screens show, and an hour before them."""
    told: list[tuple[int, str, str | None, str, str]] = []
    for order in orders:
        asks = f"{order.role} {order.terms.side} {order.terms.quantity} {order.terms.symbol} {order.terms.type}"
        decided = f"enter: the fast average crossed above the slow one on {order.terms.symbol}"
        told.append((order.created - 40, "decision", order.session, order.client_id, decided))
        told.append((order.created, "order", order.session, order.client_id, f"submitting: {asks}"))
        after = f"{order.state}: {asks}, filled {order.filled}" + (f" ({order.reason})" if order.reason else "")
        told.append((order.updated, "order", order.session, order.client_id, after))
    for fill in fills:
        text = f"{fill.side} {fill.quantity} {fill.symbol} at {fill.price}, fee {fill.fee}"
        told.append((fill.at, "fill", fill.session, fill.client_id or fill.broker_id, text))
    told += [
        (NOW - 9 * MINUTE, "override", "btc-breakout", "op-17", "pause by operator (desk): done news at 14:00"),
        (NOW - 6 * MINUTE, "override", "btc-breakout", "op-18", "resume by operator (desk): done the figures are out"),
        (NOW - 3 * MINUTE, "latch", None, "desk/kill", "kill released by operator: a test"),
        (NOW - 4 * MINUTE, "disagreement", "es-range", "d-1",
         "position ESH0: needs you; memory +3, database +3, broker +1; the margin desk may have sold 2"),
    ]  # fmt: skip
    for number in range(extra):
        at = NOW - 20 * MINUTE - number * 30_000
        told.append((at, "balance", None, "paper-1", f"equity {100_000 + number * 7} USD, cash 82000, margin 18000"))
    ordered = sorted(told, reverse=True)
    return [
        JournalLine(
            number=len(ordered) - index,
            at=at,
            kind=kind,
            session=SessionId(session) if session else None,
            subject=subject,
            text=text,
        )
        for index, (at, kind, session, subject, text) in enumerate(ordered)
    ]


def trades() -> tuple[Trade, ...]:
    """Two round trips, one won."""
    common: dict[str, Any] = {"account": AccountId("paper-1"), "sessions": (SessionId("eurusd-ema"),)}
    return tuple(
        Trade(
            symbol=Symbol("EURUSD"), number=number, quantity=D(size), opened=NOW - opened * MINUTE,
            closed=NOW - closed * MINUTE, entry_price=D(entry), exit_price=D(out), fees=D("4.20"), profit=D(profit),
            **common,
        )
        for number, size, opened, closed, entry, out, profit in (
            (2, "50000", 52, 31, "1.09120", "1.09214", "42.80"), (1, "-50000", 78, 60, "1.09180", "1.09202", "-15.20"),
        )
    )  # fmt: skip


DEAD = JobLine(
    id=7, kind="trades", subject='["paper-1","ESH0"]', state="dead", attempts=8, queued=NOW - 30 * MINUTE,
    age_ms=30 * MINUTE, due=0, error="LookupError: no contract terms for ESH0",
)  # fmt: skip


class Trail:
    """Answers the journal's questions from memory: every word must occur, newest first, page by page."""

    def __init__(self, orders: Sequence[Order], fills: Sequence[Fill], differ: Sequence[Disagreement]) -> None:
        self.orders = sorted(orders, key=lambda order: (-order.created, order.client_id))
        self.fills = sorted(fills, key=lambda fill: -fill.at)
        self.differ = differ
        self.lines = lines(orders, fills)

    def answer(self, query: Query) -> Answer:
        """A page."""
        match query:
            case JournalPage(kinds=kinds, text=text, before=before, limit=limit):
                fits = [each for each in self.lines if not kinds or each.kind in kinds]
                fits = [each for each in _with(fits, text) if before is None or each.number < before]
                page = tuple(fits[:limit])
                return JournalAnswer(page, len(fits) > limit, page[-1].number if len(fits) > limit else None)
            case OrdersPage(text=text):
                return OrdersAnswer(tuple(_with(self.orders, text)), False)
            case FillsPage(text=text):
                return FillsAnswer(tuple(_with(self.fills, text)), False)
            case TradesPage(text=text):
                return TradesAnswer(tuple(_with(trades(), text)), False)
            case JobsPage(text=text):
                return JobsAnswer(tuple(_with((DEAD,), text)))
            case OrderLife(client_id=id):
                return self._life(id)
            case _:
                return SessionsAnswer(())

    def _life(self, id: ClientOrderId) -> OrderLifeAnswer:
        order = next((each for each in self.orders if each.client_id == id), None)
        mine: Callable[[JournalLine], bool] = lambda line: line.subject == id  # noqa: E731
        return OrderLifeAnswer(
            order,
            tuple(line for line in reversed(self.lines) if mine(line)),
            tuple(fill for fill in self.fills if fill.client_id == id),
            tuple(each for each in self.differ if order and order.broker_id and each.order == order.broker_id),
            tuple(
                line
                for line in reversed(self.lines)
                if line.kind == "override" and order is not None and line.session == order.session
            ),
        )


def _with(rows: Sequence[Any], text: str) -> list[Any]:
    words = text.lower().split()
    return [row for row in rows if all(word in repr(row).lower() for word in words)]

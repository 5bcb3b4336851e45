"""After quiet: memory, database and broker tell the same, and trading may go on."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from brokers.paper.book import PaperOrder
from engine.domain.broker import IdMode
from engine.domain.ids import AccountId, ClientOrderId
from engine.domain.orders import Order, OrderState
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.mind import Mind
from tests.simulation.oracle.truth import Place, Truth

POSITION = "SELECT quantity, average_price FROM positions WHERE account = ? AND symbol = ? ORDER BY number DESC LIMIT 1"
LIVE = (
    "SELECT client_id, broker_id, side, quantity, filled, reported, limit_price, stop_price, type FROM orders "
    "WHERE session = ? AND is_live = 1"
)
FILLS = (
    "SELECT client_id, quantity FROM fills AS f WHERE revision = (SELECT max(revision) FROM fills AS g WHERE "
    "g.account = f.account AND g.fill_key = f.fill_key)"
)
STATE = "SELECT state, average_price, filled FROM orders WHERE client_id = ?"
ENDS = (OrderState.FILLED, OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REJECTED)
LOST_DAY = "daily loss"
AVERAGE_TOLERANCE = Decimal("0.000001")
NOWHERE = Decimal("Infinity")


class Agreement:
    """Judges a session once nothing is under way."""

    def __init__(self, truth: Truth, findings: Findings, has_lost: Callable[[Mind], bool]) -> None:
        self._truth = truth
        self._findings = findings
        self._has_lost = has_lost

    def positions(self, mind: Mind) -> None:
        """I4."""
        place = (mind.account, mind.symbol)
        theirs = self._truth.position(place)
        row = self._truth.database.execute(POSITION, place).fetchone()
        kept = Decimal(row[0]) if row is not None else Decimal(0)
        same = mind.position == theirs.quantity == kept
        self._findings.check(
            "I4", same, f"{mind.session}: memory {mind.position}, database {kept}, broker {theirs.quantity}"
        )
        if self._truth.has_no_price(place):
            return
        if theirs.average_price is not None and mind.position and row is not None:
            known = (mind.average, None if row[1] is None else Decimal(row[1]))
            far = max(NOWHERE if each is None else abs(each - theirs.average_price) for each in known)
            self._findings.check(
                "I4 average",
                far <= AVERAGE_TOLERANCE,
                f"{mind.session}: average memory {mind.average}, database {row[1]}, broker {theirs.average_price}",
            )

    def orders(self, mind: Mind) -> None:
        """I5."""
        place = (mind.account, mind.symbol)
        theirs = {_truly(o) for o in self._truth.open_at(place) if self._is_ours(o, mind)}
        memory = {_believed(o) for o in mind.orders}
        self._findings.check(
            "I5", memory == theirs, lambda: f"{mind.session}: memory {memory - theirs}, broker {theirs - memory}"
        )
        kept = {_kept(row) for row in self._truth.database.execute(LIVE, (mind.session,))}
        self._findings.check(
            "I5 database", kept == theirs, lambda: f"{mind.session}: database {kept - theirs}, broker {theirs - kept}"
        )

    def _is_ours(self, order: PaperOrder, mind: Mind) -> bool:
        client_id = order.record.client_id
        known = client_id is not None and not self._truth.is_missed(client_id)
        return known or any(o.broker_id == order.id for o in mind.orders)

    def fills(self, place: Place, busted: Callable[[ClientOrderId], bool], life: str) -> Decimal:
        """I6: distinct fills sum to what the broker says filled, order by order.

        Returns what moved the position without the desk ever hearing of it, and what it therefore has to adopt: busts,
        fills of orders that a life sent without a record (database and journal both failed) and died, and fills after
        a cancel of which a life that died had not heard.
        """
        unheard = Decimal(0)
        account, symbol = place
        filled: dict[ClientOrderId, Decimal] = {}
        signs: dict[ClientOrderId, int] = {}  # of an adopted order, too, that was replaced and has a name of ours since
        orders = self._truth.exchange.book.orders
        claimed = {orders[id].record.client_id for id in self._truth.claimed}
        for order in orders.values():
            client_id = order.record.client_id
            if client_id in claimed:
                continue  # taken for a stranger's and adopted by hand: its fills are booked under another name
            if order.account == account and order.record.terms.symbol == symbol and client_id is not None:
                filled[client_id] = filled.get(client_id, Decimal(0)) + order.record.filled + self._before(order)
                signs[client_id] = order.record.terms.side.sign
        booked: dict[str, Decimal] = {}
        for client_id, quantity in self._truth.database.execute(FILLS + " AND account = ? AND symbol = ?", place):
            booked[client_id] = booked.get(client_id, Decimal(0)) + Decimal(quantity)
        for client_id, quantity in filled.items():
            have = booked.get(client_id, Decimal(0))
            died_unrecorded = self._truth.unrecorded.get(client_id, life) != life
            died_late = self._truth.late.get(client_id, life) != life
            unknown = have < quantity and (died_unrecorded or died_late or self._nameless(account, client_id))
            if unknown or (busted(client_id) and have > quantity):
                unheard += (quantity - have) * signs[client_id]
            else:
                self._findings.check("I6", have == quantity, f"{client_id}: fills {have}, broker filled {quantity}")
        return unheard

    def _before(self, order: PaperOrder) -> Decimal:
        """What an order filled as a stranger's, before it was adopted and a replace gave it a name of ours."""
        orders, before = self._truth.exchange.book.orders, order.record.replaces
        if before is None or orders[before].record.client_id is not None:
            return Decimal(0)
        return orders[before].record.filled

    def ends(self, place: Place, busted: Callable[[ClientOrderId], bool]) -> None:
        """I5: an order ended in the audit trail as it ended at the broker, by the last of the ids that it had."""
        account, symbol = place
        truth, last = self._truth, dict[ClientOrderId, PaperOrder]()
        for order in truth.exchange.book.orders.values():
            client_id = order.record.client_id
            if client_id is not None and order.account == account and order.record.terms.symbol == symbol:
                last[client_id] = order
        for client_id, order in last.items():
            row = truth.database.execute(STATE, (truth.swapped.get(client_id, client_id),)).fetchone()
            unclear = busted(client_id) or client_id in truth.late or client_id in truth.unrecorded
            if row is None or unclear or order.is_open or row[0] not in ENDS or self._nameless(account, client_id):
                continue
            whole = row[1] is not None and order.record.average_price is not None
            if whole and order.record.replaces is None and Decimal(row[2]) == order.record.filled:
                far = abs(Decimal(row[1]) - (order.record.average_price or 0))
                self._findings.check("I6 price", far <= AVERAGE_TOLERANCE, f"{client_id}: {row[1]}, {order.record}")
            same = row[0] == order.record.status.value
            self._findings.check("I5 end", same, f"{client_id} is {row[0]}, at the broker {order.record.status}")

    def _nameless(self, account: AccountId, client_id: ClientOrderId) -> bool:
        """Where the broker echoes no ids, an order that was never told apart is lost, and its fills are adopted."""
        row = self._truth.database.execute("SELECT state FROM orders WHERE client_id = ?", (client_id,)).fetchone()
        mode = self._truth.exchange.capabilities(account).id_mode
        return mode is IdMode.NONE and row is not None and row[0] in (OrderState.LOST, OrderState.ABANDONED)

    def may_enter(self, mind: Mind) -> None:
        """I44; a day that lost too much is over for its session."""
        if mind.closed is not None and mind.closed.startswith(LOST_DAY) and self._has_lost(mind):
            return
        self._findings.check("I44", mind.closed is None, lambda: f"{mind.session} may not enter: {mind.closed}")


def _shown(price: Decimal | None) -> str:
    return "" if price is None else f"{price.normalize():f}"


def _truly(order: PaperOrder) -> tuple[Any, ...]:
    record = order.record
    left, terms = record.terms.quantity - record.filled, record.terms
    return (record.broker_id, terms.side.value, f"{left:f}", _shown(terms.limit), _shown(terms.stop), terms.type.value)


def _believed(order: Order) -> tuple[Any, ...]:
    terms, left = order.terms, order.remaining
    return (order.broker_id, terms.side.value, f"{left:f}", _shown(terms.limit), _shown(terms.stop), terms.type.value)


def _kept(row: tuple[Any, ...]) -> tuple[Any, ...]:
    _, broker_id, side, quantity, filled, reported, limit, stop, kind = row
    left = max(Decimal(0), Decimal(quantity) - max(Decimal(filled), Decimal(reported)))
    prices = (_shown(None if price is None else Decimal(price)) for price in (limit, stop))
    return (broker_id, side, f"{left:f}", *prices, kind)

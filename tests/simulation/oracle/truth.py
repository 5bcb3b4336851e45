"""The books of the oracle: what left, what arrived, what happened behind the desk's back."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from sqlite3 import Connection

from msgspec import Struct

from brokers.paper.book import PaperOrder
from brokers.paper.exchange import PaperExchange
from engine.domain.broker import IdMode
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, SessionId, Symbol
from engine.domain.orders import ZERO, Order, Role
from engine.domain.positions import Position

LONGEST_TRIP_MS = 130_000
BOOKED = "SELECT 1 FROM fills WHERE account = ? AND fill_key = ? AND CAST(quantity AS REAL) > 0"
ELSEWHERE = "on the machine before"
"""A life of which nobody here knows more than the database does."""
Place = tuple[AccountId, Symbol]


class Behind(Struct, frozen=True):
    """A change of a position that no order of ours made."""

    at: Millis
    by: Decimal
    why: str


class Truth:
    """What really is. `sent` holds each order of ours as memory had it when its request left."""

    def __init__(self, exchange: PaperExchange, database: Connection, places: dict[Place, SessionId]) -> None:
        self.exchange = exchange
        self.database = database
        self.places = places
        self.sent: dict[ClientOrderId, Order] = {}
        self.left: dict[ClientOrderId, Millis] = {}
        self.arrived: dict[ClientOrderId, Millis] = {}
        self.behind: dict[Place, list[Behind]] = {place: [] for place in places}
        self.filled_at: dict[Place, Millis] = {}
        self.foreign: set[BrokerOrderId] = set()
        self.claimed: set[BrokerOrderId] = set()  # asked for by an operator's word
        self.priceless: set[Place] = set()  # what was voided there had a price that no total tells; until it is flat
        self.voided: dict[Place, list[str]] = {}  # executions that ended so; until it is flat
        self.adopted: set[BrokerOrderId] = set()  # given, where it was to be ours
        self.busted: set[ClientOrderId] = set()
        # Sent while database and journal both failed, with an alarm that named it, and by which life.
        self.unrecorded: dict[ClientOrderId, str] = {}
        # Filled after their cancel was told, and in which life.
        self.late: dict[ClientOrderId, str] = {}
        self.swapped: dict[ClientOrderId, ClientOrderId] = {}  # one was taken for the other, as nobody could tell
        self.overtaken: set[ClientOrderId] = set()  # sent on another machine than the one that commands by then
        self.dead: set[str] = {ELSEWHERE}
        self.unrecorded_commands: set[ClientOrderId] = set()

    def now(self) -> Millis:
        """The exchange's newest moment."""
        return self.exchange.last_time

    def position(self, place: Place) -> Position:
        """Where the account stands."""
        return self.exchange.book.position(*place)

    def has_no_price(self, place: Place) -> bool:
        """Whether something voided moved the broker's average, and no desk can know to what.

        It has no price of its own where fills come as totals; and of an order of ours that filled and was voided while
        no desk ran nothing was ever booked: what never was leaves the average as it is.
        """
        unheard = any(
            self.database.execute(BOOKED, (place[0], key)).fetchone() is None for key in self.voided.get(place, ())
        )
        return place in self.priceless or unheard

    def open_at(self, place: Place) -> Iterator[PaperOrder]:
        """Orders of the account that may still fill, not ours included."""
        account, symbol = place
        orders = self.exchange.book.orders
        for broker_id in tuple(self.exchange.book.resting.get(symbol, ())):
            order = orders[broker_id]
            if order.account == account:
                yield order

    def ours_open(self, place: Place) -> list[PaperOrder]:
        """Open orders that carry our names."""
        return [order for order in self.open_at(place) if order.record.client_id is not None]

    def known_open(self, place: Place) -> list[PaperOrder]:
        """The same without those of which nobody alive knows: they are shown as a stranger's until one is adopted."""
        return [o for o in self.ours_open(place) if o.id in self.adopted or not self.is_missed(o.record.client_id)]

    def role(self, order: PaperOrder) -> Role | None:
        """What it was sent for; None for an order that is not ours."""
        client_id = order.record.client_id
        known = self.sent.get(client_id) if client_id is not None else None
        return known.role if known is not None else None

    def changed_behind(self, place: Place, since: Millis) -> bool:
        """Whether anything moved the position behind the desk's back since."""
        return any(each.at >= since for each in self.behind[place])

    def never_arrives(self, client_id: ClientOrderId, now: Millis) -> bool:
        """Whether no order of that name works or has filled at the broker, and none is under way.

        Where the broker echoes no ids nobody can tell the desk of one that filled and ended: its fill was adopted.
        """
        accounts = dict.fromkeys(account for account, _ in self.places)
        names = {client_id, self.swapped.get(client_id, client_id)}
        there = [order for a in accounts for name in names for order in self.exchange.book.by_client_id(a, name)]
        acted = any(order.is_open or (order.record.filled and not self._is_nameless(order, now)) for order in there)
        left = max((self.left[name] for name in names if name in self.left), default=None)
        return not acted and (left is None or now - left > LONGEST_TRIP_MS)

    def _is_nameless(self, order: PaperOrder, now: Millis) -> bool:
        mode = self.exchange.capabilities(order.account).id_mode
        return mode is IdMode.NONE and now - order.record.updated > LONGEST_TRIP_MS

    def is_missed(self, client_id: ClientOrderId | None) -> bool:
        """Whether a life that is dead sent this order without a record, under the loudest alarm."""
        return client_id is not None and self.unrecorded.get(client_id) in self.dead

    def is_told_nowhere(self, client_id: ClientOrderId) -> bool:
        """Whether the engine in command cannot know that this order is ours: no row tells, and another life sent it."""
        row = self.database.execute("SELECT 1 FROM orders WHERE client_id = ?", (client_id,)).fetchone()
        return row is None and (client_id in self.overtaken or self.is_missed(client_id))

    def has_unrecorded(self, place: Place) -> bool:
        """Whether an order that is missed was sent there."""
        return any(
            self.sent[each].account == place[0] and self.sent[each].terms.symbol == place[1]
            for each in self.unrecorded
            if each in self.sent and self.is_missed(each)
        )

    def reach(self, place: Place) -> Decimal:
        """The largest |position| that position and live entries can come to."""
        held = self.position(place).quantity
        sides = {1: ZERO, -1: ZERO}
        for order in self.ours_open(place):
            if self.role(order) is Role.ENTRY:
                sides[order.record.terms.side.sign] += order.remaining
        return max(abs(held), held + sides[1], sides[-1] - held)

"""What the desk says became of its orders: no end without proof, no loss without having asked, no shape of two."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

from brokers.paper.book import PaperOrder
from engine.domain.broker import IdMode
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, Symbol
from engine.domain.orders import TERMINAL, Order, OrderState, Role
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.truth import Place, Truth

S = OrderState
LOST_MS = 90_000
LOST_ANSWERS = 4
TOLD_MS = 1_000
SHAPE_MS = 30_000
ANSWERED_MS = 60_000
KNOWN_MS = 60_000
"""A position check and its second look, and the order check that they ask for."""
ENDS = TERMINAL - {S.DENIED, S.ABANDONED}
EVENTS = "SELECT rowid, client_id, state, event, at, detail FROM order_events WHERE rowid > ? ORDER BY rowid"
DIFFERENCES = (
    "SELECT rowid, id, session, account, broker_read, memory_read FROM disagreements "
    "WHERE kind IN ('position', 'reversal') AND rowid > ? ORDER BY rowid"
)
SEEN = (
    "SELECT rowid, id, position_effect FROM disagreements WHERE kind IN ('position', 'reversal') AND state = 'seen' "
    "AND rowid > ? ORDER BY rowid"
)
SAID = "SELECT min(at) FROM log WHERE kind = 'disagreement' AND subject = ? AND text LIKE '%: adopted;%'"
STATE_OF = "SELECT state, position_effect, account, symbol, broker_read, updated FROM disagreements WHERE id = ?"
SETTLING_MS = 9_500
DIFFERS = "SELECT rowid, id FROM disagreements WHERE kind = 'order differs' AND rowid > ? ORDER BY rowid"
TERMS = "SELECT quantity, limit_price, stop_price, type, broker_id, state FROM orders WHERE client_id = ?"
RESTING = (S.WORKING, S.PARTIALLY_FILLED)
FILLED = (
    "SELECT e.at FROM order_events AS e JOIN orders AS o ON o.client_id = e.client_id "
    "WHERE o.session = ? AND e.event = 'fill' AND e.at > ? AND e.at < ? LIMIT 1"
)
LOST_ONCE = "SELECT 1 FROM order_events WHERE client_id = ? AND event = 'lost'"
ASKED = (
    "SELECT detail FROM order_events WHERE client_id = ? AND event = 'asked' AND revision < "
    "(SELECT revision FROM order_events WHERE rowid = ?) ORDER BY revision DESC LIMIT ?"
)
NAMED = "SELECT 1 FROM order_events WHERE client_id = ? AND event = 'asked' AND detail LIKE ?"
IN_FLIGHT = (
    "SELECT client_id FROM orders WHERE account = ? AND symbol = ? AND is_live = 1 AND created < ? AND updated < ? "
    "AND state LIKE 'in doubt%'"
)
STILL = "SELECT client_id FROM orders WHERE client_id = ? AND state LIKE 'in doubt%'"
AVERAGE_TOLERANCE = Decimal("0.000001")
AVERAGE = "SELECT quantity, average_price FROM positions WHERE account = ? AND symbol = ? ORDER BY number DESC LIMIT 1"
POSITION = "SELECT quantity FROM positions WHERE account = ? AND symbol = ? ORDER BY number DESC LIMIT 1"
MOVED_MS = 5_000
ALONE = "SELECT role FROM orders WHERE client_id = ? AND parent IS NULL"
HOLDS_ENTRIES = ("kill latch", "paused", "session is ", "market data is ", "heat ", "the database does not answer")
ROW = (
    "SELECT state, filled, reported, account, sent, side, type, quantity, symbol, is_live FROM orders "
    "WHERE client_id = ?"
)


class Answers(Protocol):
    """What the world knows of the broker's complete answers about orders."""

    def since(self, account: AccountId, client_id: ClientOrderId, since: Millis) -> int:
        """How many there were since a moment."""

    def listed(self, account: AccountId, since: Millis, until: Millis) -> bool:
        """Whether open orders were told between two moments of the desk's clock, if that is right."""

    def came(self, account: AccountId, client_id: ClientOrderId, since: Millis, until: Millis) -> bool:
        """Whether one came between two moments of the desk's clock, if that is right."""


class Verdicts:
    """Judges every new row of the order events."""

    def __init__(self, truth: Truth, findings: Findings, answers: Answers, waits: Callable[[str], None]) -> None:
        self._truth = truth
        self._findings = findings
        self._answers = answers
        self._waits = waits
        self._seen = 0
        self._seen_rows = 0
        self._seen_differences = self._seen_terms = 0
        self._differences: dict[str, str] = {}
        self._declared: set[str] = set()
        self._beside: list[tuple[str, str]] = []
        self._asked: dict[str, Millis] = {}

    def look(self) -> None:
        """Everything since the last look."""
        for number, client_id, word, event, at, detail in self._truth.database.execute(EVENTS, (self._seen,)):
            self._seen = number
            state = S(word)
            if state is S.LOST and event == "lost":
                self._lost(number, client_id, at)
            elif event == "declared dead":
                self._declared.add(client_id)
            elif state is S.ABANDONED and event != "lives after all" and client_id not in self._declared:
                self._abandoned(client_id, event)
                self._refused(client_id, event, detail)
            elif state in ENDS:
                self._ended(client_id, state)
            if event == "gone":
                self._gone(client_id)
            if event == "matched by shape":
                self._matched(client_id, detail)
            if event == "named by its leg":
                self._named(client_id, detail)
            if event == "asked":
                self._not_found(client_id, at, detail)
        self._settled()
        self._same()
        self._terms()

    def _same(self) -> None:
        """I10: what is adopted is the very difference that was seen first; another one is seen anew."""
        database = self._truth.database
        for id, name in self._beside:  # a row may lag behind for a moment
            unsure = database.execute(STILL, (name,)).fetchone() is not None
            self._findings.check("I10 in flight", not unsure, f"{id} was adopted beside {name}, of unknown fate")
        self._beside.clear()
        for id, first in tuple(self._differences.items()):
            row = database.execute(STATE_OF, (id,)).fetchone()
            state, effect = ("gone", first) if row is None else row[:2]
            if state != "seen":
                del self._differences[id]
            if state == "adopted":
                self._adopted(id, *row[2:])
                self._findings.check("I10 same", effect == first, f"{id} was seen as {first}, and adopted as {effect}")
        for row, id, effect in database.execute(SEEN, (self._seen_differences,)).fetchall():
            self._seen_differences = row
            self._differences[id] = effect

    def _adopted(self, id: str, account: AccountId, symbol: Symbol, begun: Millis, updated: Millis) -> None:
        """The position becomes the broker's, its price too; before that, orders were asked for what explains it."""
        (said,) = self._truth.database.execute(SAID, (id,)).fetchone()
        at = updated if said is None else min(said, updated)  # an acknowledgement moves the row once more
        late = at - begun >= SETTLING_MS
        told = late or self._answers.listed(account, begun, at)
        self._findings.check("I10 asked", told, f"{id} was adopted at {at}; no open orders were told since {begun}")
        flying = () if late else self._truth.database.execute(IN_FLIGHT, (account, symbol, begun, at)).fetchall()
        self._beside += [(id, client_id) for (client_id,) in flying]
        place, theirs = (account, symbol), self._truth.position((account, symbol))
        row = self._truth.database.execute(AVERAGE, place).fetchone()
        if row is None or self._has_moved(place) or place in self._truth.priceless:
            return
        same = Decimal(row[0]) != theirs.quantity or theirs.average_price is None
        same = same or (row[1] is not None and abs(Decimal(row[1]) - (theirs.average_price or 0)) < AVERAGE_TOLERANCE)
        self._findings.check("I10 price", same, f"{id} left {row}, the broker holds {theirs}")

    def _terms(self) -> None:
        """I5: terms that were said to be adopted are the order's now, as it rests at the broker."""
        for row, id in self._truth.database.execute(DIFFERS, (self._seen_terms,)).fetchall():
            self._seen_terms = row
            kept = self._truth.database.execute(TERMS, (id.split(":")[1],)).fetchone()
            order = None if kept is None else self._truth.exchange.book.orders.get(kept[4])
            if order is None or not order.is_open or S(kept[5]) not in RESTING or not id.startswith("differs:"):
                continue
            theirs = order.record
            recent = self._truth.now() - theirs.updated < MOVED_MS or theirs.replaces is not None
            values = tuple(None if value is None else Decimal(value) for value in kept[:3])
            same = (*values, kept[3]) == (
                theirs.terms.quantity,
                theirs.terms.limit,
                theirs.terms.stop,
                theirs.terms.type,
            )
            self._findings.check("I5 adopted", same or recent, f"{id}: adopted, and known as {kept}, not {theirs}")

    def _has_moved(self, place: Place) -> bool:
        since = self._truth.now() - MOVED_MS
        return self._truth.filled_at.get(place, 0) > since or self._truth.changed_behind(place, since)

    def _gone(self, client_id: str) -> None:
        """I12: what the broker is said not to know any more does not work there."""
        truth, name = self._truth, ClientOrderId(client_id)
        works = any(o.is_open for account, _ in truth.places for o in truth.exchange.book.by_client_id(account, name))
        self._findings.check("I12 gone", not works, f"{client_id} is called gone, and works")

    def _not_found(self, client_id: str, at: Millis, detail: str) -> None:
        """I30: "not found" is what a complete answer said since the last question, and not the want of one."""
        since, self._asked[client_id] = self._asked.get(client_id), max(at, self._asked.get(client_id, at))
        row = self._truth.database.execute(ROW, (client_id,)).fetchone()
        late = since is not None and since > at  # a row that was refused with its batch came in later, by itself
        if detail == "not found" and row is not None and since is not None and not late:
            told = self._answers.came(AccountId(row[3]), ClientOrderId(client_id), since, at)
            self._findings.check("I30 answer", told, f"{client_id} was not found at {at}; no answer came since {since}")

    def _settled(self) -> None:
        """I30: a difference is judged by a read that began after our last fill on the contract had settled."""
        database = self._truth.database
        for row, id, session, account, begun, judged in database.execute(DIFFERENCES, (self._seen_rows,)).fetchall():
            self._seen_rows = row
            settle = self._truth.exchange.capabilities(AccountId(account)).settle_ms
            filled = database.execute(FILLED, (session, begun - settle, judged)).fetchone()
            self._findings.check(
                "I30 settled",
                filled is None,
                lambda i=id, b=begun, f=filled: f"{i} was judged by a read begun at {b}, beside a fill at {f[0]}",  # type: ignore[misc]
            )

    def open_at_broker(self) -> None:
        """I12: what works at the broker has not ended in the audit trail."""
        for place in self._truth.places:
            for order in self._truth.ours_open(place):
                client_id = order.record.client_id
                assert client_id is not None
                known_as = self._truth.swapped.get(client_id, client_id)
                row = self._truth.database.execute(ROW, (known_as,)).fetchone()
                ended = row is not None and S(row[0]) in ENDS and not self._grew_unheard(order, Decimal(row[7]))
                self._findings.check("I12 proof", not ended, lambda c=client_id, r=row: f"{c} works; its row says {r}")  # type: ignore[misc]

    def _grew_unheard(self, order: PaperOrder, known: Decimal) -> bool:
        """A leg that filled whole, as it was known, while its entry filled more and no event told: checks find both."""
        recent = self._truth.now() - order.record.updated < KNOWN_MS
        return order.record.parent is not None and order.record.terms.quantity > known and recent

    def _lost(self, number: int, client_id: str, at: Millis) -> None:
        row = self._truth.database.execute(ROW, (client_id,)).fetchone()
        left = self._truth.left.get(ClientOrderId(client_id))
        if row is None or left is None or row[4] is None:
            return
        check = self._findings.check
        waited = max(at - row[4], self._truth.now() - left)  # the desk's clock may have been set
        check("I12 lost", waited >= LOST_MS, f"{client_id} was given up {waited} ms after it was sent")
        asked = self._answers.since(AccountId(row[3]), ClientOrderId(client_id), left)
        arrived = self._truth.arrived.get(ClientOrderId(client_id), self._truth.now())
        account, name = AccountId(row[3]), ClientOrderId(client_id)
        named = self._truth.exchange.capabilities(account).id_mode is not IdMode.NONE
        named = named and bool(self._truth.exchange.book.by_client_id(account, name))
        there = min(self._truth.now() - arrived, at - row[4] - (arrived - left))  # the row may be written late
        known = named and there > ANSWERED_MS
        check("I30 known", not known, f"{client_id} was given up, and had been there for {there} ms")
        told = [words for (words,) in self._truth.database.execute(ASKED, (client_id, number, LOST_ANSWERS))]
        check("I30 in a row", told == ["not found"] * LOST_ANSWERS, f"{client_id} was given up after {told}")
        self._unmoved(client_id, (account, row[8]), min(at, self._truth.now()))
        check("I30 lost", asked >= LOST_ANSWERS, f"{client_id} was given up after {asked} complete answers")

    def _unmoved(self, client_id: str, place: Place, at: Millis) -> None:
        """The position that the audit trail knows is the broker's, where nothing moved it just before or since.

        The row of an order that was given up while the database was away comes in long after `at`.
        """
        truth, since = self._truth, at - MOVED_MS
        if truth.filled_at.get(place, 0) > since or truth.changed_behind(place, since):
            return
        row = truth.database.execute(POSITION, place).fetchone()
        kept, held = Decimal(0) if row is None else Decimal(row[0]), truth.position(place).quantity
        self._findings.check("I30 unmoved", kept == held, f"{client_id} was given up: position {held}, known {kept}")

    def _abandoned(self, client_id: str, event: str) -> None:
        left = client_id in self._truth.left
        self._findings.check("I12 abandoned", not left, f"{client_id} left, and is called never sent ({event})")

    def _refused(self, client_id: str, event: str, why: str) -> None:
        """I19: what holds entries back refuses no exit; the legs of an entry go with it."""
        row = self._truth.database.execute(ALONE, (client_id,)).fetchone()
        if row is not None and row[0] != Role.ENTRY and event == "abandoned":
            held = why.startswith(HOLDS_ENTRIES)
            self._findings.check("I19 refused", not held, f"{row[0]} {client_id} was refused by us: {why}")

    def _ended(self, client_id: str, state: OrderState) -> None:
        row = self._truth.database.execute(ROW, (client_id,)).fetchone()
        if row is not None and S(row[0]) is state:
            filled, reported = Decimal(row[1]), Decimal(row[2])
            # what had been reported before counts no more; a fill told after the end may be reported before it is told
            if filled < reported:
                self._waits(client_id)
            voided = client_id in self._truth.busted or client_id in self._truth.late
            self._findings.check(
                "I26 live", bool(row[9]) or filled >= reported, f"{client_id} waits for fills; no later life would know"
            )
            self._findings.check(
                "I12 fills", voided or filled >= reported, f"{client_id} is {state}: {filled} of {reported}"
            )

    def _named(self, client_id: str, broker_id: str) -> None:
        """The same of one that the broker called the parent of a leg of ours: it is that very order."""
        order = self._truth.exchange.book.orders.get(BrokerOrderId(broker_id))
        name = None if order is None else order.record.client_id
        self._findings.check("rule 8", name == client_id, f"{client_id} was taken for {broker_id}, which is {name}")

    def _matched(self, client_id: str, broker_id: str) -> None:
        """Mode none: exactly one candidate is taken; of several nobody knows which is ours."""
        truth = self._truth
        sent = truth.sent.get(ClientOrderId(client_id))
        if sent is None or truth.exchange.capabilities(sent.account).id_mode is not IdMode.NONE:
            return
        mine = {o.broker_id for o in truth.sent.values() if o.broker_id is not None}
        left = truth.left[ClientOrderId(client_id)]
        alike = [
            order.id
            for order in truth.exchange.book.orders.values()
            if order.account == sent.account
            and order.id not in mine
            and order.record.client_id is None
            and order.record.terms.side is sent.terms.side
            and order.record.terms.type is sent.terms.type
            and order.record.terms.symbol == sent.terms.symbol
            and order.record.terms.quantity == sent.terms.quantity
            and (order.record.terms.limit, order.record.terms.stop) == (sent.terms.limit, sent.terms.stop)
            and abs(order.record.submitted - left) < 3_000
            and truth.now() - order.record.submitted > TOLD_MS
        ]
        taken = truth.exchange.book.orders.get(BrokerOrderId(broker_id))
        if sent.role is Role.ENTRY and taken is not None and taken.is_open:
            twice = truth.database.execute(NAMED, (client_id, f"%{broker_id}%")).fetchone() is not None
            self._findings.check("rule 8 twice", twice, f"{client_id} was taken for {broker_id} at first sight")
        name = None if taken is None else taken.record.client_id
        if taken is not None and name not in (None, client_id) and self._cannot_be_told(sent, name, taken):
            truth.claimed.add(taken.id)
            name = None
        self._findings.check("rule 8 ours", name in (None, client_id), f"{client_id} was taken for {name}, ours too")
        self._findings.check("rule 8", len(alike) <= 1, f"{client_id} was taken for {broker_id}; {alike} look like it")

    def _cannot_be_told(self, order: Order, name: ClientOrderId, taken: PaperOrder) -> bool:
        """Whether nobody with the desk's knowledge could tell that a record is another order's of ours.

        The engine before, cut off from its database, sent the same: to whoever has the word that is nobody's. Or a lost
        order came after all, later than ever an acceptance, while the one sent in its stead was on the wire: both look
        alike, and it followed both. What comes later is then taken for the lost one.
        """
        truth, other = self._truth, self._truth.sent.get(name)
        if truth.is_told_nowhere(name) or truth.swapped.get(name) == order.client_id:
            return True
        lost = truth.database.execute(LOST_ONCE, (name,)).fetchone() is not None
        followed = lost and truth.left[name] < truth.left[order.client_id] <= taken.record.submitted
        if not followed or other is None or other.terms != order.terms:
            return False
        truth.swapped |= {name: order.client_id, order.client_id: name}
        return True

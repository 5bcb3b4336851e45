"""Every request as it leaves and as it arrives: made durable first, once, by whoever may, and through the gate."""

from __future__ import annotations

from collections.abc import Callable

from brokers.paper.book import PaperOrder
from engine.domain.broker import Enforcer, IdMode, ReplaceQuantity, SubmitRequest
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, SessionId
from engine.domain.market import CandleOrigin
from engine.domain.orders import (
    IN_DOUBT,
    LIVE_AT_BROKER,
    TERMINAL,
    ZERO,
    Flag,
    Order,
    OrderState,
    Role,
    Terms,
    TimeInForce,
)
from engine.domain.risk import CompleteHeat
from engine.snapshot import Phase
from tests.simulation.oracle.candles import Candles
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.mind import HeatMind, Mind
from tests.simulation.oracle.truth import Truth

ROW = "SELECT decision_key FROM orders WHERE client_id = ?"
KEY = "SELECT count(*) FROM intents WHERE client_id = ? AND kind = ?"
LIVE = "SELECT client_id, state FROM orders WHERE session = ? AND is_live = 1"
LONGEST_NAME = 22
BLOCKS_MS = 100
CANDLE_MS = 61_000
CARELESS = "changed its mind about its stop"
EPOCH = "SELECT epoch FROM leases WHERE account = ?"


class Requests:
    """Judges requests. `journalled` tells whether a name stands in the intent journal."""

    def __init__(self, truth: Truth, findings: Findings, candles: Candles, journalled: Callable[[str], bool]) -> None:
        self._truth = truth
        self._findings = findings
        self._candles = candles
        self._journalled = journalled
        self._attempts: dict[str, list[ClientOrderId]] = {}
        self.killed = False
        self.paused: set[SessionId] = set()

    # -- leaving ------------------------------------------------------------------------------------------

    def leaves(self, mind: Mind, heat: HeatMind, order: Order, request: SubmitRequest) -> None:
        """A submit starts to leave in this loop step."""
        truth, check = self._truth, self._findings.check
        now = truth.now()
        legs = {leg.client_id for leg in request.legs}
        (keys,) = truth.database.execute(KEY, (order.client_id, "submit")).fetchone()
        known = bool(keys) or self._journalled(order.client_id) or order.client_id in truth.unrecorded
        check(
            "I1 before", known, f"{order.role} {order.client_id} leaves, and stands neither in a row nor in the journal"
        )
        linked = truth.exchange.capabilities(order.account).one_cancels_other is Enforcer.BROKER
        for item in mind.orders:
            if item.client_id == order.client_id or item.client_id in legs:
                truth.sent[item.client_id] = item
                truth.left[item.client_id] = now
                lasts = not item.role.is_protective or item.terms.tif is TimeInForce.GTC
                alone = item.role is Role.TARGET and item.client_id in legs and not linked
                check("I20 linked", not alone, f"{item.client_id} leaves beside a stop that the broker does not link")
                check("I42 lasting", lasts, f"{item.role} {item.client_id} leaves for {item.terms.tif} only")
        if order.role is not Role.ENTRY:
            return
        entry = f"entry {order.client_id} of {mind.session}"
        doubtful = [
            o
            for o in mind.orders
            if o.role is Role.ENTRY
            and o.client_id != order.client_id
            and o.state in (OrderState.IN_DOUBT_SUBMIT, OrderState.LOST, OrderState.SUBMITTING)
            and o.sent is not None
        ]
        check("I14", not doubtful, lambda: f"{entry} leaves while {doubtful[0].client_id} is {doubtful[0].state}")
        unsure = [o for o in mind.orders if o.doubt is not None and now - o.doubt.since > BLOCKS_MS]
        unsure = [o for o in unsure if o.is_in_doubt or o.state is OrderState.LOST]
        check("I14 any", not unsure, lambda: f"{entry} leaves while {unsure[0].client_id} is {unsure[0].state}")
        check("I33", not self.killed and not mind.killed, f"{entry} leaves under a kill")
        by_hand = "life-" in order.key.split("/")[1]
        check("I33 pause", by_hand or mind.session not in self.paused, f"{entry} leaves under a pause")
        check("I27", mind.phase is Phase.TRADING, lambda: f"{entry} leaves while the session is {mind.phase}")
        confirmed = mind.confirmed_at is not None and mind.confirmed_at >= mind.began
        check("I27 position", confirmed, f"{entry} leaves before this life read the position")
        share = heat.heat
        complete = isinstance(share, CompleteHeat)
        check("I22", complete, lambda: f"{entry} leaves while heat is {heat.heat}")
        if isinstance(share, CompleteHeat):
            own = next((c for c in heat.contributions if c.session == mind.session), None)
            # its own share is reckoned anew in this very step, at a price that the gate did not read
            anew = ZERO if own is None else own.total
            others = share.percent - anew * 100 / share.equity
            check("I22 block", others < heat.block, f"{entry} leaves at heat {share.percent}")
            for name, percent in heat.group_percent:
                holds = own is None or own.group != name or percent - anew * 100 / share.equity < heat.group_block[name]
                check("I22 group", holds, f"{entry} leaves, its group {name} is at {percent}")
        reported = {c.session for c in heat.contributions}
        check("I24", set(self._truth.places.values()) <= reported, f"{entry} leaves, only {reported} reported")
        counted = {client_id for c in heat.contributions for client_id in c.entries}
        counted |= {r.order for r in heat.reservations}
        check("I23", order.client_id in counted, f"{entry} leaves and is not in heat")
        self._check_recovered(mind, entry)
        if not by_hand:
            origin = self._candles.origin(mind.session, order.key)
            check("I16 entry", origin is CandleOrigin.LIVE, lambda: f"{entry} was decided on a candle that is {origin}")
            late = self._candles.late(mind.session, order.key)
            check("entry candle", late <= CANDLE_MS, f"{entry} follows a candle decided on {late} ms after its end")

    def _check_recovered(self, mind: Mind, entry: str) -> None:
        known = {o.client_id: o for o in mind.orders}
        rows = self._truth.database.execute(LIVE, (mind.session,)).fetchall()
        for client_id, state in rows:
            # a row may lag behind memory, which then knows the order as ended: it is asked for by name
            missing = client_id not in known and not self.remembered(mind, client_id)
            self._findings.check("I26", not missing, f"{entry} leaves, {client_id} ({state}) is unknown to memory")

    def remembered(self, mind: Mind, client_id: str) -> bool:
        """Whether the life knows the order as ended; replaced by the probe."""
        return False

    # -- arriving -----------------------------------------------------------------------------------------

    def arrives(self, mind: Mind | None, account: AccountId, request: SubmitRequest, epoch: int | None) -> None:
        """A submit reaches the exchange, perhaps long after its desk gave it up or died."""
        truth, check = self._truth, self._findings.check
        now = truth.now()
        for client_id in (request.client_id, *(leg.client_id for leg in request.legs)):
            recorded = truth.database.execute(ROW, (client_id,)).fetchone() is not None
            known = recorded or self._journalled(client_id) or request.client_id in truth.unrecorded
            check("I1", known, f"{client_id} arrived at {account}: neither row nor journal record")
            plain = client_id.isalnum() and len(client_id) <= LONGEST_NAME
            check("I2 name", plain, f"{client_id} arrived: letters and digits, at most {LONGEST_NAME}")
        (keys,) = truth.database.execute(KEY, (request.client_id, "submit")).fetchone()
        known = bool(keys) or self._journalled(request.client_id) or request.client_id in truth.unrecorded
        check("I1 key", known, f"{request.client_id} arrived at {account}, and its decision key stands nowhere")
        # nothing here nor at a broker without names could tell a later life what a dead one sent without a record
        untold = truth.is_missed(request.client_id) and truth.exchange.capabilities(account).id_mode is IdMode.NONE
        first = request.client_id not in truth.arrived or untold
        check("I2 once", first, f"{request.client_id} arrived at {account} a second time")
        truth.arrived[request.client_id] = now
        order = truth.sent.get(request.client_id)
        if order is None:
            check("I1 sent", False, f"{request.client_id} arrived at {account} and nobody saw it leave")
            return
        self._check_attempts(order)
        if mind is not None:
            self._check_revived(mind, order)

    def _check_attempts(self, order: Order) -> None:
        prefix = order.key.rpartition("/")[0]
        earlier = self._attempts.setdefault(prefix, [])
        book = self._truth.exchange.book
        for client_id in earlier:
            alive = [o for o in book.by_client_id(order.account, client_id) if o.is_open]
            forced = Flag.FORCED in order.flags
            self._findings.check(
                "I2", not alive or forced, f"{order.key} arrived while {client_id} of the same decision still works"
            )
        earlier.append(order.client_id)

    def _check_revived(self, mind: Mind, order: Order) -> None:
        now = next((o for o in mind.orders if o.client_id == order.client_id), None)
        if now is not None and now.state is OrderState.LOST:
            self._findings.check("I11", mind.doubt_blocks, f"{order.client_id} is LOST and nothing blocks entries")
            self._findings.check("I11 size", now.at_most == now.terms.quantity, f"{order.client_id} lost its size")

    def commanded(self, account: AccountId, broker_id: BrokerOrderId, kind: str) -> None:
        """A cancel or replace reaches the exchange."""
        truth, check = self._truth, self._findings.check
        order = truth.exchange.book.orders.get(broker_id)
        if order is None or order.record.client_id is None:
            check("I32", broker_id in truth.claimed, f"{kind} of {broker_id}, which is not ours and was not claimed")
            return
        client_id = order.record.client_id
        if broker_id in truth.claimed:
            return  # an operator's own word, under the row of the override
        (rows,) = truth.database.execute(KEY, (client_id, kind)).fetchone()
        known = bool(rows) or self._journalled(client_id) or client_id in truth.unrecorded_commands
        check("I1 command", known, f"{kind} of {client_id} arrived: neither key nor journal record")

    def changes(self, order: Order, kind: str) -> None:
        """A replace or cancel of an order starts to leave."""
        kept = kind != "cancel" or order.role is not Role.STOP or order.reason != CARELESS
        self._findings.check("I42 kept", kept, f"the strategy's cancel of stop {order.client_id} leaves")

    def unanswered(self, order: Order, kind: str) -> None:
        """Rule 4: a command without an answer leaves its order in doubt, whatever the broker last said of it."""
        known = order.state in (*IN_DOUBT, *TERMINAL, OrderState.LOST)
        self._findings.check("rule 4", known, f"{kind} of {order.client_id} was lost; memory calls it {order.state}")

    def resized(self, order: PaperOrder, terms: Terms) -> None:
        """A replace arrives: what the broker makes of it, in its own manner, is no larger than what was wanted."""
        book, account, client_id = self._truth.exchange.book, order.account, order.record.client_id
        sent = self._truth.sent.get(client_id) if client_id is not None else None
        if client_id is None or sent is None or sent.wanted is None:
            return
        others = [o for o in book.by_client_id(account, client_id) if o.id != order.id]
        carried = sum((o.record.filled for o in others), ZERO)
        if carried + order.record.filled != sent.filled:
            return  # a fill of which the desk had not heard
        remaining = self._truth.exchange.capabilities(account).replace_quantity is ReplaceQuantity.REMAINING
        total = terms.quantity + (sent.filled if remaining else carried)
        self._findings.check(
            "replace size", total <= sent.wanted.quantity, f"{client_id} becomes {total}, wanted {sent.wanted.quantity}"
        )


def is_settled(order: Order) -> bool:
    """Whether nothing about the order is under way."""
    return order.state in TERMINAL or order.state in LIVE_AT_BROKER

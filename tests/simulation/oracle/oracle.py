"""The oracle as the world knows it: it hears of everything that happens, and judges."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from sqlite3 import Connection

from brokers.paper.book import PaperOrder
from brokers.paper.exchange import PaperExchange
from engine.domain.broker import BrokerFill, FillsKind, SubmitAnswer, SubmitRequest
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Candle
from engine.domain.orders import Order
from engine.domain.settings import SessionLimits
from tests.simulation.oracle.agreement import Agreement
from tests.simulation.oracle.audit import Audit, signed
from tests.simulation.oracle.candles import Candles
from tests.simulation.oracle.closing import Closing
from tests.simulation.oracle.day import Day
from tests.simulation.oracle.duties import Duties
from tests.simulation.oracle.exposure import Exposure
from tests.simulation.oracle.findings import Findings, Violation
from tests.simulation.oracle.mind import HeatMind, Mind, Promise
from tests.simulation.oracle.requests import Requests
from tests.simulation.oracle.sending import Sending
from tests.simulation.oracle.standing import Standing
from tests.simulation.oracle.truth import Behind, Place, Truth
from tests.simulation.oracle.verdicts import Answers, Verdicts
from tests.simulation.oracle.weight import Weight
from tests.simulation.oracle.wishes import Wishes

VERDICT_MS = 90_000
"""Seen at the next position check, adopted, and acknowledged by whoever looks after the desk."""


class Oracle:
    """One run's judges over one truth."""

    def __init__(
        self,
        exchange: PaperExchange,
        database: Connection,
        places: dict[Place, SessionId],
        *,
        now: Callable[[], Millis],
        on_violation: Callable[[Violation], None],
        traded: Callable[[str, Millis], bool],
        whole: Callable[[Symbol, Millis], Candle | None],
        journalled: Callable[[str], bool],
        answers: Answers,
        limits: dict[SessionId, SessionLimits],
        instruments: tuple[Instrument, ...],
    ) -> None:
        self.findings = Findings(now, on_violation)
        self.truth = Truth(exchange, database, places)
        self.candles = Candles(self.findings, traded, whole)
        self.requests = Requests(self.truth, self.findings, self.candles, journalled)
        self.exposure = Exposure(self.truth, self.findings, {p: limits[s].max_position_size for p, s in places.items()})
        self.standing = Standing(self.truth, self.findings)
        self.audit = Audit(self.truth, self.findings, instruments)
        self.day = Day(self.truth, self.findings, limits, instruments)
        self.sending = Sending(self.truth, self.findings, limits, self.day)
        self.closing = Closing(self.truth, self.findings, now)
        self.verdicts = Verdicts(self.truth, self.findings, answers, self.closing.waits)
        worst = max(each.worst_case_per_contract for each in limits.values())
        self.weight = Weight(self.findings, instruments, worst)
        self.agreement = Agreement(self.truth, self.findings, self.day.has_lost)
        self.duties = Duties(self.truth, self.findings)
        self.wishes = Wishes(self.truth, self.findings)
        self._adopted_foreign: set[Place] = set()
        self._places = {session: place for place, session in places.items()}
        self._released: dict[SessionId, Millis] = {}
        self.commanded: dict[str, Millis] = {}
        self._now = now

    # -- behind the desk's back ---------------------------------------------------------------------------

    def out_of_band(self, account: AccountId, symbol: Symbol, by: Decimal, why: str) -> None:
        """The position is about to change without an order."""
        self.truth.behind[account, symbol].append(Behind(self._now(), by, why))

    def busted(self, account: AccountId, symbol: Symbol, fill: BrokerFill) -> None:
        """An execution is about to be voided."""
        order = self.truth.exchange.book.orders.get(fill.broker_id)
        ours = order is not None and order.record.client_id is not None
        undone = Decimal(0) if ours else -signed(fill)  # ours is told to us; a stranger's just moves the position back
        self.truth.behind[account, symbol].append(Behind(self._now(), undone, "bust"))
        if order is not None and order.record.client_id is not None:
            self.truth.busted.add(order.record.client_id)

    def foreign(self, broker_id: BrokerOrderId) -> None:
        """Somebody else has an order there."""
        self.truth.foreign.add(broker_id)

    def claimed(self, broker_id: BrokerOrderId) -> None:
        """An operator says that a foreign order may be touched; what it filled before may be booked as a fill then."""
        self.truth.claimed.add(broker_id)
        order = self.truth.exchange.book.orders.get(broker_id)
        if order is not None and order.record.filled:
            self._adopted_foreign.add((order.account, order.record.terms.symbol))

    def forced(self, session: SessionId) -> None:
        """An operator typed the word that names the risk of a reversal."""
        self.exposure.forced.add(session)

    def never_arrives(self, client_id: ClientOrderId) -> bool:
        """What an operator learns who asks the broker about an order."""
        return self.truth.never_arrives(client_id, self._now())

    # -- requests and fills -------------------------------------------------------------------------------

    def submitted(self, account: AccountId, request: SubmitRequest, answer: SubmitAnswer, accepted: bool) -> None:
        """The exchange answered a submit."""
        if accepted:
            self.exposure.accepted(account, request.client_id)

    def filled(self, account: AccountId, fill: BrokerFill) -> None:
        """The exchange executed, or voided, something."""
        order = self.truth.exchange.book.orders.get(fill.broker_id)
        self.truth.filled_at[account, fill.symbol] = self.truth.now()
        self._price_told((account, fill.symbol), fill)
        self.day.filled((account, fill.symbol), fill)
        if fill.broker_id in self.truth.claimed:
            self._adopted_foreign.add((account, fill.symbol))
        if order is not None and order.record.client_id is None and not fill.revision:
            self.truth.behind[account, fill.symbol].append(Behind(self._now(), signed(fill), "foreign order"))
        self.exposure.filled(account, fill, order)
        self.closing.filled((account, fill.symbol), None if order is None else self.truth.role(order))

    def _price_told(self, place: Place, fill: BrokerFill) -> None:
        """Where fills come as totals, one that was voided has no price to take out of the average again."""
        if not self.truth.position(place).quantity:
            self.truth.priceless.discard(place)
            self.truth.voided.pop(place, None)
        elif fill.revision and self.truth.exchange.capabilities(place[0]).fills is FillsKind.CUMULATIVE:
            self.truth.priceless.add(place)
        elif fill.revision and not fill.quantity and fill.broker_id not in self.truth.foreign:
            self.truth.voided.setdefault(place, []).append(fill.execution_id)

    def last_order(self, fill: BrokerFill) -> PaperOrder | None:
        """The order of an execution."""
        return self.truth.exchange.book.orders.get(fill.broker_id)

    def _was_busted(self, client_id: ClientOrderId) -> bool:
        """Whether an execution of it was voided."""
        return client_id in self.truth.busted

    # -- commands of operators ----------------------------------------------------------------------------

    def flat_promised(
        self,
        promises: tuple[Promise, ...],
        minds: tuple[Mind, ...],
        told: Callable[[AccountId, Symbol, Millis], tuple[Decimal, ...]] | None,
    ) -> None:
        """The engine said "flat confirmed"; what it was `told` of positions by then, None if its clock may be wrong."""
        for promise in self.standing.promises(promises, minds, self._released, self.commanded):
            account, symbol = self._places[promise.session]
            for mind in minds:
                if mind.session == promise.session:
                    self.wishes.flat(mind.life, mind.session)
            reads = told(account, symbol, promise.at) if told is not None else ()
            if reads:
                self.findings.check("I43 read", not all(reads), f"{promise.session} was confirmed flat, told {reads}")
            if self._released.get(promise.session, 0) < self.commanded.get(promise.command, 0):
                self.exposure.flat[promise.session] = promise.command

    def not_flat(self, mind: Mind, command: str) -> None:
        """The engine said that a flatten ended otherwise; nothing binds where somebody resumed meanwhile."""
        if self._released.get(mind.session, 0) < self.commanded.get(command, 0):
            self.wishes.not_flat(mind, command)

    def released(self, sessions: tuple[SessionId, ...]) -> None:
        """Entries may go again, or one was made by hand: no promise binds any more."""
        self.wishes.lifted(sessions)
        for session in sessions:
            self.exposure.flat.pop(session, None)
            self.duties.held_since.pop(session, None)
            self._released[session] = self._now()

    # -- at intervals, and after quiet --------------------------------------------------------------------

    def look(self, minds: tuple[Mind, ...], heat: HeatMind, now: Millis, calm_since: Millis | None) -> None:
        """Every few seconds."""
        for mind in minds:
            self.standing.look(mind, heat, now, calm_since)
            self.weight.look(mind, heat)
        self.standing.heat(heat, minds, now)
        accounts = dict.fromkeys(account for account, _ in self.truth.places)
        self.weight.equity(heat, sum((self.truth.exchange.balance(each).equity for each in accounts), Decimal(0)))
        self.weight.groups(heat)

    def quiet(self, minds: tuple[Mind, ...], life: str, *, right_clock: bool) -> None:
        """Nothing has been wrong and nothing been decided for two minutes."""
        bad_places = self._adopted_foreign
        for mind in minds:
            place = (mind.account, mind.symbol)
            self.agreement.positions(mind)
            self.agreement.orders(mind)
            self.agreement.ends(place, self._was_busted)
            unheard = self.agreement.fills(place, self._was_busted, life)
            if not self.truth.changed_behind(place, self._now() - VERDICT_MS):  # a verdict is still waited for
                self.agreement.may_enter(mind)
            self.audit.adoptions(place, unheard, exact=place not in bad_places)
            self.audit.trades(place)
            if right_clock:
                self.day.quiet(mind, self._now())
        for account in dict.fromkeys(account for account, _ in self.truth.places):
            self.audit.balances(account)
        self.audit.commands(life)
        self.audit.rows_of_overrides(life)
        self.audit.reconciling()
        self.exposure.forced.clear()

    def order(self, client_id: ClientOrderId) -> Order | None:
        """An order as it was when it left."""
        return self.truth.sent.get(client_id)

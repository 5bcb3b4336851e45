"""What the oracle hears of one run: every request as it leaves and arrives, every command and its receipt."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from engine import commands as c
from engine.domain.broker import AcceptedOrder, SubmitAnswer, SubmitRequest
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, CommandId, Millis, SessionId
from engine.domain.orders import OrderType, Role, Terms
from engine.domain.risk import CompleteHeat, Contribution, StanceNotice
from tests.simulation import day_faults, probe, scenes
from tests.simulation.deeds import lowers
from tests.simulation.desk import Desk
from tests.simulation.loop import Life
from tests.simulation.world import session_id

GIVEN_UP_MS = 5_000
"""From then on an answer is not waited for, and what the lists of the broker say decides."""

if TYPE_CHECKING:
    from tests.simulation.run import Run


def _session(account: AccountId, request: SubmitRequest) -> SessionId:
    return session_id(account, request.terms.symbol)


class Testimony:
    """Tells the oracle of it. `sent` counts the requests that started to leave."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.sent = 0
        self._commanded: dict[ClientOrderId, Millis] = {}  # when the newest change of an order started to leave
        self._releasing: dict[CommandId, tuple[bool, int, int]] = {}  # was it killed; after how many releases, kills
        self._releases = 0
        self._kills = 0
        self.held_at: dict[SessionId | None, Millis] = {}

    def sending(
        self, life: Life, account: AccountId, kind: str, request: SubmitRequest | None, about: BrokerOrderId | None
    ) -> None:
        """A request starts to leave."""
        self.sent += 1
        desk = self._run.desk_of(life)
        if desk is None:
            return
        scene = scenes.scene(self._run, desk, account, request.terms.symbol if request is not None else None)
        self._run.oracle.sending.any(scene, kind)
        if request is None:
            self._commanding_order(desk, kind, about, scene.clock)
            return
        session = _session(account, request)
        order = probe.order_of(desk, session, request.client_id)
        mind = probe.mind_of(desk, session)
        if order is None or mind is None:
            self._run.oracle.findings.check("I1 sent", False, f"{request.client_id} leaves and memory does not know it")
            return
        if desk.durable.files is not self._run.world.files:
            self._run.oracle.truth.overtaken.add(request.client_id)
        if self._says_unrecorded(desk, order.key):
            for leg in (request.client_id, *(leg.client_id for leg in request.legs)):
                self._run.oracle.truth.unrecorded[leg] = life.name
        heat = probe.heat(desk)
        self._run.oracle.requests.leaves(mind, heat, order, request)
        self._run.oracle.sending.submit(mind, order, scene)
        self._run.oracle.closing.submit(mind, order, scene)
        self._run.oracle.wishes.acts(order)
        self._run.oracle.weight.reckon(mind, desk.engine.portfolio.contribution(session), scene.clock)

    def _commanding_order(self, desk: Desk, kind: str, about: BrokerOrderId | None, clock: Millis) -> None:
        """A replace or cancel starts to leave: the order as memory has it now, and whether it has a record at all."""
        held = self._run.world.exchange.book.orders.get(about) if about is not None else None
        client_id = held.record.client_id if held is not None else None
        if held is None or client_id is None:
            return
        order = probe.order_of(desk, session_id(held.account, held.record.terms.symbol), client_id)
        if order is None:
            return
        self._run.oracle.truth.sent[client_id] = order
        self._commanded[client_id] = self._run.world.clock.now()
        self._run.oracle.requests.changes(order, kind)
        if kind == "replace":
            self._run.oracle.wishes.acts(order)
            if order.role is Role.STOP and order.wanted is not None and order.wanted.type is OrderType.MARKET:
                scene = scenes.scene(self._run, desk, held.account, held.record.terms.symbol)
                self._run.oracle.sending.converts(order, scene)
        if (mind := probe.mind_of(desk, order.session)) is not None:
            self._run.oracle.weight.reckon(mind, desk.engine.portfolio.contribution(order.session), clock)
            if kind == "replace" and order.role is Role.ENTRY:
                self._run.oracle.weight.moves(mind, order, clock)
            elif kind == "replace":
                self._run.oracle.closing.changes(mind, order)
        for each in ("cancel", "replace"):
            if self._says_unrecorded(desk, f"{order.session}/{each}:{client_id}:"):
                self._run.oracle.truth.unrecorded_commands.add(client_id)

    def _says_unrecorded(self, desk: Desk, key: str) -> bool:
        """The loudest alarm: database and journal both failed, and this very intent left all the same."""
        return any(alert.id.startswith(f"unrecorded:{key}") for alert in desk.engine.board.alerts())

    def submitting(self, life: Life, account: AccountId, request: SubmitRequest, left: Millis) -> None:
        """A submit arrives."""
        terms = request.terms
        if request.legs:
            self._run.world.hit("brackets")
        self._run.world.note(f"submit {request.client_id} {account} {terms.side} {terms.quantity} {terms.symbol}")
        desk = self._run.desk_of(life)
        mind = probe.mind_of(desk, _session(account, request)) if desk is not None else None
        self._run.oracle.exposure.travelled(account, request.client_id, left)
        self._run.oracle.requests.arrives(mind, account, request, None)
        self._arriving = request

    def replacing(self, life: Life, account: AccountId, broker_id: BrokerOrderId, terms: Terms, left: Millis) -> None:
        """A replace arrives."""
        order = self._run.world.exchange.book.orders.get(broker_id)
        if order is not None and order.record.client_id is not None:
            self._run.oracle.exposure.travelled(account, order.record.client_id, left)
            newest = self._commanded.get(order.record.client_id, left)
            if left >= newest:  # one from before a newer one wanted other sizes
                self._run.oracle.requests.resized(order, terms)
        self._run.world.note(f"replace {broker_id} {terms.quantity} {terms.type} {terms.limit} {terms.stop}")
        self._run.oracle.requests.commanded(account, broker_id, "replace")

    def has_changed(self, client_id: str) -> bool:
        """Whether a change or cancel of the order ever left."""
        return client_id in self._commanded

    def unanswered(self, life: Life, kind: str, about: BrokerOrderId, left: Millis) -> None:
        """A replace or cancel never arrived."""
        run, desk = self._run, self._run.desk_of(life)
        held = run.world.exchange.book.orders.get(about)
        if desk is None or not desk.is_up or life.paused or life.dead or held is None or held.record.client_id is None:
            return
        wire = desk.wires[held.account]
        asked = any(at >= left for at, name in wire.trouble.answered if "order" in name)
        asked = asked or wire.answered_at.get("open orders", 0) >= left + GIVEN_UP_MS
        order = probe.order_of(desk, session_id(held.account, held.record.terms.symbol), held.record.client_id)
        if order is not None and not asked and desk.steady_since < left and wire.up_since is not None:
            run.oracle.requests.unanswered(order, kind)

    def cancelling(self, life: Life, account: AccountId, broker_id: BrokerOrderId) -> None:
        """A cancel arrives."""
        self._run.world.note(f"cancel {broker_id}")
        self._run.oracle.requests.commanded(account, broker_id, "cancel")

    def answered(self, life: Life, account: AccountId, kind: str, answer: SubmitAnswer) -> None:
        """The exchange spoke."""
        self._run.world.hit(f"{kind} {'accepted' if isinstance(answer, AcceptedOrder) else 'refused'}")
        if kind == "submit":
            self._run.oracle.submitted(account, self._arriving, answer, isinstance(answer, AcceptedOrder))

    def commanding(self, life: Life, command: c.Command) -> None:
        """A command reaches the engine."""
        self._run.world.note(f"{command.origin.operator}: {type(command).__name__}")
        self._run.oracle.commanded[str(command.origin.id)] = self._run.world.loop.at
        requests = self._run.oracle.requests
        sessions = tuple(s.id for s in self._run.world.durable.sessions)
        match command:
            case c.Resume(session=session):
                some = sessions if session is None else (session,)
                self._run.oracle.released(some)
                requests.paused.difference_update(some)
            case c.ReleaseLatch(session=session):
                requests.paused.discard(session)
                self._run.oracle.wishes.lifted((session,))
            case c.SubmitByHand(session=session):
                day_faults.asked(self._run)
                if not command.is_exit:
                    self._run.oracle.released((session,))
            case c.AdoptOrder(session=session) | c.ForceExit(session=session):
                self._run.oracle.released((session,))
            case c.ReleaseKill():
                self._releasing[command.origin.id] = (requests.killed, self._releases, self._kills)
                requests.killed = False
            case c.Acknowledge(disagreement=id):
                self._run.oracle.sending.acknowledged.add(id)
            case _:
                pass

    def receipt(self, life: Life, command: c.Command, receipt: c.Receipt, raised: bool) -> None:
        """A command was taken, or not; `raised` by the limits of when it was given."""
        name = type(command).__name__
        self._run.world.hit(f"command {name}{'' if receipt.taken else ' refused'}")
        requests, audit = self._run.oracle.requests, self._run.oracle.audit
        desk = self._run.desk_of(life)
        if desk is None or desk is not self._run.desk or desk.engine.lost.done():
            return  # it only looks on, and says so or is about to
        if isinstance(command, c.Flatten | c.Kill | c.Pause) or (
            isinstance(command, c.SubmitByHand) and command.is_exit
        ):
            self._run.oracle.findings.check("I19", receipt.taken, f"{name} was refused: {receipt.message}")
        if isinstance(command, c.ReleaseKill):
            killed, before, kills = self._releasing.pop(command.origin.id, (False, -1, -1))
            if receipt.taken:
                self._releases += 1
                if kills == self._kills:
                    requests.killed = False  # another release, refused meanwhile, has said that it stays set
            elif killed and before == self._releases:
                self._run.oracle.findings.check("I33 refused", True, "")
                requests.killed = True  # what was said to stay set holds entries back
        if not receipt.taken:
            return
        id = str(command.origin.id)
        if raised:
            audit.raised(id, name)
        elif lowers(command):
            audit.lowered(id, name, life.name, self._run.world.clock.now())
        sessions = tuple(s.id for s in self._run.world.durable.sessions)
        match command:
            case c.Kill():
                requests.killed = True
                self._kills += 1
                self._hold(sessions)
                self.held_at[None] = self._run.world.clock.now()
            case c.Pause(session=session) | c.Flatten(session=session):
                held = sessions if session is None else (session,)
                if not (isinstance(command, c.Pause) and command.keep_resting):
                    self._hold(held)
                requests.paused.update(held)
                self.held_at.update(dict.fromkeys(held, self._run.world.clock.now()))
                if isinstance(command, c.Flatten):
                    day_faults.flattening(self._run, held)
            case c.AdoptOrder(order=order):
                self._run.oracle.truth.adopted.add(order)
            case _:
                pass

    def repeated(self, command: c.Command, receipt: c.Receipt, again: c.Receipt) -> None:
        """The same command came a second time: it acts once, and has one receipt."""
        same, name = again == receipt, type(command).__name__
        self._run.oracle.findings.check("I28 again", same, f"{name}: {receipt.message}, and then {again.message}")

    def stance(self, life: Life, notice: StanceNotice) -> None:
        """The portfolio told a trader of this life whether entries may go."""
        desk = self._run.desk_of(life)
        if desk is None or not isinstance(desk.engine.portfolio.heat(), CompleteHeat):
            return
        now = desk.clock.now() if desk.clock.now() == self._run.world.loop.at else None
        self._run.oracle.weight.stance(life.name, notice.stance, probe.heat(desk), now)

    def reserved(self, life: Life, order: ClientOrderId, money: Decimal) -> None:
        """The portfolio set heat aside for an order."""
        desk = self._run.desk_of(life)
        if desk is not None:
            self._run.oracle.weight.reserved(life.name, order, desk.clock.now(), money)

    def reported(self, life: Life, share: Contribution) -> None:
        """A trader declared its risk: looked at where the market stands beyond a stop of its, which covers nothing."""
        desk = self._run.desk_of(life)
        run = desk.engine.sessions.get(share.session) if desk is not None else None
        if desk is None or run is None or run.desk.mark is None or not run.desk.book.position.quantity:
            return
        book, mark = run.desk.book, run.desk.mark
        stops = (o.terms.stop for o in book.open() if o.role is Role.STOP and o.terms.stop is not None)
        if any((mark - stop) * book.position.quantity <= 0 for stop in stops):
            self._run.oracle.weight.reckon(probe.mind(desk, run), share, share.at)

    def _hold(self, sessions: tuple[SessionId, ...]) -> None:
        self._run.oracle.duties.held_since.update(dict.fromkeys(sessions, self._run.world.clock.now()))

"""Two operators: they act by hand, sometimes in the same instant, and give the verdicts that a desk waits for.

What an operator of flesh would look up at the broker (is that order really gone?), these look up in the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from engine import commands as c
from engine.domain.disagreements import Disagreement, DisagreementKind
from engine.domain.ids import BrokerOrderId, SessionId
from engine.domain.orders import Order, OrderState, OrderType, Side, Terms
from engine.session_run import SessionRun
from tests.simulation.streams import Stream

if TYPE_CHECKING:
    from tests.simulation.desk import Desk
    from tests.simulation.run import Run

NAMES = ("ann", "ben")
ACT_EVERY = 110.0
TIDY_EVERY = 20.0


class Operator:
    """One of them. `tidy` gives verdicts only; `act` does anything."""

    def __init__(self, run: Run, name: str, rng: Stream) -> None:
        self.name = name
        self._run = run
        self._rng = rng
        self._acts: tuple[tuple[float, Callable[[Desk, SessionRun], None]], ...] = (
            (3.0, self.enter),
            (2.0, self._exit),
            (2.5, self._modify),
            (1.5, self._cancel),
            (1.0, self._cancel_entries),
            (1.5, self._pause),
            (1.5, self._flatten),
            (0.5, self._flatten_all),
            (0.8, self._kill),
            (1.0, self._ask),
            (1.0, self._reconcile),
            (0.4, self._force),
            (0.3, self._limits),
        )

    def start(self) -> None:
        """Begin to work."""
        self._later(ACT_EVERY, self._act)
        self._later(TIDY_EVERY, self._tidy)

    def start_tidying(self) -> None:
        """Begin to give verdicts, and nothing else."""
        self._later(TIDY_EVERY, self._tidy)

    def _later(self, mean: float, work: Callable[[], None]) -> None:
        clock = self._run.world.clock
        clock.call_at(clock.now() + max(500, round(self._rng.uniform(0.4, 1.6) * mean * 1000)), work)

    def _send(self, desk: Desk, make: Callable[[c.Origin], c.Command]) -> None:
        desk.send(self.name, make)

    # -- by hand ------------------------------------------------------------------------------------------

    def _act(self) -> None:
        self._later(ACT_EVERY, self._act)
        run = self._run
        if run.is_quiet:
            return
        for desk in run.in_command():
            if desk.is_up:
                self._act_on(desk)
                if "two operators at once" in run.options.faults and self._rng.chance(0.5):
                    run.world.hit("two operators at once")
                    run.other(self)._act_on(desk)

    def _act_on(self, desk: Desk) -> None:
        session = self._rng.one_of(list(desk.engine.sessions.values()))
        roll = self._rng.random() * sum(weight for weight, _ in self._acts)
        for weight, act in self._acts:
            roll -= weight
            if roll < 0:
                act(desk, session)
                return

    def urgent(self, desk: Desk) -> None:
        """Something is wrong: stop, close or hold at once."""
        session = self._rng.one_of(list(desk.engine.sessions.values()))
        act = self._rng.one_of((self._kill, self._kill, self._pause, self._flatten, self._exit, self._cancel))
        act(desk, session)

    def close(self, desk: Desk) -> None:
        """Out of the first position that there is."""
        for session in desk.engine.sessions.values():
            if not session.desk.book.position.is_flat:
                self._exit(desk, session)
                return

    def enter(self, desk: Desk, session: SessionRun) -> None:
        """An entry by hand, with a stop; never against the position."""
        instrument, last = session.instrument, self._run.world.market.last(session.desk.book.symbol)
        held = session.desk.book.position.quantity
        side = (Side.BUY if held > 0 else Side.SELL) if held else self._rng.one_of((Side.BUY, Side.SELL))
        kind = self._rng.one_of((OrderType.MARKET, OrderType.LIMIT))
        at = last - side.sign * self._rng.randint(1, 6) * instrument.tick_size if kind is OrderType.LIMIT else last
        terms = Terms(
            symbol=instrument.symbol,
            side=side,
            quantity=Decimal(self._rng.randint(1, 3)),
            type=kind,
            limit=at if kind is OrderType.LIMIT else None,
        )
        stop = at - side.sign * self._rng.randint(8, 30) * instrument.tick_size
        self._send(
            desk,
            lambda o: c.SubmitByHand(
                origin=o, session=session.id, terms=terms, is_exit=False, stop_loss=stop, reason="by hand"
            ),
        )

    def _exit(self, desk: Desk, session: SessionRun) -> None:
        held = session.desk.book.position.quantity
        terms = Terms(
            symbol=session.desk.book.symbol,
            side=Side.SELL if held > 0 else Side.BUY,
            quantity=Decimal(self._rng.randint(1, 4)),
            type=OrderType.MARKET,
        )
        self._send(
            desk, lambda o: c.SubmitByHand(origin=o, session=session.id, terms=terms, is_exit=True, reason="out")
        )

    def _an_order(self, session: SessionRun) -> Order | None:
        orders = [o for o in session.desk.book.open() if o.is_open]
        return self._rng.one_of(orders) if orders else None

    def _modify(self, desk: Desk, session: SessionRun) -> None:
        order = self._an_order(session)
        if order is None:
            return
        by = self._rng.randint(-8, 8) * session.instrument.tick_size
        limit = None if order.terms.limit is None else order.terms.limit + by
        stop = None if order.terms.stop is None else order.terms.stop + by
        self._send(
            desk, lambda o: c.ModifyOrder(origin=o, order=order.client_id, limit=limit, stop=stop, reason="moves")
        )

    def _cancel(self, desk: Desk, session: SessionRun) -> None:
        order = self._an_order(session)
        if order is not None:
            self._send(desk, lambda o: c.CancelOrder(origin=o, order=order.client_id))

    def _cancel_entries(self, desk: Desk, session: SessionRun) -> None:
        self._send(desk, lambda o: c.CancelEntries(origin=o, session=session.id))

    def _pause(self, desk: Desk, session: SessionRun) -> None:
        keep = self._rng.chance(0.4)
        self._send(desk, lambda o: c.Pause(origin=o, session=session.id, keep_resting=keep))

    def _flatten(self, desk: Desk, session: SessionRun) -> None:
        self._send(desk, lambda o: c.Flatten(origin=o, session=session.id))

    def _flatten_all(self, desk: Desk, session: SessionRun) -> None:
        self._send(desk, lambda o: c.Flatten(origin=o, session=None))

    def _kill(self, desk: Desk, session: SessionRun) -> None:
        flatten = self._rng.chance(0.3)
        self._send(desk, lambda o: c.Kill(origin=o, flatten=flatten))

    def _ask(self, desk: Desk, session: SessionRun) -> None:
        doubtful = [o for o in session.desk.book.open() if o.is_in_doubt]
        if doubtful:
            self._send(desk, lambda o: c.AskNow(origin=o, order=doubtful[0].client_id))

    def _reconcile(self, desk: Desk, session: SessionRun) -> None:
        self._send(desk, lambda o: c.ReconcileNow(origin=o))

    def _force(self, desk: Desk, session: SessionRun) -> None:
        if any(o.is_in_doubt and not o.is_entry for o in session.desk.book.open()):
            self._run.oracle.forced(session.id)
            self._send(desk, lambda o: c.ForceExit(origin=o, session=session.id, word="REVERSE"))

    def _limits(self, desk: Desk, session: SessionRun) -> None:
        block = Decimal(self._rng.randint(70, 90))
        if "tight heat" in self._run.options.faults:
            block /= 10_000
        self._send(desk, lambda o: c.ChangeHeatLimits(origin=o, block=block, reason="as agreed"))

    # -- verdicts -----------------------------------------------------------------------------------------

    def _tidy(self) -> None:
        self._later(TIDY_EVERY, self._tidy)
        for desk in self._run.in_command():
            if desk.is_up:
                self.verdicts(desk)

    def verdicts(self, desk: Desk) -> None:
        """Everything that waits for a hand, and that a hand can settle by looking."""
        engine = desk.engine
        if engine.kill_reason is not None and self._rng.chance(0.4):
            self._send(desk, lambda o: c.ReleaseKill(origin=o, word="RELEASE", reason="it is over"))
        for account in engine.accounts.values():
            for item in account.ledger.all():
                if item.blocks_entries:
                    self._judge(desk, item)
        for session in engine.sessions.values():
            self._look_after(desk, session)

    def _judge(self, desk: Desk, item: Disagreement) -> None:
        if item.kind is DisagreementKind.UNKNOWN_ORDER and item.is_open:
            roll = self._rng.random()
            order = item.order
            if order is None:
                return
            if item.memory.startswith("perhaps"):
                self._tell_apart(desk, item, order)
                return
            if roll < 0.3 and item.session is not None:
                session = item.session
                self._run.oracle.claimed(order)
                self._send(desk, lambda o: c.AdoptOrder(origin=o, order=order, session=session, reason="mine"))
            elif roll < 0.6:
                self._run.oracle.claimed(order)
                self._send(desk, lambda o: c.CancelForeign(origin=o, account=item.account, order=order))
            else:
                self._send(desk, lambda o: c.IgnoreForeign(origin=o, disagreement=item.id, reason="theirs"))
            return
        if item.acknowledged_by is None:
            self._send(desk, lambda o: c.Acknowledge(origin=o, disagreement=item.id))

    def _tell_apart(self, desk: Desk, item: Disagreement, order: BrokerOrderId) -> None:
        """One of several that look like an order in doubt: whose it is stands on the broker's own screen.

        What has ended meanwhile cannot be adopted any more.
        """
        session, held = item.session, self._run.world.exchange.book.orders[order]
        if session is not None and held.is_open and held.record.client_id is not None:
            self._run.oracle.claimed(order)
            self._send(desk, lambda o: c.AdoptOrder(origin=o, order=order, session=session, reason="it is that one"))
        else:
            self._send(desk, lambda o: c.IgnoreForeign(origin=o, disagreement=item.id, reason="theirs"))

    def _look_after(self, desk: Desk, session: SessionRun) -> None:
        run, id = self._run, session.id
        blocks = session.desk.blocks
        for order in session.desk.book.open():
            if order.state is OrderState.LOST and run.oracle.never_arrives(order.client_id):
                self._declare_dead(desk, order)
        for latch in ("size", "strategy", "external close"):
            if f"latch:{latch}" in blocks:
                self._release(desk, id, latch)
        if ("pause" in blocks or any(r.endswith("failed") for r in blocks.reasons())) and self._rng.chance(0.35):
            self._send(desk, lambda o: c.Resume(origin=o, session=id, reason="on we go"))

    def _declare_dead(self, desk: Desk, order: Order) -> None:
        self._send(desk, lambda o: c.DeclareDead(origin=o, order=order.client_id, word="DEAD", reason="it never came"))

    def _release(self, desk: Desk, session: SessionId, latch: str) -> None:
        self._send(desk, lambda o: c.ReleaseLatch(origin=o, session=session, latch=latch, reason="looked at"))

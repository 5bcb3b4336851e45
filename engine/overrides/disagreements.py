"""Overrides of disagreements: acknowledge, adopt, ignore, cancel what is not ours, reconcile now."""

from __future__ import annotations

from msgspec.structs import replace as changed

from engine import commands as c
from engine.desk_account import DeskAccount
from engine.domain import order_doubt
from engine.domain.broker import AcceptedOrder, BrokerFill, BrokerOrder, FillsKind
from engine.domain.disagreements import Disagreement, DisagreementKind, DisagreementState
from engine.domain.ids import DecisionKey
from engine.domain.orders import ZERO, Flag, Order, OrderState, OrderType, Role
from engine.domain.records import FillBooked
from engine.overrides.base import OverrideBase, Refusal, told
from engine.session_run import SessionRun

LOOK_BACK_MS = 5_000


def perhaps(run: SessionRun, record: BrokerOrder) -> Order | None:
    """The order in doubt of which this is one of several candidates."""
    orders = (o for o in run.desk.book.open() if o.broker_id is None and o.doubt is not None)
    return next((o for o in orders if o.doubt is not None and record.broker_id in o.doubt.candidates), None)


def whole_fill(record: BrokerOrder) -> BrokerFill:
    """What an order filled before it was ours, where no executions tell: once its id changes nothing else would."""
    terms = record.terms
    return BrokerFill(
        execution_id=f"{record.broker_id}:0-{record.filled}",
        broker_id=record.broker_id,
        client_id=record.client_id,
        symbol=terms.symbol,
        side=terms.side,
        quantity=record.filled,
        price=record.average_price or terms.limit or terms.stop or ZERO,
        at=record.updated,
        cumulative=record.filled,
    )


class DisagreementOverrides(OverrideBase):
    """What an operator says about things that memory, database and broker tell differently."""

    def _disagreement(self, id: str) -> tuple[DeskAccount, Disagreement]:
        for account in self._engine.accounts.values():
            found = account.ledger.get(id)
            if found is not None:
                return account, found
        raise Refusal(f"there is no disagreement {id}")

    def _acknowledge(self, command: c.Acknowledge) -> str:
        account, found = self._disagreement(command.disagreement)
        if found.kind is DisagreementKind.UNKNOWN_ORDER and found.is_open:
            raise Refusal("an order that is not ours is adopted, ignored or cancelled, not acknowledged")
        account.ledger.acknowledge(found.id, command.origin.operator, command.note, self._engine.clock.now())
        self._note(command.origin, f"acknowledge {found.kind}", found.session, command.note)
        self._engine.board.acknowledge(f"adopted:{found.id}")
        self._engine.board.clear(f"adopted:{found.id}")
        for run in self._engine.sessions.values():
            run.trader.read_disagreements()
        return "acknowledged"

    async def _ignore(self, command: c.IgnoreForeign) -> str:
        account, found = self._disagreement(command.disagreement)
        if found.kind not in (DisagreementKind.UNKNOWN_ORDER, DisagreementKind.UNKNOWN_POSITION):
            raise Refusal("only what is not ours can be ignored")
        await self._committed(command.origin, f"ignore {found.kind}", found.session, command.reason)
        now = self._engine.clock.now()
        account.ledger.put(
            changed(
                found,
                state=DisagreementState.IGNORED,
                acknowledged_by=command.origin.operator,
                acknowledged_at=now,
                note=command.reason,
                blocks_entries=False,
                updated=now,
            )
        )
        for run in self._engine.sessions.values():  # one candidate less for an order in doubt
            for order in run.desk.book.open():
                if order.doubt is not None and found.order in order.doubt.candidates:
                    run.desk.put(order_doubt.ask_soon(order, now), "ask soon", found.id)
        return "left alone; it still counts in heat"

    async def _adopt(self, command: c.AdoptOrder) -> str:
        run, engine = self._run(command.session), self._engine
        holds = run.holds, engine.kills
        account = self._account_of(run)
        report = await account.link.open_orders()
        record = next((r for r in report.rows if r.broker_id == command.order), None) if report is not None else None
        if record is None:
            raise Refusal(f"the broker does not show an open order {command.order} now")
        if record.terms.symbol != run.desk.book.symbol:
            raise Refusal(f"{command.session} trades {run.desk.book.symbol}, not {record.terms.symbol}")
        counted, fills = await self._executed(run, account, record)
        await self._committed(command.origin, f"adopt {command.order}", command.session, command.reason)
        now = engine.clock.now()
        if (known := run.desk.book.by_broker_id(record.broker_id)) is not None:
            raise Refusal(f"{record.broker_id} is {known.client_id} already")
        if (doubtful := perhaps(run, record)) is not None:
            return self._tell_apart(run, account, doubtful, record, fills if counted else (), counted)
        closes = run.desk.book.position.quantity * record.terms.side.sign < 0
        stop_like = record.terms.type in (OrderType.STOP, OrderType.STOP_LIMIT)
        role = (Role.STOP if stop_like else Role.TARGET) if closes else Role.ENTRY
        if role is Role.ENTRY and holds != (run.holds, engine.kills):  # what they cancelled could not include it yet
            raise Refusal("somebody paused, flattened or killed meanwhile; adopt the entry again if that is meant")
        key = DecisionKey(f"{run.id}/adopted:{record.broker_id}/{role}/1")
        filled = record.filled if counted else ZERO
        adopted = run.desk.put(
            Order(
                client_id=run.desk.client_id(key),
                key=key,
                session=run.id,
                account=account.id,
                role=role,
                terms=record.terms,
                state=OrderState.PARTIALLY_FILLED if filled else OrderState.WORKING,
                created=record.submitted or now,
                updated=now,
                broker_id=record.broker_id,
                filled=filled,
                average_price=record.average_price if counted else None,
                reported=record.filled,
                epoch=account.lease.epoch,
                flags=frozenset({Flag.EXTERNAL}),
                reason=command.reason,
            ),
            "adopted",
        )
        self._now_ours(run, account, adopted, fills if counted else (), f"adopted by {run.id}")
        return f"{command.order} is now an order of {run.id}"

    def _now_ours(
        self, run: SessionRun, account: DeskAccount, order: Order, fills: tuple[BrokerFill, ...], done: str
    ) -> None:
        now = self._engine.clock.now()
        for execution in fills:
            fill = run.desk.book.account_for(order, execution)
            run.desk.record(FillBooked(fill=fill, order=order, position=run.desk.book.position, at=now))
        assert order.broker_id is not None
        account.reconciler.forget_foreign(order.broker_id)
        account.ledger.settle(f"foreign:{order.broker_id}", DisagreementState.EXPLAINED, done, now)
        self._reconcile_all()

    def _tell_apart(
        self,
        run: SessionRun,
        account: DeskAccount,
        doubtful: Order,
        record: BrokerOrder,
        fills: tuple[BrokerFill, ...],
        counted: bool,
    ) -> str:
        """The operator has looked: of several orders that look like one in doubt, this is it."""
        now = self._engine.clock.now()
        known = order_doubt.told_apart(doubtful, now, record, counted=counted)
        ours = run.desk.put(known, "told apart by hand", record.broker_id)
        self._now_ours(run, account, ours, fills, f"it is {ours.client_id}")
        return f"{record.broker_id} is {ours.client_id}"

    async def _executed(
        self, run: SessionRun, account: DeskAccount, record: BrokerOrder
    ) -> tuple[bool, tuple[BrokerFill, ...]]:
        """Whether the position we believe in has what the order filled so far, and its executions."""
        if not record.filled:
            return False, ()
        position = await run.desk.road.fresh_position(record.terms.symbol, run.desk.numbers.query_timeout)
        report = await account.link.fills_since(record.submitted - LOOK_BACK_MS)
        if position is None or report is None:
            raise Refusal("it has filled in part, and the broker does not tell now what that did; try again")
        fills = tuple(fill for fill in report.rows if fill.broker_id == record.broker_id)
        newest = {fill.execution_id: fill.quantity for fill in sorted(fills, key=lambda f: f.revision)}
        if account.link.capabilities.fills is FillsKind.CUMULATIVE:
            fills = (whole_fill(record),)
        elif sum(newest.values(), ZERO) != record.filled:
            # what filled in between would count as known, and as still to be told: the order would never end
            raise Refusal("it is filling just now: the broker's list and its executions differ; try again")
        return position.quantity == run.desk.book.position.quantity, fills

    def _cancel_foreign(self, command: c.CancelForeign) -> str:
        account = self._engine.accounts.get(command.account)
        if account is None:
            raise Refusal(f"there is no account {command.account}")
        self._note(command.origin, f"cancel foreign {command.order}")
        self._start(self._cancel_foreign_order(account, command), "cancel foreign order", command.origin.id)
        return "cancel is on its way"

    async def _cancel_foreign_order(self, account: DeskAccount, command: c.CancelForeign) -> None:
        self._engine.board.begin(command.origin.id, f"Cancel foreign order {command.order}", None)
        answer = await account.cancel_foreign(command.order)
        self._engine.board.end(command.origin.id, isinstance(answer, AcceptedOrder), told(answer))
        account.reconciler.suspect("a foreign order was cancelled by hand", orders=True)

    def _reconcile(self, command: c.ReconcileNow) -> str:
        self._reconcile_all()
        return "asking for positions and orders now"

    def _reconcile_all(self) -> None:
        for account in self._engine.accounts.values():
            account.reconciler.suspect("by hand", orders=True)

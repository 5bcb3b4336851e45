"""An entry and its legs as the broker's records tell of them: whose a row is that two orders of ours look like."""

from __future__ import annotations

from engine.domain.broker import BrokerStatus
from engine.domain.families import named_by_leg, named_by_others
from engine.domain.ids import BrokerOrderId, ClientOrderId
from engine.domain.orders import OrderState, OrderType, Role, Side
from tests.unit.engine.samples import order, report, terms


def test_what_the_broker_calls_the_parent_of_a_leg_is_that_legs_entry_and_no_exit_that_looks_like_it() -> None:
    """Taken for the exit, the entry's fill would close in memory what it opened at the broker."""
    sell, entry_id = terms(2, type=OrderType.MARKET, side=Side.SELL), BrokerOrderId("B-entry")
    entry = order("entry", OrderState.IN_DOUBT_SUBMIT, of=sell)
    exit_ = order("exit", OrderState.IN_DOUBT_SUBMIT, role=Role.EXIT, of=sell)
    stop = terms(2, type=OrderType.STOP, side=Side.BUY)
    leg = order("leg", OrderState.FILLED, role=Role.STOP, of=stop, parent=ClientOrderId("entry"), filled=2)
    rows = (
        report(entry, BrokerStatus.FILLED, 2, client_id=None),
        report(leg, BrokerStatus.FILLED, 2, client_id=None, parent=entry_id),
    )
    ours = (entry, exit_, leg)
    assert named_by_leg(entry, ours, rows) == rows[0]
    assert named_by_others(exit_, ours, rows) == {entry_id}
    assert named_by_others(entry, ours, rows) == frozenset()

"""Ids, cancels, replaces and brackets at the paper exchange."""

from __future__ import annotations

from decimal import Decimal

import pytest

from brokers.paper.options import AccountTerms, ExchangeOptions
from engine.domain.broker import (
    AcceptedOrder,
    BrokerStatus,
    Capabilities,
    Enforcer,
    FillReported,
    FillsKind,
    IdMode,
    OrderReported,
    RefusedOrder,
    ReplaceId,
    ReplaceQuantity,
)
from engine.domain.ids import BrokerOrderId, ClientOrderId
from engine.domain.orders import Side, Terms, TimeInForce
from tests.unit.brokers.paper_desk import ACCOUNT, Box, terms, values

PARTS = ExchangeOptions(slippage_ticks=0, max_fill=Decimal(2))
STOP, TARGET = terms(Side.SELL, 5, stop=95), terms(Side.SELL, 5, limit=110)


def manners(**fields: object) -> AccountTerms:
    return AccountTerms(account=ACCOUNT, capabilities=Capabilities(**fields))  # type: ignore[arg-type]


def change(box: Box, broker_id: BrokerOrderId, new: Terms, client_id: str = "next") -> AcceptedOrder | RefusedOrder:
    return box.exchange.replace(ACCOUNT, broker_id, ClientOrderId(client_id), new, box.now)


# ------------------------------------------------------------------------------------------------------ ids


def test_an_enforced_client_id_is_taken_once_even_after_its_order_ended() -> None:
    box = Box()
    box.tick(100)
    box.accepted(terms(), client_id="same")
    assert box.refused(terms(), client_id="same").reason == "duplicate client id"
    assert box.position == 1


def test_a_tag_is_only_echoed() -> None:
    box = Box(manners(id_mode=IdMode.TAG))
    box.tick(100)
    box.accepted(terms(), client_id="same")
    box.accepted(terms(), client_id="same")
    assert box.position == 2
    assert len(box.exchange.orders_of(ACCOUNT, ClientOrderId("same"))) == 2


def test_without_ids_nothing_is_echoed_anywhere() -> None:
    box = Box(manners(id_mode=IdMode.NONE))
    box.tick(100)
    box.accepted(terms(), client_id="same")
    seen = [event.order.client_id for event in box.events if isinstance(event, OrderReported)]
    seen += [event.fill.client_id for event in box.events if isinstance(event, FillReported)]
    seen += [row.client_id for row in box.exchange.orders_since(ACCOUNT, 0)]
    seen += [row.client_id for row in box.exchange.fills_since(ACCOUNT, 0)]
    assert len(seen) >= 4
    assert set(seen) == {None}


def test_cumulative_accounts_stream_records_and_no_executions() -> None:
    box = Box(manners(fills=FillsKind.CUMULATIVE), PARTS)
    box.tick(100)
    answer = box.accepted(terms(quantity=3))
    box.tick(101)
    assert not box.fills()
    assert [report.filled for report in box.reports(answer.broker_id)] == [0, 2, 3]


# -------------------------------------------------------------------------------------------------- cancels


def test_a_cancel_ends_the_order_and_a_second_one_says_it_is_not_open() -> None:
    box = Box()
    box.tick(100)
    answer = box.accepted(terms(limit=90))
    assert box.exchange.cancel(ACCOUNT, answer.broker_id, box.now) == AcceptedOrder(answer.broker_id)
    box.tick(80)
    assert box.position == 0
    again = box.exchange.cancel(ACCOUNT, answer.broker_id, box.now)
    unknown = box.exchange.cancel(ACCOUNT, BrokerOrderId("P9999999"), box.now)
    assert isinstance(again, RefusedOrder)
    assert isinstance(unknown, RefusedOrder)
    assert again.not_open
    assert unknown.not_open


# ------------------------------------------------------------------------------------------------- replaces


def test_a_replace_that_keeps_the_id_counts_the_total() -> None:
    box = Box(options=PARTS)
    box.tick(100)
    answer = box.accepted(terms(quantity=5, limit=100))
    assert change(box, answer.broker_id, terms(quantity=4, limit=99)) == AcceptedOrder(answer.broker_id)
    record = box.order(answer.broker_id)
    assert values(record.terms.quantity, record.filled, record.terms.limit) == (4, 2, 99)
    box.tick(98)
    assert box.position == 4
    assert box.order(answer.broker_id).status is BrokerStatus.FILLED


def test_a_replace_may_count_what_remains() -> None:
    box = Box(manners(replace_quantity=ReplaceQuantity.REMAINING), PARTS)
    box.tick(100)
    answer = box.accepted(terms(quantity=5, limit=100))
    change(box, answer.broker_id, terms(quantity=1, limit=99))
    box.tick(98)
    assert box.position == 3


def test_a_replace_that_changes_the_id_leaves_a_successor_with_what_remains() -> None:
    box = Box(manners(replace_id=ReplaceId.CHANGES), PARTS)
    box.tick(100)
    old = box.accepted(terms(quantity=5, limit=100), client_id="old")
    new = change(box, old.broker_id, terms(quantity=5, limit=99), "new")
    assert isinstance(new, AcceptedOrder)
    assert new.broker_id != old.broker_id
    before, after = box.order(old.broker_id), box.order(new.broker_id)
    assert values(before.status, before.filled) == (BrokerStatus.CANCELLED, 2)
    assert values(after.terms.quantity, after.replaces, after.client_id) == (3, old.broker_id, "new")
    box.tick(98)
    box.tick(98)
    assert box.position == 5


def test_a_successor_may_keep_its_own_client_id_and_is_then_the_one_that_is_found() -> None:
    box = Box(manners(replace_id=ReplaceId.CHANGES))
    old = box.accepted(terms(limit=90), client_id="mine")
    new = change(box, old.broker_id, terms(limit=91), "mine")
    assert isinstance(new, AcceptedOrder)
    assert [row.broker_id for row in box.exchange.orders_of(ACCOUNT, ClientOrderId("mine"))] == [new.broker_id]


def test_a_successor_must_not_take_another_orders_client_id() -> None:
    box = Box(manners(replace_id=ReplaceId.CHANGES))
    box.accepted(terms(limit=90), client_id="other")
    old = box.accepted(terms(limit=90), client_id="old")
    answer = change(box, old.broker_id, terms(limit=91), "other")
    assert isinstance(answer, RefusedOrder)
    assert box.order(old.broker_id).status is BrokerStatus.WORKING


def test_a_stop_can_be_turned_into_a_market_order_only_where_the_broker_can() -> None:
    box = Box()
    box.tick(100)
    stop = box.accepted(terms(Side.SELL, stop=95))
    assert isinstance(change(box, stop.broker_id, terms(Side.SELL)), AcceptedOrder)
    assert box.position == -1
    stubborn = Box(manners(replace_may_change_type=False))
    stubborn.tick(100)
    stop = stubborn.accepted(terms(Side.SELL, stop=95))
    assert isinstance(change(stubborn, stop.broker_id, terms(Side.SELL)), RefusedOrder)
    assert stubborn.position == 0


@pytest.mark.parametrize(
    "new", [terms(Side.SELL, 5, limit=99), terms(quantity=2, limit=99), terms(quantity=5, limit="99.1")]
)
def test_a_replace_keeps_the_side_cannot_undo_fills_and_stays_on_the_grid(new: Terms) -> None:
    box = Box(options=PARTS)
    box.tick(100)
    answer = box.accepted(terms(quantity=5, limit=100))
    assert isinstance(change(box, answer.broker_id, new), RefusedOrder)
    assert box.order(answer.broker_id).terms == terms(quantity=5, limit=100)


def test_an_order_replaced_into_a_day_order_lives_for_that_day() -> None:
    box = Box()
    answer = box.accepted(terms(limit=90))
    box.now += 2 * 86_400_000
    change(box, answer.broker_id, terms(limit=90, tif=TimeInForce.DAY))
    box.exchange.advance(box.now + 60_000)
    assert box.order(answer.broker_id).status is BrokerStatus.WORKING
    box.exchange.advance(box.now + 86_400_000)
    assert box.order(answer.broker_id).status is BrokerStatus.EXPIRED


# ------------------------------------------------------------------------------------------------- brackets


def test_legs_wait_for_their_entry_and_grow_with_its_fills() -> None:
    box = Box(options=PARTS)
    answer = box.accepted(terms(quantity=5), STOP, TARGET)
    stop, target = (leg for _, leg in answer.legs)
    assert [box.order(leg).status for leg in (stop, target)] == [BrokerStatus.HELD] * 2
    assert box.order(stop).parent == answer.broker_id
    sizes: list[object] = []
    for _ in range(3):
        box.tick(100)
        sizes.append((box.order(stop).terms.quantity, box.order(target).terms.quantity))
    assert sizes == [(2, 2), (4, 4), (5, 5)]
    assert box.order(stop).status is BrokerStatus.WORKING


def test_one_leg_takes_its_fills_off_the_other() -> None:
    box = Box(options=PARTS)
    box.tick(100)
    answer = box.accepted(terms(quantity=5), STOP, TARGET)
    box.tick(100)
    box.tick(100)
    stop, target = (leg for _, leg in answer.legs)
    box.tick(110)
    assert values(box.order(target).filled, box.order(stop).terms.quantity) == (2, 3)
    box.tick(94)
    box.tick(94)
    assert box.order(stop).status is BrokerStatus.FILLED
    assert box.order(target).status is BrokerStatus.CANCELLED
    assert box.position == 0


def test_an_exit_ends_what_is_left_of_the_entry() -> None:
    box = Box(options=PARTS)
    box.tick(100)
    answer = box.accepted(terms(quantity=5, limit=100), STOP, TARGET)
    box.tick(112)  # the entry rests at 100, its target takes the profit on what had filled
    assert box.order(answer.broker_id).status is BrokerStatus.CANCELLED
    box.tick(100)
    assert box.position == 0


def test_legs_of_an_unfilled_entry_go_with_it() -> None:
    box = Box()
    box.tick(100)
    answer = box.accepted(terms(limit=90), STOP, TARGET)
    box.exchange.cancel(ACCOUNT, answer.broker_id, box.now)
    assert [box.order(leg).status for _, leg in answer.legs] == [BrokerStatus.CANCELLED] * 2
    assert not box.exchange.open_orders(ACCOUNT)


def test_a_stop_leg_that_is_already_through_closes_at_once() -> None:
    box = Box()
    box.tick(94)
    box.accepted(terms(limit=100), terms(Side.SELL, stop=95))
    assert [fill.side for fill in box.fills()] == [Side.BUY, Side.SELL]
    assert box.position == 0


def test_legs_follow_an_entry_whose_id_changes() -> None:
    box = Box(manners(replace_id=ReplaceId.CHANGES))
    box.tick(100)
    old = box.accepted(terms(limit=90), terms(Side.SELL, stop=80))
    new = change(box, old.broker_id, terms(limit=95), "n1")
    assert isinstance(new, AcceptedOrder)
    ((_, stop),) = old.legs
    assert box.order(stop).parent == new.broker_id
    box.tick(95)
    moved = change(box, stop, terms(Side.SELL, stop=85), "n2")
    assert isinstance(moved, AcceptedOrder)
    box.tick(84)
    assert box.order(moved.broker_id).status is BrokerStatus.FILLED
    assert box.position == 0


def test_where_the_broker_links_nothing_both_legs_stand_alone() -> None:
    box = Box(manners(one_cancels_other=Enforcer.OURS))
    box.tick(100)
    answer = box.accepted(terms(), terms(Side.SELL, stop=95), terms(Side.SELL, limit=110))
    box.tick(110)
    assert box.order(answer.legs[0][1]).status is BrokerStatus.WORKING


def test_brackets_are_refused_where_the_broker_has_none() -> None:
    box = Box(manners(brackets=False))
    assert "brackets" in box.refused(terms(), STOP).reason
    wrong_way = terms(Side.BUY, stop=105)
    assert "leg" in Box().refused(terms(), wrong_way).reason

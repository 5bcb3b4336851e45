"""What fills, when, and at which price."""

from __future__ import annotations

from decimal import Decimal

import pytest

from brokers.paper.options import AccountTerms, ExchangeOptions
from engine.domain.broker import AcceptedOrder, BrokerStatus, RefusedOrder
from engine.domain.calendar import Calendar
from engine.domain.ids import ClientOrderId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import Side, TimeInForce
from tests.unit.brokers.paper_desk import ACCOUNT, ES, SYMBOL, Box, terms, values


def test_a_market_order_fills_on_arrival_at_the_last_price_plus_slippage() -> None:
    box = Box(options=ExchangeOptions(slippage_ticks=2))
    box.tick(100)
    box.accepted(terms())
    box.accepted(terms(Side.SELL))
    assert [fill.price for fill in box.fills()] == [Decimal("100.5"), Decimal("99.5")]


def test_without_a_price_a_market_order_waits_for_the_first_trade() -> None:
    box = Box()
    answer = box.accepted(terms())
    assert not box.fills()
    box.tick(101)
    assert box.order(answer.broker_id).status is BrokerStatus.FILLED
    assert box.order(answer.broker_id).average_price == 101


def test_a_resting_limit_fills_at_its_price_when_the_market_trades_there() -> None:
    box = Box()
    box.tick(100)
    answer = box.accepted(terms(limit="99.50"))
    box.tick("99.75")
    assert box.order(answer.broker_id).status is BrokerStatus.WORKING
    box.tick("99.00")
    assert box.fills()[0].price == Decimal("99.50")


def test_a_marketable_limit_gets_the_better_market() -> None:
    box = Box(options=ExchangeOptions(slippage_ticks=3))
    box.tick(100)
    box.accepted(terms(limit=105))
    assert box.fills()[0].price == 100


@pytest.mark.parametrize(("side", "stop", "through"), [(Side.SELL, 99, 98), (Side.BUY, 101, 102)])
def test_a_stop_turns_into_a_market_order(side: Side, stop: int, through: int) -> None:
    box = Box(options=ExchangeOptions(slippage_ticks=1))
    box.tick(100)
    answer = box.accepted(terms(side, stop=stop))
    assert box.order(answer.broker_id).status is BrokerStatus.WORKING
    box.tick(through)
    assert box.fills()[0].price == through + side.sign * Decimal("0.25")


def test_a_stop_whose_price_is_already_through_triggers_on_arrival() -> None:
    box = Box()
    box.tick(100)
    box.accepted(terms(Side.SELL, stop=100))
    assert box.position == -1


def test_a_stop_limit_waits_for_its_limit_once_triggered() -> None:
    box = Box()
    box.tick(100)
    answer = box.accepted(terms(stop=101, limit="101.25"))
    box.tick(102)
    assert box.order(answer.broker_id).status is BrokerStatus.WORKING
    box.tick(100)  # below the stop again: it has been hit all the same
    assert box.fills()[0].price == Decimal("101.25")


def test_large_orders_fill_over_several_ticks() -> None:
    box = Box(options=ExchangeOptions(slippage_ticks=0, max_fill=Decimal(2)))
    box.tick(100)
    answer = box.accepted(terms(quantity=5))
    assert box.order(answer.broker_id).status is BrokerStatus.PARTIALLY_FILLED
    box.tick(101)
    box.tick(102)
    done = box.order(answer.broker_id)
    assert values(done.status, done.filled) == (BrokerStatus.FILLED, 5)
    assert done.average_price == Decimal(100 * 2 + 101 * 2 + 102) / 5
    assert [fill.cumulative for fill in box.fills()] == [2, 4, 5]


def test_immediate_or_cancel_keeps_what_filled_and_cancels_the_rest() -> None:
    box = Box(options=ExchangeOptions(slippage_ticks=0, max_fill=Decimal(2)))
    box.tick(100)
    answer = box.accepted(terms(quantity=5, limit=100, tif=TimeInForce.IOC))
    record = box.order(answer.broker_id)
    assert values(record.status, record.filled) == (BrokerStatus.CANCELLED, 2)
    box.tick(99)
    assert box.position == 2


def test_day_orders_expire_when_the_trade_date_changes_and_gtc_ones_stay() -> None:
    chicago = Calendar(name="CME", zone="America/Chicago", day_rolls_at=17 * 60)
    box = Box(instrument=Instrument(symbol=SYMBOL, tick_size=Decimal("0.25"), calendar=chicago))
    box.now = 1_790_027_940_000
    assert chicago.local(box.now).strftime("%H:%M") == "16:59"
    box.tick(100)
    day = box.accepted(terms(limit=90, tif=TimeInForce.DAY))
    kept = box.accepted(terms(limit=90))
    box.exchange.advance(box.now + 30_000)
    assert box.order(day.broker_id).status is BrokerStatus.WORKING
    box.exchange.advance(box.now + 61_000)  # 17:00: another trade date, without any tick
    assert box.order(day.broker_id).status is BrokerStatus.EXPIRED
    assert box.order(kept.broker_id).status is BrokerStatus.WORKING
    assert box.reports(day.broker_id)[-1].status is BrokerStatus.EXPIRED


def test_out_of_hours_orders_are_refused_and_nothing_matches() -> None:
    mondays = Calendar(open_minutes=((0, 1440),))
    box = Box(instrument=Instrument(symbol=SYMBOL, tick_size=Decimal("0.25"), calendar=mondays))
    monday = 1_789_948_800_000
    assert mondays.is_open(monday)
    box.now = monday
    box.tick(100)
    resting = box.accepted(terms(limit=99))
    box.now = monday + 86_400_000
    assert "closed" in box.refused(terms()).reason
    box.tick(98)
    assert box.order(resting.broker_id).status is BrokerStatus.WORKING


@pytest.mark.parametrize(
    ("order", "word"),
    [
        (terms(limit="100.10"), "grid"),
        (terms(stop="100.10"), "grid"),
        (terms(quantity=0), "size"),
        (terms(quantity=-1), "size"),
        (terms(quantity="0.5"), "multiple"),
        (terms(limit=-5), "above zero"),
        (terms(symbol=Symbol("NOPE")), "unknown symbol"),
    ],
)
def test_impossible_terms_are_refused_with_a_reason_and_leave_a_rejected_record(order: object, word: str) -> None:
    box = Box()
    box.tick(100)
    assert word in box.refused(order).reason  # type: ignore[arg-type]
    (record,) = box.exchange.orders_since(ACCOUNT, 0)
    assert record.status is BrokerStatus.REJECTED
    assert word in record.reason


def test_margin_refuses_what_raises_the_position_and_never_what_reduces_it() -> None:
    account = AccountTerms(account=ACCOUNT, equity=Decimal(10_000), margin_per_unit={SYMBOL: Decimal(4_000)})
    box = Box(account)
    box.tick(100)
    assert "margin" in box.refused(terms(quantity=3)).reason
    box.accepted(terms(quantity=2))
    assert "margin" in box.refused(terms()).reason
    box.tick(1)  # the account is ruined: 2 x 99 points x 50
    assert box.exchange.balance(ACCOUNT).equity < 4_000
    box.accepted(terms(Side.SELL, quantity=2))
    assert box.position == 0


def test_working_entries_hold_margin_too() -> None:
    account = AccountTerms(account=ACCOUNT, equity=Decimal(10_000), margin_per_unit={SYMBOL: Decimal(4_000)})
    box = Box(account)
    box.tick(100)
    first = box.accepted(terms(quantity=2, limit=90))
    assert "margin" in box.refused(terms(limit=91)).reason
    box.exchange.cancel(ACCOUNT, first.broker_id, box.now)
    box.accepted(terms(limit=91))


def test_legs_hold_no_margin_and_a_replace_is_measured_without_its_old_self() -> None:
    account = AccountTerms(account=ACCOUNT, equity=Decimal(10_000), margin_per_unit={SYMBOL: Decimal(4_000)})
    box = Box(account)
    box.tick(100)
    box.accepted(terms(limit=90), terms(Side.SELL, stop=80), terms(Side.SELL, limit=110))
    second = box.accepted(terms(limit=91))
    same = box.exchange.replace(ACCOUNT, second.broker_id, ClientOrderId("r1"), terms(limit=92), box.now)
    more = box.exchange.replace(ACCOUNT, second.broker_id, ClientOrderId("r2"), terms(quantity=2, limit=92), box.now)
    assert isinstance(same, AcceptedOrder)
    assert isinstance(more, RefusedOrder)
    assert "margin" in more.reason


def test_money_is_realised_profit_minus_fees_and_equity_follows_the_mark() -> None:
    box = Box(AccountTerms(account=ACCOUNT, equity=Decimal(100_000), fee_per_unit=Decimal("2.50")))
    box.tick(100)
    box.accepted(terms(quantity=2))
    box.tick(103)
    money = box.exchange.balance(ACCOUNT)
    assert (money.cash, money.equity) == (Decimal(99_995), Decimal(99_995) + 2 * 3 * 50)
    box.accepted(terms(Side.SELL, quantity=2))
    money = box.exchange.balance(ACCOUNT)
    assert money.cash == money.equity == Decimal(100_000) + 300 - 10


def test_a_foreign_currency_is_refused() -> None:
    box = Box(AccountTerms(account=ACCOUNT, currency="EUR"))
    assert "USD" in box.refused(terms()).reason
    assert ES.currency == "USD"

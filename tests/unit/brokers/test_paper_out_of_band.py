"""What happens behind the desk's back."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from brokers.paper import out_of_band
from brokers.paper.book_file import BookFile, UnsyncedFiles
from brokers.paper.options import AccountTerms
from engine.domain.broker import BrokerStatus, FillReported
from engine.domain.orders import Side
from tests.unit.brokers.paper_desk import ACCOUNT, SYMBOL, Box, terms, values


def test_the_margin_desk_moves_a_position_without_a_word() -> None:
    box = Box()
    box.tick(100)
    box.accepted(terms(quantity=3))
    box.tick(102)
    equity = box.exchange.balance(ACCOUNT).equity
    box.events.clear()
    out_of_band.move_position(box.exchange, ACCOUNT, SYMBOL, Decimal(-2), box.now)
    assert box.position == 1
    assert not box.events
    assert len(box.exchange.fills_since(ACCOUNT, 0)) == 1
    assert box.exchange.balance(ACCOUNT).equity == equity


def test_a_position_cannot_move_without_a_price() -> None:
    with pytest.raises(ValueError, match="not traded"):
        out_of_band.move_position(Box().exchange, ACCOUNT, SYMBOL, Decimal(1), 0)


def test_a_foreign_order_carries_no_client_id_and_fills_like_any_other() -> None:
    box = Box()
    box.tick(100)
    broker_id = out_of_band.place_foreign(box.exchange, ACCOUNT, terms(limit=98), box.now)
    assert box.reports(broker_id)[0].client_id is None
    box.tick(98)
    assert box.position == 1


def test_an_inert_stop_stays_working_while_price_goes_through(tmp_path: Path) -> None:
    def make() -> Box:
        return Box(book_file=BookFile(tmp_path / "book", UnsyncedFiles()))

    box = make()
    box.tick(100)
    stop = box.accepted(terms(Side.SELL, stop=95))
    assert out_of_band.make_stops_inert(box.exchange, ACCOUNT, SYMBOL, box.now) == 1
    again = make()  # a restart does not heal it
    again.tick(90)
    assert again.order(stop.broker_id).status is BrokerStatus.WORKING
    fresh = again.accepted(terms(Side.SELL, stop=89), client_id="fresh")
    again.tick(88)
    assert again.order(fresh.broker_id).status is BrokerStatus.FILLED


def test_refusals_wait_for_their_kind_of_order() -> None:
    box = Box()
    box.tick(100)
    out_of_band.refuse_next(box.exchange, ACCOUNT, "no stops today", stops_only=True)
    box.accepted(terms())
    assert box.refused(terms(Side.SELL, stop=95)).reason == "no stops today"
    box.accepted(terms(Side.SELL, stop=95))


def test_a_bust_takes_back_position_money_and_quantity_and_says_so() -> None:
    box = Box(AccountTerms(account=ACCOUNT, fee_per_unit=Decimal(3)))
    box.tick(100)
    before = box.exchange.balance(ACCOUNT)
    answer = box.accepted(terms(quantity=2))
    busted = out_of_band.bust_last_fill(box.exchange, ACCOUNT, None, box.now + 5)
    assert values(busted.quantity, busted.revision) == (0, 1)
    assert box.position == 0
    assert box.exchange.balance(ACCOUNT) == before
    assert box.order(answer.broker_id).filled == 0
    assert [event.fill.revision for event in box.events if isinstance(event, FillReported)] == [0, 1]
    # The correction is found by asking for what changed since, though the fill itself is older.
    assert box.exchange.fills_since(ACCOUNT, box.now + 5) == (busted,)
    with pytest.raises(ValueError, match="no fill"):
        out_of_band.bust_last_fill(box.exchange, ACCOUNT, None, box.now)


def test_cancel_out_of_band_takes_the_newest_of_ours() -> None:
    box = Box()
    box.tick(100)
    first = box.accepted(terms(limit=90))
    second = box.accepted(terms(limit=91))
    out_of_band.place_foreign(box.exchange, ACCOUNT, terms(limit=92), box.now)
    newest = out_of_band.newest_open(box.exchange, ACCOUNT, None)
    assert newest == second.broker_id
    out_of_band.cancel_order(box.exchange, newest, box.now, "cancelled by the broker")
    assert box.order(second.broker_id).status is BrokerStatus.CANCELLED
    assert box.order(first.broker_id).status is BrokerStatus.WORKING
    with pytest.raises(ValueError, match="not open"):
        out_of_band.cancel_order(box.exchange, newest, box.now, "again")

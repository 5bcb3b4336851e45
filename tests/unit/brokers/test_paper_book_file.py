"""The paper book survives the death of its process, and never overwrites what it does not understand."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from brokers.paper.book_file import BookFile, UnsyncedFiles
from brokers.paper.options import AccountTerms, ExchangeOptions
from engine.domain.broker import BrokerStatus
from engine.domain.orders import Side
from engine.errors import DeskUnusable
from tests.unit.brokers.paper_desk import ACCOUNT, Box, terms


def box_at(path: Path, **options: object) -> Box:
    return Box(
        AccountTerms(account=ACCOUNT, fee_per_unit=Decimal(1)),
        ExchangeOptions(slippage_ticks=0, max_fill=Decimal(2), **options),  # type: ignore[arg-type]
        BookFile(path, UnsyncedFiles()),
    )


def told(box: Box) -> tuple[object, ...]:
    """Everything an account can ask, and the counters."""
    exchange = box.exchange
    return (
        exchange.positions(ACCOUNT),
        exchange.open_orders(ACCOUNT),
        exchange.orders_since(ACCOUNT, 0),
        exchange.fills_since(ACCOUNT, 0),
        exchange.balance(ACCOUNT).cash,
        exchange.book.next_order,
        exchange.book.next_execution,
    )


def test_a_killed_exchange_comes_back_with_all_it_confirmed(tmp_path: Path) -> None:
    box = box_at(tmp_path / "book")
    box.tick(100)
    bracket = box.accepted(terms(quantity=5), terms(Side.SELL, stop=95), terms(Side.SELL, limit=110), client_id="b")
    box.accepted(terms(limit=90))
    box.tick(101)
    again = box_at(tmp_path / "book")  # nothing was closed: the first exchange was killed
    assert told(again) == told(box)
    assert again.exchange.last_time == box.exchange.last_time
    assert again.exchange.last_price(box.order(bracket.broker_id).terms.symbol) == 101
    assert again.refused(terms(), client_id="b").reason == "duplicate client id"
    again.tick(101)
    again.tick(94)
    again.tick(94)
    again.tick(94)
    assert again.position == 0
    assert again.order(bracket.legs[1][1]).status is BrokerStatus.CANCELLED


def test_the_answer_is_written_before_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "book"
    box = box_at(path)
    seen: list[bool] = []
    box.exchange.listen(ACCOUNT, lambda event: seen.append(b"known-by-now" in path.read_bytes()))
    box.accepted(terms(limit=90), client_id="known-by-now")
    assert seen == [True]


def test_ticks_that_change_nothing_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "book"
    box = box_at(path)
    box.accepted(terms(limit=90))
    before = path.read_bytes()
    for price in range(100, 200):
        box.tick(price)
    assert path.read_bytes() == before
    box.tick(90)
    assert path.read_bytes() != before


def test_a_torn_last_line_is_dropped_and_the_rest_stands(tmp_path: Path) -> None:
    path = tmp_path / "book"
    box = box_at(path)
    box.accepted(terms(limit=90))
    whole = path.read_bytes()
    box.accepted(terms(limit=91))
    torn = path.read_bytes()
    assert len(torn) > len(whole) + 10
    path.write_bytes(torn[:-10])
    again = box_at(path)
    assert [order.terms.limit for order in again.exchange.open_orders(ACCOUNT)] == [90]
    assert path.read_bytes() == torn[:-10], "reading changes nothing: the book may be another desk's"
    again.accepted(terms(limit=92), client_id="later")
    assert path.read_bytes().endswith(b"\n")
    assert [order.terms.limit for order in box_at(path).exchange.open_orders(ACCOUNT)] == [90, 92]


@pytest.mark.parametrize("content", [b"hello", b"", b'{"format":"sextant paper book","version":2}\n'])
def test_a_file_that_is_no_book_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "book"
    path.write_bytes(content)
    with pytest.raises(DeskUnusable, match="not a paper book"):
        box_at(path)
    assert path.read_bytes() == content


def test_damage_in_the_middle_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "book"
    box_at(path).accepted(terms(limit=90))
    header, first, *rest = path.read_bytes().split(b"\n")
    damaged = b"\n".join([header, first[:-5], *rest])
    path.write_bytes(damaged)
    with pytest.raises(DeskUnusable, match="line 2"):
        box_at(path)
    assert path.read_bytes() == damaged


class FailingFiles(UnsyncedFiles):
    """A disk that is full for a while."""

    full = False

    def append(self, path: Path, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().append(path, data)


def test_what_a_full_disk_did_not_take_is_written_once_it_can(tmp_path: Path) -> None:
    files = FailingFiles()
    box = Box(book_file=BookFile(tmp_path / "book", files))
    files.full = True
    box.accepted(terms(limit=90))
    files.full = False
    box.accepted(terms(limit=91))
    whole = (tmp_path / "book").read_bytes()
    box.accepted(terms(limit=92))
    assert (tmp_path / "book").read_bytes().startswith(whole), "after the recovery lines are appended again"
    again = Box(book_file=BookFile(tmp_path / "book", UnsyncedFiles()))
    assert [order.terms.limit for order in again.exchange.open_orders(ACCOUNT)] == [90, 91, 92]


def test_closed_orders_are_bounded_and_the_file_with_them(tmp_path: Path) -> None:
    box = box_at(tmp_path / "book", kept_orders=10, kept_fills=5)
    box.tick(100)
    for _ in range(40):
        box.accepted(terms())
    assert len(box.exchange.orders_since(ACCOUNT, 0)) == 10
    assert len(box.exchange.fills_since(ACCOUNT, 0)) == 5
    assert box.refused(terms(), client_id="c1").reason == "duplicate client id"
    box.exchange.close()
    again = box_at(tmp_path / "book", kept_orders=10, kept_fills=5)
    assert told(again) == told(box)
    assert again.refused(terms(), client_id="c1").reason == "duplicate client id"


def test_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "book"
    box_at(path)
    assert path.stat().st_mode & 0o777 == 0o600

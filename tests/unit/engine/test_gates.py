"""What holds an entry back: hard limits with their numbers, and the one door with its reasons."""

from __future__ import annotations

from datetime import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from engine.domain.freshness import Freshness
from engine.domain.orders import Order, OrderState, OrderType, Side
from engine.domain.positions import FLAT, Position
from engine.domain.risk import Denied
from engine.domain.settings import EntryWindow, SessionLimits
from engine.outbound.entry_gate import EntryGate
from engine.outbound.limits import Consequence, Exposure, breach, inside
from engine.session import Blocks, SessionDesk
from engine.snapshot import Block, Phase
from tests.unit.engine.samples import ES, d, order, terms

S = OrderState
LIMITS = SessionLimits(
    max_order_size=d(5),
    max_position_size=d(8),
    entries_per_minute=2,
    entries_per_day=10,
    price_collar=d("0.02"),
    max_daily_loss=d(1_000),
    worst_case_per_contract=d(2_500),
)
NIGHT = EntryWindow(opens=time(22, 0), closes=time(2, 0))


def exposure(**more: Any) -> Exposure:
    fields: dict[str, Any] = {
        "position": d(0),
        "pending": d(0),
        "mark": d(100),
        "entries_last_minute": 0,
        "entries_today": 0,
        "day_profit": d(0),
        "local_time": time(12, 0),
    }
    return Exposure(**{**fields, **more})


@pytest.mark.parametrize(
    ("quantity", "more", "consequence", "number"),
    [
        (1, {"day_profit": d(-1_000)}, Consequence.LATCH_DAY, "-1000.00 USD"),
        (6, {}, Consequence.PAUSE, "size 6 is over max_order_size 5"),
        (3, {"position": d(6)}, Consequence.PAUSE, "could reach 9, max_position_size is 8"),
        (3, {"pending": d(6)}, Consequence.PAUSE, "could reach 9"),
        (1, {"entries_today": 10}, Consequence.CLOSE_DAY, "10 entries today"),
        (1, {"entries_last_minute": 2}, Consequence.CLOSE_MINUTE, "2 entries in a minute"),
        (1, {"mark": None}, Consequence.DENY, "no price yet"),
        (1, {"mark": d(103)}, Consequence.DENY, "price 100 is more than 2.00 % away from the mark 103"),
    ],
)
def test_each_limit_denies_with_its_number_and_its_consequence(
    quantity: int, more: dict[str, Any], consequence: Consequence, number: str
) -> None:
    found = breach(LIMITS, ES, terms(quantity), exposure(**more))
    assert found is not None
    assert found.consequence is consequence
    assert number in found.reason


@pytest.mark.parametrize(
    ("quantity", "more"),
    [
        (5, {"day_profit": d("-999.99"), "entries_today": 9, "entries_last_minute": 1}),
        (2, {"position": d(6)}),
        (1, {"mark": d("101.9")}),
    ],
)
def test_what_stays_within_every_limit_passes(quantity: int, more: dict[str, Any]) -> None:
    assert breach(LIMITS, ES, terms(quantity), exposure(**more)) is None


def test_the_worst_consequence_is_named_first() -> None:
    all_at_once = exposure(day_profit=d(-5_000), entries_today=99, entries_last_minute=99, mark=None)
    found = breach(LIMITS, ES, terms(99), all_at_once)
    assert found is not None
    assert found.consequence is Consequence.LATCH_DAY


def test_a_stop_price_stays_in_the_collar_too_and_a_market_order_has_none() -> None:
    far = terms(1, Side.BUY, OrderType.STOP_LIMIT, stop=d(103), limit=d(100))
    assert breach(LIMITS, ES, far, exposure()) is not None
    assert breach(LIMITS, ES, terms(1, Side.BUY, OrderType.MARKET), exposure()) is None


@given(
    held=st.integers(-8, 8),
    pending=st.integers(0, 8),
    quantity=st.integers(1, 5),
    side=st.sampled_from(Side),
)
def test_no_entry_that_passes_could_take_the_position_over_its_limit(
    held: int, pending: int, quantity: int, side: Side
) -> None:
    found = breach(LIMITS, ES, terms(quantity, side), exposure(position=d(held), pending=d(pending)))
    if found is None:
        assert abs(held + side.sign * quantity) <= 8
        assert abs(held + side.sign * quantity) + pending <= 8


@given(minute=st.integers(0, 1439), opens=st.integers(0, 1439), closes=st.integers(0, 1439))
def test_a_window_is_half_open_and_may_run_over_midnight(minute: int, opens: int, closes: int) -> None:
    window = EntryWindow(opens=time(*divmod(opens, 60)), closes=time(*divmod(closes, 60)))
    length = (closes - opens) % 1440
    assert inside(window, time(*divmod(minute, 60))) is ((minute - opens) % 1440 < length)


def test_outside_the_window_and_past_flat_by() -> None:
    nightly = changed(LIMITS, entry_window=NIGHT)
    assert breach(nightly, ES, terms(1), exposure(local_time=time(23, 59))) is None
    late = breach(nightly, ES, terms(1), exposure(local_time=time(2, 0)))
    assert late is not None
    assert late.reason == "outside the entry window 22:00-02:00"
    flat = breach(changed(LIMITS, flat_by=time(15, 55)), ES, terms(1), exposure(local_time=time(15, 55)))
    assert flat is not None
    assert (flat.reason, flat.consequence) == ("past flat_by 15:55", Consequence.DENY)


# -- the door ---------------------------------------------------------------------------------------------


class Door:
    """A gate whose desk says that everything is well, until a test says otherwise."""

    def __init__(self) -> None:
        self.killed: str | None = None
        self.lost_lease: str | None = None
        self.fresh = Freshness.FRESH
        self.orders: tuple[Order, ...] = ()
        self.refusal: Denied | None = None
        self.trouble = ""
        self.road = SimpleNamespace(is_up=True, locked_until=None)
        self.now = 1_000
        self.limits = LIMITS
        self.desk: Any = SimpleNamespace(
            phase=Phase.TRADING,
            blocks=Blocks(lambda: None, lambda: self.now),
            road=self.road,
            instrument=ES,
            settings=SimpleNamespace(id="s", limits=LIMITS),
            killed=lambda: self.killed,
            lease=SimpleNamespace(why_no_entry=lambda: self.lost_lease, epoch=1),
            fresh=lambda: self.fresh,
            now=lambda: self.now,
            store=SimpleNamespace(trouble=lambda: self.trouble),
            heat=SimpleNamespace(still_open=lambda session, order: self.refusal),
            book=SimpleNamespace(open=lambda: self.orders, position=FLAT),
        )
        self.gate = EntryGate(cast(SessionDesk, self.desk))


def test_an_open_door_says_nothing() -> None:
    door = Door()
    assert door.gate.standing() is None
    assert door.gate.before() is None
    assert door.gate.at_send(order(epoch=1, deadline=1_000)) is None


def closed(door: Door, how: str) -> None:
    match how:
        case "kill":
            door.killed = "by hand"
        case "lease":
            door.lost_lease = "another engine holds the lease"
        case "phase":
            door.desk.phase = Phase.WARMING
        case "block":
            door.desk.blocks.set("position", "position differs")
        case "pause":
            door.desk.blocks.set("pause", "paused: lunch")
        case "stale":
            door.fresh = Freshness.STALE
        case "link":
            door.road.is_up = False
        case "lock-out":
            door.road.locked_until = 5_000
        case _:
            door.trouble = "disk full"


REASONS = {
    "kill": "kill latch is set: by hand",
    "lease": "another engine holds the lease",
    "phase": f"session is {Phase.WARMING}, not trading",
    "block": "position differs",
    "pause": "paused: lunch",
    "stale": "market data is stale",
    "link": "the account link is down",
    "lock-out": "the broker has locked us out for now",
    "database": "the database does not answer: disk full",
}


@pytest.mark.parametrize("how", REASONS)
def test_each_standing_reason_is_read_before_sizing_and_again_at_the_send(how: str) -> None:
    door = Door()
    closed(door, how)
    assert door.gate.before() == REASONS[how]
    assert door.gate.at_send(order(epoch=1)) == REASONS[how]


def test_an_order_by_hand_passes_a_pause_and_nothing_else() -> None:
    for how, reason in REASONS.items():
        door = Door()
        closed(door, how)
        assert door.gate.standing(by_hand=True) == (None if how == "pause" else reason)


def test_no_entry_begins_while_another_ones_fate_is_open() -> None:
    door = Door()
    door.orders = (order("e1", S.LOST),)
    assert door.gate.before() == "entry e1 is lost"
    assert door.gate.standing() is None


def test_what_is_read_again_in_the_step_that_sends() -> None:
    door = Door()
    assert door.gate.at_send(order(epoch=1, cancel_wanted=True)) == "cancelled before it was sent"
    assert door.gate.at_send(order(epoch=2)) == "another engine holds the lease"
    assert door.gate.at_send(order(epoch=1, deadline=900)) == "its deadline passed 0.1 s ago"
    door.desk.book.position = Position(d(-1), d(4_900))
    assert door.gate.at_send(order(epoch=1)) == "the position became -1 meanwhile: it would reduce"
    door.desk.book.position = Position(d(1), d(4_900))
    door.refusal = Denied(reason="heat 9.00 %")
    assert door.gate.at_send(order(epoch=1)) == "heat 9.00 %"
    door.desk.settings.limits = SessionLimits(
        max_order_size=d(1),
        max_position_size=d(1),
        entries_per_minute=1,
        entries_per_day=1,
        price_collar=d(1),
        max_daily_loss=d(1),
        worst_case_per_contract=d(1),
        entry_window=EntryWindow(opens=time(9), closes=time(10)),
    )
    assert door.gate.at_send(order(epoch=1)) == "outside the entry window 09:00-10:00"


def test_blocks_keep_the_oldest_reason_first() -> None:
    changes: list[int] = []
    clock = [5]
    blocks = Blocks(lambda: changes.append(1), lambda: clock[0])
    blocks.set("pause", "a")
    blocks.set("gap", "b")
    blocks.set("gap", "b")
    blocks.clear("nothing")
    assert (blocks.reasons(), "gap" in blocks) == (("a", "b"), True)
    assert blocks.reasons(but=frozenset({"pause"})) == ("b",)
    clock[0] = 9
    blocks.set("gap", "b, still")
    blocks.set("latch", "c", since=2)
    assert blocks.standing() == (Block("a", 5), Block("b, still", 5), Block("c", 2))
    blocks.clear_all("latch")
    blocks.clear("pause")
    assert blocks.reasons() == ("b, still",)
    assert len(changes) == 6

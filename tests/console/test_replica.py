"""The fold of snapshots and events, without Textual."""

from decimal import Decimal as D

import msgspec

from console.replica import Replica
from engine.events import Event, Filled, Happened
from engine.snapshot import Block, DeskSnapshot, Severity
from tests.console.factory import NOW, blocked_desk, busy_desk, eurusd, fills


def folded(snapshot: DeskSnapshot | None, *events: Event, at: float = 10.0) -> Replica:
    desk = Replica()
    desk.fold(snapshot, events, at)
    return desk


def test_before_the_first_word_there_is_nothing_and_no_alarm() -> None:
    desk = folded(None)
    assert desk.sessions == ()
    assert desk.alerts == []
    assert desk.entry_block is None
    assert not desk.silent


def test_an_engine_that_says_nothing_new_becomes_silent_and_time_goes_on() -> None:
    snapshot = busy_desk()
    desk = folded(snapshot, at=10.0)
    desk.fold(snapshot, (), 11.5)
    assert not desk.silent
    desk.fold(snapshot, (), 15.0)
    assert desk.silent_for == 5.0
    assert desk.now == NOW + 5000
    desk.fold(busy_desk(), (), 15.1)
    assert not desk.silent


def test_a_fill_is_kept_once_and_a_correction_takes_its_place() -> None:
    first = fills({"eurusd-ema": eurusd(), "es-range": eurusd()})[1]
    fixed = msgspec.structs.replace(first, revision=1, quantity=D(0))
    desk = folded(busy_desk(), Event(1, NOW, Filled(first)), Event(1, NOW, Filled(first)), Event(2, NOW, Filled(fixed)))
    assert [fill.quantity for fill in desk.fills] == [D(0)]
    assert desk.events_seen == 2


def test_missed_events_are_counted() -> None:
    desk = folded(busy_desk(), Event(5, NOW, Happened("a", None)), Event(9, NOW, Happened("b", None)))
    assert desk.events_missed == 3


def test_orders_in_doubt_come_first_and_open_disagreements_too() -> None:
    desk = folded(busy_desk())
    assert desk.open_orders[0].is_in_doubt
    assert [one.is_open for one in desk.disagreements] == [True, True, False]


def test_u6_alerts_come_worst_first_and_seen_ones_last() -> None:
    desk = busy_desk()
    seen = msgspec.structs.replace(desk.alerts[0], acknowledged=True)
    gone = msgspec.structs.replace(desk.alerts[2], acknowledged=True)
    shown = folded(msgspec.structs.replace(desk, alerts=(seen, desk.alerts[1], gone))).alerts
    assert [alert.severity for alert in shown] == [Severity.WARNING, Severity.CRITICAL]


def test_the_entry_block_names_its_reason_and_how_far_it_reaches() -> None:
    some = folded(busy_desk()).entry_block
    assert some is not None
    assert not some.everywhere
    assert some.sessions == ("btc-breakout", "es-range", "nq-ema")
    every = folded(blocked_desk()).entry_block
    assert every is not None
    assert every.everywhere
    assert every.stopped == 3
    killed = folded(msgspec.structs.replace(busy_desk(), killed=True, kill_reason="by operator")).entry_block
    assert killed is not None
    assert killed.why == "KILL is set: by operator"
    assert killed.since is None, "nobody said when"


def test_every_entry_block_says_since_when_and_how_many_entries_it_stopped() -> None:
    desk = busy_desk()
    some = folded(desk).entry_block
    assert some is not None
    assert (some.why, some.since, some.stopped) == (
        "btc-breakout: an order is in doubt: entries wait for evidence", NOW - 13_000, 0,
    )  # fmt: skip
    views = tuple(
        msgspec.structs.replace(view, blocked=(Block("KILL: by operator", NOW - 50_000), *view.blocked))
        for view in blocked_desk().sessions
    )
    killed = folded(msgspec.structs.replace(blocked_desk(), killed=True, sessions=views)).entry_block
    assert killed is not None
    assert (killed.since, killed.stopped) == (NOW - 50_000, 2)
    assert [entry.at for entry in folded(blocked_desk()).stopped_entries] == [NOW - 20_000, NOW - 34_000, NOW - 80_000]

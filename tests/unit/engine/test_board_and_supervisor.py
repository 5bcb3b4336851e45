"""The notice board's numbers, alerts and procedures; and who keeps a session running."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from engine.board import KEEP_ALERTS, KEEP_EVENTS, KEEP_PROCEDURES, Board, SessionReporter
from engine.clock import TapeClock
from engine.domain.ids import CommandId, SessionId
from engine.errors import StartOver
from engine.events import Alerted, Happened, Progressed
from engine.periodic import cancel_and_wait
from engine.snapshot import Severity
from engine.supervisor import BUDGET, BUDGET_SECONDS, Supervisor

START = 1_000_000


@pytest.fixture
def clock() -> TapeClock:
    return TapeClock(START)


@pytest.fixture
def board(clock: TapeClock) -> Board:
    return Board(clock)


def test_events_are_numbered_without_gaps_and_bounded(board: Board) -> None:
    for number in range(KEEP_EVENTS + 5):
        board.happened(f"line {number}")
    kept = board.since(0)
    assert [e.number for e in kept] == list(range(6, KEEP_EVENTS + 6))
    assert [e.what for e in board.since(board.number - 1)] == [Happened(f"line {KEEP_EVENTS + 4}", None)]
    assert board.since(board.number) == ()


def test_an_alert_says_the_same_once_and_something_new_again(board: Board) -> None:
    board.alert("k", Severity.WARNING, "one")
    board.alert("k", Severity.WARNING, "one")
    board.alert("k", Severity.WARNING, "two")
    board.alert("k", Severity.CRITICAL, "three")
    told = [e.what.text for e in board.since(0) if isinstance(e.what, Alerted)]
    assert told == ["one", "three"], "new words are shown, a worse severity is told"
    assert [(a.text, a.severity) for a in board.alerts()] == [("three", Severity.CRITICAL)]


def test_new_words_want_a_new_acknowledgement(board: Board) -> None:
    board.alert("k", Severity.CRITICAL, "one", lasting=True)
    assert board.acknowledge("k")
    assert [a.acknowledged for a in board.alerts()] == [True]
    board.alert("k", Severity.CRITICAL, "one", lasting=True)
    assert [a.acknowledged for a in board.alerts()] == [True]
    board.alert("k", Severity.CRITICAL, "two", lasting=True)
    assert [a.acknowledged for a in board.alerts()] == [False]
    assert not board.acknowledge("unknown")


def test_a_critical_alert_nobody_saw_outlives_its_cause(board: Board) -> None:
    board.alert("c", Severity.CRITICAL, "naked", lasting=True)
    board.alert("w", Severity.WARNING, "slow", lasting=True)
    for key in ("c", "w", "unknown"):
        board.clear(key)
    assert [a.id for a in board.alerts()] == ["c"]
    assert board.acknowledge("c")
    assert board.alerts() == ()


async def test_the_worst_and_the_oldest_come_first_and_the_least_give_way(board: Board, clock: TapeClock) -> None:
    board.alert("critical", Severity.CRITICAL, "c")
    for number in range(KEEP_ALERTS):
        await clock.advance(START + number)
        board.alert(f"n{number}", Severity.NOTE, "n")
    shown = board.alerts()
    assert len(shown) == KEEP_ALERTS
    assert [a.id for a in shown[:3]] == ["critical", "n1", "n2"], "the oldest of the least severe gave way"


async def test_what_still_stands_outlasts_what_may_be_over(board: Board, clock: TapeClock) -> None:
    for number in range(KEEP_ALERTS):
        await clock.advance(START + number)
        board.alert(f"n{number}", Severity.CRITICAL, f"that was {number}")
    board.alert("disk:0", Severity.WARNING, "8 % of the disk is free", lasting=True)
    shown = {a.id for a in board.alerts()}
    assert len(shown) == KEEP_ALERTS
    assert "disk:0" in shown, "a cause that stands is not pushed out by what has been"
    assert "n0" not in shown, "the oldest of what has been gave way"
    assert board.since(board.number - 1)[0].what == Happened(
        f"more than {KEEP_ALERTS} alerts; not shown any more: that was 0", None
    )


def test_a_procedure_keeps_its_lines_and_its_result(board: Board) -> None:
    say = board.begin(CommandId("c1"), "flatten s", SessionId("s"))
    say("cancelling the target")
    board.end(CommandId("c1"), True, "flat")
    say("a late line")
    (shown,) = board.procedures()
    assert (shown.ok, shown.result, [line for _, line in shown.lines]) == (
        True,
        "flat",
        ["cancelling the target", "a late line"],
    )
    assert [e.what for e in board.since(0)][1] == Progressed(CommandId("c1"), "flat", True)
    for number in range(KEEP_PROCEDURES + 2):
        board.begin(CommandId(f"d{number}"), "t", None)
    assert len(board.procedures()) == KEEP_PROCEDURES
    assert board.procedures()[0].id == f"d{KEEP_PROCEDURES + 1}"
    say("nobody keeps this procedure any more")


def test_what_a_session_raises_carries_its_name(board: Board) -> None:
    reporter = SessionReporter(board, SessionId("s"))
    reporter.alert("k", Severity.NOTE, "text")
    reporter.event(Happened("line", None))
    assert [a.session for a in board.alerts()] == ["s"]
    reporter.clear("k")
    assert board.alerts() == ()


# -- the supervisor ---------------------------------------------------------------------------------------


class Kept:
    """A supervised work that a test lets fail."""

    def __init__(self, clock: TapeClock, work: Callable[[], Awaitable[None]]) -> None:
        self.failures: list[tuple[int, str, bool]] = []
        self.restarts: list[int] = []
        self.supervisor = Supervisor(
            "s",
            work,
            clock,
            on_failure=lambda reason, final: self.failures.append((clock.now() - START, reason, final)),
            on_restart=lambda: self.restarts.append(clock.now() - START),
        )
        self.task = asyncio.ensure_future(self.supervisor.run())


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "engine.supervisor")


async def test_e12_it_restarts_with_backoff_and_gives_up_when_the_budget_is_used(clock: TapeClock) -> None:
    async def broken() -> None:
        raise ValueError("bad candle")

    kept = Kept(clock, broken)
    await clock.advance(START + 60_000)
    assert [at for at, _, _ in kept.failures] == [0, 500, 1_500, 3_500, 8_500, 18_500]
    assert kept.restarts == [500, 1_500, 3_500, 8_500, 18_500]
    assert [final for _, _, final in kept.failures] == [False] * BUDGET + [True]
    assert kept.failures[0][1] == "ValueError: bad candle"
    assert kept.supervisor.restarts == BUDGET
    assert kept.task.done()


async def test_starting_over_uses_no_budget_up(clock: TapeClock) -> None:
    """A machine that is suspended again and again must not leave a session dead for good."""

    async def stood_still() -> None:
        raise StartOver("the process stood still")

    kept = Kept(clock, stood_still)
    await clock.advance(START + 60_000)
    assert len(kept.failures) > 10 * BUDGET
    assert {(reason, final) for _, reason, final in kept.failures} == {("the process stood still", False)}
    await cancel_and_wait(kept.task)


async def test_a_work_that_merely_ends_is_a_failure_too(clock: TapeClock) -> None:
    kept = Kept(clock, lambda: asyncio.sleep(0))
    await clock.settle()
    assert [(reason, final) for _, reason, final in kept.failures] == [("its task ended", False)]
    await cancel_and_wait(kept.task)


async def test_failures_far_apart_never_use_up_the_budget(clock: TapeClock) -> None:
    async def now_and_then() -> None:
        await clock.sleep(BUDGET_SECONDS / 3)
        raise ValueError("again")

    kept = Kept(clock, now_and_then)
    await clock.advance(START + 20 * 100_000)
    assert len(kept.failures) > 3 * BUDGET
    assert not any(final for _, _, final in kept.failures)
    await cancel_and_wait(kept.task)


async def test_one_that_is_cancelled_ends_without_a_failure(clock: TapeClock) -> None:
    kept = Kept(clock, lambda: clock.sleep(60))
    await clock.settle()
    await cancel_and_wait(kept.task)
    assert kept.task.cancelled()
    assert kept.failures == []


async def test_a_wait_cancelled_inside_the_work_is_a_failure_of_the_work(clock: TapeClock) -> None:
    """Else a session would end without a word because a future that it awaited was cancelled."""

    async def awaits_a_dead_future() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    kept = Kept(clock, awaits_a_dead_future)
    await clock.settle()
    assert [(reason, final) for _, reason, final in kept.failures] == [("a wait inside it was cancelled", False)]
    kept.supervisor.give_up()
    await clock.advance(START + 60_000)
    assert kept.restarts == []
    assert kept.task.done()

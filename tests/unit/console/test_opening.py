"""The stand-in for an engine that is still being made: nothing is lost, nothing starts twice, failures arrive."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any, cast

import pytest

from console.opening import NOT_OPEN, OpeningHost
from console.running import Hosted
from engine.commands import Origin, ReconcileNow
from engine.domain.ids import CommandId
from engine.domain.settings import ShutdownPolicy
from engine.errors import DeskUnusable
from engine.queries import FillsAnswer, FillsPage

ORIGIN = Origin(id=CommandId("c1"), operator="op", place="here", at=5)
NO_FILLS = FillsAnswer(fills=(), more=False)


class Engine:
    """What the made desk consists of."""

    def __init__(self) -> None:
        self.started: Future[None] = Future()
        self.ended: Future[None] = Future()
        self.starts = 0
        self.stops: list[ShutdownPolicy | None] = []
        self.closed = 0

    def start(self) -> None:
        self.starts += 1
        self.started.set_result(None)

    def shut_down(self, policy: ShutdownPolicy | None = None) -> None:
        self.stops.append(policy)
        self.ended.set_result(None)

    def ask(self, query: object) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_result(NO_FILLS)
        return answer

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self.closed += 1


class Making:
    """The making of a desk, held back until it may go on."""

    def __init__(self, engine: Engine, failure: Exception | None = None) -> None:
        self.engine, self.failure = engine, failure
        self.go = threading.Event()
        self.times = 0

    def __call__(self) -> Hosted:
        self.times += 1
        assert self.go.wait(10)
        if self.failure is not None:
            raise self.failure
        return Hosted(cast(Any, self.engine), cast(Any, None), self.engine.close)


def test_what_is_asked_too_early_waits_or_is_refused_and_then_goes_through() -> None:
    engine = Engine()
    making = Making(engine)
    host = OpeningHost(making)
    host.start()
    host.start()
    assert host.snapshot() is None
    assert host.events(0) == ()
    refused = host.dispatch(ReconcileNow(origin=ORIGIN)).result(1)
    assert (refused.taken, refused.message, refused.id) == (False, NOT_OPEN, "c1")
    early = host.ask(FillsPage())
    assert not early.done()
    making.go.set()
    assert early.result(10) == NO_FILLS
    assert host.started.result(10) is None
    host.shut_down(ShutdownPolicy.LEAVE)
    assert host.ended.result(10) is None
    host.close()
    assert (making.times, engine.starts, engine.stops, engine.closed) == (1, 1, [ShutdownPolicy.LEAVE], 1)


def test_a_desk_that_cannot_be_made_says_why_where_the_screen_waits() -> None:
    making = Making(Engine(), DeskUnusable("the file is torn"))
    host = OpeningHost(making)
    early = host.ask(FillsPage())
    host.start()
    making.go.set()
    assert host.ended.result(10) is None
    with pytest.raises(DeskUnusable, match="torn"):
        host.started.result(10)
    assert early.exception(10) is not None
    host.close()


@pytest.mark.parametrize("begun", [False, True])
def test_given_up_before_it_was_made_nothing_ever_starts(begun: bool) -> None:
    engine = Engine()
    making = Making(engine)
    host = OpeningHost(making)
    if begun:
        host.start()
    host.shut_down()
    making.go.set()
    assert host.ended.result(10) is None
    host.start()
    assert engine.starts == 0
    host.close()
    assert engine.closed == (1 if begun else 0)

"""EngineHost on the machine's own clock: a thread of its own, and nothing but messages across."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from engine import commands as c
from engine import views
from engine.domain.settings import ShutdownPolicy
from engine.engine import Engine
from engine.errors import DeskUnusable
from engine.events import Progressed
from engine.host import EngineHost
from engine.queries import OrdersAnswer, OrdersPage
from engine.snapshot import DeskSnapshot, LoopLag
from tests.flows.hosted import PATIENCE, Hosted, eventually


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosted]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    made = Hosted(tmp_path)
    yield made
    if made.host._thread.is_alive():
        made.end()


def test_a_desk_lives_on_its_own_thread_and_ends_in_order(hosted: Hosted) -> None:
    hosted.start().trading()
    assert "engine" in {t.name for t in threading.enumerate()}
    before = hosted.picture()
    eventually(lambda: hosted.picture().at > before.at + 300, "a later picture")
    hosted.end()
    assert not hosted.host._thread.is_alive() or eventually(lambda: not hosted.host._thread.is_alive(), "the end")
    figures = hosted.host.figures()
    assert figures is not None
    assert figures.ticks > 0
    late = hosted.host.dispatch(c.ReconcileNow(origin=hosted.origin()))
    assert late.result(1).message == "the engine is not running"
    with pytest.raises(RuntimeError, match="not running"):
        hosted.host.ask(OrdersPage()).result(1)
    hosted.host.shut_down()


def until_none_is_taken(hosted: Hosted, taken: list[float]) -> None:
    """Half a second of the engine's own loop in which it took no picture."""
    loop = hosted.host._loop
    assert loop is not None

    def quiet() -> bool:
        taken.clear()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.5), loop).result(PATIENCE)
        return not taken

    eventually(quiet, "no picture that nobody asked for")


def test_snapshots_are_taken_only_while_somebody_asks(hosted: Hosted) -> None:
    hosted.start().trading()
    taken: list[float] = []
    engine = hosted.host._engine
    assert engine is not None
    was = views.take

    def counted(engine: Engine, lag: LoopLag) -> DeskSnapshot:
        taken.append(time.monotonic())
        return was(engine, lag)

    views.take = counted
    try:
        # The last question is answered by one more picture, however late; after that nobody asked.
        until_none_is_taken(hosted, taken)
        first = hosted.host.snapshot()
        eventually(lambda: taken, "a new picture after a question")
        assert hosted.host._snapshot is not first
        until_none_is_taken(hosted, taken)
        while len(taken) < 12:
            hosted.host.snapshot()
            time.sleep(0.005)
        assert taken[-1] - taken[0] > 0.9, "more than ten pictures a second"
    finally:
        views.take = was


def test_events_are_numbered_and_asked_for_since_the_last_seen(hosted: Hosted) -> None:
    hosted.start().trading()
    receipt = hosted.host.dispatch(c.Kill(origin=hosted.origin())).result(PATIENCE)
    assert receipt.taken
    seen: list[int] = []

    def new() -> bool:
        fresh = hosted.host.events(seen[-1] if seen else 0)
        seen.extend(event.number for event in fresh)
        return any(isinstance(e.what, Progressed) and e.what.ok for e in fresh)

    eventually(new, "the end of the kill")
    assert seen == sorted(set(seen))
    assert seen == list(range(seen[0], seen[0] + len(seen))), "a number was skipped"
    assert hosted.host.events(seen[-1] + 1000) == ()


def test_events_may_be_read_while_the_engine_writes_them(hosted: Hosted) -> None:
    hosted.start().trading()
    engine = hosted.host._engine
    loop = hosted.host._loop
    assert engine is not None
    assert loop is not None
    stop = threading.Event()

    def write() -> None:
        for _ in range(2_000):
            engine.board.happened("busy")
        if not stop.is_set():
            loop.call_soon_threadsafe(write)

    loop.call_soon_threadsafe(write)
    try:
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            numbers = [event.number for event in hosted.host.events(0)]
            assert numbers == sorted(numbers)
    finally:
        stop.set()


def test_commands_from_several_threads_are_each_answered_once(hosted: Hosted) -> None:
    hosted.start().trading()
    answers: list[Future[c.Receipt]] = []
    lock = threading.Lock()
    origins = [hosted.origin() for _ in range(40)]

    def send(mine: list[c.Origin]) -> None:
        for origin in mine:
            answer = hosted.host.dispatch(c.Pause(origin=origin, session=None))
            with lock:
                answers.append(answer)

    threads = [threading.Thread(target=send, args=(origins[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {a.result(PATIENCE).id for a in answers} == {o.id for o in origins}
    answer = hosted.host.ask(OrdersPage()).result(PATIENCE)
    assert isinstance(answer, OrdersAnswer)
    eventually(lambda: hosted.picture().sessions[0].paused, "paused in the picture")


@pytest.mark.rows_by_hand
def test_a_desk_that_cannot_be_used_says_so_where_it_was_started(hosted: Hosted, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "desk.sqlite3").write_bytes(b"not a database at all, but something of somebody's")
    hosted.host.start()
    with pytest.raises(DeskUnusable, match=r"desk\.sqlite3"):
        hosted.host.started.result(PATIENCE)
    hosted.host.ended.result(PATIENCE)
    hosted.desk.close()
    assert (tmp_path / "state" / "desk.sqlite3").read_bytes().startswith(b"not a database")
    assert hosted.host.figures() is None


def test_p8_a_second_desk_on_the_same_directory_is_refused_by_name(hosted: Hosted, tmp_path: Path) -> None:
    hosted.start()
    second = Hosted(tmp_path)
    second.host.start()
    with pytest.raises(DeskUnusable, match="process"):
        second.host.started.result(PATIENCE)
    second.host.ended.result(PATIENCE)
    second.desk.close()
    hosted.trading()


def test_a_state_directory_is_not_used_with_another_database(hosted: Hosted, tmp_path: Path) -> None:
    """Its journal may hold exits that only the other database knows the orders of."""
    hosted.start().host.shut_down()
    hosted.host.ended.result(PATIENCE)
    hosted.desk.close()
    other = Hosted(tmp_path, db=str(tmp_path / "other" / "desk.sqlite3"))
    other.host.start()
    with pytest.raises(DeskUnusable, match=r"belongs to another database.*--state-dir"):
        other.host.started.result(PATIENCE)
    other.desk.close()
    again = Hosted(tmp_path).start()
    again.host.shut_down()
    again.host.ended.result(PATIENCE)
    again.desk.close()


def test_a_shutdown_command_carries_out_its_policy(hosted: Hosted) -> None:
    hosted.start().trading()
    receipt = hosted.host.dispatch(c.Shutdown(origin=hosted.origin(), policy=ShutdownPolicy.FLATTEN)).result(PATIENCE)
    assert receipt.message == "stopping: flatten"
    hosted.host.ended.result(PATIENCE)
    hosted.desk.close()
    last = hosted.host.snapshot()
    assert last is not None
    assert last.stopping
    assert last.sessions[0].position.is_flat
    done = next(p for p in last.procedures if p.title == "Shutdown")
    assert done.ok
    assert any("flat confirmed" in line for _, line in done.lines)


def test_shutting_down_while_it_starts_ends_it(hosted: Hosted) -> None:
    hosted.host.start()
    eventually(lambda: hosted.host._loop, "a loop")
    hosted.host.shut_down(ShutdownPolicy.LEAVE)
    hosted.host.ended.result(PATIENCE)
    hosted.desk.close()


def test_a_dead_engine_lets_its_watchers_go(hosted: Hosted) -> None:
    """Whoever waits for the tape or for the end is woken when the start fails."""

    def broken() -> Any:
        raise RuntimeError("no plan")

    host = EngineHost(broken)
    host.start()
    with pytest.raises(RuntimeError, match="no plan"):
        host.started.result(PATIENCE)
    host.ended.result(PATIENCE)
    host.wait_for_tape()
    assert host.events(0) == ()
    assert host.snapshot() is None

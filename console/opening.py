"""A desk that is put together on a thread while its console is on the screen already."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from engine.commands import Command, Receipt
from engine.errors import SextantError

if TYPE_CHECKING:
    from console.running import Hosted, RunningHost
    from engine.domain.settings import ShutdownPolicy
    from engine.events import Event
    from engine.queries import Answer, Query
    from engine.snapshot import DeskSnapshot, RunFigures

_T = TypeVar("_T")
NOT_OPEN = "the desk is still being opened"


class OpeningHost:
    """Stands for the engine's thread from before it exists; what cannot be answered yet says so.

    `started` fails with whatever kept the desk from being made, or its engine from starting.
    """

    def __init__(self, make: Callable[[], Hosted]) -> None:
        self._make = make
        self._hosted: Hosted | None = None
        self._lock = threading.Lock()
        self._begun = self._given_up = False
        self.started: Future[None] = Future()
        self.ended: Future[None] = Future()

    def start(self) -> None:
        """Make the desk and start its engine, on a thread; only once, and not after it was given up."""
        with self._lock:
            if self._begun or self._given_up:
                return
            self._begun = True
        threading.Thread(target=self._open, name="opening", daemon=True).start()

    def _open(self) -> None:
        try:
            hosted = self._make()
        except BaseException as failure:
            self.started.set_exception(failure)
            self.ended.set_result(None)
            return
        with self._lock:
            self._hosted = hosted
            if self._given_up:
                self.ended.set_result(None)
                return
            hosted.host.start()
        hosted.host.started.add_done_callback(lambda done: _passed_on(done, self.started))
        hosted.host.ended.add_done_callback(lambda done: _passed_on(done, self.ended))

    def shut_down(self, policy: ShutdownPolicy | None = None) -> None:
        """Ask the engine to stop; a desk that is not made yet does not start at all."""
        with self._lock:
            host = self._host
            if host is None:
                self._given_up = True
                if not self._begun and not self.ended.done():
                    self.ended.set_result(None)
                return
        host.shut_down(policy)

    def close(self) -> None:
        """Close the threads of a desk that was made."""
        if self._hosted is not None:
            self._hosted.close()

    @property
    def _host(self) -> RunningHost | None:
        return None if self._hosted is None else self._hosted.host

    # -- what a console asks ------------------------------------------------------------------------------

    def snapshot(self) -> DeskSnapshot | None:
        """The newest picture, None before there is one."""
        host = self._host
        return None if host is None else host.snapshot()

    def events(self, since: int) -> tuple[Event, ...]:
        """Events numbered above `since`."""
        host = self._host
        return () if host is None else host.events(since)

    def dispatch(self, command: Command) -> Future[Receipt]:
        """Hand a command to the engine; before there is one it is not taken."""
        host = self._host
        if host is not None:
            return host.dispatch(command)
        origin = command.origin
        answer: Future[Receipt] = Future()
        answer.set_result(Receipt(id=origin.id, taken=False, message=NOT_OPEN, at=origin.at))
        return answer

    def ask(self, query: Query) -> Future[Answer]:
        """Hand a query to the engine; before there is one it waits for it."""
        host = self._host
        if host is not None:
            return host.ask(query)
        answer: Future[Answer] = Future()
        self.started.add_done_callback(lambda done: self._ask_late(done, query, answer))
        return answer

    def _ask_late(self, done: Future[None], query: Query, answer: Future[Answer]) -> None:
        host = self._host
        if host is None or done.exception() is not None:
            answer.set_exception(SextantError(NOT_OPEN))
        else:
            host.ask(query).add_done_callback(lambda late: _passed_on(late, answer))

    def figures(self) -> RunFigures | None:
        """What the run did, once it has ended; None of a desk that was never made."""
        host = self._host
        return None if host is None else host.figures()

    def trouble(self, key: str, text: str | None) -> None:
        """Raise a warning on the desk, or take it back; without a desk nobody would see it."""
        host = self._host
        if host is not None:
            host.trouble(key, text)


def _passed_on(done: Future[_T], to: Future[_T]) -> None:
    if to.cancelled():
        return
    failure = done.exception()
    if failure is not None:
        to.set_exception(failure)
    else:
        to.set_result(done.result())

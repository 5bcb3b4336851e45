"""What a console talks to: commands, queries, events and one snapshot; in this process or, later, over a socket."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Protocol, TypeVar

from engine.commands import Command, Receipt
from engine.events import Event
from engine.queries import Answer, Query
from engine.snapshot import DeskSnapshot

ANSWER_WITHIN_S = 5.0
_Reply = TypeVar("_Reply")


class EngineSilent(Exception):
    """The engine did not answer in time; what was asked may still happen."""


class Client(Protocol):
    """The whole of what the console knows of an engine."""

    def snapshot(self) -> DeskSnapshot | None:
        """The newest picture of the desk, None before the first; costs a reference read."""
        ...

    def events(self, since: int) -> tuple[Event, ...]:
        """Events numbered above `since` that are still kept."""
        ...

    async def send(self, command: Command) -> Receipt:
        """Hand over a command; raises EngineSilent when no receipt comes in time."""
        ...

    async def ask(self, query: Query) -> Answer:
        """Ask the audit trail; raises EngineSilent when no answer comes in time."""
        ...


class Host(Protocol):
    """The engine's thread as seen from here (engine.host.EngineHost)."""

    def snapshot(self) -> DeskSnapshot | None:
        """The newest picture of the desk."""
        ...

    def events(self, since: int) -> tuple[Event, ...]:
        """Events numbered above `since`."""
        ...

    def dispatch(self, command: Command) -> Future[Receipt]:
        """Hand a command to the engine's loop."""
        ...

    def ask(self, query: Query) -> Future[Answer]:
        """Hand a query to the engine's loop."""
        ...


class InProcessClient:
    """Talks to an engine on another thread of this process; touches nothing of it but messages."""

    def __init__(self, host: Host, *, answer_within: float = ANSWER_WITHIN_S) -> None:
        self._host = host
        self._patience = answer_within

    def snapshot(self) -> DeskSnapshot | None:
        """The newest picture of the desk, None before the first."""
        return self._host.snapshot()

    def events(self, since: int) -> tuple[Event, ...]:
        """Events numbered above `since` that are still kept."""
        return self._host.events(since)

    async def send(self, command: Command) -> Receipt:
        """Hand over a command; raises EngineSilent when no receipt comes in time."""
        return await self._within(self._host.dispatch(command))

    async def ask(self, query: Query) -> Answer:
        """Ask the audit trail; raises EngineSilent when no answer comes in time."""
        return await self._within(self._host.ask(query))

    async def _within(self, future: Future[_Reply]) -> _Reply:
        # Shielded: giving up on the answer must not take the command back, which may already be on its way.
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._patience)
        except TimeoutError:
            raise EngineSilent(f"the engine does not answer ({self._patience:g} s)") from None

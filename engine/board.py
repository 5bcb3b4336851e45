"""What the desk tells: numbered events, alerts that stay, and the lines of running procedures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec.structs import replace as changed

from engine.domain.ids import CommandId, SessionId
from engine.events import Alerted, Event, Happened, Occurrence, Progressed
from engine.ports import Clock, StoreHealth
from engine.snapshot import Alert, Procedure, Severity

KEEP_EVENTS = 5_000
KEEP_ALERTS = 100
KEEP_PROCEDURES = 12
_WORST_FIRST = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.NOTE: 2}


class Board:
    """The engine's notice board; consoles read copies of it, nobody is called."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.number = 0
        self._events: deque[Event] = deque(maxlen=KEEP_EVENTS)
        self._alerts: dict[str, Alert] = {}
        self._procedures: dict[CommandId, Procedure] = {}

    def event(self, what: Occurrence) -> None:
        """Number it and keep it."""
        self.number += 1
        self._events.append(Event(self.number, self._clock.now(), what))

    def happened(self, text: str, session: SessionId | None = None) -> None:
        """A line for the log of events."""
        self.event(Happened(text, session))

    def since(self, number: int) -> tuple[Event, ...]:
        """Events after `number`, oldest first; as many as are kept."""
        while True:
            try:
                kept = tuple(self._events)
            except RuntimeError:  # consoles read from their own thread, and an event came in between
                continue
            return tuple(event for event in kept if event.number > number)

    # -- alerts -------------------------------------------------------------------------------------------

    def alert(
        self, key: str, severity: Severity, text: str, *, lasting: bool = False, session: SessionId | None = None
    ) -> None:
        """Raise it, or update its words; a text that says something new wants a new acknowledgement.

        Over `KEEP_ALERTS` those go first whose cause may be over, least severe first; the log of events names each.
        """
        old = self._alerts.get(key)
        if old is not None and (old.severity, old.text, old.lasting) == (severity, text, lasting):
            return
        since = old.since if old is not None else self._clock.now()
        self._alerts[key] = Alert(id=key, severity=severity, text=text, since=since, session=session, lasting=lasting)
        if old is None or old.severity is not severity:
            self.event(Alerted(severity, text, session))
        while len(self._alerts) > KEEP_ALERTS:
            least = max(self._alerts.values(), key=lambda a: (not a.lasting, _WORST_FIRST[a.severity], -a.since))
            del self._alerts[least.id]
            self.happened(f"more than {KEEP_ALERTS} alerts; not shown any more: {least.text}", least.session)

    def clear(self, key: str) -> None:
        """The cause is gone; a critical alert nobody acknowledged stays to be seen."""
        old = self._alerts.get(key)
        if old is None:
            return
        if old.severity is Severity.CRITICAL and not old.acknowledged:
            self._alerts[key] = changed(old, lasting=False)
        else:
            del self._alerts[key]

    def acknowledge(self, key: str) -> bool:
        """An operator has seen it; a lasting one goes on being shown."""
        old = self._alerts.get(key)
        if old is None:
            return False
        if old.lasting:
            self._alerts[key] = changed(old, acknowledged=True)
        else:
            del self._alerts[key]
        return True

    def alerts(self) -> tuple[Alert, ...]:
        """Worst first, unacknowledged before acknowledged, oldest first."""
        return tuple(sorted(self._alerts.values(), key=lambda a: (a.acknowledged, _WORST_FIRST[a.severity], a.since)))

    # -- procedures ---------------------------------------------------------------------------------------

    def begin(self, id: CommandId, title: str, session: SessionId | None) -> Callable[[str], None]:
        """Open a procedure; returns how its lines are said."""
        self._procedures[id] = Procedure(
            id=id, title=title, session=session, started=self._clock.now(), lines=(), ok=None, result=""
        )
        while len(self._procedures) > KEEP_PROCEDURES:
            del self._procedures[next(iter(self._procedures))]
        return lambda line: self._say(id, line)

    def _say(self, id: CommandId, line: str) -> None:
        old = self._procedures.get(id)
        if old is not None:
            self._procedures[id] = changed(old, lines=(*old.lines, (self._clock.now(), line)))
        self.event(Progressed(id, line, None))

    def end(self, id: CommandId, ok: bool, result: str) -> None:
        """Close a procedure with its result."""
        old = self._procedures.get(id)
        if old is not None:
            self._procedures[id] = changed(old, ok=ok, result=result)
        self.event(Progressed(id, result, ok))

    def procedures(self) -> tuple[Procedure, ...]:
        """Running and recent ones, newest first."""
        return tuple(reversed(self._procedures.values()))


def tell_dead_jobs(board: Board, health: StoreHealth) -> None:
    """An alert that stands while background jobs are dead, and goes when there are none."""
    count = health.dead_jobs
    if not count:
        board.clear("jobs")
        return
    text = "1 background job is dead" if count == 1 else f"{count} background jobs are dead, the first"
    text += f" ({health.died_of}): trades and daily profit are out of date; Retry jobs runs what is dead again"
    board.alert("jobs", Severity.WARNING, text, lasting=True)


class SessionReporter:
    """The board as one session's rooms see it: what they raise carries the session's name."""

    def __init__(self, board: Board, session: SessionId | None) -> None:
        self._board = board
        self._session = session

    def event(self, what: Occurrence) -> None:
        """A numbered event."""
        self._board.event(what)

    def alert(self, key: str, severity: Severity, text: str, *, lasting: bool = False) -> None:
        """Something wants a hand."""
        self._board.alert(key, severity, text, lasting=lasting, session=self._session)

    def clear(self, key: str) -> None:
        """The cause is gone."""
        self._board.clear(key)

"""A desk in the middle of an eventful afternoon: the fixed snapshots behind the pictures and the console's tests.

One paper account, four sessions. EURUSD is long and guarded; BTCUSD has an entry in doubt; ES is held back because
the broker closed part of its position; NQ warms up. `blocked_desk` is the same desk over its heat limit.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from engine.commands import Command, Receipt
from engine.domain.broker import LinkState
from engine.domain.risk import (
    CompleteHeat,
    IncompleteHeat,
    Stance,
)
from engine.domain.settings import ShutdownPolicy
from engine.events import Event
from engine.queries import Answer, CheckAnswer, ModifyCheck, Query, TicketCheck
from engine.snapshot import (
    Block,
    DeskSnapshot,
    FeedView,
    Lamp,
    Lamps,
    LampView,
    LoopLag,
    SessionView,
)
from screenshots.journal_story import Trail
from screenshots.ledger_story import ALERTS, account, disagreements, fills, heat, orders, recent, stopped
from screenshots.market_story import MINUTE, NOW, D, btcusd, es, eurusd, nq


def lamps(**changed: LampView) -> Lamps:
    """Five lamps of the busy desk."""
    shown = {
        "inbound": LampView(Lamp.OK, "0.4s", "0.4s"),
        "outbound": LampView(Lamp.WARN, "1?", "1 in doubt"),
        "persistence": LampView(Lamp.OK, "ok", "ok"),
        "reconciliation": LampView(Lamp.ALARM, "2", "2 open"),
        "aggregation": LampView(Lamp.OK, "5.6%", "5.6 %"),
    }
    return Lamps(**{**shown, **changed})


def busy_desk() -> DeskSnapshot:
    """The afternoon as it stands."""
    views: dict[str, SessionView] = {view.id: view for view in (eurusd(), btcusd(), es(), nq())}
    return DeskSnapshot(
        number=412,
        at=NOW,
        live=False,
        started=NOW - 81 * MINUTE,
        title="paper desk",
        killed=False,
        kill_reason="",
        stopping=False,
        shutdown_policy=ShutdownPolicy.CANCEL_ENTRIES,
        lamps=lamps(),
        sessions=tuple(views.values()),
        orders=orders(views),
        recent_orders=recent(views),
        disagreements=disagreements(),
        accounts=(account(),),
        feed=FeedView(name="synthetic", link=LinkState.UP, since=NOW - 80 * MINUTE, reason="", last_tick=NOW - 400),
        heat=heat(percent="5.63", stance=Stance.OPEN),
        alerts=ALERTS,
        procedures=(),
        loop_lag=LoopLag(0.4, 2.1, 6.0),
        persistence_detail="sqlite, 3 ms a commit",
    )


def blocked_desk() -> DeskSnapshot:
    """The same desk over its heat limit: entries blocked everywhere, exits open."""
    reason = "heat 8.4 % is over the block of 8.0 %"
    desk = busy_desk()
    return msgspec.structs.replace(
        desk,
        heat=heat(percent="8.42", stance=Stance.BLOCK, reason=reason, since=NOW - 95_000),
        lamps=lamps(aggregation=LampView(Lamp.ALARM, "8.4%", "8.4 % block")),
        sessions=tuple(
            msgspec.structs.replace(
                view,
                stance=Stance.BLOCK,
                blocked=(Block(reason, NOW - 95_000), *view.blocked),
                stopped=stopped(view),
                stopped_entries=len(stopped(view)),
            )
            for view in desk.sessions
        ),
    )


def incomplete_desk() -> DeskSnapshot:
    """One session has died: the gauge shows a floor and never a total."""
    desk = busy_desk()
    view = msgspec.structs.replace(
        desk.heat,
        heat=IncompleteHeat(at_least=D("4.21"), money=D("4210"), missing=("es-range",), reporting=3, expected=4),
        stance=Stance.BLOCK,
        reason="es-range has not reported for 47 s",
        since=NOW - 47_000,
        missing=("es-range",),
    )
    return msgspec.structs.replace(desk, heat=view)


def nothing_against(query: Query) -> CheckAnswer:
    """The engine's word on a check: a fifth of a percent more heat, and nothing stands against it."""
    leaving = isinstance(query, TicketCheck) and query.is_exit
    return CheckAnswer(
        at=NOW,
        refusals=(),
        plan="the stop sx0a1b2c3d4e5f6g7h8j9k becomes a market order" if leaving else "",
        quantity=D("0.6") if leaving else None,
        closable=D("0.6") if leaving else None,
        price=D("1.11963"),
        notional=D("67177.80"),
        risk=None if leaving else D("200.00"),
        before=CompleteHeat(percent=D("5.63"), money=D("5628.82"), equity=D("99979.00")),
        after=None if leaving else D("5.83"),
    )


class StillClient:
    """A client over fixed snapshots: records commands, answers each with a receipt."""

    def __init__(self, snapshot: DeskSnapshot | None) -> None:
        self.current = snapshot
        self.sent: list[Command] = []
        self.happened: list[Event] = []
        self.refusal: str | None = None
        self.silence: Exception | None = None
        self.asked: list[Query] = []
        self.trail: Trail | None = None
        self.answers: Callable[[Query], Answer] = nothing_against

    def snapshot(self) -> DeskSnapshot | None:
        """The fixed picture."""
        return self.current

    def events(self, since: int) -> tuple[Event, ...]:
        """Events given to it."""
        return tuple(event for event in self.happened if event.number > since)

    async def send(self, command: Command) -> Receipt:
        """Record it and give a receipt."""
        self.sent.append(command)
        if self.silence is not None:
            raise self.silence
        taken = self.refusal is None
        return Receipt(id=command.origin.id, taken=taken, message=self.refusal or "taken", at=NOW)

    async def ask(self, query: Query) -> Answer:
        """From the story's audit trail; what an order would meet by `answers`."""
        self.asked.append(query)
        if self.silence is not None:
            raise self.silence
        if isinstance(query, TicketCheck | ModifyCheck):
            return self.answers(query)
        if self.trail is None:
            views = {str(view.id): view for view in (eurusd(), btcusd(), es(), nq())}
            kept = (*orders(views), *recent(views))
            self.trail = Trail(kept, fills(views), disagreements())
        return self.trail.answer(query)


__all__ = ["StillClient", "blocked_desk", "busy_desk", "incomplete_desk"]

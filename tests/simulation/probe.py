"""Reads a desk's mind: values out of the live engine, changing nothing."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from engine.domain.ids import Millis, SessionId
from engine.domain.orders import Order
from engine.session_run import SessionRun
from engine.snapshot import Phase
from tests.simulation.oracle.mind import HeatMind, Mind, Promise

if TYPE_CHECKING:
    from tests.simulation.desk import Desk


def mind(desk: Desk, run: SessionRun) -> Mind:
    """What one session believes."""
    session, book = run.desk, run.desk.book
    foreign = desk.engine.accounts[book.account].reconciler.foreign
    return Mind(
        life=desk.life.name,
        session=run.id,
        account=book.account,
        symbol=book.symbol,
        position=book.position.quantity,
        average=book.position.average_price,
        orders=book.open(),
        doubt_blocks="doubt" in session.blocks,
        killed=desk.engine.kill_reason is not None,
        phase=session.phase,
        confirmed_at=book.confirmed_at,
        began=desk.engine.started,
        protection=session.protection,
        exiting=run.trader.exits.busy,
        closed=run.trader.gate.standing(),
        alive=run.dead is None and session.phase not in (Phase.STARTING, Phase.DEAD, Phase.STOOD_DOWN),
        moved=book.last_event,
        foreign=frozenset(order.terms.symbol for order in foreign),
        strange=tuple((o.terms.symbol, o.terms.side.sign, o.terms.quantity - o.filled) for o in foreign),
        slowest=session.slowest_acceptance_ms,
        mark=session.mark,
        gap=run.trader.stream.is_buffering,
        wish=desk.strategies[run.id].wish,
        day_result=session.ledger.total(book.position, session.mark),
        day=session.ledger.day,
        stored=not desk.store.trouble(),
    )


def minds(desk: Desk) -> tuple[Mind, ...]:
    """All sessions."""
    return tuple(mind(desk, run) for run in desk.engine.sessions.values())


def mind_of(desk: Desk, session: SessionId) -> Mind | None:
    """One session, once the engine has it."""
    run = desk.engine.sessions.get(session)
    return None if run is None else mind(desk, run)


def heat(desk: Desk) -> HeatMind:
    """The aggregate."""
    portfolio = desk.engine.portfolio
    view = portfolio.view(0)
    return HeatMind(
        heat=portfolio.heat(),
        block=portfolio.settings.limits.block,
        release=portfolio.settings.limits.release,
        contributions=view.contributions,
        reservations=view.reservations,
        unowned=view.unowned,
        group_percent=view.group_percent,
        group_block={each.name: each.block for each in view.groups},
    )


def alert(desk: Desk, id: str) -> str | None:
    """How loud an alert is, None when it is not raised."""
    found = next((each for each in desk.engine.board.alerts() if each.id == id), None)
    return None if found is None else str(found.severity)


def remembers(desk: Desk, session: SessionId, client_id: str) -> bool:
    """Whether the session's book holds the order in any state."""
    run = desk.engine.sessions.get(session)
    return run is not None and any(order.client_id == client_id for order in run.desk.book)


def order_of(desk: Desk, session: SessionId, client_id: str) -> Order | None:
    """An order in the session's book."""
    run = desk.engine.sessions.get(session)
    if run is None:
        return None
    return next((order for order in run.desk.book if order.client_id == client_id), None)


def has_asked(desk: Desk, session: SessionId, client_id: str) -> bool:
    """Whether it asked for a change or a cancel of an open order and waits, or its account's line is down."""
    order = order_of(desk, session, client_id)
    if order is None:
        return False
    return order.cancel_wanted or order.wanted is not None or desk.wires[order.account].up_since is None


def broken_promises(desk: Desk) -> tuple[tuple[str, SessionId, Millis], ...]:
    """Flattens of one session that ended with the words that it is not flat, and since when they had been at it."""
    ended = (p for p in desk.engine.board.procedures() if p.ok is False and p.result.startswith("NOT"))
    now = desk.clock.now()
    return tuple((str(p.id), p.session, now - p.started) for p in ended if p.session is not None)


SAID = "broker says position "


def promises(desk: Desk, known: Container[tuple[str, SessionId]]) -> tuple[Promise, ...]:
    """Procedures that ended with the words "flat confirmed", but for those that are known."""
    engine = desk.engine
    found = []
    for procedure in engine.board.procedures():
        if procedure.ok and procedure.result.startswith("flat confirmed"):
            sessions = [procedure.session] if procedure.session is not None else list(engine.sessions)
            at = procedure.lines[-1][0] if procedure.lines else procedure.started
            for session in sessions:
                if (str(procedure.id), session) in known:
                    continue
                lines = (line.removeprefix(f"{session}: ") for _, line in reversed(procedure.lines))
                said = next((line for line in lines if line.startswith(SAID)), "")
                found.append(Promise(str(procedure.id), session, procedure.started, at, said.removeprefix(SAID)))
    return tuple(found)

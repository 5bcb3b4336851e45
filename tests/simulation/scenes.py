"""What a run knows of its desk beside what the desk says: for the oracle, as values and as excuses."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from engine.domain.ids import AccountId, ClientOrderId, Millis, SessionId, Symbol
from engine.domain.intents import PAUSE_NOTE, Noted
from engine.domain.market import Tick
from engine.persistence.intent_journal import IMPORTED, parse
from tests.simulation.market import MINUTE_MS
from tests.simulation.oracle.scene import Scene
from tests.simulation.oracle.truth import ELSEWHERE

if TYPE_CHECKING:
    from tests.simulation.desk import Desk
    from tests.simulation.run import Run
    from tests.simulation.wire import Wire

STEADY_MS = 5_000
WORDS_MS = 7_000
TRIP_MS = 20
OLD_MS = 1_000
"""An answer given again is still good when it is no older than this at the question."""
WINDOW = 5
LATCH = Path("/desk/KILL")
NEWS_MS = 2_000
READ_MS = 1_000
STRANGE_NEWS_MS = 45_000
"""Nobody streams what a stranger's order does: a position check sees it within 30 s, asks, and looks again."""
IN_TIME_MS = 1_000
"""How long a desk has to write down a deed that lowered risk, or to say that it cannot."""
RECORDED = "SELECT 1 FROM orders WHERE client_id = ?"
HELD = "SELECT scope, kind FROM latches WHERE held = 1"


def scene(run: Run, desk: Desk, account: AccountId, symbol: Symbol | None) -> Scene:
    """The moment in which a request leaves."""
    world = run.world
    now, clock = world.loop.at, desk.clock.now()
    epoch = desk.engine.accounts[account].lease.epoch
    renewed = world.database.renewed.get((account, epoch))
    newest = desk.feed.newest.get(symbol) if symbol is not None else None
    read_at, positions = desk.wires[account].read
    money_at = min(wire.money_at for wire in desk.wires.values())
    return Scene(
        life=desk.life.name,
        began=desk.engine.started,
        clock=clock,
        tick_age=None if newest is None else clock - newest,
        renewed_age=None if renewed is None else round(now - renewed),
        read_age=now - read_at if read_at else None,
        read=positions.get(symbol, Decimal(0)) if symbol is not None else Decimal(0),
        reads=_reads(desk.wires[account], symbol, now) if symbol is not None else (),
        read_most=_most(desk.wires[account], symbol, now) if symbol is not None else Decimal(0),
        told=tuple(desk.feed.told.get(symbol, ())) if symbol is not None else (),
        mark=world.market.last(symbol) if symbol is not None else Decimal(0),
        money_age=now - money_at if money_at else None,
        has_gap=symbol in desk.feed.gaps,
        is_steady=clock == now and now - max(desk.steady_since, desk.clock.right_since) > STEADY_MS,
        is_old=run.rivals.newest_epoch(account) > epoch,
        can_know=world.database.answers(now, desk.life.name),
    )


def _reads(wire: Wire, symbol: Symbol, now: Millis) -> tuple[Decimal, ...]:
    """What each complete word of the last seconds said of a contract."""
    return tuple(held.get(symbol, Decimal(0)) for at, held in wire.reads if at >= now - WORDS_MS)


def unknown_positions(run: Run, desk: Desk, wire: Wire) -> list[tuple[Symbol, Decimal]]:
    """Contracts that nobody of the account trades, and the least that its newest words say is held of each.

    The newest of all is on its way still, the one before it was read; by a wrong clock none was believed.
    """
    now, since = run.world.clock.now(), desk.clock.right_since
    places = run.oracle.truth.places
    symbols = [symbol for symbol in wire.read[1] if (wire.account, symbol) not in places]
    if not symbols:
        return []
    newest = next((n for n, (at, _) in enumerate(reversed(wire.reads)) if since <= at < now - READ_MS), None)
    words = [] if newest is None else [held for _, held in list(wire.reads)[-newest - 1 :]]
    return [(each, min((abs(held.get(each, Decimal(0))) for held in words), default=Decimal(0))) for each in symbols]


def _most(wire: Wire, symbol: Symbol, now: Millis) -> Decimal:
    """The most, bought or sold, that a word on which somebody may still act said of a contract."""
    words = [(at, abs(positions.get(symbol, Decimal(0)))) for at, positions in wire.reads]
    before = [size for at, size in words if at < now - WORDS_MS]
    return max([*before[-1:], *(size for at, size in words if at >= now - WORDS_MS)], default=Decimal(0))


def is_taken_over(run: Run, desk: Desk) -> bool:
    """Whether somebody else commands one of its accounts, though nobody may have told it yet."""
    return any(run.rivals.newest_epoch(a) > held.lease.epoch for a, held in desk.engine.accounts.items())


def unheard_until(run: Run) -> Millis:
    """By when the desk has to know what happened last at the exchange."""
    records = [order.record for order in run.world.exchange.book.orders.values()]
    strange = [r.updated + STRANGE_NEWS_MS for r in records if r.client_id is None and r.filled]
    return max([*strange, *(r.updated + NEWS_MS for r in records)], default=0)


def amended(run: Run, desk: Desk, tick: Tick) -> None:
    """A feed is about to bring a late trade of a window that has closed: a record may be owed."""
    start = tick.at - tick.at % MINUTE_MS
    if not desk.is_up or desk.life.paused or not desk.feed.is_up:
        return
    for session in desk.engine.sessions.values():
        stream = session.trader.stream
        last = stream.series.last
        if session.desk.book.symbol != tick.symbol or stream.is_buffering or last is None:
            continue
        known = stream.series.at(start, WINDOW) is not None and start in desk.strategies[session.id].decided
        if known and 0 <= last.start - start < (WINDOW - 1) * MINUTE_MS:
            run.oracle.duties.amended(desk.life.name, session.id, start)


class Answers:
    """The complete answers about orders that the account's brokers have given."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def _of(self, account: AccountId, client_id: ClientOrderId) -> list[Millis]:
        names = ("orders", f"order {client_id}")
        return [at for at, name in self._run.world.durable.wires[account].answered if name in names]

    def since(self, account: AccountId, client_id: ClientOrderId, since: Millis) -> int:
        """How many there were since a moment."""
        return sum(at >= since for at in self._of(account, client_id))

    def listed(self, account: AccountId, since: Millis, until: Millis) -> bool:
        """Whether open orders were told between two moments of the desk's clock, if that is right."""
        desk = self._run.desk
        if desk is None or "clock step" in self._run.options.faults or desk.engine.started > since:
            return True
        return desk.wires[account].answered_at.get("open orders", 0) >= since

    def came(self, account: AccountId, client_id: ClientOrderId, since: Millis, until: Millis) -> bool:
        """Whether one came between two moments of the desk's clock, if that is right."""
        kinds = self._run.options.faults
        early = since - (OLD_MS if "stale query" in kinds else TRIP_MS)
        return "clock step" in kinds or any(early <= at <= until for at in self._of(account, client_id))


def stood(run: Run, account: AccountId, since: Millis) -> Millis:
    """For how long since a moment the process stood still or the broker let no request of the account leave."""
    desk, now = run.desk, run.world.clock.now()
    spans = [] if desk is None else [*desk.stills, _stood(desk, now)] if desk.life.paused else desk.stills
    total, last = 0, since
    for begun, ended in sorted([*spans, *run.world.durable.wires[account].unsent]):
        total += max(0, min(ended, now) - max(begun, last))
        last = max(last, min(ended, now))
    return total


def _stood(desk: Desk, now: Millis) -> tuple[Millis, Millis]:
    if not desk.paused_at:
        return 0, 0
    return desk.paused_at, now if desk.life.paused else desk.steady_since


def forget_what_nothing_took(run: Run, desk: Desk) -> None:
    """A kill or pause that neither the database nor the disk took dies with its process.

    It has effect at once, whatever can record it; its process says within a second (in which it did not stand still)
    that it is written nowhere, or it has no excuse. The next life cannot know of it.
    """
    requests, now = run.oracle.requests, run.world.clock.now()
    said = [alert.id for alert in desk.engine.board.alerts()]
    held = set(run.world.database.raw.execute(HELD).fetchall())
    files = run.world.files.kept

    begun, ended = _stood(desk, now)

    def excused(what: SessionId | None, told: bool) -> bool:
        given = run.testimony.held_at.get(what, 0)
        return told or now - given - max(0, min(ended, now) - max(begun, given)) < IN_TIME_MS

    if ("", "kill") not in held and LATCH not in files and excused(None, "kill-file" in said):
        _forget_kill(run)
    noted: set[SessionId | None] = set()
    for path, data in files.items():
        if path.suffix != IMPORTED:
            noted |= {r.session for r in parse(data)[0] if isinstance(r, Noted) and r.what == PAUSE_NOTE}
    for session in run.oracle.truth.places.values():
        told = any(id.startswith("unwritten:override/") and id.endswith(f"/{session}") for id in said)
        if (session, "pause") not in held and session not in noted and excused(session, told):
            requests.paused.discard(session)
            run.oracle.released((session,))


def _forget_kill(run: Run) -> None:
    """Nothing holds entries back by it, nor by "flat" where it was flattened under the kill alone."""
    requests, sessions = run.oracle.requests, run.oracle.truth.places.values()
    if requests.killed:
        requests.killed = False
        run.oracle.released(tuple(session for session in sessions if session not in requests.paused))


def forget_what_is_elsewhere(run: Run) -> None:
    """Another machine took the accounts, by a typed word: it cannot know what only the first one's journal has."""
    held = set(run.world.database.raw.execute(HELD).fetchall())
    if ("", "kill") not in held and LATCH not in run.world.files.kept:
        _forget_kill(run)
    for session in tuple(run.oracle.requests.paused):
        if (session, "pause") not in held:
            run.world.hit("pause lost with its machine")
            run.oracle.requests.paused.discard(session)
            run.oracle.released((session,))
    database, unrecorded = run.world.database.raw, run.oracle.truth.unrecorded
    for client_id in run.oracle.truth.left:
        if database.execute(RECORDED, (client_id,)).fetchone() is None:
            run.world.hit("order known elsewhere alone")
            unrecorded.setdefault(client_id, ELSEWHERE)

"""What is owed within a time: questions about orders in doubt, records of replaced candles, an alarm of a full disk."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from engine.domain.broker import FillsKind
from engine.domain.ids import AccountId, ClientOrderId, Millis, SessionId
from engine.domain.orders import IN_DOUBT, TERMINAL, Flag, Order, OrderState, Role
from engine.snapshot import Phase
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.mind import Mind
from tests.simulation.oracle.truth import Truth

ASKED_MS = 60_000
CANCEL_MS = 10_000
PENDING_MS = 15_000
"""Five seconds without the broker's final word, and then it is a doubt."""
FETCHED_MS = 12_000
"""They are asked for every second; other questions may come first."""
PENDING = (OrderState.PENDING_CANCEL, OrderState.PENDING_REPLACE)
RESTING = (OrderState.WORKING, OrderState.PARTIALLY_FILLED)
OLDEST = "SELECT session, state, created FROM orders WHERE is_live = 1"
SEEN_TWICE_MS = 1_500
RECONNECTED_MS = 6_000
ADOPTED = (
    "SELECT d.id, d.broker_read, (SELECT min(l.at) FROM log AS l WHERE l.kind = 'disagreement' AND l.subject = d.id "
    "AND l.text LIKE '%: adopted;%') FROM disagreements AS d WHERE d.kind IN ('position', 'reversal')"
)
MISSED_MS = 15_000
EVALUATED = "SELECT candle FROM evaluated_candles WHERE session = ?"
INTENT = "SELECT 1 FROM intents WHERE key = ?"
MARKED = "SELECT 1 FROM orders WHERE session = ? AND updated >= ? AND flags LIKE ?"
COMMANDED = (
    "SELECT o.client_id FROM orders AS o JOIN intents AS i ON i.client_id = o.client_id AND i.at > o.updated "
    "WHERE o.is_live = 1 AND i.kind = 'cancel' AND o.state IN ('working', 'partially filled')"
)
ASKED_TO_GO = "SELECT cancel_wanted FROM orders WHERE client_id = ? AND state = 'cancelled'"
REPLACED = "SELECT count(*) FROM replaced_candles WHERE session = ? AND candle = ?"


class Duties:
    """Judges at intervals, and after quiet."""

    def __init__(self, truth: Truth, findings: Findings) -> None:
        self._truth = truth
        self._findings = findings
        self.held_since: dict[SessionId, Millis] = {}
        self._lives: set[tuple[str, SessionId]] = set()
        self._commanded: dict[str, set[str]] = {}
        self._looked: set[str] = set()
        self._oldest: dict[tuple[str, SessionId], Millis] = {}
        self._owing: dict[tuple[str, SessionId], dict[ClientOrderId, Millis]] = {}
        self._owed: list[tuple[str, SessionId, Millis]] = []
        self._lines: dict[tuple[str, AccountId], Millis] = {}
        self._missed: dict[SessionId, Millis] = {}
        self._trades_since: dict[tuple[str, SessionId], Millis] = {}

    def begin(self, life: str, journalled: Callable[[str], bool]) -> None:
        """A life begins: which resting orders the one before asked to go, with nothing younger in the books."""
        for session, state, created in self._truth.database.execute(OLDEST):
            if state not in TERMINAL:
                self._oldest[life, session] = min(created, self._oldest.get((life, session), created))
        rows = self._truth.database.execute(COMMANDED).fetchall()
        self._commanded[life] = {client_id for (client_id,) in rows if not journalled(client_id)}

    def commanded(self, mind: Mind) -> None:
        """I26: the first look at a life: what was asked to go may have been told so, and is not called resting."""
        for order in mind.orders:
            if order.client_id in self._commanded.get(mind.life, ()) and order.client_id not in self._looked:
                self._looked.add(order.client_id)
                known = order.cancel_wanted or order.state not in RESTING
                self._findings.check(
                    "I26 command", known, f"a cancel of {order.client_id} was durable, and is forgotten"
                )

    def recovered(self, mind: Mind, fills_from: Millis | None) -> None:
        """A session trades: what filled since its oldest open order was made was asked for first, once a life."""
        oldest = self._oldest.pop((mind.life, mind.session), None) if mind.phase is Phase.TRADING else None
        if oldest is not None and self._truth.exchange.capabilities(mind.account).fills is FillsKind.EXECUTIONS:
            asked = fills_from is not None and fills_from <= oldest
            self._findings.check(
                "I26 asked",
                asked,
                f"{mind.session} trades; its order of {oldest} is open, fills told since {fills_from}",
            )

    def fetched(self, mind: Mind, now: Millis, asked: Millis, up_since: Millis | None) -> None:
        """An order that the broker ended with more filled than was told: the executions are asked for."""
        key = (mind.life, mind.session)
        known = self._owing.get(key, {})
        owing = {o.client_id: known.get(o.client_id, now) for o in mind.orders if o.open_for_fills and _is_still(o)}
        self._owing[key] = owing
        for client_id, first in owing.items() if up_since is not None and mind.alive else ():
            lasted = now - max(first, up_since or now, asked)
            self._findings.check(
                "rule 5 fills", lasted <= FETCHED_MS, f"{client_id} lacks fills; nobody asked for {lasted} ms"
            )

    def doubts(self, mind: Mind, now: Millis, asked: Millis, up_since: Millis | None) -> None:
        """The protocol's rule 5: while the line is up an order in doubt is asked about, at least every minute."""
        if up_since is None or not mind.alive:
            return
        for order in mind.orders:
            if order.state in PENDING and order.sent is not None:
                lasted = now - max(order.sent, up_since)
                self._findings.check(
                    "rule 4 pending", lasted <= PENDING_MS, f"{order.client_id} is {order.state} for {lasted} ms"
                )
            if order.state in IN_DOUBT and order.doubt is not None:
                since = max(order.doubt.since, up_since, asked)
                self._findings.check(
                    "rule 5",
                    now - since <= ASKED_MS,
                    lambda o=order, s=since: f"{o.client_id} is {o.state}; nobody asked for {now - s} ms",  # type: ignore[misc]
                )

    def reconnected(
        self, life: str, account: AccountId, up_since: Millis, now: Millis, asked: dict[str, Millis]
    ) -> None:
        """A line that is back is first asked where things stand; nothing else tells what happened meanwhile."""
        if now - up_since > RECONNECTED_MS and self._lines.get((life, account)) != up_since:
            self._lines[life, account] = up_since
            silent = [name for name in ("positions", "open orders") if asked.get(name, 0) < up_since]
            self._findings.check(
                "I30 line", not silent, f"{life}: {account} is back since {up_since}, nobody asked for {silent}"
            )

    def held(self, mind: Mind, now: Millis, *, killed: bool) -> None:
        """I33: under a kill, a flatten or a pause that keeps nothing, entries that rest are asked to go.

        A life that begins `killed` asks all that it finds.
        Those that left before it by the world's time: the desk's clock may be behind.
        """
        if killed and (mind.life, mind.session) not in self._lives:
            self.held_since.setdefault(mind.session, now)
        self._lives.add((mind.life, mind.session))
        since = self.held_since.get(mind.session)
        if since is None or now - since < CANCEL_MS or not mind.alive:
            return
        for order in mind.orders:
            before = self._truth.left.get(order.client_id, order.created) < since
            taken_over = order.broker_id in self._truth.adopted  # by hand, and so not unknowing of the hold
            if order.role is Role.ENTRY and order.state in RESTING and before and not taken_over:
                self._findings.check("I33 cancel", order.cancel_wanted, f"{order.client_id} rests under a hold")

    def marked(self, mind: Mind, now: Millis, newest: tuple[Millis, Decimal] | None) -> None:
        """The mark is the newest trade that the feed brought, by the trade's own time, since the session trades.

        `newest` is when it was brought, and its price. What came while a session started over reached nobody.
        """
        if mind.phase is not Phase.TRADING:
            self._trades_since.pop((mind.life, mind.session), None)
            return
        since = self._trades_since.setdefault((mind.life, mind.session), now)
        if mind.mark is not None and newest is not None and newest[0] > since:
            price = newest[1]
            self._findings.check("mark", mind.mark == price, f"{mind.session} marks {mind.mark}, the feed said {price}")

    def missed(self, mind: Mind, now: Millis | None, used: Millis, told: Callable[[], str | None]) -> None:
        """An exit that was wanted on a candle of a warm-up or a gap, and by nothing since, leaves once it can.

        `now` is None while line or feed is down; `used` the newest candle that an earlier life had decided on. One that
        a doubt defers (rule 9) is `told` so, under an alarm.
        """
        wish, known = mind.wish, -1 if mind.wish is None else max(mind.wish.before, used)
        waits = wish is not None and wish.is_past and wish.leaves and 0 <= known < wish.candle
        if waits:
            self._findings.check("missed exit", True, "")  # it was owed; that it left in time is what is expected
        unsure = any(o.role is Role.EXIT or o.is_in_doubt or o.state is OrderState.LOST for o in mind.orders)
        works = mind.alive and mind.phase is Phase.TRADING and not mind.gap and not mind.exiting and not unsure
        if wish is None or now is None or not waits or not works or not mind.position or not mind.stored:
            self._missed.pop(mind.session, None)
            return
        if now - self._missed.setdefault(mind.session, now) < MISSED_MS or told() is not None:
            return
        prefix = f"{mind.session}/{wish.candle}/exit"
        row = self._truth.database.execute(EVALUATED, (mind.session,)).fetchone()
        if row is not None and row[0] >= wish.candle:
            return  # decided on since, or by a life that went on beside this one
        left = any(order.key.startswith(prefix) for order in self._truth.sent.values())
        left = left or any(Flag.MISSED in order.flags for order in mind.orders)  # a stop that was to become the exit
        # the same once it has filled, before somebody entered again
        marked = (mind.session, wish.candle, f'%"{Flag.MISSED}"%')
        left = left or self._truth.database.execute(MARKED, marked).fetchone() is not None
        left = left or self._truth.database.execute(INTENT, (f"{prefix}/1",)).fetchone() is not None
        self._findings.check("missed exit", left, f"{mind.session} wanted out on {wish.candle}; nothing left")

    def amended(self, life: str, session: SessionId, start: Millis) -> None:
        """A candle on which a strategy had decided has other values now, and the desk has seen it."""
        self._owed.append((life, session, start))

    def quiet(self, life: str, *, settled: bool, right_clock: bool) -> None:
        """I18, and nothing left in the journal, once nothing has been wrong for minutes."""
        for of, session, start in self._owed:
            if of == life:
                (rows,) = self._truth.database.execute(REPLACED, (session, start)).fetchone()
                self._findings.check("I18", bool(rows), f"{session} decided on {start}, which changed: no record")
        self._owed.clear()
        for client_id in self._commanded.get(life, ()):
            for (wanted,) in self._truth.database.execute(ASKED_TO_GO, (client_id,)):
                self._findings.check(
                    "I26 command", bool(wanted), f"{client_id} was cancelled; nobody knew that we asked"
                )
        for id, seen, adopted in self._truth.database.execute(ADOPTED) if right_clock else ():
            twice = adopted is None or adopted - seen >= SEEN_TWICE_MS
            self._findings.check(
                "I10 twice", twice, f"{id} was adopted {(adopted or 0) - seen} ms after the first read"
            )
        self._findings.check("I29 journal", settled, f"{life}: what was journalled is not in the database")

    def room(self, free_percent: int, since: Millis, now: Millis, told: str | None) -> None:
        """Little room on the disk is said within half a minute, and how little."""
        if now - since < 30_000:
            return
        wanted = "critical" if free_percent < 2 else "warning"
        self._findings.check(
            "disk alarm", told == wanted, f"{free_percent} % of the disk is free for {now - since} ms; told {told}"
        )


def _is_still(order: Order) -> bool:
    """Whether nothing else is to be asked about it before its fills are."""
    return order.doubt is None and order.state not in PENDING and not order.cancel_wanted

"""The audit trail against the truth: every adoption explained, every move legal, every command on record."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable
from decimal import Decimal

from engine.domain.broker import BrokerFill
from engine.domain.ids import Millis
from engine.domain.instruments import Instrument
from engine.domain.orders import TERMINAL, OrderState
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.truth import Place, Truth

S = OrderState
EVENTS = (
    "SELECT rowid, client_id, revision, state, event FROM order_events WHERE rowid > ? ORDER BY client_id, revision"
)
ADOPTED = (
    "SELECT position_effect, memory, broker, query FROM disagreements "
    "WHERE account = ? AND symbol = ? AND kind IN ('position', 'reversal') AND state = 'adopted'"
)
BALANCES = "SELECT equity, cash, margin_used, currency FROM balances WHERE account = ? ORDER BY number"
NEWEST_FILL = "SELECT coalesce(max(number), 0) FROM fills WHERE account = ? AND symbol = ?"
TRADED_TO = "SELECT coalesce(max(version), 0) FROM trade_versions WHERE account = ? AND symbol = ?"
FILLS = (
    "SELECT side, quantity, price, fee FROM fills AS f WHERE account = ? AND symbol = ? AND revision = "
    "(SELECT max(revision) FROM fills AS g WHERE g.account = f.account AND g.fill_key = f.fill_key) "
    "ORDER BY at, broker_id, CAST(since_quantity AS REAL), fill_key"
)
PROFITS = "SELECT profit FROM trades WHERE account = ? AND symbol = ?"
POSITIONS = (
    "SELECT number, account, symbol, at, quantity, average_price, version FROM positions WHERE number > ? "
    "ORDER BY number"
)
EXECUTED = "SELECT number, account, fill_key, revision, side, quantity, price, client_id FROM fills WHERE number > ?"
ADOPTED_ORDER = "SELECT 1 FROM orders WHERE client_id = ? AND flags LIKE '%external%'"
IN_ORDER = "SELECT rowid, client_id, revision FROM order_events WHERE rowid > ? AND event != 'imported' ORDER BY rowid"
CENT = Decimal("0.01")
AVERAGE_TOLERANCE = Decimal("0.000001")
FRESH_JOBS = "SELECT count(*) FROM jobs WHERE state != 'dead' AND queued >= ?"
JOB_MS = 10_000
NOTED_MS = 2_000
OVERRIDE = "SELECT count(*) FROM overrides WHERE id = ? OR id = ?"
STATE = "SELECT state FROM orders WHERE client_id = ?"
SENT_TWICE = "SELECT client_id, count(*) FROM order_events WHERE event = 'sent' GROUP BY client_id HAVING count(*) > 1"
GROWN = "SELECT (SELECT count(*) FROM disagreements), (SELECT count(*) FROM positions), (SELECT count(*) FROM fills)"

_BEFORE: dict[OrderState, frozenset[OrderState]] = {
    S.SUBMITTING: frozenset({S.SUBMITTING}),
    S.DENIED: frozenset({S.SUBMITTING}),
    S.ABANDONED: frozenset({S.SUBMITTING, S.IN_DOUBT_SUBMIT, S.LOST}),
    S.IN_DOUBT_SUBMIT: frozenset({S.SUBMITTING, S.IN_DOUBT_SUBMIT}),
    S.LOST: frozenset({S.IN_DOUBT_SUBMIT, S.LOST}),
}
"""From where these states may be reached; every other one may be reached from any that is not terminal."""


class Audit:
    """Judges what is durable."""

    def __init__(self, truth: Truth, findings: Findings, instruments: tuple[Instrument, ...]) -> None:
        self._truth = truth
        self._findings = findings
        self._point_value = {each.symbol: each.point_value for each in instruments}
        self._seen = 0
        self._rows = self._steps = self._told = 0
        self._kept: dict[tuple[str, str], tuple[Decimal, Decimal | None]] = {}
        self._highest: dict[str, int] = {}
        self._newest: dict[tuple[str, str], Millis] = {}
        self._states: dict[str, OrderState] = {}
        self._revisions: dict[str, int] = {}
        self.transitions: Counter[tuple[str, str]] = Counter()
        self._owed: list[tuple[str, str, str]] = []
        self._fresh: list[tuple[str, str, str, Millis]] = []
        self._reconciled: tuple[int, ...] | None = None
        self._filled_at: dict[Place, Millis] = {}

    def moves(self) -> None:
        """I12: every step of an order since the last look obeys the table."""
        rows = self._truth.database.execute(EVENTS, (self._seen,)).fetchall()
        for number, client_id, revision, word, event in rows:
            self._seen = max(self._seen, number)
            if revision < self._revisions.get(client_id, 0):
                continue  # a row that was refused with its batch came in later, by itself
            self._revisions[client_id] = revision
            state = S(word)
            before = self._states.get(client_id)
            self._states[client_id] = state
            if before is None or before is state:
                continue
            self.transitions[before.value, state.value] += 1
            allowed = before not in TERMINAL and before in _BEFORE.get(state, frozenset({before}))
            allowed = allowed or event == "lives after all"
            self._findings.check("I12", allowed, f"{client_id}: {before} -> {state} ({event})")

    def rows(self, *, right_clock: bool) -> None:
        """The newest row is what the next life believes: none of an earlier moment follows it."""
        fills: dict[str, tuple[int, Decimal, Decimal]] = {}
        names: dict[str, str] = {}
        for number, account, key, revision, side, *values, name in self._truth.database.execute(
            EXECUTED, (self._told,)
        ):
            self._told, of = number, f"{account}: fill {key} {revision}"
            fills[of], names[of] = (1 if side == "buy" else -1, Decimal(values[0]), Decimal(values[1])), name
        rows = self._truth.database.execute(POSITIONS, (self._rows,)).fetchall()
        for number, account, symbol, at, quantity, average, version in rows:
            self._rows, before = number, self._newest.get((account, symbol), at)
            self._newest[account, symbol] = at
            kept = Decimal(quantity), None if average is None else Decimal(average)
            was, self._kept[account, symbol] = self._kept.get((account, symbol), (Decimal(0), None)), kept
            if version.endswith(" 0") and (fill := fills.get(f"{account}: {version}")) is not None:
                same = _follows(was, fill, kept) or (was == kept and self._is_adopted(names[f"{account}: {version}"]))
                self._findings.check("I4 booked", same, f"{account} {symbol}: {was} became {kept} by {fill}")
            if right_clock:
                self._findings.check("I4 newest", at >= before, f"{account} {symbol}: a row of {at} follows {before}")

        for number, client_id, revision in self._truth.database.execute(IN_ORDER, (self._steps,)).fetchall():
            self._steps, before = number, self._highest.get(client_id, 0)
            self._highest[client_id] = max(before, revision)
            self._findings.check("I12 order", revision >= before, f"{client_id}: step {revision} follows {before}")

    def _is_adopted(self, client_id: str) -> bool:
        """Whether an operator made a stranger's order ours: what it filled before came with an adopted position."""
        return self._truth.database.execute(ADOPTED_ORDER, (client_id,)).fetchone() is not None

    def adoptions(self, place: Place, unheard: Decimal, *, exact: bool) -> None:
        """I10: what was adopted is what happened behind the desk's back, no more and no less."""
        rows = self._truth.database.execute(ADOPTED, place).fetchall()
        for effect, memory, broker, query in rows:
            self._findings.check("I10 row", bool(effect and memory and broker and query), f"{place}: {effect} {query}")
        if not exact:
            return
        adopted = sum((Decimal(row[0]) for row in rows), Decimal(0))
        happened = sum((each.by for each in self._truth.behind[place]), unheard)
        self._findings.check("I10", adopted == happened, f"{place}: adopted {adopted}, really changed {happened}")

    def balances(self, account: str) -> None:
        """I25."""
        rows = self._truth.database.execute(BALANCES, (account,)).fetchall()
        for one, other in itertools.pairwise(rows):
            self._findings.check("I25", one != other, f"{account}: two balance rows in a row say {one}")

    def trades(self, place: Place) -> None:
        """I40: no job is owed, and the trades stand at the newest fill."""
        (newest,) = self._truth.database.execute(NEWEST_FILL, place).fetchone()
        (done,) = self._truth.database.execute(TRADED_TO, place).fetchone()
        (fresh,) = self._truth.database.execute(FRESH_JOBS, (self._truth.now() - JOB_MS,)).fetchone()
        if fresh:
            return  # its cause committed a moment ago
        self._findings.check("I40", newest == done, f"{place}: trades stand at fill {done}, the newest is {newest}")
        if newest == done:
            kept = sum((Decimal(profit) for (profit,) in self._truth.database.execute(PROFITS, place)), Decimal(0))
            won = self._won(place)
            self._findings.check("I40 profit", abs(kept - won) < CENT, f"{place}: trades won {kept}, their fills {won}")

    def _won(self, place: Place) -> Decimal:
        """By the fills: what closing brought, the oldest first, less the fees of both sides."""
        lots: deque[tuple[int, Decimal, Decimal, Decimal]] = deque()
        won = Decimal(0)
        for side, size, price, fee in self._truth.database.execute(FILLS, place).fetchall():
            sign, left, at = (1 if side == "buy" else -1), Decimal(size), Decimal(price)
            each = Decimal(fee) / left if left else Decimal(0)
            while left and lots and lots[0][0] != sign:
                _, there, was, cost = lots.popleft()
                part = min(left, there)
                won += part * ((at - was) * -sign * self._point_value[place[1]] - cost - each)
                left -= part
                if there > part:
                    lots.appendleft((-sign, there - part, was, cost))
            if left:
                lots.append((sign, left, at, each))
        return won

    def commands(self, life: str) -> None:
        """I29: whatever left has an outcome on record, and left once.

        What left without a record has one by now, unless its life died before it could write it.
        """
        gone = {c for c, of in self._truth.unrecorded.items() if of != life}
        for client_id in [c for c in self._truth.left if c not in gone]:
            row = self._truth.database.execute(STATE, (client_id,)).fetchone()
            told = row is not None and row[0] != S.SUBMITTING
            self._findings.check("I29", told, f"{client_id} left; its row says {row}")
        for client_id, times in self._truth.database.execute(SENT_TWICE):
            self._findings.check("I29 once", False, f"{client_id} was sent {times} times")

    def raised(self, id: str, what: str) -> None:
        """I28: a deed that raises risk has its row by now."""
        (rows,) = self._truth.database.execute(OVERRIDE, (id, f"override/{id}")).fetchone()
        self._findings.check("I28", bool(rows), f"{what} ({id}) took effect without a row")

    def lowered(self, id: str, what: str, life: str, now: Millis) -> None:
        """A deed that lowers risk owes its row, and a record of it in a moment."""
        self._owed.append((id, what, life))
        self._fresh.append((id, what, life, now))

    def noted(self, life: str, now: Millis, steady_since: Millis, is_told: Callable[[str], bool]) -> None:
        """I28: by now it is in a row or in the journal, or an alarm says that it is nowhere."""
        due = [each for each in self._fresh if now - each[3] >= NOTED_MS]
        self._fresh = [each for each in self._fresh if now - each[3] < NOTED_MS]
        for id, what, of, at in due:
            if of == life and steady_since < at:
                (rows,) = self._truth.database.execute(OVERRIDE, (id, f"override/{id}")).fetchone()
                known = bool(rows) or is_told(f"override/{id}")
                self._findings.check(
                    "I28 noted", known, f"{what} ({id}) is in no row nor in the journal, and none says so"
                )

    def rows_of_overrides(self, life: str) -> None:
        """I28: deeds that lowered risk in a life that went on have their row."""
        for id, what, of in self._owed:
            if of == life:
                (rows,) = self._truth.database.execute(OVERRIDE, (id, f"override/{id}")).fetchone()
                self._findings.check("I28 lower", bool(rows), f"{what} ({id}) never got a row")
        self._owed.clear()

    def reconciling(self) -> None:
        """I31: the first of two reconciliations of an unchanged broker begins."""
        self._filled_at = dict(self._truth.filled_at)

    def reconciled_once(self) -> None:
        """What the first one left."""
        self._reconciled = tuple(self._truth.database.execute(GROWN).fetchone())

    def reconciled_twice(self) -> None:
        """I31: the second changed nothing."""
        now = tuple(self._truth.database.execute(GROWN).fetchone())
        same = self._truth.filled_at == self._filled_at  # nobody's order filled, ours or another's
        if self._reconciled is not None and same and now[2] == self._reconciled[2]:  # and no fill was late
            self._findings.check("I31", now == self._reconciled, f"reconciling again: {self._reconciled} became {now}")


def _follows(
    was: tuple[Decimal, Decimal | None], fill: tuple[int, Decimal, Decimal], now: tuple[Decimal, Decimal | None]
) -> bool:
    """Whether a position with its average price is what one before it became by an execution."""
    (held, average), (sign, size, price) = was, fill
    after = held + sign * size
    if now[0] != after:
        return False
    if not after or (held and average is None):
        return not after or now[1] is not None
    wanted = average if held * sign < 0 and held * after > 0 else price
    if held * sign > 0 and average is not None:
        wanted = (average * abs(held) + price * size) / abs(after)
    return now[1] is not None and wanted is not None and abs(now[1] - wanted) < AVERAGE_TOLERANCE


def signed(fill: BrokerFill) -> Decimal:
    """What an execution did to the position."""
    return fill.quantity * fill.side.sign


def moment(at: Millis) -> str:
    """For texts."""
    return f"{at} ms"

"""The rules of a session's day: what it may lose, how often it may enter, and when; by the broker's own fills."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from engine.domain.broker import BrokerFill, FillsKind
from engine.domain.ids import Millis, SessionId
from engine.domain.instruments import Instrument
from engine.domain.market import Tick
from engine.domain.orders import IN_DOUBT, ZERO, OrderState
from engine.domain.positions import FLAT, Position
from engine.domain.settings import SessionLimits
from engine.snapshot import Phase
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.mind import Mind
from tests.simulation.oracle.scene import Scene
from tests.simulation.oracle.truth import Place, Truth

LOOKS = 3
"""In a row with too much lost: then the desk has seen it, too."""
LEFT_MS = 20_000
"""To leave a position that has to be left by now."""
EDGE_MS = 300_000
FEW = 10
CENT = Decimal("0.01")
ADOPTED = (
    "SELECT 1 FROM disagreements WHERE account = ? AND symbol = ? AND kind IN ('position', 'reversal') "
    "AND state = 'adopted' LIMIT 1"
)
ENOUGH = Decimal("0.5")
"""Of the allowed loss: less never closed entries, looked at every few seconds."""


class Books:
    """A contract's day by the broker's executions. `is_sure` ends with the first thing behind the desk's back.

    `tells_fees` is false where fills come as totals: nobody tells the desk what they cost.
    """

    def __init__(self, instrument: Instrument, *, tells_fees: bool) -> None:
        self.position: Position = FLAT
        self.is_sure = True
        self.day: date | None = None
        self.won = ZERO
        self.worst = ZERO
        self.looks = 0
        self.has_turned = False
        self.at_the_end: list[Decimal] = []
        self.latched: date | None = None
        self._instrument = instrument
        self._tells_fees = tells_fees

    def roll(self, now: Millis) -> date:
        """The present trade date; a new one begins at zero."""
        today = self._instrument.calendar.trade_date(now)
        if today != self.day:
            self.has_turned = self.day is not None
            self.day, self.won, self.worst, self.looks = today, ZERO, ZERO, 0
        return today

    def book(self, fill: BrokerFill, now: Millis) -> None:
        """An execution moved the position."""
        today = self.roll(now)
        points, self.position = _closed(self.position, fill.quantity * fill.side.sign, fill.price)
        won = points * self._instrument.point_value - (fill.fee if self._tells_fees else ZERO)
        self.won += won
        self.worst = min(self.worst, self.result(fill.price))  # a price that was gone before anybody looked
        if self._instrument.calendar.trade_date(now + EDGE_MS) != today:
            self.at_the_end.append(won)

    def told_late(self) -> set[Decimal]:
        """What the executions of the last day's end may add to this one: those are told, and booked, after it."""
        sums = {ZERO}
        for won in self.at_the_end if self.has_turned else ():
            sums |= {each + won for each in sums}
        return sums

    def lost_late(self) -> Decimal:
        """The most that those may take from this day."""
        return sum((won for won in self.at_the_end if won < 0), ZERO) if self.has_turned else ZERO

    def result(self, mark: Decimal | None) -> Decimal:
        """Realised and open, less fees, in money."""
        return self.won + self.position.open_points(mark) * self._instrument.point_value


def _closed(before: Position, by: Decimal, price: Decimal) -> tuple[Decimal, Position]:
    """What an execution realised in points times size, and the position that it left."""
    held, average = before.quantity, before.average_price or price
    after = held + by
    if held * by >= 0:
        return ZERO, Position(after, (average * held + price * by) / after) if after else FLAT
    size = min(abs(held), abs(by))
    points = (price - average) * (size if held > 0 else -size)
    return points, Position(after, average if held * after > 0 else price) if after else FLAT


class Day:
    """Judges sessions by the limits of their day."""

    def __init__(
        self,
        truth: Truth,
        findings: Findings,
        limits: dict[SessionId, SessionLimits],
        instruments: tuple[Instrument, ...],
    ) -> None:
        self._truth = truth
        self._findings = findings
        self._limits = limits
        self._instruments = {each.symbol: each for each in instruments}
        self._books = {
            (account, symbol): Books(
                self._instruments[symbol],
                tells_fees=truth.exchange.capabilities(account).fills is FillsKind.EXECUTIONS,
            )
            for account, symbol in truth.places
        }
        self._entries: dict[tuple[SessionId, date], int] = {}
        self._late: dict[SessionId, Millis] = {}

    def filled(self, place: Place, fill: BrokerFill) -> None:
        """The exchange executed, or voided, something of anybody."""
        books = self._books.get(place)
        if books is None:
            return
        if fill.revision:
            books.is_sure = False
        else:
            books.book(fill, self._truth.now())

    def traded(self, tick: Tick) -> None:
        """A trade of the market: a single one far away may end a day, and be gone when anybody looks."""
        for (_, symbol), books in self._books.items():
            if symbol == tick.symbol and books.position.quantity:
                books.worst = min(books.worst, books.result(tick.price))

    def leaves(self, mind: Mind, scene: Scene, entry: str) -> None:
        """An entry starts to leave."""
        limits, instrument = self._limits[mind.session], self._instruments[mind.symbol]
        today = instrument.calendar.trade_date(scene.clock)
        count = self._entries.get((mind.session, today), 0)
        self._entries[mind.session, today] = count + 1
        check = self._findings.check
        check("entry day", count < limits.entries_per_day, f"{entry} follows {count} others of this day")
        local = instrument.calendar.local(scene.clock).time()
        if (window := limits.entry_window) is not None:
            after, before = local >= window.opens, local < window.closes
            inside = (after and before) if window.opens <= window.closes else (after or before)
            check("entry window", inside, f"{entry} leaves at {local}")
        if limits.flat_by is not None:
            check("entry window", local < limits.flat_by, f"{entry} leaves at {local}, flat by {limits.flat_by}")
        books = self._books[mind.account, mind.symbol]
        if scene.is_steady and books.latched is not None:
            lost = books.latched == today
            check("entry loss", not lost, f"{entry} leaves; its day lost more than {limits.max_daily_loss}")

    def look(self, mind: Mind, now: Millis, *, is_calm: bool) -> None:
        """Every few seconds, by a right clock: has the day lost too much, has somebody to be out by now?"""
        place: Place = (mind.account, mind.symbol)
        limits, books = self._limits[mind.session], self._books[place]
        today = books.roll(now)
        if self._truth.behind[place] or self._truth.has_unrecorded(place):
            books.is_sure = False
        result = books.result(mind.mark)
        books.worst = min(books.worst, result)
        works = mind.alive and mind.phase is Phase.TRADING
        known = books.is_sure and works and mind.position == books.position.quantity
        books.looks = books.looks + 1 if known and result <= -limits.max_daily_loss else 0
        if books.looks >= LOOKS and mind.stored:
            books.latched = today
        if limits.flat_by is not None:
            self._leaves_in_time(mind, limits, now, is_calm=is_calm)

    def _leaves_in_time(self, mind: Mind, limits: SessionLimits, now: Millis, *, is_calm: bool) -> None:
        local = self._instruments[mind.symbol].calendar.local(now).time()
        assert limits.flat_by is not None
        held = self._truth.position((mind.account, mind.symbol)).quantity
        unsure = any(o.state in (*IN_DOUBT, OrderState.LOST, OrderState.SUBMITTING) for o in mind.orders)
        free = is_calm and mind.alive and mind.phase is Phase.TRADING and mind.position == held and not unsure
        if local < limits.flat_by or not held or not free:
            self._late.pop(mind.session, None)
            return
        lasted = now - self._late.setdefault(mind.session, now)
        gone = lasted <= LEFT_MS or mind.exiting
        self._findings.check("flat by", gone, f"{mind.session} still holds {held} {lasted} ms after {limits.flat_by}")

    def quiet(self, mind: Mind, now: Millis) -> None:
        """Nothing is under way: the desk's own ledger of the day says what the broker's executions say."""
        place: Place = (mind.account, mind.symbol)
        books = self._books[place]
        today = books.roll(now)
        if self._truth.behind[place] or self._truth.has_unrecorded(place) or len(books.at_the_end) > FEW:
            return  # what memory was given without a fill has no result
        adopted = self._truth.database.execute(ADOPTED, place).fetchone() is not None
        if books.is_sure and not adopted and mind.day == today and mind.position == books.position.quantity:
            result = books.result(mind.mark)
            same = any(abs(mind.day_result - result - late) <= CENT for late in books.told_late())
            self._findings.check(
                "day result", same, f"{mind.session} says that it won {mind.day_result}, the broker {result}"
            )

    def has_lost(self, mind: Mind) -> bool:
        """Whether the day's loss may well have closed entries."""
        books, limits = self._books[mind.account, mind.symbol], self._limits[mind.session]
        return not books.is_sure or books.worst + books.lost_late() <= -limits.max_daily_loss * ENOUGH

"""What the day does to a session: the daily loss limit, the time to be flat by, and a new trade date."""

from __future__ import annotations

from datetime import date

from engine.domain.ids import Millis
from engine.domain.market import DAY_MS
from engine.domain.records import LatchKind
from engine.outbound.decision_handler import DecisionHandler
from engine.outbound.entries import EntryRoad
from engine.session import SessionDesk

DAILY_LOSS = f"latch:{LatchKind.DAILY_LOSS}"


class DayWatch:
    """Looked at once a second, whether or not data comes."""

    def __init__(self, desk: SessionDesk, entries: EntryRoad, decisions: DecisionHandler) -> None:
        self._desk = desk
        self._entries = entries
        self._decisions = decisions
        self._day: date | None = None

    def look(self, now: Millis) -> None:
        """Open what a new trade date opens, latch what a loss latches, leave what has to be left by now."""
        desk = self._desk
        limits, calendar = desk.settings.limits, desk.instrument.calendar
        before = self._day or desk.ledger.day
        desk.ledger.roll(now)  # a fill or an entry may have begun the new trade date before this look
        self._day = desk.ledger.day
        if before != self._day:
            desk.blocks.clear(DAILY_LOSS)
        if desk.ledger.total(desk.book.position, desk.mark) <= -limits.max_daily_loss:
            reason = f"the day lost more than {limits.max_daily_loss}"
            self._entries.latch(LatchKind.DAILY_LOSS, reason, until=calendar.trade_date(now))
        if limits.flat_by is not None and calendar.local(now).time() >= limits.flat_by:
            self._leave(f"flat-by:{calendar.trade_date(now)}", f"flat by {limits.flat_by:%H:%M}")

    def _leave(self, origin: str, reason: str) -> None:
        desk = self._desk
        under_way = any(o.key.startswith(f"{desk.id}/{origin}") and o.is_open for o in desk.book.open())
        if not desk.book.position.is_flat and not under_way:
            self._decisions.leave(origin, reason, desk.now() - DAY_MS)

"""What the Journal screen holds: which kind and text are asked for, the lines known so far, and what to ask next.

Pages come newest first and are continued by key. Text is looked for through a window of SCAN rows a question, so that
no question takes long and the engine's own questions, on the same connection, come between two of ours. No Textual.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from console import formatting as f
from engine.domain.fills import Fill
from engine.domain.ids import ClientOrderId, Millis
from engine.domain.orders import Order
from engine.domain.records import Trade
from engine.queries import (
    PAGE,
    Answer,
    FillsAnswer,
    FillsPage,
    JobLine,
    JobsAnswer,
    JobsPage,
    JournalAnswer,
    JournalLine,
    JournalPage,
    OrdersAnswer,
    OrdersPage,
    Query,
    TradesAnswer,
    TradesPage,
)

SCAN = 10_000
"""Rows of one kind that one question looks through for filter text."""

AHEAD = 60
"""Older lines are asked for when fewer than this many lie below the cursor."""

MOST = 50_000
"""Lines held at once; who looks for more than that narrows the filter or exports."""


class Kind(StrEnum):
    """What is listed: all lines of the audit trail, or one kind of thing."""

    ALL = "all"
    ORDERS = "orders"
    FILLS = "fills"
    TRADES = "trades"
    OVERRIDES = "overrides"
    DISAGREEMENTS = "disagreements"
    DECISIONS = "decisions"
    JOBS = "jobs"

    def after(self, steps: int) -> Kind:
        """The kind so many chips to the right."""
        kinds = list(Kind)
        return kinds[(kinds.index(self) + steps) % len(kinds)]


LOG_KINDS: dict[Kind, tuple[str, ...]] = {
    Kind.ALL: (),
    Kind.OVERRIDES: ("override", "latch", "limit", "lease", "prune"),
    Kind.DISAGREEMENTS: ("disagreement",),
    Kind.DECISIONS: ("decision", "candle"),
}


class Wanted(Struct, frozen=True):
    """What is filtered: a kind, and words that must all occur."""

    kind: Kind = Kind.ALL
    text: str = ""

    @property
    def shown(self) -> str:
        """In words, for titles."""
        words = " ".join(self.text.split())
        return f"{self.kind} with “{f.plain(words, 40)}”" if words else str(self.kind)


class Entry(Struct, frozen=True, kw_only=True):
    """One line as shown; `order` is the order whose life it belongs to."""

    key: str
    at: Millis
    kind: str
    session: str
    subject: str
    text: str
    order: ClientOrderId | None = None


Row: TypeAlias = JournalLine | Order | Fill | Trade | JobLine


def query_of(wanted: Wanted, limit: int = PAGE) -> Query:
    """The question for the newest page."""
    text = wanted.text
    match wanted.kind:
        case Kind.ORDERS:
            return OrdersPage(text=text, limit=limit, scan=SCAN)
        case Kind.FILLS:
            return FillsPage(text=text, limit=limit, scan=SCAN)
        case Kind.TRADES:
            return TradesPage(text=text, limit=limit, scan=SCAN)
        case Kind.JOBS:
            return JobsPage(text=text, limit=limit)
        case kind:
            return JournalPage(kinds=LOG_KINDS[kind], text=text, limit=limit, scan=SCAN)


def page_of(asked: Query, answer: Answer) -> tuple[tuple[Row, ...], Query | None]:
    """The rows of an answer, and the question for older ones; None: there are none."""
    match asked, answer:
        case JournalPage(), JournalAnswer(lines=lines, reached=number):
            return lines, None if number is None else replace(asked, before=number)
        case OrdersPage(), OrdersAnswer(orders=orders, reached=order):
            return orders, None if order is None else replace(asked, before=order)
        case FillsPage(), FillsAnswer(fills=fills, reached=fill):
            return fills, None if fill is None else replace(asked, before=fill)
        case TradesPage(), TradesAnswer(trades=trades, reached=trade):
            return trades, None if trade is None else replace(asked, before=trade)
        case JobsPage(), JobsAnswer(jobs=jobs):
            more = len(jobs) == asked.limit
            return jobs, replace(asked, offset=asked.offset + len(jobs)) if more else None
        case _:
            raise ValueError(f"{type(answer).__name__} answers no {type(asked).__name__}")


def entry_of(row: Row) -> Entry:
    """A row as a line."""
    match row:
        case JournalLine():
            about = row.kind in ("order", "fill", "intent", "decision")
            return Entry(
                key=str(row.number),
                at=row.at,
                kind=row.kind,
                session=row.session or "",
                subject=row.subject,
                text=row.text,
                order=ClientOrderId(row.subject) if about and "/" not in row.subject else None,
            )
        case Order():
            asks = row.terms
            words = [asks.side.value.upper(), f.size(asks.quantity), asks.symbol, asks.type.value]
            words += [f.size(level) for level in (asks.stop, asks.limit) if level is not None]
            text = f"{row.state}: {row.role} {' '.join(words)}, filled {f.size(row.filled)}"
            text += f" at {f.size(row.average_price)}" if row.average_price is not None else ""
            return Entry(
                key=row.client_id,
                at=row.created,
                kind="order",
                session=row.session,
                subject=row.client_id,
                text=f"{text} ({row.reason})" if row.reason else text,
                order=row.client_id,
            )
        case Fill():
            bust = "" if row.quantity else "BUSTED "
            return Entry(
                key=f"{row.account}/{row.key}",
                at=row.at,
                kind="fill",
                session=row.session or "",
                subject=row.client_id or row.broker_id,
                text=f"{bust}{f.side(row.side)} {f.size(row.quantity)} {row.symbol} at {f.size(row.price)},"
                f" fee {f.size(row.fee)}",
                order=row.client_id,
            )
        case Trade():
            word = "LONG" if row.quantity > 0 else "SHORT"
            return Entry(
                key=f"{row.account}/{row.symbol}/{row.number}",
                at=row.closed,
                kind="trade",
                session=", ".join(row.sessions),
                subject=row.account,
                text=f"{word} {f.size(abs(row.quantity))} {row.symbol} {f.size(row.entry_price)} → "
                f"{f.size(row.exit_price)}, {f.arrow(row.profit)} {f.profit(row.profit)} after fees "
                f"{f.size(row.fees)}, held {f.age(row.closed - row.opened)}",
            )
        case JobLine():
            text = f"{row.state}: {row.kind} after {row.attempts} attempts, queued {f.age(row.age_ms)} ago"
            return Entry(
                key=str(row.id),
                at=row.queued,
                kind="job",
                session="",
                subject=row.subject,
                text=f"{text}: {row.error}" if row.error else text,
            )
        case _:
            assert_never(row)


class Book:
    """The lines of one filter, newest first without a gap, growing at both ends."""

    def __init__(self, wanted: Wanted | None = None) -> None:
        self.wanted = wanted or Wanted()
        self.entries: list[Entry] = []
        self.looked = 0
        self._next: Query | None = query_of(self.wanted)
        self._known: set[str] = set()
        self.begun = False

    @property
    def ended(self) -> bool:
        """Whether the oldest line that fits is here."""
        return self._next is None

    @property
    def full(self) -> bool:
        """Whether it holds as much as it may."""
        return len(self.entries) >= MOST

    def older(self, place: int) -> Query | None:
        """What to ask for while the cursor stands on line `place`; None: nothing for now."""
        return None if self.full or len(self.entries) - place > AHEAD else self._next

    def take_older(self, asked: Query, answer: Answer) -> None:
        """The answer to `older`."""
        rows, self._next = page_of(asked, answer)
        self.begun = True
        self.looked += len(rows) if len(rows) == PAGE or not self.wanted.text.split() else SCAN
        for entry in map(entry_of, rows):
            if entry.key not in self._known:
                self._known.add(entry.key)
                self.entries.append(entry)

    def newest(self) -> Query:
        """What to ask for to see what came in since."""
        return query_of(self.wanted)

    def take_newest(self, asked: Query, answer: Answer) -> int:
        """Put in front what is new and renew what changed; how many lines came, -1 when all was begun afresh."""
        rows, follows = page_of(asked, answer)
        fresh = [entry_of(row) for row in rows]
        keys = {entry.key for entry in fresh}
        came = len(keys - self._known)
        if follows is None:  # this page is the whole of it
            self._hold(fresh, None)
            return came
        if fresh == self.entries[: len(fresh)]:
            return 0
        if self.entries and len(fresh) == PAGE and not keys & self._known:  # a gap: more came than a page holds
            self._hold(fresh, follows)
            return -1
        self._hold([*fresh, *(entry for entry in self.entries if entry.key not in keys)], self._next)
        return came

    def _hold(self, entries: list[Entry], follows: Query | None) -> None:
        self.entries, self._next, self.begun = entries, follows, True
        self._known = {entry.key for entry in entries}

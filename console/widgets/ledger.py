"""The Journal's lines: chips of kinds, a row of the table, the selected line whole, how the search stands. Pure."""

from __future__ import annotations

from console import formatting as f
from console.actions import DEFAULT, KeyMap, key_of
from console.journal import LOG_KINDS, Book, Entry, Kind
from console.widgets.columns import Column, Row
from console.widgets.spans import Line, Span, line, outside, wrap

COLUMNS = (
    Column("Time", 14),
    Column("Kind", 12),
    Column("Session", 13, rank=2),
    Column("What", 30, grows=True),
    Column("About", 24, rank=3),
)
OF_ONE_KIND = tuple(column for column in COLUMNS if column.title != "Kind")
_INK = {
    "override": "accent",
    "latch": "warn",
    "limit": "warn",
    "disagreement": "disagree",
    "fill": "ok",
    "trade": "ok",
    "order": "text",
    "intent": "text",
    "decision": "text",
    "job": "warn",
}
_NOTHING = {
    Kind.ALL: ("Nothing has happened yet.", "Orders, fills and what operators do are written here as they happen."),
    Kind.ORDERS: ("No order has been made yet.", "The decision log on 2 Market says what strategies wait for."),
    Kind.FILLS: ("No execution has been booked yet.", "Open orders are on 3 Orders."),
    Kind.TRADES: ("No round trip is complete yet.", "A trade is counted once its position has been closed."),
    Kind.OVERRIDES: ("Nobody has done anything by hand.", "Pause, flatten, kill and limits are written here with who."),
    Kind.DISAGREEMENTS: ("Memory, database and broker never differed.", "4 Reconcile shows the next checks."),
    Kind.DECISIONS: ("No strategy has decided anything yet.", "The decision log on 2 Market says what they wait for."),
    Kind.JOBS: ("No background job waits.", "What is done leaves this list; what died stays."),
}


def chips(chosen: Kind) -> Line:
    """The kinds, each to be clicked, the chosen one marked."""
    spans: list[Span] = [Span(" ")]
    for kind in Kind:
        ink = "tag" if kind is chosen else "dim"
        spans.append(Span(f" {kind} ", ink, f"screen.show_kind('{kind}')"))
    return tuple(spans)


def columns_of(kind: Kind) -> tuple[Column, ...]:
    """The columns of a listing: where every line is of one kind, that word's room goes to what happened."""
    return COLUMNS if kind in LOG_KINDS else OF_ONE_KIND


def row(entry: Entry, listed: Kind, now: int) -> Row:
    """A line of the table."""
    kind = (line(outside(entry.kind, _INK.get(entry.kind, "dim"))),) if listed in LOG_KINDS else ()
    return Row(
        entry.key,
        (
            line((f.moment(entry.at, now), "dim")),
            *kind,
            line(outside(entry.session)),
            line(outside(entry.text)),
            line(outside(entry.subject, "dim")),
        ),
    )


def whole(entry: Entry, width: int, keys: KeyMap = DEFAULT) -> list[Line]:
    """The selected line with nothing cut off."""
    where = f"  {entry.session}" if entry.session else ""
    head = line(
        (f" {f.date(entry.at)} {f.clock(entry.at)} UTC", "dim"),
        "  ",
        outside(entry.kind, _INK.get(entry.kind, "dim")),
        outside(where),
        outside(f"  {entry.subject}", "dim"),
        (f"  {key_of('order_life', keys)}: life of the order" if entry.order else "", "key"),
    )
    return [head, *(line(" ", *words) for words in wrap(entry.text, width - 2))]


def empty(book: Book, *, failure: str, searching: bool, keys: KeyMap = DEFAULT) -> tuple[str, ...]:
    """What an empty table says."""
    if failure:
        return ("No answer from the audit trail.", failure, "It is asked again by itself.")
    if searching or not book.begun:
        return ("Searching …" if book.wanted.text.split() else "Reading …", looked(book))
    if book.wanted.text.split():
        clear, back, on = (key_of(name, keys) for name in ("clear_filter", "previous_kind", "next_kind"))
        return (f"Nothing fits {book.wanted.shown}.", f"{clear} clears the filter, {back} and {on} change the kind.")
    return _NOTHING[book.wanted.kind]


def looked(book: Book) -> str:
    """How far a search has come."""
    return f"looked through {book.looked:,} lines so far" if book.looked else "the newest are looked through first"


def standing(book: Book, place: int, *, failure: str, searching: bool, keys: KeyMap = DEFAULT) -> str:
    """The table's foot: where the cursor is, whether older lines follow, what is going on."""
    count = len(book.entries)
    here = f"{place + 1:,} of {count:,}" if count else "0"
    if failure:
        return f"{here} · no answer: {f.plain(failure, 40)}"
    if searching:
        return f"{here} · {looked(book)} …"
    if book.full:
        return f"{here} · narrow the filter, or {key_of('export_journal', keys)} exports all of it"
    return here if book.ended else f"{here} and older"

"""The journal's lines without a screen: what is asked next, what comes in above, what a search has looked through."""

from __future__ import annotations

from console import journal
from console.journal import Book, Kind, Wanted
from console.widgets import ledger
from console.widgets.spans import text_of
from engine.domain.ids import SessionId
from engine.queries import JobLine, JobsAnswer, JobsPage, JournalAnswer, JournalLine, JournalPage, OrdersPage, Query


def line(number: int, text: str = "accepted") -> JournalLine:
    return JournalLine(
        number=number, at=number * 1000, kind="order", session=SessionId("es"), subject=f"o-{number}", text=text
    )


def page(newest: int, oldest: int, reached: int | None) -> JournalAnswer:
    return JournalAnswer(tuple(line(number) for number in range(newest, oldest - 1, -1)), reached is not None, reached)


def numbers(book: Book) -> list[int]:
    return [int(entry.key) for entry in book.entries]


def asked(book: Book, place: int = 0) -> Query:
    query = book.older(place)
    assert query is not None
    return query


def filled() -> Book:
    book = Book()
    book.take_older(asked(book), page(300, 201, 201))
    return book


def test_pages_are_continued_as_the_cursor_nears_the_end_and_stop_there() -> None:
    book = filled()
    assert book.older(10) is None
    query = asked(book, 60)
    assert isinstance(query, JournalPage)
    assert query.before == 201
    book.take_older(query, page(200, 190, None))
    assert book.ended
    assert book.older(110) is None
    assert numbers(book) == list(range(300, 189, -1))


def test_what_is_new_comes_above_and_the_place_of_the_rest_is_known() -> None:
    book = filled()
    assert book.take_newest(book.newest(), page(303, 204, 204)) == 3
    assert numbers(book) == list(range(303, 200, -1))
    assert book.take_newest(book.newest(), page(303, 204, 204)) == 0


def test_more_than_a_page_at_once_begins_afresh_instead_of_hiding_a_gap() -> None:
    book = filled()
    assert book.take_newest(book.newest(), page(1000, 901, 901)) == -1
    assert numbers(book) == list(range(1000, 900, -1))
    query = asked(book, 99)
    assert isinstance(query, JournalPage)
    assert query.before == 901


def test_a_changed_row_is_renewed_in_its_place() -> None:
    book = filled()
    changed = JournalAnswer((line(300, "filled"), *page(299, 201, 201).lines), True, 201)
    assert book.take_newest(book.newest(), changed) == 0
    assert book.entries[0].text == "filled"
    assert len(book.entries) == 100


def test_a_search_goes_on_window_by_window_and_says_how_far() -> None:
    book = Book(Wanted(Kind.ALL, "needle"))
    before = []
    for reached in (90_000, 80_000, None):
        query = asked(book)
        assert isinstance(query, JournalPage)
        assert query.scan == journal.SCAN
        before.append(query.before)
        book.take_older(query, JournalAnswer((), reached is not None, reached))
    assert before == [None, 90_000, 80_000]
    assert book.ended
    assert "looked through 30,000 lines" in ledger.standing(book, 0, failure="", searching=True)
    assert ledger.empty(book, failure="", searching=False)[0] == "Nothing fits all with “needle”."


def test_only_the_lines_of_an_order_lead_to_its_life() -> None:
    about = {entry.kind: entry.order for entry in map(journal.entry_of, (line(1),))}
    assert about == {"order": "o-1"}
    override = JournalLine(number=2, at=1, kind="override", session=None, subject="op-1", text="kill")
    assert journal.entry_of(override).order is None


def test_jobs_that_are_done_leave_the_list() -> None:
    job = JobLine(id=1, kind="trades", subject="s", state="dead", attempts=8, queued=0, age_ms=1, due=0, error="no")
    book = Book(Wanted(Kind.JOBS))
    query = asked(book)
    assert isinstance(query, JobsPage)
    book.take_older(query, JobsAnswer((job,)))
    assert [entry.text for entry in book.entries] == ["dead: trades after 8 attempts, queued 0.0s ago: no"]
    assert book.take_newest(book.newest(), JobsAnswer(())) == 0
    assert book.entries == []


def test_every_kind_asks_what_fits_it_and_the_chips_go_round() -> None:
    assert isinstance(journal.query_of(Wanted(Kind.ORDERS, "es")), OrdersPage)
    assert Kind.JOBS.after(1) is Kind.ALL
    assert Kind.ALL.after(-1) is Kind.JOBS
    assert text_of(ledger.chips(Kind.FILLS)).split() == [str(kind) for kind in Kind]
    assert len(text_of(ledger.chips(Kind.FILLS))) <= 80


def test_each_listing_has_a_cell_for_every_column() -> None:
    for kind in Kind:
        columns = ledger.columns_of(kind)
        assert len(ledger.row(journal.entry_of(line(1)), kind, 0).cells) == len(columns)
        assert [column.title for column in columns if column.title == "Kind"] == ["Kind"] * (kind in journal.LOG_KINDS)


def test_an_empty_journal_says_what_to_do_and_a_silent_engine_is_named() -> None:
    book = Book()
    book.take_older(asked(book), JournalAnswer((), False))
    for kind in Kind:
        book.wanted = Wanted(kind)
        assert len(ledger.empty(book, failure="", searching=False)) == 2
    assert ledger.empty(book, failure="the engine does not answer (5 s)", searching=False)[0].startswith("No answer")

"""Pages of every listing, over every database: looked through in windows, each row once, each kind along its index."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from console.journal import page_of
from engine.domain.ids import SessionId
from engine.domain.records import OrderChanged, OverrideRecorded
from engine.persistence.store import SqlStore
from engine.queries import (
    FillsPage,
    JobsPage,
    JournalAnswer,
    JournalPage,
    OrderLife,
    OrderLifeAnswer,
    OrdersPage,
    TradesPage,
    TrailQuery,
)
from tests.unit.persistence.samples import AT, SESSION, booked, fill, order, override, postgres_store, sqlite_store

COUNT = 25


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlStore]:
    if request.param == "sqlite":
        made = sqlite_store(tmp_path / "desk" / "sextant.db")
    else:
        made = postgres_store(request.getfixturevalue("postgres").emptied(), directory=tmp_path / "desk")
    await made.open()
    for number in range(COUNT):
        reason = "needle" if number in (1, 20) else ""
        changed = order(f"o{number}", created=AT + number // 2, reason=reason)
        made.record(OrderChanged(order=changed, event="x", at=AT + number))
        made.record(booked(fill(f"x{number}", at=AT + number // 3)))
        if number % 10 == 0:
            made.record(override(f"c{number}"))
    await made.settled()
    yield made
    await made.close()


async def walked(store: SqlStore, query: TrailQuery) -> tuple[list[Any], int]:
    """Every row of a listing, and how many questions it took."""
    rows: list[Any] = []
    asked, questions = query, 0
    while True:
        page, follows = page_of(asked, await store.answer(asked))
        rows += page
        questions += 1
        if follows is None:
            return rows, questions
        asked = cast("TrailQuery", follows)


@pytest.mark.parametrize(
    "query", [JournalPage(limit=4), OrdersPage(limit=4), FillsPage(limit=4), JournalPage(kinds=("order",), limit=4)]
)
async def test_each_row_comes_once_whatever_the_page(store: SqlStore, query: TrailQuery) -> None:
    everything, _ = await walked(store, replace(query, limit=1000))
    rows, _ = await walked(store, query)
    assert rows == everything
    assert len(rows) >= COUNT


@pytest.mark.parametrize("scan", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    "listing", [OrdersPage(text="Needle"), JournalPage(text="needle", kinds=("order", "override"))]
)
async def test_windows_of_a_search_add_up_to_the_whole(store: SqlStore, listing: TrailQuery, scan: int) -> None:
    whole, questions = await walked(store, listing)
    assert (len(whole), questions) == (2, 1)
    found, questions = await walked(store, replace(listing, scan=scan))
    assert found == whole
    assert questions == 1 if scan == 1000 else questions >= COUNT // scan


async def test_a_window_that_holds_nothing_still_says_where_it_ended(store: SqlStore) -> None:
    answer = await store.answer(JournalPage(text="needle", scan=2))
    assert isinstance(answer, JournalAnswer)
    assert answer.lines == ()
    assert answer.more
    assert answer.reached is not None


async def test_kinds_are_merged_in_the_order_in_which_they_became_durable(store: SqlStore) -> None:
    answer = await store.answer(JournalPage(kinds=("override", "fill"), limit=9))
    assert isinstance(answer, JournalAnswer)
    numbers = [line.number for line in answer.lines]
    assert numbers == sorted(numbers, reverse=True)
    assert {line.kind for line in answer.lines} == {"override", "fill"}


async def test_fills_trades_and_jobs_are_filtered_too(store: SqlStore) -> None:
    found, _ = await walked(store, FillsPage(text="X2 buy", scan=5))
    assert {each.key for each in found} == {"x2", "x20", "x21", "x22", "x23", "x24"}
    assert (await walked(store, TradesPage(text="nothing", scan=5)))[0] == []
    assert len((await walked(store, JobsPage(text="TRADES")))[0]) == 1
    assert (await walked(store, JobsPage(text="nothing")))[0] == []


async def test_the_life_of_an_order_names_what_operators_did_to_it_and_around_it(store: SqlStore) -> None:
    mine = replace(order("mine", created=AT + 100), updated=AT + 200)
    await store.write(OrderChanged(order=mine, event="x", at=AT + 200))

    def by_hand(id: str, what: str, at: int, session: SessionId | None) -> OverrideRecorded:
        return replace(override(id), what=what, at=at, session=session)

    for record in (
        by_hand("named", f"declare dead {mine.client_id}", AT + 9_000, SESSION),
        by_hand("around", "pause", AT + 150, SESSION),
        by_hand("desk", "kill", AT + 160, None),
        by_hand("elsewhere", "pause", AT + 150, SessionId("other")),
        by_hand("later", "resume", AT + 500, SESSION),
    ):
        await store.write(record)
    life = await store.answer(OrderLife(mine.client_id))
    assert isinstance(life, OrderLifeAnswer)
    assert [line.subject for line in life.overrides] == ["named", "around", "desk"]

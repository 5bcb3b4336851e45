"""The journal at a million rows, on SQLite: no page costs more than its rows, no filter holds the connection long."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.journal import MILLION, NEEDLE, beside_a_filter, made_sqlite, questions, searched, timed


@pytest.mark.slow
@pytest.mark.sqlite
async def test_pages_and_filters_stay_quick(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    store = await made_sqlite(tmp_path / "desk.db", MILLION)
    try:
        took = {each.name: await timed(store, each.query, 3, time.process_time) for each in questions(MILLION)}
        # Pages without filter text cost their rows alone, however deep. What other programs take does not count, and a
        # slow machine gets ten times what one needs.
        slow = {name: ms for name, ms in took.items() if ms > (1500 if "filter" in name else 150)}
        assert slow == {}
        search_ms, windows, found = await searched(store, NEEDLE)
        assert found == 1
        waited = await beside_a_filter(store)
        assert waited < search_ms / 5, "the engine's own question waits for one window, never for the whole search"
        figures = ", ".join(f"{name} {ms:.0f} ms" for name, ms in took.items() if "page" in name or "filter" in name)
        record_property("figures", f"journal of {MILLION:,} lines: {figures}; one line found in {search_ms:.0f} ms")
        record_property("figures", f"  in {windows} windows; an engine's question beside it waits {waited:.0f} ms")
    finally:
        await store.close()

"""Desks for the flow tests; whatever a test started is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.clock import SystemClock
from engine.domain.findings import Finding
from engine.errors import DeskUnusable
from engine.persistence.check_rows import rows_agree
from engine.persistence.sqlite import SqliteConnection
from tests.flows.harness import Desk


@pytest.fixture
async def make_desk(tmp_path: Path) -> AsyncIterator[Callable[..., Desk]]:
    """Make desks on one state directory; call `start()` yourself."""
    made: list[Desk] = []

    def make(**options: Any) -> Desk:
        state = tmp_path / options.pop("directory", "desk")
        state.mkdir(exist_ok=True)
        desk = Desk(state, **options)
        made.append(desk)
        return desk

    yield make
    for desk in made:
        if not desk.engine.stopped.is_set():
            await desk.stop()


@pytest.fixture(autouse=True)
def _rows_agree(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Whatever a story did to a desk, the rows of its audit trail agree with one another afterwards."""
    yield
    if request.node.get_closest_marker("rows_by_hand") is not None:
        return
    for path in sorted(tmp_path.rglob("*.sqlite3")):
        wrong = asyncio.run(_disagreements(path))
        assert not wrong, wrong


async def _disagreements(path: Path) -> list[Finding]:
    clock = SystemClock()
    connection = SqliteConnection(path, clock, read_only=True)
    try:
        await connection.open()
    except DeskUnusable:
        return []  # no database on purpose
    found = await rows_agree(connection, clock)
    await connection.close()
    return [each for each in found if not each.ok]

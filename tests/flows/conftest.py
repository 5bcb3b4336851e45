"""Desks for the flow tests, on SQLite, and a slice of them on PostgreSQL too; whatever a test started is stopped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.clock import SystemClock
from engine.domain.findings import Finding
from engine.domain.postgres_url import PostgresUrl
from engine.errors import DeskUnusable
from engine.persistence.check_rows import rows_agree
from engine.persistence.sqlite import SqliteConnection
from tests.flows.harness import Desk
from tests.postgres import Cluster

ON_BOTH = ("test_persistence_outage", "test_restart_lives")
ALL_ON_POSTGRES = os.environ.get("SEXTANT_TEST_FLOWS") == "postgres"
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Which databases a test's desks live on."""
    marked = metafunc.definition.get_closest_marker
    if "make_desk" not in metafunc.fixturenames or marked("sqlite") is not None:
        return
    if ALL_ON_POSTGRES:
        metafunc.parametrize("flow_database", [POSTGRES], indirect=True)
    elif metafunc.module.__name__.rpartition(".")[2] in ON_BOTH and marked("slow") is None:
        metafunc.parametrize("flow_database", ["sqlite", POSTGRES], indirect=True)


@pytest.fixture
def flow_database(request: pytest.FixtureRequest) -> Callable[[str], PostgresUrl | None]:
    """The database of a directory's desk; None is SQLite's file in that directory."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return lambda directory: None
    cluster: Cluster = request.getfixturevalue("postgres")
    made = {"desk": cluster.emptied()}

    def database(directory: str) -> PostgresUrl:
        if directory not in made:
            made[directory] = cluster.database()
        return made[directory]

    return database


@pytest.fixture
async def make_desk(
    tmp_path: Path, flow_database: Callable[[str], PostgresUrl | None]
) -> AsyncIterator[Callable[..., Desk]]:
    """Make desks on one state directory; call `start()` yourself."""
    made: list[Desk] = []

    def make(**options: Any) -> Desk:
        directory = options.pop("directory", "desk")
        state = tmp_path / directory
        state.mkdir(exist_ok=True)
        desk = Desk(state, **{**options, "database": flow_database(directory)})
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

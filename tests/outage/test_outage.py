"""A running desk loses its audit trail, in every way it can: entries stop, exits do not, and then all three agree.

A few of them, a few seconds long, in every run; `make outage` lives through all of them for a minute each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from engine.domain.postgres_url import PostgresUrl
from tests.outage import troubles
from tests.outage.desk import RunningDesk
from tests.outage.scenarios import through
from tests.postgres import Cluster

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("SEXTANT_OUTAGE_SECONDS", "3"))
IS_LONG = SECONDS >= 30
Trouble: TypeAlias = AbstractContextManager[Any]

ON_POSTGRES: dict[str, Callable[[Cluster, RunningDesk], Trouble]] = {
    "stopped": lambda cluster, _: troubles.stopped(cluster),
    "frozen": lambda cluster, _: cluster.frozen(),
    "stopped, with a poison row in the queue": lambda cluster, desk: troubles.both(
        troubles.poisoned(desk), troubles.stopped(cluster)
    ),
    "stopped, and the journal's fdatasync hangs": lambda cluster, _: troubles.both(
        troubles.stopped(cluster), troubles.journal_hangs()
    ),
    "frozen, and the journal's fdatasync hangs": lambda cluster, _: troubles.both(
        cluster.frozen(), troubles.journal_hangs()
    ),
}
ON_SQLITE: dict[str, Callable[[RunningDesk], Trouble]] = {
    "locked, with a poison row in the queue": lambda desk: troubles.both(
        troubles.poisoned(desk), troubles.locked(desk.path)
    ),
    "the disk under everything is full": lambda desk: troubles.full(desk.state),
    "fdatasync hangs, the journal's too": lambda _: troubles.both(troubles.sync_hangs(), troubles.journal_hangs()),
    "locked": lambda desk: troubles.locked(desk.path),
    "the disk under the database is full": lambda desk: troubles.full(desk.path.parent),
    "fdatasync hangs": lambda _: troubles.sync_hangs(),
}
SHORT = ("stopped", "frozen", *list(ON_SQLITE)[:3])


def _named(scenarios: dict[str, Any]) -> list[Any]:
    return [pytest.param(make, id=name) for name, make in scenarios.items() if IS_LONG or name in SHORT]


@pytest.fixture
def lived(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[[RunningDesk, Trouble], None]:
    """Live through the trouble and print the figures; then what the scenario's name promises."""

    def live(desk: RunningDesk, trouble: Trouble) -> None:
        name = request.node.callspec.id
        record_property("figures", json.dumps({"scenario": name, **through(desk, trouble, SECONDS)}))
        if "full" not in name:  # the journal's room may or may not be taken from it by what fills the disk
            assert ("WITHOUT A RECORD" in desk.alerts()) is ("journal" in name), desk.alerts()
        if "full" in name and IS_LONG:
            assert "0 % of the disk is free" in desk.alerts()
        assert desk.store.health().failed == ("poison" in name)

    return live


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[PostgresUrl | Path], RunningDesk]]:
    """Start a desk, stopped after the test; only what a scenario makes slow is slow, not the disk of a busy machine."""
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    with ExitStack() as stack:

        def begin(database: PostgresUrl | Path) -> RunningDesk:
            desk = RunningDesk(tmp_path, database)
            stack.callback(desk.stop)
            return desk.start()

        yield begin


@pytest.mark.postgres
@pytest.mark.parametrize("make", _named(ON_POSTGRES))
def test_on_postgresql(cluster: Cluster, start: Any, lived: Any, make: Any) -> None:
    desk = start(cluster.database())
    lived(desk, make(cluster, desk))


@pytest.mark.parametrize("make", _named(ON_SQLITE))
def test_on_sqlite(start: Any, lived: Any, make: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    with ExitStack() as stack:
        place = tmp_path / ("small" if "under the database" in name else "state")
        if "full" in name:
            stack.enter_context(troubles.small_disk(place, 8)).chmod(0o700)
        desk = start(place / "desk.sqlite3")
        stack.callback(desk.stop)
        lived(desk, make(desk))

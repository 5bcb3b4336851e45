"""Desks for the flow tests; whatever a test started is stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

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

"""When an app under test has done what was asked of it: by what its loop still has to do, never by the clock."""

from __future__ import annotations

import asyncio

import pytest
from textual.screen import UPDATE_PERIOD

ROUNDS = 60
"""What was asked for is done in far fewer; where an app's timers overtake each other, it ends here."""


async def idle(*seconds: float) -> None:
    """Return when nothing can run but by a later timer.

    Textual's own wait looks at how much processor time passed in 20 ms: on a busy machine that is little because
    others had it, and the test would read a half-drawn screen; on an idle one it waits for a second where an app
    is never quite still. Timers fire in the order of their moments, however late, so the one that repaints a screen
    has fired when one that was set after it has.
    """
    loop = asyncio.get_running_loop()
    for pause in (0.0, UPDATE_PERIOD):
        await asyncio.sleep(pause)
        for _ in range(ROUNDS):
            if not loop._ready:  # type: ignore[attr-defined]
                break
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Pilot waits so."""
    monkeypatch.setattr("textual.pilot.wait_for_idle", idle)
    monkeypatch.setattr("textual.app.wait_for_idle", idle)

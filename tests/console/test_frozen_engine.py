"""A real engine whose loop stands still under a real console: old figures are drawn old, and overrides say why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from console.app import SextantApp
from console.client import InProcessClient
from console.replica import SILENT_AFTER_S
from console.widgets.lines import Lines, Pane
from console.widgets.spans import text_of
from engine.commands import Command, Receipt
from engine.domain.ids import CommandId
from tests.flows.hosted import PATIENCE, Hosted

ANSWER_WITHIN_S = 0.5


class CountingClient(InProcessClient):
    """Remembers the ids of what was sent."""

    sent: list[CommandId]

    async def send(self, command: Command) -> Receipt:
        self.sent = [*getattr(self, "sent", ()), command.origin.id]
        return await super().send(command)


def client(app: SextantApp) -> CountingClient:
    assert isinstance(app.client, CountingClient)
    return app.client


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosted]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    made = Hosted(tmp_path).start()
    made.trading()
    yield made
    made.end()


@asynccontextmanager
async def console(hosted: Hosted) -> AsyncIterator[tuple[SextantApp, Pilot[None]]]:
    app = SextantApp(CountingClient(hosted.host, answer_within=ANSWER_WITHIN_S), operator="operator", place="desk")
    async with app.run_test(size=(120, 40)) as pilot:
        yield app, pilot


def text(app: SextantApp) -> str:
    panes = [pane for pane in app.screen.query(Lines) if pane.display]
    return "\n".join(text_of(row) for pane in panes for row in pane._drawn)


def inks(app: SextantApp, pane: str) -> set[str]:
    return {span.ink for row in app.screen.query_one(f"#{pane}", Pane)._drawn for span in row if span.text.strip()}


async def until(app: SextantApp, so: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not so():
        assert time.monotonic() - began < PATIENCE, f"not within {PATIENCE:g} s: {what}\n{text(app)}"
        await asyncio.sleep(0.02)


async def test_a_frozen_engine_is_named_its_figures_turn_stale_and_overrides_say_it_is_silent(hosted: Hosted) -> None:
    async with console(hosted) as (app, pilot):
        await until(app, lambda: "trading" in text(app) and "ENGINE SILENT" not in text(app), "a live desk")
        with hosted.frozen():
            await until(app, lambda: "ENGINE SILENT" in text(app), "the silence is told")
            assert (app.desk.silent_for or 0) >= SILENT_AFTER_S, "not before it is one"
            assert {"stale"} == {ink for ink in inks(app, "lamps") if ink not in ("text", "dim", "faint")}
            assert "stale" in inks(app, "heatline")
            aged = app.desk.silent_for
            assert aged is not None
            await until(app, lambda: (app.desk.silent_for or 0) > aged + 0.3, "the age grows")

            await pilot.press("f")
            await until(app, lambda: "these figures are that old" in text(app), "the dialog says so too")
            await pilot.press(*"yes", "enter")
            await until(app, lambda: "the engine does not answer" in text(app), "the override says so")
            assert "Enter sends the same command again" in text(app)
            await pilot.press("enter")
            await until(app, lambda: len(client(app).sent) == 2, "the same command once more")
            assert len(set(client(app).sent)) == 1

        await until(app, lambda: "ENGINE SILENT" not in text(app), "the engine speaks again")
        await until(app, lambda: len(procedures(hosted, "flatten")) == 1, "the flatten is carried out, once")
        await pilot.press("escape")
        await until(app, lambda: "trading" in text(app), "the desk is live again")
        assert len(procedures(hosted, "flatten")) == 1


def procedures(hosted: Hosted, word: str) -> list[str]:
    return [p.title for p in hosted.picture().procedures if word in p.title.lower()]

"""What every story needs: an app over a still client, a clock in the hand, and a way to read the screen."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from textual.pilot import Pilot
from textual.screen import Screen

from console.app import SextantApp
from console.screens.modals.palette import DeskPalette
from console.widgets.lines import INK_CLASSES, Lines
from console.widgets.spans import text_of
from engine.snapshot import DeskSnapshot
from tests.console.factory import StillClient, busy_desk

PATIENCE_S = 60.0


class Inked(Screen[None]):
    """A bare screen with the inks that lines are drawn in."""

    COMPONENT_CLASSES = INK_CLASSES


@dataclass
class Watch:
    """Our own monotonic clock."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Story:
    """The running app with everything around it."""

    app: SextantApp
    client: StillClient
    pilot: Pilot[None]
    watch: Watch = field(default_factory=Watch)

    async def press(self, *keys: str) -> None:
        """Press keys one after another, each settled."""
        for key in keys:
            await self.pilot.press(key)
            await self.settle()

    async def type(self, text: str) -> None:
        """Type into the focused input."""
        await self.pilot.press(*("space" if letter == " " else letter for letter in text))
        await self.settle()

    async def settle(self) -> None:
        """Let workers and messages run, then pull."""
        await self.app.workers.wait_for_complete()
        await self.pilot.pause()
        self.app.pull()
        await self.pilot.pause()

    async def until(self, so: Callable[[], bool], what: str) -> None:
        """Let real time pass, for what waits on a timer of the app's own, until it is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not so():
            assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}\n{self.text}"
            await self.pilot.pause(0.02)

    async def palette(self, words: str) -> None:
        """Choose what the palette finds for these words."""
        await self.press("ctrl+p")
        palette = self.app.screen
        assert isinstance(palette, DeskPalette)
        await self.type(words)
        await self.pilot.press("enter")
        await self.until(lambda: palette not in self.app.screen_stack, "the palette closes")
        await self.settle()

    def awake(self) -> None:
        """Let the half second pass in which the opening key sleeps."""
        self.watch.now += 1

    async def becomes(self, snapshot: DeskSnapshot) -> None:
        """The engine says something new."""
        self.client.current = snapshot
        await self.settle()

    @property
    def text(self) -> str:
        """Every line drawn on the top screen."""
        panes = [pane for pane in self.app.screen.query(Lines) if pane.display]
        return "\n".join(text_of(spans) for pane in panes for spans in pane._drawn)

    @property
    def dialog(self) -> str:
        """Title of the dialog on top, empty when there is none."""
        boxes = self.app.screen.query("#dialog")
        return str(boxes.first().border_title) if boxes else ""


@asynccontextmanager
async def story(
    snapshot: DeskSnapshot | None = None,
    *,
    size: tuple[int, int] = (140, 40),
    empty: bool = False,
    exports: Path | None = None,
) -> AsyncIterator[Story]:
    """Open the console on a desk."""
    client = StillClient(None if empty else snapshot or busy_desk())
    watch, numbers = Watch(), count(1)
    app = SextantApp(
        client,
        operator="operator",
        place="desk",
        monotonic=watch,
        ids=lambda: f"id-{next(numbers)}",
        exports=exports,
        shutdown_timeout=30,
    )
    async with app.run_test(size=size, notifications=True) as pilot:
        told = Story(app, client, pilot, watch)
        await told.settle()
        yield told
    assert not app.undrawn

"""The command palette: every action that can be taken now, by name, and the faults of paper accounts."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from textual import on
from textual.await_complete import AwaitComplete
from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.widgets import Input
from textual.worker import WorkerError

from console import actions
from console.formatting import plain

if TYPE_CHECKING:
    from console.app import SextantApp


class DeskPalette(CommandPalette):
    """Textual's palette, closed once: a second Enter on its way closes the screen beneath it, and so the console."""

    def __init__(self) -> None:
        super().__init__(id="--command-palette")

    @on(Input.Submitted)
    async def enter_means_what_was_typed(self) -> None:
        """Textual's own Enter, which follows, takes what the list shows: that may still be of the letters before."""
        searches = [worker for worker in self.workers if worker.node is self and not worker.is_finished]
        if searches:
            with suppress(WorkerError):
                await self.workers.wait_for_complete(searches)

    def dismiss(self, result: None = None) -> AwaitComplete:
        """Leave, unless it is left already."""
        return super().dismiss(result) if self.is_current else AwaitComplete()


class DeskCommands(Provider):
    """Actions as palette entries, family first."""

    @property
    def _app(self) -> SextantApp:
        return cast("SextantApp", self.app)

    def _entries(self) -> list[tuple[str, actions.Action]]:
        desk, focus = self._app.desk, self._app.focus_now()
        entries: list[tuple[str, actions.Action]] = []
        for action in actions.ACTIONS:
            if action.name == "palette" or not actions.offered(action, desk, focus):
                continue
            key = f"  [{self._app.keys.shown(action)}]" if self._app.keys.key(action) else ""
            entries.append((f"{action.group}: {action.title.lower()}{key}", action))
        entries += [(f"fault: {fault.fault[1]} ({fault.account})", fault) for fault in actions.faults(desk, focus)]
        return entries

    async def discover(self) -> Hits:
        """Everything, before a letter is typed."""
        for text, action in self._entries():
            yield DiscoveryHit(
                _plain(text), partial(self._app.act, action, "enter"), text=text, help=_plain(action.help)
            )

    async def search(self, query: str) -> Hits:
        """What matches."""
        matcher = self.matcher(query)
        for text, action in self._entries():
            score = matcher.match(text)
            if score > 0:
                yield Hit(
                    score, _plain(text), partial(self._app.act, action, "enter"), text=text, help=_plain(action.help)
                )


def _plain(text: str) -> str:
    """Palette entries and their help are parsed as markup: brackets are written so that they stay brackets."""
    return plain(text).replace("[", r"\[")

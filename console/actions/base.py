"""What an action is, and what it may come to: a screen, a dialog, a command at once, or the picture's own business."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from console.replica import Focus, Replica
from console.screens.modals.spec import Dialog
from engine.commands import Command, Origin

SHOWN = {
    "exclamation_mark": "!", "question_mark": "?", "left_square_bracket": "[", "right_square_bracket": "]",
    "plus": "+", "minus": "-", "left": "←", "right": "→", "ctrl+p": "^p", "up": "↑", "down": "↓",
    "pageup": "PgUp", "pagedown": "PgDn", "home": "Home", "end": "End", "escape": "Esc", "slash": "/", "enter": "⏎",
}  # fmt: skip


@dataclass(frozen=True)
class GoTo:
    """Show another screen."""

    screen: str


@dataclass(frozen=True)
class Ask:
    """Open a dialog."""

    dialog: Dialog


@dataclass(frozen=True)
class SendNow:
    """Send at once; `label` names it in the echo."""

    make: Callable[[Origin], Command]
    label: str


@dataclass(frozen=True)
class OfApp:
    """The app's own business: quit, help, palette, theme."""

    what: str


@dataclass(frozen=True)
class OfScreen:
    """The current screen's own business: zoom, pan, crosshair, another session."""

    what: str
    by: int = 0


Step: TypeAlias = GoTo | Ask | SendNow | OfApp | OfScreen


class Action(ABC):
    """`screens` empty means every one; `rank` orders the footer, 0 leaves it out; `key` empty means palette only."""

    name: ClassVar[str]
    key: ClassVar[str] = ""
    title: ClassVar[str]
    group: ClassVar[str] = "everywhere"
    screens: ClassVar[tuple[str, ...]] = ()
    rank: ClassVar[int] = 0
    otherwise: ClassVar[str] = "not possible now"

    @property
    def help(self) -> str:
        """What it does, in a sentence."""
        return (self.__doc__ or self.title).strip()

    def on(self, screen: str) -> bool:
        """Whether a screen offers it."""
        return not self.screens or screen in self.screens

    def available(self, desk: Replica, focus: Focus) -> bool:
        """Whether it makes sense for what is selected now."""
        return True

    @abstractmethod
    def step(self, desk: Replica, focus: Focus) -> Step:
        """What it comes to; only asked while available."""

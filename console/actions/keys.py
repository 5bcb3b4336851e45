"""Which key stands for which action: the table's own, or the operator's from `[keys]`. No Textual."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from console.actions.base import SHOWN, Action

FORBIDDEN = {
    "ctrl+s": "stops the terminal's output",
    "ctrl+q": "starts it again, and ends programs elsewhere",
    "ctrl+z": "suspends programs",
    "ctrl+b": "belongs to tmux",
    "ctrl+c": "copies, or interrupts",
    "ctrl+d": "ends input",
    "ctrl+h": "is Backspace to many terminals",
    "ctrl+i": "is Tab",
    "ctrl+j": "is Enter",
    "ctrl+m": "is Enter",
}
TAKEN = {
    "up", "down", "left", "right", "home", "end", "pageup", "pagedown", "j", "k", "g", "G", "tab", "shift+tab",
    "escape", "enter", "space", "backspace", "delete",
}  # fmt: skip
"""Keys that move about in tables and dialogs on every screen."""

_NAMES = {
    "solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus",
    "plus_sign": "plus", "low_line": "underscore",
}  # fmt: skip
_FUNCTION = re.compile(r"(?:ctrl\+|shift\+)?f(?:[1-9]|1[0-9]|2[0-4])")
_CONTROL = re.compile(r"ctrl\+[a-z]")


class KeyMap:
    """The keys in force: `changed` holds the operator's, by the action's name."""

    def __init__(self, changed: Mapping[str, str] | None = None) -> None:
        self.changed = dict(changed or {})

    def key(self, action: Action) -> str:
        """Its key as Textual names it; empty: the palette alone."""
        return self.changed.get(action.name, action.key)

    def shown(self, action: Action) -> str:
        """The key as it is printed."""
        first = self.key(action).split(",")[0]
        return SHOWN.get(first, shown(first))


def shown(key: str) -> str:
    """A key's name as it is printed: exclamation_mark -> !, ctrl+k -> ^k."""
    if key.startswith("ctrl+"):
        return f"^{key[5:]}"
    letter = next((c for c in map(chr, range(33, 127)) if not c.isalnum() and _named(c) == key), None)
    return letter or key


def key_named(written: str) -> str:
    """A key as an operator writes it (`x`, `X`, `!`, `f8`, `ctrl+k`) by Textual's name. Raises ValueError."""
    if written.casefold() in FORBIDDEN:
        raise ValueError(f'cannot be "{written}": that key {FORBIDDEN[written.casefold()]}; choose another')
    if len(written) == 1 and written.isascii() and written.isprintable() and written != " ":
        key = _named(written)
    elif _FUNCTION.fullmatch(written) or _CONTROL.fullmatch(written):
        key = written
    else:
        key = ""
    if key in TAKEN or written in TAKEN:
        raise ValueError(f'cannot be "{written}": that key moves about in tables and dialogs; choose another')
    if not key:
        raise ValueError('must be one character, or a key such as "f8" or "ctrl+k"')
    return key


def conflict(table: Sequence[Action], changed: Mapping[str, str]) -> tuple[str, str] | None:
    """The first changed action whose key already stands for another one on a screen of both, and the sentence."""
    keys = KeyMap(changed)
    for action in (each for each in table if each.name in changed):
        for other in table:
            if other is action or not _meet(action, other):
                continue
            if keys.key(action) in keys.key(other).split(","):
                where = f" on {action.screens[0]}" if action.screens else ""
                return action.name, (
                    f'cannot be "{shown(keys.key(action))}": that key is {other.title}{where} ({other.name}); '
                    "choose another, or give that one another key too"
                )
    return None


def _named(character: str) -> str:
    if character.isalnum():
        return character
    name = unicodedata.name(character).lower().replace("-", "_").replace(" ", "_")
    return _NAMES.get(name, name)


def _meet(one: Action, other: Action) -> bool:
    return not one.screens or not other.screens or bool({*one.screens} & {*other.screens})

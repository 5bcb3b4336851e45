"""Foreign text made safe to store, log and draw."""

from __future__ import annotations

import unicodedata

_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SPACES = frozenset("\t\n\r\v\f")
_MARKS = frozenset({"Mn", "Me", "Mc"})
MARKS_IN_A_ROW = 2


def clean(text: str, limit: int = 200) -> str:
    """Make text from outside harmless: at most `limit` characters, all of them visible or a plain space.

    Tabs and line ends become spaces; control, format, surrogate, private and unassigned characters and the
    Unicode line separators go (escape sequences, bidi overrides, zero-width and tag characters among them);
    a base character keeps two combining marks at most.
    """
    if text.isascii() and text.isprintable():
        return text[:limit]
    kept: list[str] = []
    marks = 0
    for character in text:
        if len(kept) >= limit:
            break
        if character in _SPACES:
            kept.append(" ")
            marks = 0
            continue
        category = unicodedata.category(character)
        if category in _DROPPED:
            continue
        if category in _MARKS:
            marks += 1
            if marks > MARKS_IN_A_ROW:
                continue
        else:
            marks = 0
        kept.append(character)
    return "".join(kept)

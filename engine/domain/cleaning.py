"""Foreign text made safe to store, log and draw."""

from __future__ import annotations

import unicodedata

_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SPACES = frozenset("\t\n\r\v\f")
_MARKS = frozenset({"Mn", "Me", "Mc"})
_JOINING = frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x1F3FB, 0x1F400))))
"""Variation selectors and skin tones: terminals disagree about the width of what they are joined to."""
MARKS_IN_A_ROW = 2


def clean(text: str, limit: int = 200) -> str:
    """Make text from outside harmless: at most `limit` characters, all of them visible or a plain space.

    Tabs, line ends and spaces of every width become plain spaces; control, format, surrogate, private and unassigned
    characters and the Unicode line separators go (escape sequences, bidi overrides, zero-width and tag characters
    among them), so do characters that only change how another is drawn; a base character keeps two combining marks.
    """
    if text.isascii() and text.isprintable():
        return text[:limit]
    kept: list[str] = []
    marks = 0
    for character in text:
        if len(kept) >= limit:
            break
        category = unicodedata.category(character)
        if character in _SPACES or category == "Zs":
            kept.append(" ")
            marks = 0
            continue
        if category in _DROPPED or character in _JOINING:
            continue
        if category in _MARKS:
            marks += 1
            if marks > MARKS_IN_A_ROW:
                continue
        else:
            marks = 0
        kept.append(character)
    return "".join(kept)

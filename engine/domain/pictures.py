"""Answers that show the broker's books as they were before the question. Pure."""

from __future__ import annotations

from msgspec import Struct

from engine.domain.ids import Millis


class Picture(Struct, frozen=True):
    """The broker's clock in its newest answer to a question, and our seconds when we first saw that."""

    as_of: Millis
    seen: float


def is_old_picture(as_of: Millis, last: Picture, begun: Millis, asked: float) -> bool:
    """Whether what the broker shows is no newer than what it had shown before the question.

    Clocks differ, ours may even have been set back: an answer may look older or younger than its question. But the
    broker's own time has gone on since we saw its last answer, by a whole second where that may be its unit.
    """
    if as_of == last.as_of:
        unit = 0.0 if as_of % 1_000 else 1.0
        return as_of != begun and asked - last.seen > unit
    return as_of < min(last.as_of, begun)

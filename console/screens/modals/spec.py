"""A dialog as a value: what it states, what it asks for, and the command it makes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

from console.replica import Replica
from console.widgets.spans import Line
from engine.commands import Command, Origin
from engine.domain.orders import Order
from engine.queries import CheckAnswer, Query

Facts: TypeAlias = Callable[[Replica], list[Line]]
Answers: TypeAlias = Mapping[str, str]


class FieldKind(StrEnum):
    """WORD must be typed as it stands and takes no paste; TEXT is free; CHOICE is one of a few; NUMBER is positive."""

    WORD = "word"
    TEXT = "text"
    CHOICE = "choice"
    NUMBER = "number"


def number(text: str) -> Decimal | None:
    """What somebody typed as a plain decimal number, or None: no exponent, no separator, nothing but digits."""
    return Decimal(text.strip()) if re.fullmatch(r"\s*\d{1,12}(\.\d{1,12})?\s*", text, re.ASCII) else None


@dataclass(frozen=True)
class Field:
    """One thing the operator gives. `words`: what a WORD accepts; `options`: (value, label) of a CHOICE."""

    name: str
    label: str
    kind: FieldKind
    words: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    required: bool = True
    default: str = ""

    def accepts(self, text: str) -> bool:
        """Whether the answer will do; capital letters in a word are part of the word."""
        match self.kind:
            case FieldKind.WORD:
                return text.strip() in self.words
            case FieldKind.TEXT:
                return bool(text.strip()) or not self.required
            case FieldKind.CHOICE:
                return any(text == value for value, _ in self.options)
            case FieldKind.NUMBER:
                return (number(text) or 0) > 0 if text.strip() else not self.required


@dataclass(frozen=True)
class Dialog:
    """`name` guards against a second copy; `follow` keeps it open to show the procedure's lines to the end."""

    name: str
    title: str
    facts: Facts
    fields: tuple[Field, ...]
    make: Callable[[Origin, Answers], Command]
    verb: str
    danger: bool = False
    follow: bool = False

    def missing(self, answers: Answers) -> Field | None:
        """The first field whose answer will not do yet."""
        return next((field for field in self.fields if not field.accepts(answers.get(field.name, ""))), None)


@dataclass(frozen=True, kw_only=True)
class Form(Dialog):
    """A dialog whose fields depend on what was given so far, and which the engine checks while it is filled in.

    `shown` are the fields for these answers, `start` names the first to fill in; `query` asks what they would meet, a
    string says what is missing for that; `verdict` words the engine's answer. Without a fresh answer that refuses
    nothing a form that `waits` is not sent; `problem` says why else it cannot be, empty when it can. `result` finds the
    order that came of it, to be shown until the window is closed.
    """

    shown: Callable[[Answers, CheckAnswer | None], tuple[Field, ...]]
    start: str = ""
    problem: Callable[[Answers], str] = lambda answers: ""
    query: Callable[[Answers], Query | str] | None = None
    verdict: Callable[[Answers, CheckAnswer, Replica], list[Line]] = lambda answers, answer, desk: []
    waits: Callable[[Answers], bool] = lambda answers: True
    follows: Callable[[Answers], bool] = lambda answers: False
    result: Callable[[Origin, Replica], Order | None] = lambda origin, desk: None


YES = Field("yes", "type yes (or y), then Enter", FieldKind.WORD, words=("y", "yes", "Y", "YES"))


def word(text: str) -> Field:
    """A word to type that names the risk."""
    return Field("word", f"type {text}, then Enter", FieldKind.WORD, words=(text,))


def reason(label: str = "reason (kept in the audit trail)") -> Field:
    """Why; what raises risk must say."""
    return Field("reason", label, FieldKind.TEXT)

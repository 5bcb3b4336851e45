"""Numbered things that happened; a console asks for those since the last number it saw."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from engine.domain.disagreements import Disagreement
from engine.domain.fills import Fill
from engine.domain.ids import CommandId, Millis, SessionId
from engine.domain.orders import Order
from engine.snapshot import Severity


class OrderMoved(Struct, frozen=True, tag=True):
    """An order changed state or terms."""

    order: Order
    event: str


class Filled(Struct, frozen=True, tag=True):
    """An execution was booked."""

    fill: Fill


class Disagreed(Struct, frozen=True, tag=True):
    """A disagreement arose or moved on."""

    disagreement: Disagreement


class Alerted(Struct, frozen=True, tag=True):
    """Something wants a hand."""

    severity: Severity
    text: str
    session: SessionId | None


class Progressed(Struct, frozen=True, tag=True):
    """A command came a step further; `ok` None while it runs."""

    id: CommandId
    line: str
    ok: bool | None


class Happened(Struct, frozen=True, tag=True):
    """Worth a line in the log and nothing more."""

    text: str
    session: SessionId | None


Occurrence: TypeAlias = OrderMoved | Filled | Disagreed | Alerted | Progressed | Happened


class Event(Struct, frozen=True):
    """An occurrence with its number and time."""

    number: int
    at: Millis
    what: Occurrence

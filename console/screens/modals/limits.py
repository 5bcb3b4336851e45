"""The limits editor: present and new values; tighter ones take a yes, looser ones a reason and a typed word. Pure."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from console import formatting as f
from console.replica import Replica
from console.screens.modals.spec import YES, Answers, Field, FieldKind, Form, number, reason, word
from console.widgets.spans import Line, line, wrap
from engine.commands import ChangeHeatLimits, Command, Origin
from engine.domain.risk import HeatLimits
from engine.queries import CheckAnswer

TIGHTER = "tightened by hand"
"""Reason kept for a change that only takes risk away, where the operator gave none."""
NAMES = ("warn", "block", "release")


def heat_limits(now: HeatLimits) -> Form:
    """Warn, block and release, in percent of equity."""
    present = {name: getattr(now, name) for name in NAMES}
    fields = tuple(
        Field(name, f"{name}, now {f.size(value)} %", FieldKind.NUMBER, default=f.size(value))
        for name, value in present.items()
    )
    why, typed = reason("reason"), replace(word("RAISE"), label="type RAISE")
    yes = replace(YES, label="type yes (or y)")

    def wanted(answers: Answers) -> dict[str, Decimal | None]:
        given = {name: number(answers.get(name, "")) for name in NAMES}
        return {name: value if value != present[name] else None for name, value in given.items()}

    def shown(answers: Answers, _: CheckAnswer | None) -> tuple[Field, ...]:
        return (*fields, why, typed) if looser(wanted(answers), now) else (*fields, yes)

    def make(origin: Origin, answers: Answers) -> Command:
        return ChangeHeatLimits(origin=origin, **wanted(answers), reason=answers.get("reason", "").strip() or TIGHTER)

    def problem(answers: Answers) -> str:
        new = wanted(answers)
        return "" if any(value is not None for value in new.values()) else "nothing is changed yet"

    return Form(
        name="heat_limits",
        title="Heat limits",
        facts=_facts,
        fields=(*fields, why, typed, yes),
        make=make,
        verb="set the limits",
        shown=shown,
        problem=problem,
        start="block",
    )


def looser(wanted: dict[str, Decimal | None], now: HeatLimits) -> bool:
    """Whether any of it lets more risk in: a higher warning or block, or a block that is released sooner."""
    warn = wanted["warn"] or now.warn
    block = wanted["block"] or now.block
    release = wanted["release"] or now.release
    return warn > now.warn or block > now.block or block - release > now.block - now.release


def _facts(desk: Replica) -> list[Line]:
    heat = desk.snapshot.heat if desk.snapshot else None
    if heat is None:
        return [line(("waiting for the engine", "dim"))]
    ink = "stale" if desk.silent else "bright"
    lines = [line(("heat now  ", "dim"), (f.heat_words(heat.heat), ink), ("  in percent of equity", "dim"))]
    return lines + wrap(
        "Over the block no entry leaves; entries open again that many points under it: release.", 66, "dim"
    )

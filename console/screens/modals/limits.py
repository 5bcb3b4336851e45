"""The limits editor: present and new values; tighter ones take a yes, looser ones a reason and a typed word. Pure."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from console import formatting as f
from console.replica import Replica
from console.screens.modals.spec import YES, Answers, Field, FieldKind, Form, number, reason, word
from console.widgets.spans import Line, line, wrap
from engine.commands import ChangeHeatLimits, Command, Origin
from engine.domain.risk import GROUP, PortfolioSettings, looser, problem_of, with_limits
from engine.queries import CheckAnswer

TIGHTER = "tightened by hand"
"""Reason kept for a change that only takes risk away, where the operator gave none."""
NAMES = ("warn", "block", "release")


def heat_limits(now: PortfolioSettings) -> Form:
    """Warn, block and release, and the block of each group, in percent of equity."""
    present = {name: getattr(now.limits, name) for name in NAMES}
    present |= {GROUP + group.name: group.block for group in now.groups}
    fields = tuple(
        Field(_id(place), _label(name, value), FieldKind.NUMBER, default=f.size(value))
        for place, (name, value) in enumerate(present.items())
    )
    why, typed = reason("reason"), replace(word("RAISE"), label="type RAISE")
    yes = replace(YES, label="type yes (or y)")

    def wanted(answers: Answers) -> dict[str, Decimal]:
        given = {name: number(answers.get(_id(place), "")) for place, name in enumerate(present)}
        return {name: value for name, value in given.items() if value is not None and value != present[name]}

    def shown(answers: Answers, _: CheckAnswer | None) -> tuple[Field, ...]:
        return (*fields, why, typed) if looser(now, with_limits(now, wanted(answers))) else (*fields, yes)

    def make(origin: Origin, answers: Answers) -> Command:
        new = wanted(answers)
        return ChangeHeatLimits(
            origin=origin,
            warn=new.get("warn"),
            block=new.get("block"),
            release=new.get("release"),
            groups={name.removeprefix(GROUP): value for name, value in new.items() if name.startswith(GROUP)},
            reason=answers.get("reason", "").strip() or TIGHTER,
        )

    def problem(answers: Answers) -> str:
        new = wanted(answers)
        return (problem_of(with_limits(now, new)) or "") if new else "nothing is changed yet"

    return Form(
        name="heat_limits",
        title="Heat limits",
        facts=_facts,
        fields=(*fields, why, typed, yes),
        make=make,
        verb="set the limits",
        shown=shown,
        problem=problem,
        start=_id(NAMES.index("block")),
    )


def _label(name: str, value: Decimal) -> str:
    """A limit as a person reads it; what a group's block is now stands with the facts."""
    return name.removeprefix(GROUP) if name.startswith(GROUP) else f"{name}, now {f.size(value)}"


def _id(place: int) -> str:
    """The name of a field: a group may be called what no widget can be."""
    return NAMES[place] if place < len(NAMES) else f"group-{place - len(NAMES)}"


def _facts(desk: Replica) -> list[Line]:
    heat = desk.snapshot.heat if desk.snapshot else None
    if heat is None:
        return [line(("waiting for the engine", "dim"))]
    ink = "stale" if desk.silent else "bright"
    lines = [line(("heat now  ", "dim"), (f.heat_words(heat.heat), ink), ("  in percent of equity", "dim"))]
    shares = dict(heat.group_percent)
    for group in heat.groups:
        share = f.size(shares[group.name].quantize(Decimal("0.1"))) if group.name in shares else "?"
        lines.append(line((f"group {group.name}  ", "dim"), (f"{share} %, its block now {f.size(group.block)} %", ink)))
    return lines + wrap(
        "Over the block no entry leaves; entries open again that many points under it: release.", 66, "dim"
    )

"""What a batch has to have met, or its silence proves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from engine.domain.orders import OrderState
from tests.simulation.faults import kinds
from tests.simulation.run import Result

FLOOR_COMMANDS = 20.0
FLOOR_TICKS = 28.0
EVERY_KIND_IN = 0.05
SEEDS_FOR_SHARES = 40
"""With fewer runs a share of 5 % says nothing."""

COMMANDS = (
    "command Flatten",
    "command Kill",
    "command ReleaseKill",
    "command Pause",
    "command Resume",
    "command SubmitByHand",
    "command ModifyOrder",
    "command CancelOrder",
    "command CancelEntries",
    "command DeclareDead",
    "command Acknowledge",
    "command AdoptOrder",
    "command CancelForeign",
    "command IgnoreForeign",
    "command ForceExit",
    "replace accepted",
    "cancel accepted",
    "submit accepted",
    "submit refused",
    "brackets",
    "reverses",
)
INVARIANTS = (
    "I1", "I1 command", "I2", "I2 once", "I4", "I4 average", "I5", "I5 database", "I6", "I8", "I9", "I10", "I10 row",
    "I11", "I11 size", "I12", "I13", "I14", "I15", "I16", "I16 entry", "I17", "I19", "I20", "I21", "I21 dead",
    "I21 silent", "I22", "I22 block", "I23", "I24", "I25", "I26", "I27", "I27 position", "I28", "I28 lower", "I29",
    "I31", "I32", "I33", "I33 pause", "I37", "I40", "I41", "I42", "I43", "I44",
    "I10 block", "I10 same", "I10 twice", "I12 abandoned", "I12 fills", "I12 lost", "I12 proof", "I15 used", "I17 gap",
    "I17 warm-up", "I18", "I19 prompt", "I21 naked", "I23 weight", "I29 journal", "I30 answer", "I30 lost",
    "I30 settled", "I32 counted", "I33 cancel", "I34", "I34 commit", "I34 entry", "I34 one", "I43 unproven",
    "disk alarm", "entry collar", "entry count", "entry deadline", "entry fresh", "entry lease", "entry size",
    "entry read", "entry agrees", "exit size", "rule 5", "rule 7 stop", "rule 8", "rule 9",
    "entry day", "entry loss", "entry money", "entry window", "cancel heard", "mark", "missed mark", "I5 end",
    "I42 kept", "replace size", "rule 4", "missed exit", "rule 4 pending", "I6 price", "I14 any", "I30 in a row",
    "I30 unmoved",
    "I4 booked", "I5 adopted", "I10 asked", "I10 price", "I26 asked", "I32 position", "rule 5 fills", "stop read",
    "candle values", "entry candle", "I19 leaves", "I19 entries", "day result", "rule 7 armed", "I43 read", "I30 line",
    "I32 weight",
    "I21 reckoned", "I23 reckoned", "I40 profit", "I22 room", "I22 release", "I24 again", "I26 live",
    "I33 refused", "I4 newest", "I12 order",
    "I1 before", "I19 part", "I21 excess", "I22 asked", "I26 replace", "I26 waits", "I28 again", "I28 noted",
    "I43 said", "exit whole", "exits add up", "flatten goes on", "resize", "rule 7 once",
    "I2 name", "I13 cancel", "I20 linked", "I21 floor", "I42 lasting", "entry lifetime",
)  # fmt: skip
NOT_BY_CHANCE = frozenset(
    {"entry loss", "missed exit", "missed mark", "I11", "I11 size", "I12 lost", "I21 dead", "I30 lost", "I32", "rule 8"}
    | {"I30 in a row", "I30 unmoved", "I19 entries", "rule 7 armed", "I22 room", "I22 release", "I33 refused"}
    | {"I5 adopted", "I26 asked", "I32 position", "rule 5 fills"}
    | {"I26 replace", "I26 waits", "flatten goes on", "resize", "rule 7 once"}
)
"""Rare in a small batch: demanded of a large one only."""
STATES = tuple(state.value for state in OrderState)
TRANSITIONS = (
    "submitting -> working", "submitting -> in doubt: submit", "submitting -> rejected", "submitting -> abandoned",
    "submitting -> filled", "in doubt: submit -> working", "in doubt: submit -> filled", "in doubt: submit -> lost",
    "lost -> abandoned", "working -> pending cancel", "working -> pending replace", "working -> filled",
    "working -> cancelled", "working -> partially filled", "partially filled -> filled",
    "partially filled -> pending cancel", "pending cancel -> cancelled", "pending cancel -> in doubt: cancel",
    "in doubt: cancel -> cancelled", "in doubt: cancel -> working", "pending replace -> working",
    "pending replace -> in doubt: replace", "in doubt: replace -> working", "in doubt: replace -> filled",
    "pending replace -> filled", "working -> rejected",
)  # fmt: skip


class Coverage:
    """Sums over the runs of a batch."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.transitions: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        self.runs = 0
        self.session_hours = 0.0
        self.lacking_commands: list[str] = []

    def add(self, result: Result) -> None:
        """Count one run."""
        self.runs += 1
        self.counts.update(result.counts)
        self.met.update(result.met)
        self.states.update(result.states)
        self.transitions.update(result.transitions)
        self.struck.update(kind for kind in kinds() if result.counts.get(_hit_of(kind)))
        self.session_hours += result.options.sessions * result.simulated_seconds / 3600

    @property
    def commands_per_session_hour(self) -> float:
        """Requests that left for a broker."""
        return self.counts["commands"] / self.session_hours if self.session_hours else 0.0

    @property
    def ticks_per_candle(self) -> float:
        """Trades per minute and contract, halts included."""
        return self.counts["ticks"] / self.counts["windows"] if self.counts["windows"] else 0.0

    def faults(self) -> dict[str, int]:
        """How often each kind struck."""
        return {kind: self.counts[_hit_of(kind)] for kind in kinds()}

    def missing(self) -> list[str]:
        """Everything that should have happened and did not."""
        large = self.runs >= SEEDS_FOR_SHARES
        gaps = [f"fault {kind}" for kind in kinds() if not self.struck[kind]]
        if large:
            rare = [k for k in kinds() if 0 < self.struck[k] < EVERY_KIND_IN * self.runs]
            gaps += [f"fault {kind} in {self.struck[kind]} of {self.runs} runs only" for kind in rare]
        gaps += [f"command {name}" for name in COMMANDS if not self.counts[name]]
        gaps += [f"state {state}" for state in STATES if not self.states[state]]
        gaps += [f"transition {move}" for move in TRANSITIONS if not self.transitions[move]]
        wanted = (name for name in INVARIANTS if large or name not in NOT_BY_CHANCE)
        gaps += [f"invariant {name}" for name in wanted if not self.met[name]]
        if self.ticks_per_candle < FLOOR_TICKS:
            gaps.append(f"{self.ticks_per_candle:.1f} trades per candle, wanted {FLOOR_TICKS:g}")
        if self.commands_per_session_hour < FLOOR_COMMANDS:
            gaps.append(f"{self.commands_per_session_hour:.1f} commands per session-hour, wanted {FLOOR_COMMANDS:g}")
        return gaps

    def figures(self) -> dict[str, object]:
        """For the last line of a batch."""
        return {
            "fault_kinds": f"{sum(bool(self.struck[k]) for k in kinds())}/{len(kinds())}",
            "states": f"{sum(bool(self.states[s]) for s in STATES)}/{len(STATES)}",
            "transitions": f"{sum(bool(self.transitions[t]) for t in TRANSITIONS)}/{len(TRANSITIONS)}",
            "invariants": f"{sum(bool(self.met[i]) for i in INVARIANTS)}/{len(INVARIANTS)}",
            "ticks_per_candle": round(self.ticks_per_candle, 1),
            "commands_per_session_hour": round(self.commands_per_session_hour, 1),
            "missing": self.missing(),
        }


def _hit_of(kind: str) -> str:
    """The count that shows that a kind struck."""
    return {"commit unknown": "commit unknown: holds", "slow database": "slow commit"}.get(kind, kind)


def merged(results: Iterable[Result]) -> Coverage:
    """The coverage of a batch."""
    coverage = Coverage()
    for result in results:
        coverage.add(result)
    return coverage

"""Everything that one seed expands into; printed with each failure, and what shrinking makes smaller."""

from __future__ import annotations

from msgspec import Struct, field

from engine.domain.broker import Capabilities, Enforcer, FillsKind, IdMode, ReplaceId, ReplaceQuantity
from tests.simulation.faults import kinds, rarity
from tests.simulation.streams import Streams

ACCOUNTS = ("first", "second")
MODES = {"enforced": IdMode.ENFORCED, "tag": IdMode.TAG, "none": IdMode.NONE}


class Options(Struct, frozen=True, kw_only=True):
    """One run. `faults` gives each enabled kind its intensity from 0 to 1; `sessions` how many trade."""

    seed: int
    mode: str
    hours: float
    sessions: int = 4
    faults: dict[str, float] = field(default_factory=dict)
    capabilities: dict[str, Capabilities] = field(default_factory=dict)


def capabilities_of(mode: str, rng: Streams, account: str) -> Capabilities:
    """The manners of one account's broker, by the seed."""
    stream = rng.of(f"capabilities/{account}")
    return Capabilities(
        id_mode=MODES[mode],
        find_by_client_id=stream.chance(0.7) and mode != "none",
        fills=FillsKind.CUMULATIVE if stream.chance(0.35) else FillsKind.EXECUTIONS,
        replace_id=ReplaceId.CHANGES if stream.chance(0.35) else ReplaceId.KEEPS,
        replace_quantity=ReplaceQuantity.REMAINING if stream.chance(0.35) else ReplaceQuantity.TOTAL,
        replace_may_change_type=stream.chance(0.75),
        one_cancels_other=Enforcer.OURS if stream.chance(0.3) else Enforcer.BROKER,
        brackets=stream.chance(0.75),
        settle_ms=200,
    )


def options_of(seed: int, mode: str, hours: float) -> Options:
    """Expand a seed: about a third of all faults, and fewer of the rare ones, each with a strength of its own."""
    streams = Streams(f"options/{seed}/{mode}")
    stream = streams.of("faults")
    share = stream.uniform(0.15, 0.6)
    strengths = {name: round(stream.uniform(0.2, 1.0), 2) for name in kinds() if stream.chance(share * rarity(name))}
    return Options(
        seed=seed,
        mode=mode,
        hours=hours,
        faults=strengths,
        capabilities={account: capabilities_of(mode, streams, account) for account in ACCOUNTS},
    )

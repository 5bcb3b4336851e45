"""What the command line asked for, as one frozen value."""

from __future__ import annotations

import math
from pathlib import Path

from msgspec import Struct

from engine.domain.market import Timeframe

AS_FAST_AS_IT_GOES = math.inf


class RunOptions(Struct, frozen=True, kw_only=True):
    """Options of `sextant run` (and of `doctor` and the listings, which use some of them); None: not given.

    `speed` is a multiple of real time for a replay, infinite for as fast as it goes; `seconds` is wall time
    after which a headless run ends. `db` is as typed: a file or a URL; `exchange` too: `unix:PATH` or a path.
    """

    config: Path | None = None
    db: str | None = None
    exchange: str | None = None
    state_dir: Path | None = None
    replay: Path | None = None
    symbol: str | None = None
    timeframe: Timeframe | None = None
    strategy: str | None = None
    warmup: int | None = None
    speed: float = 1.0
    headless: bool = False
    seconds: float | None = None
    json: bool = False
    live: bool = False
    take_over: bool = False

"""What a strategy is."""

from __future__ import annotations

from typing import Any, Protocol

from engine.domain.decisions import Decision, StrategyContext


class Strategy(Protocol):
    """Decides on each closed candle, synchronously and without side effects.

    `initial` gives the state before the first candle; the state that each decision returns is handed to the
    next call and is never stored: after a restart it is rebuilt by warm-up. A call that raises, or that runs
    longer than 250 ms, decides nothing and pauses the session's entries.
    """

    def initial(self) -> Any:
        """The state before the first candle."""

    def decide(self, context: StrategyContext) -> Decision:
        """Nothing, Submit, Modify or Cancel, each with the new state."""

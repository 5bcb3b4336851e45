"""The line of a feed that lives in this process: its state, and the cuts and delays it can be told to show."""

from __future__ import annotations

from collections.abc import Callable

from engine.domain.broker import LinkState
from engine.domain.ids import Millis
from engine.errors import QueryFailed
from engine.ports import Clock, Timer

DELAY_LASTS_MS = 300_000


class FeedLine:
    """Base of such feeds: what is delivered, and what history says, is theirs."""

    def __init__(self, clock: Clock) -> None:
        self._line_clock = clock
        self._state = LinkState.DOWN
        self._on_link: Callable[[LinkState, str], None] = lambda state, reason: None
        self._up_timer: Timer | None = None
        self._delay_ms = 0
        self._delay_until: Millis = 0

    def _change(self, state: LinkState, reason: str) -> None:
        self._state = state
        self._on_link(state, reason)

    def _hang_up(self) -> None:
        """Down for good, without a word; a cut that was to end does not."""
        self._state = LinkState.DOWN
        if self._up_timer is not None:
            self._up_timer.cancel()

    def _check_link(self) -> None:
        if self._state is not LinkState.UP:
            raise QueryFailed(f"the feed is {self._state}")

    async def _wait_out_delay(self, asked: Millis) -> None:
        """Hold back an answer asked for at `asked` while a delay stands. Raises QueryFailed if cut meanwhile."""
        if asked < self._delay_until and self._delay_ms:
            await self._line_clock.sleep(self._delay_ms / 1000)
            self._check_link()

    def disconnect(self, seconds: float) -> None:
        """Cut the feed and restore it after that many seconds; a longer cut replaces a running one.

        Raises ValueError when it is not connected.
        """
        if self._state is LinkState.DOWN:
            raise ValueError("the feed is not connected")
        if self._up_timer is not None:
            self._up_timer.cancel()
        self._change(LinkState.RECONNECTING, "connection lost")
        clock = self._line_clock
        self._up_timer = clock.call_at(clock.now() + round(seconds * 1000), self._reconnect)

    def _reconnect(self) -> None:
        if self._state is LinkState.RECONNECTING:
            self._change(LinkState.UP, "connected again")

    def delay_history(self, seconds: float) -> None:
        """Answer questions for history that much later for five minutes; 0 ends it."""
        self._delay_ms = round(seconds * 1000)
        self._delay_until = self._line_clock.now() + DELAY_LASTS_MS

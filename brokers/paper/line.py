"""A client's connection to an exchange process: kept up, and honest about what left it.

- Nothing connected at the moment of sending: LinkDown, nothing left. The connection broke after the request was
  written: AnswerLost, for it may have arrived (a question: QueryFailed either way).
- A connection that ended is made again, at growing pauses, until `close`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, assert_never

import msgspec

from brokers.common.backoff import pauses
from brokers.paper import wire
from engine.domain.broker import AccountEvent, LinkState
from engine.domain.cleaning import clean
from engine.domain.ids import Millis
from engine.domain.market import Tick
from engine.errors import AnswerLost, LinkDown, LinkError, QueryFailed
from engine.periodic import Tasks, within
from engine.ports import Clock, Rng

T = TypeVar("T")
log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


class Line:
    """One connection; `on_link` is told each change, `on_event` and `on_tick` what is pushed, synchronously."""

    def __init__(
        self,
        path: Path,
        hello: wire.Hello,
        clock: Clock,
        rng: Rng,
        *,
        on_link: Callable[[LinkState, str], None],
        on_event: Callable[[AccountEvent], None] = lambda event: None,
        on_tick: Callable[[Tick], None] = lambda tick: None,
    ) -> None:
        self.path = path
        self.state = LinkState.DOWN
        self.welcome: wire.Welcome | None = None
        self.hello = hello
        self._clock = clock
        self._rng = rng
        self._on_link = on_link
        self._on_event = on_event
        self._on_tick = on_tick
        self._tasks = Tasks(f"line to {path.name}", lambda name, error: None)
        self._wire: wire.Wire[wire.FromExchange] | None = None
        self._greeting: asyncio.Future[None] | None = None
        self._asked: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._count = 0
        self._wanted = False
        self._retrying = False
        self._cut_until: Millis = 0

    # ------------------------------------------------------------------------------------------------ life

    async def open(self) -> None:
        """Connect, and stay connected from now on. Raises LinkDown when it does not work at once."""
        await self._connect()

    async def close(self) -> None:
        """Disconnect for good; nobody is told anything afterwards."""
        self._wanted = False
        self._hang_up("the line was closed")
        self.state = LinkState.DOWN
        await self._tasks.close()
        self._tasks = Tasks(f"line to {self.path.name}", lambda name, error: None)

    def disconnect(self, seconds: float) -> None:
        """Cut the line and make it again after that many seconds."""
        self._cut_until = self._clock.now() + round(seconds * 1000)
        self._broke("the line was cut")

    async def _connect(self) -> None:
        """One try. Raises LinkDown with a sentence."""
        loop = asyncio.get_running_loop()
        self._greeting = greeting = loop.create_future()
        made: wire.Wire[wire.FromExchange] = wire.Wire(
            wire.exchange_frames(),
            wire.LARGEST_FROM_EXCHANGE,
            lambda frame: self._on_frame(made, frame),
            lambda why: self._ended(made, why),
        )
        self._wire = made
        try:
            # A socket is not on the clock: a tape holds meanwhile.
            with self._clock.outside():
                await within(self._clock, CONNECT_SECONDS, self._greet(made, greeting))
        except LinkDown:
            self._hang_up("not connected")
            raise
        except (OSError, TimeoutError) as error:
            self._hang_up("not connected")
            reason = getattr(error, "strerror", None) or "no answer in time"
            raise LinkDown(f"no exchange answers on {self.path} ({reason})") from None
        except BaseException:
            self._hang_up("not connected")
            raise

    async def _greet(self, made: wire.Wire[wire.FromExchange], greeting: asyncio.Future[None]) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: made, str(self.path))
        made.send(self.hello)
        await greeting

    def _ended(self, which: wire.Wire[wire.FromExchange], why: str) -> None:
        if which is self._wire:
            self._broke(why)

    def _broke(self, why: str) -> None:
        greeting = self._greeting
        self._hang_up(why)
        if greeting is not None and not greeting.done():
            greeting.set_exception(LinkDown(f"the exchange on {self.path} ended the connection: {why}"))
        if not self._wanted:
            return
        if self.state is LinkState.UP:
            self._change(LinkState.RECONNECTING, f"no connection to the exchange: {why}")
        if not self._retrying:
            self._retrying = True
            self._tasks.launch(self._reconnect(), "reconnect")

    def _hang_up(self, why: str) -> None:
        """Let go of the present connection; whoever waits for an answer learns that none will come."""
        ended, self._wire = self._wire, None
        if ended is not None:
            ended.cut(why)
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            if not answer.done():
                answer.set_exception(AnswerLost(why))

    async def _reconnect(self) -> None:
        try:
            for pause in pauses(self._rng, first=FIRST_PAUSE, cap=LONGEST_PAUSE):
                await self._clock.sleep(max(pause, (self._cut_until - self._clock.now()) / 1000))
                try:
                    await self._connect()
                except LinkDown as error:
                    self._change(LinkState.RECONNECTING, str(error))
                if self.state is LinkState.UP:
                    return
        finally:
            self._retrying = False

    def _let_in(self, welcome: wire.Welcome) -> None:
        """Up from this frame on, so that nothing pushed behind it comes before the word."""
        self.welcome = welcome
        self._change(LinkState.UP, "connected again" if self._wanted else "connected")
        self._wanted = True
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(None)

    def _change(self, state: LinkState, reason: str) -> None:
        self.state = state
        self._on_link(state, reason)

    # -------------------------------------------------------------------------------------------- requests

    async def command(self, call: wire.Order) -> wire.Outcome:
        """Send what changes something, once. Raises LinkDown, AnswerLost."""
        return await self._call(call, wire.Outcome)

    async def ask(self, call: wire.Call, kind: type[T]) -> T:
        """Ask for something that changes nothing. Raises QueryFailed; ValueError when it is refused."""
        try:
            return await self._call(call, kind)
        except (LinkDown, AnswerLost) as error:
            raise QueryFailed(str(error)) from None

    async def _call(self, call: wire.Call, kind: type[T]) -> T:
        if self.state is not LinkState.UP or self._wire is None:
            raise LinkDown(f"the line to the exchange is {self.state}; nothing was sent")
        self._count += 1
        number = self._count
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        if not self._wire.send(wire.Ask(number, call)):
            raise LinkDown("the line to the exchange has just ended; nothing was sent")
        self._asked[number] = answer
        try:
            raw = await answer
        finally:
            self._asked.pop(number, None)
        try:
            return msgspec.msgpack.decode(raw, type=kind)
        except (msgspec.DecodeError, ValueError, ArithmeticError) as error:
            raise AnswerLost(f"the answer cannot be read ({error})") from None

    def _on_frame(self, which: wire.Wire[wire.FromExchange], frame: wire.FromExchange) -> None:
        if which is not self._wire:
            return
        match frame:
            case wire.Welcome():
                self._let_in(frame)
            case wire.TurnedAway(reason):
                if self._greeting is not None and not self._greeting.done():
                    self._greeting.set_exception(LinkDown(clean(reason)))
            case wire.Answer(number, value):
                if (answer := self._asked.get(number)) is not None and not answer.done():
                    answer.set_result(value.copy())
            case wire.Failure(number, why, text):
                if (answer := self._asked.get(number)) is not None and not answer.done():
                    answer.set_exception(_error(why, clean(text)))
            case wire.Told(event):
                self._on_event(event)
            case wire.Traded(tick):
                self._on_tick(tick)
            case wire.FeedSaid(state, reason):
                self._on_link(state, clean(reason))
            case _:
                assert_never(frame)


def _error(why: wire.Why, text: str) -> LinkError | ValueError:
    match why:
        case wire.Why.NOT_SENT:
            return LinkDown(text)
        case wire.Why.LOST:
            return AnswerLost(text)
        case wire.Why.FAILED:
            return QueryFailed(text)
        case wire.Why.REFUSED:
            return ValueError(text)
        case _:
            assert_never(why)

"""What an exchange process and its clients say to each other: frames of msgpack behind four bytes of length.

client            exchange
  Hello     ->                 who it is, and what it believes the exchange lists
            <-  Welcome        or TurnedAway with a sentence, and the end
  Ask       ->                 a number and a request; several may be under way
            <-  Answer         the same number and the result, or Failure with the kind of error
            <-  Told, Traded   the account's stream and the market's ticks, in order, pushed

What is not such a frame ends that connection and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Raw, Struct

from engine.domain.broker import (
    AcceptedOrder,
    AccountEvent,
    Capabilities,
    LinkState,
    RefusedOrder,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Tick, Timeframe
from engine.domain.orders import Terms

log = logging.getLogger(__name__)

VERSION = 1
HEAD = 4
LARGEST_FROM_CLIENT = 1_000_000
LARGEST_FROM_EXCHANGE = 64_000_000
LARGEST_BACKLOG = 64_000_000
"""Bytes that wait for a client that does not read; beyond it the connection is cut."""


class Listed(Struct, frozen=True, kw_only=True):
    """One account as a client believes it is kept."""

    account: AccountId
    currency: str
    capabilities: Capabilities


class Hello(Struct, frozen=True, kw_only=True, tag=True):
    """The first frame; with `account` the stream of that account follows, without it the ticks of `instruments`."""

    version: int
    account: Listed | None = None
    instruments: tuple[Instrument, ...] = ()


class Submit(Struct, frozen=True, tag=True):
    """AccountManager.submit."""

    request: SubmitRequest


class Replace(Struct, frozen=True, tag=True):
    """AccountManager.replace."""

    broker_id: BrokerOrderId
    client_id: ClientOrderId
    terms: Terms


class Cancel(Struct, frozen=True, tag=True):
    """AccountManager.cancel."""

    broker_id: BrokerOrderId


class Question(StrEnum):
    """What an account can be asked that needs no argument."""

    POSITIONS = "positions"
    OPEN_ORDERS = "open orders"
    BALANCE = "balance"


class AskAccount(Struct, frozen=True, tag=True):
    """AccountManager.positions, .open_orders, .balance."""

    question: Question


class OrdersSince(Struct, frozen=True, tag=True):
    """AccountManager.orders_since."""

    since: Millis


class FillsSince(Struct, frozen=True, tag=True):
    """AccountManager.fills_since."""

    since: Millis


class OrderByClientId(Struct, frozen=True, tag=True):
    """AccountManager.order_by_client_id."""

    client_id: ClientOrderId


class AskHistory(Struct, frozen=True, tag=True):
    """MarketDataSource.history."""

    symbol: Symbol
    timeframe: Timeframe
    count: int
    until: Millis


class Inject(Struct, frozen=True, tag=True):
    """A fault at the exchange or on its wire to this account (FaultInjector.inject)."""

    name: str
    symbol: Symbol | None = None
    argument: str = ""


class Halt(Struct, frozen=True, tag=True):
    """Hold the market: no trade happens until it is let go."""

    hold: bool


class Ping(Struct, frozen=True, tag=True):
    """Answered at once, behind everything that was pushed before."""


Order: TypeAlias = Submit | Replace | Cancel
Call: TypeAlias = Order | (
    AskAccount | OrdersSince | FillsSince | OrderByClientId | AskHistory | Inject | Halt | Ping
)  # fmt: skip


class Ask(Struct, frozen=True, tag=True):
    """A request with the client's number for it."""

    number: int
    call: Call


FromClient: TypeAlias = Hello | Ask


class Welcome(Struct, frozen=True, kw_only=True, tag=True):
    """The hello was taken. `book` names what the exchange keeps, for a person."""

    version: int
    book: str
    accounts: tuple[AccountId, ...]
    symbols: tuple[Symbol, ...]


class TurnedAway(Struct, frozen=True, tag=True):
    """The hello was not taken, and why."""

    reason: str


class Answer(Struct, frozen=True, tag=True):
    """The result of request `number`, as the asker knows to read it."""

    number: int
    value: Raw


class Why(StrEnum):
    """What a failed request means for who asked."""

    NOT_SENT = "not sent"
    LOST = "lost"
    FAILED = "failed"
    REFUSED = "refused"


class Failure(Struct, frozen=True, tag=True):
    """Request `number` got no result."""

    number: int
    why: Why
    text: str


class Told(Struct, frozen=True, tag=True):
    """An event of the account's stream."""

    event: AccountEvent


class Traded(Struct, frozen=True, tag=True):
    """A tick."""

    tick: Tick


class FeedSaid(Struct, frozen=True, tag=True):
    """The market's own line went up or down."""

    state: LinkState
    reason: str


FromExchange: TypeAlias = Welcome | TurnedAway | Answer | Failure | Told | Traded | FeedSaid


class Outcome(Struct, frozen=True):
    """A SubmitAnswer on the wire: one of the two."""

    accepted: AcceptedOrder | None = None
    refused: RefusedOrder | None = None

    @classmethod
    def of(cls, answer: SubmitAnswer) -> Outcome:
        """As it is sent."""
        return cls(accepted=answer) if isinstance(answer, AcceptedOrder) else cls(refused=answer)

    def answer(self) -> SubmitAnswer:
        """As the engine knows it. Raises ValueError when it is neither."""
        if (answer := self.accepted or self.refused) is None:
            raise ValueError("the answer says neither accepted nor refused")
        return answer


ENCODER = msgspec.msgpack.Encoder()
Frame = TypeVar("Frame")


def packed(frame: FromClient | FromExchange) -> bytes:
    """The frame with its length before it."""
    body = ENCODER.encode(frame)
    return len(body).to_bytes(HEAD, "big") + body


def client_frames() -> msgspec.msgpack.Decoder[FromClient]:
    """Reads what clients send."""
    return msgspec.msgpack.Decoder(FromClient)


def exchange_frames() -> msgspec.msgpack.Decoder[FromExchange]:
    """Reads what the exchange sends."""
    return msgspec.msgpack.Decoder(FromExchange)


class Wire(asyncio.Protocol, Generic[Frame]):
    """One connection as frames: `on_frame` for each, `on_end` once with why it ended."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[Frame],
        largest: int,
        on_frame: Callable[[Frame], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._decoder = decoder
        self._largest = largest
        self._on_frame = on_frame
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._waiting = bytearray()
        self._ended = "the connection was closed"

    @property
    def is_open(self) -> bool:
        """Whether a frame written now may arrive."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop connected us."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into frames; a bad one ends the connection."""
        self._waiting += data
        while len(self._waiting) >= HEAD and self.is_open:
            size = int.from_bytes(self._waiting[:HEAD], "big")
            if size > self._largest:
                self.cut(f"a frame of {size} bytes is no frame")
                return
            if len(self._waiting) < HEAD + size:
                return
            body = bytes(self._waiting[HEAD : HEAD + size])
            del self._waiting[: HEAD + size]
            try:
                frame = self._decoder.decode(body)
            except (msgspec.DecodeError, ValueError, ArithmeticError) as error:
                self.cut(f"a frame cannot be read ({error})")
                return
            self._on_frame(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop lost the connection."""
        self._on_end(f"{self._ended} ({exc})" if exc is not None else self._ended)

    def send(self, frame: Any) -> bool:
        """Write a frame; False if the connection had ended before, so that nothing of it left."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(packed(frame))
        if self._transport.get_write_buffer_size() > LARGEST_BACKLOG:
            self.cut("it does not read what it is sent")
        return True

    def cut(self, why: str) -> None:
        """End the connection at once."""
        if self.is_open:
            self._ended = why
            assert self._transport is not None
            self._transport.abort()

    def close(self) -> None:
        """End the connection once what was written has left."""
        if self._transport is not None:
            self._transport.close()

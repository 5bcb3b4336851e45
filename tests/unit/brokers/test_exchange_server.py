"""The exchange behind a socket: several clients, bad frames, desks that believe otherwise, and faults there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from brokers.paper import wire
from brokers.paper.line import Line
from brokers.paper.listing import differs
from brokers.paper.remote import RemotePaperAccount, RemoteSource, reach
from engine.domain.broker import AcceptedOrder, Capabilities, IdMode, LinkState, SubmitRequest
from engine.domain.ids import AccountId, ClientOrderId, Symbol
from engine.domain.instruments import Instrument
from engine.errors import AnswerLost, LinkDown, QueryFailed
from tests.unit.brokers.paper_desk import ACCOUNT, ES, terms
from tests.unit.brokers.remote_desk import RemoteWire, barrier


@pytest.fixture
async def desk() -> AsyncIterator[RemoteWire]:
    desk = RemoteWire()
    await desk.start()
    yield desk
    await desk.stop()


def ordered(client_id: str, limit: int) -> SubmitRequest:
    return SubmitRequest(ClientOrderId(client_id), terms(limit=limit))


async def raw(desk: RemoteWire, data: bytes) -> bytes:
    """What comes back for these bytes until the exchange hangs up."""
    reader, writer = await asyncio.open_unix_connection(str(desk.place.path))
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x03abc",
        b"\x00\x00\x00\x00",
        wire.packed(wire.Ask(1, wire.Cancel("P1"))),  # type: ignore[arg-type]
        wire.packed(wire.Ask(1, wire.Ping())),
        wire.packed(wire.Hello(version=wire.VERSION)) + wire.packed(wire.Hello(version=wire.VERSION)),
    ],
)
async def test_bad_frames_end_that_connection_only(desk: RemoteWire, data: bytes) -> None:
    await raw(desk, data)
    assert isinstance(await desk.do(desk.account.submit(ordered("one", limit=90))), AcceptedOrder)
    assert desk.links() == ["up"]
    assert [call for call in desk.place.requests if isinstance(call, wire.Cancel)] == []


async def test_two_clients_of_one_account_both_see_its_stream(desk: RemoteWire) -> None:
    other = desk.client(ACCOUNT, Capabilities())
    seen: list[object] = []
    await other.start(seen.append)
    await desk.do(desk.account.submit(ordered("one", limit=90)))
    await barrier(desk.clock, other.line)
    assert seen[1:] == desk.events[1:] != []
    await other.stop()
    await desk.do(desk.account.submit(ordered("two", limit=91)))
    assert len(desk.orders()) == 2


@pytest.mark.parametrize(
    ("account", "instrument", "complaint"),
    [
        (AccountId("else"), ES, "keeps no account else"),
        (ACCOUNT, replace(ES, tick_size=Decimal("0.5")), "ESZ6 with tick_size 0.25, the desk believes 0.5"),
        (ACCOUNT, replace(ES, point_value=Decimal(5)), "ESZ6 with point_value 50, the desk believes 5"),
        (ACCOUNT, replace(ES, symbol=Symbol("NQZ6")), "does not list NQZ6"),
    ],
)
async def test_a_desk_that_believes_otherwise_is_turned_away(
    desk: RemoteWire, account: AccountId, instrument: Instrument, complaint: str
) -> None:
    stranger = RemotePaperAccount(account, "USD", Capabilities(), [instrument], desk.place.path, desk.clock, Random(1))
    with pytest.raises(LinkDown, match=complaint):
        await stranger.start(lambda event: None)
    assert stranger.line.state is LinkState.DOWN


async def test_manners_currency_and_version_must_be_the_same(desk: RemoteWire) -> None:
    manners = wire.Listed(account=ACCOUNT, currency="USD", capabilities=Capabilities(id_mode=IdMode.TAG))
    with pytest.raises(LinkDown, match="id_mode enforced, the desk believes tag"):
        await reach([manners], [ES], desk.place.path, desk.clock, Random(1))
    euros = wire.Listed(account=ACCOUNT, currency="EUR", capabilities=Capabilities())
    with pytest.raises(LinkDown, match="in USD, not in EUR"):
        await reach([euros], [ES], desk.place.path, desk.clock, Random(1))
    newer = Line(desk.place.path, wire.Hello(version=2), desk.clock, Random(1), on_link=lambda state, reason: None)
    with pytest.raises(LinkDown, match="speaks version 1, the desk version 2"):
        await newer.open()


async def test_what_only_the_desk_cares_about_may_differ(desk: RemoteWire) -> None:
    own = replace(ES, stale_after_ms=1, silent_after_ms=2, worst_case=Decimal(9), group="mine")
    assert differs(desk.place.listing, wire.Hello(version=1, instruments=(own,))) is None


async def test_nobody_there_is_a_link_that_is_down(tmp_path: Path) -> None:
    desk = RemoteWire()
    nobody = RemotePaperAccount(ACCOUNT, "USD", Capabilities(), [ES], tmp_path / "no.sock", desk.clock, Random(1))
    with pytest.raises(LinkDown, match="no exchange answers"):
        await nobody.start(lambda event: None)
    with pytest.raises(LinkDown, match="nothing was sent"):
        await nobody.submit(ordered("one", limit=90))
    with pytest.raises(QueryFailed):
        await nobody.positions()


async def test_a_request_written_before_the_exchange_goes_is_in_doubt_and_the_line_comes_back(
    desk: RemoteWire,
) -> None:
    call = desk.spawn(desk.account.submit(ordered("one", limit=90)))
    question = desk.spawn(desk.account.positions())
    await desk.clock.settle()
    await desk.place.server.stop()
    with pytest.raises(AnswerLost):
        await call
    with pytest.raises(QueryFailed):
        await question
    assert desk.links() == ["up", "reconnecting"]
    with pytest.raises(LinkDown):
        await desk.account.submit(ordered("two", limit=90))
    await desk.wait(30)
    assert desk.link.state is LinkState.RECONNECTING
    await desk.place.open_again()
    await desk.wait(10)
    assert desk.links()[-1] == "up"
    assert isinstance(await desk.do(desk.account.submit(ordered("three", limit=90))), AcceptedOrder)


async def test_what_a_vanished_desk_had_sent_is_executed(desk: RemoteWire) -> None:
    call = desk.spawn(desk.account.submit(ordered("one", limit=90)))
    await desk.clock.settle()
    desk.link.disconnect(3600)
    with pytest.raises(AnswerLost):
        await call
    await raw(desk, b"\xff\xff\xff\xff")  # behind it at the same door: the exchange has read both
    await desk.wait(1)
    assert [order.record.client_id for order in desk.exchange.book.orders.values()] == ["one"]
    assert [call.request.client_id for call in desk.place.requests if isinstance(call, wire.Submit)] == ["one"]


async def test_every_request_is_told_before_it_is_executed(desk: RemoteWire) -> None:
    first = await desk.do(desk.account.submit(ordered("one", limit=90)))
    assert isinstance(first, AcceptedOrder)
    await desk.do(desk.account.replace(first.broker_id, ClientOrderId("one"), terms(limit=91)))
    await desk.do(desk.account.cancel(first.broker_id))
    assert [type(call).__name__ for call in desk.place.requests] == ["Submit", "Replace", "Cancel"]


async def test_faults_are_shown_by_the_exchange(desk: RemoteWire) -> None:
    said = await desk.link.ask(wire.Inject("lose-answer"), str)
    assert "its answer lost" in said
    call = desk.spawn(desk.account.submit(ordered("one", limit=90)))
    await desk.wait(1)
    with pytest.raises(AnswerLost):
        await call
    assert len(desk.exchange.open_orders(ACCOUNT)) == 1
    with pytest.raises(ValueError, match="there is no fault"):
        await desk.link.ask(wire.Inject("earthquake"), str)


async def test_a_halted_market_trades_nothing_until_it_is_let_go(desk: RemoteWire) -> None:
    source = RemoteSource([ES], desk.place.path, desk.clock, Random(1))
    seen: list[object] = []
    source.subscribe(ES.symbol, seen.append)
    await source.start(lambda state, reason: None)
    await desk.wait(5)
    assert seen == []
    await desk.link.ask(wire.Halt(False), type(None))
    await desk.wait(5)
    await barrier(desk.clock, source.line)
    count = len(seen)
    assert count > 3
    await desk.link.ask(wire.Halt(True), type(None))
    await desk.wait(5)
    await barrier(desk.clock, source.line)
    assert len(seen) == count
    await source.stop()


async def test_a_client_that_does_not_read_is_cut_off(desk: RemoteWire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGEST_BACKLOG", 100_000)
    reader, writer = await asyncio.open_unix_connection(str(desk.place.path))
    writer.write(wire.packed(wire.Hello(version=wire.VERSION, account=desk.link.hello.account)))
    await reader.readexactly(4)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    for number in range(2_000):
        made = desk.exchange.submit(ACCOUNT, ordered(f"n{number}", limit=90), desk.clock.now())
        assert isinstance(made, AcceptedOrder)
        desk.exchange.cancel(ACCOUNT, made.broker_id, desk.clock.now())
        if number % 50 == 0:
            await desk.wait(0.1)
        if len(desk.place.server.clients) == 1:
            break
    assert len(desk.place.server.clients) == 1
    assert desk.links() == ["up"]
    writer.close()

"""What is left when a desk stops or everything is flattened is what its last word says."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from msgspec.structs import replace

from brokers.paper.out_of_band import move_position
from engine import commands as c
from engine.domain.ids import SessionId
from engine.domain.orders import OrderState, Role
from engine.domain.settings import ShutdownPolicy
from engine.outbound.flatten import FlattenResult
from engine.snapshot import Procedure
from tests.flows.acts import finished, hold
from tests.flows.harness import ES, NQ, PAPER, Desk
from tests.flows.test_outbound_basic import enter


async def test_a_desk_that_stops_right_after_an_adoption_first_sizes_the_stop(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    desk.strategies[ES].script += [enter(quantity="3")]
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: desk.position() == 3, 5)
    await desk.pass_(5)
    desk.faults.inject("margin-desk", ES, "1")
    await desk.until(lambda: desk.position() == 2, 45)
    assert [o.terms.quantity for o in desk.orders(Role.STOP) if o.is_open] == [3]
    await desk.clock.settle()
    await desk.stop(ShutdownPolicy.CANCEL_ENTRIES)
    (stop,) = desk.exchange.open_orders(PAPER)
    assert stop.terms.quantity == Decimal(2)


async def _opened_again(desk: Desk, moves: Callable[[], object]) -> Procedure:
    """Everything is flattened, and what `moves` comes after one session was flat and before the last one is."""
    await hold(desk, ES)
    await hold(desk, NQ, "20000", stop="19900")
    first, last = (desk.engine.sessions[SessionId(f"s-{symbol}")].trader for symbol in (ES, NQ))
    run = last.flattener.run

    async def later(id: str, say: Callable[[str], None]) -> FlattenResult:
        result = await run(id, say)
        await first.desk.until(lambda: first.desk.book.position.is_flat, 5)
        await first.desk.clock.sleep(1)
        moves()
        return result

    last.flattener.run = later  # type: ignore[method-assign]
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=None))
    return await finished(desk, receipt.id, 70)


async def test_flatten_everything_says_not_flat_of_a_session_that_holds_again_before_the_last_is_done(
    make_desk: Callable[..., Desk],
) -> None:
    """An execution voided while another session's exit was still under way: "everywhere" is a word about now."""
    desk = await make_desk(symbols=(ES, NQ)).start()
    book, now = desk.trader().desk.book, desk.clock.now

    def moves() -> None:
        book.adopt_position(Decimal(1), Decimal(5000), "an execution was voided", now())

    done = await _opened_again(desk, moves)
    assert (done.ok, done.result) == (False, "NOT flat")
    assert any("NOT flat: position is 1" in line for _, line in done.lines)


async def test_flatten_everything_asks_the_broker_again_before_it_says_so_of_all(
    make_desk: Callable[..., Desk],
) -> None:
    """A stranger's fill that nobody told us of: it is named, and closed under the flatten once it is adopted."""
    desk = await make_desk(symbols=(ES, NQ)).start()
    done = await _opened_again(desk, lambda: move_position(desk.exchange, PAPER, ES, Decimal(1), desk.clock.now()))
    assert desk.broker_position() == 1
    assert (done.ok, done.result) == (False, "NOT flat")
    assert any("NOT flat: position is 1" in line for _, line in done.lines)
    await desk.until(lambda: desk.broker_position() == 0, 20)
    await desk.until(lambda: desk.position() == 0, 5)


async def test_what_came_after_a_resume_is_not_closed_under_the_flatten_of_everything(
    make_desk: Callable[..., Desk],
) -> None:
    """It is not flat, and nobody wants it to be: entries were let go again before the last session was done."""
    desk = await make_desk(symbols=(ES, NQ)).start()

    def resumes() -> None:
        desk.trader().flattener.lift()
        move_position(desk.exchange, PAPER, ES, Decimal(1), desk.clock.now())

    done = await _opened_again(desk, resumes)
    assert (done.ok, done.result) == (False, "NOT flat")
    await desk.until(lambda: desk.position() == 1, 60)
    await desk.pass_(20)
    assert desk.broker_position() == 1


async def test_flatten_everything_names_an_order_that_lives_after_all(make_desk: Callable[..., Desk]) -> None:
    """One that was taken for ended when its session was flat, and works again before the last one is."""
    desk = await make_desk(symbols=(ES, NQ)).start()

    def revives() -> None:
        book = desk.trader().desk.book
        entry = next(o for o in book if o.role is Role.ENTRY)
        book.put(replace(entry, state=OrderState.LOST), "revived by the test", desk.clock.now())

    done = await _opened_again(desk, revives)
    assert (done.ok, done.result) == (False, "NOT flat")
    assert any("NOT flat: entry" in line and "is lost" in line for _, line in done.lines)


async def test_flatten_everything_is_not_confirmed_when_the_broker_stops_answering_before_the_last_is_done(
    make_desk: Callable[..., Desk],
) -> None:
    """What was read a minute ago is no evidence for all of them."""
    desk = await make_desk(symbols=(ES, NQ)).start()
    done = await _opened_again(desk, lambda: desk.faults.inject("fail-queries", None, "300"))
    assert (done.ok, done.result) == (False, "NOT flat")
    assert any("NOT confirmed flat" in line for _, line in done.lines)


async def test_a_position_that_comes_back_as_large_as_it_was_is_closed_under_the_standing_flatten(
    make_desk: Callable[..., Desk],
) -> None:
    """What the flatten had left was closed by others, and opened again by them: it was taken for what was left."""
    desk = await make_desk().start()
    await hold(desk)
    flattener = desk.trader().flattener
    carried_out = flattener._run

    async def shut_out(id: str, say: Callable[[str], None]) -> FlattenResult:
        return FlattenResult(False, "NOT flat: position is 2; its exit goes on by itself")

    flattener._run = shut_out  # type: ignore[method-assign]
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=SessionId(f"s-{ES}")))
    assert (await finished(desk, receipt.id, 5)).ok is False
    flattener._run = carried_out  # type: ignore[method-assign]
    move_position(desk.exchange, PAPER, ES, Decimal(-2), desk.clock.now())
    await desk.until(lambda: desk.position() == 0, 60)
    await desk.pass_(5)
    move_position(desk.exchange, PAPER, ES, Decimal(2), desk.clock.now())
    await desk.until(lambda: desk.position() == 2, 60)
    await desk.until(lambda: desk.broker_position() == 0, 5)

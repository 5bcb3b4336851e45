"""What is left when a desk stops or everything is flattened is what its last word says."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from engine import commands as c
from engine.domain.ids import SessionId
from engine.domain.orders import Role
from engine.domain.settings import ShutdownPolicy
from engine.outbound.flatten import FlattenResult
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


async def test_flatten_everything_says_not_flat_of_a_session_that_holds_again_before_the_last_is_done(
    make_desk: Callable[..., Desk],
) -> None:
    """An execution voided while another session's exit was still under way: "everywhere" is a word about now."""
    desk = await make_desk(symbols=(ES, NQ)).start()
    await hold(desk, ES)
    await hold(desk, NQ, "20000", stop="19900")
    first, last = (desk.engine.sessions[SessionId(f"s-{symbol}")].trader for symbol in (ES, NQ))
    run = last.flattener.run

    async def later(id: str, say: Callable[[str], None]) -> FlattenResult:
        result = await run(id, say)
        await first.desk.until(lambda: first.desk.book.position.is_flat, 5)
        await first.desk.clock.sleep(1)
        first.desk.book.adopt_position(Decimal(1), Decimal(5000), "an execution was voided", desk.clock.now())
        return result

    last.flattener.run = later  # type: ignore[method-assign]
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=None))
    done = await finished(desk, receipt.id, 70)
    assert (done.ok, done.result) == (False, "NOT flat")
    assert any("NOT flat: position is 1" in line for _, line in done.lines)

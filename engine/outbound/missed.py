"""An exit that an earlier life may have sent already: it leaves under a name of its own, and never beside the other.

One that nothing could record leaves under the loudest alarm, and what is known of it dies with the process, as does
what was decided on its candle. The broker still has it under its name, where names are echoed.
"""

from __future__ import annotations

from engine.domain.broker import BrokerOrder, IdMode
from engine.domain.ids import ClientOrderId, Millis, decision_key
from engine.errors import StoreError
from engine.outbound.sleepers import CLOCKS_APART_MS
from engine.periodic import done_within
from engine.session import SessionDesk

ASK_AGAIN_SECONDS = 0.5


async def still_working(desk: SessionDesk, origin: str, since: Millis, ends: float) -> BrokerOrder | None:
    """The exit of this origin that works at the broker and that nobody here knows of, if there is one.

    Names that were used up are passed over, so that the next attempt has one of its own. `since` is when the origin
    was first acted on; a broker that gives no complete answer until the monotonic second `ends` stops no exit.
    """
    while True:
        attempt = desk.next_attempt(f"{origin}/exit")
        client_id = desk.client_id(decision_key(desk.settings.id, origin, "exit", attempt))
        if desk.book.get(client_id) is None and not await _is_recorded(desk, client_id):
            found = await _at_broker(desk, client_id, since, ends)
            if found is None or not found.status.is_final:
                return found
        desk.attempt(f"{origin}/exit")


async def _is_recorded(desk: SessionDesk, client_id: ClientOrderId) -> bool:
    """Whether the audit trail says within an exit's patience that it has it; it has ended then, or memory knew it."""
    reading = desk.tasks.spawn(_read(desk, client_id), f"row of {client_id}")
    return await done_within(desk.clock, desk.numbers.exit_commit, reading) and reading.result()


async def _read(desk: SessionDesk, client_id: ClientOrderId) -> bool:
    try:
        with desk.clock.outside():
            return await desk.store.order(client_id) is not None
    except StoreError:
        return False


async def _at_broker(desk: SessionDesk, client_id: ClientOrderId, since: Millis, ends: float) -> BrokerOrder | None:
    if desk.road.capabilities.id_mode is IdMode.NONE:
        return None
    while (rows := await desk.road.find(client_id, since - CLOCKS_APART_MS)) is None:
        if desk.clock.monotonic() >= ends:
            return None
        await desk.clock.sleep(ASK_AGAIN_SECONDS)
    mine = [row for row in rows if row.client_id == client_id]
    return next((row for row in mine if not row.status.is_final), mine[-1] if mine else None)

"""Principle 3, background work: a job that cannot be done is on the screen, and an operator runs it again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from engine import commands as c
from engine.domain.ids import Symbol
from engine.queries import JournalAnswer, JournalPage, TradesAnswer, TradesPage
from engine.snapshot import Alert, Lamp
from tests.flows import harness
from tests.flows.harness import ES, INSTRUMENTS, PAPER, Desk
from tests.unit.persistence.samples import booked, fill

STRANGE = Symbol("CLZ6")


def alert_of(desk: Desk) -> Alert | None:
    return next((alert for alert in desk.snapshot().alerts if alert.id == "jobs"), None)


@pytest.mark.rows_by_hand
async def test_dead_jobs_are_shown_until_a_retry_has_done_them(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await make_desk(symbols=(ES,)).start()
    assert alert_of(desk) is None
    refused = await desk.send(lambda o: c.RetryJobs(origin=o))
    assert (refused.taken, refused.message) == (False, "no background job is dead")
    for key, at in (("in", 0), ("out", 1)):
        made = fill(key, account=PAPER, symbol=STRANGE, session=None, at=desk.clock.now() + at)
        side = made.side if key == "in" else made.side.opposite
        desk.store.record(booked(msgspec.structs.replace(made, side=side), "0"))
    await desk.until(lambda: alert_of(desk) is not None, 300)
    shown = alert_of(desk)
    assert shown is not None
    assert "1 background job is dead" in shown.text
    assert "knows no contract CLZ6" in shown.text
    assert shown.lasting
    snapshot = desk.snapshot()
    assert (snapshot.dead_jobs, snapshot.lamps.persistence.lamp) == (1, Lamp.WARN)

    again = await desk.send(lambda o: c.RetryJobs(origin=o))
    assert (again.taken, again.message) == (True, "1 dead jobs run again")
    assert alert_of(desk) is None
    await desk.until(lambda: alert_of(desk) is not None, 300)  # the contract is still unknown: it dies again

    known = msgspec.structs.replace(INSTRUMENTS[0], symbol=STRANGE)
    monkeypatch.setattr(harness, "INSTRUMENTS", (*INSTRUMENTS, known))
    assert (await desk.send(lambda o: c.RetryJobs(origin=o))).taken
    await desk.pass_(10)
    assert alert_of(desk) is None
    assert desk.snapshot().dead_jobs == 0
    trades = await desk.store.answer(TradesPage(symbol=STRANGE))
    assert isinstance(trades, TradesAnswer)
    assert len(trades.trades) == 1
    journal = await desk.store.answer(JournalPage(kinds=("override",)))
    assert isinstance(journal, JournalAnswer)
    assert ["retry 1 dead jobs" in line.text for line in journal.lines] == [True, True]

"""Faults that met other people's desks, in the audit trail: each test bears its row's id (docs/faults.md)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine import commands as c
from engine.domain.broker import Capabilities
from engine.domain.ids import SessionId
from engine.domain.orders import OrderState, Role
from engine.persistence import sqlite
from tests.flows.acts import FailingStore, all_agree, failing, hold, next_life, rows
from tests.flows.harness import ES, MINUTE, PAPER, Desk
from tests.flows.script import enter, leave

MakeDesk = Callable[..., Desk]
SESSION = SessionId("s-ESZ6")


@pytest.mark.sqlite
async def test_p1_a_second_writer_holds_back_entries_and_loses_no_order(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody opened the file with another tool and left a transaction open: no row, no entry; the exit goes."""
    short = ("busy_timeout", "PRAGMA busy_timeout = 50", "PRAGMA busy_timeout", 50)
    monkeypatch.setattr(sqlite, "PRAGMAS", tuple(short if p[0] == "busy_timeout" else p for p in sqlite.PRAGMAS))
    desk = await make_desk().start()
    await hold(desk)
    await rows(desk, "SELECT 1")
    placed = len(desk.exchange.orders_since(PAPER, 0))
    other = sqlite3.connect(desk.state / "desk.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    desk.strategies[ES].script.append(enter(stop="4985"))
    await desk.next_candle(ES, "5000")
    await desk.pass_(5)
    assert desk.orders(Role.ENTRY)[1].state in (OrderState.DENIED, OrderState.ABANDONED)
    assert len(desk.exchange.orders_since(PAPER, 0)) == placed
    assert any("database" in block for block in desk.blocks())
    await desk.send(lambda o: c.Flatten(origin=o, session=SESSION))
    await desk.until(lambda: desk.broker_position() == 0, 5)
    other.execute("ROLLBACK")
    other.close()
    await desk.pass_(10)
    await all_agree(desk)
    assert not any("database" in block for block in desk.blocks())
    await desk.stop()
    again = await next_life(desk, make_desk)
    await again.pass_(5)
    await all_agree(again)
    assert again.position() == 0


@pytest.mark.parametrize("what", ["exit", "entry"])
async def test_p10_an_order_cut_off_before_it_left_holds_nothing_back(make_desk: MakeDesk, what: str) -> None:
    """Who waited for the row is stopped (its session starts over): no request left, and none waits for it for ever."""
    desk = await make_desk(wrap_store=FailingStore, capabilities=Capabilities(replace_may_change_type=False)).start()
    if what == "exit":
        await hold(desk)
    await rows(desk, "SELECT 1")
    role = Role.EXIT if what == "exit" else Role.ENTRY
    submitted = len(desk.orders(role))
    await desk.clock.advance(desk.clock.now() // MINUTE * MINUTE + MINUTE - 500)
    desk.feed.trade(ES, "5000")
    failing(desk).silent = True
    desk.strategies[ES].script.append(leave if what == "exit" else enter())
    await desk.next_candle(ES, "5000")
    await desk.until(lambda: len(desk.orders(role)) > submitted, 8)
    assert desk.orders(role)[-1].state is OrderState.SUBMITTING
    (cut,) = (task for task in asyncio.all_tasks() if f"Submission.{what}" in _awaited(task))
    cut.cancel()
    await desk.pass_(0.5)
    assert desk.orders(role)[-1].state is OrderState.ABANDONED
    failing(desk).back()
    await desk.pass_(5)
    if what == "exit":
        await desk.send(lambda o: c.Flatten(origin=o, session=SESSION))
        await desk.until(lambda: desk.broker_position() == 0, 20)
        await desk.pass_(5)
        assert desk.position() == 0
    else:
        assert desk.exchange.orders_since(PAPER, 0) == ()
        assert desk.snapshot().heat.reservations == ()
        desk.strategies[ES].script.append(enter())
        await desk.next_candle(ES, "5000")
        await desk.until(lambda: desk.position() == 2, 8)
    assert not [o for o in desk.orders() if o.state is OrderState.SUBMITTING]
    assert await rows(desk, "SELECT 1 FROM orders WHERE state = 'submitting'") == []


def _awaited(task: asyncio.Task[Any]) -> Iterator[str]:
    """Names of the coroutines that a task stands in, from the outermost."""
    awaited: Any = task.get_coro()
    while awaited is not None:
        yield getattr(awaited, "__qualname__", "")
        awaited = getattr(awaited, "cr_await", None)

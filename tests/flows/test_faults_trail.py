"""Faults that met other people's desks, in the audit trail: each test bears its row's id (docs/faults.md)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from engine import commands as c
from engine.domain.ids import SessionId
from engine.domain.orders import OrderState, Role
from engine.persistence import sqlite
from tests.flows.acts import all_agree, hold, next_life, rows
from tests.flows.harness import ES, PAPER, Desk
from tests.flows.script import enter

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

"""`db prune`: only what is told elsewhere goes, never what is young, live or a person's deed; again changes nothing."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.clock import SystemClock
from engine.domain.intents import Prepared
from engine.domain.orders import OrderState
from engine.domain.postgres_url import PostgresUrl
from engine.domain.records import BalanceChanged
from engine.errors import DeskUnusable
from engine.persistence import prune as pruning
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.check_rows import rows_agree
from engine.persistence.intent_journal import frame
from engine.persistence.kept import Kept
from engine.persistence.prune import OLD_LINE, TOLD_ELSEWHERE, Pruned, prune
from engine.persistence.store import SqlStore
from engine.queries import OrderLife, OrderLifeAnswer
from tests.unit.persistence.samples import (
    AT,
    balance,
    booked,
    cancel,
    fill,
    one_of_each,
    override,
    postgres_store,
    sqlite_store,
    submit,
)

AFTER = date(2023, 12, 1)  # samples happen on 2023-11-14
DAY = 86_400_000
NOTHING = Pruned(lines=0, balances=0, files=0, file_bytes=0)
Make = Callable[[], SqlStore]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Kept, Make]:
    """A desk that has lived, closed, and how to open its store again."""
    state = tmp_path / "state"
    where: Path | PostgresUrl = state / "desk.db"
    if request.param == "postgres":
        where = request.getfixturevalue("postgres").emptied()

    def make() -> SqlStore:
        if isinstance(where, Path):
            return sqlite_store(where)
        return postgres_store(where, directory=state)

    asyncio.run(a_life(make()))
    return Kept(where, state, state / "journal", state / "KILL"), make


async def a_life(store: SqlStore, *, with_money: bool = True) -> None:
    await store.open()
    for record in one_of_each():
        if with_money or not isinstance(record, BalanceChanged):
            await store.write(record)
    await store.commit(submit("live"))
    await store.commit(submit("done"))
    ended = msgspec.structs.replace(submit("done").order, state=OrderState.FILLED, revision=1)
    await store.write(booked(fill("y", of=ended), "2", ended))
    await store.commit(cancel(ended))
    for number in range(1, 5) if with_money else ():
        await store.write(balance(f"{number}", AT + number * DAY // 8))
    await store.close()


async def pruned(of: Kept, before: date = AFTER, *, dry_run: bool = False) -> Pruned:
    clock = SystemClock()
    return await prune(of, before, "ann", dry_run, clock, ThreadBlocking(clock))


async def rows(store: SqlStore) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that holds what a desk did."""
    await store.open()
    tables = ("intents", "orders", "order_events", "fills", "decisions", "positions", "balances", "trades",
              "sessions", "disagreements", "overrides", "latches", "limits", "log")  # fmt: skip
    statements = {table: f"SELECT * FROM {table} ORDER BY 1, 2" for table in tables}
    found = {table: await store._read().query(statement) for table, statement in statements.items()}
    await store.close()
    return found


async def test_what_is_told_elsewhere_goes_and_nothing_else(desk: tuple[Kept, Make]) -> None:
    kept, make = desk
    before = await rows(make())
    counted = await pruned(kept, dry_run=True)
    assert await rows(make()) == before, "a dry run changes nothing"
    did = await pruned(kept)
    assert did == counted
    assert (did.lines > 0, did.balances) == (True, 3)
    after = await rows(make())
    for table in before.keys() - {"log", "balances"}:
        assert after[table] == before[table], table
    gone = {row[2] for row in set(before["log"]) - set(after["log"])}
    assert gone == set(TOLD_ELSEWHERE)
    live = submit("live").order.client_id
    assert [row for row in after["log"] if row[4] == live] == [row for row in before["log"] if row[4] == live] != []
    ended = submit("done").order.client_id
    assert [row for row in after["log"] if row[4] == ended] == []
    told = [row[-1] for row in after["log"] if row[2] == "prune"]
    assert told == [
        f"pruned {did.lines} lines, {did.balances} balances and 0 journal files from before {AFTER}, by ann"
    ]
    assert await pruned(kept) == NOTHING
    assert await rows(make()) == after, "again changes nothing"


async def test_the_last_balance_of_each_day_stays(desk: tuple[Kept, Make]) -> None:
    kept, make = desk
    await pruned(kept)
    moments = [row[2] for row in (await rows(make()))["balances"]]
    days = [moment // DAY for moment in moments]
    assert len(days) == len(set(days))
    assert max(moments) == AT + 4 * DAY // 8


async def test_records_that_come_again_after_a_prune_change_nothing(desk: tuple[Kept, Make]) -> None:
    kept, make = desk
    await pruned(kept)
    before = await rows(make())
    # a balance is read anew at each start and stands in no journal: an old one cannot come again
    await a_life(make(), with_money=False)
    after = await rows(make())
    for table in before.keys() - {"log"}:
        assert after[table] == before[table], table


async def test_rows_agree_and_the_desk_starts_after_a_prune(desk: tuple[Kept, Make]) -> None:
    kept, make = desk
    await pruned(kept)
    store = make()
    await store.open()
    found = await rows_agree(store._read(), SystemClock())
    wrong = {each.check for each in found if not each.ok}
    # the samples hold orders that no intent stands for, and a position that nothing led to
    assert "orders and their events" not in wrong
    assert len(await store.open_orders(submit().account)) > 0
    await store.close()


async def test_the_last_month_is_never_touched(desk: tuple[Kept, Make]) -> None:
    kept, make = desk
    before = await rows(make())
    today = datetime.fromtimestamp(SystemClock().now() / 1000, UTC).date()
    for day in (today, date.fromordinal(today.toordinal() - 28), date(2999, 1, 1)):
        with pytest.raises(DeskUnusable, match="The last 30 days are always kept; name 20"):
            await pruned(kept, day)
    assert await pruned(kept, date(2023, 11, 14)) == NOTHING
    assert await rows(make()) == before


async def test_a_running_desk_is_not_pruned_but_may_be_counted(desk: tuple[Kept, Make]) -> None:
    kept, make = desk
    running = make()
    await running.open()
    with pytest.raises(DeskUnusable, match=rf"Another desk \(.*process {os.getpid()}"):
        await pruned(kept)
    assert (await pruned(kept, dry_run=True)).lines > 0
    await running.write(override("still writes"))
    await running.close()


async def test_small_transactions_and_an_interruption_lose_nothing(
    desk: tuple[Kept, Make], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, make = desk
    counted = await pruned(kept, dry_run=True)
    monkeypatch.setattr(pruning, "AT_ONCE", 1)
    monkeypatch.setattr(pruning, "COUNT_BALANCES", "SELECT 1 FROM nowhere WHERE 1 = ?")
    with pytest.raises(Exception, match="nowhere"):
        await pruned(kept)
    monkeypatch.undo()
    rest = await pruned(kept)
    assert (rest.lines, rest.balances) == (0, counted.balances)
    ended = [row for row in (await rows(make()))["log"] if row[4] == submit("done").order.client_id]
    assert ended == []


async def test_imported_journal_files_are_emptied_and_keep_their_names(desk: tuple[Kept, Make]) -> None:
    kept, _ = desk
    kept.journal.mkdir(0o700)
    old, young = (kept.journal / f"intents-00000{number}.journal.imported" for number in (1, 2))
    for path in (old, young):
        path.write_bytes(frame(Prepared(submit())))
        path.chmod(0o600)
    os.utime(old, (1_600_000_000, 1_600_000_000))
    did = await pruned(kept)
    assert (did.files, did.file_bytes) == (1, len(frame(Prepared(submit()))))
    assert old.read_bytes() == b""
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert young.read_bytes() != b""


async def test_what_the_journal_still_holds_is_imported_first(desk: tuple[Kept, Make]) -> None:
    kept, make = desk
    kept.journal.mkdir(0o700)
    (kept.journal / "intents-000001.journal").write_bytes(frame(Prepared(submit("waits"))))
    before = await rows(make())
    with pytest.raises(DeskUnusable, match="not imported yet; start the desk once, then prune"):
        await pruned(kept)
    assert await rows(make()) == before


async def test_the_life_of_an_order_still_has_every_step(desk: tuple[Kept, Make]) -> None:
    of, make = desk

    async def lives() -> dict[str, list[str]]:
        store = make()
        await store.open()
        try:
            found = {}
            for (name,) in await store._read().query("SELECT client_id FROM orders ORDER BY client_id"):
                life = await store.answer(OrderLife(name))
                assert isinstance(life, OrderLifeAnswer)
                found[name] = [line.text.partition(":")[0] for line in life.lines if line.kind == "order"]
            return found
        finally:
            await store.close()

    before = await lives()
    assert any(before.values())
    assert (await pruned(of)).lines > 0
    assert await lives() == before


async def test_where_no_desk_is_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(DeskUnusable, match="There is no database"):
        await pruned(Kept(tmp_path / "desk.db", tmp_path, tmp_path / "journal", tmp_path / "KILL"))
    assert os.listdir(tmp_path) == []


async def test_each_line_that_may_go_has_its_fact_in_a_table(desk: tuple[Kept, Make]) -> None:
    _, make = desk
    for kind in TOLD_ELSEWHERE:
        assert f"'{kind}'" in OLD_LINE
    assert OLD_LINE.count("'") == 2 * len(TOLD_ELSEWHERE)
    found = await rows(make())
    lines: dict[str, int] = {}
    for row in found["log"]:
        lines[row[2]] = lines.get(row[2], 0) + 1
    assert lines["order"] == len(found["order_events"])
    assert lines["fill"] == len(found["fills"])
    assert lines["balance"] == len(found["balances"])
    assert lines["intent"] == len([row for row in found["intents"] if row[1] != "submit"])

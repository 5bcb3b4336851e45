"""Flow 3 while it fails: entries are refused, exits leave through the journal, and afterwards all three agree."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine import commands as c
from engine.domain.broker import Balance, Report
from engine.domain.decisions import Cancel
from engine.domain.ids import CommandId, SessionId
from engine.domain.intents import Concluded, JournalRecord, Noted, Outcome, Prepared
from engine.domain.orders import Flag, OrderState, Role
from engine.domain.settings import Numbers
from engine.errors import DeskUnusable
from engine.persistence.store import SqlStore
from engine.snapshot import Lamp, Phase
from tests.flows.acts import (
    FailingStore,
    alerts,
    all_agree,
    enter,
    failing,
    finished,
    hold,
    kill,
    leave,
    next_life,
    next_window,
    rest,
    rows,
    working,
)
from tests.flows.harness import ES, PAPER, Desk

S_ES = SessionId(f"s-{ES}")


async def _entry_refused(desk: Desk) -> str:
    desk.strategies[ES].script.append(enter(quantity="1"))
    await next_window(desk)
    await desk.pass_(8)
    entry = desk.orders(Role.ENTRY)[-1]
    assert entry.state in (OrderState.ABANDONED, OrderState.DENIED), desk.describe()
    assert desk.exchange.orders_of(desk.manager.account, entry.client_id) == ()
    return entry.reason


async def test_an_entry_needs_the_database_and_an_exit_does_not(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    failing(desk).down = True
    assert "database does not answer: disk I/O error" in await _entry_refused(desk)
    assert desk.snapshot().lamps.persistence.lamp is Lamp.ALARM
    begun = desk.clock.now()
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=S_ES))
    await desk.until(lambda: desk.broker_position() == 0, 3)
    # One sizing read after our last event settled, 250 ms for the journal road, one trip.
    assert desk.clock.now() - begun <= 250 + 400
    assert (await finished(desk, receipt.id)).ok
    pending = await desk.journal.pending()
    assert any(isinstance(r, Prepared) for r in pending)
    failing(desk).back()
    await desk.stop()
    again = await next_life(desk, make_desk)
    await again.pass_(5)
    await all_agree(again)
    assert again.position() == 0
    kinds = await rows(again, "SELECT DISTINCT origin FROM intents")
    assert ("journal",) in kinds
    assert await again.journal.pending() == ()


async def test_what_was_journalled_is_in_the_database_as_soon_as_it_is_back(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    failing(desk).down = True
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=S_ES))
    assert (await finished(desk, receipt.id)).ok
    assert await rows(desk, "SELECT 1 FROM intents WHERE origin = 'journal'") == []
    failing(desk).back()
    await desk.pass_(3)
    assert desk.journal.is_settled
    assert await desk.journal.pending() == ()
    assert len(await rows(desk, "SELECT 1 FROM intents WHERE origin = 'journal'")) == 1
    assert "tombstone" not in {kind for (kind,) in await rows(desk, "SELECT kind FROM intents")}
    await all_agree(desk)


async def test_an_exit_that_nothing_could_record_is_recorded_once_the_database_is_back(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    failing(desk).down = True
    append = desk.journal._files.append

    def full(path: Path, data: bytes) -> None:
        raise OSError(5, "Input/output error")

    desk.journal._files.append = full  # type: ignore[method-assign]
    desk.strategies[ES].script.append(leave)
    await next_window(desk)
    await desk.until(lambda: desk.position() == 0, 3)
    assert "WITHOUT A RECORD" in alerts(desk)
    desk.journal._files.append = append  # type: ignore[method-assign]
    failing(desk).back()
    await desk.until(lambda: not any(a.lasting for a in desk.engine.board.alerts()), 5)
    assert "WITHOUT A RECORD" in alerts(desk), "until somebody has seen it"
    assert len(await rows(desk, "SELECT 1 FROM intents WHERE origin = 'journal'")) == 1
    await all_agree(desk)


async def test_a_database_that_hangs_holds_an_exit_for_250_ms_and_no_longer(make_desk: Callable[..., Desk]) -> None:
    patient = Numbers(lease=600.0)  # else a lease that nobody can renew refuses the entry before the commit does
    desk = await make_desk(wrap_store=FailingStore, numbers=patient).start()
    await hold(desk)
    failing(desk).silent = True
    desk.strategies[ES].script.append(leave)
    await next_window(desk)
    begun = desk.clock.now()
    await desk.until(lambda: desk.broker_position() == 0, 3)
    assert 250 <= desk.clock.now() - begun <= 250 + 100
    assert "did not take the order in time" in await _entry_refused(desk)


async def test_a_session_that_starts_while_the_database_is_away_waits_for_it(make_desk: Callable[..., Desk]) -> None:
    """It must not use up its restarts: nobody is there to start it again when the database is back."""
    desk = await make_desk(wrap_store=FailingStore).start()
    failing(desk).down = True
    desk.trader().start_over("as after a suspend")
    await desk.pass_(400)
    assert desk.engine.sessions[S_ES].dead is None
    assert "the database does not answer" in desk.trader().desk.phase_detail
    failing(desk).back()
    await desk.until(lambda: desk.trader().desk.phase is Phase.TRADING, 60)


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_when_the_journal_fails_too_an_exit_leaves_with_the_loudest_alarm(
    make_desk: Callable[..., Desk], how: str
) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    failing(desk).down = True

    async def broken(record: Any) -> None:
        if how == "hangs":
            await failing(desk).never.wait()
        raise OSError(28, "No space left on device")

    desk.journal.append = broken  # type: ignore[method-assign]
    desk.strategies[ES].script.append(leave)
    await next_window(desk)
    await desk.until(lambda: desk.broker_position() == 0, 3)
    assert "WITHOUT A RECORD" in alerts(desk)
    await desk.until(lambda: desk.position() == 0, 3)
    assert any(a.severity == "critical" and "WITHOUT A RECORD" in a.text for a in desk.engine.board.alerts())


def _unwritten(desk: Desk) -> list[str]:
    return [a.text for a in desk.engine.board.alerts() if a.lasting and "recorded nowhere yet" in a.text]


async def test_a_pause_that_nothing_takes_says_so_within_a_second_until_something_does(
    make_desk: Callable[..., Desk],
) -> None:
    """It has effect, and it dies with the process: a journal that hangs is no better than one that refuses."""
    desk = await make_desk(wrap_store=FailingStore).start()
    failing(desk).down = True
    append, answers = desk.journal.append, asyncio.Event()

    async def hangs(record: Any) -> None:
        await answers.wait()
        await append(record)

    desk.journal.append = hangs  # type: ignore[method-assign]
    await desk.send(lambda o: c.Pause(origin=o, session=S_ES))
    await desk.until(lambda: len(_unwritten(desk)) == 2, 1)  # the deed, and what the next life has to know of it
    answers.set()
    await desk.until(lambda: not _unwritten(desk), 5)


async def test_what_was_journalled_survives_a_crash_before_the_database_came_back(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    failing(desk).down = True
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=S_ES))
    await desk.until(lambda: desk.broker_position() == 0, 5)
    await desk.pass_(0.5)
    await kill(desk)
    again = await next_life(desk, make_desk)
    await again.pass_(5)
    await all_agree(again)
    assert not any(d.blocks_entries for d in again.engine.accounts[again.manager.account].ledger.all())
    assert receipt.taken


async def test_a_pause_by_hand_holds_in_the_next_life_though_the_database_was_down(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    failing(desk).down = True
    await desk.send(lambda o: c.Pause(origin=o, session=S_ES))
    await desk.pass_(1)
    assert any(isinstance(r, Noted) for r in await desk.journal.pending())
    await kill(desk)
    again = await next_life(desk, make_desk)
    view = again.snapshot().session(S_ES)
    assert view is not None
    assert view.paused
    assert [what for (what,) in await rows(again, "SELECT what FROM overrides")].count("pause") == 1
    await again.send(lambda o: c.Resume(origin=o, session=S_ES, reason="the disk is back"))
    await again.stop()
    third = await next_life(again, make_desk)
    assert third.blocks() == ()


async def test_tighter_heat_limits_need_no_database_and_hold_in_the_next_life(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    failing(desk).down = True
    raised = await desk.send(lambda o: c.ChangeHeatLimits(origin=o, block=Decimal(9), reason="more room"))
    assert not raised.taken, "what adds risk is kept first"
    lowered = await desk.send(lambda o: c.ChangeHeatLimits(origin=o, block=Decimal(7)))
    assert lowered.taken, "what lowers risk waits for nothing and needs no essay"
    assert desk.engine.portfolio.settings.limits.block == 7
    await desk.pass_(1)
    await kill(desk)
    again = await next_life(desk, make_desk)
    assert again.engine.portfolio.settings.limits.block == 7


async def test_a_looser_limit_committed_late_does_not_undo_a_tighter_one_given_meanwhile(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    write, begun, go_on = failing(desk).real.write, asyncio.Event(), asyncio.Event()

    async def slowly(record: Any) -> None:
        begun.set()
        await go_on.wait()
        await write(record)

    failing(desk).real.write = slowly  # type: ignore[method-assign]
    higher, lower = (
        c.Origin(id=CommandId(f"by-test-{n}"), operator="test", place="test", at=desk.clock.now()) for n in (1, 2)
    )
    raising = asyncio.create_task(
        desk.overrides.dispatch(c.ChangeHeatLimits(origin=higher, block=Decimal(9), reason="more room"))
    )
    await begun.wait()
    await desk.overrides.dispatch(c.ChangeHeatLimits(origin=lower, block=Decimal(5), warn=Decimal(4)))
    go_on.set()
    receipt = await raising
    assert "changed meanwhile" in receipt.message
    assert not receipt.taken
    assert desk.engine.portfolio.settings.limits.block == 5


async def test_a_kill_holds_in_the_next_life_though_the_database_was_down(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    failing(desk).down = True
    await desk.send(lambda o: c.Kill(origin=o))
    await kill(desk)
    again = await next_life(desk, make_desk)
    assert again.snapshot().killed
    assert "KILL" in alerts(again)


@pytest.mark.parametrize("held", [True, False], ids=["the row held", "the row was lost"])
async def test_p5_an_unknown_commit_is_settled_by_a_tombstone(make_desk: Callable[..., Desk], held: bool) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    failing(desk).lose_next_answer = held
    failing(desk).lose_next_commit = not held
    desk.strategies[ES].script.append(enter())
    await next_window(desk)
    await desk.pass_(5)
    (entry,) = desk.orders(Role.ENTRY)
    ((kind,),) = await rows(desk, "SELECT kind FROM intents WHERE key = ?", entry.key)
    if held:
        assert entry.state is OrderState.FILLED
        assert kind == "submit"
    else:
        assert entry.state is OrderState.ABANDONED
        assert kind == "tombstone"
        assert "its key is void" in entry.reason
        assert desk.broker_position() == 0


@pytest.mark.parametrize("held", [True, False], ids=["the row held", "the row was lost"])
async def test_an_exit_leaves_whatever_became_of_its_commit(make_desk: Callable[..., Desk], held: bool) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    await hold(desk)
    failing(desk).lose_next_answer = held
    failing(desk).lose_next_commit = not held
    desk.strategies[ES].script.append(leave)
    await next_window(desk)
    await desk.until(lambda: desk.broker_position() == 0, 5)
    await desk.pass_(3)
    await desk.stop()
    again = await next_life(desk, make_desk)
    await again.pass_(3)
    await all_agree(again)


# -- a disk that is really full -----------------------------------------------------------------------------


@contextmanager
def _no_file_grows_over(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.sqlite
async def test_p3_the_real_database_made_unwritable_under_a_running_desk(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    await desk.pass_(2)
    log_file = desk.state / "desk.sqlite3-wal"
    book = desk.state / "exchange.book"
    assert book.stat().st_size + 50_000 < log_file.stat().st_size
    with _no_file_grows_over(log_file.stat().st_size):
        reason = await _entry_refused(desk)
        assert "database" in reason or "disk I/O error" in reason
        assert not desk.store.health().ok
        receipt = await desk.send(lambda o: c.Flatten(origin=o, session=S_ES))
        await desk.until(lambda: desk.broker_position() == 0, 5)
        assert (await finished(desk, receipt.id)).ok
        await kill(desk)
    again = await next_life(desk, make_desk)
    await again.pass_(5)
    await all_agree(again)
    view = again.snapshot().session(S_ES)
    assert view is not None
    assert view.paused


@pytest.mark.sqlite
async def test_the_database_comes_back_by_itself_and_takes_what_waited(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    await hold(desk)
    await desk.pass_(2)
    with _no_file_grows_over((desk.state / "desk.sqlite3-wal").stat().st_size):
        await _entry_refused(desk)
        desk.strategies[ES].script.append(leave)
        await next_window(desk)
        await desk.until(lambda: desk.broker_position() == 0, 5)
    await desk.until(lambda: desk.store.health().ok, 30)
    await desk.pass_(2)
    await all_agree(desk)
    desk.strategies[ES].script.append(enter(quantity="1"))
    await next_window(desk)
    await desk.until(lambda: desk.position() == 1, 5)


@pytest.mark.sqlite
async def test_p2_a_desk_that_ends_in_order_on_a_full_disk_finds_everything_again(
    make_desk: Callable[..., Desk],
) -> None:
    desk = await make_desk().start()
    await hold(desk)
    await desk.pass_(2)
    with _no_file_grows_over((desk.state / "desk.sqlite3-wal").stat().st_size):
        await _entry_refused(desk)
        desk.strategies[ES].script.append(leave)
        await next_window(desk)
        await desk.until(lambda: desk.broker_position() == 0, 5)
        await desk.send(lambda o: c.Pause(origin=o, session=S_ES))
        await desk.pass_(1)
        await desk.stop()
    again = await next_life(desk, make_desk)
    await again.pass_(5)
    await all_agree(again)
    view = again.snapshot().session(S_ES)
    assert view is not None
    assert view.paused
    assert len(await rows(again, "SELECT 1 FROM trades")) == 1


# -- starts that cannot be made ------------------------------------------------------------------------------


async def test_a_journal_that_cannot_be_read_is_a_sentence_and_nothing_starts(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    (desk.state / "journal").mkdir()
    (desk.state / "journal" / "intents-000001.journal").mkdir()
    with pytest.raises(DeskUnusable, match="intents-000001"):
        await desk.start()
    assert desk.engine.sessions == {}


async def test_a_database_that_fails_during_the_start_is_a_sentence(make_desk: Callable[..., Desk]) -> None:
    class Failing(FailingStore):
        async def lease(self, account: Any) -> Any:
            self.down = True
            return await super().lease(account)

    desk = make_desk(wrap_store=Failing)
    with pytest.raises(DeskUnusable, match="disk I/O error"):
        await desk.start()


# -- principles of the seed ----------------------------------------------------------------------------------


SQLITE_COLUMNS = """
SELECT t.name, c.name FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'
ORDER BY t.name, c.cid
"""
POSTGRES_COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'sextant'
ORDER BY table_name, ordinal_position
"""


async def _schema(desk: Desk) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table, column in await rows(desk, SQLITE_COLUMNS if desk.database is None else POSTGRES_COLUMNS):
        found.setdefault(table, []).append(column)
    return found


async def test_persist_only_what_cannot_be_recomputed(make_desk: Callable[..., Desk]) -> None:
    """After a whole trade the database holds no tick, no candle, no heat and no strategy state."""
    desk = await make_desk().start()
    await hold(desk)
    desk.strategies[ES].script.append(leave)
    await next_window(desk, ES="5005")
    await desk.until(lambda: desk.position() == 0, 5)
    await desk.pass_(40)
    schema = await _schema(desk)
    words = {word for name, columns in schema.items() for word in (name, *columns)}
    assert not {w for w in words if any(bad in w for bad in ("tick", "ohlc", "bar", "percent_of", "warm"))}
    assert not {"open", "high", "low", "close", "volume", "heat", "strategy_state", "contribution"} & words
    assert {name for name in schema if "candle" in name} == {"evaluated_candles", "replaced_candles"}
    assert schema["evaluated_candles"] == ["session", "candle", "at"]
    # The moment of the newest candle, not the candles: one row however many closed.
    for _ in range(5):
        await next_window(desk)
    assert len(await rows(desk, "SELECT * FROM evaluated_candles")) == 1
    # A balance row only when a figure changed.
    balances = await rows(desk, "SELECT equity, cash, margin_used, currency FROM balances ORDER BY number")
    assert all(one != other for one, other in pairwise(balances))
    await desk.pass_(120)
    assert len(await rows(desk, "SELECT 1 FROM balances")) == len(balances)


async def test_a_clock_that_stands_still_keeps_a_row_for_each_figure(make_desk: Callable[..., Desk]) -> None:
    """Set back, it stands until time has caught up: what is read meanwhile bears one moment and is not one row."""
    desk = await make_desk().start()
    reconciler = desk.engine.accounts[PAPER].reconciler
    before = await rows(desk, "SELECT equity FROM balances ORDER BY number")
    told = ["100", "200", "100"]

    async def balance() -> Report[Balance]:
        row = Balance(equity=Decimal(told.pop(0)), cash=Decimal(1))
        return Report(rows=(row,), as_of=desk.clock.now())

    reconciler._road.balance = balance  # type: ignore[method-assign]
    while told:
        await reconciler.check_balance()
    with desk.clock.outside():
        await desk.engine.store.settled()
    kept = await rows(desk, "SELECT equity FROM balances ORDER BY number")
    assert kept[len(before) :] == [("100",), ("200",), ("100",)]


async def test_heavy_work_goes_to_the_job(make_desk: Callable[..., Desk]) -> None:
    """The fill's own transaction queues the recomputation of trades; the trader never waits for it."""
    desk = await make_desk().start()
    store = desk.real_store
    assert isinstance(store, SqlStore)
    seen: list[bool] = []
    connection = store._written()._connection
    transact = connection.transact

    async def watch(statements: Any) -> Any:
        texts = [sql for sql, _ in statements]
        if any("INSERT INTO fills" in t for t in texts):
            seen.append(any("INSERT INTO jobs" in t for t in texts))
        return await transact(statements)

    connection.transact = watch  # type: ignore[method-assign]
    await hold(desk)
    desk.strategies[ES].script.append(leave)
    await next_window(desk, ES="5010")
    await desk.until(lambda: desk.position() == 0, 5)
    await desk.pass_(10)
    assert seen
    assert all(seen)
    ((quantity, profit),) = await rows(desk, "SELECT quantity, profit FROM trades")
    assert Decimal(quantity) == 2
    assert Decimal(profit) == 2 * 10 * 50
    assert await rows(desk, "SELECT 1 FROM jobs") == []


async def test_a_job_outlives_a_crash_before_it_ran(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk().start()
    jobs = [t for t in desk.engine._tasks._running if t.get_name().endswith(":jobs")]
    jobs[0].cancel()
    await hold(desk)
    desk.strategies[ES].script.append(leave)
    await next_window(desk, ES="5010")
    await desk.until(lambda: desk.position() == 0, 5)
    await desk.pass_(1)
    assert await rows(desk, "SELECT 1 FROM trades") == []
    assert len(await rows(desk, "SELECT 1 FROM jobs")) == 1
    await kill(desk)
    again = await next_life(desk, make_desk)
    await again.pass_(6)
    assert len(await rows(again, "SELECT 1 FROM trades")) == 1


async def test_a_flag_tells_which_orders_went_through_the_journal(make_desk: Callable[..., Desk]) -> None:
    desk = await make_desk(wrap_store=FailingStore).start()
    resting = await rest(desk)
    failing(desk).down = True
    await desk.send(lambda o: c.CancelOrder(origin=o, order=resting.client_id))
    await desk.until(lambda: working(desk, Role.ENTRY) == [], 5)
    assert Flag.JOURNALLED in desk.trader().desk.current(resting).flags
    await kill(desk)
    again = await next_life(desk, make_desk)
    await again.pass_(5)
    await all_agree(again)


def _key(record: JournalRecord) -> str:
    return record.intent.key if isinstance(record, Prepared) else record.key


async def test_a_cancel_without_the_database_is_journalled_and_sent_once(make_desk: Callable[..., Desk]) -> None:
    """The doubt loop saw the wish and sent it a second time, whose "not sent" then stood for both in the journal."""
    desk = await make_desk(wrap_store=FailingStore).start()
    entry = await rest(desk)
    failing(desk).down = True
    desk.strategies[ES].script.append(
        lambda context: Cancel(state=context.state, orders=(entry.client_id,), reason="scripted")
    )
    await next_window(desk)
    await desk.until(lambda: not desk.exchange.open_orders(desk.manager.account), 5)
    await desk.pass_(1)
    told = [r for r in await desk.journal.pending() if f"cancel:{entry.client_id}" in _key(r)]
    assert [r.outcome if isinstance(r, Concluded) else type(r) for r in told] == [Prepared, Outcome.ACCEPTED]

"""The Store's contract, run over every database the product supports."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from engine.domain.disagreements import DisagreementState
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, DecisionKey, SessionId, Symbol
from engine.domain.intents import SubmitIntent
from engine.domain.lease import Holder
from engine.domain.orders import OrderState, Role, Side
from engine.domain.positions import Position
from engine.domain.records import (
    CandleEvaluated,
    DisagreementRecorded,
    LatchKind,
    LatchSet,
    LimitsChanged,
    OrderChanged,
    PositionRecorded,
)
from engine.errors import StoreUnavailable
from engine.persistence import migrate
from engine.persistence.store import SqlStore
from engine.ports import Committed, NotHolder, Store, Taken
from engine.queries import (
    FillsAnswer,
    FillsPage,
    JournalAnswer,
    JournalPage,
    OrderLife,
    OrderLifeAnswer,
    OrdersAnswer,
    OrdersPage,
    SessionsAnswer,
    SessionsList,
    TradesAnswer,
    TradesPage,
)
from tests.unit.persistence.samples import (
    ACCOUNT,
    AT,
    SESSION,
    SYMBOL,
    balance,
    booked,
    cancel,
    contract,
    disagreement,
    fill,
    full_order,
    latch,
    one_of_each,
    order,
    override,
    postgres_store,
    replace,
    sqlite_store,
    submit,
)

WHAT_WE_KEEP = migrate.FOLDER.parent / "what_we_keep.md"
Maker = Callable[..., SqlStore]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    """Makes a store on one and the same database, as often as asked (a restart)."""
    if request.param == "sqlite":
        return lambda **options: sqlite_store(tmp_path / "desk" / "sextant.db", **options)
    url = request.getfixturevalue("postgres").emptied()
    return lambda **options: postgres_store(url, directory=tmp_path / "desk", **options)


@pytest.fixture
async def store(make: Maker) -> AsyncIterator[SqlStore]:
    made = make()
    await made.open()
    yield made
    await made.close()


def test_sqlstore_is_a_store(make: Maker) -> None:
    made: Store = make()
    assert made.salt == ""


async def test_the_contract_says_on_what_it_ran(
    store: SqlStore, record_property: Callable[[str, object], None]
) -> None:
    reader = store._read()
    try:
        ((version,),) = await reader.query("SELECT 'SQLite ' || sqlite_version()")
    except StoreUnavailable:
        ((version,),) = await reader.query("SELECT 'PostgreSQL ' || current_setting('server_version')")
    record_property("figures", f"the Store's contract ran on {version}")


# ------------------------------------------------------------------------------------------ intents


async def test_a_committed_intent_is_an_order_being_submitted(store: SqlStore) -> None:
    intent = submit()
    leg = order("stop", role=Role.STOP, parent=intent.order.client_id)
    assert await store.commit(msgspec.structs.replace(intent, legs=(leg,))) == Committed()
    assert await store.open_orders(ACCOUNT) == tuple(sorted((intent.order, leg), key=lambda o: o.client_id))
    life = await store.answer(OrderLife(intent.order.client_id))
    assert isinstance(life, OrderLifeAnswer)
    assert life.order == intent.order
    assert [line.text.partition(":")[0] for line in life.lines] == ["submitting"]


async def test_a_key_is_given_once(store: SqlStore) -> None:
    assert await store.commit(submit()) == Committed()
    assert isinstance(await store.commit(submit()), Taken)


async def test_one_taken_key_in_a_burst_harms_nobody_else(store: SqlStore) -> None:
    import asyncio

    await store.commit(submit("3"))
    answers = await asyncio.gather(*(store.commit(submit(str(number))) for number in range(6)))
    assert [isinstance(answer, Taken) for answer in answers] == [number == 3 for number in range(6)]


async def test_cancel_and_replace_take_keys_of_their_own(store: SqlStore) -> None:
    intent = submit()
    await store.commit(intent)
    assert await store.commit(cancel(intent.order)) == Committed()
    assert await store.commit(replace(intent.order, "5")) == Committed()
    assert isinstance(await store.commit(cancel(intent.order)), Taken)
    assert await store.order(intent.order.client_id) == intent.order


async def test_a_tombstone_beats_a_late_intent(store: SqlStore) -> None:
    key = submit().key
    assert await store.bury(key) == Committed()
    assert await store.bury(key) == Committed()
    taken = await store.commit(submit())
    assert isinstance(taken, Taken)
    assert "tombstone" in taken.by
    assert await store.open_orders(ACCOUNT) == ()


async def test_a_durable_intent_beats_a_tombstone(store: SqlStore) -> None:
    await store.commit(submit())
    assert isinstance(await store.bury(submit().key), Taken)


FIRST, SECOND = Holder("first", "here", "lock 1"), Holder("second", "there", "lock 2")


async def test_an_older_epoch_commits_nothing(store: SqlStore) -> None:
    assert await store.take_lease(ACCOUNT, FIRST, 0) == 1
    assert await store.commit(submit("a", epoch=1)) == Committed()
    assert await store.take_lease(ACCOUNT, SECOND, 1) == 2
    assert await store.commit(submit("b", epoch=1)) == NotHolder("second")
    assert await store.commit(submit("b", epoch=2)) == Committed()
    assert len(await store.open_orders(ACCOUNT)) == 2


async def test_a_lease_is_taken_once_from_each_epoch_renewed_by_its_holder_and_given_back(store: SqlStore) -> None:
    assert await store.lease(ACCOUNT) is None
    assert await store.take_lease(ACCOUNT, FIRST, 0) == 1
    assert await store.take_lease(ACCOUNT, SECOND, 0) is None
    fresh = await store.lease(ACCOUNT)
    assert fresh is not None
    assert (fresh.epoch, fresh.holder, fresh.released) == (1, FIRST, False)
    assert await store.renew_lease(ACCOUNT, 1)
    renewed = await store.lease(ACCOUNT)
    assert renewed is not None
    assert renewed.renewed != fresh.renewed
    assert await store.take_lease(ACCOUNT, SECOND, 1) == 2
    assert not await store.renew_lease(ACCOUNT, 1)
    await store.release_lease(ACCOUNT, 1)  # what it no longer holds it cannot give back
    held = await store.lease(ACCOUNT)
    assert held is not None
    assert (held.epoch, held.holder, held.released) == (2, SECOND, False)
    await store.release_lease(ACCOUNT, 2)
    given = await store.lease(ACCOUNT)
    assert given is not None
    assert given.released


async def test_two_accounts_have_leases_of_their_own(store: SqlStore) -> None:
    await store.take_lease(ACCOUNT, FIRST, 0)
    assert await store.take_lease(AccountId("other"), SECOND, 0) == 1


async def test_a_sealed_store_writes_nothing_queued_or_new(store: SqlStore) -> None:
    await store.take_lease(ACCOUNT, FIRST, 0)
    store.record(LatchSet(session=None, kind=LatchKind.KILL, held=True, reason="late", at=1, by="a"))
    store.seal("another engine commands")
    store.record(LatchSet(session=None, kind=LatchKind.PAUSE, held=True, reason="later", at=2, by="a"))
    with pytest.raises(StoreUnavailable, match="another engine commands"):
        await store.commit(submit(epoch=1))
    assert store.health().detail == "another engine commands"
    assert await store.latches() == ()


# ----------------------------------------------------------------------------------------- idempotence


async def dump(store: SqlStore) -> dict[str, list[tuple[object, ...]]]:
    reader = store._read()
    names = re.findall(r"^\| `(\w+)` \|", WHAT_WE_KEEP.read_text("utf-8"), re.MULTILINE)
    return {name: await reader.query(f"SELECT * FROM {name} ORDER BY 1, 2") for name in names}


async def test_p7_every_record_written_twice_changes_nothing_the_second_time(store: SqlStore) -> None:
    records = one_of_each()
    for record in records:
        await store.write(record)
    first = await dump(store)
    for record in records:
        before = await dump(store)
        await store.write(record)
        assert await dump(store) == before, type(record).__name__
    assert await dump(store) == first
    kept = {name for name, rows in first.items() if rows}
    assert kept >= {"orders", "order_events", "fills", "positions", "balances", "latches", "limits", "log"}


async def test_a_superseded_record_written_again_does_not_come_back(store: SqlStore) -> None:
    for record in (latch(), latch(held=False)):  # one and the same millisecond
        await store.write(record)
    await store.write(latch())
    assert await store.latches() == ()
    await store.write(balance("1"))
    await store.write(balance("2"))
    await store.write(balance("1"))
    journal = await store.answer(JournalPage(kinds=("balance",)))
    assert isinstance(journal, JournalAnswer)
    assert [line.text.split(",")[0] for line in journal.lines] == ["equity 2 USD", "equity 1 USD"]


async def test_an_older_revision_never_overwrites(store: SqlStore) -> None:
    newest = order(state=OrderState.WORKING, revision=2)
    store.record(OrderChanged(order=newest, event="accepted", at=AT))
    store.record(OrderChanged(order=order(state=OrderState.REJECTED, revision=1), event="late", at=AT))
    await store.settled()
    assert await store.order(newest.client_id) == newest
    life = await store.answer(OrderLife(newest.client_id))
    assert isinstance(life, OrderLifeAnswer)
    assert len(life.lines) == 2


async def test_an_order_comes_back_field_by_field(store: SqlStore) -> None:
    made = full_order()
    await store.write(OrderChanged(order=made, event="x", at=AT))
    defaults = order()
    left_default = [
        name
        for name in made.__struct_fields__
        if getattr(made, name) == getattr(defaults, name)
        and name not in {"session", "account", "role", "created", "updated", "epoch"}
    ]
    assert left_default == [], "the sample must set every field, or the round trip proves nothing"
    assert await store.order(made.client_id) == made


async def test_the_newest_evaluated_candle_only_moves_forward(store: SqlStore) -> None:
    assert await store.evaluated(SESSION) is None
    for candle in (AT, AT + 60_000, AT):
        await store.write(CandleEvaluated(session=SESSION, candle=candle, at=candle))
    assert await store.evaluated(SESSION) == AT + 60_000


async def test_a_balance_is_kept_only_when_it_differs(store: SqlStore) -> None:
    for moment, equity in enumerate(("100", "100", "101", "101", "100")):
        await store.write(balance(equity, AT + moment))
    journal = await store.answer(JournalPage(kinds=("balance",)))
    assert isinstance(journal, JournalAnswer)
    assert [line.at - AT for line in journal.lines] == [4, 2, 0]


# ------------------------------------------------------------------------------------------------ reads


async def test_open_orders_are_those_not_proven_dead_or_still_owed_fills(store: SqlStore) -> None:
    rows = {
        "working": order("w", state=OrderState.WORKING),
        "lost": order("l", state=OrderState.LOST),
        "filled": order("f", state=OrderState.FILLED, filled=Decimal(2), reported=Decimal(2)),
        "owed": order("o", state=OrderState.CANCELLED, filled=Decimal(9), reported=Decimal(10)),
    }
    for each in rows.values():
        store.record(OrderChanged(order=each, event="x", at=AT))
    await store.settled()
    assert set(await store.open_orders(ACCOUNT)) == {rows["working"], rows["lost"], rows["owed"]}


async def test_the_ended_orders_beside_an_unknown_one_are_found(store: SqlStore) -> None:
    unknown = order("u", state=OrderState.IN_DOUBT_SUBMIT, broker_id=None, created=AT)
    beside = [
        order("r", state=OrderState.REJECTED, broker_id=None, created=AT - 600_000),
        order("f", state=OrderState.FILLED, filled=Decimal(2), reported=Decimal(2), created=AT + 1),
    ]
    others = [
        order("before", state=OrderState.REJECTED, created=AT - 600_001),
        order("works", state=OrderState.WORKING, broker_id=BrokerOrderId("b"), created=AT),
        order("elsewhere", state=OrderState.REJECTED, created=AT, session=SessionId("another")),
    ]
    for each in (*beside, *others):
        await store.write(OrderChanged(order=each, event="x", at=AT))
    assert await store.ended_beside_unknown(ACCOUNT, SESSION) == (), "all live ones have the broker's id"
    await store.write(OrderChanged(order=unknown, event="x", at=AT))
    assert await store.ended_beside_unknown(ACCOUNT, SESSION) == tuple(beside)


async def test_a_correction_replaces_and_a_bust_empties_a_fill_in_any_order(store: SqlStore) -> None:
    corrected = fill("x1", price=Decimal(5001), revision=1)
    busted = fill("x2", quantity=Decimal(0), revision=1)
    for each in (corrected, fill("x1"), fill("x2"), busted):
        await store.write(booked(each))
    assert set(await store.fills(ACCOUNT, SYMBOL, 0)) == {corrected, busted}
    page = await store.answer(FillsPage())
    assert isinstance(page, FillsAnswer)
    assert set(page.fills) == {corrected, busted}


async def test_positions_are_the_newest_and_not_flat(store: SqlStore) -> None:
    other = Symbol("NQZ5")
    for symbol, size in ((SYMBOL, "1"), (other, "2"), (SYMBOL, "3"), (other, "0")):
        position = Position(Decimal(size), Decimal(10) if size != "0" else None)
        store.record(
            PositionRecorded(account=ACCOUNT, symbol=symbol, session=None, position=position, cause="c", at=AT)
        )
    await store.settled()
    assert await store.positions(ACCOUNT) == {SYMBOL: Position(Decimal(3), Decimal(10))}


async def test_a_fill_moves_order_and_position_with_it(store: SqlStore) -> None:
    await store.commit(submit())
    after = order(state=OrderState.PARTIALLY_FILLED, filled=Decimal(1), revision=1)
    await store.write(booked(fill(of=after), changed=after))
    assert await store.order(after.client_id) == after
    assert await store.positions(ACCOUNT) == {SYMBOL: Position(Decimal(1), Decimal(5000))}


async def test_latches_limits_and_disagreements_come_back(store: SqlStore) -> None:
    await store.write(latch())
    await store.write(latch(session=None))
    await store.write(LimitsChanged(name="block", percent=Decimal(8), at=AT, by="a", reason="r"))
    newest = LimitsChanged(name="block", percent=Decimal("8.5"), at=AT + 1, by="a", reason="r")
    await store.write(newest)
    assert set(await store.latches()) == {latch(), latch(session=None)}
    assert await store.limits() == (newest,)
    seen = disagreement()
    acknowledged = disagreement(
        "d2", state=DisagreementState.ADOPTED, acknowledged_by="ann", acknowledged_at=AT, updated=AT + 9
    )
    for each in (seen, disagreement("d2"), acknowledged, disagreement("d2")):
        await store.write(DisagreementRecorded(disagreement=each))
    assert await store.disagreements(ACCOUNT) == (seen,)


async def test_a_day_counts_committed_entries_and_gives_its_fills(store: SqlStore) -> None:
    await store.commit(submit("a"))
    exit_order = order("b", role=Role.EXIT)
    await store.commit(SubmitIntent(key=exit_order.key, order=exit_order, at=AT, epoch=1))
    await store.write(booked(fill("early", at=AT - 1)))
    await store.write(booked(fill("late", at=AT)))
    day = await store.day(SESSION, ACCOUNT, SYMBOL, AT)
    assert (day.entries, [each.key for each in day.fills]) == (1, ["late"])
    assert (await store.day(SESSION, ACCOUNT, SYMBOL, AT + 1)).entries == 0


async def test_the_first_remembered_fact_stays(store: SqlStore) -> None:
    assert await store.remember("tape", "one") == "one"
    assert await store.remember("tape", "two") == "one"


async def test_a_restart_finds_all_and_keeps_its_salt(make: Maker) -> None:
    first = make(life="first")
    await first.open()
    salt = first.salt
    await first.commit(submit())
    first.record(override())
    await first.close()
    second = make(life="second")
    await second.open()
    assert second.salt == salt != ""
    assert await second.open_orders(ACCOUNT) == (submit().order,)
    journal = await second.answer(JournalPage(kinds=("override",)))
    assert isinstance(journal, JournalAnswer)
    assert len(journal.lines) == 1
    await second.close()


# ------------------------------------------------------------------------------------------------ pages


async def test_orders_page_by_page_are_each_order_once(store: SqlStore) -> None:
    names = {f"o{number}" for number in range(7)}
    for name in names:  # all in one millisecond: the client id decides
        store.record(OrderChanged(order=order(name), event="x", at=AT))
    await store.settled()
    seen: list[ClientOrderId] = []
    page = OrdersPage(limit=3)
    while True:
        answer = await store.answer(page)
        assert isinstance(answer, OrdersAnswer)
        seen += [each.client_id for each in answer.orders]
        if not answer.more:
            break
        last = answer.orders[-1]
        page = msgspec.structs.replace(page, before=(last.created, last.client_id))
    assert len(seen) == len(set(seen)) == len(names)
    assert seen == sorted(seen, reverse=True)


async def test_filter_text_is_taken_literally(store: SqlStore) -> None:
    for name, reason in (("a", "100% sure"), ("b", "100 sure"), ("c", "a_b"), ("d", "aXb"), ("e", "back\\slash")):
        store.record(OrderChanged(order=order(name, reason=reason), event="x", at=AT))
    await store.settled()

    async def found(text: str) -> set[str]:
        answer = await store.answer(OrdersPage(text=text))
        assert isinstance(answer, OrdersAnswer)
        return {each.reason for each in answer.orders}

    assert await found("100%") == {"100% sure"}
    assert await found("A_B") == {"a_b"}
    assert await found("k\\s") == {"back\\slash"}
    assert await found("sure BUY") == {"100% sure", "100 sure"}
    assert await found("'; DROP TABLE orders; --") == set()


async def test_orders_filter_by_session_and_state(store: SqlStore) -> None:
    other = SessionId("other")
    store.record(OrderChanged(order=order("a", session=other), event="x", at=AT))
    store.record(OrderChanged(order=order("b", state=OrderState.REJECTED), event="x", at=AT))
    await store.settled()
    for page, expected in ((OrdersPage(session=other), 1), (OrdersPage(open_only=True), 1), (OrdersPage(), 2)):
        answer = await store.answer(page)
        assert isinstance(answer, OrdersAnswer)
        assert len(answer.orders) == expected


async def test_the_journal_pages_by_number_and_filters(store: SqlStore) -> None:
    for record in one_of_each():
        await store.write(record)
    everything = await store.answer(JournalPage())
    assert isinstance(everything, JournalAnswer)
    numbers = [line.number for line in everything.lines]
    assert numbers == sorted(numbers, reverse=True)
    assert {line.kind for line in everything.lines} == {
        "session",
        "order",
        "fill",
        "decision",
        "candle",
        "position",
        "balance",
        "disagreement",
        "override",
        "latch",
        "limit",
    }
    paged: list[int] = []
    page = JournalPage(limit=4)
    while True:
        answer = await store.answer(page)
        assert isinstance(answer, JournalAnswer)
        paged += [line.number for line in answer.lines]
        if not answer.more:
            break
        page = msgspec.structs.replace(page, before=paged[-1])
    assert paged == numbers
    some = await store.answer(JournalPage(kinds=("fill", "limit"), text="5000"))
    assert isinstance(some, JournalAnswer)
    assert [line.kind for line in some.lines] == ["fill"]


async def test_fill_pages_lose_no_fill_of_one_moment(store: SqlStore) -> None:
    for number, at in enumerate((AT + 2, AT + 1, AT + 1, AT + 1, AT)):
        await store.write(booked(fill(f"x{number}", at=at)))
    first = await store.answer(FillsPage(limit=2))
    assert isinstance(first, FillsAnswer)
    assert first.more
    second = await store.answer(FillsPage(limit=2, before=first.reached))
    assert isinstance(second, FillsAnswer)
    third = await store.answer(FillsPage(limit=2, before=second.reached))
    assert isinstance(third, FillsAnswer)
    assert not third.more
    assert len({each.key for each in first.fills + second.fills + third.fills}) == 5


async def test_sessions_show_candle_latches_and_counts(store: SqlStore) -> None:
    for record in one_of_each():
        await store.write(record)
    answer = await store.answer(SessionsList())
    assert isinstance(answer, SessionsAnswer)
    (line,) = answer.sessions
    assert (line.session, line.evaluated, line.latches, line.orders, line.fills) == (
        SESSION,
        AT,
        ("daily loss",),
        1,
        1,
    )


# ------------------------------------------------------------------------------------------------- jobs


def trips(answer: object) -> list[tuple[Decimal, Decimal]]:
    assert isinstance(answer, TradesAnswer)
    return [(trade.quantity, trade.profit) for trade in answer.trades]


async def test_trades_follow_fills_corrections_and_busts(store: SqlStore) -> None:
    jobs = store.jobs(lambda symbol: contract("50"))
    await store.write(booked(fill("in", fee=Decimal(1))))
    out = fill("out", side=Side.SELL, price=Decimal(5002), at=AT + 5, fee=Decimal(1))
    await store.write(booked(out, "0"))
    assert await jobs.drain() == 1, "two fills before the run are one job"
    assert trips(await store.answer(TradesPage())) == [(Decimal(1), Decimal(98))]
    await store.write(booked(msgspec.structs.replace(out, price=Decimal(5003), revision=1), "0"))
    await jobs.drain()
    assert trips(await store.answer(TradesPage(account=ACCOUNT))) == [(Decimal(1), Decimal(148))]
    await store.write(booked(msgspec.structs.replace(out, quantity=Decimal(0), revision=2), "1"))
    await jobs.drain()
    assert trips(await store.answer(TradesPage())) == []
    assert await jobs.drain() == 0


async def test_a_fill_written_twice_queues_no_second_job(store: SqlStore) -> None:
    jobs = store.jobs(lambda symbol: contract())
    await store.write(booked(fill()))
    await jobs.drain()
    await store.write(booked(fill()))
    assert await jobs.drain() == 0


async def test_an_unknown_tombstone_key_is_no_order(store: SqlStore) -> None:
    await store.bury(DecisionKey("nobody/1/entry/0"))
    answer = await store.answer(OrdersPage())
    assert isinstance(answer, OrdersAnswer)
    assert answer.orders == ()

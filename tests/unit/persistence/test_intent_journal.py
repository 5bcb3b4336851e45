"""The file that stands in for the database: torn, unsyncable, imported once."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from engine.clock import SystemClock
from engine.domain.ids import DecisionKey
from engine.domain.intents import Concluded, JournalRecord, Noted, Outcome, Prepared
from engine.domain.orders import Flag, OrderState
from engine.domain.records import OrderChanged
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.files import RealFiles
from engine.persistence.intent_journal import FileIntentJournal, frame, parse
from engine.persistence.recovery_import import Imported, import_journal
from engine.persistence.store import SqlStore
from engine.ports import Committed, Files, Taken
from engine.queries import JournalAnswer, JournalPage
from tests.unit.persistence.samples import AT, SESSION, cancel, order, replace, sqlite_store, submit


class BadDisk(RealFiles):
    """Files whose next sync fails after the bytes were written, or before."""

    def __init__(self) -> None:
        self.fail_sync = 0
        self.fail_open = 0
        self.fail_rename = 0
        self.appended: list[str] = []

    def append(self, path: Path, data: bytes) -> None:
        if self.fail_open:
            self.fail_open -= 1
            raise OSError(28, "No space left on device")
        self.appended.append(path.name)
        if self.fail_sync:
            self.fail_sync -= 1
            with path.open("ab") as file:
                file.write(data[: len(data) // 2])
            raise OSError(5, "Input/output error")
        super().append(path, data)

    def rename(self, path: Path, to: Path) -> None:
        if self.fail_rename:
            self.fail_rename -= 1
            raise OSError(5, "Input/output error")
        super().rename(path, to)


def journal(folder: Path, files: Files | None = None) -> FileIntentJournal:
    return FileIntentJournal(folder, files or RealFiles(), ThreadBlocking(SystemClock()))


def files_in(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def note(name: str = "n") -> Noted:
    return Noted(key=DecisionKey(name), at=AT, what="flatten", operator="ann", origin="console", session=SESSION)


def outcome(key: DecisionKey, told: Outcome, broker_id: str | None = None) -> Concluded:
    return Concluded(key=key, outcome=told, at=AT + 100, broker_id=broker_id, detail="said so")


ALL: tuple[JournalRecord, ...] = (
    Prepared(submit()),
    outcome(submit().key, Outcome.ACCEPTED, "B-1"),
    Prepared(cancel(order())),
    Prepared(replace(order(), "5")),
    note(),
)


async def test_what_was_appended_is_pending_in_order_also_for_the_next_life(tmp_path: Path) -> None:
    first = journal(tmp_path / "state")
    for record in ALL:
        await first.append(record)
    assert await first.pending() == ALL
    assert await journal(tmp_path / "state").pending() == ALL
    (file,) = files_in(tmp_path, "state/*.journal")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("cut", [1, 5, 18, 40, 100])
async def test_a_torn_tail_is_dropped_and_the_rest_kept(tmp_path: Path, cut: int) -> None:
    first = journal(tmp_path)
    for record in ALL[:2]:
        await first.append(record)
    (file,) = files_in(tmp_path, "*.journal")
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    second = journal(tmp_path)
    kept = ALL[:1] if cut > 1 else ALL[:2]  # without its line break alone the record is whole
    assert await second.pending() == kept
    await second.append(note())
    assert len(files_in(tmp_path, "*.journal")) == 2, "nothing is appended behind a torn tail"
    assert await journal(tmp_path).pending() == (*kept, note())


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    line = frame(note())
    for position in range(len(line) - 1):
        damaged = bytearray(line)
        damaged[position] ^= 0x01
        records, torn = parse(bytes(damaged))
        # the case of a hex digit is the one change that means the same
        assert records == [] or (records == [note()] and position < 18), position
        assert records or torn


async def test_a_failed_sync_is_told_and_its_file_never_appended_to_again(tmp_path: Path) -> None:
    disk = BadDisk()
    made = journal(tmp_path, disk)
    await made.append(note("a"))
    disk.fail_sync = 1
    with pytest.raises(OSError, match="Input/output"):
        await made.append(note("b"))
    await made.append(note("b"))
    await made.append(note("c"))
    names = disk.appended
    assert names[0] == names[1]
    assert names[2] == names[3] != names[1]
    assert await journal(tmp_path).pending() == (note("a"), note("b"), note("c"))


async def test_a_long_outage_of_the_disk_loses_nothing_afterwards(tmp_path: Path) -> None:
    disk = BadDisk()
    made = journal(tmp_path, disk)
    disk.fail_open = 500
    for _ in range(500):
        with pytest.raises(OSError, match="No space"):
            await made.append(note("a"))
    await made.append(note("b"))
    assert await journal(tmp_path).pending() == (note("b"),)


async def test_what_is_appended_after_the_listing_is_not_archived(tmp_path: Path) -> None:
    made = journal(tmp_path)
    await made.append(note("a"))
    await made.pending()
    await made.append(note("b"))
    await made.archive()
    assert await made.pending() == (note("b"),)
    await made.archive()
    assert await journal(tmp_path).pending() == ()
    await made.append(note("c"))
    assert await journal(tmp_path).pending() == (note("c"),)
    assert len(files_in(tmp_path, "*.imported")) == 2


# ------------------------------------------------------------------------------------------------ import


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    made = sqlite_store(tmp_path / "desk.db")
    await made.open()
    yield made
    await made.close()


async def imported(store: SqlStore, folder: Path, *records: JournalRecord) -> tuple[Imported, ...]:
    made = journal(folder)
    for record in records:
        await made.append(record)
    return await import_journal(store, made)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (None, OrderState.IN_DOUBT_SUBMIT),
        (Outcome.IN_DOUBT, OrderState.IN_DOUBT_SUBMIT),
        (Outcome.ACCEPTED, OrderState.WORKING),
        (Outcome.REFUSED, OrderState.REJECTED),
        (Outcome.NOT_SENT, OrderState.ABANDONED),
    ],
)
async def test_a_journalled_submit_becomes_its_order(
    store: SqlStore, tmp_path: Path, told: Outcome | None, state: OrderState
) -> None:
    intent = submit()
    leg = order("leg", parent=intent.order.client_id)
    intent = msgspec.structs.replace(intent, legs=(leg,))
    after = [] if told is None else [outcome(intent.key, told, "B-1" if told is Outcome.ACCEPTED else None)]
    (done,) = await imported(store, tmp_path, Prepared(intent), *after)
    assert done.was_new
    kept = await store.order(intent.order.client_id)
    assert kept is not None
    assert kept.state is state
    assert Flag.JOURNALLED in kept.flags
    assert (kept.doubt is not None) == (state is OrderState.IN_DOUBT_SUBMIT)
    assert kept.broker_id == ("B-1" if told is Outcome.ACCEPTED else None)
    kept_leg = await store.order(leg.client_id)
    assert kept_leg is not None
    assert kept_leg.state is (OrderState.IN_DOUBT_SUBMIT if told is Outcome.ACCEPTED else state)
    assert isinstance(await store.commit(intent), Taken), "one key across database and journal"


async def test_importing_twice_changes_nothing(store: SqlStore, tmp_path: Path) -> None:
    await store.write(OrderChanged(order=order("w", state=OrderState.WORKING, revision=3), event="x", at=AT))
    told = outcome(submit().key, Outcome.ACCEPTED, "B-1")
    records = (Prepared(submit()), told, note(), Prepared(cancel(order("w"))))
    await imported(store, tmp_path / "one", *records)
    first = [await store.order(submit().order.client_id), await store.order(order("w").client_id)]
    lines = await store.answer(JournalPage())
    again = await imported(store, tmp_path / "two", *records)
    assert not any(each.was_new for each in again)
    assert [await store.order(submit().order.client_id), await store.order(order("w").client_id)] == first
    assert await store.answer(JournalPage()) == lines
    assert first[1] is not None
    assert (first[1].state, first[1].cancel_wanted) == (OrderState.IN_DOUBT_CANCEL, True)


async def test_newer_rows_outrank_the_journal(store: SqlStore, tmp_path: Path) -> None:
    await store.commit(submit())
    newest = order(state=OrderState.FILLED, revision=5, updated=AT + 900)
    await store.write(OrderChanged(order=newest, event="filled", at=AT + 900))
    await imported(store, tmp_path, Prepared(submit()), Prepared(cancel(newest)), Prepared(replace(newest, "9")))
    assert await store.order(newest.client_id) == newest


async def test_a_commit_that_landed_late_is_the_journals_own(store: SqlStore, tmp_path: Path) -> None:
    await store.commit(submit())
    (done,) = await imported(store, tmp_path, Prepared(submit()), outcome(submit().key, Outcome.ACCEPTED, "B-1"))
    assert not done.was_new
    kept = await store.order(submit().order.client_id)
    assert kept is not None
    assert (kept.state, kept.broker_id) == (OrderState.WORKING, "B-1")


async def test_what_was_journalled_takes_its_key_back_from_a_tombstone(store: SqlStore, tmp_path: Path) -> None:
    assert await store.bury(submit().key) == Committed()
    (done,) = await imported(store, tmp_path, Prepared(submit()))
    assert done.was_new
    kept = await store.order(submit().order.client_id)
    assert kept is not None
    assert kept.state is OrderState.IN_DOUBT_SUBMIT
    assert isinstance(await store.bury(submit().key), Taken)


async def test_a_journalled_override_gets_its_row(store: SqlStore, tmp_path: Path) -> None:
    await imported(store, tmp_path, note())
    page = await store.answer(JournalPage(kinds=("override",)))
    assert isinstance(page, JournalAnswer)
    (line,) = page.lines
    assert "flatten by ann (console): journalled" in line.text


async def test_a_crash_before_the_archive_only_imports_again(store: SqlStore, tmp_path: Path) -> None:
    disk = BadDisk()
    made = journal(tmp_path, disk)
    await made.append(Prepared(submit()))
    disk.fail_rename = 1
    with pytest.raises(OSError, match="Input/output"):
        await import_journal(store, made)
    (again,) = await import_journal(store, journal(tmp_path))
    assert not again.was_new
    assert await import_journal(store, journal(tmp_path)) == ()

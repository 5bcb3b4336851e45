"""What was journalled while the database was away goes into it as soon as it is back, the desk running on."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.domain.intents import Concluded, Noted, Outcome, Prepared
from engine.domain.orders import OrderState
from engine.domain.records import OrderChanged
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.files import RealFiles
from engine.persistence.intent_journal import RESERVE, RESERVE_BYTES, FileIntentJournal
from engine.persistence.recovery_import import OUTCOME_MS, settle_journal
from engine.persistence.store import SqlStore
from engine.ports import Committed, Files
from tests.unit.persistence.samples import AT, cancel, order, sqlite_store, submit

LATER = AT + 10 * OUTCOME_MS


class FullDisk(RealFiles):
    """Files on a disk without room, as long as nobody frees some."""

    def __init__(self) -> None:
        self.full = False
        self.broken = False

    def append(self, path: Path, data: bytes) -> None:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        if self.full and path.with_name(RESERVE).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(path, data)


def journal(folder: Path, files: Files | None = None) -> FileIntentJournal:
    return FileIntentJournal(folder, files or RealFiles(), ThreadBlocking(SystemClock()))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    made = sqlite_store(tmp_path / "desk.db")
    await made.open()
    yield made
    await made.close()


async def kinds(store: SqlStore) -> dict[str, str]:
    return dict(await store._read().query("SELECT key, kind FROM intents"))


def settled(kept: FileIntentJournal) -> bool:
    return kept.is_settled


def accepted() -> Concluded:
    return Concluded(key=submit().key, outcome=Outcome.ACCEPTED, at=AT + 100, broker_id="B-1")


async def test_a_settled_journal_is_not_even_looked_at(store: SqlStore, tmp_path: Path) -> None:
    kept = journal(tmp_path / "journal")
    assert settled(kept)
    assert await settle_journal(store, kept, LATER) == ()
    assert not (tmp_path / "journal").exists()


async def test_journalled_intents_take_their_keys_and_the_queued_rows_outrank_them(
    store: SqlStore, tmp_path: Path
) -> None:
    kept = journal(tmp_path / "journal")
    await kept.append(Prepared(submit()))
    await kept.append(accepted())
    await kept.append(Prepared(cancel(order())))
    await store.bury(submit().key)  # the settling of its unknown commit, before it was journalled
    filled = order(state=OrderState.FILLED, revision=7)
    store.record(OrderChanged(order=filled, event="filled", at=AT + 200))
    assert not settled(kept)
    assert await settle_journal(store, kept, LATER) == (submit().key, cancel(order()).key)
    assert settled(kept)
    assert set((await kinds(store)).values()) == {"submit", "cancel"}
    assert await store.order(submit().order.client_id) == filled
    assert await kept.pending() == ()


async def test_an_outcome_under_way_is_waited_for_so_that_a_crash_meanwhile_finds_it_beside_its_intent(
    store: SqlStore, tmp_path: Path
) -> None:
    kept = journal(tmp_path / "journal")
    await kept.append(Prepared(submit()))
    assert await settle_journal(store, kept, AT + 1_000) == ()
    await kept.append(accepted())
    again = journal(tmp_path / "journal")
    assert await again.pending() == (Prepared(submit()), accepted())
    assert await settle_journal(store, kept, AT + 2_000) == (submit().key,)
    await kept.append(Prepared(cancel(order())))
    assert await settle_journal(store, kept, cancel(order()).at + OUTCOME_MS - 1) == ()
    assert await settle_journal(store, kept, LATER) == (cancel(order()).key,), "one that never comes is not waited for"


async def test_what_comes_between_listing_and_archive_waits_for_the_next_time(store: SqlStore, tmp_path: Path) -> None:
    kept = journal(tmp_path / "journal")
    await kept.append(Prepared(submit()))
    was = store.settled

    async def and_one_more() -> None:
        await was()
        await kept.append(Prepared(cancel(order())))

    store.settled = and_one_more  # type: ignore[method-assign]
    assert await settle_journal(store, kept, LATER) == (submit().key,)
    store.settled = was  # type: ignore[method-assign]
    assert not settled(kept)
    assert await settle_journal(store, kept, LATER) == (cancel(order()).key,)


async def test_notes_need_no_row_of_their_own(store: SqlStore, tmp_path: Path) -> None:
    """Their override and latch were queued with them: what is queued is written first."""
    kept = journal(tmp_path / "journal")
    await kept.append(Noted(key=submit().key, at=AT, what="pause held", operator="ann", origin="console"))
    assert await settle_journal(store, kept, LATER) == ()
    assert await kinds(store) == {}
    assert settled(kept)


async def test_what_the_disk_refused_is_owed_and_settled_from_memory(store: SqlStore, tmp_path: Path) -> None:
    files = FullDisk()
    kept = journal(tmp_path / "journal", files)
    files.broken = True
    with pytest.raises(OSError, match="Input/output"):
        await kept.append(Prepared(submit()))
    assert not settled(kept)
    assert await settle_journal(store, kept, LATER) == (submit().key,)
    assert await kinds(store) == {submit().key: "submit"}
    assert settled(kept)
    assert await settle_journal(store, kept, LATER) == ()


async def test_a_full_disk_has_room_for_exits(store: SqlStore, tmp_path: Path) -> None:
    files = FullDisk()
    kept = journal(tmp_path / "journal", files)
    await kept.keep_room()
    reserve = tmp_path / "journal" / RESERVE
    assert reserve.stat().st_size == RESERVE_BYTES
    files.full = True
    await kept.append(Prepared(submit()))
    assert not reserve.exists()
    assert await journal(tmp_path / "journal").pending() == (Prepared(submit()),)
    assert await store.commit(submit()) == Committed()
    await kept.append(accepted())
    files.full = False
    assert await settle_journal(store, kept, LATER) == (submit().key,)
    assert reserve.stat().st_size == RESERVE_BYTES


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small filesystem can be made here (mount: {made.stderr.strip()})")
    yield place
    subprocess.run(["umount", place], check=True)


async def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    kept = journal(small_disk / "journal")
    await kept.keep_room()
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(2_000_000))
    assert os.statvfs(small_disk).f_bavail == 0
    await journal(small_disk / "another").keep_room()
    assert not (small_disk / "another" / RESERVE).exists(), "no room is no reason not to start"
    await kept.append(Prepared(submit()))
    await kept.append(accepted())
    assert await journal(small_disk / "journal").pending() == (Prepared(submit()), accepted())


class FullAfterRename(RealFiles):
    """Files whose disk is full the first time the archive is marked as read."""

    def __init__(self) -> None:
        self.failures = 1

    def replace(self, path: Path, data: bytes) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        super().replace(path, data)


async def test_an_archive_that_failed_half_way_is_over_with_the_next_one(tmp_path: Path, store: SqlStore) -> None:
    kept = journal(tmp_path / "journal", FullAfterRename())
    await kept.append(Prepared(submit("sx1")))
    with pytest.raises(OSError, match="No space left"):
        await settle_journal(store, kept, LATER)
    assert not settled(kept)
    await settle_journal(store, kept, LATER)
    assert settled(kept)

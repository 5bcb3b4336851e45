"""The intent journal under what a crash or a disk leaves: torn anywhere, two lives, half archived, unreadable."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import SystemClock
from engine.domain.ids import DecisionKey
from engine.domain.intents import Concluded, JournalRecord, Noted, Outcome, Prepared
from engine.domain.orders import Flag, OrderState
from engine.domain.records import OrderChanged
from engine.persistence.blocking import ThreadBlocking
from engine.persistence.files import RealFiles
from engine.persistence.intent_journal import NEXT, FileIntentJournal, frame, parse
from engine.persistence.recovery_import import import_journal
from engine.persistence.store import SqlStore
from engine.ports import Files
from tests.unit.persistence.samples import AT, cancel, order, sqlite_store, submit


def journal(folder: Path, files: Files | None = None) -> FileIntentJournal:
    return FileIntentJournal(folder, files or RealFiles(), ThreadBlocking(SystemClock()))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("intents-*"))


def note(text: str) -> Noted:
    return Noted(key=DecisionKey(text), at=AT, what="flatten", operator="ann", origin="console", detail=text)


def outcome(told: Outcome, broker_id: str | None = None) -> Concluded:
    return Concluded(key=submit().key, outcome=told, at=AT + 100, broker_id=broker_id, detail="said so")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    made = sqlite_store(tmp_path / "desk.db")
    await made.open()
    yield made
    await made.close()


# -------------------------------------------------------------------------------------------------- torn

LAST = (Prepared(submit("last")), outcome(Outcome.ACCEPTED, "B-1"), Prepared(cancel(order())), note("ä → ü"))


@pytest.mark.parametrize("last", LAST, ids=lambda record: type(record).__name__)
def test_a_tail_torn_at_any_byte_is_dropped_alone(last: JournalRecord) -> None:
    whole = frame(Prepared(submit("first")))
    tail = frame(last)
    for cut in range(len(tail) + 1):
        records, torn = parse(whole + tail[:cut])
        is_whole = cut >= len(tail) - 1  # without its line break alone the record is whole
        assert records == [Prepared(submit("first")), *([last] if is_whole else [])], cut
        assert torn == (0 if is_whole or cut == 0 else 1), cut


@given(st.text(), st.text(), st.binary(max_size=200), st.data())
def test_whatever_stands_behind_a_record_the_record_is_kept(
    first: str, second: str, junk: bytes, data: st.DataObject
) -> None:
    """Blocks of a disk that never came: the tail is junk or zeros, from any byte on."""
    whole, tail = frame(note(first)), frame(note(second))
    cut = data.draw(st.integers(0, len(tail)))
    filler = data.draw(st.sampled_from([b"", b"\0" * 64, junk]))
    records, _ = parse(whole + tail[:cut] + filler)
    assert records[0] == note(first)
    assert set(map(repr, records[1:])) <= {repr(note(second))}, "nothing is made up"


@given(st.lists(st.text(), max_size=8), st.data())
def test_a_hole_in_the_middle_costs_its_own_lines_only(texts: list[str], data: st.DataObject) -> None:
    lines = [frame(note(text)) for text in texts]
    lost = data.draw(st.sets(st.integers(0, max(0, len(lines) - 1)), max_size=3)) if lines else set()
    damaged = [b"\0" * (len(line) - 1) + b"\n" if number in lost else line for number, line in enumerate(lines)]
    records, torn = parse(b"".join(damaged))
    assert records == [note(text) for number, text in enumerate(texts) if number not in lost]
    assert torn == len(lost)


# --------------------------------------------------------------------------------------- lives and archive


async def test_each_life_has_files_of_its_own_and_all_are_imported_in_order(store: SqlStore, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    first = journal(folder)
    await first.append(Prepared(submit("a")))
    second = journal(folder)  # the first was killed and never imported
    await second.append(note("b"))
    await second.append(outcome(Outcome.IN_DOUBT))
    third = journal(folder)
    assert names(folder) == ["intents-000001.journal", "intents-000002.journal"]
    done = await import_journal(store, third)
    assert [each.key for each in done] == [submit("a").key, "b"]
    assert names(folder) == ["intents-000001.journal.imported", "intents-000002.journal.imported"]
    await third.append(note("c"))
    assert await journal(folder).pending() == (note("c"),)


async def test_an_outcome_in_a_later_file_finds_its_intent(store: SqlStore, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    await journal(folder).append(Prepared(submit()))
    await journal(folder).append(outcome(Outcome.ACCEPTED, "B-1"))
    await import_journal(store, journal(folder))
    kept = await store.order(submit().order.client_id)
    assert kept is not None
    assert (kept.state, kept.broker_id) == (OrderState.WORKING, "B-1")


class Dies(RealFiles):
    """A process that is killed at its n-th rename or replacement."""

    def __init__(self, after: int) -> None:
        self.left = after

    def _step(self) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1

    def rename(self, path: Path, to: Path) -> None:
        self._step()
        super().rename(path, to)


@pytest.mark.parametrize("after", range(5))
async def test_a_crash_anywhere_in_the_archive_only_imports_again(store: SqlStore, tmp_path: Path, after: int) -> None:
    folder = tmp_path / "journal"
    for name in ("a", "b", "c"):
        await journal(folder).append(Prepared(submit(name)))
    try:
        await import_journal(store, journal(folder, Dies(after)))
    except KeyboardInterrupt:
        assert after < 4  # three files, then where the next start begins to look
    again = await import_journal(store, journal(folder))
    assert not any(each.was_new for each in again)
    assert len(again) == max(0, 3 - after)
    assert await import_journal(store, journal(folder)) == ()
    later = journal(folder)
    await later.append(note("later"))
    assert await journal(folder).pending() == (note("later"),)
    assert names(folder)[-1] == "intents-000004.journal", "no number is ever used twice"


async def test_nothing_is_archived_before_its_commit(store: SqlStore, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    await journal(folder).append(Prepared(submit("a")))
    await journal(folder).append(Prepared(submit("b")))
    was, calls = store.apply, []

    async def dies_at_the_second(name: str, statements: object) -> list[int]:
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return await was(name, statements)  # type: ignore[arg-type]

    store.apply = dies_at_the_second  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        await import_journal(store, journal(folder))
    store.apply = was  # type: ignore[method-assign]
    assert names(folder) == ["intents-000001.journal", "intents-000002.journal"]
    assert [each.was_new for each in await import_journal(store, journal(folder))] == [False, True]


async def test_where_to_begin_may_be_lost_or_nonsense(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    first = journal(folder)
    await first.append(note("a"))
    await first.pending()
    await first.archive()
    await first.append(note("b"))
    for content in (b"", b"nonsense", None):
        if content is None:
            (folder / NEXT).unlink()
        else:
            (folder / NEXT).write_bytes(content)
        assert await journal(folder).pending() == (note("b"),)


async def test_a_file_that_cannot_be_read_stops_the_import_and_keeps_everything(
    store: SqlStore, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    await journal(folder).append(Prepared(submit("a")))
    (folder / "intents-000002.journal").mkdir()  # as root reads any file: a directory stands in for one
    with pytest.raises(OSError, match="Is a directory"):
        await import_journal(store, journal(folder))
    assert names(folder) == ["intents-000001.journal", "intents-000002.journal"]
    assert await store.order(submit("a").order.client_id) is None


# ------------------------------------------------------------------------------------------ outcome alone


@pytest.mark.parametrize(
    ("told", "broker_id", "state"),
    [
        (Outcome.ACCEPTED, "B-1", OrderState.WORKING),
        (Outcome.REFUSED, None, OrderState.REJECTED),
        (Outcome.IN_DOUBT, None, OrderState.IN_DOUBT_SUBMIT),
        (Outcome.NOT_SENT, None, OrderState.IN_DOUBT_SUBMIT),
    ],
)
async def test_an_outcome_whose_intent_was_imported_before_still_tells(
    store: SqlStore, tmp_path: Path, told: Outcome, broker_id: str | None, state: OrderState
) -> None:
    folder = tmp_path / "journal"
    await journal(folder).append(Prepared(submit()))
    await import_journal(store, journal(folder))
    await journal(folder).append(outcome(told, broker_id))
    for _ in range(2):
        await import_journal(store, journal(folder))
        kept = await store.order(submit().order.client_id)
        assert kept is not None
        assert (kept.state, kept.broker_id) == (state, broker_id)
        assert Flag.JOURNALLED in kept.flags
        await journal(folder).append(outcome(told, broker_id))  # and once more: nothing changes


async def test_an_outcome_alone_never_outranks_newer_rows(store: SqlStore, tmp_path: Path) -> None:
    await store.commit(submit())
    newest = msgspec.structs.replace(submit().order, state=OrderState.FILLED, revision=4, broker_id=None)
    await store.write(OrderChanged(order=newest, event="filled", at=AT + 9))
    await journal(tmp_path / "journal").append(outcome(Outcome.REFUSED))
    await import_journal(store, journal(tmp_path / "journal"))
    assert await store.order(newest.client_id) == newest


async def test_an_outcome_of_nothing_that_is_known_is_reported_and_set_aside(
    store: SqlStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await journal(tmp_path / "journal").append(outcome(Outcome.ACCEPTED, "B-77"))
    assert await import_journal(store, journal(tmp_path / "journal")) == ()
    assert "an outcome without its intent" in caplog.text
    assert "B-77" in caplog.text
    assert names(tmp_path / "journal") == ["intents-000001.journal.imported"]

"""`sextant db prune`: what may go goes, in small transactions; what an audit or a restart needs stays for ever.

A line of the log goes only when its fact is kept in a table of its own, and never one about an order that is still
live. Lines whose fact is nowhere else (overrides, latches, limits, leases, sessions, disagreements) stay. Balances are
thinned to the last of each day. Journal files that were imported are emptied; their names stay, so that numbering
never begins again. Nothing younger than a month is touched: whatever can still arrive, arrives sooner.
"""
# ruff: noqa: S608 (statements are put together from this file's own constants; values are bound)

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from msgspec import Struct

from engine.domain.ids import Millis
from engine.errors import DeskUnusable
from engine.persistence.check_files import FILE
from engine.persistence.connection import Statement
from engine.persistence.files import RealFiles
from engine.persistence.intent_journal import IMPORTED, parse
from engine.persistence.kept import Kept, reading, writing
from engine.ports import Blocking, Clock, StoreConnection

DAY_MS = 86_400_000
FLOOR_DAYS = 30
AT_ONCE = 2_000  # row numbers in one transaction: none takes longer than a desk would notice
# The table that keeps what a line of this kind says. A line about a decision may be the only trace of it.
TOLD_ELSEWHERE = {
    "order": "order_events",
    "fill": "fills",
    "intent": "intents",
    "candle": "replaced_candles",
    "position": "positions",
    "balance": "balances",
}
OLD_LINE = """
at < ? AND kind IN ('order', 'fill', 'intent', 'candle', 'position', 'balance')
    AND subject NOT IN (SELECT client_id FROM orders WHERE is_live = 1)
"""
OLD_BALANCE = """
at < ? AND EXISTS (
    SELECT 1 FROM balances AS later WHERE later.account = balances.account AND later.at > balances.at
        AND later.at < (balances.at / 86400000 + 1) * 86400000
)
"""
COUNT = "SELECT count(*), coalesce(min(number), 0), coalesce(max(number), 0) FROM"
COUNT_LINES = f"{COUNT} log WHERE {OLD_LINE}"
DELETE_LINES = f"DELETE FROM log WHERE number >= ? AND number < ? AND {OLD_LINE}"
COUNT_BALANCES = f"{COUNT} balances WHERE {OLD_BALANCE}"
DELETE_BALANCES = f"DELETE FROM balances WHERE number >= ? AND number < ? AND {OLD_BALANCE}"
NOTE = "INSERT INTO log (at, kind, subject, version, text) VALUES (?, 'prune', 'desk', ?, ?)"


class Pruned(Struct, frozen=True, kw_only=True):
    """What went, or would go: rows of the log, balances, journal files and their bytes."""

    lines: int
    balances: int
    files: int
    file_bytes: int

    @property
    def nothing(self) -> bool:
        """Whether there was nothing to prune."""
        return not (self.lines or self.balances or self.files)


async def prune(desk: Kept, before: date, by: str, dry_run: bool, clock: Clock, blocking: Blocking) -> Pruned:
    """Prune what is older than `before` (UTC midnight), under the desk's lock; a dry run takes no lock and only counts.

    Interrupted, it has pruned less; run again, it goes on. Raises DeskUnusable: the day is too young, a desk runs,
    there is none, or the journal holds what was not imported yet.
    """
    now = clock.now()
    limit = round(datetime(before.year, before.month, before.day, tzinfo=UTC).timestamp() * 1000)
    if limit > now - FLOOR_DAYS * DAY_MS:
        youngest = datetime.fromtimestamp(now / 1000 - FLOOR_DAYS * 86_400, UTC).date()
        raise DeskUnusable(f"The last {FLOOR_DAYS} days are always kept; name {youngest} or an earlier day.")
    looking = reading(desk.database, clock, blocking)
    try:
        reader = (await looking.open()).reader  # refuses where there is no desk, which opening to write would make
        if dry_run:
            lines, balances = [(await _counted(reader, sql, limit))[0] for sql in (COUNT_LINES, COUNT_BALANCES)]
            files = await blocking.run(lambda: _archived(desk.journal, limit))
            return Pruned(lines=lines, balances=balances, files=len(files), file_bytes=_size(files))
        database = writing(desk, clock, blocking)
        try:
            opened = await database.open()
            await blocking.run(lambda: _refuse_pending(desk.journal))
            assert opened.writer is not None
            lines = await _delete(reader, opened.writer, COUNT_LINES, DELETE_LINES, limit)
            balances = await _delete(reader, opened.writer, COUNT_BALANCES, DELETE_BALANCES, limit)
            files = await blocking.run(lambda: _archived(desk.journal, limit))
            done = Pruned(lines=lines, balances=balances, files=len(files), file_bytes=_size(files))
            await blocking.run(lambda: _empty(files))
            if not done.nothing:
                words = f"{lines} lines, {balances} balances and {len(files)} journal files from before {before}"
                await opened.writer.transact([(NOTE, (now, str(now), f"pruned {words}, by {by}"))])
        finally:
            await database.close()
        return done
    finally:
        await looking.close()


async def _counted(connection: StoreConnection, sql: str, limit: Millis) -> tuple[int, int, int]:
    ((count, first, last),) = await connection.query(sql, (limit,))
    return int(count), int(first), int(last)


async def _delete(reader: StoreConnection, writer: StoreConnection, count: str, delete: str, limit: Millis) -> int:
    gone = 0
    found, first, last = await _counted(reader, count, limit)
    if found:
        for start in range(first, last + 1, AT_ONCE):
            statement: Statement = (delete, (start, min(start + AT_ONCE, last + 1), limit))
            gone += sum(await writer.transact([statement]))
    return gone


def _refuse_pending(journal: Path) -> None:
    for path in sorted(journal.glob("intents-*.journal")) if journal.is_dir() else ():
        if FILE.fullmatch(path.name) and parse(path.read_bytes())[0]:
            raise DeskUnusable(f"{path} holds records that were not imported yet; start the desk once, then prune.")


def _archived(journal: Path, limit: Millis) -> list[Path]:
    """Files that were imported and set aside before the limit, and are not empty yet."""
    found = sorted(journal.glob(f"intents-*.journal{IMPORTED}")) if journal.is_dir() else []
    return [path for path in found if (status := path.stat()).st_size and status.st_mtime * 1000 < limit]


def _size(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _empty(files: Sequence[Path]) -> None:
    for path in files:
        RealFiles().replace(path, b"")

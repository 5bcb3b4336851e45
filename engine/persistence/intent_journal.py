"""The append-only file that stands in for the database when an exit cannot wait.

One record a line: length and CRC-32 of the payload in hex, then the payload as JSON (which holds no line break).
A line that does not add up is torn: it is dropped and reported, and what stands on other lines is kept. Nothing is
ever appended behind a line of another life or behind a failed sync: after either, a new numbered file begins.

A full disk holds the database and the journal back alike, so the journal keeps room of its own: a file that is given
up for the first record that finds none. What the disk did not take at all is owed: it stands in memory until the
database has it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import zlib
from pathlib import Path

import msgspec

from engine.domain.intents import JournalRecord
from engine.ports import Blocking, Files

log = logging.getLogger(__name__)

IMPORTED = ".imported"
NEXT = "intents.next"
RESERVE = "intents.reserve"
RESERVE_BYTES = 1 << 20  # a thousand exits
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
LOOK_AHEAD = 100  # numbers can be missing: a file whose creation failed and could not be looked at was skipped
_DECODER: msgspec.json.Decoder[JournalRecord] = msgspec.json.Decoder(JournalRecord)


def frame(record: JournalRecord) -> bytes:
    """One record as a line."""
    payload = msgspec.json.encode(record)
    return b"%08x %08x %b\n" % (len(payload), zlib.crc32(payload), payload)


def parse(data: bytes) -> tuple[list[JournalRecord], int]:
    """The intact records of a file, and how many lines were torn."""
    records, torn = [], 0
    for line in data.split(b"\n"):
        if not line:
            continue
        try:
            length, checksum, payload = int(line[:8], 16), int(line[9:17], 16), line[18:]
            if line[8:9] != b" " or line[17:18] != b" " or len(payload) != length:
                raise ValueError("length")
            if zlib.crc32(payload) != checksum:
                raise ValueError("checksum")
            records.append(_DECODER.decode(payload))
        except (ValueError, msgspec.MsgspecError):
            torn += 1
    return records, torn


class FileIntentJournal:
    """IntentJournal over numbered files in the state directory."""

    def __init__(self, directory: Path, files: Files, blocking: Blocking) -> None:
        self._directory = directory
        self._files = files
        self._blocking = blocking
        self._number: int | None = None  # of the file this life appends to
        self._listed: list[Path] = []
        self._owed: list[JournalRecord] = []
        self._owed_listed = 0
        self._appended = 0  # the newest file that took a record
        self._unlisted = 0  # the first file that the last listing does not cover
        self._has_news = False
        self._lock = asyncio.Lock()

    @property
    def is_settled(self) -> bool:
        """Whether this life has told the journal nothing that is not archived; looks at no disk."""
        return not (self._has_news or self._owed)

    async def append(self, record: JournalRecord) -> None:
        """Durable on return. Raises OSError; that file is then never appended to again, and the record is owed."""
        data = frame(record)
        self._has_news = True
        async with self._lock:
            try:
                await self._blocking.run(lambda: self._append(data))
            except OSError:
                self._owed.append(record)
                raise

    async def pending(self) -> tuple[JournalRecord, ...]:
        """Intact records not yet archived, oldest first, then those owed; a torn line is dropped and reported.

        Raises OSError when a file cannot be read.
        """
        async with self._lock:
            self._owed_listed = len(self._owed)
            return (*await self._blocking.run(self._pending), *self._owed[: self._owed_listed])

    async def archive(self) -> None:
        """Set aside what the last `pending` read; call only after its import committed. Raises OSError."""
        async with self._lock:
            await self._blocking.run(self._archive)
            del self._owed[: self._owed_listed]
            self._owed_listed = 0
            self._has_news = self._appended >= self._unlisted
            self._listed = []

    async def keep_room(self) -> None:
        """Take room on the disk for the day it is full; where there is none any more, only say so."""
        async with self._lock:
            try:
                await self._blocking.run(self._keep_room)
            except OSError as error:
                log.error("the intent journal has no room of its own: %s", error)

    def _path(self, number: int) -> Path:
        return self._directory / f"intents-{number:06d}.journal"

    def _first(self) -> int:
        text = self._files.read(self._directory / NEXT)
        try:
            return int(text) if text else 1
        except ValueError:
            log.error("%s is unreadable; every journal file is looked at", NEXT)
            return 1

    def _scan(self) -> tuple[list[tuple[Path, bytes]], int]:
        """Files not archived with their content, and the first number that no file has.

        The directory is locked: behind the file that this life appends to there is none.
        """
        found, number, missing = [], self._first(), 0
        free = number
        while missing < LOOK_AHEAD if self._number is None else number <= self._number:
            path = self._path(number)
            data = self._files.read(path)
            number += 1
            if data is None and self._files.read(path.with_name(path.name + IMPORTED)) is None:
                missing += 1
                continue
            missing, free = 0, number
            if data is not None:
                found.append((path, data))
        return found, free

    def _keep_room(self) -> None:
        reserve = self._directory / RESERVE
        kept = self._files.read(reserve)
        if kept is None or len(kept) != RESERVE_BYTES:
            self._files.replace(reserve, bytes(RESERVE_BYTES))

    def _append(self, data: bytes) -> None:
        try:
            self._append_once(data)
        except OSError as error:
            if error.errno not in NO_ROOM or self._files.read(self._directory / RESERVE) is None:
                raise
            log.critical("the disk is full: the intent journal uses the room it kept")
            self._files.remove(self._directory / RESERVE)
            self._append_once(data)

    def _append_once(self, data: bytes) -> None:
        if self._number is None:
            self._number = self._scan()[1]
        path = self._path(self._number)
        try:
            self._files.append(path, data)
            self._appended = self._number
        except OSError:
            # After a failed sync the kernel may call the lost pages clean: a later success would prove nothing.
            log.exception("the intent journal could not be synced; a new file follows %s", path.name)
            if self._was_touched(path):
                self._number += 1
            raise

    def _was_touched(self, path: Path) -> bool:
        try:
            return self._files.read(path) is not None
        except OSError:
            return True

    def _pending(self) -> tuple[JournalRecord, ...]:
        found, free = self._scan()
        self._number = self._unlisted = max(free, self._number or 0)  # appended from now on, it is not in this listing
        self._listed = [path for path, _ in found]
        records: list[JournalRecord] = []
        for path, data in found:
            intact, torn = parse(data)
            records += intact
            if torn:
                log.error("%s: %d torn lines dropped, %d records kept", path.name, torn, len(intact))
        return tuple(records)

    def _archive(self) -> None:
        for path in self._listed:
            self._files.rename(path, path.with_name(path.name + IMPORTED))
        if self._listed:
            self._files.replace(self._directory / NEXT, b"%d" % (self._number_of(self._listed[-1]) + 1))

    def _number_of(self, path: Path) -> int:
        return int(path.name.removeprefix("intents-").removesuffix(".journal"))

"""The book's file: one line for the whole book, then a line for each change.

A line is written with one call before the answer to its request leaves, so a killed process finds again
everything it ever confirmed. Nothing is synced to the disk: the paper exchange promises to survive the death of
its process, not of its machine, and a sync would stall the desk's loop for milliseconds at every fill.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from brokers.paper.book import Book, Change
from engine.errors import DeskUnusable
from engine.ports import Files

log = logging.getLogger(__name__)

HEADER = b'{"format":"sextant paper book","version":1}\n'
COMPACT_BYTES = 1_000_000


class UnsyncedFiles:
    """Files without syncing: quick, and safe against the death of a process only."""

    def append(self, path: Path, data: bytes) -> None:
        """Append in one write; creates the file 0600. Raises OSError."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(f"only a part of {len(data)} bytes was written")
        finally:
            os.close(descriptor)

    def replace(self, path: Path, data: bytes) -> None:
        """Write a new file 0600 beside and rename it over. Raises OSError."""
        beside = path.with_name(f"{path.name}.new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        beside.replace(path)

    def read(self, path: Path) -> bytes | None:
        """Whole content, None when the file does not exist. Raises OSError."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def rename(self, path: Path, to: Path) -> None:
        """Rename. Raises OSError."""
        path.rename(to)

    def remove(self, path: Path) -> None:
        """Remove if present. Raises OSError."""
        path.unlink(missing_ok=True)


class BookFile:
    """Keeps a Book in `path`. Raises DeskUnusable from `load` for a file that is not a book or is damaged."""

    def __init__(self, path: Path, files: Files) -> None:
        self._path = path
        self._files = files
        self._encoder = msgspec.json.Encoder()
        self._appended = 0
        self._whole_size = 0
        self._behind = False

    def load(self, book: Book) -> None:
        """Fold the file into an empty book. The first change rewrites it compactly; a desk turned away never does."""
        try:
            content = self._files.read(self._path)
        except OSError as error:
            raise DeskUnusable(f"{self._path}: the paper book cannot be read ({error.strerror or error})") from None
        if content is not None:
            self._fold(book, content)
        self._behind = True

    def _fold(self, book: Book, content: bytes) -> None:
        if not content.startswith(HEADER):
            raise DeskUnusable(f"{self._path} is not a paper book of this version; move it away to start a new one")
        decoder = msgspec.json.Decoder(Change)
        lines = content[len(HEADER) :].split(b"\n")
        # After the last newline there is nothing, or the torn rest of a line that nobody got an answer to.
        for number, line in enumerate(lines[:-1], start=2):
            try:
                book.apply(decoder.decode(line))
            except msgspec.DecodeError as error:
                raise DeskUnusable(f"{self._path}: line {number} of the paper book is damaged ({error})") from None
        if lines[-1]:
            log.warning("%s: dropped a torn last line of %d bytes", self._path, len(lines[-1]))

    def write(self, book: Book) -> None:
        """Keep what changed since the last write; nothing when nothing did. Never raises.

        A file that cannot be written is logged, and the next write that succeeds holds the whole book.
        """
        change = book.take_change()
        if change is None:
            return
        if self._behind or self._appended > max(COMPACT_BYTES, 2 * self._whole_size):
            self.rewrite(book)
            return
        line = self._encoder.encode(change) + b"\n"
        try:
            self._files.append(self._path, line)
        except OSError:
            self._behind = True
            log.exception("%s: the paper book cannot be written; a kill now would lose changes", self._path)
            return
        self._appended += len(line)

    def rewrite(self, book: Book) -> None:
        """Replace the file by one line that holds the whole book, marks included. Never raises."""
        data = HEADER + self._encoder.encode(book.whole()) + b"\n"
        try:
            self._files.replace(self._path, data)
        except OSError:
            self._behind = True
            log.exception("%s: the paper book cannot be written; a kill now would lose changes", self._path)
            return
        self._behind = False
        self._appended = 0
        self._whole_size = len(data)

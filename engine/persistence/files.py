"""File calls that durability rests on: what they return from is on the disk."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def make_private_directory(path: Path) -> None:
    """Create a directory and its missing parents 0700; one that exists keeps its mode. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)


def sync_directory(path: Path) -> None:
    """Make a directory's entries durable (a new or renamed file is lost with its entry). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_parent(path: Path) -> None:
    if not path.parent.exists():
        make_private_directory(path.parent)
        sync_directory(path.parent.parent)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class RealFiles:
    """Files on the machine's own disk."""

    def append(self, path: Path, data: bytes) -> None:
        """Append and fdatasync; creates the file 0600, and its directory 0700. Raises OSError."""
        is_new = not path.exists()
        if is_new:
            _make_parent(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
        try:
            _write_all(descriptor, data)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_directory(path.parent)

    def replace(self, path: Path, data: bytes) -> None:
        """Write a new file 0600 beside, fsync, rename over, fsync the directory (made if need be). Raises OSError."""
        _make_parent(path)
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.rename(beside, path)

    def read(self, path: Path) -> bytes | None:
        """Whole content, None when the file does not exist. Raises OSError."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def rename(self, path: Path, to: Path) -> None:
        """Rename and fsync the directory. Raises OSError."""
        path.replace(to)
        sync_directory(to.parent)

    def remove(self, path: Path) -> None:
        """Remove if present and fsync the directory. Raises OSError."""
        try:
            path.unlink()
        except FileNotFoundError:
            return
        sync_directory(path.parent)

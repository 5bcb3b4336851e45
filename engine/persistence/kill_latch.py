"""The synced file half of the kill latch: it holds without a database, and a doubt means set."""

from __future__ import annotations

from pathlib import Path

from engine.ports import Files


class FileKillLatch:
    """A file whose presence means kill; its content is the reason, for people."""

    def __init__(self, path: Path, files: Files) -> None:
        self._path = path
        self._files = files

    def is_set(self) -> bool:
        """Whether the file is there, or cannot be read."""
        try:
            return self._files.read(self._path) is not None
        except OSError:
            return True

    def set(self, reason: str) -> None:
        """Write and sync. Raises OSError."""
        self._files.replace(self._path, (reason + "\n").encode("utf-8", "replace"))

    def release(self) -> None:
        """Remove and sync. Raises OSError."""
        self._files.remove(self._path)

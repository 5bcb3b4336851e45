"""What can happen to an audit trail: each trouble begins when entered and ends when left."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from engine.persistence import sqlite
from engine.persistence.files import RealFiles
from tests.outage.desk import RunningDesk
from tests.postgres import Cluster

LOCKER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA busy_timeout = 20000")
database.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    """A fast shutdown, then a start."""
    cluster.stop()
    try:
        yield
    finally:
        cluster.start()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process holds the write lock."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCKER, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            other.kill()


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is left on that filesystem, and whoever frees some sees it taken again."""
    ballast, stop = disk / "ballast", threading.Event()

    def fill() -> None:
        with ballast.open("ab", buffering=0) as file:
            while not stop.wait(0.001):
                for size in (65_536, 4096, 256, 1):
                    with suppress(OSError):
                        while file.write(bytes(size)) == size and not stop.is_set():
                            pass

    filler = threading.Thread(target=fill)
    filler.start()
    try:
        yield
    finally:
        stop.set()
        filler.join()
        ballast.unlink()


class _Hung:
    """Calls that come back when they are let go."""

    def __init__(self) -> None:
        self._free = threading.Event()
        self._free.set()

    def pass_(self) -> None:
        self._free.wait()

    @contextmanager
    def hold(self) -> Iterator[None]:
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()


@contextmanager
def sync_hangs() -> Iterator[None]:
    """The database's next commit hangs in the disk, and every one behind it; it holds when it comes back."""
    hung = _Hung()
    real = sqlite._OneHop.execute

    def execute(self: Any, sql: str, parameters: Any = ()) -> Any:
        if sql is sqlite.TRANSACT:
            hung.pass_()
        return real(self, sql, parameters)

    with pytest.MonkeyPatch.context() as patch, hung.hold():
        patch.setattr(sqlite._OneHop, "execute", execute)
        yield


@contextmanager
def journal_hangs() -> Iterator[None]:
    """The journal's fdatasync hangs."""
    hung = _Hung()
    real = RealFiles.append

    def append(self: RealFiles, path: Path, data: bytes) -> None:
        real(self, path, data)
        hung.pass_()

    with pytest.MonkeyPatch.context() as patch, hung.hold():
        patch.setattr(RealFiles, "append", append)
        yield


@contextmanager
def both(*troubles: AbstractContextManager[Any]) -> Iterator[None]:
    """All of them at once."""
    with ExitStack() as stack:
        for trouble in troubles:
            stack.enter_context(trouble)
        yield


@contextmanager
def poisoned(desk: RunningDesk) -> Iterator[None]:
    """A row that the database refuses for ever stands in the queue."""

    async def poison() -> None:
        desk.store._written().record("poison", [("INSERT INTO log (at) VALUES (?)", (None,))])

    desk.on_loop(poison())
    yield


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A filesystem of its own; skips, with the reason, where none can be made."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no small filesystem can be made here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)

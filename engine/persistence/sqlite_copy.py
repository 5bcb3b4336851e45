"""A verified copy of a desk's database, set aside before anything changes its schema."""

from __future__ import annotations

import os
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from engine.domain.ids import Millis
from engine.errors import DeskUnusable
from engine.persistence.files import PRIVATE_FILE, sync_directory
from engine.persistence.sqlite_file import DISTRUST

COPY = ".backup"
PAGES_AT_ONCE = 4096
ROOM = 1.1  # a copy and its verification, beside what the step itself will write
# Table names cannot be bound; these come from the schema, and are quoted by SQLite itself.
COUNTS = """
SELECT group_concat('SELECT ' || quote(name) || ', count(*) FROM "' || replace(name, '"', '""') || '"', ' UNION ALL ')
FROM sqlite_master WHERE type = 'table'
"""


def set_aside(path: Path, version: int, at: Millis) -> Path:
    """Copy the database beside itself (0600, named with schema and moment), verify the copy, make it durable.

    Works on a database that is open. Raises DeskUnusable; no half-made copy is left under the name.
    """
    moment = datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H%M%SZ")
    copy = path.with_name(f"{path.name}.schema-{version}.{moment}{COPY}")
    beside = copy.with_name(f".{copy.name}.new")
    try:
        size = sum(place.stat().st_size for place in (path, path.with_name(path.name + "-wal")) if place.exists())
        free = shutil.disk_usage(path.parent).free
        if free < size * ROOM:
            raise DeskUnusable(
                f"{path} is not changed before a copy of it is set aside, and {path.parent} has no room for one "
                f"({size / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free); make room."
            )
        _discard(beside)
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE_FILE))
        _copy(path, beside)
        beside.replace(copy)
        sync_directory(copy.parent)
    except (OSError, sqlite3.Error) as error:
        _discard(beside)
        raise DeskUnusable(
            f"{path} is not changed before a copy of it is set aside, and that failed: {error}."
        ) from error
    return copy


def _copy(path: Path, beside: Path) -> None:
    source = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    try:
        target = sqlite3.connect(beside, isolation_level=None)
        try:
            for connection in (source, target):
                connection.execute(DISTRUST)
            source.backup(target, pages=PAGES_AT_ONCE)
            # one file that needs no companions, whatever is copied where
            target.execute("PRAGMA journal_mode = DELETE")
            found = [str(row[0]) for row in target.execute("PRAGMA integrity_check")]
            if found != ["ok"]:
                raise sqlite3.DatabaseError(f"the copy is damaged ({found[0]}), and so is the database")
            if _counts(source) != _counts(target):
                raise sqlite3.DatabaseError("the copy does not hold the rows of the database")
        finally:
            target.close()
    finally:
        source.close()
    descriptor = os.open(beside, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _counts(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    ((question,),) = connection.execute(COUNTS).fetchall()
    return sorted(connection.execute(question).fetchall())


def _discard(beside: Path) -> None:
    for place in (beside, beside.with_name(beside.name + "-journal")):
        place.unlink(missing_ok=True)

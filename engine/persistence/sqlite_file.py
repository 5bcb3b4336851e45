"""Whose file is this? Looked at before SQLite may touch it, so that what is not ours stays as it is."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

from msgspec import Struct

from engine.errors import DeskUnusable
from engine.persistence.files import PRIVATE_FILE, make_private_directory, sync_directory

# "SXT1": SQLite keeps four bytes in a file's header for the program that owns it (sqlite.org/fileformat2.html).
APPLICATION_ID = 0x53585431
HEADER_BYTES = 100
MAGIC = b"SQLite format 3\0"
NETWORK_FILESYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "coda", "ncpfs", "9p", "vboxsf", "ceph", "lustre"),
        *("beegfs", "orangefs", "gpfs", "fuse.sshfs", "fuse.glusterfs", "fuse.davfs2", "fuse.ceph-fuse"),
        *("fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.vmhgfs-fuse"),
    }
)
# What stands in a file's schema never runs a function of ours.
DISTRUST = "PRAGMA trusted_schema = OFF"
MARK_OWNER = f"PRAGMA application_id = {APPLICATION_ID}"
FOUNDATION = """
BEGIN;
CREATE TABLE sextant (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied BIGINT NOT NULL);
INSERT INTO sextant (name, value) VALUES ('product', 'sextant');
COMMIT;
"""


class Header(Struct, frozen=True):
    """What the first hundred bytes say; `version` may lag behind what the write-ahead log holds."""

    version: int


def filesystem_of(path: Path, mounts: str) -> str:
    """The kind of filesystem that holds `path`, from the text of /proc/mounts; empty when it does not say."""
    best, kind = "", ""
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = words[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = point == "/" or path == Path(point) or Path(point) in path.parents
        if inside and len(point) >= len(best):
            best, kind = point, words[2]
    return kind


def refuse_network(path: Path) -> None:
    """Raise DeskUnusable for a path on a network filesystem: its locks and syncs cannot be trusted."""
    try:
        mounts = Path("/proc/mounts").read_text("utf-8", "replace")
    except OSError:
        return
    if (kind := filesystem_of(path.resolve(), mounts)) in NETWORK_FILESYSTEMS:
        raise DeskUnusable(
            f"{path} lies on a network filesystem ({kind}), where locks and syncs may not hold; use a local disk."
        )


def read_header(path: Path) -> Header | None:
    """The header of our file, None when there is no file. Raises DeskUnusable when it is not ours."""
    try:
        with path.open("rb") as file:
            data = file.read(HEADER_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeskUnusable(f"{path} cannot be read: {error.strerror}.") from error
    if not data:
        raise DeskUnusable(f"{path} is an empty file, not a Sextant database; remove it or name another.")
    if not data.startswith(MAGIC) or len(data) < HEADER_BYTES:
        raise DeskUnusable(f"{path} is not a Sextant database (it is not an SQLite file).")
    if int.from_bytes(data[68:72], "big") != APPLICATION_ID:
        raise DeskUnusable(f"{path} is the database of another program, not of Sextant.")
    return Header(int.from_bytes(data[60:64], "big"))


def refuse_newer(path: Path, version: int, newest: int) -> None:
    """Raise DeskUnusable for a schema that a later program made."""
    if version > newest:
        raise DeskUnusable(
            f"{path} was written by a newer Sextant (schema {version}; this program speaks {newest}): upgrade it."
        )


def is_writable(place: Path) -> bool:
    """Whether mode and filesystem let us write.

    The mode counts even for root, who could write anyway: somebody took the permission away on purpose.
    """
    writable = place.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    return bool(writable) and os.access(place, os.W_OK)


def refuse_read_only(path: Path) -> None:
    """Raise DeskUnusable when the file or its directory may not be written."""
    for place, word in ((path.parent, "directory"), (path, "file")):
        if place.exists() and not is_writable(place):
            raise DeskUnusable(f"The {word} {place} is read-only; a desk must be able to write its database.")


def create(path: Path) -> None:
    """Make a new database with its marks and no schema yet. Raises DeskUnusable.

    Built beside and renamed: a crash leaves no half-made file under the name, so an empty file is never ours.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        for old in (beside, beside.with_name(beside.name + "-journal")):
            old.unlink(missing_ok=True)
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE_FILE))
        connection = sqlite3.connect(beside, isolation_level=None)
        try:
            connection.execute(DISTRUST)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(MARK_OWNER)
            connection.executescript(FOUNDATION)
        finally:
            connection.close()
        beside.replace(path)
        sync_directory(path.parent)
    except (OSError, sqlite3.Error) as error:
        beside.unlink(missing_ok=True)
        raise DeskUnusable(f"{path} cannot be created: {error}.") from error


def make_private(path: Path) -> None:
    """Take other users' access away from the file and its companions; SQLite copies the mode to new ones."""
    for place in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        if place.exists() and stat.S_IMODE(place.stat().st_mode) & 0o077:
            place.chmod(PRIVATE_FILE)


def prepare_directory(path: Path) -> None:
    """Make the database's directory 0700 when it is missing. Raises DeskUnusable."""
    try:
        make_private_directory(path.parent)
    except OSError as error:
        raise DeskUnusable(f"The directory {path.parent} cannot be made: {error.strerror}.") from error

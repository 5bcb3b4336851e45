"""The door of an exchange process: a unix socket for its owner alone, and locks so that there is only one.

A socket that nobody listens on is the trace of a killed process and is removed; one that answers is left alone.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path

from engine.errors import DeskUnusable

LONGEST_PATH = 100
"""Bytes; the kernel's own limit is 107, and some systems have 103."""


def private_directory(path: Path) -> Path:
    """Make the directory for its owner alone (0700), or check the one that is there. Raises DeskUnusable."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise DeskUnusable(f"{path} cannot be used as a directory ({error.strerror})") from None
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise DeskUnusable(
            f"{path} can be entered by others; name a directory of your own (chmod 700), or one to be made"
        )
    return path


def hold(path: Path, what: str) -> int:
    """Lock `path`.lock until the process ends; its descriptor. Raises DeskUnusable naming the holder."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeskUnusable(f"{lock} cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 100, 0).decode("utf-8", "replace").strip()
        os.close(descriptor)
        raise DeskUnusable(f"{what} {path} is in use by {holder or 'another process'}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
    return descriptor


def listening(path: Path) -> socket.socket:
    """A bound socket (0600) at `path`, whose directory is private. Raises DeskUnusable; a live one is never taken."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise DeskUnusable(f"{path} is too long for a socket ({LONGEST_PATH} bytes at most); name a shorter one")
    _remove_stale(path)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        door.bind(str(path))
    except OSError as error:
        door.close()
        raise DeskUnusable(f"{path} cannot become a socket ({error.strerror})") from None
    finally:
        os.umask(before)
    door.setblocking(False)
    return door


def remove(path: Path) -> None:
    """Take our socket away."""
    path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise DeskUnusable(f"{path} cannot be looked at ({error.strerror})") from None
    if not stat.S_ISSOCK(kind):
        raise DeskUnusable(f"{path} is there already and is no socket; name another --socket")
    knock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        knock.connect(str(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DeskUnusable(f"{path} is there already and cannot be tried ({error.strerror})") from None
    else:
        raise DeskUnusable(f"an exchange answers on {path} already; stop it, or name another --socket")
    finally:
        knock.close()

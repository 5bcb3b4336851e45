"""Locks that the kernel drops with the process: one desk per directory, one engine per account of this user."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.domain.ids import AccountId
from engine.errors import DeskHeld, DeskUnusable
from engine.persistence.files import PRIVATE_FILE, make_private_directory

DESK_LOCK = "desk.lock"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Held:
    """A lock file held with flock; its content says who holds it, for the sentence that the second one gets."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def proof(self) -> str:
        """Names this very lock for as long as the machine runs: a file of the same name elsewhere is another one."""
        status = os.fstat(self._descriptor)
        return f"{_boot()}:{status.st_dev:x}:{status.st_ino:x}"

    def release(self) -> None:
        """Let go; the file stays, because removing it would let two hold two files of one name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _boot() -> str:
    """This run of the machine's kernel; empty where it does not say."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def hold(path: Path, owner: str) -> Held | str:
    """The lock, or what its present holder wrote into it. Raises OSError when the file cannot be made."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 500, 0).decode("utf-8", "replace").strip()
        os.close(descriptor)
        return holder or "another process"
    except OSError:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{owner}\n".encode(), 0)
    return Held(descriptor)


def hold_desk(directory: Path) -> Held:
    """The directory's desk lock. Raises DeskHeld naming the holder, DeskUnusable when it cannot be had at all."""
    try:
        held = hold(directory / DESK_LOCK, f"process {os.getpid()}")
    except OSError as error:
        raise DeskUnusable(f"The desk in {directory} cannot be locked: {error.strerror}.") from error
    if isinstance(held, str):
        raise DeskHeld(f"Another desk ({held}) uses {directory}; stop it, or choose another state directory.")
    return held


def lock_directory(environment: Mapping[str, str]) -> Path:
    """Where account locks live: per user, not per desk, so that two state directories see each other."""
    state = Path(environment.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # the XDG rule: a relative value is to be ignored
        state = Path(environment.get("HOME") or Path.home()) / ".local" / "state"
    return state / "sextant" / "locks"


class FileAccountLock:
    """AccountLock over flock in a per-user directory (0700).

    `desk` is how a refused second engine names this one. `identity` widens an account's name to what it stands
    for (broker, environment, a paper account's book); by default the name itself.
    """

    def __init__(
        self, directory: Path, desk: str, identity: Callable[[AccountId], str] = lambda account: account
    ) -> None:
        self._directory = directory
        self._desk = desk
        self._identity = identity
        self._held: dict[AccountId, Held] = {}

    def acquire(self, account: AccountId) -> str | None:
        """None when obtained (or held already), else a sentence naming the holder.

        Raises DeskUnusable when the lock cannot be had at all.
        """
        if account in self._held:
            return None
        digest = hashlib.blake2b(self._identity(account).encode(), digest_size=12).hexdigest()
        try:
            make_private_directory(self._directory)
            held = hold(self._directory / f"{digest}.lock", f"process {os.getpid()} of the desk {self._desk}")
        except OSError as error:
            said = f"Account {account} cannot be locked in {self._directory}: {error.strerror}."
            raise DeskUnusable(said) from error
        if isinstance(held, str):
            return f"Account {account} is commanded by {held}."
        self._held[account] = held
        return None

    def proof(self, account: AccountId) -> str:
        """Identity of a lock that is held, empty where this machine cannot tell its locks apart over time."""
        return self._held[account].proof if _boot() else ""

    def release_all(self) -> None:
        """Let go of everything held."""
        for held in self._held.values():
            held.release()
        self._held.clear()

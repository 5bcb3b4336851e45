"""Who commands an account, and the file half of the kill latch."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.domain.ids import AccountId
from engine.errors import DeskUnusable
from engine.persistence.files import RealFiles
from engine.persistence.kill_latch import FileKillLatch
from engine.persistence.lease import FileAccountLock, lock_directory

A, B = AccountId("SIM-1"), AccountId("SIM-2")


def test_a_second_desk_on_one_account_is_told_who_holds_it(tmp_path: Path) -> None:
    first, second = FileAccountLock(tmp_path / "locks", "/desk/one"), FileAccountLock(tmp_path / "locks", "/desk/two")
    assert first.acquire(A) is None
    assert first.acquire(A) is None
    said = second.acquire(A)
    assert said == f"Account SIM-1 is commanded by process {os.getpid()} of the desk /desk/one."
    assert second.acquire(B) is None
    first.release_all()
    assert second.acquire(A) is None


def test_the_kernel_frees_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from engine.persistence.lease import FileAccountLock\n"
        "lock = FileAccountLock(pathlib.Path(sys.argv[1]), 'dead desk')\n"
        "print(lock.acquire('SIM-1'), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "None\n"
        mine = FileAccountLock(tmp_path, "mine")
        assert f"process {other.pid} of the desk dead desk" in str(mine.acquire(A))
        other.kill()
        other.wait()
    assert mine.acquire(A) is None


def test_identity_keeps_two_paper_books_apart_and_one_together(tmp_path: Path) -> None:
    one = FileAccountLock(tmp_path, "one", lambda account: f"paper:/books/one:{account}")
    same = FileAccountLock(tmp_path, "same", lambda account: f"paper:/books/one:{account}")
    other = FileAccountLock(tmp_path, "other", lambda account: f"paper:/books/two:{account}")
    assert one.acquire(A) is None
    assert other.acquire(A) is None
    assert same.acquire(A) is not None


def test_lock_files_are_private_and_name_no_account(tmp_path: Path) -> None:
    FileAccountLock(tmp_path / "locks", "desk").acquire(A)
    (file,) = (tmp_path / "locks").iterdir()
    assert "SIM" not in file.name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "locks").stat().st_mode) == 0o700


def test_a_lock_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeskUnusable, match="Account SIM-1 cannot be locked"):
        FileAccountLock(tmp_path / "file" / "locks", "desk").acquire(A)


def test_only_the_very_same_lock_proves_that_its_former_holder_has_ended(tmp_path: Path) -> None:
    first = FileAccountLock(tmp_path / "locks", "desk")
    first.acquire(A)
    first.acquire(B)
    proof = first.proof(A)
    assert proof != first.proof(B)
    first.release_all()
    again, elsewhere = FileAccountLock(tmp_path / "locks", "desk"), FileAccountLock(tmp_path / "there", "desk")
    again.acquire(A)
    elsewhere.acquire(A)
    assert again.proof(A) == proof
    assert elsewhere.proof(A) != proof


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/sextant/locks"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/sextant/locks"),
        ({"HOME": "/h"}, "/h/.local/state/sextant/locks"),
    ],
)
def test_locks_live_per_user(environment: dict[str, str], expected: str) -> None:
    assert lock_directory(environment) == Path(expected)


def test_the_latch_holds_across_lives_and_is_released(tmp_path: Path) -> None:
    latch = FileKillLatch(tmp_path / "kill", RealFiles())
    assert not latch.is_set()
    latch.release()
    latch.set("enough")
    assert FileKillLatch(tmp_path / "kill", RealFiles()).is_set()
    assert stat.S_IMODE((tmp_path / "kill").stat().st_mode) == 0o600
    latch.release()
    assert not latch.is_set()


def test_a_latch_that_cannot_be_read_is_set(tmp_path: Path) -> None:
    (tmp_path / "kill").mkdir()
    assert FileKillLatch(tmp_path / "kill", RealFiles()).is_set()
    (tmp_path / "empty").write_bytes(b"")
    assert FileKillLatch(tmp_path / "empty", RealFiles()).is_set()


def test_replacing_a_file_survives_a_left_over_of_a_crash(tmp_path: Path) -> None:
    (tmp_path / ".kill.new").write_bytes(b"half")
    files = RealFiles()
    files.replace(tmp_path / "kill", b"whole")
    assert files.read(tmp_path / "kill") == b"whole"
    assert files.read(tmp_path / "none") is None
    files.rename(tmp_path / "kill", tmp_path / "moved")
    files.remove(tmp_path / "moved")
    files.remove(tmp_path / "moved")
    assert list(tmp_path.iterdir()) == []


def test_what_is_appended_or_replaced_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def seen(descriptor: int) -> None:
            synced.append(f"{name} {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
            real(descriptor)

        monkeypatch.setattr(os, name, seen)

    watch("fsync")
    watch("fdatasync")
    files = RealFiles()
    folder = tmp_path.name
    files.append(tmp_path / "log", b"a")
    assert synced == ["fdatasync log", f"fsync {folder}"]
    synced.clear()
    files.append(tmp_path / "log", b"b")
    assert synced == ["fdatasync log"]
    synced.clear()
    files.replace(tmp_path / "kill", b"x")
    assert synced == ["fsync .kill.new", f"fsync {folder}"]
    synced.clear()
    files.remove(tmp_path / "kill")
    assert synced == [f"fsync {folder}"]


def test_a_failed_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output"):
        RealFiles().append(tmp_path / "log", b"a")

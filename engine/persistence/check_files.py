"""What lies beside the database: journal files, the latch file, and who may read all of it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from engine.domain.findings import Finding
from engine.persistence.intent_journal import IMPORTED, NEXT, parse

FILE = re.compile(r"intents-(\d{6,})\.journal")
OTHERS = 0o077


def journal_files(directory: Path) -> Finding:
    """Records that wait, lines that are torn, files that the next start would not look at."""
    check = "intent journal"
    try:
        names = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
        first = _first(directory)
        waiting, torn, passed_over, broken = 0, 0, [], []
        pending = [(name, int(found[1])) for name in names if (found := FILE.fullmatch(name))]
        for name, number in pending:
            data = (directory / name).read_bytes()
            records, bad = parse(data)
            waiting += len(records)
            torn += bad
            if bad and not _only_tail_is_torn(data, bad):
                broken.append(name)
            if number < first and records:
                passed_over.append(name)
    except OSError as error:
        return Finding(
            check=check,
            ok=False,
            detail=f"cannot be read: {error}",
            way_out="a start refuses until it can be read: make it readable",
        )
    archived = sum(1 for name in names if name.endswith(IMPORTED))
    detail = f"{waiting} records wait in {len(pending)} files, {archived} files were imported"
    if waiting:
        detail += "; the next start imports what waits"
    if passed_over:
        return Finding(
            check=check,
            ok=False,
            detail=f"{detail}; {', '.join(passed_over)} lies before the first file that a start looks at",
            way_out=f"remove {directory / NEXT}: the next start then looks at every file, and importing twice is safe",
        )
    if broken:
        return Finding(
            check=check,
            ok=False,
            detail=f"{detail}; {torn} lines are damaged, not only at the end, in {', '.join(broken)}",
            way_out="keep a copy; what is whole is imported, and the broker tells of the rest",
        )
    if torn:
        detail += f"; {torn} torn at the end, as a crash leaves it"
    return Finding(check=check, ok=True, detail=detail)


def _first(directory: Path) -> int:
    try:
        return int((directory / NEXT).read_text() or 1)
    except (FileNotFoundError, ValueError):
        return 1


def _only_tail_is_torn(data: bytes, torn: int) -> bool:
    lines = [line for line in data.split(b"\n") if line]
    return torn == 1 and bool(parse(lines[-1])[1])


def kill_latch(path: Path, row_held: bool | None) -> Finding:
    """The file against the row; `row_held` is None when the row could not be read. Either one holds entries."""
    file_set = os.path.lexists(path)
    if row_held is None or file_set == row_held:
        detail = "set, by file and row: entries are off" if file_set else "not set"
        if row_held is None:
            detail = f"the file is {'there: entries are off' if file_set else 'not there'}; the row is not known"
        return Finding(check="kill latch", ok=True, detail=detail)
    halves = "the file is there, the row is not" if file_set else "the row is held, the file is not there"
    return Finding(
        check="kill latch",
        ok=False,
        detail=f"{halves}; entries are off",
        way_out="decide in the console: K sets both, R releases both",
    )


def modes(paths: list[Path]) -> Finding:
    """Directories and files that somebody else could read, or that are not ours."""
    wrong: list[str] = []
    seen = 0
    for path in paths:
        try:
            status = path.lstat()
        except OSError:
            continue
        seen += 1
        if stat.S_ISLNK(status.st_mode):
            wrong.append(f"{path} is a link")
        elif status.st_uid != os.geteuid():
            wrong.append(f"{path} belongs to somebody else")
        elif mode := stat.S_IMODE(status.st_mode) & OTHERS:
            wrong.append(f"{path} is open to others ({stat.S_IMODE(status.st_mode):03o}, of which {mode:03o})")
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        return Finding(
            check="file modes",
            ok=False,
            detail=f"{wrong[0]}{more}",
            way_out="chmod -R go= on the state directory, and chown it to the user that runs the desk",
        )
    return Finding(check="file modes", ok=True, detail=f"{seen} files and directories, for this user alone")


def files_of(state: Path, database: Path | None) -> list[Path]:
    """Everything of a desk on this machine: its directory with all in it, and the database with its companions."""
    found = [state, *(sorted(state.rglob("*")) if state.is_dir() else ())]
    if database is not None:
        beside = sorted(database.parent.glob(f"{database.name}*")) if database.parent.is_dir() else []
        found += [path for path in beside if path not in found]
    return found

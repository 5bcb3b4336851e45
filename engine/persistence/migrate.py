"""Numbered migrations, forward only: each is applied in one transaction together with its version row.

Each database has a folder of its own in its own words; a number means the same tables and columns in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from engine.domain.ids import Millis
from engine.persistence.connection import Statement

FOLDER = Path(__file__).parent / "migrations"
SQLITE = FOLDER / "sqlite"
POSTGRES = FOLDER / "postgres"


class Migration(Struct, frozen=True):
    """One step of the schema; `version` is what the schema is after it."""

    version: int
    name: str
    statements: tuple[str, ...]


def split(script: str) -> Iterator[str]:
    """The statements of a script. A statement ends with `;` at a line's end; `--` comments are dropped."""
    plain = re.sub(r"--[^\n]*", "", script)
    for part in re.split(r";\s*(?:\n|\Z)", plain):
        if part.strip():
            yield part.strip()


def migrations(folder: Path | None = None) -> tuple[Migration, ...]:
    """All steps in order, of SQLite unless a folder is named. Raises ValueError when a number is missing or doubled."""
    steps, folder = [], folder or SQLITE
    for path in sorted(folder.glob("*.sql")):
        number, _, name = path.stem.partition("_")
        steps.append(Migration(int(number), name, tuple(split(path.read_text("utf-8")))))
    if [step.version for step in steps] != list(range(1, len(steps) + 1)):
        raise ValueError(f"migrations in {folder} are not numbered 1, 2, 3, …")
    return tuple(steps)


def newest_version() -> int:
    """The schema this program speaks, the same in every database."""
    return len(migrations())


def behind(place: str, version: int) -> str:
    """The sentence for who wants to read an older schema without changing it."""
    return (
        f"{place} has schema {version}, this program reads {newest_version()}; upgrade it with `sextant db upgrade` "
        "(a desk that starts does the same)."
    )


def transaction_of(step: Migration, at: Millis) -> list[Statement]:
    """The step and its version row, to be run as one transaction."""
    row = ("INSERT INTO migrations (version, name, applied) VALUES (?, ?, ?)", (step.version, step.name, at))
    return [*((statement, ()) for statement in step.statements), row]

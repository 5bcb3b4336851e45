"""A SQLite file looked at as a file: its place, its marks, its pages, the settings a desk would use."""

from __future__ import annotations

from pathlib import Path

from engine.domain.findings import Finding
from engine.errors import DeskUnusable, StoreError
from engine.persistence import sqlite_file as guard
from engine.persistence.check_rows import unreadable
from engine.persistence.sqlite import PRAGMAS, READER_PRAGMAS
from engine.ports import StoreConnection

DAMAGED = (
    "stop the desk and keep this file; put the newest sound copy in its place, or save what can be read with "
    "`sqlite3 FILE .recover`; the broker's records fill the rest at the next start"
)


def place(path: Path) -> list[Finding]:
    """What can be told without opening the database."""
    try:
        guard.refuse_network(path)
    except DeskUnusable as error:
        return [
            Finding(check="filesystem", ok=False, detail=str(error), way_out="move the state directory to a local disk")
        ]
    return [Finding(check="filesystem", ok=True, detail="local")]


async def file(path: Path, version: int, reader: StoreConnection) -> list[Finding]:
    """Settings read back, then every page, every index and every reference."""
    return [await _settings(path, version, reader), await _integrity(reader), await _references(reader)]


async def _settings(path: Path, version: int, reader: StoreConnection) -> Finding:
    way_out = "start the desk once: it sets them and reads them back, or refuses"
    try:
        ((mode,),) = await reader.query("PRAGMA journal_mode")
        ((header,),) = await reader.query("PRAGMA user_version")
        ((size,),) = await reader.query("PRAGMA page_size")
        ((count,),) = await reader.query("PRAGMA page_count")
    except StoreError as error:
        return unreadable("settings", error)
    log = path.with_name(path.name + "-wal")
    waiting = log.stat().st_size if log.exists() else 0
    wrong = [] if mode == "wal" else [f"journal_mode is {mode}, not wal"]
    if header != version:
        wrong.append(f"the file's header says schema {header}, its rows {version}")
    if wrong:
        return Finding(check="settings", ok=False, detail="; ".join(wrong), way_out=way_out)
    held = ", ".join(f"{name} {wanted}" for name, _, _, wanted in (*PRAGMAS[1:3], READER_PRAGMAS[-1]))
    detail = f"journal_mode wal, trusted_schema 0; {held} (read back at every opening); "
    return Finding(
        check="settings", ok=True, detail=f"{detail}{size * count / 1e6:.1f} MB and {waiting / 1e6:.1f} MB of log"
    )


async def _integrity(reader: StoreConnection) -> Finding:
    try:
        rows = [str(row[0]) for row in await reader.query("PRAGMA integrity_check(20)")]
    except StoreError as error:
        return Finding(check="integrity", ok=False, detail=f"the database is damaged: {error}", way_out=DAMAGED)
    if rows != ["ok"]:
        first = " ".join(rows[0].split())
        detail = f"the database is damaged: {first}" + (f" (and {len(rows) - 1} more)" if len(rows) > 1 else "")
        return Finding(check="integrity", ok=False, detail=detail, way_out=DAMAGED)
    return Finding(check="integrity", ok=True, detail="every page and every index (integrity_check)")


async def _references(reader: StoreConnection) -> Finding:
    try:
        rows = await reader.query("PRAGMA foreign_key_check")
    except StoreError as error:
        return unreadable("references", error)
    if rows:
        detail = f"{len(rows)} rows refer to rows that are not there, first in {rows[0][0]}"
        return Finding(check="references", ok=False, detail=detail, way_out=DAMAGED)
    return Finding(check="references", ok=True, detail="each row's reference exists (foreign_key_check)")

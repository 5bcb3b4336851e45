"""`sextant db check`: all that a desk keeps is looked at, and nothing of it changed."""

from __future__ import annotations

from pathlib import Path

from engine.domain.findings import Finding
from engine.errors import DeskUnusable, StoreError
from engine.persistence import check_files, check_sqlite
from engine.persistence.check_rows import rows_agree
from engine.persistence.connection import Connections
from engine.persistence.kept import Kept, reading
from engine.persistence.migrate import newest_version
from engine.ports import Blocking, Clock, StoreConnection

KILL_ROW = "SELECT held FROM latches WHERE scope = '' AND kind = 'kill'"
UPGRADE = "stop the desk, then `sextant db upgrade`"
NOT_OURS = "name the right database with --db, or the right state directory with --state-dir"


async def examine(desk: Kept, clock: Clock, blocking: Blocking) -> list[Finding]:
    """Look at everything, change nothing, beside a running desk or without. Never raises for what it finds."""
    found: list[Finding] = []
    held: bool | None = None
    if desk.file is not None:
        found += await blocking.run(lambda: check_sqlite.place(desk.file or Path()))
    database = reading(desk.database, clock, blocking)
    try:
        try:
            opened = await database.open()
        except DeskUnusable as error:
            found.append(Finding(check="database", ok=False, detail=str(error), way_out=NOT_OURS))
        else:
            found += await _database(desk, opened, database.before or 0, clock)
            held = await _kill_row(opened.reader)
    finally:
        await database.close()
    found.append(await blocking.run(lambda: check_files.journal_files(desk.journal)))
    found.append(await blocking.run(lambda: check_files.kill_latch(desk.latch, held)))
    found.append(await blocking.run(lambda: check_files.modes(check_files.files_of(desk.state, desk.file))))
    return found


async def _database(desk: Kept, opened: Connections, version: int, clock: Clock) -> list[Finding]:
    found = [Finding(check="database", ok=True, detail=f"{desk.place} carries Sextant's mark")]
    is_newest = version == newest_version()
    schema = f"schema {version}, as this program speaks it"
    if not is_newest:
        schema = f"schema {version}; this program speaks {newest_version()}, so its rows were not compared"
    found.append(Finding(check="schema", ok=is_newest, detail=schema, way_out="" if is_newest else UPGRADE))
    if isinstance(desk.database, Path):
        found += await check_sqlite.file(desk.database, version, opened.reader)
    else:
        from engine.persistence import check_postgres

        found += await check_postgres.server(opened.reader)
    if is_newest:
        found += await rows_agree(opened.reader, clock)
    return found


async def _kill_row(reader: StoreConnection) -> bool | None:
    try:
        return any(bool(row[0]) for row in await reader.query(KILL_ROW))
    except StoreError:
        return None

"""Whose database is this? Looked at in a session that writes nothing, so that what is not ours stays as it is."""

from __future__ import annotations

import asyncpg
from msgspec import Struct

from engine.domain.ids import Millis
from engine.domain.postgres_url import PostgresUrl
from engine.errors import DeskHeld, DeskUnusable
from engine.persistence.migrate import POSTGRES, migrations, newest_version, transaction_of
from engine.persistence.postgres_session import SCHEMA, Raw, client_name, numbered, said, sqlstate
from engine.ports import Clock

OLDEST_SERVER = 130_000
# "sextant1": one lock for each database of a server, held by the session that writes.
DESK_LOCK = int.from_bytes(b"sextant1", "big")
SERVER = """
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
    current_setting('server_encoding'), current_setting('fsync'), pg_is_in_recovery(),
    current_setting('synchronous_commit')
"""
# What an extension brought along is nobody's data.
LOOK = """
SELECT to_regclass('sextant.sextant') IS NOT NULL AND to_regclass('sextant.migrations') IS NOT NULL,
    to_regnamespace('sextant') IS NOT NULL,
    EXISTS (
        SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
            AND NOT EXISTS (
                SELECT 1 FROM pg_depend AS d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
            )
    )
"""
MARKS = "SELECT name, value FROM sextant.sextant WHERE name IN ('product', 'identity', 'writer')"
# Counts the desks that wrote here: one that lost its session must not go on behind the back of a later one.
NEXT_WRITER = """
INSERT INTO sextant.sextant (name, value) VALUES ('writer', '1')
ON CONFLICT (name) DO UPDATE SET value = (sextant.value::bigint + 1)::text
"""
LEASES = "SELECT account, epoch, renewed FROM sextant.leases WHERE released = 0 ORDER BY account"
VERSION = "SELECT coalesce(max(version), 0) FROM sextant.migrations"
HOLDER = """
SELECT l.pid, coalesce(a.application_name, '') FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid = ($1::bigint >> 32)::oid AND l.objid = ($1::bigint & 4294967295)::oid
"""
LOCK_NOT_AVAILABLE = "55P03"
NOT_ALLOWED = "42501"
MAKE_SCHEMA = f"CREATE SCHEMA {SCHEMA}"
FOUNDATION = (
    'CREATE TABLE sextant.sextant (name TEXT COLLATE "C" PRIMARY KEY, value TEXT COLLATE "C" NOT NULL)',
    'CREATE TABLE sextant.migrations (version BIGINT PRIMARY KEY, name TEXT COLLATE "C" NOT NULL, '
    "applied BIGINT NOT NULL)",
    "INSERT INTO sextant.sextant (name, value) VALUES ('product', 'sextant')",
    "INSERT INTO sextant.sextant (name, value) VALUES ('identity', gen_random_uuid()::text)",
)


class Found(Struct, frozen=True):
    """What a database holds: `version` is None when no desk was made in it; `identity` tells it from a copy's.

    `writer` is the number of the desk that began to write last.
    """

    version: int | None
    has_schema: bool = False
    identity: str = ""
    writer: str = ""


async def check_server(raw: Raw, url: PostgresUrl, *, read_only: bool) -> None:
    """Raise DeskUnusable for a server that cannot keep what it is given; read back, as SQLite's pragmas are."""
    number, version, encoding, fsync, is_standby, commit = await raw.fetchrow(SERVER)
    if number < OLDEST_SERVER:
        raise DeskUnusable(f"The server of {url.place} is PostgreSQL {version}; Sextant needs 13 or newer.")
    if encoding != "UTF8":
        raise DeskUnusable(f"The database {url.place} is encoded in {encoding}; make it with encoding UTF8.")
    if read_only:
        return
    if is_standby:
        raise DeskUnusable(f"The server of {url.place} is a standby, which takes no rows; name the primary.")
    if fsync != "on":
        raise DeskUnusable(f"The server of {url.place} runs with fsync off and can lose rows; turn it on.")
    if commit == "off":
        await raw.execute("SET synchronous_commit = on")


async def look(raw: Raw, url: PostgresUrl) -> Found:
    """What is there. Raises DeskUnusable for a database that is not ours or newer than this program."""
    is_marked, has_schema, has_tables = await raw.fetchrow(LOOK)
    if not is_marked:
        if has_tables:
            raise DeskUnusable(
                f"The database {url.place} holds tables of another program; make one for Sextant alone (createdb)."
            )
        return Found(None, has_schema)
    try:
        marks = dict(await raw.fetch(MARKS))
        version = int(await raw.fetchval(VERSION))
    except asyncpg.PostgresError as error:
        if sqlstate(error)[:2] != "42":
            raise
        why = "may not be read by this user" if sqlstate(error) == "42501" else "is not a Sextant database"
        raise DeskUnusable(f"The database {url.place} {why}.") from error
    if marks.get("product") != "sextant":
        raise DeskUnusable(f"The database {url.place} does not carry Sextant's mark.")
    if version > newest_version():
        raise DeskUnusable(
            f"The database {url.place} was written by a newer Sextant (schema {version}; "
            f"this program speaks {newest_version()}): upgrade it."
        )
    return Found(version, has_schema, marks.get("identity", ""), marks.get("writer", ""))


async def take_lock(
    raw: Raw, url: PostgresUrl, before: int | None, clock: Clock, take_over_after: float | None
) -> None:
    """Make this session the only one that writes. Raises DeskHeld naming the holder.

    `before` is the server's process of our last session: a server that was silent may still keep it, and what it
    was doing, alive. It is ended first, so that nothing of it can be written after what we write next. The session of
    another desk is ended only by the operator's word, and only if no lease was renewed for `take_over_after` seconds.
    """
    if await raw.fetchval("SELECT pg_try_advisory_lock($1)", DESK_LOCK):
        return
    holder = await raw.fetchrow(HOLDER, DESK_LOCK)
    if holder is not None and tuple(holder) == (before, client_name()):
        await raw.fetchval("SELECT pg_terminate_backend($1)", before)
    elif holder is not None and take_over_after is not None:
        leases = await raw.fetch(LEASES)
        await clock.sleep(take_over_after)
        if await raw.fetch(LEASES) != leases:
            raise DeskHeld(f"Another desk ({holder[1]}) uses the database {url.place} and is running; stop it there.")
        await raw.fetchval("SELECT pg_terminate_backend($1)", holder[0])
    try:
        # waits a little: a desk that was killed a moment ago is about to let go
        await raw.fetchval("SELECT pg_advisory_lock($1)", DESK_LOCK)
    except asyncpg.PostgresError as error:
        if sqlstate(error) != LOCK_NOT_AVAILABLE:
            raise
        who = (holder[1] if holder is not None else "") or "another process"
        raise DeskHeld(
            f"Another desk ({who}) uses the database {url.place}; stop it, or name another database. "
            "If it runs on another machine and has certainly ended, start with --take-over."
        ) from error


async def migrate(raw: Raw, url: PostgresUrl, found: Found, at: Millis) -> None:
    """Make or upgrade the schema, all steps or none. Raises DeskUnusable; a failed step leaves nothing."""
    steps = migrations(POSTGRES)[found.version or 0 :]
    if not steps and found.version is not None:
        return
    try:
        async with raw.transaction():
            await raw.execute("SET LOCAL statement_timeout = 0")  # a step over years of rows takes its time
            if found.version is None:
                if not found.has_schema:
                    await raw.execute(MAKE_SCHEMA)
                for statement in FOUNDATION:
                    await raw.execute(statement)
            for step in steps:
                for sql, values in transaction_of(step, at):
                    await raw.execute(numbered(sql), *values, timeout=float("inf"))
    except asyncpg.PostgresError as error:
        if sqlstate(error)[:2] not in ("25", "42"):
            raise
        if sqlstate(error)[:2] == "42" and sqlstate(error) != NOT_ALLOWED:
            raise DeskUnusable(f"The database {url.place} is as it was; a step failed: {said(error)}.") from error
        why = "is read-only" if sqlstate(error)[:2] == "25" else "does not let this user make tables"
        raise DeskUnusable(f"The database {url.place} {why}; a desk must be able to write it.") from error

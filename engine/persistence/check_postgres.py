"""A PostgreSQL database looked at as storage: what the server promises, and whether its indexes hold."""

from __future__ import annotations

from engine.domain.findings import Finding
from engine.errors import StoreError
from engine.persistence.check_rows import unreadable
from engine.ports import StoreConnection

DAMAGED = (
    "stop the desk; restore from the server's backup into a database of its own, and let `sextant db check` look "
    "at it before a desk does"
)
SERVER = """
SELECT current_setting('server_version'), current_setting('fsync'), current_setting('full_page_writes'),
    current_setting('data_checksums'), current_setting('synchronous_commit'), pg_is_in_recovery(),
    pg_database_size(current_database()),
    coalesce((SELECT s.ssl FROM pg_stat_ssl AS s WHERE s.pid = pg_backend_pid()), false)
"""
# amcheck lives in whichever schema it was made in; names of ours still come first.
FIND_AMCHECK = """
SELECT set_config('search_path', 'sextant, ' || quote_ident(n.nspname) || ', pg_temp', false)
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
JOIN pg_proc AS p ON p.pronamespace = n.oid AND p.proname = 'bt_index_check' AND p.pronargs = 2
WHERE e.extname = 'amcheck' AND has_function_privilege(p.oid, 'EXECUTE')
"""
FORGET_AMCHECK = "SELECT set_config('search_path', 'sextant, pg_temp', false)"
CHECK_INDEXES = """
SELECT c.relname, bt_index_check(c.oid::regclass, true) FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam
WHERE c.relnamespace = 'sextant'::regnamespace AND a.amname = 'btree' AND i.indisready AND i.indisvalid
"""
INVALID_INDEXES = """
SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'sextant'::regnamespace AND NOT (i.indisready AND i.indisvalid)
"""
UNPROVEN_REFERENCES = """
SELECT conname FROM pg_constraint WHERE connamespace = 'sextant'::regnamespace AND NOT convalidated
"""
EVENTS_WITHOUT_ORDER = """
SELECT e.client_id FROM order_events AS e LEFT JOIN orders AS o ON o.client_id = e.client_id
WHERE o.client_id IS NULL LIMIT 1
"""
# Reads every row of every table of ours, out-of-line text too: what the server cannot read fails here.
READ_ALL = """
SELECT count(*), coalesce(sum(length(x.row)), 0) FROM (
    SELECT t::text AS row FROM intents AS t UNION ALL SELECT t::text FROM orders AS t
    UNION ALL SELECT t::text FROM order_events AS t UNION ALL SELECT t::text FROM fills AS t
    UNION ALL SELECT t::text FROM decisions AS t UNION ALL SELECT t::text FROM positions AS t
    UNION ALL SELECT t::text FROM balances AS t UNION ALL SELECT t::text FROM trades AS t
    UNION ALL SELECT t::text FROM disagreements AS t UNION ALL SELECT t::text FROM overrides AS t
    UNION ALL SELECT t::text FROM sessions AS t UNION ALL SELECT t::text FROM log AS t
    UNION ALL SELECT t::text FROM replaced_candles AS t UNION ALL SELECT t::text FROM evaluated_candles AS t
    UNION ALL SELECT t::text FROM trade_versions AS t UNION ALL SELECT t::text FROM latches AS t
    UNION ALL SELECT t::text FROM limits AS t UNION ALL SELECT t::text FROM leases AS t
    UNION ALL SELECT t::text FROM jobs AS t UNION ALL SELECT t::text FROM daily_pnl AS t
    UNION ALL SELECT t::text FROM trade_marks AS t
) AS x
"""


async def server(reader: StoreConnection) -> list[Finding]:
    """Settings of the server, then its indexes and references."""
    return [await _settings(reader), await _integrity(reader), await _references(reader)]


async def _settings(reader: StoreConnection) -> Finding:
    try:
        (row,) = await reader.query(SERVER)
    except StoreError as error:
        return unreadable("settings", error)
    version, fsync, full_pages, checksums, commit, standby, size, tls = row
    wrong = [f"{name} is off" for name, value in (("fsync", fsync), ("full_page_writes", full_pages)) if value != "on"]
    if wrong:
        return Finding(
            check="settings",
            ok=False,
            detail=f"the server can lose rows: {', '.join(wrong)}",
            way_out="turn them on in postgresql.conf and reload",
        )
    where = "a standby" if standby else "the primary"
    detail = f"PostgreSQL {version.split()[0]}, {where}; fsync on, full_page_writes on, data_checksums {checksums}, "
    commits = commit if commit != "off" else "off (a desk turns it on for itself)"
    detail += f"synchronous_commit {commits}; TLS {'on' if tls else 'off'}; {size / 1e6:.1f} MB"
    return Finding(check="settings", ok=True, detail=detail)


async def _integrity(reader: StoreConnection) -> Finding:
    try:
        invalid = await reader.query(INVALID_INDEXES)
        has_amcheck = bool(await reader.query(FIND_AMCHECK))
        if has_amcheck:
            try:
                indexes = await reader.query(CHECK_INDEXES)
            finally:
                await reader.query(FORGET_AMCHECK)
            how = f"{len(indexes)} indexes against their rows (amcheck)"
        else:
            ((count, _),) = await reader.query(READ_ALL)
            how = f"every one of {count} rows was read; for indexes too: CREATE EXTENSION amcheck"
    except StoreError as error:
        return Finding(check="integrity", ok=False, detail=f"damaged, or not to be read: {error}", way_out=DAMAGED)
    if invalid:
        names = ", ".join(str(row[0]) for row in invalid)
        return Finding(
            check="integrity", ok=False, detail=f"indexes that are not valid: {names}", way_out="REINDEX them"
        )
    return Finding(check="integrity", ok=True, detail=how)


async def _references(reader: StoreConnection) -> Finding:
    try:
        unproven = await reader.query(UNPROVEN_REFERENCES)
        orphans = await reader.query(EVENTS_WITHOUT_ORDER)
    except StoreError as error:
        return unreadable("references", error)
    if unproven or orphans:
        what = f"an event of the order {orphans[0][0]}, which is not there" if orphans else f"{unproven[0][0]} is off"
        return Finding(check="references", ok=False, detail=what, way_out=DAMAGED)
    return Finding(check="references", ok=True, detail="each row's reference exists")

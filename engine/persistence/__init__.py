"""Flow 3: if we crash, what can we reconstruct?

Everything that cannot be asked for again: what we decided, what we were about to send, what the broker told us,
and what people did by hand. The invariant that answers the question: **no request leaves for a broker before its
intent is durable** (in the database, or in the intent journal when the database is too slow for an exit), and every
row carries a natural key, so that writing it twice, or importing it after a crash, changes nothing the second time.

    store             the audit trail: one writer, one read-only connection, the rows of every record
    writer            group commit in lanes; intents ahead of everything
    connection        the narrow seam beneath; sqlite speaks it, sqlite_file guards the file
    postgres          the same on a server: postgres_session opens and names errors, postgres_guard asks whose it is
    migrate           numbered steps of the schema, a folder of them for each database
    intent_journal    the file that stands in for the database when an exit cannot wait; recovery_import reads it back
    jobs, trades      background work queued in its cause's transaction; FIFO round trips
    lease, kill_latch who commands an account; the synced half of the kill latch
    upkeep, kept      `sextant db`: what is done to the audit trail from outside the desk
    check, check_*    is all that is kept sound?
    sqlite_copy       a verified copy, set aside before a schema changes
    what_we_keep.md   every table, what it is for, and for how long
"""

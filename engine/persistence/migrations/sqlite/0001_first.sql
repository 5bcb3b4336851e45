-- The audit trail. Decimals are text, moments are integer UTC milliseconds, labels are the words of the domain.
-- what_we_keep.md says what each table is for and for how long; a test reads it against this file.

-- Every natural key that a request to a broker was ever allowed under: submits, cancels, replaces, imports from the
-- intent journal, and tombstones. `epoch` is refused (NULL) when another engine has taken the account's lease.
CREATE TABLE intents (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('submit', 'cancel', 'replace', 'tombstone')),
    origin TEXT NOT NULL CHECK (origin IN ('desk', 'journal', 'tombstone')),
    account TEXT,
    session TEXT,
    client_id TEXT,
    role TEXT,
    terms TEXT,
    reason TEXT NOT NULL DEFAULT '',
    epoch BIGINT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX intents_by_session ON intents (session, at);

CREATE TABLE orders (
    client_id TEXT PRIMARY KEY,
    decision_key TEXT NOT NULL,
    session TEXT NOT NULL,
    account TEXT NOT NULL,
    role TEXT NOT NULL,
    symbol TEXT NOT NULL,
    side TEXT NOT NULL,
    quantity TEXT NOT NULL,
    type TEXT NOT NULL,
    limit_price TEXT,
    stop_price TEXT,
    tif TEXT NOT NULL,
    state TEXT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    deadline BIGINT,
    epoch BIGINT NOT NULL,
    sent BIGINT,
    broker_id TEXT,
    filled TEXT NOT NULL,
    average_price TEXT,
    reported TEXT NOT NULL,
    fees TEXT NOT NULL,
    parent TEXT,
    linked INTEGER NOT NULL,
    wanted TEXT,
    replaces TEXT,
    replaced_by TEXT,
    cancel_wanted INTEGER NOT NULL,
    protect_stop TEXT,
    target TEXT,
    doubt TEXT,
    flags TEXT NOT NULL,
    reason TEXT NOT NULL,
    revision BIGINT NOT NULL,
    is_live INTEGER NOT NULL
);
CREATE INDEX orders_newest ON orders (created, client_id);
CREATE INDEX orders_by_session ON orders (session, created, client_id);
CREATE INDEX orders_live ON orders (account, created, client_id) WHERE is_live = 1;

CREATE TABLE order_events (
    client_id TEXT NOT NULL REFERENCES orders (client_id),
    revision BIGINT NOT NULL,
    at BIGINT NOT NULL,
    event TEXT NOT NULL,
    state TEXT NOT NULL,
    filled TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (client_id, revision)
);

-- `number` is the fill sequence: the version under which trades are recomputed.
CREATE TABLE fills (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    fill_key TEXT NOT NULL,
    revision BIGINT NOT NULL,
    session TEXT,
    symbol TEXT NOT NULL,
    client_id TEXT,
    broker_id TEXT NOT NULL,
    side TEXT NOT NULL,
    quantity TEXT NOT NULL,
    price TEXT NOT NULL,
    at BIGINT NOT NULL,
    fee TEXT NOT NULL,
    since_quantity TEXT NOT NULL,
    upto_quantity TEXT NOT NULL,
    booked BIGINT NOT NULL,
    UNIQUE (account, fill_key, revision)
);
CREATE INDEX fills_by_contract ON fills (account, symbol, number);
CREATE INDEX fills_by_order ON fills (client_id);
CREATE INDEX fills_newest ON fills (at, number);

CREATE TABLE decisions (
    session TEXT NOT NULL,
    candle BIGINT NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    client_id TEXT,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (session, candle)
);

CREATE TABLE replaced_candles (
    session TEXT NOT NULL,
    candle BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    was TEXT NOT NULL,
    is_now TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (session, candle, revision)
);

CREATE TABLE evaluated_candles (
    session TEXT PRIMARY KEY,
    candle BIGINT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE positions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    symbol TEXT NOT NULL,
    version TEXT NOT NULL,
    session TEXT,
    quantity TEXT NOT NULL,
    average_price TEXT,
    cause TEXT NOT NULL,
    at BIGINT NOT NULL,
    UNIQUE (account, symbol, version)
);
CREATE INDEX positions_newest ON positions (account, symbol, number);

CREATE TABLE balances (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    at BIGINT NOT NULL,
    equity TEXT NOT NULL,
    cash TEXT NOT NULL,
    margin_used TEXT NOT NULL,
    currency TEXT NOT NULL,
    UNIQUE (account, at)
);
CREATE INDEX balances_newest ON balances (account, number);

CREATE TABLE trades (
    account TEXT NOT NULL,
    symbol TEXT NOT NULL,
    number BIGINT NOT NULL,
    quantity TEXT NOT NULL,
    opened BIGINT NOT NULL,
    closed BIGINT NOT NULL,
    entry_price TEXT NOT NULL,
    exit_price TEXT NOT NULL,
    fees TEXT NOT NULL,
    profit TEXT NOT NULL,
    sessions TEXT NOT NULL,
    PRIMARY KEY (account, symbol, number)
);
CREATE INDEX trades_newest ON trades (closed);

CREATE TABLE trade_versions (
    account TEXT NOT NULL,
    symbol TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (account, symbol)
);

CREATE TABLE sessions (
    session TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    symbol TEXT NOT NULL,
    strategy TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    settings TEXT NOT NULL,
    started BIGINT NOT NULL
);

CREATE TABLE disagreements (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    session TEXT,
    symbol TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    memory TEXT NOT NULL,
    in_database TEXT NOT NULL,
    broker TEXT NOT NULL,
    memory_read BIGINT NOT NULL,
    database_read BIGINT NOT NULL,
    broker_read BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    query TEXT NOT NULL,
    done TEXT NOT NULL,
    position_effect TEXT,
    pnl_effect TEXT,
    heat_effect TEXT,
    broker_id TEXT,
    blocks_entries INTEGER NOT NULL,
    acknowledged_by TEXT,
    acknowledged_at BIGINT,
    note TEXT NOT NULL,
    is_open INTEGER NOT NULL
);
CREATE INDEX disagreements_open ON disagreements (account, first_seen) WHERE is_open = 1;
CREATE INDEX disagreements_by_order ON disagreements (broker_id);

CREATE TABLE overrides (
    id TEXT NOT NULL,
    step BIGINT NOT NULL,
    what TEXT NOT NULL,
    operator TEXT NOT NULL,
    origin TEXT NOT NULL,
    at BIGINT NOT NULL,
    session TEXT,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (id, step)
);

-- `scope` is the session, or empty for the desk.
CREATE TABLE latches (
    scope TEXT NOT NULL,
    kind TEXT NOT NULL,
    held INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL,
    set_by TEXT NOT NULL,
    until TEXT,
    PRIMARY KEY (scope, kind)
);

CREATE TABLE limits (
    name TEXT PRIMARY KEY,
    percent TEXT NOT NULL,
    at BIGINT NOT NULL,
    set_by TEXT NOT NULL,
    reason TEXT NOT NULL
);

CREATE TABLE leases (
    account TEXT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    holder TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'dead')),
    attempts BIGINT NOT NULL,
    due BIGINT NOT NULL,
    queued BIGINT NOT NULL,
    error TEXT NOT NULL
);
CREATE UNIQUE INDEX jobs_one_pending ON jobs (kind, subject) WHERE state = 'pending';
CREATE INDEX jobs_due ON jobs (state, due);

-- One line for every row above that a person may want to read in order.
CREATE TABLE log (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    session TEXT,
    subject TEXT NOT NULL,
    version TEXT NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (subject, kind, version)
);
CREATE INDEX log_by_session ON log (session, number);

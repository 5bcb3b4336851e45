-- The audit trail. Decimals are text, moments are integer UTC milliseconds, labels are the words of the domain.
-- what_we_keep.md says what each table is for and for how long; a test reads it against this file.
-- Text is compared by its bytes, as SQLite does: orders of pages and keys are the same in both databases.

-- Every natural key that a request to a broker was ever allowed under: submits, cancels, replaces, imports from the
-- intent journal, and tombstones. `epoch` is refused (NULL) when another engine has taken the account's lease.
CREATE TABLE intents (
    key TEXT COLLATE "C" PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('submit', 'cancel', 'replace', 'tombstone')),
    origin TEXT COLLATE "C" NOT NULL CHECK (origin IN ('desk', 'journal', 'tombstone')),
    account TEXT COLLATE "C",
    session TEXT COLLATE "C",
    client_id TEXT COLLATE "C",
    role TEXT COLLATE "C",
    terms TEXT COLLATE "C",
    reason TEXT COLLATE "C" NOT NULL DEFAULT '',
    epoch BIGINT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX intents_by_session ON intents (session, at);

CREATE TABLE orders (
    client_id TEXT COLLATE "C" PRIMARY KEY,
    decision_key TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    symbol TEXT COLLATE "C" NOT NULL,
    side TEXT COLLATE "C" NOT NULL,
    quantity TEXT COLLATE "C" NOT NULL,
    type TEXT COLLATE "C" NOT NULL,
    limit_price TEXT COLLATE "C",
    stop_price TEXT COLLATE "C",
    tif TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    deadline BIGINT,
    epoch BIGINT NOT NULL,
    sent BIGINT,
    broker_id TEXT COLLATE "C",
    filled TEXT COLLATE "C" NOT NULL,
    average_price TEXT COLLATE "C",
    reported TEXT COLLATE "C" NOT NULL,
    fees TEXT COLLATE "C" NOT NULL,
    parent TEXT COLLATE "C",
    linked INTEGER NOT NULL,
    wanted TEXT COLLATE "C",
    replaces TEXT COLLATE "C",
    replaced_by TEXT COLLATE "C",
    cancel_wanted INTEGER NOT NULL,
    protect_stop TEXT COLLATE "C",
    target TEXT COLLATE "C",
    doubt TEXT COLLATE "C",
    flags TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    is_live INTEGER NOT NULL
);
CREATE INDEX orders_newest ON orders (created, client_id);
CREATE INDEX orders_by_session ON orders (session, created, client_id);
CREATE INDEX orders_live ON orders (account, created, client_id) WHERE is_live = 1;

CREATE TABLE order_events (
    client_id TEXT COLLATE "C" NOT NULL REFERENCES orders (client_id),
    revision BIGINT NOT NULL,
    at BIGINT NOT NULL,
    event TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    filled TEXT COLLATE "C" NOT NULL,
    detail TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (client_id, revision)
);

-- `number` is the fill sequence: the version under which trades are recomputed.
CREATE TABLE fills (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account TEXT COLLATE "C" NOT NULL,
    fill_key TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    session TEXT COLLATE "C",
    symbol TEXT COLLATE "C" NOT NULL,
    client_id TEXT COLLATE "C",
    broker_id TEXT COLLATE "C" NOT NULL,
    side TEXT COLLATE "C" NOT NULL,
    quantity TEXT COLLATE "C" NOT NULL,
    price TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    fee TEXT COLLATE "C" NOT NULL,
    since_quantity TEXT COLLATE "C" NOT NULL,
    upto_quantity TEXT COLLATE "C" NOT NULL,
    booked BIGINT NOT NULL,
    UNIQUE (account, fill_key, revision)
);
CREATE INDEX fills_by_contract ON fills (account, symbol, number);
CREATE INDEX fills_by_order ON fills (client_id);
CREATE INDEX fills_newest ON fills (at, number);

CREATE TABLE decisions (
    session TEXT COLLATE "C" NOT NULL,
    candle BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    client_id TEXT COLLATE "C",
    reason TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (session, candle)
);

CREATE TABLE replaced_candles (
    session TEXT COLLATE "C" NOT NULL,
    candle BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    was TEXT COLLATE "C" NOT NULL,
    is_now TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (session, candle, revision)
);

CREATE TABLE evaluated_candles (
    session TEXT COLLATE "C" PRIMARY KEY,
    candle BIGINT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE positions (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account TEXT COLLATE "C" NOT NULL,
    symbol TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C",
    quantity TEXT COLLATE "C" NOT NULL,
    average_price TEXT COLLATE "C",
    cause TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    UNIQUE (account, symbol, version)
);
CREATE INDEX positions_newest ON positions (account, symbol, number);

CREATE TABLE balances (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    equity TEXT COLLATE "C" NOT NULL,
    cash TEXT COLLATE "C" NOT NULL,
    margin_used TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    UNIQUE (account, at)
);
CREATE INDEX balances_newest ON balances (account, number);

CREATE TABLE trades (
    account TEXT COLLATE "C" NOT NULL,
    symbol TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    quantity TEXT COLLATE "C" NOT NULL,
    opened BIGINT NOT NULL,
    closed BIGINT NOT NULL,
    entry_price TEXT COLLATE "C" NOT NULL,
    exit_price TEXT COLLATE "C" NOT NULL,
    fees TEXT COLLATE "C" NOT NULL,
    profit TEXT COLLATE "C" NOT NULL,
    sessions TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (account, symbol, number)
);
CREATE INDEX trades_newest ON trades (closed);

CREATE TABLE trade_versions (
    account TEXT COLLATE "C" NOT NULL,
    symbol TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (account, symbol)
);

CREATE TABLE sessions (
    session TEXT COLLATE "C" PRIMARY KEY,
    account TEXT COLLATE "C" NOT NULL,
    symbol TEXT COLLATE "C" NOT NULL,
    strategy TEXT COLLATE "C" NOT NULL,
    timeframe TEXT COLLATE "C" NOT NULL,
    settings TEXT COLLATE "C" NOT NULL,
    started BIGINT NOT NULL
);

CREATE TABLE disagreements (
    id TEXT COLLATE "C" PRIMARY KEY,
    account TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C",
    symbol TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    memory TEXT COLLATE "C" NOT NULL,
    in_database TEXT COLLATE "C" NOT NULL,
    broker TEXT COLLATE "C" NOT NULL,
    memory_read BIGINT NOT NULL,
    database_read BIGINT NOT NULL,
    broker_read BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    query TEXT COLLATE "C" NOT NULL,
    done TEXT COLLATE "C" NOT NULL,
    position_effect TEXT COLLATE "C",
    pnl_effect TEXT COLLATE "C",
    heat_effect TEXT COLLATE "C",
    broker_id TEXT COLLATE "C",
    blocks_entries INTEGER NOT NULL,
    acknowledged_by TEXT COLLATE "C",
    acknowledged_at BIGINT,
    note TEXT COLLATE "C" NOT NULL,
    is_open INTEGER NOT NULL
);
CREATE INDEX disagreements_open ON disagreements (account, first_seen) WHERE is_open = 1;
CREATE INDEX disagreements_by_order ON disagreements (broker_id);

CREATE TABLE overrides (
    id TEXT COLLATE "C" NOT NULL,
    step BIGINT NOT NULL,
    what TEXT COLLATE "C" NOT NULL,
    operator TEXT COLLATE "C" NOT NULL,
    origin TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    session TEXT COLLATE "C",
    reason TEXT COLLATE "C" NOT NULL,
    detail TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (id, step)
);

-- `scope` is the session, or empty for the desk.
CREATE TABLE latches (
    scope TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    held INTEGER NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    set_by TEXT COLLATE "C" NOT NULL,
    until TEXT COLLATE "C",
    PRIMARY KEY (scope, kind)
);

CREATE TABLE limits (
    name TEXT COLLATE "C" PRIMARY KEY,
    percent TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    set_by TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL
);

CREATE TABLE leases (
    account TEXT COLLATE "C" PRIMARY KEY,
    epoch BIGINT NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE jobs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('pending', 'running', 'dead')),
    attempts BIGINT NOT NULL,
    due BIGINT NOT NULL,
    queued BIGINT NOT NULL,
    error TEXT COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX jobs_one_pending ON jobs (kind, subject) WHERE state = 'pending';
CREATE INDEX jobs_due ON jobs (state, due);

-- One line for every row above that a person may want to read in order.
CREATE TABLE log (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C",
    subject TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    text TEXT COLLATE "C" NOT NULL,
    UNIQUE (subject, kind, version)
);
CREATE INDEX log_by_session ON log (session, number);

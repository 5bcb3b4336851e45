-- Profit by trade date, replaced together with trades under the same version; `day` is ISO text.
CREATE TABLE daily_pnl (
    account TEXT NOT NULL,
    symbol TEXT NOT NULL,
    day TEXT NOT NULL,
    currency TEXT NOT NULL,
    realised TEXT NOT NULL,
    fees TEXT NOT NULL,
    round_trips BIGINT NOT NULL,
    quantity TEXT NOT NULL,
    PRIMARY KEY (account, symbol, day)
);
CREATE INDEX daily_pnl_newest ON daily_pnl (day DESC, account, symbol);

-- Where counting may begin again; `basis` stands for the terms that a contract was counted on, empty for none.
CREATE TABLE trade_marks (
    account TEXT NOT NULL,
    symbol TEXT NOT NULL,
    at BIGINT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (account, symbol, at)
);
ALTER TABLE trade_versions ADD COLUMN basis TEXT NOT NULL DEFAULT '';
CREATE INDEX fills_by_moment ON fills (account, symbol, at, number);
CREATE INDEX fills_by_broker_order ON fills (account, symbol, broker_id, at);

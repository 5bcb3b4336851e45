-- Overrides, disagreements and decisions page by page, however many lines of orders and fills lie between them.
CREATE INDEX log_by_kind ON log (kind, number);

-- Who commands an account, and what proves that it still does: the machine, the account lock's own identity (a later
-- holder of that very lock knows that this one has ended), the newest renewal, and whether it was given back.
ALTER TABLE leases ADD COLUMN host TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE leases ADD COLUMN proof TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE leases ADD COLUMN renewed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN released INTEGER NOT NULL DEFAULT 1;

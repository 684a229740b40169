-- What: cancelled processes some of whose children are still to be asked to stop.
-- Phase: creation. Cost: none.

CREATE TABLE cancellation (
    tenant_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL CHECK (until >= since),
    after_id TEXT NOT NULL,
    tick INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX cancellation_next ON cancellation (tick, tenant_id, process_id);

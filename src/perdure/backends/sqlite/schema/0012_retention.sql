-- What: processes with something to remove, once it is old enough.
-- Phase: creation. Cost: none.
-- A table of its own: the process's row changes with each commit of a turn, and an index on it would be written as often.

CREATE TABLE aging (
    tenant_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    what TEXT NOT NULL CHECK (what = 'turns' OR what = 'rows' OR what = 'tombstone'),
    at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX aging_at ON aging (what, at, tenant_id, process_id);

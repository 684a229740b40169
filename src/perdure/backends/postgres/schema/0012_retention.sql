-- What: processes with something to remove, once it is old enough.
-- Phase: creation. Cost: none.
-- A table of its own: the process's row changes with each commit of a turn, and an index on it would be written as often.

CREATE TABLE aging (
    tenant_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    what text COLLATE "C" NOT NULL CHECK (what = 'turns' OR what = 'rows' OR what = 'tombstone'),
    at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
);
CREATE INDEX aging_at ON aging (what, at, tenant_id, process_id);

-- What: processes for which somebody has left something who does not own them, by shard.
-- Phase: creation. Cost: none.

CREATE TABLE inbox (
    tenant_id TEXT NOT NULL,
    shard INTEGER NOT NULL CHECK (shard >= 0),
    tick INTEGER NOT NULL,
    process_id TEXT NOT NULL CHECK (process_id <> ''),
    PRIMARY KEY (tenant_id, shard, tick)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_shard ON inbox (shard, tenant_id, tick);

-- What: processes for which somebody has left something who does not own them, by shard.
-- Phase: creation. Cost: none.

CREATE TABLE inbox (
    tenant_id text COLLATE "C" NOT NULL,
    shard bigint NOT NULL CHECK (shard >= 0),
    tick bigint NOT NULL,
    process_id text COLLATE "C" NOT NULL CHECK (process_id <> ''),
    PRIMARY KEY (tenant_id, shard, tick)
);
CREATE INDEX inbox_shard ON inbox (shard, tenant_id, tick);

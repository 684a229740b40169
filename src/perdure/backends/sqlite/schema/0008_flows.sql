-- What: limits of process types and keys, the queues before them, and the place of each process.
-- Phase: creation. Cost: none.

CREATE TABLE flow (
    tenant_id TEXT NOT NULL,
    process_type TEXT NOT NULL,
    flow_key TEXT NOT NULL,
    running INTEGER NOT NULL CHECK (running >= 0),
    waiting INTEGER NOT NULL CHECK (waiting >= 0),
    next_at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_type, flow_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX flow_wanted ON flow (next_at, tenant_id, process_type, flow_key) WHERE waiting > 0;

CREATE TABLE flow_queue (
    tenant_id TEXT NOT NULL,
    process_type TEXT NOT NULL,
    flow_key TEXT NOT NULL,
    priority INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    process_id TEXT NOT NULL,
    own_key TEXT NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_type, flow_key, priority, tick, process_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE flow_place (
    tenant_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    process_type TEXT NOT NULL,
    flow_key TEXT NOT NULL,
    priority INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    stage TEXT NOT NULL CHECK (stage = 'key' OR stage = 'type' OR stage = 'held'),
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
) STRICT, WITHOUT ROWID;

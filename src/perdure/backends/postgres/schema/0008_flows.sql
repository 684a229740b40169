-- What: limits of process types and keys, the queues before them, and the place of each process.
-- Phase: creation. Cost: none.

CREATE TABLE flow (
    tenant_id text COLLATE "C" NOT NULL,
    process_type text COLLATE "C" NOT NULL,
    flow_key text COLLATE "C" NOT NULL,
    running bigint NOT NULL CHECK (running >= 0),
    waiting bigint NOT NULL CHECK (waiting >= 0),
    next_at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_type, flow_key)
);
CREATE INDEX flow_wanted ON flow (next_at, tenant_id, process_type, flow_key) WHERE waiting > 0;

CREATE TABLE flow_queue (
    tenant_id text COLLATE "C" NOT NULL,
    process_type text COLLATE "C" NOT NULL,
    flow_key text COLLATE "C" NOT NULL,
    priority bigint NOT NULL,
    tick bigint NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    own_key text COLLATE "C" NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_type, flow_key, priority, tick, process_id)
);

CREATE TABLE flow_place (
    tenant_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    process_type text COLLATE "C" NOT NULL,
    flow_key text COLLATE "C" NOT NULL,
    priority bigint NOT NULL,
    tick bigint NOT NULL,
    stage text COLLATE "C" NOT NULL CHECK (stage = 'key' OR stage = 'type' OR stage = 'held'),
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
);

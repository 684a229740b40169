-- What: who has started whom, who waits for the reply to which message, and the entries of processes' logs.
-- Phase: creation. Cost: none.

CREATE TABLE child (
    tenant_id text COLLATE "C" NOT NULL,
    parent_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, parent_id, process_id)
);

CREATE TABLE awaited_reply (
    tenant_id text COLLATE "C" NOT NULL,
    ref text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    operation_id text COLLATE "C" NOT NULL,
    turn_ref text COLLATE "C" NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, ref, process_id, operation_id)
);

CREATE TABLE process_log (
    tenant_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 0),
    at bigint NOT NULL,
    data bytea NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id, name, seq)
);

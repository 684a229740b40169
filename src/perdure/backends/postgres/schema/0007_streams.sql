-- What: streams of entries, and values that are set by comparison.
-- Phase: creation. Cost: none.

CREATE TABLE stream (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    head bigint NOT NULL CHECK (head >= first),
    first bigint NOT NULL CHECK (first >= 0),
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE stream_event (
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 0),
    at bigint NOT NULL,
    payload bytea NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, name, seq)
);

CREATE TABLE value (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    key text COLLATE "C" NOT NULL CHECK (key <> ''),
    value bigint,
    updated_at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, key)
);

-- What: streams of entries, and values that are set by comparison.
-- Phase: creation. Cost: none.
-- `stream_event` keeps its rowid, as events do: payloads of up to 1 MiB do not belong into a key tree.

CREATE TABLE stream (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    name TEXT NOT NULL CHECK (name <> ''),
    head INTEGER NOT NULL CHECK (head >= first),
    first INTEGER NOT NULL CHECK (first >= 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE stream_event (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    at INTEGER NOT NULL,
    payload BLOB NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name, seq)
) STRICT;

CREATE TABLE value (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    key TEXT NOT NULL CHECK (key <> ''),
    value INTEGER,
    updated_at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
) STRICT, WITHOUT ROWID;

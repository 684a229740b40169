-- What: who has started whom, who waits for the reply to which message, and the entries of processes' logs.
-- Phase: creation. Cost: none.
-- `process_log` keeps its rowid, as events do: payloads of up to 1 MiB do not belong into a key tree.

CREATE TABLE child (
    tenant_id TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, parent_id, process_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE awaited_reply (
    tenant_id TEXT NOT NULL,
    ref TEXT NOT NULL,
    process_id TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    turn_ref TEXT NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, ref, process_id, operation_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE process_log (
    tenant_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    name TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    at INTEGER NOT NULL,
    data BLOB NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_id, name, seq)
) STRICT;

-- What: processes, their fields, turns, events and snapshots.
-- Phase: creation. Cost: none.
-- All keep their rowid. In a key tree that holds the rows, an event of 300 bytes costs four times as much to write, and one
-- over 1,000 bytes an overflow page; a process with a random id dirties a page per row and is written at 0.4 of the rate.

CREATE TABLE process (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    process_id TEXT NOT NULL CHECK (process_id <> ''),
    process_type TEXT NOT NULL,
    package_hash TEXT CHECK (length(package_hash) = 64),
    status TEXT NOT NULL CHECK (
        status = 'idle' OR status = 'runnable' OR status = 'waiting' OR status = 'paused'
        OR status = 'stuck' OR status = 'stranded' OR status = 'failed' OR status = 'ended' OR status = 'removed'
    ),
    head INTEGER NOT NULL CHECK (head >= 0),
    stream_no INTEGER NOT NULL CHECK (stream_no > 0),
    shard INTEGER NOT NULL CHECK (shard >= 0),
    open_message TEXT,
    turn_seq INTEGER NOT NULL CHECK (turn_seq >= 0),
    first INTEGER NOT NULL CHECK (first >= 0),
    timers INTEGER NOT NULL CHECK (timers >= 0),
    placed INTEGER NOT NULL CHECK (placed IN (0, 1)),
    attributes TEXT NOT NULL,
    aging INTEGER NOT NULL CHECK (aging = 0 OR aging = 1),
    note TEXT NOT NULL,
    parent TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_id),
    CHECK (first <= turn_seq)
) STRICT;
CREATE INDEX process_runnable ON process (shard, tenant_id, process_id) WHERE status IN ('runnable', 'stuck');
-- A process that is over is not written any more: it comes into this index once, at its right end.
CREATE INDEX process_over ON process (updated_at, tenant_id, process_id) WHERE status = 'ended' OR status = 'failed';

CREATE TABLE process_state (
    tenant_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    found BLOB NOT NULL,
    saved BLOB NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
) STRICT;

CREATE TABLE turn (
    tenant_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    message_id TEXT NOT NULL CHECK (message_id <> ''),
    state TEXT NOT NULL CHECK (state = 'received' OR state = 'started' OR state = 'finished'),
    steps INTEGER NOT NULL CHECK (steps >= 0),
    effects INTEGER NOT NULL CHECK (effects >= 0),
    more INTEGER NOT NULL CHECK (more = 0 OR more = 1),
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    awaits TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome = '' OR outcome = 'ok' OR outcome = 'error'),
    result BLOB,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_id, message_id)
) STRICT;

CREATE TABLE event (
    tenant_id TEXT NOT NULL,
    stream_no INTEGER NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    at INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (tenant_id, stream_no, seq)
) STRICT;

CREATE TABLE snapshot (
    tenant_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    version INTEGER NOT NULL CHECK (version > 0),
    data BLOB NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
) STRICT;

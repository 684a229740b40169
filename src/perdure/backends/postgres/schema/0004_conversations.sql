-- What: processes, their fields, turns, events and snapshots.
-- Phase: creation. Cost: none.

CREATE TABLE process (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    process_id text COLLATE "C" NOT NULL CHECK (process_id <> ''),
    process_type text COLLATE "C" NOT NULL,
    package_hash text COLLATE "C" CHECK (length(package_hash) = 64),
    status text COLLATE "C" NOT NULL CHECK (
        status = 'idle' OR status = 'runnable' OR status = 'waiting' OR status = 'paused'
        OR status = 'stuck' OR status = 'stranded' OR status = 'failed' OR status = 'ended' OR status = 'removed'
    ),
    head bigint NOT NULL CHECK (head >= 0),
    stream_no bigint NOT NULL CHECK (stream_no > 0),
    shard bigint NOT NULL CHECK (shard >= 0),
    open_message text COLLATE "C",
    turn_seq bigint NOT NULL CHECK (turn_seq >= 0),
    first bigint NOT NULL CHECK (first >= 0),
    timers bigint NOT NULL CHECK (timers >= 0),
    placed bigint NOT NULL CHECK (placed IN (0, 1)),
    attributes text COLLATE "C" NOT NULL,
    aging bigint NOT NULL CHECK (aging = 0 OR aging = 1),
    note text COLLATE "C" NOT NULL,
    parent text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id),
    CHECK (first <= turn_seq)
) WITH (fillfactor = 80);
CREATE INDEX process_runnable ON process (shard, tenant_id, process_id) WHERE status IN ('runnable', 'stuck');
-- A process that is over is not written any more: it comes into this index once, at its right end.
CREATE INDEX process_over ON process (updated_at, tenant_id, process_id) WHERE status = 'ended' OR status = 'failed';

-- A stream's number is a tick. Two nodes that gave out the same one would write into one stream: the second is refused, and decides again.
CREATE UNIQUE INDEX process_stream ON process (tenant_id, stream_no);

CREATE TABLE process_state (
    tenant_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    found bytea NOT NULL,
    saved bytea NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
) WITH (fillfactor = 80);

CREATE TABLE turn (
    tenant_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL CHECK (message_id <> ''),
    state text COLLATE "C" NOT NULL CHECK (state = 'received' OR state = 'started' OR state = 'finished'),
    steps bigint NOT NULL CHECK (steps >= 0),
    effects bigint NOT NULL CHECK (effects >= 0),
    more bigint NOT NULL CHECK (more = 0 OR more = 1),
    attempts bigint NOT NULL CHECK (attempts >= 0),
    awaits text COLLATE "C" NOT NULL,
    outcome text COLLATE "C" NOT NULL CHECK (outcome = '' OR outcome = 'ok' OR outcome = 'error'),
    result bytea,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id, message_id)
) WITH (fillfactor = 80);

CREATE TABLE event (
    tenant_id text COLLATE "C" NOT NULL,
    stream_no bigint NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 0),
    at bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (tenant_id, stream_no, seq)
);

CREATE TABLE snapshot (
    tenant_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    version bigint NOT NULL CHECK (version > 0),
    data bytea NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
);

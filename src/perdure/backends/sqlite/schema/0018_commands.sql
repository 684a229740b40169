-- What: commands, what of them waits and is due, their params, results and history.
-- Phase: expand. Cost: none.

CREATE TABLE command (
    tenant_id TEXT NOT NULL,
    command_id TEXT NOT NULL CHECK (command_id <> ''),
    deployment_id TEXT NOT NULL CHECK (deployment_id <> ''),
    target TEXT NOT NULL,
    name TEXT NOT NULL CHECK (name <> ''),
    model TEXT NOT NULL CHECK (model = 'pull' OR model = 'push'),
    retry BLOB NOT NULL,
    priority INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    deadline INTEGER,
    traceparent TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('PENDING_UPLOAD', 'PENDING', 'DISPATCHED', 'SUCCEEDED', 'FAILED', 'EXPIRED', 'CANCELLED')),
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    failures INTEGER NOT NULL CHECK (failures >= 0),
    available_at INTEGER NOT NULL,
    ready INTEGER NOT NULL CHECK (ready IN (0, 1)),
    due_at INTEGER,
    token INTEGER NOT NULL,
    holder INTEGER NOT NULL CHECK (holder IN (0, 1)),
    lease_expires_at INTEGER,
    worker TEXT NOT NULL,
    dispatched_at INTEGER,
    completed_at INTEGER,
    completed_by INTEGER NOT NULL,
    request_size INTEGER,
    response_size INTEGER,
    error BLOB,
    cancel_requested INTEGER NOT NULL CHECK (cancel_requested IN (0, 1)),
    cancel_reason TEXT NOT NULL,
    progress BLOB,
    dead INTEGER NOT NULL CHECK (dead IN (0, 1)),
    redriven_as TEXT NOT NULL,
    events INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, command_id),
    CHECK ((state IN ('SUCCEEDED', 'FAILED', 'EXPIRED', 'CANCELLED')) = (completed_at IS NOT NULL)),
    CHECK (ready = 0 OR state = 'PENDING'),
    CHECK ((holder = 1) = (lease_expires_at IS NOT NULL)),
    CHECK (holder = 0 OR state = 'DISPATCHED')
) STRICT;
CREATE INDEX command_created ON command (tenant_id, tick, command_id);
CREATE INDEX command_deployment ON command (tenant_id, deployment_id, tick, command_id);
CREATE INDEX command_over ON command (completed_at, tenant_id, command_id) WHERE completed_at IS NOT NULL AND dead = 0;

CREATE TABLE command_body (
    tenant_id TEXT NOT NULL,
    command_id TEXT NOT NULL,
    part TEXT NOT NULL CHECK (part = 'params' OR part = 'result'),
    data BLOB,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    content_type TEXT NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, command_id, part),
    CHECK ((data IS NULL) = (sha256 <> ''))
) STRICT;

CREATE TABLE command_ready (
    tenant_id TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    target TEXT NOT NULL,
    priority INTEGER NOT NULL,
    available_at INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    command_id TEXT NOT NULL,
    name TEXT NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, deployment_id, target, priority, available_at, tick, command_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX command_ready_name ON command_ready (tenant_id, deployment_id, target, name, priority, available_at, tick, command_id);

CREATE TABLE command_due (
    due_at INTEGER NOT NULL,
    tenant_id TEXT NOT NULL,
    command_id TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    target TEXT NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (due_at, tenant_id, command_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX command_due_queue ON command_due (tenant_id, deployment_id, target, due_at, command_id);

CREATE TABLE command_key (
    tenant_id TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    target TEXT NOT NULL,
    name TEXT NOT NULL,
    idempotency_key TEXT NOT NULL CHECK (idempotency_key <> ''),
    command_id TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, deployment_id, target, name, idempotency_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE command_event (
    tenant_id TEXT NOT NULL,
    command_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    actor TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (tenant_id, command_id, number)
) STRICT, WITHOUT ROWID;

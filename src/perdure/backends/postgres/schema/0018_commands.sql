-- What: commands, what of them waits and is due, their params, results and history.
-- Phase: expand. Cost: none.

CREATE TABLE command (
    tenant_id text COLLATE "C" NOT NULL,
    command_id text COLLATE "C" NOT NULL CHECK (command_id <> ''),
    deployment_id text COLLATE "C" NOT NULL CHECK (deployment_id <> ''),
    target text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    model text COLLATE "C" NOT NULL CHECK (model = 'pull' OR model = 'push'),
    retry bytea NOT NULL,
    priority bigint NOT NULL,
    tick bigint NOT NULL,
    created_at bigint NOT NULL,
    deadline bigint,
    traceparent text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('PENDING_UPLOAD', 'PENDING', 'DISPATCHED', 'SUCCEEDED', 'FAILED', 'EXPIRED', 'CANCELLED')),
    attempt bigint NOT NULL CHECK (attempt >= 1),
    failures bigint NOT NULL CHECK (failures >= 0),
    available_at bigint NOT NULL,
    ready bigint NOT NULL CHECK (ready IN (0, 1)),
    due_at bigint,
    token bigint NOT NULL,
    holder bigint NOT NULL CHECK (holder IN (0, 1)),
    lease_expires_at bigint,
    worker text COLLATE "C" NOT NULL,
    dispatched_at bigint,
    completed_at bigint,
    completed_by bigint NOT NULL,
    request_size bigint,
    response_size bigint,
    error bytea,
    cancel_requested bigint NOT NULL CHECK (cancel_requested IN (0, 1)),
    cancel_reason text COLLATE "C" NOT NULL,
    progress bytea,
    dead bigint NOT NULL CHECK (dead IN (0, 1)),
    redriven_as text COLLATE "C" NOT NULL,
    events bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, command_id),
    CHECK ((state IN ('SUCCEEDED', 'FAILED', 'EXPIRED', 'CANCELLED')) = (completed_at IS NOT NULL)),
    CHECK (ready = 0 OR state = 'PENDING'),
    CHECK ((holder = 1) = (lease_expires_at IS NOT NULL)),
    CHECK (holder = 0 OR state = 'DISPATCHED')
) WITH (fillfactor = 60);
CREATE INDEX command_created ON command (tenant_id, tick, command_id);
CREATE INDEX command_deployment ON command (tenant_id, deployment_id, tick, command_id);
CREATE INDEX command_over ON command (completed_at, tenant_id, command_id) WHERE completed_at IS NOT NULL AND dead = 0;

CREATE TABLE command_body (
    tenant_id text COLLATE "C" NOT NULL,
    command_id text COLLATE "C" NOT NULL,
    part text COLLATE "C" NOT NULL CHECK (part = 'params' OR part = 'result'),
    data bytea,
    sha256 text COLLATE "C" NOT NULL,
    size bigint NOT NULL CHECK (size >= 0),
    content_type text COLLATE "C" NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, command_id, part),
    CHECK ((data IS NULL) = (sha256 <> ''))
);

CREATE TABLE command_ready (
    tenant_id text COLLATE "C" NOT NULL,
    deployment_id text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    priority bigint NOT NULL,
    available_at bigint NOT NULL,
    tick bigint NOT NULL,
    command_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, deployment_id, target, priority, available_at, tick, command_id)
);
CREATE INDEX command_ready_name ON command_ready (tenant_id, deployment_id, target, name, priority, available_at, tick, command_id);

CREATE TABLE command_due (
    due_at bigint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    command_id text COLLATE "C" NOT NULL,
    deployment_id text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (due_at, tenant_id, command_id)
);
CREATE INDEX command_due_queue ON command_due (tenant_id, deployment_id, target, due_at, command_id);

CREATE TABLE command_key (
    tenant_id text COLLATE "C" NOT NULL,
    deployment_id text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL CHECK (idempotency_key <> ''),
    command_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, deployment_id, target, name, idempotency_key)
);

CREATE TABLE command_event (
    tenant_id text COLLATE "C" NOT NULL,
    command_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    at bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    actor text COLLATE "C" NOT NULL,
    detail text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, command_id, number)
);

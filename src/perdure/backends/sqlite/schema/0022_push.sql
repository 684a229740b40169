-- What: where commands are sent, which of them wait for that, and which endpoint a command goes to.
-- Phase: expand. Cost: none.

CREATE TABLE push_endpoint (
    tenant_id TEXT NOT NULL,
    deployment_id TEXT NOT NULL CHECK (deployment_id <> ''),
    target TEXT NOT NULL,
    url TEXT NOT NULL CHECK (url <> ''),
    secrets TEXT NOT NULL CHECK (secrets <> ''),
    timeout INTEGER NOT NULL CHECK (timeout > 0),
    result_within INTEGER NOT NULL CHECK (result_within > 0),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    failures INTEGER NOT NULL CHECK (failures >= 0),
    openings INTEGER NOT NULL CHECK (openings >= 0),
    open_until INTEGER,
    probe_until INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, deployment_id, target)
) STRICT, WITHOUT ROWID;

CREATE TABLE push_ready (
    tenant_id TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    priority INTEGER NOT NULL,
    available_at INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    command_id TEXT NOT NULL,
    name TEXT NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, deployment_id, endpoint, priority, available_at, tick, command_id)
) STRICT, WITHOUT ROWID;

ALTER TABLE command ADD COLUMN endpoint TEXT NOT NULL DEFAULT '';

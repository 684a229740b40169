-- What: where commands are sent, which of them wait for that, and which endpoint a command goes to.
-- Phase: expand. Cost: none.

CREATE TABLE push_endpoint (
    tenant_id text COLLATE "C" NOT NULL,
    deployment_id text COLLATE "C" NOT NULL CHECK (deployment_id <> ''),
    target text COLLATE "C" NOT NULL,
    url text COLLATE "C" NOT NULL CHECK (url <> ''),
    secrets text COLLATE "C" NOT NULL CHECK (secrets <> ''),
    timeout bigint NOT NULL CHECK (timeout > 0),
    result_within bigint NOT NULL CHECK (result_within > 0),
    enabled bigint NOT NULL CHECK (enabled IN (0, 1)),
    failures bigint NOT NULL CHECK (failures >= 0),
    openings bigint NOT NULL CHECK (openings >= 0),
    open_until bigint,
    probe_until bigint,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, deployment_id, target)
);

CREATE TABLE push_ready (
    tenant_id text COLLATE "C" NOT NULL,
    deployment_id text COLLATE "C" NOT NULL,
    endpoint text COLLATE "C" NOT NULL,
    priority bigint NOT NULL,
    available_at bigint NOT NULL,
    tick bigint NOT NULL,
    command_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, deployment_id, endpoint, priority, available_at, tick, command_id)
);

ALTER TABLE command ADD COLUMN endpoint text COLLATE "C" NOT NULL DEFAULT '';

-- What: packages, which are process code that the store keeps: their archives in parts, uploads under way, the types that
-- they were deployed for, the routes that new processes follow, and the log of all that; which processes need a package.
-- Phase: expand. Cost: one look at each row of process.

CREATE TABLE package (
    content_hash text COLLATE "C" NOT NULL CHECK (length(content_hash) = 64),
    size bigint NOT NULL CHECK (size > 0),
    stored bigint NOT NULL CHECK (stored > 0),
    codec text COLLATE "C" NOT NULL CHECK (codec = 'none' OR codec = 'zlib'),
    sha256 text COLLATE "C" NOT NULL CHECK (length(sha256) = 64),
    upload_id text COLLATE "C" NOT NULL CHECK (upload_id <> ''),
    parts bigint NOT NULL CHECK (parts > 0),
    types bigint NOT NULL CHECK (types > 0),
    used_at bigint NOT NULL,
    changed bigint NOT NULL,
    unloading bigint NOT NULL CHECK (unloading IN (0, 1)),
    rev bigint NOT NULL,
    PRIMARY KEY (content_hash)
);

CREATE TABLE package_part (
    upload_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL CHECK (number >= 0),
    data bytea NOT NULL CHECK (length(data) > 0),
    PRIMARY KEY (upload_id, number)
);

CREATE TABLE package_upload (
    upload_id text COLLATE "C" NOT NULL CHECK (upload_id <> ''),
    parts bigint NOT NULL CHECK (parts >= 0),
    removed_at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (upload_id)
);
CREATE INDEX package_upload_left ON package_upload (removed_at, upload_id);

CREATE TABLE package_type (
    workflow_type text COLLATE "C" NOT NULL CHECK (workflow_type <> ''),
    content_hash text COLLATE "C" NOT NULL CHECK (length(content_hash) = 64),
    deployed_at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (workflow_type, content_hash)
);
CREATE INDEX package_type_versions ON package_type (workflow_type, deployed_at, content_hash);
CREATE INDEX package_type_package ON package_type (content_hash, workflow_type);

CREATE TABLE package_route (
    workflow_type text COLLATE "C" NOT NULL CHECK (workflow_type <> ''),
    content_hash text COLLATE "C" CHECK (length(content_hash) = 64),
    previous text COLLATE "C" CHECK (length(previous) = 64),
    retired bigint NOT NULL CHECK (retired IN (0, 1)),
    tenants bigint NOT NULL CHECK (tenants >= 0),
    weights bigint NOT NULL CHECK (weights >= 0),
    changed bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (workflow_type)
);
CREATE INDEX package_route_package ON package_route (content_hash, workflow_type) WHERE retired = 0 AND content_hash IS NOT NULL;

CREATE TABLE package_rule (
    workflow_type text COLLATE "C" NOT NULL CHECK (workflow_type <> ''),
    kind text COLLATE "C" NOT NULL CHECK (kind = 'tenant' OR kind = 'weight'),
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    content_hash text COLLATE "C" NOT NULL CHECK (length(content_hash) = 64),
    weight bigint NOT NULL CHECK (weight >= 0 AND weight <= 10000),
    since bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (workflow_type, kind, name)
);
CREATE INDEX package_rule_package ON package_rule (content_hash, workflow_type, kind, name);

CREATE TABLE package_log (
    workflow_type text COLLATE "C" NOT NULL CHECK (workflow_type <> ''),
    tick bigint NOT NULL,
    action text COLLATE "C" NOT NULL CHECK (action <> ''),
    content_hash text COLLATE "C",
    previous text COLLATE "C",
    tenant text COLLATE "C" NOT NULL,
    weight bigint,
    actor text COLLATE "C" NOT NULL CHECK (actor <> ''),
    built_with text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (workflow_type, tick)
);

CREATE INDEX process_package ON process (package_hash, tenant_id, process_id)
    WHERE package_hash IS NOT NULL AND status <> 'ended' AND status <> 'removed';

-- What: packages, which are process code that the store keeps: their archives in parts, uploads under way, the types that
-- they were deployed for, the routes that new processes follow, and the log of all that; which processes need a package.
-- Phase: expand. Cost: one look at each row of process.

CREATE TABLE package (
    content_hash TEXT NOT NULL CHECK (length(content_hash) = 64),
    size INTEGER NOT NULL CHECK (size > 0),
    stored INTEGER NOT NULL CHECK (stored > 0),
    codec TEXT NOT NULL CHECK (codec = 'none' OR codec = 'zlib'),
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    upload_id TEXT NOT NULL CHECK (upload_id <> ''),
    parts INTEGER NOT NULL CHECK (parts > 0),
    types INTEGER NOT NULL CHECK (types > 0),
    used_at INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    unloading INTEGER NOT NULL CHECK (unloading IN (0, 1)),
    rev INTEGER NOT NULL,
    PRIMARY KEY (content_hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE package_part (
    upload_id TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 0),
    data BLOB NOT NULL CHECK (length(data) > 0),
    PRIMARY KEY (upload_id, number)
) STRICT;

CREATE TABLE package_upload (
    upload_id TEXT NOT NULL CHECK (upload_id <> ''),
    parts INTEGER NOT NULL CHECK (parts >= 0),
    removed_at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (upload_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX package_upload_left ON package_upload (removed_at, upload_id);

CREATE TABLE package_type (
    workflow_type TEXT NOT NULL CHECK (workflow_type <> ''),
    content_hash TEXT NOT NULL CHECK (length(content_hash) = 64),
    deployed_at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (workflow_type, content_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX package_type_versions ON package_type (workflow_type, deployed_at, content_hash);
CREATE INDEX package_type_package ON package_type (content_hash, workflow_type);

CREATE TABLE package_route (
    workflow_type TEXT NOT NULL CHECK (workflow_type <> ''),
    content_hash TEXT CHECK (length(content_hash) = 64),
    previous TEXT CHECK (length(previous) = 64),
    retired INTEGER NOT NULL CHECK (retired IN (0, 1)),
    tenants INTEGER NOT NULL CHECK (tenants >= 0),
    weights INTEGER NOT NULL CHECK (weights >= 0),
    changed INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (workflow_type)
) STRICT, WITHOUT ROWID;
CREATE INDEX package_route_package ON package_route (content_hash, workflow_type) WHERE retired = 0 AND content_hash IS NOT NULL;

CREATE TABLE package_rule (
    workflow_type TEXT NOT NULL CHECK (workflow_type <> ''),
    kind TEXT NOT NULL CHECK (kind = 'tenant' OR kind = 'weight'),
    name TEXT NOT NULL CHECK (name <> ''),
    content_hash TEXT NOT NULL CHECK (length(content_hash) = 64),
    weight INTEGER NOT NULL CHECK (weight >= 0 AND weight <= 10000),
    since INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (workflow_type, kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX package_rule_package ON package_rule (content_hash, workflow_type, kind, name);

CREATE TABLE package_log (
    workflow_type TEXT NOT NULL CHECK (workflow_type <> ''),
    tick INTEGER NOT NULL,
    action TEXT NOT NULL CHECK (action <> ''),
    content_hash TEXT,
    previous TEXT,
    tenant TEXT NOT NULL,
    weight INTEGER,
    actor TEXT NOT NULL CHECK (actor <> ''),
    built_with TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (workflow_type, tick)
) STRICT;

CREATE INDEX process_package ON process (package_hash, tenant_id, process_id)
    WHERE package_hash IS NOT NULL AND status <> 'ended' AND status <> 'removed';

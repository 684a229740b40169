-- Operations, and the schemas of their answers.
-- `operation` keeps its rowid: with answers of 300 bytes and random ids, a key tree that holds the rows takes half as many per second.
CREATE TABLE operation (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    scope TEXT NOT NULL CHECK (scope <> ''),
    operation_id TEXT NOT NULL CHECK (operation_id <> ''),
    state TEXT NOT NULL CHECK (state = 'admitted' OR state = 'sealed' OR state = 'expired'),
    method TEXT NOT NULL,
    request_digest BLOB NOT NULL CHECK (length(request_digest) IN (0, 32)),
    policy TEXT NOT NULL CHECK (policy = '' OR policy = 'volatile' OR policy = 'idempotent' OR policy = 'persistent'),
    token INTEGER NOT NULL,
    lease_expires_at INTEGER,
    started INTEGER NOT NULL CHECK (started IN (0, 1)),
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    outcome TEXT NOT NULL CHECK (outcome = '' OR outcome = 'ok' OR outcome = 'error'),
    codec TEXT NOT NULL,
    root_type TEXT NOT NULL CHECK (length(root_type) IN (0, 32)),
    retain INTEGER CHECK (retain >= 0),
    retain_until INTEGER,
    actor TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    response BLOB,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, scope, operation_id),
    CHECK ((state = 'sealed') = (response IS NOT NULL)),
    CHECK ((state = 'sealed') = (outcome <> '')),
    CHECK (lease_expires_at IS NULL OR state = 'admitted'),
    CHECK (retain_until IS NULL OR state = 'sealed'),
    CHECK ((method = '') = (policy = '') AND (method = '') = (length(request_digest) = 0))
) STRICT;
CREATE INDEX operation_lease ON operation (tenant_id, lease_expires_at, scope, operation_id)
    WHERE lease_expires_at IS NOT NULL;
CREATE INDEX operation_retention ON operation (retain_until, tenant_id, scope, operation_id)
    WHERE retain_until IS NOT NULL;

CREATE TABLE schema (
    hash TEXT NOT NULL CHECK (length(hash) = 32),
    document BLOB NOT NULL CHECK (length(document) BETWEEN 1 AND 262144),
    rev INTEGER NOT NULL,
    PRIMARY KEY (hash)
) STRICT;

-- Operations, and the schemas of their answers.
CREATE TABLE operation (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    scope text COLLATE "C" NOT NULL CHECK (scope <> ''),
    operation_id text COLLATE "C" NOT NULL CHECK (operation_id <> ''),
    state text COLLATE "C" NOT NULL CHECK (state = 'admitted' OR state = 'sealed' OR state = 'expired'),
    method text COLLATE "C" NOT NULL,
    request_digest bytea NOT NULL CHECK (length(request_digest) IN (0, 32)),
    policy text COLLATE "C" NOT NULL CHECK (policy = '' OR policy = 'volatile' OR policy = 'idempotent' OR policy = 'persistent'),
    token bigint NOT NULL,
    lease_expires_at bigint,
    started bigint NOT NULL CHECK (started IN (0, 1)),
    attempts bigint NOT NULL CHECK (attempts >= 0),
    outcome text COLLATE "C" NOT NULL CHECK (outcome = '' OR outcome = 'ok' OR outcome = 'error'),
    codec text COLLATE "C" NOT NULL,
    root_type text COLLATE "C" NOT NULL CHECK (length(root_type) IN (0, 32)),
    retain bigint CHECK (retain >= 0),
    retain_until bigint,
    actor text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL,
    response bytea,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, scope, operation_id),
    CHECK ((state = 'sealed') = (response IS NOT NULL)),
    CHECK ((state = 'sealed') = (outcome <> '')),
    CHECK (lease_expires_at IS NULL OR state = 'admitted'),
    CHECK (retain_until IS NULL OR state = 'sealed'),
    CHECK ((method = '') = (policy = '') AND (method = '') = (length(request_digest) = 0))
) WITH (fillfactor = 50);
CREATE INDEX operation_lease ON operation (tenant_id, lease_expires_at, scope, operation_id)
    WHERE lease_expires_at IS NOT NULL;
CREATE INDEX operation_retention ON operation (retain_until, tenant_id, scope, operation_id)
    WHERE retain_until IS NOT NULL;

CREATE TABLE schema (
    hash text COLLATE "C" NOT NULL CHECK (length(hash) = 32),
    document bytea NOT NULL CHECK (length(document) BETWEEN 1 AND 262144),
    rev bigint NOT NULL,
    PRIMARY KEY (hash)
);

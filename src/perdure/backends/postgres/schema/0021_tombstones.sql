-- What: tombstones of operations that are known for a limited time only, by the end of that.
-- Phase: expand. Cost: none.

CREATE TABLE operation_tombstone (
    tenant_id text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    operation_id text COLLATE "C" NOT NULL,
    forget_at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, scope, operation_id)
);
CREATE INDEX operation_forgetting ON operation_tombstone (forget_at, tenant_id, scope, operation_id);

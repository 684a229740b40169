-- What: tombstones of operations that are known for a limited time only, by the end of that.
-- Phase: expand. Cost: none.

CREATE TABLE operation_tombstone (
    tenant_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    forget_at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, scope, operation_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_forgetting ON operation_tombstone (forget_at, tenant_id, scope, operation_id);

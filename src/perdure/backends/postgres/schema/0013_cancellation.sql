-- What: cancelled processes some of whose children are still to be asked to stop.
-- Phase: creation. Cost: none.

CREATE TABLE cancellation (
    tenant_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    since bigint NOT NULL,
    until bigint NOT NULL CHECK (until >= since),
    after_id text COLLATE "C" NOT NULL,
    tick bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
);
CREATE INDEX cancellation_next ON cancellation (tick, tenant_id, process_id);

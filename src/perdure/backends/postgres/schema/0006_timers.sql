-- Timers of open turns, found by the time they are due.
CREATE TABLE timer (
    tenant_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    timer_id text COLLATE "C" NOT NULL,
    due bigint NOT NULL,
    shard bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id, timer_id)
);
CREATE INDEX timer_due ON timer (due, tenant_id, process_id, timer_id);

-- Timers of open turns, found by the time they are due.
CREATE TABLE timer (
    tenant_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    timer_id TEXT NOT NULL,
    due INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_id, timer_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX timer_due ON timer (due, tenant_id, process_id, timer_id);

-- What: search attributes of processes, and the indexes that lists of processes are read from.
-- Phase: creation. Cost: none.
-- `value` is written so that its bytes are in the values' order. What an open turn has taken away keeps a row without a value.

CREATE TABLE process_attribute (
    tenant_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    kind text COLLATE "C" NOT NULL CHECK (kind = 'str' OR kind = 'int' OR kind = 'float' OR kind = 'bool' OR kind = 'datetime'),
    value bytea,
    found_kind text COLLATE "C" NOT NULL,
    found bytea,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id, name)
);
CREATE INDEX process_attribute_value ON process_attribute (tenant_id, name, value, process_id) WHERE value IS NOT NULL;

CREATE INDEX process_halted ON process (tenant_id, status, process_id)
    WHERE status = 'paused' OR status = 'stuck' OR status = 'stranded' OR status = 'failed';
-- `created_at` is not written after the insert, so that this index costs nothing when a process moves on.
CREATE INDEX process_created ON process (tenant_id, created_at, process_id);

-- What: which messages start a turn of a packaged type, what a package needs, and whose version cannot be loaded.
-- Phase: expand. Cost: one look at each row of process.

ALTER TABLE package_type ADD COLUMN kinds text COLLATE "C";
ALTER TABLE package ADD COLUMN needs text COLLATE "C";

CREATE INDEX process_stranded ON process (shard, tenant_id, process_id) WHERE status = 'stranded';

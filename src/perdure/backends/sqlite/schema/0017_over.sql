-- What: when a process ended or failed, so that the index of those does not hold the time of each change of the others.
-- Phase: creation. Cost: rewrites the processes that are over, and reads them once.

ALTER TABLE process ADD COLUMN over_at INTEGER;
UPDATE process SET over_at = updated_at WHERE status = 'ended' OR status = 'failed';
DROP INDEX process_over;
CREATE INDEX process_over ON process (over_at, tenant_id, process_id) WHERE over_at IS NOT NULL;

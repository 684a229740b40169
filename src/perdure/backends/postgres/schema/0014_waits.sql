-- What: what a process waits for, by process.
-- Phase: creation. Cost: reads each awaited reply once.

CREATE INDEX awaited_reply_process ON awaited_reply (tenant_id, process_id, operation_id, ref);

SET lock_timeout = '4s';
DROP FUNCTION cpq.open_fallout();
DROP FUNCTION cpq.jobs_held_by(text, timestamptz);
DROP TABLE cpq.held_job;
ALTER TABLE cpq.fallout_case
DROP COLUMN decision,
DROP COLUMN decided_by,
DROP COLUMN decision_reason,
DROP COLUMN evidence,
DROP COLUMN engine_released_at;
ALTER TABLE cpq.fulfillment_task DROP CONSTRAINT fulfillment_task_state_known;
ALTER TABLE cpq.fulfillment_task ADD CONSTRAINT fulfillment_task_state_check
CHECK (state IN ('pending', 'inProgress', 'completed', 'failed', 'fallout')) NOT VALID;
ALTER TABLE cpq.fulfillment_task DROP COLUMN epoch;

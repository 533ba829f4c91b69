SET lock_timeout = '4s';
ALTER TABLE cpq.workflow_reference DROP COLUMN traceparent;

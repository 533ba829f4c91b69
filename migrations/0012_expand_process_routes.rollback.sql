SET lock_timeout = '4s';
ALTER TABLE cpq.worker_registration DROP COLUMN variables_schema_versions;
ALTER TABLE cpq.workflow_reference DROP COLUMN route_reason, DROP COLUMN route_id;
DROP TABLE cpq.process_retirement;
DROP TABLE cpq.process_route;

-- depends: 0023_expand_start_flag_of_tenant
-- transactional: false
-- For what is asked about all orders while most of them are over: without these each question reads a history of years.
-- They are built beside traffic, which no transaction can hold. One that a killed run left unfinished goes first.
-- squawk-ignore-file ban-concurrent-index-creation-in-transaction
-- The build waits for older transactions, and nobody waits for it.
SET lock_timeout = '1min';
SET statement_timeout = '15min';

DROP INDEX CONCURRENTLY IF EXISTS cpq.product_order_open;
CREATE INDEX CONCURRENTLY IF NOT EXISTS product_order_open ON cpq.product_order (updated_at)
WHERE state IN ('acknowledged', 'inProgress');

DROP INDEX CONCURRENTLY IF EXISTS cpq.workflow_reference_live;
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_reference_live ON cpq.workflow_reference (process_id, requested_at)
WHERE state IN ('pending', 'started');

DROP INDEX CONCURRENTLY IF EXISTS cpq.order_transition_ended;
CREATE INDEX CONCURRENTLY IF NOT EXISTS order_transition_ended ON cpq.order_transition (occurred_at)
WHERE to_state IN ('completed', 'failed');

DROP INDEX CONCURRENTLY IF EXISTS cpq.external_call_attempt_by_time;
CREATE INDEX CONCURRENTLY IF NOT EXISTS external_call_attempt_by_time ON cpq.external_call_attempt (external_system, prepared_at);

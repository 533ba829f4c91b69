-- name: request
-- A pending reference; the starter is woken when the transaction commits.
WITH requested AS (
    INSERT INTO cpq.workflow_reference (
        order_id, tenant_id, process_id, variables_schema_version, message_id, state, next_attempt_at, requested_at,
        route_id, route_reason, traceparent
    ) VALUES (
        %(order_id)s, %(tenant_id)s, %(process_id)s, %(variables_schema_version)s, %(message_id)s, 'pending',
        %(requested_at)s, %(requested_at)s, %(route_id)s, %(route_reason)s, %(traceparent)s
    )
)
SELECT pg_notify('workflow', '');

-- name: claim
-- One start attempt; whoever updates the row first has it.
UPDATE cpq.workflow_reference AS r SET
    start_attempts = r.start_attempts + 1, next_attempt_at = now() + %(lease)s
WHERE r.order_id = %(order_id)s AND r.state = 'pending' AND r.next_attempt_at <= now()
RETURNING r.*, EXISTS (
    SELECT 1 FROM cpq.process_deployment AS d WHERE d.process_id = r.process_id
) AS is_process_deployed;

-- name: postpone
-- The next start attempt of a reference that is still pending.
UPDATE cpq.workflow_reference SET next_attempt_at = now() + %(delay)s, last_error = %(error)s
WHERE order_id = %(order_id)s AND state = 'pending';

-- name: get
-- A reference, held until the transaction ends.
SELECT * FROM cpq.workflow_reference WHERE order_id = %(order_id)s FOR UPDATE;

-- name: save
-- A reference's new state.
UPDATE cpq.workflow_reference SET
    state = %(state)s, process_instance_key = %(process_instance_key)s, started_at = %(started_at)s,
    finished_at = %(finished_at)s, last_error = NULL
WHERE order_id = %(order_id)s;

-- name: waiting
-- Cases that wait for a decision, and decided ones whose job waits in the engine.
SELECT f.*, r.process_instance_key, h.job_key
FROM cpq.fallout_case AS f
LEFT JOIN cpq.workflow_reference AS r USING (order_id)
LEFT JOIN cpq.held_job AS h USING (order_id, step)
WHERE f.state = 'open' OR (f.decision IS NOT NULL AND f.engine_released_at IS NULL)
ORDER BY f.opened_at, f.fallout_id;

-- name: of_order
-- Every case an order ever had.
SELECT f.*, r.process_instance_key, h.job_key
FROM cpq.fallout_case AS f
LEFT JOIN cpq.workflow_reference AS r USING (order_id)
LEFT JOIN cpq.held_job AS h USING (order_id, step)
WHERE f.order_id = %(order_id)s
ORDER BY f.opened_at, f.fallout_id;

-- name: order_state
-- An order's state. Not held: its tasks are, and no worker changes the order without them.
SELECT state FROM cpq.product_order WHERE order_id = %(order_id)s;

-- name: attempts
-- The calls of a step, oldest first.
SELECT * FROM cpq.external_call_attempt
WHERE order_id = %(order_id)s AND step = %(step)s
ORDER BY epoch, attempt_no;

-- name: decide
-- A decision closes its case.
UPDATE cpq.fallout_case SET
    state = 'resolved', resolved_at = now(), decision = %(decision)s, decided_by = %(decided_by)s,
    decision_reason = %(reason)s, evidence = %(evidence)s,
    engine_released_at = CASE WHEN %(is_released)s THEN now() END
WHERE fallout_id = %(fallout_id)s;

-- name: mark_released
-- The case's job is with the workers again.
UPDATE cpq.fallout_case SET engine_released_at = now() WHERE fallout_id = %(fallout_id)s;

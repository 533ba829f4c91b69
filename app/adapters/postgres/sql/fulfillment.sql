-- name: add
-- An order's tasks.
INSERT INTO cpq.fulfillment_task (
    order_id, tenant_id, step, state, run_count, external_reference, last_error, updated_at
) VALUES (
    %(order_id)s, %(tenant_id)s, %(step)s, %(state)s, %(run_count)s, %(external_reference)s, %(last_error)s,
    %(updated_at)s
);

-- name: tasks
-- The tasks of an order, held until the transaction ends.
SELECT * FROM cpq.fulfillment_task WHERE order_id = %(order_id)s ORDER BY step FOR UPDATE;

-- name: save
-- A task's new state.
UPDATE cpq.fulfillment_task SET
    state = %(state)s, run_count = %(run_count)s, external_reference = %(external_reference)s,
    last_error = %(last_error)s, epoch = %(epoch)s, waiting_since = %(waiting_since)s, updated_at = %(updated_at)s
WHERE order_id = %(order_id)s AND step = %(step)s;

-- name: begin
-- A task whose run begins, and the job it begins by: one round trip before every external call.
WITH begun AS (
    UPDATE cpq.fulfillment_task SET state = %(state)s, run_count = %(run_count)s, updated_at = %(updated_at)s
    WHERE order_id = %(order_id)s AND step = %(step)s
)
INSERT INTO cpq.held_job (order_id, tenant_id, step, job_key, retries, instance_id, taken_at)
VALUES (%(order_id)s, %(tenant_id)s, %(step)s, %(job_key)s, %(retries)s, %(instance_id)s, %(taken_at)s)
ON CONFLICT (order_id, step) DO UPDATE SET
    job_key = excluded.job_key, retries = excluded.retries, instance_id = excluded.instance_id,
    taken_at = excluded.taken_at;

-- name: forget_jobs
-- The process of an order has nothing left to do.
DELETE FROM cpq.held_job WHERE order_id = %(order_id)s;

-- name: last_attempt
-- The newest call of a step.
SELECT * FROM cpq.external_call_attempt
WHERE order_id = %(order_id)s AND step = %(step)s
ORDER BY epoch DESC, attempt_no DESC
LIMIT 1;

-- name: add_attempt
-- A call that is about to go out.
INSERT INTO cpq.external_call_attempt (
    attempt_id, tenant_id, order_id, step, epoch, attempt_no, external_system, idempotency_key, request_sha256, state,
    prepared_at, finished_at, response_status, external_reference, error
) VALUES (
    %(attempt_id)s, %(tenant_id)s, %(order_id)s, %(step)s, %(epoch)s, %(attempt_no)s, %(external_system)s,
    %(idempotency_key)s, %(request_sha256)s, %(state)s, %(prepared_at)s, %(finished_at)s, %(response_status)s,
    %(external_reference)s, %(error)s
);

-- name: save_attempt
-- What became of a call.
UPDATE cpq.external_call_attempt SET
    state = %(state)s, finished_at = %(finished_at)s, response_status = %(response_status)s,
    external_reference = %(external_reference)s, error = %(error)s
WHERE attempt_id = %(attempt_id)s;

-- name: open_fallout
-- A case for a person, unless one is open for the step.
INSERT INTO cpq.fallout_case (fallout_id, tenant_id, order_id, step, error_code, detail, state, opened_at)
VALUES (
    %(fallout_id)s, %(tenant_id)s, %(order_id)s, %(step)s, %(error_code)s, %(detail)s, 'open', %(opened_at)s
)
ON CONFLICT (order_id, step) WHERE state = 'open' DO NOTHING;

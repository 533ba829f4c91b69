-- name: requeue_event
-- A parked event becomes pending, from its first attempt.
WITH before AS (
    SELECT event_id, state, attempts, last_error FROM cpq.outbox_event
    WHERE event_id = %(event_id)s AND state = 'parked' FOR UPDATE
)
UPDATE cpq.outbox_event AS e SET state = 'pending', attempts = 0, next_attempt_at = now(), last_error = NULL, refused_contract = NULL
FROM before
WHERE e.event_id = before.event_id
RETURNING e.tenant_id, before.state, before.attempts, before.last_error;

-- name: discard_event
-- A parked event is never published; the next one of its aggregate may go, and nothing waits for a notification.
WITH before AS (
    SELECT event_id, state, attempts, last_error FROM cpq.outbox_event
    WHERE event_id = %(event_id)s AND state = 'parked' FOR UPDATE
)
UPDATE cpq.outbox_event AS e SET state = 'discarded'
FROM before
WHERE e.event_id = before.event_id
RETURNING e.tenant_id, before.state, before.attempts, before.last_error, e.event_type, e.aggregate_seq;

-- name: retry_start
-- A reference that waits or failed is due now.
WITH before AS (
    SELECT order_id, state, start_attempts, last_error FROM cpq.workflow_reference
    WHERE order_id = %(order_id)s AND state IN ('pending', 'failed') AND process_instance_key IS NULL FOR UPDATE
)
UPDATE cpq.workflow_reference AS r SET state = 'pending', next_attempt_at = now()
FROM before
WHERE r.order_id = before.order_id
RETURNING r.tenant_id, before.state, before.start_attempts, before.last_error;

-- name: retry_reaction
-- A failed reaction is due now; the case that told a person of it is resolved with it.
WITH before AS (
    SELECT reaction_id, order_id, step, state, runs, last_error FROM cpq.reaction
    WHERE reaction_id = %(reaction_id)s AND state = 'failed' FOR UPDATE
), resolved AS (
    UPDATE cpq.fallout_case AS f SET state = 'resolved', resolved_at = now()
    FROM before
    WHERE f.order_id = before.order_id AND f.step = before.step AND f.state = 'open'
)
UPDATE cpq.reaction AS r SET state = 'pending', runs = 0, next_attempt_at = now(), finished_at = NULL
FROM before
WHERE r.reaction_id = before.reaction_id
RETURNING r.tenant_id, before.state, before.runs, before.last_error;

-- name: close_reaction
-- A failed reaction stays so; the case that told a person of it is resolved.
WITH before AS (
    SELECT tenant_id, reaction_id, order_id, step, state, runs, last_error FROM cpq.reaction
    WHERE reaction_id = %(reaction_id)s AND state = 'failed' FOR UPDATE
), resolved AS (
    UPDATE cpq.fallout_case AS f SET state = 'resolved', resolved_at = now()
    FROM before
    WHERE f.order_id = before.order_id AND f.step = before.step AND f.state = 'open'
    RETURNING f.fallout_id
)
SELECT before.tenant_id, before.state, before.runs, before.last_error
FROM before
WHERE EXISTS (SELECT FROM resolved);

-- name: audit
-- Beside the operator's admin_run, the tenant's own history shows the repair.
INSERT INTO cpq.audit_entry (
    audit_id, tenant_id, actor, action, target_type, target_id, reason, before_state, after_state, occurred_at
) VALUES (
    %(audit_id)s, %(tenant_id)s, %(actor)s, %(action)s, %(target_type)s, %(target_id)s, %(reason)s, %(before)s, %(after)s, now()
);

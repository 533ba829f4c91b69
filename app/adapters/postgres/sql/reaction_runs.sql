-- name: due
-- Names of reactions whose time has come, of whatever tenant.
SELECT reaction_id, tenant_id FROM cpq.due_reactions(%(limit)s);

-- name: claim
-- Counts the run before anything is done: a run that dies is counted, too, and costs the lease.
UPDATE cpq.reaction
SET runs = runs + 1, next_attempt_at = now() + %(lease)s
WHERE reaction_id = %(reaction_id)s AND state = 'pending' AND next_attempt_at <= now()
RETURNING
    reaction_id, tenant_id, consumer_group, kind, order_id, event_id, step, external_system, request, runs,
    waiting_since,
    (
        SELECT w.traceparent FROM cpq.workflow_reference AS w
        WHERE w.tenant_id = reaction.tenant_id AND w.order_id = reaction.order_id
    ) AS traceparent;

-- name: finish
-- Done, or given up on.
UPDATE cpq.reaction
SET state = %(state)s, external_reference = %(external_reference)s, last_error = %(last_error)s, finished_at = now()
WHERE reaction_id = %(reaction_id)s AND state = 'pending';

-- name: postpone
-- To be tried again; a run that did not count is given back, and it is remembered since when none did.
UPDATE cpq.reaction
SET
    next_attempt_at = now() + %(delay)s, last_error = %(last_error)s, runs = runs - %(uncounted)s,
    waiting_since = CASE WHEN %(uncounted)s = 1 THEN coalesce(waiting_since, %(now)s) END
WHERE reaction_id = %(reaction_id)s AND state = 'pending';

-- name: request
-- One per event and group, with the inbox row.
INSERT INTO cpq.reaction (
    reaction_id, tenant_id, consumer_group, kind, order_id, event_id, step, external_system, request
)
VALUES (
    %(reaction_id)s, %(tenant_id)s, %(group)s, %(kind)s, %(order_id)s, %(event_id)s, %(step)s, %(external_system)s,
    %(request)s
)
ON CONFLICT (consumer_group, event_id) DO NOTHING;

-- name: due
-- Names of reactions whose time has come, of whatever tenant.
SELECT reaction_id, tenant_id FROM cpq.due_reactions(%(limit)s);

-- name: claim
-- Counts the run before anything is done: a run that dies is counted, too, and costs the lease.
UPDATE cpq.reaction
SET runs = runs + 1, next_attempt_at = now() + %(lease)s
WHERE reaction_id = %(reaction_id)s AND state = 'pending' AND next_attempt_at <= now()
RETURNING *;

-- name: hold
-- One reaction, until the transaction ends.
SELECT * FROM cpq.reaction WHERE reaction_id = %(reaction_id)s FOR UPDATE;

-- name: finish
-- Done, or given up on.
UPDATE cpq.reaction
SET state = %(state)s, external_reference = %(external_reference)s, last_error = %(last_error)s, finished_at = now()
WHERE reaction_id = %(reaction_id)s AND state = 'pending';

-- name: postpone
-- To be tried again; a run that did not count is given back.
UPDATE cpq.reaction
SET next_attempt_at = now() + %(delay)s, last_error = %(last_error)s, runs = runs - %(uncounted)s
WHERE reaction_id = %(reaction_id)s AND state = 'pending';

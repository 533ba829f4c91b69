-- name: states
-- Every guard that was ever asked.
SELECT
    external_system, state, failures, unproven, open_until, hold_until, last_error, changed_at,
    clock_timestamp() AS now
FROM cpq.external_system_guard
ORDER BY external_system;

-- name: reset
-- The breaker closed and every pause over, whatever calls that are out now will say.
WITH before AS (
    SELECT external_system, state, failures, open_until, hold_until, last_error FROM cpq.external_system_guard
    WHERE external_system = %(system)s FOR UPDATE
)
UPDATE cpq.external_system_guard AS g SET
    state = 'closed', generation = g.generation + 1, failures = 0, unproven = 0, open_until = NULL, probe_until = NULL,
    hold_until = NULL, changed_at = clock_timestamp()
FROM before
WHERE g.external_system = before.external_system
RETURNING before.state, before.failures, before.open_until, before.hold_until, before.last_error;

-- name: hold
-- Waits for transactions of the present epoch; those that begin now wait for the next one.
SELECT pg_advisory_xact_lock(20263, hashtext(%(role)s));

-- name: epochs
-- Roles that ever changed their colour.
SELECT role, epoch, colour, changed_at, changed_by, reason FROM cpq.role_epoch ORDER BY role;

-- name: processes
-- Every process that was seen in the last day, and whether it lives: it says so every two seconds.
SELECT role, instance_id, colour, release_id, held_epoch, seen_at, seen_at > now() - INTERVAL '10 seconds' AS lives
FROM cpq.role_process
WHERE seen_at > now() - INTERVAL '1 day'
ORDER BY role, colour, instance_id;

-- name: move
-- The next epoch of a role.
INSERT INTO cpq.role_epoch (role, epoch, colour, changed_by, reason)
VALUES (%(role)s, 1, %(colour)s, %(changed_by)s, %(reason)s)
ON CONFLICT (role) DO UPDATE SET
    epoch = role_epoch.epoch + 1, colour = excluded.colour, changed_at = excluded.changed_at,
    changed_by = excluded.changed_by, reason = excluded.reason
RETURNING epoch;

-- name: holders
-- Sessions whose transactions keep a role in its epoch.
SELECT DISTINCT session.application_name
FROM pg_locks AS held
INNER JOIN pg_stat_activity AS session ON held.pid = session.pid
WHERE held.locktype = 'advisory' AND held.granted AND held.classid = 20263
    AND held.objid::bigint = hashtext(%(role)s)::bigint & 4294967295
ORDER BY session.application_name;

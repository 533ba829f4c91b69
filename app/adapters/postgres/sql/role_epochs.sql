-- name: look
-- That the process lives, and the epoch of its role, in one round trip.
WITH alive AS (
    INSERT INTO cpq.role_process (instance_id, role, colour, release_id, held_epoch, seen_at)
    VALUES (%(instance_id)s, %(role)s, %(colour)s, %(release_id)s, %(held)s, now())
    ON CONFLICT (instance_id) DO UPDATE SET
        role = excluded.role, colour = excluded.colour, release_id = excluded.release_id,
        held_epoch = excluded.held_epoch, seen_at = excluded.seen_at
)
SELECT epoch, colour FROM cpq.role_epoch WHERE role = %(role)s;

-- name: leave
-- The process ends; those that are gone for a day go with it.
DELETE FROM cpq.role_process WHERE instance_id = %(instance_id)s OR seen_at < now() - INTERVAL '1 day';

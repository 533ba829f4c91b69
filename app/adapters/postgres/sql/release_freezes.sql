-- name: in_force
-- What nobody ended and has not ended by itself; at most one.
SELECT reason, operator, frozen_at, until
FROM cpq.release_freeze
WHERE thawed_at IS NULL AND (until IS NULL OR until > now());

-- name: end_overdue
-- One that ended by itself leaves its place to the next.
UPDATE cpq.release_freeze SET thawed_at = until, thawed_by = operator WHERE thawed_at IS NULL AND until <= now();

-- name: declare
-- The unique index refuses a second one.
INSERT INTO cpq.release_freeze (freeze_id, reason, operator, until)
VALUES (%(freeze_id)s, %(reason)s, %(operator)s, %(until)s)
RETURNING reason, operator, frozen_at, until;

-- name: thaw
-- Somebody ends it.
UPDATE cpq.release_freeze SET thawed_at = now(), thawed_by = %(operator)s WHERE thawed_at IS NULL;

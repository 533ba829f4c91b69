-- name: began_between
-- All attempts under one key as one call, by the time of the first.
SELECT
    min(a.tenant_id) AS tenant_id, a.idempotency_key, min(a.prepared_at) AS began_at,
    bool_or(a.state = 'succeeded') AS has_succeeded
FROM cpq.external_call_attempt AS a
WHERE a.external_system = %(system)s AND a.idempotency_key IN (
    SELECT recent.idempotency_key FROM cpq.external_call_attempt AS recent
    WHERE recent.external_system = %(system)s AND recent.prepared_at BETWEEN %(start)s AND %(end)s
)
GROUP BY a.idempotency_key
HAVING min(a.prepared_at) BETWEEN %(start)s AND %(end)s;

-- name: open_between
-- Calls whose last attempt nobody knows the end of.
SELECT last.tenant_id, last.idempotency_key, last.prepared_at AS began_at, false AS has_succeeded
FROM cpq.external_call_attempt AS last
WHERE
    last.external_system = %(system)s AND last.state IN ('prepared', 'unknown')
    AND last.prepared_at BETWEEN %(start)s AND %(end)s
    AND NOT EXISTS (
        SELECT FROM cpq.external_call_attempt AS later
        WHERE later.idempotency_key = last.idempotency_key AND later.attempt_no > last.attempt_no
    );

-- name: known
-- Those of some keys that there is an attempt under.
SELECT DISTINCT idempotency_key FROM cpq.external_call_attempt
WHERE external_system = %(system)s AND idempotency_key = any(%(keys)s);

-- name: of_call
-- The callback that decides a call: the first that came in time.
SELECT outcome, external_reference, detail FROM cpq.external_callback
WHERE
    tenant_id = %(tenant_id)s AND external_system = %(system)s AND idempotency_key = %(idempotency_key)s
    AND disposition IN ('matched', 'early');

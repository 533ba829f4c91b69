-- name: claim
-- Holds the key until the transaction ends, or says at once that another transaction holds it.
SELECT pg_try_advisory_xact_lock(
    hashtextextended(jsonb_build_array(%(tenant_id)s::text, %(principal)s::text, %(key)s::text)::text, 0)
) AS claimed;

-- name: find
-- The stored answer, unless it has expired.
SELECT request_sha256, status_code, response_headers, response_body FROM cpq.idempotency_record
WHERE
    tenant_id = %(tenant_id)s AND principal = %(principal)s AND idempotency_key = %(key)s
    AND expires_at > %(now)s;

-- name: store
-- Keeps an answer; an expired one gives way, an unexpired one stays and no row is written.
INSERT INTO cpq.idempotency_record AS stored (
    tenant_id, principal, idempotency_key, request_sha256, status_code, response_headers, response_body,
    created_at, expires_at
) VALUES (
    %(tenant_id)s, %(principal)s, %(key)s, %(request_sha256)s, %(status_code)s, %(headers)s, %(body)s,
    %(now)s, %(expires_at)s
)
ON CONFLICT (tenant_id, principal, idempotency_key) DO UPDATE SET
    request_sha256 = excluded.request_sha256, status_code = excluded.status_code,
    response_headers = excluded.response_headers, response_body = excluded.response_body,
    created_at = excluded.created_at, expires_at = excluded.expires_at
WHERE stored.expires_at <= excluded.created_at;

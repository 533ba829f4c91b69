-- name: tenant
-- The tenant of this transaction.
SELECT set_config('cpq.tenant_id', %(tenant_id)s, true);

-- name: call_of
-- The newest call under a key; another tenant's is behind the wall.
SELECT o.state AS order_state, a.state AS attempt_state
FROM cpq.external_call_attempt AS a JOIN cpq.product_order AS o USING (order_id)
WHERE
    a.idempotency_key = %(idempotency_key)s AND a.external_system = %(external_system)s AND a.order_id = %(order_id)s
ORDER BY a.epoch DESC, a.attempt_no DESC
LIMIT 1;

-- name: add
-- A callback and its audit entry, or neither.
WITH added AS (
    INSERT INTO cpq.external_callback (
        tenant_id, external_system, callback_id, order_id, idempotency_key, outcome, external_reference, detail,
        body_sha256, disposition, occurred_at, received_at
    ) VALUES (
        %(tenant_id)s, %(external_system)s, %(callback_id)s, %(order_id)s, %(idempotency_key)s, %(outcome)s,
        %(external_reference)s, %(detail)s, %(body_sha256)s, %(disposition)s, %(occurred_at)s, %(received_at)s
    )
    ON CONFLICT DO NOTHING
    RETURNING external_system, callback_id, order_id, idempotency_key, outcome, external_reference, disposition
)
INSERT INTO cpq.audit_entry (
    audit_id, tenant_id, actor, action, target_type, target_id, after_state, request_id, occurred_at
)
SELECT
    %(audit_id)s, %(tenant_id)s, 'system:' || external_system, 'externalCallback.receive', 'externalCallAttempt',
    idempotency_key,
    jsonb_build_object(
        'orderId', order_id, 'outcome', outcome, 'externalReference', external_reference, 'disposition', disposition
    ),
    'callback:' || callback_id, %(received_at)s
FROM added;

-- name: body_of
-- What came before under the same identifier.
SELECT body_sha256 FROM cpq.external_callback
WHERE tenant_id = %(tenant_id)s AND external_system = %(external_system)s AND callback_id = %(callback_id)s;

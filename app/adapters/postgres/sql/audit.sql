-- name: append
-- One entry; the table refuses every change to it.
INSERT INTO cpq.audit_entry (
    audit_id, tenant_id, actor, action, target_type, target_id, reason, before_state, after_state, request_id,
    traceparent, occurred_at
) VALUES (
    %(audit_id)s, %(tenant_id)s, %(actor)s, %(action)s, %(target_type)s, %(target_id)s, %(reason)s, %(before)s,
    %(after)s, %(request_id)s, %(traceparent)s, %(occurred_at)s
);

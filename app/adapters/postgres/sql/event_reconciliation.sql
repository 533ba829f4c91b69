-- name: orders
-- Orders with the states their transitions led to, by sequence.
SELECT
    product.order_id, product.aggregate_seq, product.currency, product.total_one_time, product.total_recurring,
    coalesce(
        (
            SELECT jsonb_object_agg(step.aggregate_seq::text, step.to_state)
            FROM cpq.order_transition AS step
            WHERE step.order_id = product.order_id
        ), '{}'
    ) AS states
FROM cpq.product_order AS product
WHERE product.order_id = ANY(%(order_ids)s::uuid []);

-- name: see
-- The first event at a place keeps it.
INSERT INTO cpq.reconciliation_event (order_id, aggregate_seq, tenant_id, event_id)
VALUES (%(order_id)s, %(aggregate_seq)s, %(tenant_id)s, %(event_id)s)
ON CONFLICT (order_id, aggregate_seq) DO NOTHING;

-- name: seen
-- The event that has a place.
SELECT event_id FROM cpq.reconciliation_event WHERE order_id = %(order_id)s AND aggregate_seq = %(aggregate_seq)s;

-- name: close_gap
-- What was missing has come.
UPDATE cpq.reconciliation_finding SET resolved_at = now()
WHERE
    order_id = %(order_id)s AND aggregate_seq = %(aggregate_seq)s AND kind = 'sequence-gap' AND resolved_at IS NULL;

-- name: add
-- Each once, however often the event is read.
INSERT INTO cpq.reconciliation_finding (tenant_id, kind, order_id, aggregate_seq, event_id, detail)
VALUES (%(tenant_id)s, %(kind)s, %(order_id)s, %(aggregate_seq)s, %(event_id)s, %(detail)s)
ON CONFLICT (kind, event_id) DO NOTHING;

-- name: open_counts
-- How many open findings of each kind.
SELECT kind, count(*) AS findings FROM cpq.reconciliation_finding
WHERE resolved_at IS NULL AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
GROUP BY kind ORDER BY kind;

-- name: open_findings
-- The newest open findings.
SELECT kind, tenant_id, order_id, aggregate_seq, event_id, detail, found_at FROM cpq.reconciliation_finding
WHERE resolved_at IS NULL AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
ORDER BY found_at DESC
LIMIT %(limit)s;

-- name: findings
-- What disagrees or stands still for longer than it should; one row per thing, of all tenants.
SELECT 'order-stuck' AS kind, o.tenant_id, o.order_id::text AS id, o.updated_at AS since, 'state ' || o.state AS detail
FROM cpq.product_order AS o
WHERE o.state IN ('acknowledged', 'inProgress') AND o.updated_at < now() - %(older_than)s::interval
UNION ALL
SELECT 'event-unpublished', e.tenant_id, e.event_id::text, e.occurred_at, e.event_type || ', ' || e.state || coalesce(': ' || e.last_error, '')
FROM cpq.outbox_event AS e
WHERE e.state = 'parked' OR (e.state = 'pending' AND e.occurred_at < now() - %(older_than)s::interval)
UNION ALL
SELECT 'process-not-started', r.tenant_id, r.order_id::text, r.requested_at, coalesce(r.last_error, 'no attempt yet')
FROM cpq.workflow_reference AS r
WHERE r.state = 'pending' AND r.requested_at < now() - %(older_than)s::interval
UNION ALL
SELECT 'order-without-process', o.tenant_id, o.order_id::text, o.created_at, 'no workflow reference'
FROM cpq.product_order AS o
WHERE NOT EXISTS (SELECT FROM cpq.workflow_reference AS r WHERE r.order_id = o.order_id)
UNION ALL
SELECT 'process-disagrees', o.tenant_id, o.order_id::text, o.updated_at, 'order ' || o.state || ', process ' || r.state
FROM cpq.product_order AS o JOIN cpq.workflow_reference AS r USING (order_id)
WHERE (o.state = 'completed') <> (r.state = 'completed')
    AND (o.state = 'completed' OR r.state = 'completed')
    AND o.updated_at < now() - %(older_than)s::interval
UNION ALL
SELECT 'fallout-open', f.tenant_id, f.order_id::text, f.opened_at, f.step || ': ' || f.error_code
FROM cpq.fallout_case AS f
WHERE f.state = 'open'
UNION ALL
SELECT 'projection-behind', o.tenant_id, o.order_id::text, o.updated_at, 'order at ' || o.aggregate_seq || ', projection at ' || coalesce(p.applied_seq, 0)
FROM cpq.product_order AS o LEFT JOIN cpq.order_projection AS p USING (order_id)
WHERE coalesce(p.applied_seq, 0) < o.aggregate_seq AND o.updated_at < now() - %(older_than)s::interval
ORDER BY since, kind, id
LIMIT %(limit)s;

-- name: order
-- An order with its quote and its place in the workflow.
SELECT
    o.order_id, o.tenant_id, o.quote_id, o.state, o.customer_id, o.currency, o.total_one_time, o.total_recurring, o.created_at,
    q.state AS quote_state, w.process_id, w.process_instance_key, w.state AS workflow_state, w.traceparent
FROM cpq.product_order AS o
INNER JOIN cpq.quote AS q USING (quote_id)
LEFT JOIN cpq.workflow_reference AS w USING (order_id)
WHERE o.order_id = %(order)s;

-- name: history
-- Everything that happened to an order and its quote, in order of time.
SELECT at, kind, what, detail FROM (
    SELECT
        occurred_at AS at, 'quote' AS kind, action AS what,
        concat_ws(' · ', actor, reason, 'trace ' || split_part(traceparent, '-', 2)) AS detail
    FROM cpq.audit_entry WHERE target_type = 'quote' AND target_id = %(quote)s::text
    UNION ALL
    SELECT
        occurred_at, 'audit', action,
        concat_ws(' · ', actor, reason, 'trace ' || split_part(traceparent, '-', 2))
    FROM cpq.audit_entry WHERE target_type <> 'quote' AND target_id = %(order)s::text
    UNION ALL
    SELECT occurred_at, 'order', concat_ws(' → ', from_state, to_state), concat_ws(' · ', actor, reason)
    FROM cpq.order_transition WHERE order_id = %(order)s
    UNION ALL
    SELECT requested_at, 'workflow', 'start requested', process_id FROM cpq.workflow_reference WHERE order_id = %(order)s
    UNION ALL
    SELECT started_at, 'workflow', 'started', 'instance ' || process_instance_key
    FROM cpq.workflow_reference WHERE order_id = %(order)s AND started_at IS NOT NULL
    UNION ALL
    SELECT finished_at, 'workflow', state, concat_ws(' · ', process_id, last_error)
    FROM cpq.workflow_reference WHERE order_id = %(order)s AND finished_at IS NOT NULL
    UNION ALL
    SELECT
        updated_at, 'task', step || ': ' || state,
        concat_ws(' · ', 'run ' || run_count, external_reference, last_error)
    FROM cpq.fulfillment_task WHERE order_id = %(order)s
    UNION ALL
    SELECT
        prepared_at, 'attempt', step || ' at ' || external_system,
        concat_ws(' · ', 'attempt ' || attempt_no, 'prepared', idempotency_key)
    FROM cpq.external_call_attempt WHERE order_id = %(order)s
    UNION ALL
    SELECT
        finished_at, 'attempt', step || ': ' || state,
        concat_ws(' · ', 'attempt ' || attempt_no, 'status ' || response_status, external_reference, error)
    FROM cpq.external_call_attempt WHERE order_id = %(order)s AND finished_at IS NOT NULL
    UNION ALL
    SELECT occurred_at, 'event', event_type, concat_ws(' · ', 'committed', topic)
    FROM cpq.outbox_event WHERE aggregate_id IN (%(order)s, %(quote)s)
    UNION ALL
    SELECT
        published_at, 'event', event_type,
        concat_ws(' · ', 'published', topic || '/' || kafka_partition || '@' || kafka_offset)
    FROM cpq.outbox_event WHERE aggregate_id IN (%(order)s, %(quote)s) AND published_at IS NOT NULL
    UNION ALL
    SELECT i.processed_at, 'event', e.event_type, 'applied by ' || i.consumer_group
    FROM cpq.inbox_event AS i INNER JOIN cpq.outbox_event AS e USING (event_id)
    WHERE e.aggregate_id IN (%(order)s, %(quote)s)
    UNION ALL
    SELECT created_at, 'reaction', kind, 'asked by ' || consumer_group FROM cpq.reaction WHERE order_id = %(order)s
    UNION ALL
    SELECT finished_at, 'reaction', kind || ': ' || state, concat_ws(' · ', external_reference, last_error)
    FROM cpq.reaction WHERE order_id = %(order)s AND finished_at IS NOT NULL
    UNION ALL
    SELECT opened_at, 'fallout', step || ': ' || error_code, detail FROM cpq.fallout_case WHERE order_id = %(order)s
    UNION ALL
    SELECT resolved_at, 'fallout', step || ': resolved', error_code
    FROM cpq.fallout_case WHERE order_id = %(order)s AND resolved_at IS NOT NULL
) AS happened
ORDER BY at, kind
LIMIT 1000;

-- name: recent
-- The newest orders of all tenants: identifiers are in the order of time, and have an index.
SELECT order_id, tenant_id, state, created_at, updated_at FROM cpq.product_order ORDER BY order_id DESC LIMIT 20;

-- name: fallout
-- Steps that wait for a person.
SELECT order_id, tenant_id, step, error_code, opened_at FROM cpq.fallout_case WHERE state = 'open' ORDER BY opened_at LIMIT 50;

-- name: runs
-- The newest runs of operators' commands.
SELECT command, operator, reason, outcome, detail, started_at, finished_at
FROM cpq.admin_run WHERE command = %(command)s ORDER BY started_at DESC LIMIT %(limit)s;

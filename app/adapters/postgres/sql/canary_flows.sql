-- name: one_moment
-- Everything that follows in the transaction is of the same moment for both cohorts, and changes nothing.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- name: now
-- That moment, by the clock that dates everything stored.
SELECT now() AS until;

-- name: flows
-- Quotes and orders begun since a moment, counted by all that a cohort may be chosen by. No order is older than its quote.
WITH begun AS (
    SELECT q.quote_id, q.tenant_id, q.catalog_version, o.order_id, o.state, q.created_at >= %(since)s AS is_new
    FROM cpq.quote AS q
    LEFT JOIN cpq.product_order AS o ON q.quote_id = o.quote_id
    WHERE q.created_at >= %(since)s OR o.created_at >= %(since)s
),
line AS (
    SELECT b.quote_id, array_agg(DISTINCT p.product_line ORDER BY p.product_line) AS product_lines
    FROM begun AS b
    INNER JOIN cpq.quote_item AS i ON b.quote_id = i.quote_id
    INNER JOIN cpq.product_offering AS p
        ON b.tenant_id = p.tenant_id AND b.catalog_version = p.catalog_version AND i.offering_id = p.offering_id
    GROUP BY b.quote_id
),
fallen AS (SELECT DISTINCT f.order_id FROM cpq.fallout_case AS f WHERE f.opened_at >= %(since)s)
SELECT
    b.tenant_id, coalesce(line.product_lines, '{}') AS product_lines, r.process_id,
    count(*) FILTER (WHERE b.is_new)::integer AS quotes,
    count(b.order_id) FILTER (WHERE b.is_new)::integer AS converted,
    count(b.order_id)::integer AS orders,
    count(b.order_id) FILTER (WHERE b.state = 'failed' OR fallen.order_id IS NOT NULL)::integer AS fell_out
FROM begun AS b
LEFT JOIN line ON b.quote_id = line.quote_id
LEFT JOIN cpq.workflow_reference AS r ON b.order_id = r.order_id
LEFT JOIN fallen ON b.order_id = fallen.order_id
GROUP BY b.tenant_id, coalesce(line.product_lines, '{}'), r.process_id;

-- name: task_seconds
-- For each completed task of orders placed since a moment, the seconds since the one before it or since the order.
WITH placed AS (
    SELECT o.order_id, o.tenant_id, o.catalog_version, o.created_at FROM cpq.product_order AS o WHERE o.created_at >= %(since)s
),
line AS (
    SELECT o.order_id, array_agg(DISTINCT p.product_line ORDER BY p.product_line) AS product_lines
    FROM placed AS o
    INNER JOIN cpq.order_item AS i ON o.order_id = i.order_id
    INNER JOIN cpq.product_offering AS p
        ON o.tenant_id = p.tenant_id AND o.catalog_version = p.catalog_version AND i.offering_id = p.offering_id
    GROUP BY o.order_id
),
task AS (
    SELECT
        o.order_id, o.tenant_id,
        extract(EPOCH FROM t.updated_at - lag(t.updated_at, 1, o.created_at) OVER (
            PARTITION BY t.order_id ORDER BY t.updated_at
        ))::float AS seconds
    FROM placed AS o
    INNER JOIN cpq.fulfillment_task AS t ON o.order_id = t.order_id
    WHERE t.state = 'completed'
)
SELECT task.tenant_id, coalesce(line.product_lines, '{}') AS product_lines, r.process_id, array_agg(task.seconds) AS task_seconds
FROM task
LEFT JOIN line ON task.order_id = line.order_id
LEFT JOIN cpq.workflow_reference AS r ON task.order_id = r.order_id
GROUP BY task.tenant_id, coalesce(line.product_lines, '{}'), r.process_id;

-- name: accepted_quotes
-- Quotes accepted since a moment, with their items as arrays and all that a cohort may be chosen by.
WITH accepted AS (
    SELECT * FROM cpq.quote WHERE state = 'accepted' AND updated_at >= %(since)s
),
item AS (
    SELECT
        i.quote_id,
        array_agg(i.item_no ORDER BY i.item_no) AS item_nos,
        array_agg(i.action ORDER BY i.item_no) AS actions,
        array_agg(i.offering_id ORDER BY i.item_no) AS offering_ids,
        array_agg(i.quantity ORDER BY i.item_no) AS quantities,
        array_remove(array_agg(p.product_line), NULL) AS product_lines
    FROM accepted AS q
    INNER JOIN cpq.quote_item AS i ON q.quote_id = i.quote_id
    LEFT JOIN cpq.product_offering AS p
        ON q.tenant_id = p.tenant_id AND q.catalog_version = p.catalog_version AND i.offering_id = p.offering_id
    GROUP BY i.quote_id
)
SELECT
    q.*, item.item_nos, item.actions, item.offering_ids, item.quantities, item.product_lines, r.process_id
FROM accepted AS q
INNER JOIN item ON q.quote_id = item.quote_id
LEFT JOIN cpq.product_order AS o ON q.quote_id = o.quote_id
LEFT JOIN cpq.workflow_reference AS r ON o.order_id = r.order_id
ORDER BY q.quote_id;

-- name: unknown_tenants
-- Names that no tenant has.
SELECT named AS name FROM unnest(%(names)s::text []) AS named
WHERE NOT EXISTS (SELECT FROM cpq.tenant AS t WHERE t.tenant_id = named) ORDER BY named;

-- name: unknown_product_lines
-- Names that no offering of any catalog has.
SELECT named AS name FROM unnest(%(names)s::text []) AS named
WHERE NOT EXISTS (SELECT FROM cpq.product_offering AS p WHERE p.product_line = named) ORDER BY named;

-- name: unrouted_processes
-- Process versions that no route leads to now.
SELECT named AS name FROM unnest(%(names)s::text []) AS named
WHERE NOT EXISTS (
    SELECT FROM cpq.process_route AS r
    WHERE r.process_id = named AND r.removed_at IS NULL AND (r.valid_to IS NULL OR r.valid_to > now())
) ORDER BY named;

-- name: current
-- Routes that nobody removed: the transaction's tenant's own and those for every tenant.
SELECT
    route_id, business_process, process_id, priority, valid_from, valid_to, tenant_id, order_type, product_line,
    catalog_from, catalog_to, flag
FROM cpq.process_route
WHERE business_process = %(business_process)s AND removed_at IS NULL;

-- name: hold
-- One change of routes and versions at a time; given back when the transaction ends.
SELECT pg_advisory_xact_lock(20261, 12);

-- name: retired
-- Process versions that are over.
SELECT process_id, retired_at FROM cpq.process_retirement;

-- name: routes
-- Routes that count, and those removed lately.
SELECT
    route_id, business_process, process_id, priority, valid_from, valid_to, tenant_id, order_type, product_line,
    catalog_from, catalog_to, flag, reason, created_by, removed_at
FROM cpq.process_route
WHERE removed_at IS NULL OR removed_at > now() - %(removed_since)s::interval
ORDER BY business_process, priority DESC, valid_from, route_id;

-- name: live_references
-- Orders whose process is pending or alive, by process version, the oldest first.
SELECT
    process_id,
    count(*) FILTER (WHERE state = 'pending') AS pending,
    count(*) FILTER (WHERE state = 'started') AS started,
    min(requested_at) AS oldest,
    (array_agg(order_id ORDER BY requested_at))[1:5] AS order_ids
FROM cpq.workflow_reference
WHERE state IN ('pending', 'started')
GROUP BY process_id;

-- name: instance_keys
-- Engine keys of living instances that have shown up.
SELECT process_instance_key, requested_at
FROM cpq.workflow_reference
WHERE process_id = %(process_id)s AND state = 'started' AND process_instance_key IS NOT NULL;

-- name: has_tenant
-- Whether a tenant exists.
SELECT EXISTS (SELECT FROM cpq.tenant WHERE tenant_id = %(tenant_id)s) AS there;

-- name: add_route
-- A new route.
INSERT INTO cpq.process_route (
    route_id, business_process, process_id, priority, valid_from, valid_to, tenant_id, order_type, product_line,
    catalog_from, catalog_to, flag, reason, created_by
) VALUES (
    %(route_id)s, %(business_process)s, %(process_id)s, %(priority)s, %(valid_from)s, %(valid_to)s, %(tenant_id)s,
    %(order_type)s, %(product_line)s, %(catalog_from)s, %(catalog_to)s, %(flag)s, %(reason)s, %(created_by)s
);

-- name: remove_route
-- A route that no longer counts; its row stays for the orders that took it.
UPDATE cpq.process_route SET removed_at = now(), removed_by = %(removed_by)s, removal_reason = %(reason)s
WHERE route_id = %(route_id)s AND removed_at IS NULL;

-- name: retire
-- The end of a process version.
INSERT INTO cpq.process_retirement (process_id, reason, retired_by) VALUES (%(process_id)s, %(reason)s, %(retired_by)s);

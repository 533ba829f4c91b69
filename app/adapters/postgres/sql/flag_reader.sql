-- name: value
-- A flag's value in this environment.
SELECT enabled FROM cpq.feature_flag WHERE flag = %(flag)s;

-- name: set_tenant
-- Row-level security shows the tenant's own values from here to the end of the transaction.
SELECT set_config('cpq.tenant_id', %(tenant_id)s, true);

-- name: value_of_tenant
-- The tenant's own value, or the environment's.
SELECT enabled FROM (
    SELECT enabled, 1 AS nearness FROM cpq.tenant_feature_flag WHERE flag = %(flag)s AND tenant_id = %(tenant_id)s
    UNION ALL
    SELECT enabled, 2 FROM cpq.feature_flag WHERE flag = %(flag)s
) AS known
ORDER BY nearness LIMIT 1;

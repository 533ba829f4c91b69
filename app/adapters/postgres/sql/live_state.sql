-- name: schema
-- Every object of the platform's schema but indexes, as one text each: what migrations have made of it. yoyo's own tables are its own.
SELECT 'table ' || c.relname AS item, concat_ws(', ',
    CASE c.relkind
        WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view ' || md5(pg_get_viewdef(c.oid))
        WHEN 'm' THEN 'materialized view ' || md5(pg_get_viewdef(c.oid)) WHEN 'S' THEN 'sequence' ELSE c.relkind::text
    END,
    'owned by ' || pg_get_userbyid(c.relowner),
    CASE WHEN c.relrowsecurity THEN 'row security' END,
    CASE WHEN c.relforcerowsecurity THEN 'forced' END,
    CASE WHEN c.relpersistence <> 'p' THEN 'not logged' END) AS state
FROM pg_class AS c WHERE c.relnamespace = 'cpq'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relname !~ 'yoyo'
UNION ALL
SELECT 'column ' || c.relname || '.' || a.attname, concat_ws(' ',
    format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attnotnull THEN 'NOT NULL' END,
    'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid),
    CASE WHEN a.attidentity <> '' THEN 'IDENTITY ' || a.attidentity::text END)
FROM pg_attribute AS a
INNER JOIN pg_class AS c ON a.attrelid = c.oid
LEFT JOIN pg_attrdef AS d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE c.relnamespace = 'cpq'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
    AND c.relname !~ 'yoyo'
UNION ALL
SELECT 'constraint ' || c.relname || '.' || k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint AS k INNER JOIN pg_class AS c ON k.conrelid = c.oid
WHERE k.connamespace = 'cpq'::regnamespace AND k.contype <> 'n' AND c.relname !~ 'yoyo'
UNION ALL
SELECT 'policy ' || c.relname || '.' || p.polname, concat_ws(' ',
    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, p.polcmd::text,
    (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END, ',' ORDER BY pg_get_userbyid(r)) FROM unnest(p.polroles) AS r),
    'USING ' || pg_get_expr(p.polqual, p.polrelid), 'CHECK ' || pg_get_expr(p.polwithcheck, p.polrelid))
FROM pg_policy AS p INNER JOIN pg_class AS c ON p.polrelid = c.oid
WHERE c.relnamespace = 'cpq'::regnamespace
UNION ALL
SELECT 'trigger ' || c.relname || '.' || t.tgname, concat_ws(' ',
    pg_get_triggerdef(t.oid), CASE WHEN t.tgenabled <> 'O' THEN 'ENABLED ' || t.tgenabled::text END)
FROM pg_trigger AS t INNER JOIN pg_class AS c ON t.tgrelid = c.oid
WHERE c.relnamespace = 'cpq'::regnamespace AND NOT t.tgisinternal
UNION ALL
SELECT 'function ' || f.oid::regprocedure::text, 'md5 ' || md5(pg_get_functiondef(f.oid))
FROM pg_proc AS f WHERE f.pronamespace = 'cpq'::regnamespace AND f.prokind IN ('f', 'p');

-- name: indexes
-- Indexes that no constraint stands for.
SELECT i.indexrelid::regclass::text AS item,
    pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END AS state
FROM pg_index AS i INNER JOIN pg_class AS c ON i.indrelid = c.oid
WHERE c.relnamespace = 'cpq'::regnamespace AND c.relname !~ 'yoyo'
    AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'));

-- name: roles
-- Who may log in, with which limits and rights beside grants.
SELECT r.rolname AS item, concat_ws('; ',
    'connections ' || r.rolconnlimit::text,
    (SELECT string_agg(s, ', ' ORDER BY s) FROM unnest(r.rolconfig) AS s),
    (SELECT 'member of ' || string_agg(g.rolname, ', ' ORDER BY g.rolname)
     FROM pg_auth_members AS m INNER JOIN pg_roles AS g ON m.roleid = g.oid WHERE m.member = r.oid),
    CASE WHEN r.rolsuper THEN 'superuser' END, CASE WHEN r.rolcreatedb THEN 'may make databases' END,
    CASE WHEN r.rolcreaterole THEN 'may make roles' END, CASE WHEN r.rolreplication THEN 'may replicate' END,
    CASE WHEN r.rolbypassrls THEN 'passes over row security' END) AS state
FROM pg_roles AS r WHERE r.rolcanlogin;

-- name: migrations
-- What was applied, by content.
SELECT migration AS item, content_sha256 AS state FROM cpq.migration_ledger;

-- name: applied_migrations
-- The same, with the release that applied each.
SELECT migration, content_sha256, release_id FROM cpq.migration_ledger;

-- name: catalog_versions
-- Every tenant's catalog versions; the hash is that of what was published.
SELECT tenant_id, catalog_version, lifecycle_status, content_sha256 FROM cpq.catalog_version;

-- name: catalog_offerings
-- What the versions hold, each offering as one text that does not depend on the order of rows.
SELECT o.tenant_id, o.catalog_version, o.offering_id, concat_ws('; ',
    o.name, o.product_line, o.service_specification, CASE WHEN o.is_sellable THEN 'sellable' ELSE 'not sellable' END,
    (SELECT string_agg(concat_ws(' ', p.price_type, trim_scale(p.unit_amount)::text, p.currency, p.recurring_period), ', '
        ORDER BY p.price_type, p.currency)
     FROM cpq.product_offering_price AS p
     WHERE p.tenant_id = o.tenant_id AND p.catalog_version = o.catalog_version AND p.offering_id = o.offering_id),
    (SELECT string_agg(concat_ws(' ', t.price_type, 'from', t.min_quantity, '-' || trim_scale(t.discount_percent)::text || '%'), ', '
        ORDER BY t.price_type, t.min_quantity)
     FROM cpq.price_adjustment_tier AS t
     WHERE t.tenant_id = o.tenant_id AND t.catalog_version = o.catalog_version AND t.offering_id = o.offering_id)) AS state
FROM cpq.product_offering AS o;

-- name: active_versions
-- What every tenant, or one, sells from.
SELECT tenant_id, catalog_version FROM cpq.catalog_version
WHERE lifecycle_status = 'active' AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
ORDER BY tenant_id;

-- name: versions
-- All versions of a tenant, held: publications of one tenant wait for each other.
SELECT catalog_version, lifecycle_status, content_sha256 FROM cpq.catalog_version
WHERE tenant_id = %(tenant_id)s ORDER BY catalog_version FOR UPDATE;

-- name: has_tenant
-- Whether the tenant is there.
SELECT EXISTS (SELECT FROM cpq.tenant WHERE tenant_id = %(tenant_id)s) AS there;

-- name: retire
-- The version sold from until now; quotes made from it keep it.
UPDATE cpq.catalog_version SET lifecycle_status = 'retired'
WHERE tenant_id = %(tenant_id)s AND lifecycle_status = 'active';

-- name: activate
-- The version that new quotes are made from.
UPDATE cpq.catalog_version SET lifecycle_status = 'active', published_at = now(), published_by = %(operator)s
WHERE tenant_id = %(tenant_id)s AND catalog_version = %(catalog_version)s AND lifecycle_status = 'draft';

-- name: notify
-- On commit, whoever caches the catalog hears of it.
SELECT pg_notify('configuration', 'catalog ' || %(tenant_id)s::text);

-- name: policy_versions
-- The newest approval policy of a tenant, and its content's hash.
SELECT policy_version, content_sha256 FROM cpq.approval_policy_version
WHERE tenant_id = %(tenant_id)s ORDER BY policy_version DESC LIMIT 1;

-- name: lock_policy
-- Publications of one tenant wait for each other; what is locked is a number made of the tenant's name.
SELECT pg_advisory_xact_lock(20262, hashtext(%(tenant_id)s));

-- name: insert_policy
-- A policy as it stays.
INSERT INTO cpq.approval_policy_version (tenant_id, policy_version, content, content_sha256, reason, published_by)
VALUES (%(tenant_id)s, %(policy_version)s, %(content)s, %(content_sha256)s, %(reason)s, %(operator)s);

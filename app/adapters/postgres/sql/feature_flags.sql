-- name: all
-- What the environment has.
SELECT flag, enabled, is_operator_set, updated_by, updated_at FROM cpq.feature_flag ORDER BY flag;

-- name: of_tenants
-- What tenants have of their own.
SELECT tenant_id, flag, enabled, updated_by, updated_at FROM cpq.tenant_feature_flag
WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s
ORDER BY flag, tenant_id;

-- name: waiting_changes
-- What waits for a second person.
SELECT change_id, flag, tenant_id, value_after, reason, requested_by, requested_at FROM cpq.feature_flag_change
WHERE state = 'pending' ORDER BY requested_at;

-- name: history
-- Every change of a flag, the newest first.
SELECT
    change_id, flag, tenant_id, value_before, value_after, state, reason, requested_by, requested_at,
    approved_by, approval_reason, decided_at
FROM cpq.feature_flag_change
WHERE
    (%(flag)s::text IS NULL OR flag = %(flag)s)
    AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
ORDER BY requested_at DESC, change_id DESC;

-- name: value
-- The environment's value, held.
SELECT enabled FROM cpq.feature_flag WHERE flag = %(flag)s FOR UPDATE;

-- name: value_of_tenant
-- A tenant's own value, held.
SELECT enabled FROM cpq.tenant_feature_flag WHERE tenant_id = %(tenant_id)s AND flag = %(flag)s FOR UPDATE;

-- name: has_tenant
-- Whether the tenant is there.
SELECT EXISTS (SELECT FROM cpq.tenant WHERE tenant_id = %(tenant_id)s) AS there;

-- name: put
-- The environment's value.
INSERT INTO cpq.feature_flag (flag, enabled, updated_by, is_operator_set)
VALUES (%(flag)s, %(enabled)s, %(operator)s, %(is_operator_set)s)
ON CONFLICT (flag) DO UPDATE
SET enabled = excluded.enabled, updated_by = excluded.updated_by, is_operator_set = excluded.is_operator_set, updated_at = now();

-- name: put_of_tenant
-- A tenant's own value.
INSERT INTO cpq.tenant_feature_flag (tenant_id, flag, enabled, updated_by)
VALUES (%(tenant_id)s, %(flag)s, %(enabled)s, %(operator)s)
ON CONFLICT (tenant_id, flag) DO UPDATE
SET enabled = excluded.enabled, updated_by = excluded.updated_by, updated_at = now();

-- name: remove_of_tenant
-- The environment's value counts again.
DELETE FROM cpq.tenant_feature_flag WHERE tenant_id = %(tenant_id)s AND flag = %(flag)s;

-- name: supersede
-- A newer request takes the place of one that waits.
UPDATE cpq.feature_flag_change SET state = 'superseded', decided_at = now()
WHERE flag = %(flag)s AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s::text AND state = 'pending';

-- name: insert_change
-- A change, made at once or waiting for a second person.
INSERT INTO cpq.feature_flag_change (
    change_id, flag, tenant_id, value_before, value_after, state, reason, requested_by, decided_at
) VALUES (
    %(change_id)s, %(flag)s, %(tenant_id)s, %(before)s, %(value)s, %(state)s, %(reason)s, %(requested_by)s,
    CASE WHEN %(state)s = 'applied' THEN now() END
);

-- name: waiting
-- A change that waits, held.
SELECT change_id, flag, tenant_id, value_after, reason, requested_by FROM cpq.feature_flag_change
WHERE change_id = %(change_id)s AND state = 'pending' FOR UPDATE;

-- name: approve
-- The second person's name; the database refuses the first one's.
UPDATE cpq.feature_flag_change
SET
    state = 'applied', value_before = %(before)s, approved_by = %(approved_by)s, approval_reason = %(reason)s,
    decided_at = now()
WHERE change_id = %(change_id)s AND state = 'pending';

-- name: is_done
-- Whether a migration is applied; a backfill is when nothing is left.
SELECT EXISTS (SELECT FROM cpq.migration_ledger WHERE migration = %(migration)s) AS is_done;

-- Fails when a table of 0014_expand_configuration is not there, or one with tenant rows is without its wall.
DO $$
DECLARE
    wrong text;
BEGIN
    SELECT string_agg(expected, ', ') INTO wrong
    FROM unnest(ARRAY['tenant_feature_flag', 'feature_flag_change', 'runtime_setting', 'runtime_setting_change', 'approval_policy_version']) AS expected
    WHERE to_regclass('cpq.' || expected) IS NULL;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION '0014_expand_configuration: missing tables: %', wrong;
    END IF;
    SELECT string_agg(c.relname, ', ') INTO wrong
    FROM pg_class AS c
    WHERE
        c.relnamespace = 'cpq'::regnamespace
        AND c.relname IN ('tenant_feature_flag', 'feature_flag_change', 'approval_policy_version')
        AND NOT (
            c.relrowsecurity AND c.relforcerowsecurity
            AND EXISTS (
                SELECT FROM pg_policies AS p
                WHERE p.schemaname = 'cpq' AND p.tablename = c.relname AND p.policyname = 'tenant_wall'
            )
        );
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION '0014_expand_configuration: tables without the tenant wall: %', wrong;
    END IF;
END
$$;

-- Fails when one operator could both ask for a change and approve it. The rows vanish with the inner block.
DO $$
BEGIN
    BEGIN
        INSERT INTO cpq.feature_flag_change (change_id, flag, state, reason, requested_by, approved_by, decided_at)
        VALUES ('00000000-0000-0000-0000-000000000001', 'verify', 'applied', 'verify', 'one', 'one', now());
    EXCEPTION WHEN check_violation THEN
        RETURN;
    END;
    RAISE EXCEPTION '0014_expand_configuration: one operator approved their own change';
END
$$;

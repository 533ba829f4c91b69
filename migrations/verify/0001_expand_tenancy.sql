-- Fails when a table of 0001_expand_tenancy is not there.
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(expected, ', ') INTO missing
    FROM unnest(ARRAY['migration_ledger', 'tenant']) AS expected
    WHERE to_regclass('cpq.' || expected) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '0001_expand_tenancy: missing tables: %', missing;
    END IF;
END
$$;

-- Fails when a forgotten tenant looks like a tenant without data.
DO $$
BEGIN
    PERFORM set_config('cpq.tenant_id', '', true);
    BEGIN
        PERFORM cpq.current_tenant();
    EXCEPTION WHEN insufficient_privilege THEN
        RETURN;
    END;
    RAISE EXCEPTION '0001_expand_tenancy: current_tenant() answers without a tenant';
END
$$;
